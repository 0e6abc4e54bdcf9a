"""The three ways against planted truth: one kind of result, and maps that predict halves they have not seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.test_evidence import tree

from hwsi.inference.cells import carrying, worth_of_sets
from hwsi.inference.evidence import depths
from hwsi.inference.evidence.attribution import GLANCES, Claims, Mode, attribute, rank_correlation, spread
from hwsi.inference.evidence.masks import fixed_size_masks
from hwsi.inference.evidence.sparse import sparse_fit
from hwsi.inference.evidence.verdict import Verdict

PARENT = tree(6, 5)
PLACES = np.random.default_rng(1).uniform(0, 10_000, (len(PARENT), 2))


def planted(weights: dict[int, float]) -> Claims:
    """An answer that is the sum of some nodes, and gradients that know of it but not exactly."""
    true = np.zeros(len(PARENT))
    true[list(weights)] = list(weights.values())
    noise = np.random.default_rng(2).uniform(0, 0.3, len(PARENT))

    def value(keep):
        return (keep @ true)[:, None]

    def slopes(keep):
        return value(keep), (true + noise * (depths(PARENT) > 1))[None]

    return Claims(PARENT, PLACES, value, (1.0,), slopes)


CLAIMS = planted({10: 2.0, 25: 1.0, 4: 0.5})


@pytest.mark.parametrize("mode", list(Mode))
def test_the_planted_places_come_first_and_other_halves_are_predicted(mode):
    found = attribute(CLAIMS, mode, limit=8)
    assert (found.mode, len(found.support)) == (mode, 1)
    best = [n for n, _ in found.worth.best(0, 3)]
    assert 10 in best or int(PARENT[10]) in best
    halves = fixed_size_masks(PARENT, 64, np.random.default_rng(9))
    map_ = spread(found.worth, len(PARENT))[:, 0]
    least = {Mode.CHEAP: 0.6, Mode.VERIFY: 0.6, Mode.FULL: 0.8}[mode]
    assert rank_correlation(CLAIMS.value(halves)[:, 0], halves @ map_) > least


def test_cheap_has_few_passes_and_supports_nothing():
    cheap, verify, full = (attribute(CLAIMS, mode, limit=8) for mode in Mode)
    assert cheap.passes == 3 * GLANCES < verify.passes < full.passes
    assert cheap.support[0].verdict is Verdict.UNVERIFIED
    assert verify.support[0].verdict is Verdict.SUPPORTED
    assert full.agreement is not None
    assert cheap.agreement is verify.agreement is None


def test_cheap_without_slopes_is_an_error():
    with pytest.raises(ValueError, match="no slopes"):
        attribute(Claims(PARENT, PLACES, CLAIMS.value, (1.0,)), Mode.CHEAP, limit=8)


def test_the_same_claims_give_the_same_map():
    a, b = (attribute(CLAIMS, Mode.FULL, limit=8) for _ in range(2))
    assert (a.worth.worth == b.worth.worth).all()
    assert a.support == b.support


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.1, 1.0), st.integers(0, 999))
def test_masks_have_one_size_and_are_closed(regions, patches, share, seed):
    parent = tree(regions, patches)
    masks = fixed_size_masks(parent, 10, np.random.default_rng(seed), share)
    assert len(set(masks.sum(1).tolist())) == 1
    assert (masks[:, parent] >= masks).all()


def test_the_fit_finds_what_was_planted_in_few_masks():
    rng = np.random.default_rng(0)
    masks = rng.random((64, 100)) < 0.5
    true = np.zeros(100)
    true[[3, 40, 77]] = (2.0, 1.0, 1.5)
    value = masks @ true + rng.normal(0, 0.05, 64)
    found = sparse_fit(masks, value, np.ones(100))
    assert set(np.argsort(-found)[:3].tolist()) == {3, 40, 77}
    assert (np.abs(found) > 1e-6).sum() < 20
    # the unit of the answer changes nothing
    assert sparse_fit(masks, 10 * value, np.ones(100)) == pytest.approx(10 * found, abs=1e-3)


def test_a_prior_helps_where_masks_are_few():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(20):
        masks = rng.random((24, 100)) < 0.5
        true = np.zeros(100)
        true[rng.permutation(100)[:4]] = 1
        value = masks @ true + rng.normal(0, 0.2, 24)
        prior = true + 0.3 * rng.random(100)
        errors.append([np.linalg.norm(sparse_fit(masks, value, p) - true) for p in (prior, np.ones(100))])
    with_prior, without = np.mean(errors, 0)
    assert with_prior < 0.8 * without


def _reads(weights, enough=np.inf):
    """A reader of cells whose value is the sum of their weights, at most ``enough``: beyond that they are redundant."""
    return lambda kept: np.minimum(kept @ np.asarray(weights, np.float64), enough)


KINDS = np.array([1, 0, 1, 1, 0, 2])


@pytest.mark.parametrize(
    ("weights", "enough", "cited"),
    [
        ([1, 0, 1, 1, 0.1, 0], np.inf, [0, 2, 3]),  # all of a kind
        ([0, 0.2, 5, 0.1, 0, 0], np.inf, [2]),  # one that carries nearly all
        ([-1, 0, -1, 0, -0.5, -2], np.inf, []),  # none speaks for it
        ([0, 0, 0, 0, 0, 3], np.inf, [5]),
    ],
)
def test_cells_that_carry_an_answer_are_of_one_kind_and_as_few_as_do(weights, enough, cited):
    assert carrying(_reads(weights, enough), KINDS).tolist() == cited


def test_redundant_cells_are_found_though_none_is_missed_alone():
    kinds = np.repeat([0, 1], 20)
    weights = np.repeat([0.01, 1.0], 20)
    read = _reads(weights, 10)
    # leaving any one out changes nothing; the kind is worth all, half of it nine tenths
    assert worth_of_sets(read, np.eye(40, dtype=bool)[20:]) == pytest.approx(0.5)
    found = carrying(read, kinds)
    assert set(found) <= set(range(20, 40))
    assert len(found) >= 10


def test_no_cells_carry_nothing():
    assert carrying(_reads([]), np.zeros(0, np.int64)).tolist() == []
