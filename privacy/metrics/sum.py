"""The sum of a column."""

import math
from collections.abc import Sequence, Set
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from privacy.bounds import UnitBounds
from privacy.fields import Clip, Column, Number
from privacy.intervals import COVERAGE
from privacy.metrics.base import Columns, Metric, NoisySums, Part, interval_columns, value_columns
from privacy.tallies import Values
from privacy.vectors import BinVector, CentredVector, CountVector, SumVector, Vector


class SumMetric(Metric):
    """The sum of a column's clipped values."""

    kind: ClassVar[str] = "sum"

    sum: Column
    clip: Clip
    clip_total: Clip | None = Field(None, description="of one unit's sum in a key, after all of its events were added up")
    norm: Annotated[Number, Field(gt=0, le=1e30, allow_inf_nan=False)] | None = Field(
        None, description="of one unit's sums in all keys: their root of squares, or their sizes' sum with Laplace noise"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        largest = max(map(abs, self.clip))
        if self.clip_total is not None and not self.clip_total[0] <= 0 <= self.clip_total[1]:
            raise ValueError(
                f"clip_total [{self.clip_total[0]:g}, {self.clip_total[1]:g}] leaves out 0, which a unit without such events "
                f"brings; widen it"
            )
        for name, most in (("clip_total", max(map(abs, self.clip_total or self.clip))), ("norm", self.norm or largest)):
            if most < largest:
                raise ValueError(
                    f"{name} allows {most:g}, but clip lets one event bring {largest:g}; widen {name}, or narrow clip"
                )
        return self

    @property
    def column(self) -> str:
        return self.sum

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        low, high = self.clip
        return (Part("", 1.0, SumVector(self.sum, low, high, bounds, self.clip_total, self.norm)),)

    def shared_parts(self, bounds: UnitBounds, vectors: Set[Vector | BinVector]) -> tuple[Part, ...] | None:
        """The two vectors of a mean of the same clip: with Gaussian noise, they are as good as its own, drawn for it alone."""
        counts = CountVector(Values(self.sum), bounds)
        centred = CentredVector(self.sum, *self.clip, counts)
        if bounds.order == 1 or self.clip_total or self.norm or not {counts, centred} <= vectors:
            return None
        part = abs(centred.middle) / max(map(abs, self.clip))
        parts = Part("sum", 1 - part, centred), Part("count", part, counts)
        return parts if centred.middle else parts[:1]

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        if len(sums) == 1:
            return value_columns(self.name, sums[0], integers=integers)
        centred, counts = sums
        middle = self.clip[0] / 2 + self.clip[1] / 2
        values = centred.values + middle * counts.values
        reach = math.hypot(centred.deviation, middle * counts.deviation) * counts.noise.combined_reach(COVERAGE)
        return interval_columns(self.name, values, values - reach, values + reach, integers=integers)
