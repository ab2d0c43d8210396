"""What Gaussian noise costs: from (epsilon, delta) to the mu that all stages of a run share."""

import math
from collections.abc import Callable
from statistics import NormalDist

COORDINATES = 2**40
"""More coordinates than one unit can change in all stages of a run together."""

COLLISION = 2.0**-48
"""Probability that two of 2^40 ids collide, or that AES is told from a random function by it."""

LEAST_DELTA = 1e-14
"""What must be left of delta for the noise."""

_MARGIN = 1e-9
_FLOAT_ERROR = 2.0**-46
_CLOSED_FORM_LIMIT = 30.0


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The smallest delta at which noise of multiplier 1/mu is (epsilon, delta)-DP.

    Args:
        epsilon: in (0, 30]; beyond, `zcdp_delta` is used.
        mu: L2 norm over standard deviation, above 0. Several stages: root of the sum of squares.

    Source: Balle and Wang 2018, Theorem 8; Dong, Roth and Su 2022, Corollary 1.

    >>> round(gaussian_delta(1.0, 0.5), 6)
    0.00683
    """
    upper = _normal_cdf(mu / 2 - epsilon / mu)
    return max(0.0, upper - math.exp(epsilon) * _normal_cdf(-mu / 2 - epsilon / mu))


def zcdp_delta(epsilon: float, mu: float) -> float:
    """A delta at which rho-zCDP with rho = mu^2 / 2 is (epsilon, delta)-DP. Holds exactly for discrete noise.

    Source: Canonne, Kamath and Steinke 2020, Proposition 12; every alpha gives a valid bound, the best of a grid is taken.

    >>> zcdp_delta(1.0, 0.5) > gaussian_delta(1.0, 0.5)
    True
    """
    rho = mu * mu / 2

    def log_delta(alpha: float) -> float:
        return (alpha - 1) * (alpha * rho - epsilon) + alpha * math.log1p(-1 / alpha) - math.log(alpha - 1)

    best = max(1.0, (epsilon / rho + 1) / 2)
    alphas = (1 + best * 10 ** (step / 50) for step in range(-150, 151))
    return math.exp(min(0.0, min(map(log_delta, alphas))))


def rounding_delta(epsilon: float, least_scale: float) -> float:
    """What discrete noise may add to the delta of continuous noise that is rounded.

    Args:
        least_scale: the smallest standard deviation of the stages, in steps, at least 4.

    Source: docs/guarantee.md, "Discrete noise".
    """
    return (1 + math.exp(epsilon)) * math.sqrt(COORDINATES / 600) / least_scale**2


def largest_mu(epsilon: float, delta: float, least_norm_over_root_share: float) -> float:
    """The largest mu whose discrete Gaussian noise is (epsilon, delta)-DP over all stages.

    Two proofs are at hand, and the one that allows less noise is used: the closed form with `rounding_delta`, and zCDP.

    Args:
        delta: what is left for noise, in (0, 1).
        least_norm_over_root_share: the minimum over the stages of norm in steps / sqrt(share), so that a stage's noise is
            at least this over mu.

    Returns:
        mu, rounded down by one part in 1e9.

    Source: docs/guarantee.md, "Composition" and "Discrete noise".
    """
    by_zcdp = zcdp_mu(epsilon, delta)
    if epsilon > _CLOSED_FORM_LIMIT:
        return by_zcdp
    correction = rounding_delta(epsilon, least_norm_over_root_share / closed_form_mu(epsilon, delta))
    if correction >= delta:
        return by_zcdp
    return max(by_zcdp, closed_form_mu(epsilon, delta - correction))


def closed_form_mu(epsilon: float, delta: float) -> float:
    """The largest mu at which `gaussian_delta` is at most delta, rounded down by one part in 1e9. epsilon in (0, 30]."""

    def delta_of(mu: float) -> float:
        # Where epsilon is tiny, the difference of two nearly equal terms is mostly rounding; what that may be is added.
        return gaussian_delta(epsilon, mu) + 2 * _normal_cdf(mu / 2 - epsilon / mu) * _FLOAT_ERROR

    return _largest(delta_of, delta)


def zcdp_mu(epsilon: float, delta: float) -> float:
    """The largest mu at which `zcdp_delta` is at most delta, rounded down by one part in 1e9."""
    return _largest(lambda mu: zcdp_delta(epsilon, mu), delta)


def _largest(delta_of: Callable[[float], float], delta: float) -> float:
    low, high = 0.0, 1.0
    while delta_of(high) <= delta:
        low, high = high, high * 2
    for _ in range(100):
        middle = (low + high) / 2
        if delta_of(middle) <= delta:
            low = middle
        else:
            high = middle
    return low * (1 - _MARGIN)


def tail_quantile(probability: float) -> float:
    """The x that a standard normal value exceeds with this probability, in (0, 1)."""
    return -NormalDist().inv_cdf(probability)


def _normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
