"""The vectors that noise is added to: what one unit adds to each of its keys, and the norm that limits it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from privacy.bins import Bins
from privacy.grid import Grid, Ints, grid_for, root_up
from privacy.norms import limit_amounts, limit_norms, weights_by_keys
from privacy.tallies import Amounts, Events, Squares, Tally, Values

BRANCHES = 16
"""Bins below each node of a tree."""


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


@dataclass(frozen=True)
class UnitCells:
    """One row per unit, key and bin that has events, ordered by unit and key. All int64.

    Attributes:
        events: shape (n,), of each cell, at least 1.
        pairs: shape (n,), which unit and key each cell is of: 0, 1, .. ascending, none left out.
        units: with which of these pairs each unit starts.
    """

    events: Ints
    pairs: Ints
    units: Ints


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
class BinVector:
    """Events of a unit in each key and bin, with as much of each as the count of all of them in the key lets in.

    Guarantee: one unit's part of `bounded` has an L2 norm of at most `norm` steps of `grid`, and depends on that unit alone.
    Source: docs/guarantee.md, "Bins".
    """

    bins: Bins
    keys_per_unit: int
    rows_per_key: int

    @property
    def levels(self) -> int:
        """How many of the numbers that get noise one event changes."""
        return 1

    @property
    def grid(self) -> Grid:
        return grid_for(self.rows_per_key * math.sqrt(self.keys_per_unit * self.levels), 1 + self.levels)

    @property
    def norm(self) -> int:
        return root_up(self.levels * self._count_norm**2)

    @property
    def _count_norm(self) -> int:
        """Of the unit's events in each key."""
        return root_up(self.rows_per_key**2 * self.keys_per_unit << -2 * self.grid.exponent)

    def bounded(self, cells: UnitCells) -> Ints:
        """int64 (n,), of each cell."""
        starts = np.flatnonzero(np.diff(cells.pairs, prepend=-1))
        events = np.add.reduceat(cells.events, starts) if len(starts) else cells.events
        counted = limit_norms(events << -self.grid.exponent, cells.units, self._count_norm)
        return cells.events * counted[cells.pairs] // events[cells.pairs]

    def nodes(self, sums: Ints) -> Ints:
        """What gets noise: int64 (n, bins), the sums of each bin, to int64 (n, nodes)."""
        return sums


@dataclass(frozen=True)
class TreeVector(BinVector):
    """A `BinVector` of 256 bins, and above it the sums of 16 bins each.

    Source: docs/guarantee.md, "Trees".
    """

    @property
    def levels(self) -> int:
        return 2

    def nodes(self, sums: Ints) -> Ints:
        """int64 (n, 256) to int64 (n, 272): the 16 sums first."""
        above = sums.reshape(len(sums), BRANCHES, BRANCHES).sum(axis=2)
        return np.concatenate([above, sums], axis=1)


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


class _ScaledVector:
    """Sums of amounts of events, with as much of each key as `counts` lets in."""

    counts: CountVector

    @property
    def _tally(self) -> Amounts | Squares:
        raise NotImplementedError

    @property
    def grid(self) -> Grid:
        return self._tally.grid

    @property
    def norm(self) -> int:
        return -(-self._tally.largest * self.counts.norm // (1 << -self.counts.grid.exponent))

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (self._tally, self.counts.tally)

    def bounded(self, rows: UnitRows) -> Ints:
        events = rows.tallies[self.counts.tally]
        return limit_amounts(rows.tallies[self._tally], events, self.counts.bounded(rows), self.counts.grid.exponent)

    def _grid(self, largest: float) -> Grid:
        """For amounts of events of at most this size."""
        events = self.counts.rows_per_key * math.sqrt(self.counts.keys_per_unit)
        return grid_for(events * largest, events + 4)


@dataclass(frozen=True)
class CentredVector(_ScaledVector):
    """Sums of a unit's clipped values less the middle of the clip."""

    column: str
    low: float
    high: float
    counts: CountVector

    @property
    def middle(self) -> float:
        return self.low / 2 + self.high / 2

    @property
    def _tally(self) -> Amounts:
        return Amounts(self.column, self.low, self.high, self.middle, self._grid(self.high / 2 - self.low / 2))


@dataclass(frozen=True)
class SquaresVector(_ScaledVector):
    """Sums of the squares of a unit's clipped values less the middle of the clip, each less half of the largest one."""

    column: str
    low: float
    high: float
    counts: CountVector

    @property
    def _tally(self) -> Squares:
        return Squares(self.column, self.low, self.high, self._grid((self.high / 2 - self.low / 2) ** 2 / 2))
