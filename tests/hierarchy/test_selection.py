"""Selection: lazy greedy is greedy, redundancy goes, ties and order are settled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.hierarchy import select_patches, select_regions


def greedy(scores, features, budget):
    """Facility location by trying every item at every step."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    similarity = (1 + unit @ unit.T) / 2
    spread = scores.max() - scores.min()
    scaled = (scores - scores.min()) / spread if spread > 0 else np.zeros(len(scores))
    chosen: list[int] = []

    def value(items):
        return similarity[items].max(axis=0).mean() + scaled[items].sum() / budget

    for _ in range(min(budget, len(scores))):
        rest = [j for j in range(len(scores)) if j not in chosen]
        base = value(chosen) if chosen else 0.0
        chosen.append(max(rest, key=lambda j: (round(value([*chosen, j]) - base, 9), -j)))
    return sorted(chosen)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(1, 12), st.integers(0, 10_000))
def test_lazy_greedy_is_greedy(n, budget, seed):
    rng = np.random.default_rng(seed)
    features, scores = rng.normal(size=(n, 6)), rng.random(n)
    assert select_regions(scores, features, budget).tolist() == greedy(scores, features, budget)


def test_regions_cover_before_they_repeat():
    features = np.repeat(np.eye(3), [10, 10, 1], axis=0)
    assert select_regions(np.zeros(21), features, 3).tolist() == [0, 10, 20]


def test_scores_decide_among_equals():
    scores = np.zeros(6)
    scores[4] = 1
    assert select_regions(scores, np.ones((6, 2)), 1).tolist() == [4]
    assert select_regions(np.zeros(6), np.ones((6, 2)), 2).tolist() == [0, 1]


def test_all_are_kept_when_few():
    assert select_patches(np.ones((3, 4)), 5).tolist() == [0, 1, 2]
    assert select_patches(np.zeros((0, 4)), 5).tolist() == []
    assert select_patches(np.ones((3, 4)), 0).tolist() == []
    assert select_regions(np.zeros(2), np.ones((2, 3)), 9).tolist() == [0, 1]
    assert select_regions(np.zeros(0), np.ones((0, 3)), 9).tolist() == []


def test_redundant_patches_are_dropped_even_when_relevant():
    # one direction that is close to all others: its mean cosine stands out
    features = np.vstack([np.eye(8), np.ones((1, 8))])
    relevance = np.arange(9.0)
    assert select_patches(features, 3, relevance).tolist() == [5, 6, 7]
    # too few others are left: it comes back
    assert select_patches(features, 8, relevance).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert 8 in select_patches(np.vstack([features, np.ones((3, 8))]), 11, np.arange(12.0))


def test_relevance_ties_go_to_the_lower_index():
    features = np.eye(6)
    assert select_patches(features, 3, np.array([1, 2, 1, 2, 1, 1])).tolist() == [0, 1, 3]


def test_without_a_question_the_choice_is_diverse_and_salient():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(4), 6, axis=0) + rng.normal(0, 0.01, (24, 4))
    chosen = select_patches(groups, 4)
    assert sorted(chosen // 6) == [0, 1, 2, 3]
    saliency = np.zeros(24)
    saliency[23] = 1
    assert 23 in select_patches(groups, 4, saliency=saliency)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, 20), st.integers(0, 9999), st.booleans())
def test_choice_is_a_sorted_set_of_the_right_size_and_stable(n, k, seed, with_relevance):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5))
    relevance = rng.random(n) if with_relevance else None
    chosen = select_patches(features, k, relevance)
    assert len(chosen) == min(n, k)
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, select_patches(features.copy(), k, relevance))
    # scale of the features does not matter
    assert np.array_equal(chosen, select_patches(features * 4, k, relevance))


@pytest.mark.parametrize("bad", [np.ones(3), np.full((3, 2), np.nan)])
def test_bad_features_are_refused(bad):
    with pytest.raises(ValueError, match="features"):
        select_patches(bad, 1)


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="scores"):
        select_regions(np.ones(2), np.ones((3, 2)), 1)
