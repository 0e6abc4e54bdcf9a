"""Noise as the vectors vary."""

import numpy as np

from hwsi.training.nano.spread import Spread, spread_of


def test_noise_has_the_covariance_of_the_vectors() -> None:
    rng = np.random.default_rng(0)
    mix = np.array([[3.0, 0, 0], [1, 0.5, 0], [0, 0, 0]])
    vectors = (rng.standard_normal((4000, 3)) @ mix.T).astype(np.float32)
    noise = Spread(vectors).blurred(np.zeros((4000, 3), np.float32), 0.5, rng)
    assert noise.dtype == np.float32
    np.testing.assert_allclose(np.cov(noise.T), 0.25 * np.cov(vectors.T), atol=0.15)
    assert np.abs(noise[:, 2]).max() < 1e-6, "a direction in which nothing varies stays free of noise"


def test_no_noise_leaves_the_vectors() -> None:
    rng = np.random.default_rng(1)
    regions = [rng.standard_normal((n, 4)).astype(np.float32) for n in (3, 5)]
    assert np.array_equal(spread_of(regions).blurred(regions[0], 0.0, rng), regions[0])
    assert not np.array_equal(spread_of(regions).blurred(regions[0], 0.1, rng), regions[0])
