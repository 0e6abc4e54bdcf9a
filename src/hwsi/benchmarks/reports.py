"""What reports say: the model writes the report of every slide, and its facts are held against the truth.

- ``facts.py`` reads both by the phantom's grammar: *found*, *missed*, *invented*, and how many are invented a report.
- Beside it stands the most frequent report of the organ, made of the very slides that are asked about: every attribute
  that most of their true reports state, with its most frequent value. Who sees the organ and nothing else can write it.
- Intervals are 95 % by resampling patients: facts of one slide are not independent, nor are twins.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsi.benchmarks.facts import Fact, Key, Score, TrueFacts, facts_of, score, score_facts

if TYPE_CHECKING:
    from hwsi.inference.studied import StudiedSlide

Progress = Callable[[str, int, int], None]
_DRAWS = 1000


@dataclass(frozen=True)
class Written:
    """A report that was written: about whose slide, what of it is true, and what would be of the organ's usual one."""

    slide: str
    patient: str
    score: Score
    usual: Score


@dataclass(frozen=True)
class Reports:
    """All reports of a benchmark."""

    written: tuple[Written, ...]

    @property
    def pooled(self) -> Score:
        """Facts of all reports together."""
        return reduce(add, (w.score for w in self.written), Score.none())

    @property
    def usual(self) -> Score:
        """Facts of the most frequent report of each slide's organ."""
        return reduce(add, (w.usual for w in self.written), Score.none())

    @property
    def invented(self) -> float:
        """Invented facts of a report, on average; nan without reports."""
        return self.pooled.invented.total() / len(self.written) if self.written else float("nan")

    def intervals(self) -> dict[str, tuple[float, float]]:
        """``f1`` and ``invented`` (of a report): 95 %, patients resampled; nan without reports."""
        if not self.written:
            return dict.fromkeys(("f1", "invented"), (float("nan"), float("nan")))
        of: dict[str, Any] = defaultdict(lambda: np.zeros(5))
        for w in self.written:
            s = w.score
            of[w.patient] += [*(c.total() for c in (s.found, s.recalled, s.missed, s.invented)), 1]
        counts = np.stack([*of.values()])
        drawn = counts[np.random.default_rng(0).integers(len(counts), size=(_DRAWS, len(counts)))].sum(1)
        found, recalled, missed, invented, reports = drawn.T
        precision = found / np.maximum(found + invented, 1)
        recall = recalled / np.maximum(recalled + missed, 1)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        ends = {"f1": np.quantile(f1, (0.025, 0.975)), "invented": np.quantile(invented / reports, (0.025, 0.975))}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data: counts and figures, in all and by attribute, and those of the usual report."""
        return {
            "reports": len(self.written),
            "invented_per_report": _number(self.invented),
            "intervals": {k: [_number(v) for v in ends] for k, ends in self.intervals().items()},
            **self.pooled.to_dict(),
            "usual": self.usual.to_dict(),
        }

    def lines(self) -> list[str]:
        """What a table says of them."""
        if not self.written:
            return []
        all_, ends = self.pooled, self.intervals()
        counts = ", ".join(f"{name} {getattr(all_, name).total()}" for name in ("found", "missed", "invented"))
        return [
            f"facts of {len(self.written)} reports: {counts}",
            f"facts F1 {all_.f1():.3f} ({_span(ends['f1'])}), most frequent report of the organ {self.usual.f1():.3f}; "
            f"invented {self.invented:.2f} ({_span(ends['invented'])}) a report",
        ]


NO_REPORTS = Reports(())


def _number(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f}-{ends[1]:.2f}"


def write_reports(
    sessions: Iterable["StudiedSlide"], records: Sequence[dict[str, Any]], patients: Sequence[str],
    progress: Progress | None = None,
) -> Reports:  # fmt: skip
    """Let the model write the report of every slide.

    Args:
        sessions: of the slides, one after another. records: their ``truth.json``. patients: whose they are.
        progress: called with (stage, done, total).
    """
    said, truths = [], []
    for n, (session, record) in enumerate(zip(sessions, records, strict=True), start=1):
        said.append(session.report(evidence=False).text)
        truths.append(facts_of(record, session.region_at))
        if progress is not None:
            progress("reports", n, len(records))
    usual = usual_reports([r["organ"] for r in records], truths)
    return Reports(
        tuple(
            Written(record["slide_id"], patient, score(text, truth), score_facts(usual[record["organ"]], truth))
            for record, patient, text, truth in zip(records, patients, said, truths, strict=True)
        )
    )


def usual_reports(organs: Sequence[str], truths: Sequence[TrueFacts]) -> dict[str, frozenset[Fact]]:
    """Organ -> what its most frequent report states: attributes that at least half of its reports have."""
    found = {}
    for organ in sorted(set(organs)):
        mine = [truth.required for o, truth in zip(organs, truths, strict=True) if o == organ]
        stated = Counter(fact for facts in mine for fact in facts)
        values: dict[Key, Counter[str]] = defaultdict(Counter)
        for (place, name, value), n in stated.items():
            values[place, name][value] = n
        found[organ] = frozenset(
            (*key, _most_frequent(counts))
            for key, counts in values.items()
            if 2 * sum(key in {f[:2] for f in facts} for facts in mine) >= len(mine)
        ) | {fact for fact, n in stated.items() if 2 * n >= len(mine)}
    return found


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda value: (-counts[value], value))


def reports_of_model(
    model: Path, cohort: Path, features: Path, *, slides: int, seed: int = 0, progress: Progress | None = None
) -> Reports:
    """Reports that a stage's model writes about held-out patients of a training cohort.

    Args:
        model: a stage's output, or a model's folder. cohort: of phantom slides. features: job folder of them.
        slides: at most so many. seed: which.

    Raises:
        HwsiError: FEATURES_MISSING (no held-out slide has features), OPTION_INVALID (a model of another fusion), as
            :func:`hwsi.model.load`.
    """
    from hwsi.errors import HwsiError, Reason
    from hwsi.features import read_features
    from hwsi.inference.session import Session
    from hwsi.model.checkpoint import load
    from hwsi.model.modeling import HwsiForConditionalGeneration
    from hwsi.training.nano.cohort import features_file, held_out, read_cohort
    from hwsi.training.stages.checkpoint import STAGE_FILE

    loaded, processor = load(model / "model" if (model / STAGE_FILE).is_file() else model)
    if not isinstance(loaded, HwsiForConditionalGeneration):
        what = f"the model in {model} has fusion '{loaded.config.fusion}'"
        raise HwsiError(Reason.OPTION_INVALID, what, "name a model with fusion 'interleave'")
    everything = read_cohort(cohort)
    kept = held_out([s.patient for s in everything])
    fit = [s for s, out in zip(everything, kept, strict=True) if out and features_file(features, s).is_file()]
    if not fit:
        what = f"no held-out slide of {cohort} has a feature file in {features}"
        raise HwsiError(Reason.FEATURES_MISSING, what, "encode the cohort with hwsi encode")
    taken = [fit[int(i)] for i in np.random.default_rng(seed).permutation(len(fit))[:slides]]
    sessions = (Session(loaded, processor, read_features(features_file(features, s))) for s in taken)
    return write_reports(sessions, [s.truth() for s in taken], [s.patient for s in taken], progress)
