"""Laplace noise is of the planned scale, and the published 95% intervals cover the bounded value as declared.

Everything goes through the functions that a run calls: make_plan, the stage's noise, the metric's columns.

False failure: 1e-9 a decision. Power: 2e5 draws have a deviation of 0.05% around 95%, so at most 0.3% off are accepted. Noise
that is 5% off its declared scale covers 94.2% or 95.7%, 8 deviations beyond that: let through with a probability below 1e-14.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from privacy.intervals import COVERAGE
from privacy.metrics.base import NoisySums
from privacy.noise import LaplaceNoise
from privacy.plan import MetricPlan, Stage, make_plan
from privacy.vectors import TreeVector
from tests.privacy.plans import budget, release
from tests.statistical.checks import at_least, covered, drawn, hits_fit, laplace_fits, low_bits_fit

MANY, DRAWS = 200_000, 50_000
FACTORS = (0.95, 1.05)
CLIP = [2, 12]


def _planned(noise: str, *metrics: dict[str, Any]) -> list[MetricPlan]:
    """At epsilon 0.01 the noise of a count is above 1,500: rounding outwards to integers adds less than 1e-4 to the coverage."""
    bounds = {"keys_per_unit": 4, "rows_per_key": 5, "noise": noise}
    whole = budget(0.01, 0.0 if noise == "laplace" else 1e-6)
    plan = make_plan(whole, [release(public=True, bounds=bounds, metrics=list(metrics))])
    return list(plan.releases[0].metrics)


def _steps(stage: Stage, value: float | Fraction) -> tuple[int, Fraction]:
    """A value in whole steps, and what they are worth."""
    step = Fraction(stage.grid.step)
    steps = round(Fraction(value) / step)
    return steps, steps * step


@pytest.mark.parametrize(("scale", "draws"), [(2.5, 150_000), (1000.0, 400_000), (2.0**31, 400_000)])
def test_n2_the_noise_is_a_discrete_laplace_of_its_scale(scale: float, draws: int) -> None:
    """Chi-square of cells; where the scale is small, of single values.

    False failure: 1e-9, at a statistic of 118 with 39 degrees of freedom. At 5% more or less, 4e5 draws expect 1,000 with a
    deviation of 65. With single values it is 68 at 12 degrees of freedom, and 1.5e5 draws expect 380 with a deviation of 40: a
    wrong scale is let through with a probability below 1e-9.
    """
    noise = LaplaceNoise(scale).add(np.zeros(draws, np.int64))
    assert noise.dtype == np.int64
    assert laplace_fits(noise, scale)
    for factor in FACTORS:
        assert not laplace_fits(noise, scale * factor)
    # Neighbours do not follow one another, neither in sign nor in size: 6.2 deviations of a sum of so many signs at most.
    large = np.where(np.abs(noise) > np.median(np.abs(noise)), 1, -1)
    for signs in (np.sign(noise), large - large.mean()):
        assert abs((signs[0::2] * signs[1::2]).sum()) < 6.2 * (draws / 2) ** 0.5
        assert abs((signs[0::2] * signs[0::2]).sum()) > 6.2 * (draws / 2) ** 0.5


def test_n1_n2_the_planned_noise_leaves_no_holes() -> None:
    """That of a sum: its lowest bits are even, it has the planned scale, and the result is the value plus the noise."""
    (planned,) = _planned("laplace", {"name": "m", "sum": "v", "clip": CLIP})
    (stage,) = planned.stages
    assert isinstance(stage.noise, LaplaceNoise)
    assert stage.scale == pytest.approx(stage.norm / 0.01, rel=1e-8)
    assert stage.deviation == pytest.approx(stage.scale * 2**0.5 * stage.grid.step)
    values = np.tile(np.array([-(2**60), 2**60 + 1]), MANY)
    noise = stage.noise.add(values) - values
    for part in (noise[0::2], noise[1::2]):
        assert laplace_fits(part, stage.scale)
        assert low_bits_fit(part)
        for factor in FACTORS:
            assert not laplace_fits(part, stage.scale * factor)


@pytest.mark.parametrize(
    ("metric", "truth", "integers"),
    [
        ({"count": "events"}, 1_000_000.0, False),
        ({"count": "units"}, 0.0, False),
        ({"count": "events", "norm": 7}, 12.0, False),
        ({"sum": "v", "clip": [0, 10]}, 98_765.4321, False),
        ({"sum": "v", "clip": [-3, 7], "clip_total": [-9, 9]}, -1234.5, False),
        ({"sum": "v", "clip": [0, 10], "norm": 30}, 98_765.0, True),
    ],
)
def test_intervals_of_counts_and_sums_cover_the_truth(metric: dict[str, Any], truth: float, integers: bool) -> None:
    """In exactly 95% of draws, also where the truth is 0 or negative; noise that is 5% off its declared scale is rejected."""
    (planned,) = _planned("laplace", {"name": "m", **metric})
    (stage,) = planned.stages
    assert stage.deviation > 500
    steps, exact = _steps(stage, truth)
    noisy = drawn(planned.stages, [steps], MANY)
    for factor in (1.0, *FACTORS):
        hits = covered(planned, noisy, float(exact), integers=integers, factor=factor)
        assert hits_fit(hits, MANY, COVERAGE) == (factor == 1.0), factor


def test_intervals_of_vector_sums_cover_each_column() -> None:
    """Each by itself, and their noise is not shared: signs agree in half of the draws, within 6.2 deviations."""
    (planned,) = _planned("laplace", {"name": "m", "vector_sum": ["v", "w"], "norm": 12})
    (stage,) = planned.stages
    exact = [_steps(stage, value) for value in (1234.5, -7)]
    noisy = stage.noise.add(np.tile(np.array([steps for steps, _ in exact]), (MANY, 1)))
    for factor in (1.0, *FACTORS):
        sums = NoisySums(noisy, stage.grid, replace(stage.noise, scale=stage.scale * factor))
        columns = planned.metric.columns([sums], integers=False)
        for name, (_, truth) in zip(("m_v", "m_w"), exact, strict=True):
            hits = int(((columns[f"{name}_low"] <= float(truth)) & (float(truth) <= columns[f"{name}_high"])).sum())
            assert hits_fit(hits, MANY, COVERAGE) == (factor == 1.0), (name, factor)
    signs = np.sign(noisy - np.array([steps for steps, _ in exact]))
    assert abs((signs[:, 0] * signs[:, 1]).sum()) < 6.2 * MANY**0.5


@pytest.mark.parametrize("clip", [[2, 12], [-1, 10], [-12, -2], [-5, 5]])
@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_intervals_of_sums_next_to_a_mean_cover_the_truth(noise: str, clip: list[float]) -> None:
    """In exactly 95%: made from the mean's stages with Gaussian noise, from its own with Laplace noise.

    Noise that is 5% off its declared scale is rejected.
    """
    planned, mean = _planned(noise, {"name": "m", "sum": "v", "clip": clip}, {"name": "mean", "mean": "v", "clip": clip})
    middle = (clip[0] + clip[1]) / 2 if noise == "gaussian" else 0
    assert len(planned.stages) == (2 if middle else 1)
    assert (set(planned.stages) <= set(mean.stages)) == (noise == "gaussian")
    pairs = [_steps(stage, value) for stage, value in zip(planned.stages, (-765.4, 4321.0), strict=False)]
    exact = pairs[0][1] + (Fraction(middle) * pairs[1][1] if middle else 0)
    noisy = drawn(planned.stages, [steps for steps, _ in pairs], MANY)
    for factor in (1.0, *FACTORS):
        hits = covered(planned, noisy, float(exact), factor=factor)
        assert hits_fit(hits, MANY, COVERAGE) == (factor == 1.0), factor


@pytest.mark.parametrize("ratio", [Fraction(0), Fraction(3, 10), Fraction(-7, 10)])
@pytest.mark.parametrize("deviations", [0.5, 2.5, 30.0])
def test_intervals_of_means_cover_at_least_as_often(ratio: Fraction, deviations: float) -> None:
    """Whether the count is clear or drowns in its noise; where it is clear, noise declared a quarter as large is rejected."""
    (planned,) = _planned("laplace", {"name": "m", "mean": "v", "clip": CLIP})
    amounts, counts = planned.stages
    counted, events = _steps(counts, deviations * counts.deviation)
    summed, amount = _steps(amounts, ratio * 5 * events)
    noisy = drawn(planned.stages, [summed, counted], DRAWS)
    truth = 7 + float(amount / events)
    assert at_least(covered(planned, noisy, truth), DRAWS, COVERAGE)
    if deviations > 20:
        assert not at_least(covered(planned, noisy, truth, factor=0.25), DRAWS, COVERAGE)


@pytest.mark.parametrize(("mean", "square"), [(0, Fraction(1, 3)), (Fraction(-6, 10), Fraction(1, 2)), (0, 1)])
@pytest.mark.parametrize("deviations", [2.5, 30.0, 1000.0])
def test_intervals_of_variances_cover_at_least_as_often(mean: Fraction, square: Fraction, deviations: float) -> None:
    """Of the distances' mean and mean square in parts of half the clip's width; as above for noise declared too small."""
    (planned,) = _planned("laplace", {"name": "m", "variance": "v", "clip": CLIP})
    squares, amounts, counts = planned.stages
    counted, events = _steps(counts, deviations * counts.deviation)
    summed, amount = _steps(amounts, Fraction(mean) * 5 * events)
    squared, of_squares = _steps(squares, (Fraction(square) - Fraction(1, 2)) * 25 * events)
    truth = float(min(max(of_squares / events + Fraction(25, 2) - (amount / events) ** 2, Fraction(0)), Fraction(25)))
    noisy = drawn(planned.stages, [squared, summed, counted], DRAWS)
    assert at_least(covered(planned, noisy, truth), DRAWS, COVERAGE)
    if deviations > 20:
        assert not at_least(covered(planned, noisy, truth, factor=0.2), DRAWS, COVERAGE)


@pytest.mark.parametrize("events", [300, 20_000])
def test_intervals_of_quantiles_cover_at_least_as_often(events: int) -> None:
    """Of the bounded counts in a tree of Laplace noise: 2,000 draws; noise declared a quarter as large is rejected."""
    bounds = {"keys_per_unit": 1, "rows_per_key": 1, "noise": "laplace"}
    quantiles = {"name": "m", "quantiles": {"of": "v", "at": [0.1, 0.5, 0.9], "clip": [0, 100]}}
    plan = make_plan(budget(0.1, 0.0), [release(public=True, bounds=bounds, metrics=[quantiles])])
    (planned,) = plan.releases[0].metrics
    (stage,) = planned.stages
    assert isinstance(stage.vector, TreeVector)
    values = np.clip(np.random.default_rng(events).gamma(2, 12, events), 0, 100)
    counts = np.bincount((values * 2.56).astype(int).clip(0, 255), minlength=256)[None] << -stage.grid.exponent
    noisy = stage.noise.add(np.repeat(stage.vector.nodes(counts), 2000, axis=0))
    for factor in (1.0, 0.25):
        sums = NoisySums(noisy, stage.grid, replace(stage.noise, scale=stage.scale * factor))
        columns = planned.metric.columns([sums], integers=False)
        hits = []
        for name, at in (("m_p10", 0.1), ("m_p50", 0.5), ("m_p90", 0.9)):
            truth = np.quantile(values, at, method="inverted_cdf")
            hits.append(int(((columns[f"{name}_low"] <= truth) & (truth <= columns[f"{name}_high"])).sum()))
        if factor == 1.0:
            assert all(at_least(found, 2000, COVERAGE) for found in hits), hits
        elif events > 1000:
            assert not all(at_least(found, 2000, COVERAGE) for found in hits), hits
