"""How far an encoding is, told to anybody who listens; the command line draws bars of it.

- Stages come in order: ``tissue`` (one step), then side by side ``regions``, ``patches`` and ``cells`` (cells
  have no total: they are counted as they are found).
- A resumed run begins with what was done before, so the bars never go back.
"""

from typing import Literal, Protocol

Stage = Literal["tissue", "regions", "patches", "cells"]


class Progress(Protocol):
    """Anything that can be told how far an encoding is."""

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        """``done`` of ``total`` are done; ``total`` is None where it is not known."""
        ...


def silent(stage: Stage, done: int, total: int | None) -> None:
    """Tells nobody."""
