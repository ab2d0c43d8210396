"""What is added up per unit and key before any bound: integers that each event brings."""

from dataclasses import dataclass

import numpy as np

from privacy.grid import Floats, Grid, Ints

MOST_EVENTS = 2**32
"""More events than this are refused: up to it, no sum of what a grid allows can leave int64."""


@dataclass(frozen=True)
class Events:
    """Each event counts 1."""

    column: None = None


@dataclass(frozen=True)
class Values:
    """Each event that has a usable value in the column counts 1."""

    column: str


@dataclass(frozen=True)
class Amounts:
    """Each event brings its value: clipped, less `middle`, rounded to the grid. Unusable values bring 0."""

    column: str
    low: float
    high: float
    middle: float
    grid: Grid

    @property
    def largest(self) -> int:
        """The largest size of one event's amount, in steps."""
        ends = np.array([self.low - self.middle, self.high - self.middle])
        return int(np.abs(self.grid.to_steps(ends)).max())

    def steps(self, values: Floats, usable: np.ndarray) -> Ints:
        """float64 (n,) and bool (n,) to int64 (n,), each at most `largest` in size. NaN and infinities must be unusable.

        Source: docs/guarantee.md, "Bounded sums".
        """
        clipped = np.clip(np.where(usable, values, self.middle), self.low, self.high)
        return np.where(usable, self.grid.to_steps(clipped - self.middle), 0)


@dataclass(frozen=True)
class Squares:
    """Each event brings the square of its clipped value's distance from the middle of the clip, less half of the largest one.

    Rounded to the grid. Unusable values bring 0.
    """

    column: str
    low: float
    high: float
    grid: Grid

    @property
    def half(self) -> float:
        """Half of the largest square: what is taken off."""
        return (self.high / 2 - self.low / 2) ** 2 / 2

    @property
    def largest(self) -> int:
        """The largest size of one event's amount, in steps."""
        return int(self.grid.to_steps(np.array([self.half]))[0])

    def steps(self, values: Floats, usable: np.ndarray) -> Ints:
        """float64 (n,) and bool (n,) to int64 (n,), each at most `largest` in size. NaN and infinities must be unusable.

        Source: docs/guarantee.md, "Bounded sums".
        """
        middle = self.low / 2 + self.high / 2
        clipped = np.clip(np.where(usable, values, middle), self.low, self.high)
        squares = np.clip((clipped - middle) ** 2 - self.half, -self.half, self.half)
        return np.where(usable, self.grid.to_steps(squares), 0)


Tally = Events | Values | Amounts | Squares
