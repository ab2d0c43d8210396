"""B1, N7, N8: norms of order 1, those of the bounds, and joint ones, against the definitions in Python's integers."""

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy.bins import Ranges
from privacy.bounds import UnitBounds
from privacy.grid import Ints
from privacy.norms import limit_totals, weights_by_keys
from privacy.tallies import MOST_EVENTS, Amounts, Events, Squares, Tally, Values
from privacy.vectors import (
    BinVector,
    CentredVector,
    CountVector,
    JointVector,
    SquaresVector,
    SumVector,
    TreeVector,
    UnitCells,
    UnitRows,
    UnitVector,
    Vector,
)
from tests.privacy.cases import CASES, limited_by

_FEWER = settings(CASES, max_examples=150)
"""Of properties that take long to try."""

_SIZES = st.one_of(
    st.integers(0, 3),
    st.integers(2**29 - 2, 2**30 + 2),
    st.integers(2**32 - 2, 2**32 + 2),
    st.integers(2**62 - 3, 2**62),
    st.integers(0, 62).flatmap(lambda bits: st.integers(0, 2**bits)),
)
_VALUES = st.builds(lambda size, sign: size * sign, _SIZES, st.sampled_from([-1, 1]))
_UNIT = st.lists(_VALUES, min_size=1, max_size=40)
_NORMS = st.one_of(st.integers(2**29, 2**30), st.integers(0, 30).map(lambda bits: 2**bits), st.integers(1, 2**30))


