"""privacy/grid.py."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privacy.grid import Grid, grid_for, root_up
from tests.privacy.cases import CASES


@CASES
@given(st.floats(1e-37, 1e40))
def test_a_norm_has_2_to_the_29_steps_or_up_to_twice_as_many(norm: float) -> None:
    """Exactly, for every float norm, powers of two and their neighbours included."""
    for near in (norm, 2.0 ** round(math.log2(norm)), math.nextafter(2.0 ** round(math.log2(norm)), 0)):
        steps = Fraction(near) / Fraction(2) ** grid_for(near).exponent
        assert 2**29 <= steps < 2**30


@CASES
@given(st.floats(1e-37, 1e40), st.integers(0, 2**28 + 2))
def test_slack_is_left_below_2_to_the_30(norm: float, slack: int) -> None:
    """The norm and the slack together have at most 2^30 steps, and would have more on a grid twice as fine."""
    steps = Fraction(norm) / Fraction(2) ** grid_for(norm, float(slack)).exponent
    assert steps + slack <= 2**30 + Fraction(1, 2**20)
    assert 2 * steps + slack > 2**30 - Fraction(1, 2**20)


@CASES
@given(st.floats(-1e38, 1e38), st.integers(-130, 100))
def test_values_are_at_most_half_a_step_off(value: float, exponent: int) -> None:
    """Rounding to the grid, in exact rationals, for values of fewer than 2^62 steps."""
    step = Fraction(2) ** exponent
    if abs(Fraction(value)) >= 2**62 * step:
        return
    steps = int(Grid(exponent).to_steps(np.array([value]))[0])
    assert abs(steps - Fraction(value) / step) <= Fraction(1, 2)


@CASES
@given(st.integers(-(2**53), 2**53), st.integers(-200, 100))
def test_steps_below_2_to_the_53_become_values_exactly(steps: int, exponent: int) -> None:
    """There and back, without loss."""
    grid = Grid(exponent)
    value = grid.to_values(np.array([steps]))
    assert Fraction(float(value[0])) == steps * Fraction(grid.step)
    if abs(steps) < 2**53:
        assert int(grid.to_steps(value)[0]) == steps


@CASES
@given(st.integers(0, 2**140))
def test_root_up_is_the_smallest_root_that_is_enough(square: int) -> None:
    """The definition, in integers of any size."""
    for near in (square, square * square, square * square + 1, max(0, square * square - 1)):
        root = root_up(near)
        assert root * root >= near
        assert root == 0 or (root - 1) ** 2 < near
