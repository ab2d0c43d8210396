"""What Laplace noise costs, alone and together with Gaussian noise: one factor for the noise of all stages of a run."""

import functools
import math
from collections.abc import Callable

from privacy.gaussian import largest_mu, rounding_delta, tail_quantile

_MARGIN = 1e-9
_LARGEST_EPSILON = 30.0
_LARGEST_RATIO = 20.0
"""Of mu and epsilon: beyond it, distributions of privacy losses have millions of points."""
_LEAST_DELTA = 1e-9
"""Below it, the float arithmetic of a convolution is no longer small."""
_FLOAT_ERROR = 1e-11
_POINTS = 1_000
"""To which part of epsilon privacy losses are rounded."""
_PRECISION = 1e-3


@functools.lru_cache(maxsize=64)
def least_factor(
    epsilon: float, delta: float, epsilons: tuple[float, ...], mu: float = 0.0, least_norm_over_root_share: float = math.inf
) -> float:
    """The factor c such that Laplace stages of epsilon_i / c, and Gaussian stages of together mu / c, are (epsilon, delta)-DP.

    The smaller of two that are proven, within a thousandth: the sum of the Laplace stages' epsilons and what then remains for
    the Gaussian ones; and where epsilon and delta allow it, the composition of privacy loss distributions.

    Args:
        delta: what is left for noise, in [0, 1); 0 only where mu is.
        epsilons: of the Laplace stages: norm / scale.
        mu: of the Gaussian stages: the root of the sum of norm^2 / scale^2.
        least_norm_over_root_share: a Gaussian stage's scale is at least this times c over mu.

    Source: docs/guarantee.md, "Laplace noise".

    >>> round(least_factor(1.0, 0.0, (0.5, 1.5)), 6)
    2.0
    """
    total = math.fsum(epsilons)

    def by_sums(factor: float) -> bool:
        left = epsilon - total / factor
        if not mu:
            return left >= 0
        return left > 0 and largest_mu(left, delta, least_norm_over_root_share) >= mu / factor

    simple = total / epsilon * (1 + _MARGIN) if not mu else _smallest(by_sums, total / epsilon + mu)
    if epsilon > _LARGEST_EPSILON or delta < _LEAST_DELTA or mu > _LARGEST_RATIO * epsilon:
        return simple

    def by_losses(factor: float) -> bool:
        rounded = rounding_delta(epsilon, least_norm_over_root_share * factor / mu) if mu else 0.0
        return _delta(epsilon, tuple(each / factor for each in epsilons), mu / factor) + rounded + _FLOAT_ERROR <= delta

    return min(simple, _smallest(by_losses, simple))


def _smallest(holds: Callable[[float], bool], start: float) -> float:
    """The smallest factor that holds, rounded up by at most `_PRECISION`. What holds for one holds for larger ones."""
    low, high = 0.0, start
    while not holds(high):
        low, high = high, 2 * high
    if not low:
        low = high / 2
        while holds(low):
            low, high = low / 2, low
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _delta(epsilon: float, epsilons: tuple[float, ...], mu: float) -> float:
    """The delta of continuous Laplace and Gaussian stages together, rounded up.

    Source: Doroshenko, Ghazi, Kamath, Kumar and Manurangsi 2022, Connect the Dots, as implemented by dp_accounting.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld  # imports SciPy

    step = epsilon / _POINTS
    stages = [pld.from_laplace_mechanism(1 / each, value_discretization_interval=step) for each in epsilons]
    if mu:
        stages.append(pld.from_gaussian_mechanism(1 / mu, value_discretization_interval=step))
    return float(functools.reduce(lambda one, other: one.compose(other), stages).get_delta_for_epsilon(epsilon))


def equivalent_mu(epsilon: float) -> float:
    """The mu of a Gaussian stage that is worse, at every delta, than a Laplace stage of this epsilon. Rounded up.

    Source: docs/guarantee.md, "Laplace noise".

    >>> round(equivalent_mu(1.0), 4)
    1.0301
    """
    if epsilon < 1e-3:
        return epsilon * math.sqrt(math.pi / 2) * (1 + _MARGIN)
    return 2 * tail_quantile(math.exp(-epsilon / 2) / 2) * (1 + _MARGIN) if epsilon < 1000 else 2 * math.sqrt(epsilon)
