"""The variance of a column, and its root."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from privacy.bounds import UnitBounds
from privacy.fields import Clip, Column
from privacy.grid import Floats
from privacy.intervals import COVERAGE
from privacy.metrics.base import Columns, Metric, NoisySums, Part, mean_interval
from privacy.tallies import Values
from privacy.vectors import CentredVector, CountVector, SquaresVector

_BOTH = (1 + COVERAGE) / 2
"""Two intervals of it hold both at once with at least 95%."""


class _Spread(Metric):
    """What follows from the mean of the squares and the square of the mean, both around the middle of the clip."""

    clip: Clip

    @property
    def reach(self) -> float:
        """Half of the clip's width."""
        return self.clip[1] / 2 - self.clip[0] / 2

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        assert self.column is not None
        counts = CountVector(Values(self.column), bounds)
        return (
            Part("squares", 0.4, SquaresVector(self.column, *self.clip, counts)),
            Part("sum", 0.4, CentredVector(self.column, *self.clip, counts)),
            Part("count", 0.2, counts),
        )

    def variances(self, sums: Sequence[NoisySums]) -> tuple[Floats, Floats, Floats]:
        """The variance, and both ends of an interval that holds it in at least 95% of draws. float64 (n,) each.

        Each of the two means is in its interval in 97.5% of draws, so both are in at least 95%.
        """
        squares, amounts, counts = sums
        largest = self.reach**2
        positive = counts.values > 0
        divisor = np.where(positive, counts.values, 1.0)
        mean = np.clip(np.where(positive, amounts.values / divisor, 0.0), -self.reach, self.reach)
        square = np.where(positive, squares.values / divisor, 0.0) + largest / 2
        value = np.clip(np.clip(square, 0, largest) - mean**2, 0, largest)
        lowest, highest = (end + largest / 2 for end in mean_interval(squares, counts, largest / 2, _BOTH))
        left, right = mean_interval(amounts, counts, self.reach, _BOTH)
        nearest = np.where((left < 0) & (right > 0), 0.0, np.minimum(left**2, right**2))
        low = np.clip(lowest - np.maximum(left**2, right**2), 0, largest)
        high = np.clip(highest - nearest, 0, largest)
        return value, np.minimum(low, value), np.maximum(high, value)


class VarianceMetric(_Spread):
    """The variance of a column's clipped values: the mean squared distance from their mean."""

    kind: ClassVar[str] = "variance"

    variance: Column

    @property
    def column(self) -> str:
        return self.variance

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        value, low, high = self.variances(sums)
        return {self.name: value, f"{self.name}_low": low, f"{self.name}_high": high}


class StddevMetric(_Spread):
    """The standard deviation of a column's clipped values: the root of their variance."""

    kind: ClassVar[str] = "stddev"

    stddev: Column

    @property
    def column(self) -> str:
        return self.stddev

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        value, low, high = map(np.sqrt, self.variances(sums))
        return {self.name: value, f"{self.name}_low": low, f"{self.name}_high": high}
