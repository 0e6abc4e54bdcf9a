"""Two runs on the same rows: is the difference more than chance.

- Runs are compared on the scores that both predictions carry, row by row; the difference is first minus second.
- Patients are resampled and swapped, never rows; McNemar's test, which takes rows as independent, stands beside where
  scores are right or wrong (``statistics.py``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hwsi.benchmarks.results import read_predictions
from hwsi.benchmarks.statistics import Comparison
from hwsi.benchmarks.statistics import compare as compare_scores
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from rich.table import Table


def compare_runs(first: Path, second: Path, score: str | None = None, *, seed: int = 0) -> dict[str, Comparison]:
    """Comparisons of two files of predictions.

    Args:
        score: its name; None for all that both have.

    Raises:
        HwsiError: DATA_MISSING, DATA_INVALID (other rows, no score in common), OPTION_INVALID (no such score).
    """
    a, b = ({p.id: p for p in read_predictions(path)} for path in (first, second))
    names = sorted({n for p in a.values() for n in p.scores} & {n for p in b.values() for n in p.scores})
    if not names:
        what = f"{first.name} and {second.name} have no score in common"
        raise HwsiError(Reason.DATA_INVALID, what, "compare predictions of the same task")
    if score is not None and score not in names:
        what = f"there is no score '{score}' in both"
        raise HwsiError(Reason.OPTION_INVALID, what, f"choose one of: {', '.join(names)}")
    patient_of = {i: p.patient for i, p in {**b, **a}.items()}
    found = {}
    for name in [score] if score is not None else names:
        x, y = ({i: p.scores[name] for i, p in side.items() if name in p.scores} for side in (a, b))
        found[name] = compare_scores(x, y, patient_of, seed=seed)
    return found


def comparison_table(found: Mapping[str, Comparison], first: Path, second: Path) -> "Table":
    """For the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{first} minus {second}"))
    for name in ("score", "difference", "95 %", "p, bootstrap", "p, permutation", "p, McNemar", "rows", "patients"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name, one in found.items():
        d = one.difference
        span = "-" if d.low is None or d.high is None else f"{d.low:+.3f} to {d.high:+.3f}"
        mcnemar = "-" if one.p_mcnemar is None else f"{one.p_mcnemar:.4f}"
        cells = (
            f"{d.value or 0.0:+.3f}", span, f"{one.p_bootstrap:.4f}", f"{one.p_permutation:.4f}", mcnemar,
            str(d.rows), str(d.patients),
        )  # fmt: skip
        table.add_row(Text(name), *cells)
    table.caption = "patients are resampled and swapped; McNemar takes rows as independent"
    return table
