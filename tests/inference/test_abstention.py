"""The bound against what it promises, and confidence against known probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.inference.abstention import calibration_error, fit_confidence, needed, threshold, upper_bound


def test_the_bound_is_the_exact_one():
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(0, 59) <= 0.05 < upper_bound(0, 58)
    assert needed(0.05) == 59
    assert needed(0.1) == 29
    assert upper_bound(5, 5) == 1.0


def world(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    confidence = rng.beta(4, 1, n)
    return confidence, rng.random(n) < confidence


def test_the_risk_holds_in_at_least_95_of_100_calibrations():
    rng = np.random.default_rng(0)
    truth = world(200_000, rng)
    held = 0
    for _ in range(200):
        t = threshold(*world(400, rng), 0.1)
        kept = truth[0] >= (2.0 if t is None else t)
        held += not kept.any() or (~truth[1][kept]).mean() <= 0.1
    assert held >= 190


def test_most_that_may_be_answered_is_answered():
    rng = np.random.default_rng(1)
    confidence, right = world(5000, rng)
    t = threshold(confidence, right, 0.1)
    assert t is not None
    best = max(k for k in range(1, 5001) if (~right[np.argsort(-confidence)[:k]]).mean() <= 0.1)
    assert (confidence >= t).sum() > 0.6 * best


def test_too_few_patients_show_nothing():
    assert threshold(np.linspace(0.5, 1, 28), np.ones(28, bool), 0.1) is None
    assert threshold(np.linspace(0.5, 1, 29), np.ones(29, bool), 0.1) == 0.5


def test_equal_confidence_is_kept_or_withheld_together():
    confidence = np.repeat([0.9, 0.5], [60, 60])
    right = np.repeat([True, False], [60, 60])
    assert threshold(confidence, right, 0.1) == 0.9
    assert threshold(np.full(120, 0.7), right, 0.1) is None


def test_confidence_finds_the_probability():
    rng = np.random.default_rng(2)
    known = rng.normal(size=(4000, 2)) * (1, 30) + (5, 0)
    p = 1 / (1 + np.exp(-(2 * (known[:, 0] - 5) - known[:, 1] / 30)))
    right = rng.random(4000) < p
    confidence = fit_confidence(("a", "b"), known, right)(known)
    assert np.abs(confidence - p).mean() < 0.02
    assert calibration_error(confidence, right) < 0.03


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 200))
def test_the_error_of_calibration_is_a_share(seed, n):
    rng = np.random.default_rng(seed)
    assert 0 <= calibration_error(rng.random(n), rng.random(n) < 0.5) <= 1
