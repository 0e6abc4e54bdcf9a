"""The page of all commands, from the typer application itself: it cannot say what the program does not do."""

from collections.abc import Iterator
from typing import Any

import typer

from hwsi.cli.app import app

HEAD = """# Commands

Made from the program when this site is built; `hwsi VERB --help` says the same. Results go to stdout, all else to
stderr; with `--json` stdout is one JSON document. The exit status is 0 if it is done, 2 if something is wrong with what
was handed in (one line with a [reason code](reasons.md) and what to do), 1 for a bug of ours, 130 if interrupted.
"""


def walk(command: Any = None, name: str = "hwsi") -> Iterator[tuple[str, Any]]:
    """(name, command) of every verb, groups left out, in the order of ``hwsi --help``."""
    command = typer.main.get_command(app) if command is None else command
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for verb, each in below.items():
        yield from walk(each, f"{name} {verb}")


def cli_page() -> str:
    """The page, as Markdown."""
    verbs = list(walk())
    index = "\n".join(f"| [`{name}`](#{_anchor(name)}) | {_first(command)} |" for name, command in verbs)
    parts = [HEAD, f"| command | what it does |\n|---|---|\n{index}\n", *(_section(*each) for each in verbs)]
    return "\n".join(parts)


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    call = " ".join([name, *(_shown(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    text = f"## {name} {{ #{_anchor(name)} }}\n\n{command.help}\n\n```text\n{call}\n```\n"
    rows = [(f"`{_shown(p)}`", p) for p in arguments]
    rows += [(", ".join(f"`{o}`" for o in (*p.opts, *p.secondary_opts)), p) for p in options]
    lines = [f"| {left} | {_cell(p.help or '')} | {_default(p)} |" for left, p in rows]
    return text + ("\n| | what | default |\n|---|---|---|\n" + "\n".join(lines) + "\n" if lines else "")


def _shown(argument: Any) -> str:
    name = argument.metavar or argument.name
    bare = name.strip("[]")
    shown = bare if bare.isupper() or not bare.isidentifier() else bare.upper()
    shown = shown + "..." * (argument.nargs != 1 and "..." not in shown)
    return shown if argument.required else f"[{shown}]"


def _default(parameter: Any) -> str:
    variable = f" (or `{parameter.envvar}`)" if parameter.envvar else ""
    if parameter.required:
        return "required" + variable
    if getattr(parameter, "is_flag", False) or parameter.default in (None, (), []):
        return variable.strip()
    return f"`{parameter.default}`{variable}"


def _first(command: Any) -> str:
    return _cell(str(command.help).partition("\n\n")[0])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
