"""The decisions of `checks` themselves: right samplers pass, each broken one is caught. Seeded: these never fail by chance."""

import numpy as np
import pytest
from scipy import stats

from tests.statistical.checks import (
    at_least,
    counts_fit,
    gaussian_fits,
    hardly_repeats,
    hits_fit,
    laplace_fits,
    low_bits_fit,
    small_gaussian_fits,
)

SCALE = 2.0**33
DRAWS = 100_000


def _rounded(scale: float, seed: int = 1) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(size=DRAWS) * scale).astype(np.int64)


def test_a_right_sampler_passes() -> None:
    """200 seeds of a right sampler, none refused."""
    assert all(gaussian_fits(_rounded(SCALE, seed), SCALE) for seed in range(200))
    assert all(low_bits_fit(_rounded(SCALE, seed)) for seed in range(50))


@pytest.mark.parametrize("factor", [2 / 3, 0.95, 1.05, 1.5])
def test_a_wrong_scale_is_caught(factor: float) -> None:
    """100 seeds of a sampler whose scale is off, all refused."""
    assert not any(gaussian_fits(_rounded(SCALE * factor, seed), SCALE) for seed in range(100))


def test_other_broken_samplers_are_caught() -> None:
    """A shifted one, one with a heavier tail, one of half the sign, one that draws nothing."""
    rng = np.random.default_rng(2)
    assert not gaussian_fits(_rounded(SCALE) + int(SCALE / 20), SCALE)
    assert not gaussian_fits(np.rint(rng.laplace(scale=SCALE / 2**0.5, size=DRAWS)).astype(np.int64), SCALE)
    assert not gaussian_fits(np.abs(_rounded(SCALE)), SCALE)
    assert not gaussian_fits(np.zeros(DRAWS, np.int64), SCALE)


@pytest.mark.parametrize("scale", [1.5, 2.0**33])
def test_laplace_noise_is_told_from_others(scale: float) -> None:
    """Differences of two geometric values pass, 50 seeds; a scale that is 5% off, a shift, Gaussian and rounded noise do not."""

    def discrete(scale: float, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        first, second = (rng.geometric(-np.expm1(-1 / scale), 400_000) for _ in range(2))
        return first - second

    assert all(laplace_fits(discrete(scale, seed), scale) for seed in range(50))
    assert not any(laplace_fits(discrete(scale * factor, 1), scale) for factor in (0.95, 1.05))
    assert not laplace_fits(discrete(scale, 2) + max(1, int(scale / 20)), scale)
    rng = np.random.default_rng(3)
    assert not laplace_fits(np.rint(rng.normal(scale=scale * 2**0.5, size=400_000)).astype(np.int64), scale)
    rounded = np.rint(rng.laplace(scale=scale, size=400_000)).astype(np.int64)
    assert laplace_fits(rounded, scale) == (scale > 100)


def test_float_noise_with_holes_is_caught() -> None:
    """Noise of single precision has a right histogram, but not all integers."""
    holes = (np.random.default_rng(3).normal(size=DRAWS).astype(np.float32) * np.float32(SCALE)).astype(np.int64)
    assert gaussian_fits(holes, SCALE)
    assert not low_bits_fit(holes)


def test_small_scales_are_decided_value_by_value() -> None:
    """Rounded continuous noise of 0.8 steps is no discrete Gaussian; noise by the exact probabilities is."""
    scale, reach = 0.8, 2
    everything = np.arange(-20, 21)
    mass = np.exp(-(everything**2) / (2 * scale**2))
    rng = np.random.default_rng(4)
    exact = rng.choice(everything, size=10 * DRAWS, p=mass / mass.sum())
    assert small_gaussian_fits(exact, scale, reach)
    assert not small_gaussian_fits(exact, scale * 1.05, reach)
    assert not small_gaussian_fits(np.rint(rng.normal(size=10 * DRAWS) * scale).astype(np.int64), scale, reach)
    assert not small_gaussian_fits(exact[exact != 1], scale, reach)


def test_the_chi_square_rejects_as_often_as_it_says() -> None:
    """Among 2,000 right samples the statistic is beyond its 1% quantile in about 1%, so 1e-9 is no idle threshold."""
    rng = np.random.default_rng(5)
    probabilities = np.full(40, 1 / 40)
    samples = rng.multinomial(DRAWS, probabilities, size=2000)
    beyond = ((samples - DRAWS / 40) ** 2 / (DRAWS / 40)).sum(axis=1) > stats.chi2.isf(0.01, 39)
    assert hits_fit(int(beyond.sum()), 2000, 0.01)
    assert all(counts_fit(sample, probabilities) for sample in samples)


def test_cells_that_cannot_decide_are_refused() -> None:
    """Too few draws, or cells that leave something out, are an error of the test."""
    with pytest.raises(AssertionError, match="too few"):
        counts_fit(np.full(10, 10), np.full(10, 0.1))
    with pytest.raises(AssertionError, match="cover"):
        counts_fit(np.full(10, 1000), np.full(10, 0.09))


def test_binomial_decisions() -> None:
    """Known cases on both sides of the decision: six deviations are rare enough, five are not."""
    deviation = (DRAWS * 0.05 * 0.95) ** 0.5
    assert hits_fit(int(5000 + 5 * deviation), DRAWS, 0.05)
    assert hits_fit(int(5000 - 5 * deviation), DRAWS, 0.05)
    assert not hits_fit(int(5000 + 6.5 * deviation), DRAWS, 0.05)
    assert not hits_fit(int(5000 - 6.5 * deviation), DRAWS, 0.05)
    assert hits_fit(0, DRAWS, 0.0)
    assert not hits_fit(1, DRAWS, 0.0)
    assert at_least(DRAWS, DRAWS, 0.95)
    assert not at_least(int(DRAWS * 0.95 - 6.5 * deviation), DRAWS, 0.95)


def test_repeats_are_counted() -> None:
    """One repeated value may be chance, two are not."""
    assert hardly_repeats([1, 2, 3, 3])
    assert not hardly_repeats([1, 1, 2, 2])
    assert not hardly_repeats([1, 1, 1])
