"""95% intervals of the noise around the bounded value. The bias of the bounds is not in them."""

import numpy as np

from privacy.grid import Floats

COVERAGE = 0.95


def ratio_interval(
    amounts: Floats,
    counts: Floats,
    amount_deviation: float,
    count_deviation: float,
    reach: float,
    quantile: float,
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


def ratio_box(amounts: tuple[Floats, Floats], counts: tuple[Floats, Floats], reach: float) -> tuple[Floats, Floats]:
    """Low and high ends for amount / count, within +-reach, where both are within intervals of their own.

    Where the count may be 0 or less, every ratio is possible: the ends are -reach and reach.
    """
    low, high = amounts
    least, most = counts
    usable = least > 0
    least, most = np.where(usable, least, 1.0), np.where(usable, most, 1.0)
    lowest = np.where(usable, low / np.where(low < 0, least, most), -reach)
    highest = np.where(usable, high / np.where(high < 0, most, least), reach)
    return np.clip(lowest, -reach, reach), np.clip(highest, -reach, reach)
