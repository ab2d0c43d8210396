"""privacy/vectors.py: whatever one unit brings, it adds no more than the declared norm to each stage."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.tallies import MOST_EVENTS, Amounts, Events, Squares, Values
from privacy.vectors import CentredVector, CountVector, SquaresVector, SumVector, UnitRows, UnitVector, Vector
from tests.privacy.cases import CASES
from tests.privacy.plans import unit_bounds

_BOUNDS = st.tuples(
    st.one_of(st.integers(1, 40), st.integers(1, 65_536), st.just(65_536)),
    st.one_of(st.integers(1, 10), st.integers(1, 10**6), st.just(10**6)),
)
_CLIP = st.tuples(
    st.sampled_from([0.0, -1.0, 5.0, -1e30, 1e6]),
    st.one_of(st.floats(0.01, 100), st.sampled_from([1e-3, 1e30, 1e9])),
)
_EVENTS = st.lists(st.one_of(st.integers(1, 3), st.integers(1, 10**6), st.integers(1, 2**27)), min_size=1, max_size=30)

_SHARES = st.one_of(st.sampled_from([Fraction(1), Fraction(-1)]), st.integers(-997, 997).map(lambda share: Fraction(share, 997)))


def _vectors(bounds: tuple[int, int], clip: tuple[float, float]) -> list[Vector]:
    """Every kind of vector with these bounds, (keys, rows) and (low, width)."""
    within = unit_bounds(*bounds)
    low, high = clip[0], clip[0] + clip[1]
    counts = CountVector(Values("v"), within)
    return [
        CountVector(Events(), within),
        counts,
        UnitVector(within),
        SumVector("v", low, high, within),
        CentredVector("v", low, high, counts),
        SquaresVector("v", low, high, counts),
    ]


def _rows(vector: Vector, units: Sequence[tuple[Sequence[int], Sequence[Fraction]]]) -> UnitRows:
    """Units with events per key, and with amounts that are such shares of the largest ones that the events allow."""
    events = np.array([count for unit in units for count in unit[0]], np.int64)
    shares = [share for unit in units for share in unit[1]]
    tallies = {}
    for tally in vector.tallies:
        if isinstance(tally, Amounts | Squares):
            tallies[tally] = np.array([int(s * int(n) * tally.largest) for s, n in zip(shares, events, strict=True)], np.int64)
        else:
            tallies[tally] = events
    starts = np.cumsum([0] + [len(unit[0]) for unit in units])[:-1]
    return UnitRows(starts, tallies, len(events))


def _square(steps: np.ndarray) -> int:
    return sum(step * step for step in steps.tolist())


@CASES
@given(_BOUNDS, _CLIP, _EVENTS, st.data())
def test_n7_one_unit_stays_within_the_norm(
    bounds: tuple[int, int], clip: tuple[float, float], events: list[int], data: st.DataObject
) -> None:
    """Any events, any values: the sum of squares in exact integers, and the same result among other units as alone."""
    shares = data.draw(
        st.lists(
            _SHARES,
            min_size=len(events),
            max_size=len(events),
        )
    )
    assert sum(events) <= MOST_EVENTS
    other = ([1, 2**26], [Fraction(1), Fraction(-1)])
    for vector in _vectors(bounds, clip):
        alone = vector.bounded(_rows(vector, [(events, shares)]))
        assert alone.dtype == np.int64
        assert len(alone) == len(events)
        assert _square(alone) <= vector.norm**2
        among = vector.bounded(_rows(vector, [other, (events, shares), other]))
        assert among[2:-2].tolist() == alone.tolist()


@pytest.mark.parametrize("each", [1, 10**6, 2**32 // 10_000])
def test_n7_b1_a_unit_in_10000_keys_stays_within_the_norm(each: int) -> None:
    """Many keys, many events, all values at the clip's end; and nearly all of the norm is used."""
    for vector in _vectors((30, 5), (0.0, 10.0)):
        bounded = vector.bounded(_rows(vector, [([each] * 10_000, [Fraction(1)] * 10_000)]))
        assert (0.99 * vector.norm) ** 2 < _square(bounded) <= vector.norm**2


def test_n7_most_events_in_one_key() -> None:
    """A unit with every event that a run may read, in one key, at the widest grid: no wrap."""
    for vector in _vectors((1, 1), (0.0, 1.0)):
        for share in (Fraction(1), Fraction(-1)):
            bounded = vector.bounded(_rows(vector, [([MOST_EVENTS], [share])]))
            assert _square(bounded) <= vector.norm**2
            assert abs(int(bounded[0])) >= 0.99 * vector.norm


@CASES
@given(_BOUNDS, _CLIP, st.data())
def test_a_unit_within_its_bounds_is_left_as_it_is(
    bounds: tuple[int, int], clip: tuple[float, float], data: st.DataObject
) -> None:
    """k keys with r events each, whatever their values: what the analyst declares costs nothing."""
    keys, rows = bounds
    counts = data.draw(st.lists(st.integers(1, rows), min_size=1, max_size=min(keys, 30)))
    shares = data.draw(st.lists(_SHARES, min_size=len(counts), max_size=len(counts)))
    for vector in _vectors(bounds, clip):
        given_rows = _rows(vector, [(counts, shares)])
        bounded = vector.bounded(given_rows)
        if isinstance(vector, UnitVector):
            assert bounded.tolist() == [1 << -vector.grid.exponent] * len(counts)
        elif isinstance(vector, CountVector):
            assert bounded.tolist() == [count << -vector.grid.exponent for count in counts]
        else:
            assert bounded.tolist() == given_rows.tallies[vector.tallies[0]].tolist()


