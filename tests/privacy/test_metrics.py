"""privacy/metrics: what a metric may be called and clipped to, its parts, and its published columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy.bounds import UnitBounds
from privacy.grid import Grid
from privacy.metrics import KINDS
from privacy.metrics.base import NoisySums, value_columns
from privacy.metrics.count import CountMetric
from privacy.metrics.mean import MeanMetric
from privacy.metrics.sum import SumMetric
from privacy.metrics.variance import StddevMetric, VarianceMetric
from privacy.noise import GaussianNoise
from privacy.tallies import Amounts, Events, Squares, Values
from privacy.vectors import CentredVector, CountVector, SquaresVector, SumVector, UnitVector
from tests.privacy.cases import CASES
from tests.privacy.plans import release, unit_bounds

BOUNDS = unit_bounds(30, 5)


@CASES
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(-29, 40), st.floats(0.01, 1e15))
def test_integers_are_rounded_outwards(steps: list[int], exponent: int, scale: float) -> None:
    """Value, low and high are int64, in order, around what the floats say; nothing fails at the ends of the type."""
    sums = NoisySums(np.array(steps, np.int64), Grid(exponent), GaussianNoise(scale))
    whole, exact = value_columns("n", sums, integers=True), value_columns("n", sums, integers=False)
    assert list(whole) == list(exact) == ["n", "n_low", "n_high"]
    for column in whole.values():
        assert column.dtype == np.int64
    for column in exact.values():
        assert column.dtype == np.float64
    assert (whole["n_low"] <= whole["n"]).all()
    assert (whole["n"] <= whole["n_high"]).all()
    fits = abs(exact["n"]) + 2 * sums.deviation < 2.0**52
    assert (whole["n_low"] <= exact["n_low"])[fits].all()
    assert (whole["n_high"] >= exact["n_high"])[fits].all()
    assert (whole["n_low"] > exact["n_low"] - 1)[fits].all()
    assert (whole["n_high"] < exact["n_high"] + 1)[fits].all()
    assert (abs(whole["n"] - exact["n"]) <= 0.5)[fits].all()


def test_the_parts_of_each_metric() -> None:
    """Which vectors noise is added to, on which tallies, with weights that add up to 1."""
    count = CountMetric(name="n", count="events").parts(BOUNDS)
    units = CountMetric(name="n", count="units").parts(BOUNDS)
    total = SumMetric(name="n", sum="v", clip=(-3.0, 10.0)).parts(BOUNDS)
    mean = MeanMetric(name="n", mean="v", clip=(-3.0, 10.0)).parts(BOUNDS)
    assert [part.vector for part in count] == [CountVector(Events(), BOUNDS)]
    assert [part.vector for part in units] == [UnitVector(BOUNDS)]
    assert [part.vector for part in total] == [SumVector("v", -3.0, 10.0, BOUNDS)]
    counts = CountVector(Values("v"), BOUNDS)
    assert [part.vector for part in mean] == [CentredVector("v", -3.0, 10.0, counts), counts]
    assert mean[0].vector.tallies[1:] == (Values("v"),)
    variance = VarianceMetric(name="n", variance="v", clip=(-3.0, 10.0)).parts(BOUNDS)
    stddev = StddevMetric(name="other", stddev="v", clip=(-3.0, 10.0), share=2).parts(BOUNDS)
    assert [part.vector for part in variance] == [SquaresVector("v", -3.0, 10.0, counts), mean[0].vector, counts]
    assert [part.label for part in variance] == ["squares", "sum", "count"]
    assert stddev == variance
    (squares, _) = variance[0].vector.tallies
    assert isinstance(squares, Squares)
    assert (squares.low, squares.high, squares.half) == (-3.0, 10.0, 6.5**2 / 2)
    (tally,) = total[0].vector.tallies
    assert isinstance(tally, Amounts)
    assert (tally.low, tally.high, tally.middle) == (-3.0, 10.0, 0.0)
    for parts in (count, units, total, mean, variance):
        assert sum(part.weight for part in parts) == pytest.approx(1)
        assert len({part.label for part in parts}) == len(parts)


def test_a_count_is_an_integer_whatever_the_column_is() -> None:
    """Counts round, sums only where their column holds integers, means never."""
    sums = NoisySums(np.array([3]), Grid(-1), GaussianNoise(1.0))
    assert CountMetric(name="n", count="units").columns([sums], integers=False)["n"].dtype == np.int64
    total = SumMetric(name="n", sum="v", clip=(0.0, 1.0))
    assert total.columns([sums], integers=False)["n"].tolist() == [1.5]
    assert total.columns([sums], integers=True)["n"].dtype == np.int64
    mean = MeanMetric(name="n", mean="v", clip=(0.0, 1.0))
    assert mean.columns([sums, sums], integers=True)["n"].dtype == np.float64
    for spread in _spreads((0.0, 1.0)):
        assert spread.columns([sums, sums, sums], integers=True)["n"].dtype == np.float64


def _spreads(clip: tuple[float, float]) -> tuple[VarianceMetric, StddevMetric]:
    """Both metrics of a column's spread."""
    return VarianceMetric(name="n", variance="v", clip=clip), StddevMetric(name="n", stddev="v", clip=clip)


