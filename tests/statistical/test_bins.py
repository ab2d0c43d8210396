"""The published 95% intervals of bins cover the truth in 95% of draws, each bin's by itself, and no bin follows another.

Everything goes through the functions that a run calls: make_plan, the stage's noise, the metric's columns.

False failure: 1e-9 a decision. Power: 1e5 draws have a deviation of 0.07% around 95%, so at most 0.43% off are accepted. Noise
that is 5% off its declared scale covers 93.8% or 96.1%, 9 deviations beyond that: let through with a probability below 1e-15.
"""

from typing import Any

import numpy as np
import pytest

from privacy.intervals import COVERAGE
from privacy.metrics.base import NoisySums
from privacy.noise import GaussianNoise
from privacy.plan import VectorStage, make_plan
from tests.privacy.plans import budget, release
from tests.statistical.checks import gaussian_fits, hits_fit

DRAWS = 100_000
FACTORS = (0.95, 1.05)
METRICS: list[dict[str, Any]] = [
    {"histogram": {"of": "v", "bins": [0, 5, 9, 10]}},
    {"frequency": {"of": "c", "values": ["Web Shop", "b", "c"]}},
]
NAMES = {"histogram": ("m_1", "m_2", "m_3"), "frequency": ("m_web_shop", "m_b", "m_c")}
TRUTH = (0, 3, 1_000_000)


def _drawn(metric: dict[str, Any]) -> tuple[Any, VectorStage, np.ndarray]:
    """The metric, its stage, and its noisy sums for so many keys, each with `TRUTH` events in its bins.

    At epsilon 0.01 the noise of a bin is above 1,500: rounding outwards to integers adds less than 1e-4 to the coverage.
    """
    plan = make_plan(budget(0.01, 1e-6), [release(public=True, metrics=[{"name": "m", **metric}])])
    (planned,) = plan.releases[0].metrics
    (stage,) = planned.stages
    assert stage.deviation > 1500
    exact = np.tile(np.array(TRUTH) << -stage.grid.exponent, (DRAWS, 1))
    return planned.metric, stage, stage.noise.add(exact)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: next(iter(metric)))
def test_intervals_of_bins_cover_the_truth(metric: dict[str, Any]) -> None:
    """Also of a bin without events; each must reject noise that is 5% off its declared scale."""
    drawn, stage, noisy = _drawn(metric)
    names = NAMES[drawn.kind]
    assert drawn.names == names
    for factor in (1.0, *FACTORS):
        columns = drawn.columns([NoisySums(noisy, stage.grid, GaussianNoise(stage.scale * factor))], integers=False)
        for name, truth in zip(names, TRUTH, strict=True):
            low, value, high = columns[f"{name}_low"], columns[name], columns[f"{name}_high"]
            assert ((low <= value) & (value <= high)).all()
            covered = int(((low <= truth) & (truth <= high)).sum())
            assert hits_fit(covered, DRAWS, COVERAGE) == (factor == 1.0), (name, factor)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: next(iter(metric)))
def test_n2_each_bin_has_noise_of_its_own_with_the_planned_scale(metric: dict[str, Any]) -> None:
    """Chi-square of each bin, and of sums and differences of two: those of noise that they share would be off by 41%.

    False failure: 1e-9 a decision. Power: as in `test_noise`, a scale that is 5% off is let through less often than once in 1e9.
    """
    _, stage, noisy = _drawn(metric)
    noise = noisy - (np.array(TRUTH) << -stage.grid.exponent)
    for left, right in ((0, 1), (1, 2), (0, 2)):
        for combined in (noise[:, left] + noise[:, right], noise[:, left] - noise[:, right]):
            assert gaussian_fits(combined, stage.scale * 2**0.5)
            for factor in FACTORS:
                assert not gaussian_fits(combined, stage.scale * 2**0.5 * factor)
    for number in range(3):
        assert gaussian_fits(noise[:, number], stage.scale)
        for factor in FACTORS:
            assert not gaussian_fits(noise[:, number], stage.scale * factor)
