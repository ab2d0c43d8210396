"""The published 95% intervals cover the bounded value in 95% of draws, for each kind of metric.

Everything goes through the functions that a run calls: make_plan, the stage's noise, the metric's columns.

False failure: 1e-9 a decision. Power: 1e5 draws have a deviation of 0.07% around 95%, so at most 0.43% off are accepted. Noise
that is 5% off its declared scale covers 93.8% or 96.1%, 9 deviations beyond that: let through with a probability below 1e-15.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from privacy.intervals import COVERAGE
from privacy.plan import MetricPlan, Stage, make_plan
from tests.privacy.plans import budget, release
from tests.statistical.checks import at_least, covered, drawn, hits_fit

DRAWS = 100_000
FACTORS = (0.95, 1.05)


def _planned(metric: dict[str, Any]) -> MetricPlan:
    """At epsilon 0.01 the noise of a count is above 1,500: rounding outwards to integers adds less than 1e-4 to the coverage."""
    plan = make_plan(budget(0.01, 1e-6), [release(public=True, metrics=[{"name": "m", **metric}])])
    return plan.releases[0].metrics[0]


def _in_units(steps: int, stage: Stage) -> Fraction:
    return steps * Fraction(stage.grid.step)


@pytest.mark.parametrize(
    ("metric", "truth", "integers"),
    [
        ({"count": "events"}, 1_000_000.0, False),
        ({"count": "events"}, 0.0, False),
        ({"count": "units"}, 12_345.0, False),
        ({"sum": "v", "clip": [0, 10]}, 98_765.4321, False),
        ({"sum": "v", "clip": [-3, 7]}, -1234.5, False),
        ({"sum": "v", "clip": [0, 10]}, 98_765.0, True),
    ],
)
def test_intervals_of_sums_cover_the_truth(metric: dict[str, Any], truth: float, integers: bool) -> None:
    """Counts of events and units, sums of floats and of integers; also where the truth is 0 or negative."""
    planned = _planned(metric)
    (stage,) = planned.stages
    assert stage.deviation > 1500
    steps = int(stage.grid.to_steps(np.array([truth]))[0])
    noisy = drawn(planned.stages, [steps], DRAWS)
    exact = float(stage.grid.to_values(np.array([steps]))[0])
    assert hits_fit(covered(planned, noisy, exact, integers=integers), DRAWS, COVERAGE)
    for factor in FACTORS:
        assert not hits_fit(covered(planned, noisy, exact, integers=integers, factor=factor), DRAWS, COVERAGE)


@pytest.mark.parametrize("ratio", [Fraction(0), Fraction(3, 10), Fraction(-7, 10)])
def test_intervals_of_means_cover_the_truth(ratio: Fraction) -> None:
    """Where the count is clear, 20 deviations and more, Fieller's interval is exact."""
    planned = _planned({"mean": "v", "clip": [2, 12]})
    amounts, counts = planned.stages
    assert (amounts.name, counts.name) == ("m.sum", "m.count")
    counted = int(30 * counts.scale)
    in_units = counted * Fraction(counts.grid.step)
    summed = round(ratio * 5 * in_units / Fraction(amounts.grid.step))
    truth = 7 + float(summed * Fraction(amounts.grid.step) / in_units)
    noisy = drawn(planned.stages, [summed, counted], DRAWS)
    assert hits_fit(covered(planned, noisy, truth, integers=False), DRAWS, COVERAGE)
    for factor in FACTORS:
        assert not hits_fit(covered(planned, noisy, truth, integers=False, factor=factor), DRAWS, COVERAGE)


@pytest.mark.parametrize("deviations", [0.0, 0.5, 1.5, 2.5, 4.0])
def test_intervals_of_means_of_few_events_cover_at_least_as_often(deviations: float) -> None:
    """Where the count drowns in its noise, intervals are as wide as the clip, never too narrow.

    The check must reject noise that is declared half as large, except where every interval is the clip.
    """
    planned = _planned({"mean": "v", "clip": [2, 12]})
    amounts, counts = planned.stages
    counted = max(int(deviations * counts.scale), 1)
    in_units = counted * Fraction(counts.grid.step)
    summed = round(Fraction(4, 5) * 5 * in_units / Fraction(amounts.grid.step))
    truth = 7 + float(summed * Fraction(amounts.grid.step) / in_units)
    noisy = drawn(planned.stages, [summed, counted], DRAWS)
    assert at_least(covered(planned, noisy, truth, integers=False), DRAWS, COVERAGE)
    if deviations >= 1.5:
        assert not at_least(covered(planned, noisy, truth, integers=False, factor=0.5), DRAWS, COVERAGE)


