"""95% intervals of the noise around the bounded value. The bias of the bounds is not in them."""

import numpy as np

from privacy.grid import Floats

COVERAGE = 0.95
QUANTILE = 1.959963984540054
"""Of the standard normal distribution: the noise lies within this many standard deviations with 95% probability."""

HALF_QUANTILE = 2.241402727604947
"""With 97.5% probability: two intervals of it hold both at once with at least 95%."""


def sum_interval(values: Floats, deviation: float) -> tuple[Floats, Floats]:
    """Low and high ends for values with Gaussian noise of this standard deviation. float64 (n,) each."""
    return values - QUANTILE * deviation, values + QUANTILE * deviation


def ratio_interval(
    amounts: Floats,
    counts: Floats,
    amount_deviation: float,
    count_deviation: float,
    reach: float,
    quantile: float = QUANTILE,
) -> tuple[Floats, Floats]:
    """Low and high ends for amount / count where both have independent Gaussian noise, and the ratio is within +-reach.

    Where the noisy count is not clearly positive, every ratio is possible: the ends are -reach and reach.

    Args:
        amounts, counts: float64, shape (n,), noisy.
        amount_deviation, count_deviation: standard deviations of their noise.
        reach: the largest possible size of the ratio.
        quantile: how many standard deviations of the noise are covered.

    Returns:
        float64, shape (n,), twice; no NaN, within +-reach.

    Source: Fieller 1954, Some Problems in Interval Estimation, section 4.
    """
    a = counts**2 - (quantile * count_deviation) ** 2
    usable = (a > 0) & (counts > 0)
    safe = np.where(usable, a, 1.0)
    middle = amounts * counts
    # The discriminant with its equal terms cancelled by hand: large counts leave nothing of it in floats otherwise.
    root = quantile * np.sqrt((amount_deviation**2) * np.where(usable, a, 0.0) + (count_deviation * amounts) ** 2)
    low = np.where(usable, (middle - root) / safe, -reach)
    high = np.where(usable, (middle + root) / safe, reach)
    return np.clip(low, -reach, reach), np.clip(high, -reach, reach)
