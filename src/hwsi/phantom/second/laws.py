"""How much of an answer each score can tell: exact, by enumeration, in fractions.

- The grade is a sum with thresholds, so no law can make it independent of every score: what a guesser with none, one or
  two of the three scores reaches at best is stated beside every result (.333, .578, .721).
- Whether two scores are equal can be independent of each: the law of :data:`DISCORDANCE` has equal marginals, and each
  score alone says nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import combinations
from typing import Any

from hwsi.phantom.sampling import TRIPLES

Law = Mapping[tuple[int, ...], Fraction]
Answer = Callable[[tuple[int, ...]], Any]

GRADE_LAW: Law = {t: Fraction(1, 3 * len(ts)) for ts in TRIPLES.values() for t in ts}
"""Scores (tubules, pleomorphism, mitoses): grades equal, triples equal inside a grade."""
_GRADE = {t: g for g, ts in TRIPLES.items() for t in ts}

DISCORDANCE: Law = {(a, b): Fraction(1, 6) if a == b else Fraction(1, 12) for a in (1, 2, 3) for b in (1, 2, 3)}
"""Scores (tubules, pleomorphism): the answer first (equal or not, a half each), then one of its pairs."""


def ceiling(law: Law, answer: Answer, known: Iterable[int]) -> Fraction:
    """The best accuracy of who sees only the coordinates ``known`` and knows the law."""
    axes = tuple(known)
    seen: dict[tuple[int, ...], dict[Any, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for outcome, p in law.items():
        seen[tuple(outcome[i] for i in axes)][answer(outcome)] += p
    return sum((max(by_answer.values()) for by_answer in seen.values()), Fraction(0))


def grade_ceilings() -> dict[int, Fraction]:
    """Number of scores known -> best accuracy on the grade: mean over which scores they are.

    3 of 3 is certain; the enumeration gives 1/3, 26/45 and 98/136... as exact fractions, see the tests.
    """
    found = {}
    for n in range(4):
        sets = list(combinations(range(3), n))
        found[n] = sum((ceiling(GRADE_LAW, _GRADE.__getitem__, s) for s in sets), Fraction(0)) / len(sets)
    return found


def discordance_ceilings() -> dict[int, Fraction]:
    """Number of scores known -> best accuracy on whether they are equal: 1/2, 1/2, 1."""
    return {n: ceiling(DISCORDANCE, lambda t: t[0] == t[1], range(n)) for n in range(3)}
