"""How many events a key has in each range of a column's values."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, Field

from privacy.bins import Ranges
from privacy.bounds import UnitBounds
from privacy.fields import Column, End, Strict
from privacy.metrics.base import Columns, Metric, NoisySums, Part, each_column
from privacy.vectors import BinVector

MOST_BINS = 100


def _check_bins(bins: tuple[float, ...]) -> tuple[float, ...]:
    if not np.isfinite(bins).all():
        raise ValueError(f"{list(bins)} are not all finite; values outside are in the bins at the ends, so write the inner ones")
    if not 2 <= len(bins) <= MOST_BINS + 1:
        raise ValueError(f"{len(bins)} edges make {'no bins' if len(bins) < 2 else 'too many bins'}; write 2 to {MOST_BINS + 1}")
    if any(left >= right for left, right in pairwise(bins)):
        raise ValueError(f"{list(bins)} do not ascend; write each edge once, from low to high")
    return bins


class Histogram(Strict):
    """Ranges of a column's values."""

    of: Column = Field(description="the column")
    bins: Annotated[tuple[End, ...], AfterValidator(_check_bins)] = Field(
        description="edges: [0, 5, 9] counts from 0 to below 5 and from 5 on; values outside are in the bins at the ends"
    )


class HistogramMetric(Metric):
    """How many events a key has in each range of a column's values."""

    kind: ClassVar[str] = "histogram"

    histogram: Histogram

    @property
    def column(self) -> str:
        return self.histogram.of

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{number}" for number in range(1, len(self.histogram.bins)))

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        ranges = Ranges(self.histogram.of, self.histogram.bins)
        return (Part("", 1.0, BinVector(ranges, bounds)),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        return each_column(self.names, sums[0], integers=True)
