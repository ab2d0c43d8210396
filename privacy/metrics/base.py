"""What a metric is: the vectors it needs, and how their noisy sums become published columns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from privacy.bins import Categories
from privacy.bounds import UnitBounds
from privacy.fields import Name, Share, Strict
from privacy.grid import Floats, Grid, Ints
from privacy.intervals import COVERAGE, ratio_box, ratio_interval
from privacy.noise import GaussianNoise, Noise
from privacy.vectors import BinVector, Vector


@dataclass(frozen=True)
class NoisySums:
    """What noise left of a vector, per published key: steps of the grid, and the noise that is in them.

    Attributes:
        steps: int64, shape (n,); (n, numbers) where a vector has several numbers per key.
    """

    steps: Ints
    grid: Grid
    noise: Noise

    @property
    def values(self) -> Floats:
        return self.grid.to_values(self.steps)

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise."""
        return self.noise.deviation * self.grid.step

    def interval(self, coverage: float = COVERAGE) -> tuple[Floats, Floats]:
        """Low and high ends for each value without its noise."""
        reach = self.noise.reach(coverage) * self.grid.step
        return self.values - reach, self.values + reach


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
        """The one column whose values it needs."""
        return None

    @property
    def value_names(self) -> tuple[str, ...]:
        """The columns whose values it needs."""
        return () if self.column is None else (self.column,)

    @property
    def categories(self) -> Categories | None:
        """The column whose categories it needs, and which."""
        return None

    @property
    def norm_is_given(self) -> bool:
        """Whether the config says its norm, in place of one that follows from the bounds."""
        return getattr(self, "norm", None) is not None

    @property
    def limits_units(self) -> bool:
        """Whether it limits what one unit brings by itself, so that its norm is not that of the bounds."""
        return self.norm_is_given or getattr(self, "clip_total", None) is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the published columns; for each there are two more, with _low and _high."""
        return (self.name,)

    @abstractmethod
    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        """The vectors that noise is added to. Their weights add up to 1."""

    def shared_parts(self, bounds: UnitBounds, vectors: Set[Vector | BinVector]) -> tuple[Part, ...] | None:
        """Other parts that serve as well where the release has these vectors anyway; None where there are none."""
        return None

    @abstractmethod
    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        """The published columns: the value and its 95% interval.

        Args:
            sums: of each part, in order.
            integers: whether the column's values are integers.
        """


def value_columns(name: str, sums: NoisySums, *, integers: bool) -> Columns:
    """A noisy sum and its interval; integers are rounded, their interval's low end down, its high end up."""
    return interval_columns(name, sums.values, *sums.interval(), integers=integers)


def interval_columns(name: str, values: Floats, low: Floats, high: Floats, *, integers: bool) -> Columns:
    """Values and the ends of their intervals; integers are rounded, the low end down, the high end up."""
    if not integers:
        return {name: values, f"{name}_low": low, f"{name}_high": high}
    return {
        name: _integers(np.rint(values)),
        f"{name}_low": _integers(np.floor(low)),
        f"{name}_high": _integers(np.ceil(high)),
    }


def each_column(names: Sequence[str], sums: NoisySums, *, integers: bool) -> Columns:
    """`value_columns` of each of several numbers per key. `sums.steps` has the shape (n, names), or (n,) for one name."""
    columns: dict[str, NDArray[np.int64] | Floats] = {}
    for name, steps in zip(names, sums.steps.reshape(-1, len(names)).T, strict=True):
        columns |= value_columns(name, NoisySums(steps, sums.grid, sums.noise), integers=integers)
    return columns


def mean_interval(amounts: NoisySums, counts: NoisySums, reach: float, coverage: float = COVERAGE) -> tuple[Floats, Floats]:
    """Low and high ends of amount / count, which is within +-reach: Fieller's where the noise is Gaussian."""
    if isinstance(amounts.noise, GaussianNoise) and isinstance(counts.noise, GaussianNoise):
        deviations = amounts.deviation, counts.deviation
        return ratio_interval(amounts.values, counts.values, *deviations, reach, counts.noise.combined_reach(coverage))
    both = (1 + coverage) / 2
    return ratio_box(amounts.interval(both), counts.interval(both), reach)


def _integers(values: Floats) -> Ints:
    return np.clip(values, -(2.0**62), 2.0**62).astype(np.int64)