_CLIPS = st.one_of(
    st.sampled_from([(-1.0, 1.0), (0.0, 10.0), (-1e30, 1e30), (0.0, 1e30), (0.0, 1e-30), (1e6, 1e6 + 0.001), (0.1, 9.7)]),
    st.tuples(st.floats(-1e6, 1e6), st.floats(0.01, 1e6)).map(lambda clip: (clip[0], clip[0] + clip[1])),
)
_STEPS = st.one_of(
    st.integers(-5, 5),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, 2**62, 0]),
    st.integers(0, 62).map(lambda bits: 2**bits),
)
_ANY_BOUNDS = st.builds(UnitBounds, keys_per_unit=st.integers(1, 65_536), rows_per_key=st.integers(1, 10**6))


@CASES
@given(_CLIPS, _ANY_BOUNDS, st.lists(st.tuples(_STEPS, _STEPS, _STEPS), min_size=1, max_size=20), st.floats(-20, 30))
def test_n6_a_spread_lies_in_its_interval_and_within_the_clip(
    clip: tuple[float, float], bounds: UnitBounds, draws: list[tuple[int, int, int]], digits: float
) -> None:
    """0 <= low <= value <= high <= (width / 2)^2, or its root, finite: whatever the noisy steps and the noise are."""
    variance, stddev = _spreads(clip)
    half = clip[1] / 2 - clip[0] / 2
    grids = [part.vector.grid for part in variance.parts(bounds)]
    sums = [
        NoisySums(np.array([draw[part] for draw in draws], np.int64), grid, GaussianNoise(10.0**digits))
        for part, grid in enumerate(grids)
    ]
    found = variance.columns(sums, integers=False)
    roots = stddev.columns(sums, integers=False)
    for columns, most in ((found, half**2), (roots, half)):
        assert list(columns) == ["n", "n_low", "n_high"]
        assert all(column.dtype == np.float64 for column in columns.values())
        assert (columns["n_low"] >= 0).all()
        assert (columns["n_low"] <= columns["n"]).all()
        assert (columns["n"] <= columns["n_high"]).all()
        assert (columns["n_high"] <= most).all()
    for name, column in roots.items():
        assert column.tolist() == np.sqrt(found[name]).tolist()
    empty = sums[2].steps <= 0
    assert (found["n_low"][empty] == 0).all()
    assert (found["n_high"][empty] == half**2).all()


@CASES
@given(
    _CLIPS,
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.lists(st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=50), min_size=1, max_size=8),
)
def test_a_spread_without_noise_is_numpys(clip: tuple[float, float], bounds: tuple[int, int], keys: list[list[float]]) -> None:
    """Of the clipped values, around their mean, divided by their number: what rounding to the grid and floats lets through."""
    variance, stddev = _spreads(clip)
    low, high = clip
    half = high / 2 - low / 2
    vectors = [part.vector for part in variance.parts(unit_bounds(*bounds))]
    values = [low + (high - low) * np.array(key) for key in keys]
    steps = []
    for vector in vectors[:2]:
        (tally, _) = vector.tallies
        assert isinstance(tally, Amounts | Squares)
        steps.append([int(tally.steps(value, np.ones(len(value), np.bool_)).sum()) for value in values])
    steps.append([len(value) << -vectors[2].grid.exponent for value in values])
    sums = [NoisySums(np.array(part), vector.grid, GaussianNoise(0.0)) for part, vector in zip(steps, vectors, strict=True)]
    found, roots = variance.columns(sums, integers=False), stddev.columns(sums, integers=False)
    for columns in (found, roots):
        assert ((columns["n_low"] <= columns["n"]) & (columns["n"] <= columns["n_high"])).all()
    # Each square and each value is rounded to its grid, and the middle of a narrow clip is rounded to a float.
    rounded = 2.0**-50 * max(abs(low), abs(high)) / half
    off = vectors[0].grid.step + 2 * half * vectors[1].grid.step + half**2 * (1e-14 + 4 * rounded)
    for number, value in enumerate(values):
        wanted = np.var((np.clip(value, low, high) - low) / half) * half**2
        for column in found.values():
            assert abs(column[number] - wanted) <= off
            assert off < 1e-5 * half**2
        assert abs(roots["n"][number] ** 2 - np.std((np.clip(value, low, high) - low) / half) ** 2 * half**2) <= 1.01 * off


