"""Closed questions and classes: by the likelihood of the options, and in words read by the strict parser.

- Baselines: what words alone reach (``baselines.py``), the model without the slide, with another slide, and with the
  options shuffled. ``accuracy_every_order`` and ``same_answer`` say how little the order matters.
- Accuracies are named: micro over items, macro over areas.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from hwsi.benchmarks import baselines as words
from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.metrics.classes import accuracy_figures, class_figures
from hwsi.benchmarks.metrics.closed import ShuffleScores, score_closed
from hwsi.benchmarks.metrics.registry import with_added
from hwsi.benchmarks.results import measured
from hwsi.benchmarks.running.asking import Answers
from hwsi.benchmarks.running.sheet import (
    CHANCE,
    OTHER,
    SHUFFLED,
    WITHOUT,
    Scored,
    Stamp,
    baselines_of,
    exact,
    figures_of,
    predicted,
    scored,
)
from hwsi.benchmarks.statistics import Figure, Interval, mean_of

LIKELIHOOD, PARSER = "likelihood", "strict parser"


def accuracies(records: Sequence[Record], given: Sequence[str | None]) -> Mapping[str, Figure]:
    """Micro, and where there are several areas macro and each."""
    right = [float(g == r.answer) for r, g in zip(records, given, strict=True)]
    areas = [r.area for r in records]
    own = accuracy_figures(right, areas) if len(set(areas)) > 1 else {"accuracy_micro": mean_of(right)}
    return with_added("closed", own, records, given)


def class_accuracies(records: Sequence[Record], given: Sequence[str | None]) -> Mapping[str, Figure]:
    """Balanced accuracy and its like."""
    return with_added("classify", class_figures([r.answer for r in records], given), records, given)


def _looking(
    asked: Sequence[Record], own: Mapping[str, Answers], lent: Mapping[str, Answers]
) -> dict[str, Sequence[str | None]]:
    """What the model chooses without the slide, and with another one."""
    return {
        WITHOUT: [_best(r, own[r.key]["blind"]) for r in asked],
        OTHER: [_best(r, lent[r.key]["log_p"]) if "log_p" in lent.get(r.key, {}) else None for r in asked],
    }


def closed_results(
    stamp: Stamp,
    records: Sequence[Record],
    own: Mapping[str, Answers],
    lent: Mapping[str, Answers],
    train: Sequence[Record] | None,
) -> list[Scored]:
    """Results of closed questions, by likelihood and in words; none without records."""
    asked, lost = answered(records, own, "log_p")
    if not asked:
        return []
    given = [_best(r, own[r.key]["log_p"]) for r in asked]
    shuffles = _shuffled(asked, own)
    metrics = figures_of(accuracies, asked, given)
    if len(shuffles) > 1:
        truth = np.array([r.choices.index(r.answer) for r in asked])
        table = np.array([[r.choices.index(g) for r, g in zip(asked, order, strict=True)] for order in shuffles])
        every = ShuffleScores(table, truth).figures()
        metrics |= measured({n: every[n] for n in ("accuracy_every_order", "same_answer")}, [r.whose for r in asked])
    alone = word_baselines(asked, train)
    looking: dict[str, Sequence[str | None]] = {
        **_looking(asked, own, lent),
        **({SHUFFLED: shuffles[1]} if len(shuffles) > 1 else {}),
    }
    chance = {CHANCE: {"accuracy_micro": exact(float(np.mean([1 / len(r.choices) for r in asked])), asked)}}
    of_words = chance | baselines_of(accuracies, asked, alone)
    by_likelihood = scored(
        stamp, "closed", LIKELIHOOD, metrics, of_words | baselines_of(accuracies, asked, looking),
        predicted(asked, given, [{"right": float(g == r.answer)} for r, g in zip(asked, given, strict=True)]),
        unusable=lost,
    )  # fmt: skip
    said = [str(own[r.key]["said"]) for r in asked]
    read = score_closed(said, [r.choices for r in asked], [r.choices.index(r.answer) for r in asked])
    named = [None if g is None else r.choices[g] for r, g in zip(asked, read.given, strict=True)]
    patients = [r.whose for r in asked]
    in_words = scored(
        stamp, "closed", PARSER,
        figures_of(accuracies, asked, named) | measured({"invalid_rate": mean_of(read.invalid)}, patients),
        of_words,
        predicted(asked, said, [{"right": float(a), "invalid": float(b)}
                                for a, b in zip(read.right, read.invalid, strict=True)]),
        unusable=lost,
    )  # fmt: skip
    return [by_likelihood, in_words]


def class_results(
    stamp: Stamp,
    task: str,
    records: Sequence[Record],
    own: Mapping[str, Answers],
    lent: Mapping[str, Answers],
    train: Sequence[Record] | None,
) -> list[Scored]:
    """Results of classification by the language model's likelihood; none without records."""
    asked, lost = answered(records, own, "log_p")
    if not asked:
        return []
    given = [_best(r, own[r.key]["log_p"]) for r in asked]
    looking: dict[str, Sequence[str | None]] = {
        **_looking(asked, own, lent),
        SHUFFLED: _shuffled(asked, own)[-1],
    }
    return [
        classified(stamp, task, LIKELIHOOD, asked, given, train, looking=looking, unusable=lost),
    ]


