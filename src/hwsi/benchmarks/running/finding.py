"""Slides among slides and words: classes by similarity and by a probe, slides like a slide, reports of slides.

- All of it rests on an index of the cases' vectors; the slides of a case are pooled (``inference/cases.py``).
- A probe is judged on patients that it has not seen: those of the test split where there is a training split, else in
  five folds.
- Chance is what a random order reaches.

Notation: K cases, E width of the space of words.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.metrics.retrieval import pair_figures, ranks, search_figures
from hwsi.benchmarks.results import measured
from hwsi.benchmarks.running.choosing import classified
from hwsi.benchmarks.running.plan import Case, Plan
from hwsi.benchmarks.running.sheet import CHANCE, Scored, Stamp, exact, predicted, scored
from hwsi.benchmarks.statistics import Figure, Interval
from hwsi.errors import HwsiError
from hwsi.features import read_features
from hwsi.inference.cases import Cases
from hwsi.inference.index import SlideIndex, index_slide, join
from hwsi.inference.probe import cross_predict, fit_probe
from hwsi.inference.prompts import ClassWords, PromptSet
from hwsi.inference.retrieval import match, top
from hwsi.inference.space import Space
from hwsi.presets import load_preset

Float32 = NDArray[np.float32]

PROBE, SIMILARITY = "linear probe", "similarity"
_TEMPLATES = (
    "{name}",
    "an H&E image of {name}",
    "a histopathology slide that shows {name}",
    "the diagnosis is {name}",
    "{name} is present",
)  # a plain prompt ensemble, for classes that have no file of their own
_PAIR_KS = (1, 3, 5, 10)
_LIKE_KS = (1, 3, 5)


@dataclass(frozen=True)
class Indexed:
    """Cases as vectors.

    Attributes:
        index: of all their slides. cases: which slides are one. of_plan: the same with their records.
        lost: key of a record -> why its case is not among them.
    """

    index: SlideIndex
    cases: Cases
    of_plan: tuple[Case, ...]
    lost: Mapping[str, str]


def index_cases(plan: Plan, preset: str, space: Space | None) -> Indexed | None:
    """An index of a plan's cases; None where no case could be indexed."""
    encoders = load_preset(preset).encoders
    made: list[SlideIndex] = []
    owner: dict[str, int] = {}
    kept: list[Case] = []
    lost: dict[str, str] = {}
    for case in plan.cases:
        try:
            parts = [index_slide(read_features(f), preset=preset, encoders=encoders, space=space) for f in case.files]
        except HwsiError as error:
            lost |= dict.fromkeys((r.key for r in case.records), error.reason.value)
            continue
        owner |= {part.names[0]: len(kept) for part in parts}
        kept.append(case)
        made += parts
    if not made:
        return None
    index = join(made)
    of = np.array([owner[name] for name in index.names], np.int64)
    slides = tuple(tuple(n for n in index.names if owner[n] == i) for i in range(len(kept)))
    return Indexed(index, Cases(tuple(c.name for c in kept), slides, of), tuple(kept), lost)


def prompts_of(records: Sequence[Record]) -> PromptSet:
    """Prompts of the classes of some records, from plain templates."""
    names = dict.fromkeys(choice for r in records for choice in r.choices)
    classes = tuple(ClassWords(name=name) for name in names)
    return PromptSet(name="classes", question=records[0].question, templates=_TEMPLATES, classes=classes)


def similarity_result(
    stamp: Stamp, task: str, indexed: Indexed, records: Sequence[Record], space: Space, prompts: PromptSet,
    train: Sequence[Record] | None,
) -> list[Scored]:  # fmt: skip
    """Classes by the nearest prompts, each record among its own options."""
    rows, asked = _rows(indexed, records)
    if not asked:
        return []
    vectors = dict(zip(prompts.names, prompts.vectors(space), strict=True))
    slides = indexed.cases.pool(indexed.index.words_slide)[rows]
    given = [
        r.choices[int((np.stack([vectors[c] for c in r.choices]) @ slide).argmax())]
        for r, slide in zip(asked, slides, strict=True)
    ]
    return [classified(stamp, task, SIMILARITY, asked, given, train, unusable=_lost(indexed, records))]


def probe_result(
    stamp: Stamp, task: str, indexed: Indexed, records: Sequence[Record], train: Sequence[Record] | None,
    learnt_from: Indexed | None = None,
) -> list[Scored]:  # fmt: skip
    """Classes by a linear probe: learned from ``learnt_from`` and its records, or in five folds by patient."""
    rows, asked = _rows(indexed, records)
    if len({r.answer for r in asked}) < 2:
        return []
    x = _probe_vectors(indexed)[rows]
    given: Sequence[str | None]
    if learnt_from is not None and train:
        rows_train, taught = _rows(learnt_from, train)
        given = fit_probe(_probe_vectors(learnt_from)[rows_train], [r.answer for r in taught]).predict(x)
    else:
        given = cross_predict(x, [r.answer for r in asked], [r.whose for r in asked])
    return [classified(stamp, task, PROBE, asked, given, train, unusable=_lost(indexed, records))]


