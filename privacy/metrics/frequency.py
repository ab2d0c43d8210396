"""How many events a key has of each of some categories."""

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from privacy.bins import Categories
from privacy.bounds import UnitBounds
from privacy.fields import Column, Strict, Text
from privacy.metrics.base import Columns, Metric, NoisySums, Part, each_column
from privacy.metrics.histogram import MOST_BINS
from privacy.vectors import BinVector


def _ending(value: str) -> str:
    """What a column's name ends with for a value: Web Shop becomes web_shop."""
    return re.sub("[^a-z0-9]+", "_", value.lower()).strip("_")


class Frequency(Strict):
    """Categories of a column."""

    of: Column = Field(description="the column")
    values: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_BINS)] = Field(
        description="its values that are counted; all others are left out"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        taken: dict[str, str] = {}
        for number, value in enumerate(self.values):
            ending = _ending(value)
            if not ending:
                raise ValueError(f"values: {value!r} makes no name of a column; it needs a letter or digit of a to z, 0 to 9")
            other = taken.setdefault(ending, value)
            if len(taken) <= number:
                raise ValueError(f"values: {other!r} and {value!r} make the same column, .._{ending}; list one of them")
        return self


class FrequencyMetric(Metric):
    """How many events a key has of each of some categories."""

    kind: ClassVar[str] = "frequency"

    frequency: Frequency

    @property
    def categories(self) -> Categories:
        return Categories(self.frequency.of, self.frequency.values)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{_ending(value)}" for value in self.frequency.values)

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        return (Part("", 1.0, BinVector(self.categories, bounds)),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        return each_column(self.names, sums[0], integers=True)
