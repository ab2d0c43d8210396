"""Quantiles of a column, from a tree of noisy counts."""

import functools
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from privacy.bins import Ranges
from privacy.bounds import UnitBounds
from privacy.fields import Clip, Column, Number, Strict
from privacy.grid import Floats, Ints
from privacy.intervals import COVERAGE
from privacy.metrics.base import Columns, Metric, NoisySums, Part
from privacy.vectors import BRANCHES, TreeVector

LEAVES = BRANCHES**2

_BLOCK = 1 << 12
"""Keys at once: bounds the memory."""


class Quantiles(Strict):
    """Quantiles of a column's clipped values."""

    of: Column = Field(description="the column")
    at: Annotated[tuple[Annotated[Number, Field(gt=0, lt=1)], ...], Field(min_length=1, max_length=20)] = Field(
        description="between 0 and 1; 0.5 is the median, and the column _p50"
    )
    clip: Clip

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.at)) < len(self.at):
            raise ValueError(f"at {list(self.at)} repeats a quantile; list each once")
        return self


class QuantilesMetric(Metric):
    """Quantiles of a column's clipped values: to about a 256th of the clip's width, and to the noise."""

    kind: ClassVar[str] = "quantiles"

    quantiles: Quantiles

    @property
    def column(self) -> str:
        return self.quantiles.of

    @property
    def names(self) -> tuple[str, ...]:
        percents = (f"{Decimal(repr(at)).scaleb(2).normalize():f}" for at in self.quantiles.at)
        return tuple(f"{self.name}_p{percent.replace('.', '_')}" for percent in percents)

    @property
    def edges(self) -> Floats:
        """Of the leaves. float64 (257,)."""
        return np.linspace(*self.quantiles.clip, LEAVES + 1)

    def parts(self, bounds: UnitBounds) -> tuple[Part, ...]:
        ranges = Ranges(self.quantiles.of, tuple(self.edges.tolist()))
        return (Part("", 1.0, TreeVector(ranges, bounds)),)

    def columns(self, sums: Sequence[NoisySums], *, integers: bool) -> Columns:
        values = sums[0].values
        reach = sums[0].deviation * sums[0].noise.combined_reach(COVERAGE)
        columns: dict[str, Floats] = {}
        for name, at in zip(self.names, self.quantiles.at, strict=True):
            blocks = [self._quantile(values[row : row + _BLOCK], reach, at) for row in range(0, max(len(values), 1), _BLOCK)]
            for suffix, parts in zip(("", "_low", "_high"), zip(*blocks, strict=True), strict=True):
                columns[f"{name}{suffix}"] = np.concatenate(parts)
        return columns

    def _quantile(self, nodes: Floats, reach: float, at: float) -> tuple[Floats, Floats, Floats]:
        """A quantile of each key, and the ends of its interval. float64 (n, 272) to float64 (n,) each.

        Source: docs/guarantee.md, "Trees".
        """
        ranks = nodes @ _ranks().T
        excess = ranks - at * ranks[:, -1:]
        reaches = reach * _deviations(at)
        low = self.edges[np.maximum(_first(excess >= -reaches) - 1, 0)]
        high = self.edges[np.minimum(_last(excess <= reaches) + 1, LEAVES)]
        # Noise lets the ranks rise and fall: the middle between where they first reach the quantile, and last miss it.
        value = (self._crossing(excess, _first(excess >= 0)) + self._crossing(excess, _last(excess < 0) + 1)) / 2
        low, high = np.minimum(low, high), np.maximum(low, high)
        return np.clip(value, low, high), low, high

    def _crossing(self, excess: Floats, right: Ints) -> Floats:
        """The value at which a line from the edge before to this one crosses zero."""
        right = np.clip(right, 1, LEAVES)
        rows = np.arange(len(excess))
        before, after = excess[rows, right - 1], excess[rows, right]
        rises = after > before
        part = np.clip(np.where(rises, -before / np.where(rises, after - before, 1.0), 0.5), 0, 1)
        crossing: Floats = self.edges[right - 1] + part * (self.edges[right] - self.edges[right - 1])
        return crossing


def _first(holds: NDArray[np.bool_]) -> Ints:
    """The first column that holds in each row; the last one where none does."""
    found: Ints = np.where(holds.any(axis=1), holds.argmax(axis=1), holds.shape[1] - 1)
    return found


def _last(holds: NDArray[np.bool_]) -> Ints:
    """The last column that holds in each row; the first one where none does."""
    found: Ints = np.where(holds.any(axis=1), holds.shape[1] - 1 - holds[:, ::-1].argmax(axis=1), 0)
    return found


@functools.cache
def _ranks() -> Floats:
    """From the noisy nodes of a tree to the ranks of its edges. float64 (257, 272).

    Each sum of leaves is known twice, from above and from the leaves: both are weighed by how sure they are.
    Source: Hay, Rastogi, Miklau and Suciu 2010, section 4.
    """
    above, leaves = np.eye(BRANCHES, BRANCHES + LEAVES), np.eye(LEAVES, BRANCHES + LEAVES, BRANCHES)
    below = leaves.reshape(BRANCHES, BRANCHES, -1).sum(axis=1)
    both = (BRANCHES * above + below) / (BRANCHES + 1)
    mended = leaves + np.repeat((both - below) / BRANCHES, BRANCHES, axis=0)
    return np.concatenate([np.zeros((1, BRANCHES + LEAVES)), np.cumsum(mended, axis=0)])


@functools.cache
def _deviations(at: float) -> Floats:
    """The standard deviation of each edge's rank less `at` times the last one, for noise of 1. float64 (257,)."""
    ranks = _ranks()
    deviations: Floats = np.sqrt(((ranks - at * ranks[-1]) ** 2).sum(axis=1))
    return deviations
