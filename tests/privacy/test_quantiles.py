"""privacy/metrics/quantiles.py and TreeVector: the norm of a tree, the ranks that are made of it, quantiles and intervals."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy.grid import Grid
from privacy.metrics.base import NoisySums
from privacy.metrics.quantiles import Quantiles, QuantilesMetric
from privacy.noise import GaussianNoise
from privacy.plan import PlanError, make_plan
from privacy.vectors import TreeVector, UnitCells
from tests.privacy.cases import CASES
from tests.privacy.plans import budget, release, unit_bounds
from tests.statistical.checks import at_least

GRID = Grid(-20)
ONE = 1 << 20
DRAWS = 2_000


def metric(*at: float, clip: tuple[float, float] = (0.0, 100.0)) -> QuantilesMetric:
    return QuantilesMetric(name="q", quantiles=Quantiles(of="v", at=at, clip=clip))


def tree(keys: int, rows: int) -> TreeVector:
    (part,) = metric(0.5).parts(unit_bounds(keys, rows))
    assert isinstance(part.vector, TreeVector)
    return part.vector


def counts(values: np.ndarray, asked: QuantilesMetric) -> np.ndarray:
    """Events of each leaf, int64 (1, 256)."""
    (part,) = asked.parts(unit_bounds(1, 1))
    assert isinstance(part.vector, TreeVector)
    found = part.vector.bins.of(values, np.isfinite(values))
    return np.bincount(found, minlength=256).astype(np.int64)[None]


@CASES
@given(
    st.integers(1, 65_536),
    st.integers(1, 10**6),
    st.lists(
        st.dictionaries(st.integers(0, 255), st.one_of(st.integers(1, 4), st.integers(1, 2**26)), min_size=1, max_size=20),
        min_size=1,
        max_size=8,
    ),
)
def test_n7_one_unit_stays_within_the_norm_of_both_levels(keys: int, rows: int, unit: list[dict[int, int]]) -> None:
    """The 272 nodes of all its keys together, in exact integers; and the norm fits the arithmetic."""
    vector = tree(keys, rows)
    cells = [(pair, leaf, events) for pair, key in enumerate(unit) for leaf, events in sorted(key.items())]
    pairs, leaves, events = (np.array(column, np.int64) for column in zip(*cells, strict=True))
    bounded = vector.bounded(UnitCells(events, pairs, np.array([0])))
    sums = np.zeros((len(unit), 256), np.int64)
    sums[pairs, leaves] = bounded
    nodes = vector.nodes(sums)
    assert nodes.shape == (len(unit), 272)
    assert (nodes[:, :16].sum(axis=1) == nodes[:, 16:].sum(axis=1)).all()
    assert sum(step * step for step in nodes.ravel().tolist()) <= vector.norm**2
    assert vector.norm <= 2**30
    exact = Fraction(vector.norm) * Fraction(2) ** vector.grid.exponent
    assert float(exact) == pytest.approx(rows * math.sqrt(2 * keys), rel=1e-6)


def test_a_unit_at_its_bounds_uses_the_norm() -> None:
    """All its events in one leaf of each key: nothing is cut, and the norm is what it needs."""
    vector = tree(9, 5)
    events, pairs = np.full(9, 5), np.arange(9)
    bounded = vector.bounded(UnitCells(events, pairs, np.array([0])))
    assert bounded.tolist() == [5 << -vector.grid.exponent] * 9
    sums = np.zeros((9, 256), np.int64)
    sums[:, 17] = bounded
    assert (vector.norm - 1) ** 2 < sum(step * step for step in vector.nodes(sums).ravel().tolist()) <= vector.norm**2


def test_a_tree_counts_as_two_stages() -> None:
    """An event changes a leaf and the node above: 127 trees and one count are 255."""
    trees: list[dict[str, Any]] = [
        {"name": f"q{n}", "quantiles": {"of": "v", "at": [0.5], "clip": [0, n + 1]}} for n in range(127)
    ]
    rest = [{"name": "c", "count": "events"}, {"name": "s", "sum": "v", "clip": [0, 1]}]
    assert len(make_plan(budget(), [release(public=True, metrics=[*trees, rest[0]])]).stages) == 128
    with pytest.raises(PlanError, match="256 stages"):
        make_plan(budget(), [release(public=True, metrics=[*trees, *rest])])


@pytest.mark.parametrize("clip", [(0.0, 100.0), (-7.5, 3.25), (1e6, 1e6 + 1)])
def test_without_noise_quantiles_are_exact_to_a_leaf(clip: tuple[float, float]) -> None:
    """Against NumPy's inverted distribution function, in skewed and in lumpy data."""
    rng = np.random.default_rng(5)
    asked = metric(0.01, 0.25, 0.5, 0.9, 0.99, clip=clip)
    width = clip[1] - clip[0]
    for values in (rng.gamma(2, 0.1, 5001), rng.integers(0, 5, 999) / 5.0, np.array([0.4]), np.repeat([0.1, 0.8], [500, 501])):
        values = np.minimum(clip[0] + width * values, clip[1])
        columns = asked.columns(
            [NoisySums(tree(1, 1).nodes(counts(values, asked) * ONE), GRID, GaussianNoise(1e-9))], integers=False
        )
        for name, at in zip(asked.names, asked.quantiles.at, strict=True):
            exact = np.quantile(values, at, method="inverted_cdf")
            assert abs(columns[name][0] - exact) <= width / 256 * 1.001 or at == 0.5, name
            assert columns[f"{name}_low"][0] <= columns[name][0] <= columns[f"{name}_high"][0]


