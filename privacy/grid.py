"""The grid: every number that noise is added to is an integer count of steps of one power of two."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_STEPS = 2**30
"""A stage's norm is at most this many steps."""


@dataclass(frozen=True)
class Grid:
    """Steps of 2**exponent."""

    exponent: int

    @property
    def step(self) -> float:
        return math.ldexp(1.0, self.exponent)

    def to_steps(self, values: Floats) -> Ints:
        """Rounds finite values of fewer than 2^62 steps to the nearest step. float64 (n,) to int64 (n,)."""
        return np.rint(np.ldexp(values, -self.exponent)).astype(np.int64)

    def up(self, value: float) -> int:
        """The fewest whole steps that are at least this value."""
        return math.ceil(Fraction(value) / Fraction(self.step))

    def to_values(self, steps: Ints) -> Floats:
        """int64 (n,) to float64 (n,); exact below 2^53 steps."""
        return np.ldexp(steps.astype(np.float64), self.exponent)


def grid_for(norm: float, slack: float = 0.0) -> Grid:
    """The finest grid on which this norm, above 0 and finite, has at most 2^30 steps less `slack`.

    Args:
        slack: how many steps rounding may add to the norm.

    >>> grid_for(1.0), grid_for(150.0)
    (Grid(exponent=-29), Grid(exponent=-22))
    """
    exponent = math.frexp(norm)[1] - 30
    return Grid(exponent + (math.ldexp(norm, -exponent) + slack > MOST_STEPS))


def root_up(square: int) -> int:
    """The smallest integer whose square is at least `square`.

    >>> root_up(16), root_up(17)
    (4, 5)
    """
    root = math.isqrt(square)
    return root + (root * root < square)
