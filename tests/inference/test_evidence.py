"""The ranking against planted truth, without a model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.inference.closed import log_odds, option_probs
from hwsi.inference.evidence import NULL_FLOOR, depths, marginals, weigh


def tree(regions: int = 3, patches: int = 4) -> np.ndarray:
    """text, slide, then regions, their patches, their cells: node numbers grow with depth."""
    parent = [0, 0, *[1] * regions]
    first = len(parent) - regions
    parent += [first + i // patches for i in range(regions * patches)]
    leaf = len(parent) - regions * patches
    parent += [leaf + i for i in range(regions * patches)]
    return np.array(parent)


def test_depths_are_the_scales():
    assert depths(tree(2, 2)).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]


def test_the_planted_patch_and_its_region_come_first():
    parent = tree()
    patch = 2 + 3 + 6  # third patch of the second region
    region = int(parent[patch])
    worth = weigh(parent, lambda keep: keep[:, [patch]].astype(float))
    assert [n for n, _ in worth.best(0, 5)] == [region, patch]
    assert worth.best(0, 5)[0][1] == pytest.approx(1.0)


def test_a_planted_cell_is_found_below_its_patch():
    parent = tree()
    cell = len(parent) - 1
    worth = weigh(parent, lambda keep: keep[:, [cell]].astype(float))
    assert {n for n, _ in worth.best(0, 5)} == {cell, int(parent[cell]), int(parent[parent[cell]])}


def test_redundant_evidence_is_not_lost():
    """Either of two patches is enough, so leaving one out costs nothing; both are evidence all the same."""
    parent = tree()
    one, other = 5, 9
    worth = weigh(parent, lambda keep: (keep[:, [one]] | keep[:, [other]]).astype(float))
    best = [n for n, _ in worth.best(0, 8)]
    assert set(best) == {one, other, int(parent[one]), int(parent[other])}


def test_what_speaks_against_the_answer_is_no_evidence():
    parent = tree()
    worth = weigh(parent, lambda keep: -keep[:, [6]].astype(float))
    assert worth.best(0, 8) == []


def test_below_the_floor_is_no_evidence():
    worth = weigh(tree(), lambda keep: keep[:, [6]] * NULL_FLOOR * 0.9)
    assert worth.best(0, 8) == []


def test_units_have_their_own_evidence():
    parent = tree()
    a, b = 5, 13
    worth = weigh(parent, lambda keep: keep[:, [a, b]].astype(float), lead=1)
    assert [n for n, _ in worth.best(0, 8)] == [int(parent[a]), a]
    assert [n for n, _ in worth.best(1, 8)] == [int(parent[b]), b]


def test_a_slide_without_regions_has_no_evidence():
    assert weigh(np.array([0, 0]), lambda keep: np.ones((len(keep), 1))).best(0, 3) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_worth_of_an_additive_answer_is_the_subtree_sum(seed, regions, patches):
    parent = tree(regions, patches)
    share = np.random.default_rng(seed).normal(size=len(parent))
    nodes = np.flatnonzero(depths(parent) >= 2)
    got = marginals(parent, nodes, lambda keep: (keep * share).sum(1, keepdims=True))[:, 0]

    def below(n: int) -> float:
        return share[n] + sum(below(c) for c in np.flatnonzero(parent == n) if c != n)

    assert got == pytest.approx([below(n) for n in nodes])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_kept_sets_hold_the_ancestors_of_what_they_hold(seed):
    parent = tree(2, 3)
    rng = np.random.default_rng(seed)
    nodes = rng.permutation(np.flatnonzero(depths(parent) >= 2))[:4]

    def value(keep):
        assert (~keep | keep[:, parent]).all()
        return np.zeros((len(keep), 1))

    marginals(parent, nodes, value)


@settings(deadline=None)
@given(st.lists(st.floats(-200, 0), min_size=2, max_size=6))
def test_option_probabilities_sum_to_one_and_agree_with_the_odds(log_p):
    log_p = np.array(log_p)
    p = option_probs(log_p)
    assert p.sum() == pytest.approx(1)
    best = int(p.argmax())
    assert log_odds(log_p, best) == pytest.approx(
        np.log(p[best]) - np.log(max(1 - p[best], 1e-300)), rel=1e-3, abs=0.5
    ) or (p[best] > 1 - 1e-12)
