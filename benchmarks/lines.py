"""A line of a benchmark's table: what was measured, beside what, against what was wanted."""

from dataclasses import dataclass

HEADS = ("what", "ours", "other side", "ratio", "of the limit", "wanted", "met")


@dataclass(frozen=True)
class Line:
    """One figure.

    Attributes:
        what: was measured.
        ours: our figure, with its unit.
        other: the other side's, with its name.
        ratio: how many times better we are; None where there is no other side.
        limit: how near the limit of what is possible.
        wanted: the target. met: whether it is; None where there is none.
    """

    what: str
    ours: str
    other: str = ""
    ratio: float | None = None
    limit: str = ""
    wanted: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """As a row under :data:`HEADS`."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, self.ours, self.other, ratio, self.limit, self.wanted, _SAID[self.met]


_SAID = {None: "", True: "yes", False: "no"}
