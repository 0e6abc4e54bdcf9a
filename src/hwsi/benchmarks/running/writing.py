"""Open answers, reports and captions: text metrics of a named profile, facts, and what the same words get elsewhere.

- Beside BLEU, ROUGE and METEOR stand the facts: of reports and captions read as slots, of phantoms against their truth.
- An opening that nine of ten references share inflates text metrics: where there is one, BLEU-4 and ROUGE-L without it
  stand beside.
- Survival times that answers state give a C-index; a patient whom the same data call alive is censored.
- A judge's figures, if one is asked, are a profile of their own, named by the judge.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hwsi.benchmarks import baselines as words
from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.metrics.profiles import text_figures, without_opening
from hwsi.benchmarks.metrics.registry import with_added
from hwsi.benchmarks.metrics.slots import slot_figures
from hwsi.benchmarks.metrics.survival import parse_days, survival_figures
from hwsi.benchmarks.results import measured
from hwsi.benchmarks.running.asking import Answers
from hwsi.benchmarks.running.choosing import answered
from hwsi.benchmarks.running.plan import Form
from hwsi.benchmarks.running.sheet import (
    OTHER,
    WITHOUT,
    Figures,
    Scored,
    Stamp,
    baselines_of,
    figures_of,
    predicted,
    row_scores,
    scored,
)
from hwsi.benchmarks.statistics import Figure, Interval, mean_of
from hwsi.training.data.records import same_text

MOST_FREQUENT = "most frequent"
SURVIVAL, STATUS = "survival time", "vital_status"
_KEPT = ("bleu4", "rougeL")


@dataclass(frozen=True)
class Measures:
    """How texts are scored.

    Attributes:
        profiles: of text metrics, one result each.
        reference: the true text of a record.
        facts: figures of reports and captions; slots of real reports if left out.
        more: figures of all texts, beside those of the profile (a BERTScore). judged: profile -> figures of a judge.
        usual: figures of a baseline that has no text (the facts of the most frequent report): name -> form -> records
            to figures.
    """

    profiles: tuple[str, ...] = ("hwsi",)
    reference: Callable[[Record], str] = lambda record: record.answer
    facts: Figures | None = None
    more: Figures | None = None
    judged: Mapping[str, Figures] = field(default_factory=dict)
    usual: Mapping[str, Callable[[Form, Sequence[Record]], Mapping[str, Figure]]] = field(default_factory=dict)


def as_figures(score: Callable[[Sequence[str], Sequence[str]], Mapping[str, Figure]]) -> Figures:
    """Figures of (references, candidates) as figures of records."""
    return lambda records, given: score([r.answer for r in records], [g or "" for g in given])


def text_results(
    stamp: Stamp,
    form: Form,
    records: Sequence[Record],
    own: Mapping[str, Answers],
    lent: Mapping[str, Answers],
    blind: Mapping[str, str],
    train: Sequence[Record] | None,
    measures: Measures,
) -> list[Scored]:
    """Results of one form of text, one for each profile and judge; none without records.

    Args:
        blind: key of a record -> what the model says without any slide.
    """
    asked, lost = answered(records, own, "said")
    if not asked:
        return []
    said = [str(own[r.key]["said"]) for r in asked]
    elsewhere: dict[str, Sequence[str | None]] = {
        MOST_FREQUENT: words.answers(MOST_FREQUENT, asked, train or None),
        WITHOUT: [blind.get(r.key) for r in asked],
        OTHER: [lent.get(r.key, {}).get("said") for r in asked],
    }
    made = []
    for profile in measures.profiles:
        figures = _figures(profile, form, measures)
        metrics = figures_of(figures, asked, said) | _survival(asked, said)
        beside = baselines_of(figures, asked, elsewhere)
        for name, usual in measures.usual.items():
            beside[name] = measured(usual(form, asked), [r.whose for r in asked])
        rows = row_scores(figures(asked, said), len(asked))
        made.append(
            scored(stamp, form, "", metrics, beside, predicted(asked, said, rows), profile=profile, unusable=lost)
        )
    for profile, figures in measures.judged.items():
        found = figures(asked, said)
        metrics = measured(found, [r.whose for r in asked])
        answers = predicted(asked, said, row_scores(found, len(asked)))
        made.append(scored(stamp, form, "", metrics, {}, answers, profile=profile, unusable=lost))
    return made


def texts_alone(
    stamp: Stamp, form: Form, records: Sequence[Record], train: Sequence[Record] | None, measures: Measures
) -> list[Scored]:
    """The most frequent text, and no model; none without records."""
    if not records:
        return []
    given = {MOST_FREQUENT: words.answers(MOST_FREQUENT, records, train or None)}
    nothing = predicted(records, [""] * len(records), [{}] * len(records))
    made = []
    for profile in measures.profiles:
        lines = baselines_of(_figures(profile, form, measures), records, given)
        made.append(scored(stamp, form, "", {}, lines, nothing, profile=profile))
    return made


def _figures(profile: str, form: Form, measures: Measures) -> Figures:
    def figures(records: Sequence[Record], given: Sequence[str | None]) -> Mapping[str, Figure]:
        truth = [measures.reference(r) for r in records]
        texts = [g or "" for g in given]
        found: dict[str, Figure] = {}
        if form in ("report", "caption"):
            found |= measures.facts(records, texts) if measures.facts else slot_figures(truth, texts)
        else:
            found["exact_match"] = mean_of([same_text(a) == same_text(b) for a, b in zip(truth, texts, strict=True)])
        found |= text_figures(profile, truth, texts)
        opening, cut_truth, cut_texts = without_opening(truth, texts)
        if opening and len(records) > 1:
            cut = text_figures(profile, cut_truth, cut_texts)
            found |= {f"{name} without opening": cut[name] for name in _KEPT if name in cut}
        if measures.more is not None:
            found |= measures.more(records, texts)
        return with_added(form, found, records, texts)

    return figures


def _survival(records: Sequence[Record], said: Sequence[str]) -> dict[str, Interval]:
    """C-index of survival times, where there are such questions."""
    rows = [(r, text, parse_days(r.answer)) for r, text in zip(records, said, strict=True) if r.task == SURVIVAL]
    timed = [(r, text, days) for r, text, days in rows if days is not None]
    if len(timed) < 2:
        return {}
    alive = {r.whose for r in records if r.task == STATUS and same_text(r.answer) in ("alive", "living")}
    figures = survival_figures(
        [days for _, _, days in timed], [r.whose not in alive for r, _, _ in timed],
        [parse_days(text) for _, text, _ in timed],
    )  # fmt: skip
    return measured(figures, [r.whose for r, _, _ in timed])
