"""The grid: every number that noise is added to is an integer count of steps of one power of two."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST_NORM = 2**29
"""A stage's norm is at least this many steps, and less than twice as many plus one."""


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

    def to_values(self, steps: Ints) -> Floats:
        """int64 (n,) to float64 (n,); exact below 2^53 steps."""
        return np.ldexp(steps.astype(np.float64), self.exponent)


def grid_for(norm: float) -> Grid:
    """The grid on which this norm, above 0 and finite, has between 2^29 and 2^30 steps.

    >>> grid_for(1.0), grid_for(150.0)
    (Grid(exponent=-29), Grid(exponent=-22))
    """
    return Grid(math.frexp(norm)[1] - LEAST_NORM.bit_length())


def root_up(square: int) -> int:
    """The smallest integer whose square is at least `square`.

    >>> root_up(16), root_up(17)
    (4, 5)
    """
    root = math.isqrt(square)
    return root + (root * root < square)