@pytest.mark.parametrize(("events", "deviation"), [(20_000, 20.0), (1_000, 20.0), (300, 40.0), (20, 40.0)])
def test_intervals_cover_the_quantile_of_the_bounded_counts(events: int, deviation: float) -> None:
    """In at least 95% of draws, whether the noise is small or drowns the key; noise declared too small is rejected."""
    asked = metric(0.1, 0.5, 0.9)
    values = np.clip(np.random.default_rng(events).gamma(2, 12, events), 0, 100)
    exact = tree(1, 1).nodes(counts(values, asked) * ONE)
    noisy = GaussianNoise(deviation * ONE).add(np.repeat(exact, DRAWS, axis=0))
    for factor in (1.0, 0.3):
        columns = asked.columns([NoisySums(noisy, GRID, GaussianNoise(deviation * ONE * factor))], integers=False)
        covered = {}
        for name, at in zip(asked.names, asked.quantiles.at, strict=True):
            truth = np.quantile(values, at, method="inverted_cdf")
            covered[name] = int(((columns[f"{name}_low"] <= truth) & (truth <= columns[f"{name}_high"])).sum())
        if factor == 1.0:
            assert all(at_least(hits, DRAWS, 0.95) for hits in covered.values()), covered
        elif events >= 1_000:
            assert not all(at_least(hits, DRAWS, 0.95) for hits in covered.values()), covered


def test_more_events_make_a_narrower_interval() -> None:
    """The median of 20,000 events is known to two leaves, of 100 to little."""
    asked = metric(0.5)
    widths = []
    for events in (100, 1_000, 20_000):
        values = np.clip(np.random.default_rng(1).normal(50, 15, events), 0, 100)
        noisy = GaussianNoise(10.0 * ONE).add(np.repeat(tree(1, 1).nodes(counts(values, asked) * ONE), 200, axis=0))
        columns = asked.columns([NoisySums(noisy, GRID, GaussianNoise(10.0 * ONE))], integers=False)
        widths.append(float(np.mean(columns["q_p50_high"] - columns["q_p50_low"])))
    assert widths[0] > 4 * widths[1] > 12 * widths[2]
    assert widths[2] < 1.5


@CASES
@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.just(0)), min_size=272, max_size=272), st.floats(1e-6, 1e18))
def test_r2_no_noise_lets_it_fail(steps: list[int], scale: float) -> None:
    """Whatever was drawn: finite, in order, within the clip."""
    asked = metric(1e-9, 0.5, 0.999, clip=(-3.0, 4.0))
    columns = asked.columns([NoisySums(np.array([steps], np.int64), GRID, GaussianNoise(scale))], integers=True)
    for name in asked.names:
        low, value, high = (float(columns[f"{name}{suffix}"][0]) for suffix in ("_low", "", "_high"))
        assert -3 <= low <= value <= high <= 4


def test_no_keys_and_many_keys() -> None:
    """Blocks of keys are put together as one; none are none."""
    asked = metric(0.5)
    values = np.clip(np.random.default_rng(2).normal(50, 15, 1000), 0, 100)
    exact = tree(1, 1).nodes(counts(values, asked) * ONE)
    one = asked.columns([NoisySums(exact, GRID, GaussianNoise(1.0))], integers=False)
    many = asked.columns([NoisySums(np.repeat(exact, 10_000, axis=0), GRID, GaussianNoise(1.0))], integers=False)
    none = asked.columns([NoisySums(exact[:0], GRID, GaussianNoise(1.0))], integers=False)
    for name, column in one.items():
        assert many[name].tolist() == pytest.approx([column[0]] * 10_000)
        assert (len(none[name]), none[name].dtype) == (0, np.float64)


def test_names() -> None:
    """Of percent, without a point."""
    assert metric(0.05, 0.5, 0.999, 0.07).names == ("q_p5", "q_p50", "q_p99_9", "q_p7")
    assert metric(1e-7, 0.1 + 0.2).names == ("q_p0_00001", "q_p30_000000000000004")


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": []},
        {"at": [1]},
        {"at": [0]},
        {"at": [-0.1]},
        {"at": [float("nan")]},
        {"at": [0.5, 0.5]},
        {"clip": [1, 0]},
        {"clip": [0, float("inf")]},
        {"of": ""},
        {"more": 1},
    ],
)
def test_r11_quantiles_that_are_refused(wrong: dict[str, Any]) -> None:
    """None, outside 0 and 1, twice, or without a proper clip."""
    with pytest.raises(ValidationError):
        release(metrics=[{"name": "q", "quantiles": {"of": "v", "at": [0.5], "clip": [0, 1]} | wrong}])
