"""What every verb shares: where words go, progress bars, JSON.

- stdout carries the result, stderr everything else; with ``--json`` stdout is one JSON document and nothing more.
- Bars are drawn only on a terminal; piped output has no control codes.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


def out() -> "Console":
    """The console of results."""
    from rich.console import Console

    # a pipe has no width; tables need one
    # and a path may hold what looks like the name of an emoji
    return Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def print_json(data: Any) -> None:
    """One JSON document on stdout; NaN is refused, since JSON has none."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def note(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(one_line(text) + "\n")


def one_line(text: str) -> str:
    """White space to single spaces, control characters out: a file's name must not steer the terminal."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


class Report(Protocol):
    """Anything that can be told how far a stage is."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """``total`` is None where it is not known."""
        ...


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Report]:
    """Progress bars on stderr, one per stage, each made when its stage first reports; only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report
