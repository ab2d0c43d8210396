"""The published 95% intervals cover the bounded value in 95% of draws, for each kind of metric.

Everything goes through the functions that a run calls: make_plan, the stage's scale, add_gaussian, the metric's columns.

False failure: 1e-9 a decision. Power: 1e5 draws have a deviation of 0.07% around 95%, so at most 0.43% off are accepted. Noise
that is 5% off its declared scale covers 93.8% or 96.1%, 9 deviations beyond that: let through with a probability below 1e-15.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from privacy.intervals import COVERAGE
from privacy.metrics.base import NoisySums
from privacy.noise import add_gaussian
from privacy.plan import MetricPlan, VectorStage, make_plan
from tests.privacy.plans import budget, release
from tests.statistical.checks import at_least, hits_fit

DRAWS = 100_000
FACTORS = (0.95, 1.05)


def _planned(metric: dict[str, Any]) -> MetricPlan:
    """At epsilon 0.01 the noise of a count is above 1,500: rounding outwards to integers adds less than 1e-4 to the coverage."""
    plan = make_plan(budget(0.01, 1e-6), [release(public=True, metrics=[{"name": "m", **metric}])])
    return plan.releases[0].metrics[0]


def _draw(stages: Sequence[VectorStage], exact: Sequence[int]) -> list[np.ndarray]:
    return [add_gaussian(np.full(DRAWS, steps), stage.scale) for stage, steps in zip(stages, exact, strict=True)]


def _covered(planned: MetricPlan, noisy: Sequence[np.ndarray], truth: float, *, integers: bool, factor: float = 1.0) -> int:
    """How many intervals hold the truth, if the noise is declared `factor` times its planned scale."""
    sums = [NoisySums(steps, stage.grid, stage.scale * factor) for steps, stage in zip(noisy, planned.stages, strict=True)]
    columns = planned.metric.columns(sums, integers=integers)
    low, value, high = columns["m_low"], columns["m"], columns["m_high"]
    assert (low <= value + 1e-9 * abs(truth)).all()
    assert (value <= high + 1e-9 * abs(truth)).all()
    return int(((low <= truth) & (truth <= high)).sum())


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
    noisy = _draw(planned.stages, [steps])
    exact = float(stage.grid.to_values(np.array([steps]))[0])
    assert hits_fit(_covered(planned, noisy, exact, integers=integers), DRAWS, COVERAGE)
    for factor in FACTORS:
        assert not hits_fit(_covered(planned, noisy, exact, integers=integers, factor=factor), DRAWS, COVERAGE)


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
    noisy = _draw(planned.stages, [summed, counted])
    assert hits_fit(_covered(planned, noisy, truth, integers=False), DRAWS, COVERAGE)
    for factor in FACTORS:
        assert not hits_fit(_covered(planned, noisy, truth, integers=False, factor=factor), DRAWS, COVERAGE)


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
    noisy = _draw(planned.stages, [summed, counted])
    assert at_least(_covered(planned, noisy, truth, integers=False), DRAWS, COVERAGE)
    if deviations >= 1.5:
        assert not at_least(_covered(planned, noisy, truth, integers=False, factor=0.5), DRAWS, COVERAGE)
