"""Facility location against the best of all sets, on slides small enough to try them."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.hierarchy.selection import select_regions


def worth(chosen: tuple[int, ...], scores: np.ndarray, features: np.ndarray, budget: int) -> float:
    """What ``select_regions`` says that it makes large."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    near = (1 + unit @ unit[list(chosen)].T) / 2
    spread = np.ptp(scores)
    scaled = (scores - scores.min()) / spread if spread > 0 else np.zeros(len(scores))
    return float(near.max(1).mean() + scaled[list(chosen)].sum() / budget)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 10), st.integers(1, 4), st.integers(0, 10_000))
def test_the_greedy_set_is_within_its_bound_of_the_best(n, budget, seed):
    rng = np.random.default_rng(seed)
    budget = min(budget, n)
    scores, features = rng.random(n), rng.standard_normal((n, 3))
    found = worth(tuple(select_regions(scores, features, budget).tolist()), scores, features, budget)
    best = max(worth(c, scores, features, budget) for c in combinations(range(n), budget))
    assert found <= best + 1e-9
    assert found >= (1 - 1 / np.e) * best
    if budget == 1:
        assert abs(found - best) < 1e-9
