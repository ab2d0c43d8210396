"""privacy/gaussian.py: the closed form, zCDP and the correction for discrete noise, each against 30 digits or more."""

import math

import numpy as np
import pytest
from mpmath import exp, log, mp, mpf, ncdf, sqrt

from privacy.gaussian import COORDINATES, gaussian_delta, largest_mu, rounding_delta, tail_quantile, zcdp_delta
from tests.privacy.exact import closed_form_delta, rounding_correction, zcdp_conversion_delta

RNG = np.random.default_rng(20)


def divergence(sigma: float) -> tuple[mpf, mpf]:
    """KL(discrete Gaussian || rounded continuous one) and their total variation distance, added up value by value."""
    with mp.workdps(40):
        s = mpf(sigma)
        reach = int(14 * sigma) + 10
        mass = [exp(-mpf(x * x) / (2 * s * s)) for x in range(reach + 1)]
        total = mass[0] + 2 * sum(mass[1:])
        kl, distance = mpf(0), mpf(0)
        for x, part in enumerate(mass):
            p = part / total
            q = ncdf((-x + mpf(1) / 2) / s) - ncdf((-x - mpf(1) / 2) / s)  # at -x, where both terms are small
            both = 1 if x == 0 else 2
            kl += both * p * log(p / q)
            distance += both * abs(p - q) / 2
        return kl, distance


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("mu", [1e-3, 0.05, 0.3, 1.0, 4.0, 12.0])
def test_the_closed_form_agrees_with_50_digits(epsilon: float, mu: float) -> None:
    """To 1e-15, and to one part in 1e8 where delta is large enough to be asked for."""
    exact = closed_form_delta(epsilon, mu)
    computed = gaussian_delta(epsilon, mu)
    assert abs(computed - exact) < 1e-15
    if exact > 1e-12 and epsilon >= 0.1:
        assert abs(computed / exact - 1) < 1e-8


def test_zcdp_never_promises_more_than_the_closed_form() -> None:
    """The conversion holds for continuous noise as well, so it is never below the exact delta; nor is it far above."""
    for _ in range(300):
        mu = float(np.exp(RNG.uniform(math.log(1e-2), math.log(10))))
        epsilon = min(30.0, mu * mu / 2 + mu * RNG.uniform(0.5, 6))
        exact = closed_form_delta(epsilon, mu)
        assert exact <= zcdp_delta(epsilon, mu) * (1 + 1e-9)
        assert zcdp_delta(epsilon, mu) <= max(60 * exact, 1e-12)


@pytest.mark.parametrize("sigma", [1.0, 1.7, *range(2, 21)])
def test_rounded_and_discrete_noise_differ_by_no_more_than_is_proven(sigma: float) -> None:
    """KL at most 1/(320 sigma^4) + e^(-sigma^2), and so the total variation of one coordinate at most sqrt(1/600)/sigma^2.

    From sigma = 4 on half of the bound would be wrong: the constant is no idle one.
    """
    kl, distance = divergence(sigma)
    assert 0 < kl <= 1 / (320 * mpf(sigma) ** 4) + exp(-(mpf(sigma) ** 2))
    if sigma >= 4:
        assert kl <= 1 / (300 * mpf(sigma) ** 4)
        assert kl > 1 / (640 * mpf(sigma) ** 4)
        assert distance <= sqrt(mpf(1) / 600) / mpf(sigma) ** 2
        assert distance <= sqrt(kl / 2)


def test_the_correction_is_the_distance_of_all_coordinates_on_both_sides() -> None:
    """(1 + e^epsilon) times the distance that Pinsker's inequality gives 2^40 coordinates of the measured divergence."""
    for sigma in (4, 8, 20):
        kl, _ = divergence(sigma)
        for epsilon in (1e-3, 1.0, 8.0):
            needed = (1 + exp(mpf(epsilon))) * sqrt(COORDINATES * kl / 2)
            assert needed <= rounding_delta(epsilon, float(sigma)) <= needed * 1.5
    assert COORDINATES == 2**40


def test_the_noise_uses_the_whole_budget_and_no_more() -> None:
    """delta at the mu that is found is below the budget, and one part in 1e6 more mu would be above it."""
    for _ in range(150):
        epsilon, delta = float(10 ** RNG.uniform(-3, 1)), float(10 ** RNG.uniform(-9, -1))
        mu = largest_mu(epsilon, delta, 2.0**40)
        correction = rounding_delta(epsilon, 2.0**40 / mu)
        assert correction < 1e-6 * delta
        assert closed_form_delta(epsilon, mu) + correction <= delta
        assert closed_form_delta(epsilon, mu * (1 + 3e-6)) > delta


@pytest.mark.parametrize(
    ("epsilons", "deltas"), [((-16, -3), (-14, -3)), ((-9.5, -6), (-14, -12.5))], ids=["tiny", "where most is cancelled"]
)
def test_n8_tiny_epsilons_keep_delta_too(epsilons: tuple[float, float], deltas: tuple[float, float]) -> None:
    """Where the two terms of the closed form almost cancel, the noise is still not below the exact answer.

    By the closed form with its correction, or by zCDP. The exponents of 10 are drawn evenly.
    """
    rng = np.random.default_rng(21)
    broken = []
    for _ in range(250):
        epsilon, delta = float(10 ** rng.uniform(*epsilons)), float(10 ** rng.uniform(*deltas))
        mu = largest_mu(epsilon, delta, 2.0**29)
        spent = closed_form_delta(epsilon, mu) + rounding_correction(epsilon, 2.0**29 / mu)
        if spent > delta and zcdp_conversion_delta(epsilon, mu) > delta:
            broken.append((float(spent / mpf(delta)), epsilon, delta))
    assert not broken, f"{len(broken)} of 250; the worst (spent over allowed, epsilon, delta): {max(broken)}"


@pytest.mark.parametrize("epsilon", [30.0001, 100.0, 1e4, 1e8])
def test_large_epsilons_use_zcdp_alone(epsilon: float) -> None:
    """Beyond 30 the promise is that of zCDP, in 50 digits, at some alpha; up to epsilon 1e4 without waste."""
    for delta in (1e-12, 1e-6, 0.5):
        mu = largest_mu(epsilon, delta, 2.0**29)
        assert zcdp_conversion_delta(epsilon, mu) <= delta
        if epsilon <= 1e4:
            assert zcdp_conversion_delta(epsilon, mu * 1.001) > delta


def test_the_tail_quantile_agrees_with_the_tail() -> None:
    """Down to the smallest probabilities that a plan can ask for, to one part in 1e12."""
    for probability in (0.5, 0.01, 1e-6, 1e-12, 1e-19, 1e-40, 1e-300):
        with mp.workdps(40):
            tail = ncdf(-mpf(tail_quantile(probability)))
            assert abs(tail / mpf(probability) - 1) < 1e-12
