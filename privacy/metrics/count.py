"""Counts of events and of units."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from privacy.bounds import UnitBounds
from privacy.fields import Number
from privacy.metrics.base import Columns, Metric, NoisySums, Part, value_columns
from privacy.tallies import Events
from privacy.vectors import CountVector, UnitVector, Vector


class CountMetric(Metric):
    """How many events, or how many units, a key has."""

    kind: ClassVar[str] = "count"

    count: Literal["events", "units"]
    norm: Annotated[Number, Field(ge=1, le=2**28)] | None = Field(
        None, description="of one unit's events in all keys: their root of squares, or their sum with Laplace noise"
    )

    @property
    def limits_units(self) -> bool:
        return self.count == "units" or self.norm_is_given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.norm is not None and self.count == "units":
            raise ValueError("norm is given, but a unit counts at most 1 in a key; remove norm, or write count: events")
        return self

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        vector: Vector = UnitVector(bounds) if self.count == "units" else CountVector(Events(), bounds, self.norm)
        return (Part("", 1.0, vector),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        return value_columns(self.name, sums[0], integers=True)
