"""The leak gate of the second edition: words, thumbnails and file sizes against the answers of every type of question.

- Questions that no single scale decides, as they are asked: thinned. Questions of twins: both of every pair. Premises:
  whether they can be answered. What only the full slide should tell must be at chance for all of these.
- The bar is that of the first edition's gate: chance plus three standard errors, patients never parted.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.cohort import read_manifest
from hwsi.phantom.leaks import LEAST, Result, bag_of_words, balanced, predict_across, slide_features
from hwsi.phantom.questions import Question, slide_of
from hwsi.phantom.second.pairs import premises, twins
from hwsi.phantom.second.questions import composites, silenced
from hwsi.phantom.truth import fill_labels

_OF_SLIDE = ("mean colour", "thumbnail", "file size")
Answer = Callable[[Question], str]


def gate_second(folder: Path) -> list[Result]:
    """Every type of question of a cohort with its pixels, against words, thumbnails, colour and bytes.

    Types with fewer than five questions for an answer are left out.
    """
    features, truths, patients = slide_features(folder)
    at = {t["slide_id"]: i for i, t in enumerate(truths)}
    records = {t["slide_id"]: t for t in truths}
    twin_of = {Path(row["slide"]).stem: row["twin_of"] for row in read_manifest(folder) if row["twin_of"]}
    types: dict[str, list[Question]] = defaultdict(list)
    for q in silenced([q for t in truths for q in composites(t, held_out=True)]):
        types[q["kind"]].append(q)
    for pair in twins(records, twin_of):
        types[f"twins: {pair.kind}"] += pair.both
    results = []
    for name, questions in sorted(types.items()):
        results += _gate(name, questions, _answer, features, at, patients)
    both = [_labelled(q, records) for pair in premises(records, twin_of) for q in pair.both]
    return results + _gate("answerable", both, _answerable, {}, at, patients)


def _answer(q: Question) -> str:
    return str(q["answer"])


def _answerable(q: Question) -> str:
    return str(q["answerable"])


def _labelled(q: Question, records: dict[str, dict[str, object]]) -> Question:
    """The question with the labels that a reader who finds all regions would fill in."""
    regions = records[slide_of(q)]["regions"]
    assert isinstance(regions, list)
    label = {tuple(r["grid"]): f"R{i + 1}" for i, r in enumerate(regions)}
    return {**q, "question": fill_labels(q["question"], lambda row, col: label.get((row, col)))}


def _gate(
    name: str, questions: Sequence[Question], answer: Answer, features: dict[str, NDArray[np.float64]],
    at: dict[str, int], patients: Sequence[str],
) -> list[Result]:  # fmt: skip
    if not questions:
        return []
    y = np.unique([answer(q) for q in questions], return_inverse=True)[1].astype(np.int64)
    counts = np.bincount(y)
    if len(counts) < 2 or counts.min() < LEAST:
        return []
    rows = [at[slide_of(q)] for q in questions]
    groups = [patients[i] for i in rows]
    tried = {"text only": bag_of_words(questions)} | {n: features[n][rows] for n in _OF_SLIDE if n in features}
    found = []
    for feature, x in tried.items():
        guess = predict_across(x, y, groups, nearest=feature == "thumbnail")
        found.append(Result("answer", name, feature, len(y), *balanced(y, guess)))
    return found
