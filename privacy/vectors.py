"""The vectors that noise is added to: what one unit adds to each of its keys, and the norm that limits it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from privacy.grid import Grid, Ints, grid_for, root_up
from privacy.norms import limit_amounts, limit_norms, weights_by_keys
from privacy.tallies import Amounts, Events, Tally, Values


@dataclass(frozen=True)
class UnitRows:
    """One row per unit and key, ordered by unit: the units' starts, and the sums of each tally. All int64."""

    units: Ints
    tallies: Mapping[Tally, Ints]
    rows: int

    def keys_of_unit(self) -> Ints:
        """How many keys the unit of each row has. int64 (rows,)."""
        sizes = np.diff(self.units, append=self.rows)
        return np.repeat(sizes, sizes)


class Vector(Protocol):
    """A bounded vector over keys.

    Guarantee: one unit's part of `bounded` has an L2 norm of at most `norm` steps of `grid`, and depends on that unit alone.
    """

    @property
    def grid(self) -> Grid: ...
    @property
    def norm(self) -> int: ...
    @property
    def tallies(self) -> tuple[Tally, ...]: ...
    def bounded(self, rows: UnitRows) -> Ints: ...


@dataclass(frozen=True)
class CountVector:
    """Events of a unit in each key, scaled to a norm of r sqrt(k)."""

    tally: Events | Values
    keys_per_unit: int
    rows_per_key: int

    @property
    def grid(self) -> Grid:
        return grid_for(self.rows_per_key * math.sqrt(self.keys_per_unit), 2)

    @property
    def norm(self) -> int:
        return root_up(self.rows_per_key**2 * self.keys_per_unit << -2 * self.grid.exponent)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (self.tally,)

    def bounded(self, rows: UnitRows) -> Ints:
        return limit_norms(rows.tallies[self.tally] << -self.grid.exponent, rows.units, self.norm)


@dataclass(frozen=True)
class UnitVector:
    """1 for each key of a unit, scaled to a norm of sqrt(k)."""

    keys_per_unit: int

    @property
    def grid(self) -> Grid:
        return grid_for(math.sqrt(self.keys_per_unit), 2)

    @property
    def norm(self) -> int:
        return root_up(self.keys_per_unit << -2 * self.grid.exponent)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return ()

    def bounded(self, rows: UnitRows) -> Ints:
        keys = rows.keys_of_unit()
        weights = weights_by_keys(1 << -self.grid.exponent, self.norm, int(keys.max(initial=0)))
        return weights[keys]


@dataclass(frozen=True)
class SumVector:
    """Sums of a unit's clipped values in each key, scaled to a norm of r sqrt(k) max(|low|, |high|)."""

    column: str
    low: float
    high: float
    keys_per_unit: int
    rows_per_key: int

    @property
    def grid(self) -> Grid:
        return self._tally.grid

    @property
    def norm(self) -> int:
        return root_up(self.rows_per_key**2 * self.keys_per_unit * self._tally.largest**2)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (self._tally,)

    @property
    def _tally(self) -> Amounts:
        events = self.rows_per_key * math.sqrt(self.keys_per_unit)
        grid = grid_for(events * max(abs(self.low), abs(self.high)), events + 4)
        return Amounts(self.column, self.low, self.high, 0.0, grid)

    def bounded(self, rows: UnitRows) -> Ints:
        return limit_norms(rows.tallies[self._tally], rows.units, self.norm)


@dataclass(frozen=True)
class CentredVector:
    """Sums of a unit's clipped values less the middle of the clip, with as much of each as `counts` lets in."""

    column: str
    low: float
    high: float
    counts: CountVector

    @property
    def grid(self) -> Grid:
        return self._tally.grid

    @property
    def norm(self) -> int:
        return -(-self._tally.largest * self.counts.norm // (1 << -self.counts.grid.exponent))

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (self._tally, self.counts.tally)

    @property
    def middle(self) -> float:
        return self.low / 2 + self.high / 2

    @property
    def _tally(self) -> Amounts:
        events = self.counts.rows_per_key * math.sqrt(self.counts.keys_per_unit)
        grid = grid_for(events * (self.high / 2 - self.low / 2), events + 4)
        return Amounts(self.column, self.low, self.high, self.middle, grid)

    def bounded(self, rows: UnitRows) -> Ints:
        events = rows.tallies[self.counts.tally]
        return limit_amounts(rows.tallies[self._tally], events, self.counts.bounded(rows), self.counts.grid.exponent)
