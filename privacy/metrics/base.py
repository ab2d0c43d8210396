"""What a metric is: the vectors it needs, and how their noisy sums become published columns."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from privacy.bins import Categories
from privacy.grid import Floats, Grid, Ints
from privacy.intervals import sum_interval
from privacy.vectors import BinVector, Vector

_LONGEST_NAME = 100
NAME_RULE = "must start with a letter and hold only lower-case letters, digits and _"


def _check_name(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"{name[:20]!r}... has {len(name)} letters; write at most {_LONGEST_NAME}")
    if not name.isascii() or not name[:1].isalpha() or name != name.lower() or not name.replace("_", "a").isalnum():
        raise ValueError(f"{name!r} {NAME_RULE}; write for example 'monthly_sales'")
    return name


def _check_clip(clip: tuple[float, float]) -> tuple[float, float]:
    low, high = clip
    shown = f"[{low:g}, {high:g}]"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{shown} is not finite; write the smallest and largest sensible value")
    if low > high:
        raise ValueError(f"{shown} is reversed; write [low, high]")
    if low == high:
        raise ValueError(f"{shown} is empty; low must be below high")
    if max(abs(low), abs(high)) > 1e30 or high - low < 1e-30 or high - low < 1e-9 * max(abs(low), abs(high)):
        raise ValueError(f"{shown} is too large or too narrow; its ends must be within +-1e30 and apart from each other")
    return clip


def _check_number(value: object) -> object:
    if isinstance(value, str) and _NOT_FINITE.fullmatch(value):
        raise ValueError(f"{value!r} is not finite; write a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is no number; write a number, such as 0.5 or 1.0e-6")
    return value


def _check_end(value: object) -> object:
    # Ends that are not finite are told by _check_clip, which shows both.
    return value if isinstance(value, str) and _NOT_FINITE.fullmatch(value) else _check_number(value)


def _check_whole(value: object) -> object:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError(f"{value!r} is no whole number; write a whole number")
    return value


OPEN = "?"
"""What a first config has in place of a column that only its user can name."""


def _check_answered(column: str) -> str:
    if column == OPEN:
        raise ValueError(f"{OPEN!r} is a question that is open; write the name of a column")
    return column


_NOT_FINITE = re.compile(r"[-+]?\.?(inf|nan|infinity)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]+")

Number = Annotated[float, BeforeValidator(_check_number)]
Name = Annotated[str, AfterValidator(_check_name)]
Share = Annotated[Number, Field(gt=0, le=1e6, ge=1e-6, allow_inf_nan=False)]
Text = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""One value, as it is written: the config's reader makes text of everything."""
End = Annotated[float, BeforeValidator(_check_end)]
Clip = Annotated[tuple[End, End], AfterValidator(_check_clip)]
Column = Annotated[str, Field(min_length=1), AfterValidator(_check_answered)]
Count = Annotated[int, BeforeValidator(_check_whole), Field(ge=1)]


class Strict(BaseModel):
    """A part of the config: unknown keys are errors, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Bounds(Strict):
    """How much one unit may add to a release."""

    keys_per_unit: Annotated[Count, Field(le=2**16)] = Field(description="keys in which one unit counts in full")
    rows_per_key: Annotated[Count, Field(le=10**6)] = Field(description="events of one unit that count in full in each key")


@dataclass(frozen=True)
class NoisySums:
    """What noise left of a vector, per published key: steps of the grid, and the noise's standard deviation in steps.

    Attributes:
        steps: int64, shape (n,), of a `BinVector` (n, bins).
    """

    steps: Ints
    grid: Grid
    scale: float

    @property
    def values(self) -> Floats:
        return self.grid.to_values(self.steps)

    @property
    def deviation(self) -> float:
        return self.scale * self.grid.step


Columns = Mapping[str, NDArray[np.int64] | Floats]


@dataclass(frozen=True)
class Part:
    """One vector of a metric, and its part of the metric's share."""

    label: str
    weight: float
    vector: Vector | BinVector


class Metric(Strict, ABC):
    """One metric of a release, as written in the config."""

    kind: ClassVar[str]

    name: Name = Field(description="of the published column")
    share: Share = Field(1.0, description="weight within the release")

    @property
    def column(self) -> str | None:
        """The column whose values it needs."""
        return None

    @property
    def categories(self) -> Categories | None:
        """The column whose categories it needs, and which."""
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the published columns; for each there are two more, with _low and _high."""
        return (self.name,)

    @abstractmethod
    def parts(self, bounds: Bounds) -> tuple[Part, ...]:
        """The vectors that noise is added to. Their weights add up to 1."""

    @abstractmethod
    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        """The published columns: the value and its 95% interval.

        Args:
            sums: of each part, in order.
            integers: whether the column's values are integers.
        """


def value_columns(name: str, sums: NoisySums, *, integers: bool) -> Columns:
    """A noisy sum and its interval; integers are rounded, their interval's low end down, its high end up."""
    values = sums.values
    low, high = sum_interval(values, sums.deviation)
    if not integers:
        return {name: values, f"{name}_low": low, f"{name}_high": high}
    return {
        name: _integers(np.rint(values)),
        f"{name}_low": _integers(np.floor(low)),
        f"{name}_high": _integers(np.ceil(high)),
    }


def bin_columns(names: Sequence[str], sums: NoisySums) -> Columns:
    """The noisy count of each bin, and its interval."""
    columns: dict[str, NDArray[np.int64] | Floats] = {}
    for number, name in enumerate(names):
        columns |= value_columns(name, NoisySums(sums.steps[:, number], sums.grid, sums.scale), integers=True)
    return columns


def _integers(values: Floats) -> Ints:
    return np.clip(values, -(2.0**62), 2.0**62).astype(np.int64)
