"""Makes what one scale knows worthless: thins a set of questions until no key tells the answer, exactly.

- A *key* is what an oracle of one scale knows of a question (its tubule score, the densest region, the organ). In the
  thinned set every value of every key has all answers equally often, so the best guess from it is exactly chance.
- The set is thinned by what hurts the balance most, one question at a time, ties by a seeded draw; what is left is
  exact whatever the cohort was, only smaller where the cohort was lopsided.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Key = Callable[[T], Hashable]


def thin(items: Sequence[T], answer: Callable[[T], Hashable], keys: Sequence[Key[T]], seed: int = 0) -> list[T]:
    """The largest subset that this greedy way finds in which no key tells the answer.

    Args:
        items: questions of one kind. answer: of an item; all answers of ``items`` stay or none does.
        keys: what an oracle may know of an item; a joint key is a tuple.

    Returns:
        A subset in its order, maybe empty: for every key, its values have every answer equally often.
    """
    answers = {a: i for i, a in enumerate(dict.fromkeys(answer(item) for item in items))}
    if len(answers) < 2:
        return []
    of = np.array([answers[answer(item)] for item in items])
    every: Sequence[Key[T]] = (lambda _: None, *keys)  # the whole set is balanced too
    groups = np.empty((len(items), len(every)), np.int64)
    n = 0
    for k, key in enumerate(every):
        known: dict[Hashable, int] = {}
        for i, item in enumerate(items):
            groups[i, k] = n + known.setdefault(key(item), len(known))
        n += len(known)
    counts = np.zeros((n, len(answers)), np.int64)
    np.add.at(counts, (groups, of[:, None]), 1)
    luck = np.random.default_rng([seed, len(items)]).random(len(items)) * 1e-3
    stays = np.ones(len(items), bool)
    while stays.any() and (counts != counts[:, :1]).any():
        size = counts[groups].sum(2)
        # what the removal of an item takes off the sum of squared deviations from balance, over its groups
        gain = (2 * counts[groups, of[:, None]] - 1 - (2 * size - 1) / len(answers)).sum(1) + luck
        worst = int(np.argmax(np.where(stays, gain, -np.inf)))
        stays[worst] = False
        counts[groups[worst], of[worst]] -= 1
    return [item for item, stay in zip(items, stays, strict=True) if stay]


def oracle_accuracy(items: Sequence[T], answer: Callable[[T], Hashable], key: Key[T]) -> float:
    """The best accuracy on this very set of who knows the key and nothing else; nan without items."""
    seen: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for item in items:
        seen[key(item)][answer(item)] += 1
    return sum(max(c.values()) for c in seen.values()) / len(items) if items else float("nan")
