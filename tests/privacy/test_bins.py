"""privacy/bins.py and BinVector: which bin a value is in, and that a unit's bins together stay within the norm of a count."""

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.bins import NO_BIN, Categories, Ranges
from privacy.metrics.base import NoisySums
from privacy.metrics.frequency import FrequencyMetric
from privacy.metrics.histogram import HistogramMetric
from privacy.noise import GaussianNoise
from privacy.tallies import MOST_EVENTS, Events
from privacy.vectors import BinVector, CountVector, UnitCells, UnitRows
from tests.privacy.cases import CASES
from tests.privacy.plans import release, unit_bounds

_LARGEST = float(np.finfo(np.float64).max)
_TINY = 5e-324
_BINS = Categories("c", ("a", "b"))

_BOUNDS = st.tuples(
    st.one_of(st.integers(1, 40), st.integers(1, 65_536), st.just(65_536)),
    st.one_of(st.integers(1, 10), st.integers(1, 10**6), st.just(10**6)),
)
_CELL = st.one_of(st.integers(1, 3), st.integers(1, 10**6), st.integers(1, 2**25))
_UNIT = st.lists(st.lists(_CELL, min_size=1, max_size=12), min_size=1, max_size=10)
"""The events of each bin that has some, of each key that has some."""
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def _bins_of(edges: Sequence[float], values: Sequence[float]) -> list[int]:
    """The bins of values; those that are not finite are not usable, as `usable_values` says."""
    found = np.array(values, np.float64)
    bins = Ranges("v", tuple(edges)).of(found, np.isfinite(found))
    assert bins.dtype == np.int64
    return bins.tolist()


def test_each_bin_holds_its_lower_edge_and_not_its_upper_one() -> None:
    """At the edges, next to them, and between them."""
    edges = (0.0, 5.0, 9.0, 10.0)
    assert Ranges("v", edges).count == 3
    assert _bins_of(edges, [0, math.nextafter(5, 0), 5, math.nextafter(9, 0), 9, math.nextafter(10, 0)]) == [0, 0, 1, 1, 2, 2]


def test_values_outside_are_in_the_bins_at_the_ends() -> None:
    """Whatever their size; the last edge itself is outside of the last bin, and so in it."""
    below, above = [-_TINY, -1.0, -_LARGEST], [10.0, 11.0, _LARGEST]
    assert _bins_of((0.0, 5.0, 10.0), [*below, *above]) == [0] * 3 + [1] * 3
    assert _bins_of((-_LARGEST, -_TINY, _TINY, _LARGEST), [-_LARGEST, -_TINY, 0.0, _TINY, _LARGEST]) == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("edge", [0.0, -0.0])
def test_both_zeros_are_one_number(zero: float, edge: float) -> None:
    """As value and as edge: -0.0 is not below 0."""
    assert _bins_of((-1.0, edge, 1.0), [zero]) == [1]


def test_n6_nan_and_infinities_are_in_no_bin() -> None:
    """Neither are nulls, which come as NaN: an infinite value is in no bin at the end."""
    assert _bins_of((0.0, 1.0, 2.0), [math.nan, math.inf, -math.inf, 1.5]) == [NO_BIN, NO_BIN, NO_BIN, 1]
    values = np.array([1.5, 0.5, 7.0])
    assert Ranges("v", (0.0, 1.0, 2.0)).of(values, np.array([False, True, False])).tolist() == [NO_BIN, 0, NO_BIN]


def test_two_edges_make_one_bin_of_everything() -> None:
    """And no values make no bins."""
    assert Ranges("v", (0.0, 1.0)).count == 1
    assert _bins_of((0.0, 1.0), [-_LARGEST, 0.0, 1.0, _LARGEST, math.nan]) == [0, 0, 0, 0, NO_BIN]
    assert _bins_of((0.0, 1.0, 2.0), []) == []


@CASES
@given(st.sets(_FLOATS, min_size=2, max_size=101), st.lists(st.floats(), max_size=30))
def test_any_value_and_any_edges(edges: set[float], values: list[float]) -> None:
    """Against Python's own bisection, with values at each edge and next to it."""
    ordered = sorted(edges)
    near = [math.nextafter(edge, end) for edge in ordered for end in (-math.inf, math.inf)]
    tried = [*values, *ordered, *near]

    def expected(value: float) -> int:
        return min(max(bisect_right(ordered, value) - 1, 0), len(ordered) - 2) if math.isfinite(value) else NO_BIN

    assert _bins_of(ordered, tried) == [expected(value) for value in tried]


def _vector(bounds: tuple[int, int]) -> BinVector:
    return BinVector(_BINS, unit_bounds(*bounds))


def _cells(*units: Sequence[Sequence[int]]) -> UnitCells:
    """Units with the events of each of their keys' bins."""
    keys = [key for unit in units for key in unit]
    return UnitCells(
        events=np.array([events for key in keys for events in key], np.int64),
        pairs=np.repeat(np.arange(len(keys)), [len(key) for key in keys]),
        units=np.cumsum([0] + [len(unit) for unit in units])[:-1],
    )