def classified(
    stamp: Stamp,
    task: str,
    way: str,
    records: Sequence[Record],
    given: Sequence[str | None],
    train: Sequence[Record] | None,
    *,
    looking: Mapping[str, Sequence[str | None]] | None = None,
    unusable: Mapping[str, int] | None = None,
) -> Scored:
    """A result of classification, whatever the way.

    Args:
        looking: baselines that only this way has.
    """
    counts = Counter(r.answer for r in (train or records))
    most = min(counts, key=lambda text: (-counts[text], text))
    everywhere = {"majority": [most if most in r.choices else None for r in records], **(looking or {})}
    # of classes that are all there a guess finds one in so many, whatever their frequency
    chance = {CHANCE: {"balanced_accuracy": exact(float(np.mean([1 / len(r.choices) for r in records])), records)}}
    right = [{"right": float(g == r.answer)} for r, g in zip(records, given, strict=True)]
    return scored(
        stamp, task, way, figures_of(class_accuracies, records, given),
        chance | baselines_of(class_accuracies, records, everywhere),
        predicted(records, [g or "" for g in given], right), unusable=unusable,
    )  # fmt: skip


def word_baselines(records: Sequence[Record], train: Sequence[Record] | None) -> dict[str, Sequence[str | None]]:
    """What closed baselines answer; without ``train`` they learn from the records themselves."""
    return {name: words.answers(name, records, train or None) for name in words.CLOSED}


def words_alone(stamp: Stamp, records: Sequence[Record], train: Sequence[Record] | None) -> list[Scored]:
    """The baselines of closed questions, and no model; none without records."""
    if not records:
        return []
    chance = {CHANCE: {"accuracy_micro": exact(float(np.mean([1 / len(r.choices) for r in records])), records)}}
    lines = chance | baselines_of(accuracies, records, word_baselines(records, train))
    best: dict[str, Interval] = {}
    return [scored(stamp, "closed", "", best, lines, predicted(records, [""] * len(records), [{}] * len(records)))]


def answered(records: Sequence[Record], own: Mapping[str, Answers], field: str) -> tuple[list[Record], dict[str, int]]:
    """Records that have an answer, and why the others have none."""
    asked = [r for r in records if field in own.get(r.key, {})]
    lost = Counter(
        str(own.get(r.key, {}).get("fault", "not_asked")) for r in records if field not in own.get(r.key, {})
    )
    return asked, dict(lost)


def _best(record: Record, log_p: Sequence[float]) -> str:
    return record.choices[int(np.argmax(log_p))]


def _shuffled(records: Sequence[Record], own: Mapping[str, Answers]) -> list[list[str]]:
    """Answers in the given order, then in each shuffled one."""
    orders = len(own[records[0].key]["shuffled"])
    tables = [[own[r.key]["log_p"] for r in records]]
    tables += [[own[r.key]["shuffled"][k] for r in records] for k in range(orders)]
    return [[_best(r, log_p) for r, log_p in zip(records, table, strict=True)] for table in tables]