def similar_results(stamp: Stamp, indexed: Indexed, records: Sequence[Record]) -> list[Scored]:
    """Slides of the same class among the nearest: by the mean of patches, and by the slide encoder."""
    rows, asked = _rows(indexed, records)
    if len(asked) < 2:
        return []
    labels, patients = [r.answer for r in asked], [r.whose for r in asked]
    chance: dict[str, Interval] = {}
    for k in _LIKE_KS:
        hits = []
        for label, patient in zip(labels, patients, strict=True):
            others = [u == label for u, q in zip(labels, patients, strict=True) if q != patient]
            hits.append(random_hit(sum(others), len(others), k))
        chance[f"Acc@{k}"] = exact(float(np.mean(hits)), asked)
    made = []
    for way, table in (("mean of patches", indexed.index.patches), ("slide encoder", indexed.index.slide)):
        vectors = indexed.cases.pool(table)[rows]
        like = vectors @ vectors.T
        metrics = measured(search_figures(like, labels, patients, _LIKE_KS), patients)
        own = np.array(patients)[:, None] == np.array(patients)[None]
        nearest = top(np.where(own, -np.inf, like).astype(np.float32), 1)[:, 0]
        given = [labels[j] for j in nearest.tolist()]
        scores = [{"Acc@1": float(g == label)} for g, label in zip(given, labels, strict=True)]
        made.append(
            scored(stamp, "similar", way, metrics, {CHANCE: chance}, predicted(asked, given, scores),
                   unusable=_lost(indexed, records))
        )  # fmt: skip
    return made


def match_results(
    stamp: Stamp, indexed: Indexed, records: Sequence[Record], space: Space, texts: Mapping[str, str]
) -> list[Scored]:
    """Slide and report, both ways over all cases; cases with the same words share them.

    Args:
        texts: key of a record -> its report.
    """
    rows, asked = _rows(indexed, records)
    first = {row: i for i, row in reversed(list(enumerate(rows)))}  # one report a case
    asked = [asked[i] for i in first.values()]
    if len(asked) < 2:
        return []
    known = {text: i for i, text in enumerate(dict.fromkeys(texts[r.key] for r in asked))}
    scores = match(indexed.index, space, list(known), indexed.cases)[list(first)]
    own = [known[texts[r.key]] for r in asked]
    patients = [r.whose for r in asked]
    figures: dict[str, Figure] = {}
    chance: dict[str, Interval] = {}
    ways = (("slide to report", scores, own), ("report to slide", scores.T[own], list(range(len(asked)))))
    for way, table, item in ways:
        n = table.shape[1]
        figures |= {f"{name}/{way}": figure for name, figure in pair_figures(table, item, _PAIR_KS).items()}
        chance |= {f"R@{k}/{way}": exact(min(1.0, k / n), asked) for k in _PAIR_KS}
        chance[f"MRR/{way}"] = exact(float(np.mean(1 / np.arange(1, n + 1))), asked)
    best = [list(known)[j] for j in top(scores, 1)[:, 0].tolist()]
    rank = ranks(scores, own)
    predictions = predicted(asked, best, [{"R@1": float(r == 1), "rank": float(r)} for r in rank.tolist()])
    metrics = measured(figures, patients)
    return [scored(stamp, "match", "", metrics, {CHANCE: chance}, predictions, unusable=_lost(indexed, records))]


def random_hit(positive: int, total: int, k: int) -> float:
    """Chance that one of ``k`` drawn from ``total`` is one of ``positive``."""
    k = min(k, total)
    return 1 - comb(total - positive, k) / comb(total, k) if total else 0.0


def _probe_vectors(indexed: Indexed) -> Float32:
    tables = (indexed.index.slide, indexed.index.patches)
    return np.concatenate([indexed.cases.pool(table) for table in tables], 1)


def _lost(indexed: Indexed, records: Sequence[Record]) -> dict[str, int]:
    """Reason -> how many of some records are not among the cases."""
    return dict(Counter(indexed.lost[r.key] for r in records if r.key in indexed.lost))


def _rows(indexed: Indexed, records: Sequence[Record]) -> tuple[list[int], list[Record]]:
    """Row of each record's case, and the records that have one."""
    row = {r.key: i for i, case in enumerate(indexed.of_plan) for r in case.records}
    asked = [r for r in records if r.key in row]
    return [row[r.key] for r in asked], asked