@pytest.mark.parametrize("scale", [1e-3, 4.0])
def test_a_spread_of_very_many_events_lies_in_its_interval(scale: float) -> None:
    """10,000 keys, where the interval is as narrow as what floats round: which end a value falls beyond would be chance."""
    variance, _ = _spreads((0.1, 9.7))
    grids = [part.vector.grid for part in variance.parts(BOUNDS)]
    rng = np.random.default_rng(50)
    counts = rng.integers(2**50, 2**58, 10_000)
    steps = [(rng.uniform(-reach, reach, 10_000) * counts).astype(np.int64) for reach in (0.9, 0.5)]
    sums = [NoisySums(part, grid, GaussianNoise(scale)) for part, grid in zip([*steps, counts], grids, strict=True)]
    columns = variance.columns(sums, integers=False)
    assert np.median(columns["n_high"] - columns["n_low"]) < 1e-6
    assert (columns["n"] > 0).sum() > 5000
    assert (columns["n_low"] <= columns["n"]).all()
    assert (columns["n"] <= columns["n_high"]).all()


def test_a_spread_without_a_clear_count_may_be_anything() -> None:
    """Its interval is all that the clip allows; without a positive count its value is the middle of that."""
    variance, stddev = _spreads((2.0, 10.0))
    counts = NoisySums(np.array([-5, 0, 1, 22]), Grid(0), GaussianNoise(10.0))
    others = NoisySums(np.array([7, 7, 7, 7]), Grid(0), GaussianNoise(10.0))
    columns, roots = (metric.columns([others, others, counts], integers=False) for metric in (variance, stddev))
    assert columns["n_low"].tolist() == roots["n_low"].tolist() == [0.0] * 4
    assert columns["n_high"].tolist() == [16.0] * 4
    assert roots["n_high"].tolist() == [4.0] * 4
    assert columns["n"][:2].tolist() == [8.0, 8.0]
    clear = NoisySums(np.array([10_000]), Grid(0), GaussianNoise(10.0))
    known = variance.columns([NoisySums(np.array([7]), Grid(0), GaussianNoise(10.0))] * 2 + [clear], integers=False)
    assert known["n_high"][0] - known["n_low"][0] < 0.1


@pytest.mark.parametrize(
    "clip", [[float("nan"), 1], [0, float("inf")], [10, 2], [3, 3], [0, 1e31], [0, 1e-31], [1e12, 1e12 + 1e-3], [0], [0, 1, 2]]
)
def test_n6_clips_that_bound_nothing_are_refused(clip: list[float]) -> None:
    """NaN, infinite, reversed, empty, out of range, too narrow for a float, or of the wrong length."""
    for kind in ("sum", "mean", "variance", "stddev"):
        with pytest.raises(ValidationError):
            release(metrics=[{"name": "m", kind: "v", "clip": clip}])
        with pytest.raises(ValidationError):
            release(metrics=[{"name": "m", kind: "v"}])


@pytest.mark.parametrize("name", ["", "1a", "A", "a b", "a-b", "é", "_a", "a.b"])
def test_names_that_make_no_column_are_refused(name: str) -> None:
    """Of metrics and of releases."""
    with pytest.raises(ValidationError):
        release(metrics=[{"name": name, "count": "events"}])
    with pytest.raises(ValidationError):
        release(name)


def test_a_metric_is_of_exactly_one_kind() -> None:
    """None, two, or an unknown one are refused, and what is unknown is an error."""
    assert KINDS[:5] == ("count", "sum", "mean", "variance", "stddev")
    assert len(set(KINDS)) == len(KINDS)
    two = [{"count": "events", "mean": "v"}, {"variance": "v", "stddev": "v", "clip": [0, 1]}]
    for metric in ({}, *two, {"median": "v"}, {"count": "rows"}, {"count": "events", "clip": [0, 1]}):
        with pytest.raises(ValidationError):
            release(metrics=[{"name": "m", **metric}])
