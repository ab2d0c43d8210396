"""Decisions of the statistical tests: whether draws fit what is claimed of them.

Each decision rejects draws that do fit with a probability of at most `FALSE_FAILURE`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from privacy.metrics.base import NoisySums
from privacy.plan import MetricPlan, Stage

FALSE_FAILURE = 1e-9
_LEAST_EXPECTED = 200.0


def counts_fit(observed: NDArray[np.int64], probabilities: NDArray[np.float64]) -> bool:
    """Chi-square: whether counts of cells fit the cells' probabilities, which add up to 1.

    The chi-square distribution is only a limit; with 200 or more expected in each cell it is one that holds at 1e-9.
    """
    expected = probabilities / probabilities.sum() * observed.sum()
    assert abs(probabilities.sum() - 1) < 1e-6, "the cells do not cover everything"
    assert expected.min() >= _LEAST_EXPECTED, "too few draws for these cells"
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return bool(stats.chi2.sf(statistic, len(observed) - 1) >= FALSE_FAILURE)


def hits_fit(hits: int, draws: int, probability: float) -> bool:
    """Exact binomial, both sides: whether `hits` of `draws` fit this probability of a hit."""
    tails = stats.binom.cdf(hits, draws, probability), stats.binom.sf(hits - 1, draws, probability)
    return bool(2 * min(tails) >= FALSE_FAILURE)


def at_least(hits: int, draws: int, probability: float) -> bool:
    """Exact binomial, one side: whether `hits` of `draws` fit a probability of a hit of at least this."""
    return bool(stats.binom.cdf(hits, draws, probability) >= FALSE_FAILURE)


def gaussian_fits(noise: NDArray[np.int64], scale: float, cells: int = 40) -> bool:
    """Whether integers fit a discrete Gaussian of this standard deviation, 1e4 or more, in cells of equal probability.

    Above 1e4, the discrete Gaussian of a cell differs from the continuous one, half a step further out, by less than 1e-9.
    """
    assert scale >= 1e4
    edges = np.round(stats.norm.ppf(np.arange(1, cells) / cells) * scale)
    observed = np.bincount(np.searchsorted(edges, noise, side="right"), minlength=cells)
    below = stats.norm.cdf((edges - 0.5) / scale)
    return counts_fit(observed, np.diff(np.concatenate([[0.0], below, [1.0]])))


def small_gaussian_fits(noise: NDArray[np.int64], scale: float, reach: int) -> bool:
    """Whether integers fit a discrete Gaussian, value by value within +-reach, everything beyond in two cells more."""
    everything = np.arange(-int(40 * scale) - reach, int(40 * scale) + reach + 1)
    mass = np.exp(-(everything**2) / (2 * scale**2))
    cells = np.clip(everything, -reach - 1, reach + 1) + reach + 1
    probabilities = np.bincount(cells, weights=mass / mass.sum())
    return counts_fit(np.bincount(np.clip(noise, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3), probabilities)


def laplace_fits(noise: NDArray[np.int64], scale: float, cells: int = 40) -> bool:
    """Whether integers fit a discrete Laplace of this scale, in cells of about equal probability, exactly.

    P[X < e] is rho^(1 - e) / (1 + rho) for e up to 0, and 1 - rho^e / (1 + rho) above, with rho = e^(-1 / scale).
    """
    edges = np.unique(np.round(stats.laplace.ppf(np.arange(1, cells) / cells, scale=scale)))
    observed = np.bincount(np.searchsorted(edges, noise, side="right"), minlength=len(edges) + 1)
    tails = np.exp(-np.where(edges <= 0, 1 - edges, edges) / scale) / (1 + np.exp(-1 / scale))
    below = np.where(edges <= 0, tails, 1 - tails)
    return counts_fit(observed, np.diff(np.concatenate([[0.0], below, [1.0]])))


def low_bits_fit(noise: NDArray[np.int64], bits: int = 8) -> bool:
    """Whether every pattern of the lowest bits is equally frequent, as in noise of far more than 2^bits steps.

    Noise from floats has fewer: beyond its precision the lowest bits are zero, or follow from the others.
    """
    observed = np.bincount(noise & (1 << bits) - 1, minlength=1 << bits)
    return counts_fit(observed, np.full(1 << bits, 1.0 / (1 << bits)))


def hardly_repeats(draws: Sequence[int]) -> bool:
    """Whether at most one value is there twice."""
    return len(draws) - len(set(draws)) <= 1


def drawn(stages: Sequence[Stage], exact: Sequence[int], draws: int) -> list[NDArray[np.int64]]:
    """So many noisy sums of each stage, whose sums without noise are given in steps."""
    return [stage.noise.add(np.full(draws, steps)) for stage, steps in zip(stages, exact, strict=True)]


def covered(
    planned: MetricPlan, noisy: Sequence[NDArray[np.int64]], truth: float, *, integers: bool = False, factor: float = 1.0
) -> int:
    """How many intervals of the metric `m` hold the truth, if the noise is declared `factor` times its planned scale."""
    sums = [
        NoisySums(steps, stage.grid, replace(stage.noise, scale=stage.scale * factor))
        for steps, stage in zip(noisy, planned.stages, strict=True)
    ]
    columns = planned.metric.columns(sums, integers=integers)
    low, value, high = columns["m_low"], columns["m"], columns["m_high"]
    assert (low <= value + 1e-9 * abs(truth)).all()
    assert (value <= high + 1e-9 * abs(truth)).all()
    return int(((low <= truth) & (truth <= high)).sum())
