"""``hwsi``: the verbs, and what becomes of an error.

- Exit status: 0 done, 2 something is wrong with what was handed in (one line on stderr with a reason code and what
  to do), 1 a bug of ours, 130 interrupted.
- A verb imports what it needs when it runs, so that ``hwsi --help`` is quick.
"""

import errno
import io
import os
import sys
import warnings
from typing import Annotated

import typer

from hwsi import __version__
from hwsi.cli import (
    ask,
    bench,
    caption,
    classify,
    convert,
    demo,
    doctor,
    encode,
    export,
    import_features,
    index,
    info,
    match,
    models,
    phantom,
    plan,
    report,
    retry,
    search,
    serve,
    similar,
    status,
    train,
)
from hwsi.cli.console import note
from hwsi.errors import HwsiError, Reason

app = typer.Typer(
    name="hwsi",
    help="Read a whole-slide image at four scales and answer in words that point back at the tissue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("info")(info.info)
app.command("encode")(encode.encode)
app.command("status")(status.status)
app.command("retry")(retry.retry)
app.command("plan")(plan.plan)
app.command("ask")(ask.ask)
app.command("report")(report.report)
app.command("caption")(caption.caption)
app.command("classify")(classify.classify)
app.command("search")(search.search)
app.command("index")(index.index)
app.command("similar")(similar.similar)
app.command("match")(match.match)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)
app.command("convert")(convert.convert)
app.command("import-features")(import_features.import_features)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.add_typer(phantom.app, name="phantom")
app.add_typer(bench.app, name="bench")
app.add_typer(train.app, name="train")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hwsi {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status and never raises what a user can cause."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.warnoptions:  # what a user should know is said by us; ``python -W default`` shows the libraries' own
        warnings.simplefilter("ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(args=argv, prog_name="hwsi", standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that went away can still be handled
        return status if isinstance(status, int) else 0
    except HwsiError as error:
        return _refuse(error.reason.value, error.what, error.todo)
    except KeyboardInterrupt:
        sys.stderr.write("hwsi: interrupted\n")
        return 130
    except typer.Abort:
        return 130
    except BrokenPipeError:
        _close_stdout()
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _refuse(Reason.DISK_FULL.value, str(error), "free some space and run it again")
        return _bug(error)
    except MemoryError as error:
        what = f"no memory left: {error}" if str(error) else "no memory left"
        return _refuse(Reason.OUT_OF_MEMORY.value, what, "end other programs, or run it on a larger machine")
    except Exception as error:  # the last one: what is left is either a wrong call or a bug
        # usage errors come from typer's own click, whose module moved between versions: known by what they can do
        describe = getattr(error, "format_message", None)
        if callable(describe):
            return _refuse("usage", str(describe()), "see hwsi --help")
        return _bug(error)


def _refuse(code: str, what: str, todo: str) -> int:
    what, todo = what.strip().rstrip("."), todo.strip().rstrip(".")
    line = f"hwsi: error [{code}]: {what}." + (f" {todo[0].upper()}{todo[1:]}." if todo else "")
    note(line)
    return 2


def _bug(error: BaseException) -> int:
    if os.environ.get("HWSI_DEBUG") == "1":
        raise error
    line = (
        f"hwsi: internal error: {type(error).__name__}: {error}. "
        "This is a bug: please report it with the output of the same command under HWSI_DEBUG=1."
    )
    note(line)
    return 1


def _close_stdout() -> None:
    """The reader of our output went away; what is still in the buffer goes nowhere, without a complaint at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
