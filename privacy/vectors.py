"""The vectors that noise is added to: what one unit adds to each of its keys, and the norm that limits it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from privacy.bins import Bins
from privacy.bounds import UnitBounds
from privacy.grid import Grid, Ints, grid_for, root_up
from privacy.norms import limit_amounts
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


class Vector(ABC):
    """A bounded vector over keys, with one number per key, or several.

    Guarantee: one unit's part of `bounded` has a norm, of the order of its bounds, of at most `norm` steps of `grid`, and
        depends on that unit alone.
    """

    bounds: UnitBounds

    @property
    @abstractmethod
    def grid(self) -> Grid: ...

    @property
    @abstractmethod
    def norm(self) -> int: ...

    @property
    @abstractmethod
    def tallies(self) -> tuple[Tally, ...]: ...

    @abstractmethod
    def bounded(self, rows: UnitRows) -> Ints:
        """int64 (n,) where the width is 1, otherwise (n, width)."""

    @property
    def order(self) -> int:
        """Of the norm."""
        return self.bounds.order

    @property
    def width(self) -> int:
        """How many numbers there are per key."""
        return 1


@dataclass(frozen=True)
class CountVector(Vector):
    """Events of a unit in each key, scaled to the norm of the bounds, or to one that is given."""

    tally: Events | Values
    bounds: UnitBounds
    given: float | None = None

    @property
    def grid(self) -> Grid:
        return grid_for(self.given or self.bounds.events, 2)

    @property
    def norm(self) -> int:
        if self.given is not None:
            return self.grid.up(self.given)
        return self.bounds.events_norm(1 << -self.grid.exponent)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (self.tally,)

    def bounded(self, rows: UnitRows) -> Ints:
        events = self.bounds.counted(rows.tallies[self.tally])
        return self.bounds.limit(events << -self.grid.exponent, rows.units, self.norm)


@dataclass(frozen=True)
class BinVector:
    """Events of a unit in each key and bin, with as much of each as the count of all of them in the key lets in.

    Guarantee: one unit's part of `bounded` has a norm, of the order of its bounds, of at most `norm` steps of `grid`, and
        depends on that unit alone.
    Source: docs/guarantee.md, "Bins".
    """

    bins: Bins
    bounds: UnitBounds

    @property
    def levels(self) -> int:
        """How many of the numbers that get noise one event changes."""
        return 1

    @property
    def grid(self) -> Grid:
        return grid_for(self.bounds.events * self.levels ** (1 / self.order), 1 + self.levels)

    @property
    def norm(self) -> int:
        return self.levels * self._count_norm if self.order == 1 else root_up(self.levels * self._count_norm**2)

    @property
    def order(self) -> int:
        return self.bounds.order

    @property
    def _count_norm(self) -> int:
        """Of the unit's events in each key."""
        return self.bounds.events_norm(1 << -self.grid.exponent)

    def bounded(self, cells: UnitCells) -> Ints:
        """int64 (n,), of each cell."""
        starts = np.flatnonzero(np.diff(cells.pairs, prepend=-1))
        events = np.add.reduceat(cells.events, starts) if len(starts) else cells.events
        steps = self.bounds.counted(events) << -self.grid.exponent
        counted = self.bounds.limit(steps, cells.units, self._count_norm)
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
class UnitVector(Vector):
    """1 for each key of a unit, or for each that is sampled, scaled to the norm of the bounds."""

    bounds: UnitBounds

    @property
    def grid(self) -> Grid:
        return grid_for(self.bounds.keys, 2)

    @property
    def norm(self) -> int:
        return self.bounds.keys_norm(1 << -self.grid.exponent)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (Events(),) if self.bounds.sampling else ()

    def bounded(self, rows: UnitRows) -> Ints:
        each = 1 << -self.grid.exponent
        if self.bounds.sampling:
            return self.bounds.limit(np.minimum(rows.tallies[Events()], 1) * each, rows.units, self.norm)
        keys = rows.keys_of_unit()
        return self.bounds.weights(each, self.norm, int(keys.max(initial=0)))[keys]


@dataclass(frozen=True)
class SumVector(Vector):
    """Sums of a unit's clipped values in each key, scaled to the norm of the bounds times max(|low|, |high|).

    Attributes:
        total: between which ends the sum of each key is clipped; its norm follows from the smaller of the two clips.
        given: the norm instead.
    """

    column: str
    low: float
    high: float
    bounds: UnitBounds
    total: tuple[float, float] | None = None
    given: float | None = None

    @property
    def grid(self) -> Grid:
        return self._tally.grid

    @property
    def norm(self) -> int:
        if self.given is not None:
            return self.grid.up(self.given)
        norm = self.bounds.events_norm(self._tally.largest)
        return norm if self.total is None else min(norm, self.bounds.keys_norm(int(np.abs(self._ends).max())))

    @property
    def tallies(self) -> tuple[Tally, ...]:
        return (self._tally, Values(self.column)) if self.bounds.down_weight else (self._tally,)

    @property
    def _tally(self) -> Amounts:
        events, largest = self.bounds.events, max(abs(self.low), abs(self.high))
        norm = events * largest
        if self.total is not None:
            norm = min(norm, self.bounds.keys * max(map(abs, self.total)))
        return Amounts(self.column, self.low, self.high, 0.0, grid_for(self.given or norm, events + 4))

    @property
    def _ends(self) -> Ints:
        """Of the sum of a key, in steps; no sum is beyond 2^62 of them."""
        steps: Ints = np.rint(np.clip(np.ldexp(np.array(self.total), -self.grid.exponent), -(2.0**62), 2.0**62)).astype(np.int64)
        return steps

    def bounded(self, rows: UnitRows) -> Ints:
        sums = _down_weighted(rows, self._tally, self.bounds)
        if self.total is not None:
            sums = np.clip(sums, *self._ends)
        return self.bounds.limit(sums, rows.units, self.norm)


@dataclass(frozen=True)
class JointVector(Vector):
    """Sums of several columns of a unit in each key, scaled together to a norm that is given, which also clips each value."""

    columns: tuple[str, ...]
    bounds: UnitBounds
    given: float

    @property
    def grid(self) -> Grid:
        return grid_for(self.given, 2)

    @property
    def norm(self) -> int:
        return self.grid.up(self.given)

    @property
    def width(self) -> int:
        return len(self.columns)

    @property
    def _amounts(self) -> list[Amounts]:
        return [Amounts(column, -self.given, self.given, 0.0, self.grid) for column in self.columns]

    @property
    def tallies(self) -> tuple[Tally, ...]:
        counts = [Values(column) for column in self.columns] if self.bounds.down_weight else []
        return (*self._amounts, *counts)

    def bounded(self, rows: UnitRows) -> Ints:
        sums = np.stack([_down_weighted(rows, tally, self.bounds) for tally in self._amounts], axis=1)
        return self.bounds.limit(sums.ravel(), rows.units * self.width, self.norm).reshape(sums.shape)


def _down_weighted(rows: UnitRows, tally: Amounts, bounds: UnitBounds) -> Ints:
    """The sums of each key: of as many events as enter the norm, where there are more of them."""
    if not bounds.down_weight:
        return rows.tallies[tally]
    events = rows.tallies[Values(tally.column)]
    return limit_amounts(rows.tallies[tally], events, bounds.counted(events), 0)


class _ScaledVector(Vector):
    """Sums of amounts of events, with as much of each key as `counts` lets in."""

    counts: CountVector

    @property
    @abstractmethod
    def _tally(self) -> Amounts | Squares: ...

    @property
    def order(self) -> int:
        return self.counts.order

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
        events = self.counts.bounds.events
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
