"""Threat N8: whatever is planned, the exact cost of the planned noise is within the budget. No float decides."""

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from mpmath import mp, mpf

from privacy import gaussian
from privacy.gaussian import COLLISION, rounding_delta
from privacy.plan import Plan, make_plan
from privacy.release import Budget, Release
from privacy.vectors import CentredVector, CountVector, SumVector, UnitVector
from tests.privacy.exact import (
    DIGITS,
    chance_that_any_passes,
    closed_form_delta,
    rational,
    rounding_correction,
    zcdp_conversion_delta,
)
from tests.privacy.plans import budget, release

PLANS_OF_A_BUDGET = 10
BUDGETS = 250


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _random_release(rng: np.random.Generator, name: str) -> Release:
    """Bounds, cap, shares, clips and metrics over the whole range that the config allows."""
    metrics = []
    for number in range(rng.integers(1, 5)):
        low = rng.choice([-1, 0, 1]) * _between(rng, 1e-6, 1e6)
        clip = [low, low + _between(rng, 1e-2, 1e6)]
        kind = [{"count": "events"}, {"count": "units"}, {"sum": "v", "clip": clip}, {"mean": "v", "clip": clip}][rng.integers(4)]
        metrics.append({"name": f"m{number}", "share": _between(rng, 1e-3, 1e3), **kind})
    public = bool(rng.integers(2))
    return release(
        name,
        public=public,
        keys_per_unit=int(_between(rng, 1, 65537)),
        rows_per_key=int(_between(rng, 1, 1e6)),
        metrics=metrics,
        share=_between(rng, 1e-3, 1e3),
        **({} if public else {"select": {"share": _between(rng, 1e-3, 1e3), "cap": int(_between(rng, 1, 2048))}}),
    )


def _random_plans(seed: int) -> Iterator[tuple[Budget, Plan]]:
    rng = np.random.default_rng(seed)
    for _ in range(BUDGETS):
        whole = budget(_between(rng, 1e-3, 100), _between(rng, 1e-12, 0.1))
        for _ in range(PLANS_OF_A_BUDGET):
            yield whole, make_plan(whole, [_random_release(rng, f"r{number}") for number in range(rng.integers(1, 5))])


def noise_cost(epsilon: float, plan: Plan, factor: Fraction = Fraction(1)) -> mpf:
    """The exact delta of the noise of all stages, if each scale were `factor` times the planned one: the better of two proofs."""
    square = sum(((Fraction(stage.norm) / (Fraction(stage.scale) * factor)) ** 2 for stage in plan.stages), Fraction(0))
    with mp.workdps(DIGITS):
        mu = mp.sqrt(rational(square))
        least = min(stage.scale for stage in plan.stages)
        costs = [zcdp_conversion_delta(epsilon, mu)]
        if epsilon <= 60:
            assert rounding_correction(epsilon, least) <= mpf(rounding_delta(epsilon, least)) * (1 + mpf(10) ** -12)
            costs.append(closed_form_delta(epsilon, mu) + mpf(rounding_delta(epsilon, least)))
        return min(costs)


def other_cost(plan: Plan) -> Fraction:
    """The exact delta of the selections and of colliding ids."""
    selections = [planned.selection for planned in plan.releases if planned.selection is not None]
    return sum((Fraction(selection.delta) for selection in selections), Fraction(COLLISION))


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of one budget bisect the same function: remembering its values makes 1e4 plans ten times as fast."""
    monkeypatch.setattr(gaussian, "zcdp_delta", lru_cache(maxsize=None)(gaussian.zcdp_delta))


@pytest.mark.parametrize("seed", range(4))
def test_n8_noise_is_never_below_the_exact_answer(seed: int) -> None:
    """2,500 random plans a seed, 1e4 in all: noise, selections and ids together cost at most the budget's delta.

    The check itself must fail with a tenth of the noise missing, and for most plans with one part in 1e5 (where the correction
    for discrete noise is a large part of delta, the plan keeps a little in reserve).
    """
    plans = loose = selecting = 0
    for whole, plan in _random_plans(seed):
        with mp.workdps(DIGITS):
            left = mpf(whole.delta) - rational(other_cost(plan))
        assert noise_cost(whole.epsilon, plan) <= left
        if plans % PLANS_OF_A_BUDGET == 0:
            loose += noise_cost(whole.epsilon, plan, 1 - Fraction(1, 10**5)) <= left
            assert noise_cost(whole.epsilon, plan, Fraction(9, 10)) > left
        plans += 1
        selecting += any(planned.selection is not None for planned in plan.releases)
    assert plans == BUDGETS * PLANS_OF_A_BUDGET
    assert 0.3 * plans < selecting < plans
    assert loose < 0.3 * BUDGETS, loose


def test_n8_norms_are_exact() -> None:
    """2,000 random releases: each norm is the smallest integer that covers the bounds, compared in integers."""
    rng = np.random.default_rng(8)
    seen = set()
    for _ in range(2000):
        one = _random_release(rng, "r")
        r, k = one.bounds.rows_per_key, one.bounds.keys_per_unit
        for metric in one.metrics:
            for part in metric.parts(one.bounds.unit):
                vector = part.vector
                seen.add(type(vector))
                # The norm of events per unit with bounds r and k is r sqrt(k); each kind brings so much per event.
                if isinstance(vector, CountVector):
                    square = r**2 * k * Fraction(4) ** -vector.grid.exponent
                elif isinstance(vector, UnitVector):
                    square = k * Fraction(4) ** -vector.grid.exponent
                elif isinstance(vector, SumVector):
                    ends = vector.grid.to_steps(np.array([vector.low, vector.high]))
                    square = Fraction(r**2 * k * max(abs(int(end)) for end in ends) ** 2)
                else:
                    assert isinstance(vector, CentredVector)
                    ends = vector.grid.to_steps(np.array([vector.low - vector.middle, vector.high - vector.middle]))
                    counted = Fraction(vector.counts.norm) * Fraction(2) ** vector.counts.grid.exponent
                    square = (max(abs(int(end)) for end in ends) * counted) ** 2
                assert (vector.norm - 1) ** 2 < square <= vector.norm**2
    assert seen == {CountVector, UnitVector, SumVector, CentredVector}


def test_n8_selections_keep_their_delta() -> None:
    """300 random plans: for every number of keys up to the cap, the exact chance that a unit's own key is shown."""
    rng = np.random.default_rng(9)
    checked = 0
    for _ in range(300):
        whole = budget(_between(rng, 1e-3, 100), _between(rng, 1e-12, 0.1))
        plan = make_plan(whole, [_random_release(rng, "r")])
        selection = plan.releases[0].selection
        if selection is None:
            assert plan.delta_selection == 0
            continue
        checked += 1
        assert selection.delta == pytest.approx(whole.delta / 100, rel=1e-12)
        for keys in {1, selection.cap, *rng.integers(1, selection.cap + 1, 20).tolist()}:
            weight = int(selection.weights[keys])
            assert keys * weight**2 <= selection.norm**2
            assert chance_that_any_passes(keys, weight, selection.threshold, selection.scale) <= mpf(selection.delta)
    assert checked > 100
