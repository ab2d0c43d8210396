"""The sum of a column."""

from collections.abc import Sequence
from typing import ClassVar

from privacy.metrics.base import Bounds, Clip, Column, Columns, Metric, NoisySums, Part, value_columns
from privacy.vectors import SumVector


class SumMetric(Metric):
    """The sum of a column's clipped values."""

    kind: ClassVar[str] = "sum"

    sum: Column
    clip: Clip

    @property
    def column(self) -> str:
        return self.sum

    def parts(self, bounds: Bounds) -> tuple[Part, ...]:
        low, high = self.clip
        return (Part("", 1.0, SumVector(self.sum, low, high, bounds.keys_per_unit, bounds.rows_per_key)),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        return value_columns(self.name, sums[0], integers=integers)