def _counted(bounds: tuple[int, int], unit: Sequence[Sequence[int]]) -> list[int]:
    """What a count of the same events lets in of each key."""
    events = np.array([sum(key) for key in unit], np.int64)
    return CountVector(Events(), unit_bounds(*bounds)).bounded(UnitRows(np.array([0]), {Events(): events}, len(unit))).tolist()


def _square(steps: np.ndarray) -> int:
    return sum(step * step for step in steps.tolist())


def _by_key(bounded: np.ndarray, cells: UnitCells) -> list[int]:
    """The sum over the bins of each key."""
    sums = [0] * (int(cells.pairs.max()) + 1)
    for pair, step in zip(cells.pairs.tolist(), bounded.tolist(), strict=True):
        sums[pair] += step
    return sums


@CASES
@given(_BOUNDS, _UNIT)
def test_n7_one_units_bins_stay_within_the_norm_together(bounds: tuple[int, int], unit: list[list[int]]) -> None:
    """Over all keys and bins, in exact integers; and the same result among other units as alone."""
    vector, cells = _vector(bounds), _cells(unit)
    assert cells.events.sum() <= MOST_EVENTS
    alone = vector.bounded(cells)
    assert alone.dtype == np.int64
    assert len(alone) == len(cells.events)
    assert (alone >= 0).all()
    assert _square(alone) <= vector.norm**2
    other: list[list[int]] = [[1, 2**26], [3]]
    among = vector.bounded(_cells(other, unit, other))
    assert among[3:-3].tolist() == alone.tolist()


