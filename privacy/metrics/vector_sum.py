"""The sums of several columns, with one norm for all of them."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from privacy.bounds import UnitBounds
from privacy.fields import Column, Number
from privacy.metrics.base import Columns, Metric, NoisySums, Part, each_column
from privacy.vectors import JointVector


class VectorSumMetric(Metric):
    """The sums of several columns. Units whose values make a long vector are scaled down, all columns alike."""

    kind: ClassVar[str] = "vector_sum"

    vector_sum: Annotated[tuple[Column, ...], Field(min_length=1, max_length=100)] = Field(description="the columns")
    norm: Annotated[Number, Field(ge=1e-30, le=1e30, allow_inf_nan=False)] = Field(
        description="of one unit's sums in all keys and columns: their root of squares, or their sizes' sum with Laplace noise"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.vector_sum)) < len(self.vector_sum):
            raise ValueError(f"vector_sum {list(self.vector_sum)} repeats a column; name each once")
        return self

    @property
    def value_names(self) -> tuple[str, ...]:
        return self.vector_sum

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{column}" for column in self.vector_sum)

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        return (Part("", 1.0, JointVector(self.vector_sum, bounds, self.norm)),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        return each_column(self.names, sums[0], integers=integers)