def reference(values: Sequence[int], norm: int) -> list[int]:
    """The definition: low bits dropped, floor toward zero."""
    total = sum(map(abs, values))
    if total <= norm:
        return list(values)
    drop = max(max(map(abs, values)).bit_length() - 32, total.bit_length() - 62, 0)
    kept = [abs(value) >> drop for value in values]
    length = sum(kept)
    return [(1 if value > 0 else -1) * (size * norm // length) for value, size in zip(values, kept, strict=True)]


limited = partial(limited_by, limit_totals)


@CASES
@given(st.lists(_UNIT, min_size=1, max_size=6), _NORMS)
@example([[2**62], [-(2**62)], [2**61, 1 - 2**61]], 2**30)
@example([[2**62] * 40, [2**62, 2**62], [1]], 2**30)
@example([[2**30, 1], [2**30], [2**30 - 1, -1]], 2**30)
@example([[1, 1, -1]], 2)
def test_n8_every_result_is_that_of_the_definition_and_within_the_norm(units: list[list[int]], norm: int) -> None:
    """To the integer; the sum of sizes in exact integers; shorter vectors untouched; signs kept; hardly shorter than allowed."""
    for unit, result in zip(units, limited(units, norm), strict=True):
        assert result == reference(unit, norm)
        assert sum(map(abs, result)) <= norm
        assert all(value * other >= 0 and abs(other) <= abs(value) for value, other in zip(unit, result, strict=True))
        total = sum(map(abs, unit))
        if total <= norm:
            assert result == unit
        else:
            # Each loses less than a step to the floor, and a part of 2^-31 or less to the bits that are dropped.
            ideal = [Fraction(abs(value) * norm, total) for value in unit]
            off = [abs(wanted - abs(got)) for wanted, got in zip(ideal, result, strict=True)]
            assert all(one <= 1 + Fraction(norm * len(unit), 2**30) for one in off)


@_FEWER
@given(_UNIT, st.lists(_UNIT, max_size=4), st.lists(_UNIT, max_size=4), _NORMS)
def test_a_unit_does_not_feel_the_others(unit: list[int], before: list[list[int]], after: list[list[int]], norm: int) -> None:
    """Alone, or between any other units, a unit's result is the same."""
    assert limited([*before, unit, *after], norm)[len(before)] == limited([unit], norm)[0]


@pytest.mark.parametrize("keys", [1000, 65_536, 300_000])
def test_b1_units_with_very_many_keys(keys: int) -> None:
    """One unit in many keys between two small ones: the definition, the norm, and hardly less than it."""
    rng = np.random.default_rng(keys)
    norm = 2**30 - 1
    large = (rng.integers(0, 2**51, keys) >> rng.integers(0, 51, keys)) * rng.choice([-1, 1], keys)
    result = limited([[3], large.tolist(), [-4]], norm)
    assert (result[0], result[2]) == ([3], [-4])
    assert result[1] == reference(large.tolist(), norm)
    assert 0.999 * norm < sum(map(abs, result[1])) <= norm


def test_no_values() -> None:
    """No unit, no value."""
    assert limit_totals(np.zeros(0, np.int64), np.zeros(0, np.int64), 2**30).shape == (0,)


@CASES
@given(st.integers(1, 2**30), st.integers(1, 2**30), st.integers(0, 3000))
@example(2**29, 2**29, 65_536)
@example(2**30, 2**30, 65_536)
@example(1, 2**30, 65_536)
def test_n8_weights_are_exact(each: int, norm: int, most: int) -> None:
    """min(each, floor(norm / d)) to the integer for every d, and d times it within the norm."""
    weights = weights_by_keys(each, norm, most, 1).tolist()
    assert len(weights) == most + 1
    assert weights[0] == 0
    for keys, weight in enumerate(weights[1:], start=1):
        assert weight == min(each, norm // keys)
        assert keys * weight <= norm


# The bounds.


def units_within(keys: int, rows: int, most: int | None) -> Iterator[tuple[int, ...]]:
    """The events per key of every unit within these bounds."""
    for events in itertools.product(range(rows + 1), repeat=keys):
        if most is None or sum(events) <= most:
            yield events


_SMALL = [
    (keys, rows, most)
    for keys, rows in itertools.product(range(1, 5), range(1, 5))
    for most in (None, *range(1, keys * rows + 2))
]


@pytest.mark.parametrize("order", [1, 2])
def test_n8_the_norms_are_the_largest_of_all_units_within_the_bounds(order: int) -> None:
    """By trying every unit of small bounds: of events, of keys, and in whole steps, rounded up."""
    for keys, rows, most in _SMALL:
        bounds = UnitBounds(keys_per_unit=keys, rows_per_key=rows, rows_per_unit=most, order=order)
        found = list(units_within(keys, rows, most))
        events = max(sum(count**order for count in unit) for unit in found)
        of_keys = max(sum(count > 0 for count in unit) for unit in found)
        assert bounds.events == pytest.approx(events ** (1 / order), rel=1e-15)
        assert bounds.keys == pytest.approx(of_keys ** (1 / order), rel=1e-15)
        for each in (1, 3, 2**20 + 1):
            for norm, power in ((bounds.events_norm(each), events), (bounds.keys_norm(each), of_keys)):
                assert (norm - 1) ** order < power * each**order <= norm**order, (keys, rows, most, each)


# Every kind of vector.

_MOST = 2**28
_BOUNDS = st.builds(
    lambda keys, rows, most, order, sampling, down: UnitBounds(
        keys_per_unit=keys if order == 2 else min(keys, max(_MOST // rows, 1)),
        rows_per_key=rows,
        rows_per_unit=most,
        order=order,
        sampling=sampling,
        down_weight=down,
    ),
    st.one_of(st.integers(1, 40), st.integers(1, 65_536), st.just(65_536)),
    st.one_of(st.integers(1, 10), st.integers(1, 10**6), st.just(10**6)),
    st.one_of(st.none(), st.integers(1, 100), st.integers(1, 10**9)),
    st.sampled_from([1, 1, 2]),
    st.booleans(),
    st.booleans(),
)
_CLIP = st.tuples(
    st.sampled_from([0.0, -1.0, 5.0, -1e30, 1e6]),
    st.one_of(st.floats(0.01, 100), st.sampled_from([1e-3, 1e30, 1e9])),
).map(lambda ends: (ends[0], min(max(ends[0] + ends[1], ends[0] + 1e-6 * abs(ends[0])), 1e30)))
_EVENTS = st.lists(st.one_of(st.integers(1, 3), st.integers(1, 10**6), st.integers(1, 2**26)), min_size=1, max_size=30)
_SHARES = st.one_of(st.sampled_from([Fraction(1), Fraction(-1)]), st.integers(-997, 997).map(lambda share: Fraction(share, 997)))
COLUMNS = ("v", "w", "x")


def vectors_of(bounds: UnitBounds, clip: tuple[float, float]) -> list[Vector]:
    """Every kind of vector over keys with these bounds."""
    low, high = clip
    largest = max(abs(low), abs(high))
    counts = CountVector(Values("v"), bounds)
    return [
        CountVector(Events(), bounds),
        CountVector(Events(), bounds, 1.0),
        CountVector(Events(), bounds, 2.0**28),
        counts,
        UnitVector(bounds),
        SumVector("v", low, high, bounds),
        SumVector("v", low, high, bounds, (-min(1.5 * largest, 1e30), largest)),
        SumVector("v", low, high, bounds, None, largest),
        SumVector("v", low, high, bounds, None, min(1e30, 1e3 * largest)),
        SumVector("v", low, high, bounds, (-largest, min(2 * largest, 1e30)), largest),
        CentredVector("v", low, high, counts),
        SquaresVector("v", low, high, counts),
        JointVector(COLUMNS, bounds, largest),
        JointVector(COLUMNS[:1], bounds, largest),
    ]


def rows_of(vector: Vector, units: Sequence[tuple[Sequence[int], Sequence[Fraction]]]) -> UnitRows:
    """Units with events per key, and with amounts that are such shares of the largest ones that the events allow.

    Of several columns, each takes the shares from another key on.
    """
    events = [count for unit in units for count in unit[0]]
    tallies: dict[Tally, Ints] = {}
    for number, tally in enumerate(vector.tallies):
        if isinstance(tally, Amounts | Squares):
            shares = [unit[1][(place + number) % len(unit[1])] for unit in units for place in range(len(unit[1]))]
            amounts = [int(share * count * tally.largest) for share, count in zip(shares, events, strict=True)]
            tallies[tally] = np.array(amounts, np.int64)
        else:
            tallies[tally] = np.array(events, np.int64)
    starts = np.cumsum([0] + [len(unit[0]) for unit in units])[:-1]
    return UnitRows(starts, tallies, len(events))


def power(steps: np.ndarray, order: int) -> int:
    """The sum of sizes to the power of the order, in exact integers."""
    return sum(abs(step) ** order for step in steps.ravel().tolist())


@_FEWER
@given(_BOUNDS, _CLIP, _EVENTS, st.data())
def test_n7_one_unit_stays_within_the_norm(
    bounds: UnitBounds, clip: tuple[float, float], events: list[int], data: st.DataObject
) -> None:
    """Any events, any values: of either order in exact integers, over keys and columns; the same among others as alone."""
    shares = data.draw(st.lists(_SHARES, min_size=len(events), max_size=len(events)))
    assert sum(events) <= MOST_EVENTS
    other = ([1, 2**26], [Fraction(1), Fraction(-1)])
    for vector in vectors_of(bounds, clip):
        assert vector.order == bounds.order
        assert 1 <= vector.norm <= 2**30, vector
        alone = vector.bounded(rows_of(vector, [(events, shares)]))
        assert alone.dtype == np.int64
        assert alone.shape[0] == len(events)
        assert alone.size == len(events) * vector.width
        assert power(alone, bounds.order) <= vector.norm**bounds.order, vector
        among = vector.bounded(rows_of(vector, [other, (events, shares), other]))
        assert among[2:-2].tolist() == alone.tolist()


@_FEWER
@given(
    _BOUNDS, st.lists(st.dictionaries(st.integers(0, 255), st.integers(1, 2**24), min_size=1, max_size=9), min_size=1, max_size=9)
)
def test_n7_one_unit_stays_within_the_norm_of_bins(bounds: UnitBounds, unit: list[dict[int, int]]) -> None:
    """Of all cells, and of a tree the nodes above as well."""
    cells = [(pair, leaf, events) for pair, key in enumerate(unit) for leaf, events in sorted(key.items())]
    pairs, leaves, events = (np.array(column, np.int64) for column in zip(*cells, strict=True))
    for kind in (BinVector, TreeVector):
        vector = kind(Ranges("v", tuple(map(float, range(257)))), bounds)
        sums = np.zeros((len(unit), 256), np.int64)
        sums[pairs, leaves] = vector.bounded(UnitCells(events, pairs, np.array([0])))
        assert (sums >= 0).all()
        assert power(vector.nodes(sums), bounds.order) <= vector.norm**bounds.order
        assert 1 <= vector.norm <= 2**30


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("each", [1, 10**5])
def test_b1_a_unit_in_10000_keys_uses_its_norm(order: int, down: bool, each: int) -> None:
    """Many keys, many events, all values at the clip's end: of each kind of vector nearly all of the norm, and no more."""
    bounds = UnitBounds(keys_per_unit=30, rows_per_key=5, order=order, down_weight=down)
    for vector in vectors_of(bounds, (0.0, 10.0)):
        if getattr(vector, "given", None) in (2.0**28, 1e4):
            continue  # more than the unit has
        bounded = vector.bounded(rows_of(vector, [([each] * 10_000, [Fraction(1)] * 10_000)]))
        assert 0.99**order * vector.norm**order < power(bounded, order) <= vector.norm**order, vector


def test_n5_a_joint_vector_of_the_most_events_does_not_wrap() -> None:
    """100 columns, each with 2^32 events at the clip: their sizes add up to more than int64 holds."""
    for order in (1, 2):
        columns = tuple(f"v{number}" for number in range(100))
        vector = JointVector(columns, UnitBounds(keys_per_unit=1, rows_per_key=1, order=order), 2.0**30 - 2)
        for share in (Fraction(1), Fraction(-1)):
            bounded = vector.bounded(rows_of(vector, [([MOST_EVENTS], [share])]))
            assert bounded.shape == (1, 100)
            assert len(set(bounded.ravel().tolist())) == 1
            assert 0.99**order * vector.norm**order < power(bounded, order) <= vector.norm**order


def test_a_joint_vector_is_scaled_as_one() -> None:
    """Over keys and columns together, all by the same factor: a column with little loses as much of it as one with much."""
    for order, factor in ((1, 10 / 28), (2, 10 / math.sqrt(36 + 16 + 144 + 36))):
        vector = JointVector(("v", "w"), UnitBounds(keys_per_unit=9, rows_per_key=9, order=order), 10.0)
        step = 1 << -vector.grid.exponent
        amounts = {vector.tallies[0]: np.array([6, -12]) * step, vector.tallies[1]: np.array([4, 6]) * step}
        bounded = vector.bounded(UnitRows(np.array([0]), amounts, 2))
        assert bounded / step == pytest.approx(np.array([[6, 4], [-12, 6]]) * factor, rel=1e-6)
        assert (0.999999 * vector.norm) ** order < power(bounded, order) <= vector.norm**order


def _within(bounds: UnitBounds, data: st.DataObject) -> list[int]:
    """The events per key of a unit within these bounds."""
    left = bounds.rows_per_unit or 10**10
    events = []
    for _ in range(data.draw(st.integers(1, min(bounds.keys_per_unit, 30)))):
        if left:
            events.append(
                data.draw(st.one_of(st.integers(1, min(left, bounds.rows_per_key)), st.just(min(left, bounds.rows_per_key))))
            )
            left -= events[-1]
    return events


@_FEWER
@given(_BOUNDS, _CLIP, st.data())
def test_a_unit_within_its_bounds_is_left_as_it_is(bounds: UnitBounds, clip: tuple[float, float], data: st.DataObject) -> None:
    """Whatever its values: what the analyst declares costs nothing, unless a norm or a clip of totals is given."""
    events = _within(bounds, data)
    shares = data.draw(st.lists(_SHARES, min_size=len(events), max_size=len(events)))
    for vector in vectors_of(bounds, clip):
        rows = rows_of(vector, [(events, shares)])
        bounded = vector.bounded(rows)
        if isinstance(vector, UnitVector):
            assert bounded.tolist() == [1 << -vector.grid.exponent] * len(events)
        elif isinstance(vector, CountVector):
            if vector.given is None:
                assert bounded.tolist() == [count << -vector.grid.exponent for count in events]
        elif getattr(vector, "given", None) is None and getattr(vector, "total", None) is None:
            assert bounded.tolist() == rows.tallies[vector.tallies[0]].tolist(), vector
    for kind in (BinVector, TreeVector):
        bins = kind(Ranges("v", tuple(map(float, range(257)))), bounds)
        cells = UnitCells(np.array(events), np.arange(len(events)), np.array([0]))
        assert bins.bounded(cells).tolist() == [count << -bins.grid.exponent for count in events]


@pytest.mark.parametrize("clip_total", [(-8.0, 3.0), (-100.0, 100.0), (-1e30, 1e30)])
@pytest.mark.parametrize("order", [1, 2])
def test_the_norm_of_clipped_totals_is_the_smaller_of_two(clip_total: tuple[float, float], order: int) -> None:
    """Of events at their clip, and of keys at the total's: what is within it is left, each total is clipped first."""
    bounds = UnitBounds(keys_per_unit=4, rows_per_key=3, order=order)
    vector = SumVector("v", -5.0, 2.0, bounds, clip_total)
    ends = max(map(abs, clip_total))
    exact = min((3 * 5) * 4 ** (1 / order), ends * 4 ** (1 / order))
    assert vector.norm * vector.grid.step == pytest.approx(exact, rel=1e-6)
    (tally,) = vector.tallies
    step = 1 / vector.grid.step
    sums = np.array([-7 * step, 2 * step, -500 * step, 0]).astype(np.int64)
    bounded = vector.bounded(UnitRows(np.array([0, 2]), {tally: sums}, 4)) / step
    low, high = clip_total
    assert bounded[:2] == pytest.approx(np.clip([-7, 2], low, high))
    assert bounded[2:] == pytest.approx([max(-500, low, -exact), 0])


@pytest.mark.parametrize("order", [1, 2])
def test_lighter_keys_have_as_many_events_as_allowed(order: int) -> None:
    """Each key's events and sums are cut to `rows_per_key` of them by their mean; fewer events stay as they are."""
    bounds = UnitBounds(keys_per_unit=1000, rows_per_key=4, order=order, down_weight=True)
    events = [3, 4, 5, 1000]
    vectors = vectors_of(bounds, (0.0, 10.0))
    for vector in (vectors[0], vectors[5], vectors[10]):
        rows = rows_of(vector, [(events, [Fraction(1)] * 4)])
        largest = vector.tallies[0].largest if not isinstance(vector, CountVector) else 1 << -vector.grid.exponent
        assert vector.bounded(rows).tolist() == [3 * largest, 4 * largest, 4 * largest, 4 * largest]


def test_n8_norms_fit_the_arithmetic_that_holds_them() -> None:
    """Norms of vectors and bins are in 1..2^30, from 2^28 steps on, for 3,000 random bounds and clips and the ends."""
    rng = np.random.default_rng(31)
    ends: list[Any] = [
        (keys, rows, most, high)
        for keys, rows in ((1, 1), (65_536, 4_096), (268, 10**6), (65_536, 1), (1, 10**6))
        for most in (None, 1, 10**9)
        for high in (1e-30, 1.0, math.nextafter(2.0, 0), 10.0, 1e30)
    ]
    drawn = np.exp(rng.uniform(0, [math.log(65_536), math.log(10**6), math.log(10**9)], (3000, 3))).astype(int).tolist()
    ends += [(min(keys, _MOST // rows), rows, most, rng.uniform(1, 2)) for keys, rows, most in drawn]
    wrong = []
    for keys, rows, most, high in ends:
        bounds = UnitBounds(keys_per_unit=keys, rows_per_key=rows, rows_per_unit=most, order=1)
        bins = [kind(Ranges("v", (0.0, 1.0)), bounds) for kind in (BinVector, TreeVector)]
        for vector in [*vectors_of(bounds, (0.0, float(high))), *bins]:
            if not 2**28 - 2**10 <= vector.norm <= 2**30:
                wrong.append((vector.norm / 2**30, vector))
    assert not wrong, f"{len(wrong)}; {max(wrong, key=str)}, {min(wrong, key=str)}"