@CASES
@given(_BOUNDS, _UNIT)
def test_n7_the_bins_of_a_key_add_up_to_at_most_its_count(bounds: tuple[int, int], unit: list[list[int]]) -> None:
    """To what a count of the same events lets in, less at most a step a bin, and each bin has its part of it."""
    cells = _cells(unit)
    bounded = _vector(bounds).bounded(cells)
    counted = _counted(bounds, unit)
    for total, count, key in zip(_by_key(bounded, cells), counted, unit, strict=True):
        assert count - len(key) < total <= count
    expected = [events * count // sum(key) for key, count in zip(unit, counted, strict=True) for events in key]
    assert bounded.tolist() == expected


@CASES
@given(_BOUNDS, st.data())
def test_a_unit_within_its_bounds_is_left_exactly_as_it_is(bounds: tuple[int, int], data: st.DataObject) -> None:
    """k keys with r events each, in whatever bins."""
    keys, rows = bounds
    unit = data.draw(
        st.lists(
            st.lists(st.integers(1, max(rows // 4, 1)), min_size=1, max_size=min(rows, 4)), min_size=1, max_size=min(keys, 20)
        )
    )
    assert max(map(sum, unit)) <= rows
    vector, cells = _vector(bounds), _cells(unit)
    assert (vector.bounded(cells) == cells.events << -vector.grid.exponent).all()


@CASES
@given(_BOUNDS, st.lists(_CELL, min_size=1, max_size=20))
def test_keys_with_one_bin_are_counted_like_events(bounds: tuple[int, int], unit: list[int]) -> None:
    """Where all of a key's events are in one bin, nothing is lost to rounding."""
    keys = [[events] for events in unit]
    assert _vector(bounds).bounded(_cells(keys)).tolist() == _counted(bounds, keys)


def test_the_norm_is_that_of_a_count() -> None:
    """r sqrt(k), however many bins there are."""
    count = CountVector(Events(), unit_bounds(30, 5))
    for bins in (_BINS, Categories("c", tuple(map(str, range(100)))), Ranges("v", (0.0, 1.0))):
        vector = BinVector(bins, unit_bounds(30, 5))
        assert (vector.norm, vector.grid) == (count.norm, count.grid)
        assert 5 * math.sqrt(30) <= vector.norm * vector.grid.step <= 5 * math.sqrt(30) + vector.grid.step


@pytest.mark.parametrize("bounds", [(1, 1), (1, 10**6), (65_536, 10**6), (30, 5)])
def test_n5_n7_most_events_in_one_cell(bounds: tuple[int, int]) -> None:
    """A unit with every event that a run may read in one bin, or in all bins of one key: no wrap."""
    vector = _vector(bounds)
    alone = vector.bounded(_cells([[MOST_EVENTS]]))
    assert 0.99 * min(vector.norm, MOST_EVENTS << -vector.grid.exponent) <= int(alone[0]) <= vector.norm
    each = MOST_EVENTS // 128
    spread = vector.bounded(_cells([[MOST_EVENTS - 99 * each] + [each] * 99]))
    assert _square(spread) <= vector.norm**2
    assert sum(spread.tolist()) <= int(alone[0])
    assert sum(spread.tolist()) > int(alone[0]) - 100
    assert (spread > 0).all()


@pytest.mark.parametrize("each", [1, 10, MOST_EVENTS // 10**6])
def test_n7_b1_a_unit_in_10000_keys_and_100_bins_stays_within_the_norm(each: int) -> None:
    """A million cells; the bins of each key together still use nearly all of the norm."""
    vector = _vector((30, 5))
    cells = UnitCells(np.full(10**6, each), np.repeat(np.arange(10_000), 100), np.array([0]))
    bounded = vector.bounded(cells)
    assert _square(bounded) <= vector.norm**2
    keys = np.add.reduceat(bounded, np.arange(0, 10**6, 100))
    assert (0.99 * vector.norm) ** 2 < _square(keys) <= vector.norm**2


def test_nobody_and_nothing() -> None:
    """No units at all."""
    bounded = _vector((30, 5)).bounded(_cells())
    assert bounded.shape == (0,)
    assert bounded.dtype == np.int64


def test_the_parts_of_a_metric_of_bins() -> None:
    """One vector, so one stage and the whole share; metrics that ask for the same bins share it."""
    bounds = unit_bounds(30, 5)
    histogram = HistogramMetric.model_validate({"name": "h", "histogram": {"of": "v", "bins": [0, 5, 9]}})
    frequency = FrequencyMetric.model_validate({"name": "f", "frequency": {"of": "c", "values": ["Web Shop", "b"]}})
    (ranges,), (categories,) = histogram.parts(bounds), frequency.parts(bounds)
    assert (ranges.vector, ranges.weight) == (BinVector(Ranges("v", (0.0, 5.0, 9.0)), bounds), 1.0)
    assert (categories.vector, categories.weight) == (BinVector(Categories("c", ("Web Shop", "b")), bounds), 1.0)
    assert (histogram.column, histogram.categories) == ("v", None)
    assert (frequency.column, frequency.categories) == (None, Categories("c", ("Web Shop", "b")))
    again = HistogramMetric.model_validate({"name": "g", "histogram": {"of": "v", "bins": [0.0, 5, 9]}})
    assert again.parts(bounds)[0].vector == ranges.vector


def test_each_bin_has_columns_of_its_own() -> None:
    """In the order of the bins: value and interval, whole numbers also where the noisy sums are none."""
    metric = FrequencyMetric.model_validate({"name": "f", "frequency": {"of": "c", "values": ["Web Shop", "b"]}})
    vector = metric.parts(unit_bounds(1, 1))[0].vector
    one = 1 << -vector.grid.exponent
    sums = NoisySums(np.array([[one, 2 * one + one // 4], [-one, 0], [3 * one, 5]]), vector.grid, GaussianNoise(one / 1.96))
    columns = metric.columns([sums], integers=False)
    assert list(columns) == ["f_web_shop", "f_web_shop_low", "f_web_shop_high", "f_b", "f_b_low", "f_b_high"]
    assert {column.dtype for column in columns.values()} == {np.dtype(np.int64)}
    assert columns["f_web_shop"].tolist() == [1, -1, 3]
    assert columns["f_b"].tolist() == [2, 0, 0]
    assert columns["f_b_low"].tolist() == [1, -1, -1]
    assert columns["f_b_high"].tolist() == [4, 1, 1]
    assert metric.names == ("f_web_shop", "f_b")


@pytest.mark.parametrize(
    "metric",
    [
        {"histogram": "v"},
        {"histogram": {"of": "v"}},
        {"histogram": {"bins": [0, 1]}},
        {"histogram": {"of": "v", "bins": []}},
        {"histogram": {"of": "v", "bins": [0]}},
        {"histogram": {"of": "v", "bins": [1, 0]}},
        {"histogram": {"of": "v", "bins": [0, 1, 1]}},
        {"histogram": {"of": "v", "bins": [-0.0, 0.0]}},
        {"histogram": {"of": "v", "bins": [0, float("nan")]}},
        {"histogram": {"of": "v", "bins": [0, float("inf")]}},
        {"histogram": {"of": "v", "bins": list(range(102))}},
        {"histogram": {"of": "v", "bins": [0, 1]}, "clip": [0, 1]},
        {"frequency": {"of": "c"}},
        {"frequency": {"of": "c", "values": []}},
        {"frequency": {"of": "c", "values": ["a", "a"]}},
        {"frequency": {"of": "c", "values": ["web", "web"]}},
        {"frequency": {"of": "c", "values": ["Web Shop", "web_shop"]}},
        {"frequency": {"of": "c", "values": ["web", "web_low"]}},
        {"frequency": {"of": "c", "values": ["-", "a"]}},
        {"frequency": {"of": "c", "values": [str(number) for number in range(101)]}},
        {"frequency": {"of": "c", "values": ["a"]}, "histogram": {"of": "v", "bins": [0, 1]}},
    ],
    ids=str,
)
def test_n6_s7_bins_that_are_none_are_refused(metric: dict[str, object]) -> None:
    """Bins are declared in full: no edges or categories are taken from data."""
    with pytest.raises(ValueError):
        release(metrics=[{"name": "m", **metric}])


def test_as_many_bins_as_there_may_be() -> None:
    """101 edges or 100 categories."""
    edges = {"name": "h", "histogram": {"of": "v", "bins": list(range(101))}}
    values = {"name": "f", "frequency": {"of": "c", "values": [str(number) for number in range(100)]}}
    assert [len(metric.names) for metric in release(metrics=[edges, values]).metrics] == [100, 100]
