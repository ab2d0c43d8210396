"""privacy/tallies.py: what one event brings."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.grid import grid_for
from privacy.metrics.base import Metric
from privacy.metrics.mean import MeanMetric
from privacy.metrics.sum import SumMetric
from privacy.metrics.variance import VarianceMetric
from privacy.tallies import MOST_EVENTS, Amounts, Squares
from tests.privacy.cases import CASES
from tests.privacy.plans import unit_bounds

AMOUNTS = Amounts("v", -2.0, 6.0, 2.0, grid_for(4.0))
SQUARES = Squares("v", -2.0, 6.0, grid_for(8.0))


def _one(amounts: Amounts, value: float) -> int:
    return int(amounts.steps(np.array([value]), np.array([True]))[0])


def test_n6_whatever_a_value_is_its_effect_is_bounded() -> None:
    """1e308, the ends of the types and beyond the clip end at the clip; what is unusable brings 0, whatever it holds."""
    top = AMOUNTS.largest
    assert top == 4 << -AMOUNTS.grid.exponent
    wild = np.array([1e308, -1e308, 2.0**63, -(2.0**63), np.finfo(float).max, 5e-324, -0.0, 6.0, -2.0, 2.0])
    steps = AMOUNTS.steps(wild, np.ones(len(wild), np.bool_)).tolist()
    middle = -top // 2
    assert steps == [top, -top, top, -top, top, middle, middle, top, -top, 0]
    unusable = np.array([np.nan, np.inf, -np.inf, 1e308, 5.0])
    assert AMOUNTS.steps(unusable, np.zeros(5, np.bool_)).tolist() == [0] * 5
    mixed = AMOUNTS.steps(np.array([np.nan, 3.0, np.inf]), np.array([False, True, False]))
    assert mixed.dtype == np.int64
    assert mixed.tolist() == [0, top // 4, 0]


def test_n6_whatever_a_value_is_its_square_is_bounded() -> None:
    """The clip's ends and all beyond bring the largest amount, the middle its negative; what is unusable brings 0."""
    top = SQUARES.largest
    assert top == 8 << -SQUARES.grid.exponent
    assert SQUARES.half == 8.0
    wild = np.array([1e308, -1e308, 2.0**63, -(2.0**63), np.finfo(float).max, 6.0, -2.0, 2.0, 4.0, 0.0, 5e-324, -0.0, 3.0])
    steps = SQUARES.steps(wild, np.ones(len(wild), np.bool_)).tolist()
    assert steps == [top] * 7 + [-top] + [-top // 2] * 4 + [-top * 7 // 8]
    unusable = np.array([np.nan, np.inf, -np.inf, 1e308, 5.0])
    assert SQUARES.steps(unusable, np.zeros(5, np.bool_)).tolist() == [0] * 5
    mixed = SQUARES.steps(np.array([np.nan, 6.0, np.inf, 2.0]), np.array([False, True, False, True]))
    assert mixed.dtype == np.int64
    assert mixed.tolist() == [0, top, 0, -top]


_ENDS = st.one_of(st.floats(-1e30, 1e30), st.floats(-1e-28, 1e-28), st.sampled_from([0.0, 1e30, -1e30, 0.01, 1e-30]))


def _clip_of(ends: tuple[float, float]) -> tuple[float, float] | None:
    """The ends in order, if a config may have them as a clip."""
    low, high = sorted(ends)
    if high - low < 1e-30 or high - low < 1e-9 * max(abs(low), abs(high)):
        return None
    return low, high


@CASES
@given(st.tuples(_ENDS, _ENDS), st.integers(1, 65_536), st.integers(1, 10**6), st.lists(st.floats(-1e31, 1e31), max_size=20))
def test_an_event_is_half_a_step_off_at_most_and_within_the_largest(
    ends: tuple[float, float], keys: int, rows: int, values: list[float]
) -> None:
    """For every clip and bound of the config: exact rationals of the clipped value less the middle, in steps."""
    clip = _clip_of(ends)
    if clip is None:
        return
    low, high = clip
    bounds = unit_bounds(keys, rows)
    for metric in (SumMetric(name="m", sum="v", clip=clip), MeanMetric(name="m", mean="v", clip=clip)):
        for tally in metric.parts(bounds)[0].vector.tallies[:1]:
            assert isinstance(tally, Amounts)
            inside = [low, high, low / 2 + high / 2]
            steps = tally.steps(np.array(values + inside), np.ones(len(values) + 3, np.bool_)).tolist()
            for value, got in zip(values + inside, steps, strict=True):
                wanted = Fraction(min(max(value, low), high)) - Fraction(tally.middle)
                # One float subtraction precedes the rounding to the grid.
                slack = abs(wanted) / 2**52
                assert abs(got * Fraction(tally.grid.step) - wanted) <= Fraction(tally.grid.step) / 2 + slack
                assert abs(got) <= tally.largest


@CASES
@given(st.tuples(_ENDS, _ENDS), st.integers(1, 65_536), st.integers(1, 10**6), st.lists(st.floats(-1e31, 1e31), max_size=20))
def test_a_square_is_half_a_step_off_at_most_and_within_the_largest(
    ends: tuple[float, float], keys: int, rows: int, values: list[float]
) -> None:
    """For every clip and bound of the config: exact rationals of the squared distance from the middle less half, in steps."""
    clip = _clip_of(ends)
    if clip is None:
        return
    low, high = clip
    bounds = unit_bounds(keys, rows)
    (tally, _) = VarianceMetric(name="m", variance="v", clip=clip).parts(bounds)[0].vector.tallies
    assert isinstance(tally, Squares)
    step = Fraction(tally.grid.step)
    middle, reach = Fraction(low / 2 + high / 2), (Fraction(high) - Fraction(low)) / 2
    # The middle is a float: it is off by what a float holds of it, and with it every distance.
    off = Fraction(max(abs(low), abs(high))) / 2**52
    inside = [low, high, low / 2 + high / 2, low / 4 + high * 0.75]
    steps = tally.steps(np.array(values + inside), np.ones(len(values) + 4, np.bool_)).tolist()
    for value, got in zip(values + inside, steps, strict=True):
        wanted = (Fraction(min(max(value, low), high)) - middle) ** 2 - reach**2 / 2
        assert abs(got * step - wanted) <= step / 2 + 3 * reach * off + reach**2 / 2**50
        assert abs(got) <= tally.largest
    assert steps[-4:-1] == pytest.approx(
        [tally.largest, tally.largest, -tally.largest], rel=0, abs=float(1 + 3 * reach * off / step)
    )


def _metrics(clip: tuple[float, float]) -> tuple[Metric, ...]:
    """One of each kind that sums values."""
    return (
        SumMetric(name="m", sum="v", clip=clip),
        MeanMetric(name="m", mean="v", clip=clip),
        VarianceMetric(name="m", variance="v", clip=clip),
    )


def test_n5_no_sum_of_events_leaves_int64() -> None:
    """As many events as a run may read, each as large as a grid allows."""
    worst = 0
    for clip in [(0.0, 1.0), (0.0, math.nextafter(1.0, 0)), (-1e30, 1e30), (0.0, 1e-30), (-1.0, 0.0), (1e6, 1e6 + 0.001)]:
        for metric in _metrics(clip):
            vector = metric.parts(unit_bounds(1, 1))[0].vector
            worst = max(worst, *(tally.largest for tally in vector.tallies if isinstance(tally, Amounts | Squares)))
    assert 2**29 < worst <= 2**30
    assert MOST_EVENTS * worst <= 2**62
    sums = np.full(4, worst * (MOST_EVENTS // 4), np.int64)
    assert int(np.add.reduceat(sums, np.array([0]))[0]) == worst * MOST_EVENTS


@pytest.mark.parametrize("clip", [(-1e30, 1e30), (0.0, 1e-30), (0.99999e30, 1e30), (-1e-30, 0.0), (0.0, 10.0)])
def test_the_ends_of_the_config_give_finite_grids(clip: tuple[float, float]) -> None:
    """No overflow and no exception for the smallest and largest clips and bounds; an end of the clip is not 0 steps."""
    for keys in (1, 65_536):
        for rows in (1, 10**6):
            bounds = unit_bounds(keys, rows)
            for metric in _metrics(clip):
                for part in metric.parts(bounds):
                    assert 0 < part.vector.grid.step < math.inf
                    assert 2**28 <= part.vector.norm <= 2**30
                    assert all(tally.largest > 0 for tally in part.vector.tallies if isinstance(tally, Amounts | Squares))
