"""Pairs of questions in the same words with different answers, scored as pairs: both must be right.

- *Twins*: two slides that differ in one thing. A pair is kept for a kind only where no clear answer at any other scale
  differs between the slides: who sees the other scales alone gives the same answer twice, is right once, and never has
  a pair. (The grade and what follows from the diagnosis are made of several scales, and don't count.) Twins of which
  only where mitoses or infiltrate lie was changed are pairs of the questions that two scales decide.
- *Equal sums*: two graded slides with the same sum of two scores and another third; asked which of two grades it is.
  Within the same two scores either grade is as frequent, so both scores together still tell nothing.
- *Premises*: the same words where they can be answered and where they cannot.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from hwsi.phantom.questions import Question, slide_of
from hwsi.phantom.second.questions import ask, composites, graded
from hwsi.phantom.second.silence import thin
from hwsi.phantom.wordings import KINDS

MADE_OF_SEVERAL = frozenset({"grade", "diagnosis", "malignancy", "in_situ"})
SCORES = ("tubules", "pleomorphism", "mitosis")

Records = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """Two questions in the same words; ``kind`` as of the question, ``scale`` what decides between the two."""

    kind: str
    scale: str
    first: Question
    second: Question

    @property
    def both(self) -> tuple[Question, Question]:
        """The two questions."""
        return self.first, self.second


def twins(records: Records, twin_of: Mapping[str, str]) -> list[Pair]:
    """Pairs of twin slides that one scale tells apart.

    Args:
        records: slide id -> truth. twin_of: slide id -> the slide that it is a twin of.
    """
    found = []
    for other, one in sorted(twin_of.items()):
        if one not in records or other not in records:
            continue
        if records[one]["diagnosis"] != records[other]["diagnosis"]:
            continue
        found += _of_twins(records[one], records[other])
    return found


def _of_twins(one: dict[str, Any], other: dict[str, Any]) -> list[Pair]:
    a, b = _closed(one), _closed(other)
    differ = [kind for kind in sorted(a.keys() & b.keys() - MADE_OF_SEVERAL) if a[kind]["answer"] != b[kind]["answer"]]
    scales = {KINDS[kind].scale for kind in differ}
    if len(scales) == 1:
        return [_pair(kind, a[kind], b[kind]) for kind in differ]
    if scales:  # not one scale's doing
        return []
    made = [{q["kind"]: q for q in composites(record, held_out=False)} for record in (one, other)]
    both = sorted(made[0].keys() & made[1].keys())
    return [_pair(k, made[0][k], made[1][k]) for k in both if made[0][k]["answer"] != made[1][k]["answer"]]


def _pair(kind: str, first: Question, second: Question) -> Pair:
    """The second question in the words and with the options of the first."""
    same = {name: first[name] for name in ("question", "choices", "template")}
    return Pair(kind, first["scale"], first, {**second, **same})


def _closed(record: dict[str, Any]) -> dict[str, Question]:
    return {q["kind"]: q for q in record["questions"] if q["closed_eval"] and q["kind"] != "content"}


def equal_sums(records: Records, seed: int = 0, *, held_out: bool = False) -> list[Pair]:
    """Pairs of graded slides that the third score alone tells apart, for each score as the third.

    A question's ``known`` holds ``two_scores``: which, their values, and the two grades to choose from.
    """
    slides = [(name, scores) for name, record in sorted(records.items()) if (scores := graded(record)) is not None]
    found = []
    for third in range(3):
        others = tuple(i for i in range(3) if i != third)
        by_sum: dict[int, list[tuple[str, tuple[int, int, int]]]] = defaultdict(list)
        for name, scores in slides:
            by_sum[sum(scores[i] for i in others)].append((name, scores))
        for _, those in sorted(by_sum.items()):
            grades = sorted({records[name]["slide"]["grade"] for name, _ in those})
            for two in combinations(grades, 2):
                found += _of_grades(records, those, two, others, third, seed, held_out=held_out)
    return found


def _of_grades(
    records: Records, those: Sequence[tuple[str, tuple[int, int, int]]], two: tuple[int, int], others: tuple[int, ...],
    third: int, seed: int, *, held_out: bool,
) -> list[Pair]:  # fmt: skip
    fit = [(name, scores) for name, scores in those if records[name]["slide"]["grade"] in two]
    kept = thin(fit, lambda s: records[s[0]]["slide"]["grade"], [lambda s: tuple(s[1][i] for i in others)], seed)
    rng = np.random.default_rng([seed, third, *two])
    low, high = ([s for s in kept if records[s[0]]["slide"]["grade"] == g] for g in two)
    choices = [f"grade {g}" for g in two]
    scale = "region" if third == 0 else "cell"
    found = []
    for i, j in enumerate(rng.permutation(len(high))):
        pair = []
        for name, scores in (low[i], high[int(j)]):
            record = records[name]
            question = ask("grade_of_two", record, f"grade {record['slide']['grade']}", held_out=held_out,
                           choices=choices, name=f"grade_of_two.{SCORES[third]}.{two[0]}{two[1]}")  # fmt: skip
            known = (others, tuple(scores[k] for k in others), two)
            pair.append(question | {"known": {"two_scores": known}})
        same = _pair(f"equal sum, {SCORES[third]} differs", *pair)
        found.append(replace(same, scale=scale))
    return found


def premises(records: Records, twin_of: Mapping[str, str], seed: int = 0) -> list[Pair]:
    """Pairs of an answerable question and the same words where they cannot be answered; each question in one pair.

    First on the same slide (another region) and on twins, then on another slide of the same organ. The open form is
    asked, without options, of which a refusal is none.
    """
    slide = {q["id"]: slide_of(q) for r in records.values() for q in r["questions"]}
    family = {name: twin_of.get(name, name) for name in records}
    refused = [q for r in records.values() for q in r["questions"] if not q["answerable"] and q["choices"]]
    # a region that is not there is told by its number alone
    cannot = [q for q in refused if q["kind"] != "content" or q["regions"]]
    can: dict[str, list[Question]] = defaultdict(list)
    for record in records.values():
        for q in record["questions"]:
            if q["closed_eval"]:
                can[q["kind"]].append(q)
    rng = np.random.default_rng([seed, 62])
    found, used = [], set()
    for false in sorted(cannot, key=lambda q: str(q["id"])):
        mine = slide[false["id"]]
        organ = records[mine]["organ"]
        fit = [q for q in can[false["kind"]] if q["id"] not in used and records[slide[q["id"]]]["organ"] == organ]
        if not fit:
            continue
        at = [slide[q["id"]] for q in fit]
        luck = rng.random(len(fit))
        best = fit[min(range(len(fit)), key=lambda i: (family[at[i]] != family[mine], at[i] != mine, luck[i]))]
        used.add(best["id"])
        words = {} if false["kind"] == "content" else {n: false[n] for n in ("question", "template")}
        found.append(Pair(false["kind"], false["scale"], {**best, **words}, false))
    return found
