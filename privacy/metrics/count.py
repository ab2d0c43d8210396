"""Counts of events and of units."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from privacy.metrics.base import Bounds, Columns, Metric, NoisySums, Part, value_columns
from privacy.tallies import Events
from privacy.vectors import CountVector, UnitVector, Vector


class CountMetric(Metric):
    """How many events, or how many units, a key has."""

    kind: ClassVar[str] = "count"

    count: Literal["events", "units"]

    def parts(self, bounds: Bounds) -> tuple[Part, ...]:
        vector: Vector
        if self.count == "units":
            vector = UnitVector(bounds.keys_per_unit)
        else:
            vector = CountVector(Events(), bounds.keys_per_unit, bounds.rows_per_key)
        return (Part("", 1.0, vector),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        return value_columns(self.name, sums[0], integers=True)