def test_n8_norms_fit_the_arithmetic_that_holds_them() -> None:
    """Norms are in 1..2^30, which `limit_norms` and sums by key rely on, for all bounds and clips of a config.

    10,000 random ones and the ends; from 2^29 steps on, less what rounding the clip's end to whole steps takes.
    """
    rng = np.random.default_rng(30)
    ends = [(k, r, c) for k in (1, 65_536) for r in (1, 10**6) for c in (1e-30, 1.0, math.nextafter(2.0, 0), 10.0, 1e30)]
    drawn = [(*np.exp(rng.uniform(0, [math.log(65_536), math.log(10**6)])).astype(int), rng.uniform(1, 2)) for _ in range(10_000)]
    wrong = []
    for keys, rows, high in [*ends, *drawn]:
        for vector in _vectors((int(keys), int(rows)), (0.0, float(high))):
            if not 2**28 <= vector.norm <= 2**30 or (rows * math.sqrt(keys) < 2**10 and vector.norm < 2**29 - 2**10):
                wrong.append((vector.norm / 2**30, vector))
    assert not wrong, f"{len(wrong)}; the largest and the smallest in parts of 2^30: {max(wrong, key=str)}, {min(wrong, key=str)}"


@pytest.mark.parametrize("high", [1.0, 1.126, 1.5, 1.99])
def test_n8_vectors_that_are_just_too_long_are_shortened(high: float) -> None:
    """The widest bounds, where the clip's end is a few steps: a unit with two keys, by one event more than the norm allows."""
    vector = SumVector("v", 0.0, high, unit_bounds(65_536, 900_000))
    (tally,) = vector.tallies
    assert isinstance(tally, Amounts)
    for part in (1.0, 0.999, 0.9, 0.75):
        first = int(part * (vector.norm // tally.largest))
        second = math.isqrt(vector.norm**2 - (first * tally.largest) ** 2) // tally.largest + 1
        rows = _rows(vector, [([first, second], [Fraction(1), Fraction(1)])])
        assert _square(rows.tallies[tally]) > vector.norm**2
        assert _square(vector.bounded(rows)) <= vector.norm**2


@CASES
@given(
    st.lists(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=9), min_size=1, max_size=9),
    st.sampled_from([(-1.0, 1.0), (0.0, 10.0), (0.1, 9.7), (-1e30, 1e30), (0.0, 1e-30)]),
    st.tuples(st.integers(1, 3), st.integers(1, 5)),
)
def test_squares_of_real_events(keys: list[list[float]], clip: tuple[float, float], bounds: tuple[int, int]) -> None:
    """Of values around the clip: within the bounds their exact sum to the step, beyond them in proportion to the count."""
    low, high = clip
    counts = CountVector(Values("v"), unit_bounds(*bounds))
    vector = SquaresVector("v", low, high, counts)
    (tally, events) = vector.tallies
    assert isinstance(tally, Squares)
    values = [np.array(key) * (high / 2 - low / 2) + (low / 2 + high / 2) for key in keys]
    sums = [int(tally.steps(value, np.ones(len(value), np.bool_)).sum()) for value in values]
    sizes = np.array([len(key) for key in keys])
    rows = UnitRows(np.zeros(1, np.int64), {tally: np.array(sums), events: sizes}, len(keys))
    kept = counts.bounded(rows).tolist()
    one = 1 << -counts.grid.exponent
    for found, exact, size, counted in zip(vector.bounded(rows).tolist(), sums, sizes.tolist(), kept, strict=True):
        if counted == size * one:
            assert found == exact
        else:
            wanted = Fraction(exact, size) * Fraction(counted, one)
            assert abs(wanted) - size - 1 <= abs(found) <= abs(wanted)
            assert found * exact >= 0
    assert _square(vector.bounded(rows)) <= vector.norm**2


def test_nobody_and_nothing() -> None:
    """No units at all."""
    for vector in _vectors((30, 5), (0.0, 10.0)):
        assert vector.bounded(_rows(vector, [])).shape == (0,)


def test_keys_of_unit() -> None:
    """How many rows the unit of each row has."""
    assert UnitRows(np.array([0, 2, 3]), {}, 7).keys_of_unit().tolist() == [2, 2, 1, 4, 4, 4, 4]
    assert UnitRows(np.zeros(0, np.int64), {}, 0).keys_of_unit().tolist() == []


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("total", "given"), [((-1e11, 1e11), None), ((0.0, 1e11), 1.0), ((0.0, 1e30), None), ((-1e30, 0.0), 5.0)]
)
def test_n5_a_clip_of_totals_far_beyond_the_norm_clips_nothing(
    order: int, total: tuple[float, float], given: float | None
) -> None:
    """Its ends have more steps than int64 holds: sums stay what they are, and the norm holds."""
    vector = SumVector("v", 0.0, 1.0, unit_bounds(1, 1, order), total, given)
    one = int(vector.grid.to_steps(np.array([1.0]))[0])
    assert 1 <= vector.norm <= 2**30
    for size in (one, 3 * one, 2**62):
        rows = UnitRows(np.array([0]), {vector.tallies[0]: np.array([size])}, 1)
        expected = min(size, vector.norm) if total[1] else 0
        assert abs(int(vector.bounded(rows)[0]) - expected) <= 1
