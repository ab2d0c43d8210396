"""What the guarantee costs, in 50 digits: written from the formulas of the papers, not from the source."""

from fractions import Fraction

import numpy as np
from mpmath import exp, log, log1p, mp, mpf, ncdf
from numpy.typing import NDArray

DIGITS = 50


def closed_form_delta(epsilon: float, mu: mpf | float) -> mpf:
    """Balle and Wang 2018, Theorem 8: Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)."""
    with mp.workdps(DIGITS):
        e, m = mpf(epsilon), mpf(mu)
        return ncdf(m / 2 - e / m) - exp(e) * ncdf(-m / 2 - e / m)


def zcdp_conversion_delta(epsilon: float, mu: mpf | float) -> mpf:
    """Canonne, Kamath and Steinke 2020, Proposition 12, at one alpha: any is valid, floats look for the best."""
    rho = float(mu) ** 2 / 2

    def log_delta(above_one: NDArray[np.float64]) -> NDArray[np.float64]:
        alpha = 1 + above_one
        return above_one * (alpha * rho - epsilon) - alpha * np.log1p(1 / above_one) - np.log(above_one)

    coarse = 10.0 ** (np.arange(-5000, 3001) / 1000)
    fine = coarse[np.argmin(log_delta(coarse))] * (1 + np.arange(-4000, 4001) / 1_000_000)
    with mp.workdps(DIGITS):
        a, r = 1 + mpf(fine[np.argmin(log_delta(fine))]), mpf(mu) ** 2 / 2
        return exp((a - 1) * (a * r - mpf(epsilon)) + a * log1p(-1 / a) - log(a - 1))


def rounding_correction(epsilon: float, least_scale: float) -> mpf:
    """docs/guarantee.md, "Discrete noise": 2^40 coordinates of KL 1/300 sigma^-4, Pinsker's inequality, on both sides."""
    with mp.workdps(DIGITS):
        return (1 + exp(mpf(epsilon))) * mp.sqrt(mpf(2**40) / 300 / 2) / mpf(least_scale) ** 2


def rational(value: Fraction) -> mpf:
    """A fraction in 50 digits."""
    with mp.workdps(DIGITS):
        return mpf(value.numerator) / mpf(value.denominator)


def chance_that_any_passes(keys: int, weight: int, threshold: int, scale: float) -> mpf:
    """A bound on the probability that integer noise lifts any of `keys` equal weights to the threshold.

    P[X >= m] <= 1 - Phi((m - 1) / sigma) for discrete Gaussian X and m >= 1: Canonne, Kamath and Steinke 2020, Proposition 25.
    """
    assert threshold - weight >= 1
    with mp.workdps(DIGITS):
        passes = ncdf(-mpf(threshold - weight - 1) / mpf(scale))
        return -mp.expm1(keys * log1p(-passes))