HALF_WIDTH = 5
SPREADS = {
    "none, all values in the middle": (Fraction(0), Fraction(0)),
    "none, all values off the middle": (Fraction(9, 10), Fraction(81, 100)),
    "middle": (Fraction(0), Fraction(1, 3)),
    "middle, mean off the middle": (Fraction(-6, 10), Fraction(1, 2)),
    "nearly none, mean near an end": (Fraction(19, 20), Fraction(19, 20) ** 2 + Fraction(1, 100)),
    "largest": (Fraction(0), Fraction(1)),
}
"""The mean's distance from the middle, and the mean square of the values' distances, in parts of half the clip's width."""


def _spread(planned: MetricPlan, deviations: float, mean: Fraction, square: Fraction) -> tuple[list[int], float]:
    """The exact sums in steps, of one event or so many deviations of the count's noise, and the variance that they have."""
    squares, amounts, counts = planned.stages
    assert (squares.name, amounts.name, counts.name) == ("m.squares", "m.sum", "m.count")
    counted = max(int(deviations * counts.scale), 1 << -counts.grid.exponent)
    events = _in_units(counted, counts)
    squared = round((square - Fraction(1, 2)) * HALF_WIDTH**2 * events / Fraction(squares.grid.step))
    summed = round(mean * HALF_WIDTH * events / Fraction(amounts.grid.step))
    truth = _in_units(squared, squares) / events + Fraction(HALF_WIDTH**2, 2) - (_in_units(summed, amounts) / events) ** 2
    assert abs(truth - (square - mean**2) * HALF_WIDTH**2) < 1e-3
    return [squared, summed, counted], float(min(max(truth, Fraction(0)), Fraction(HALF_WIDTH**2)))


def _variance_and_stddev() -> tuple[MetricPlan, MetricPlan]:
    """Plans of both, with the same stages: one draw is for both."""
    variance, stddev = (_planned({kind: "v", "clip": [2, 2 + 2 * HALF_WIDTH]}) for kind in ("variance", "stddev"))
    assert variance.stages == stddev.stages
    return variance, stddev


@pytest.mark.parametrize("deviations", [30.0, 1000.0])
@pytest.mark.parametrize("truth", SPREADS)
def test_intervals_of_spreads_cover_the_truth_at_least_as_often(deviations: float, truth: str) -> None:
    """Each of the two means is covered in 97.5% of draws, so both are in 95% or more.

    The check must reject noise that is declared half as large: intervals of half the width are left by one mean alone in a
    quarter of draws, at an end of what is possible in an eighth.
    """
    variance, stddev = _variance_and_stddev()
    exact, spread = _spread(variance, deviations, *SPREADS[truth])
    noisy = drawn(variance.stages, exact, DRAWS)
    for planned, value in ((variance, spread), (stddev, math.sqrt(spread))):
        assert at_least(covered(planned, noisy, value, integers=False), DRAWS, COVERAGE)
        assert not at_least(covered(planned, noisy, value, integers=False, factor=0.5), DRAWS, COVERAGE)


@pytest.mark.parametrize("truth", ["none, all values off the middle", "middle, mean off the middle", "largest"])
@pytest.mark.parametrize("deviations", [0.0, 1.5, 2.5, 4.0])
def test_intervals_of_spreads_of_few_events_cover_at_least_as_often(deviations: float, truth: str) -> None:
    """Where the count drowns in its noise, intervals are all that the clip allows, never too narrow."""
    variance, stddev = _variance_and_stddev()
    exact, spread = _spread(variance, deviations, *SPREADS[truth])
    noisy = drawn(variance.stages, exact, DRAWS)
    for planned, value in ((variance, spread), (stddev, math.sqrt(spread))):
        assert at_least(covered(planned, noisy, value, integers=False), DRAWS, COVERAGE)
