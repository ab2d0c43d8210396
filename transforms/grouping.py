"""Grouping rows by 128-bit ids: packed integers are sorted, then all bits are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from privacy.grid import Ints
from privacy.ids import Ids, Words

_PAYS = 0.7
"""Grouping a batch pays where it leaves fewer rows than this part."""

_CUT_SHIFT = np.uint64(48)
"""Shards are cut by the first 16 bits of ids."""


@dataclass(frozen=True)
class Groups:
    """Equal rows next to each other.

    Attributes:
        order: int64, shape (n,): the permutation that sorts the rows.
        starts: int64, shape (groups,): where in the sorted rows each group starts.
    """

    order: Ints
    starts: Ints

    @property
    def firsts(self) -> Ints:
        """One row of each group, as it was before sorting."""
        return self.order[self.starts]

    def add_up(self, values: Ints) -> Ints:
        """Sums of each group. int64 (n,) to int64 (groups,)."""
        if len(self.starts) == len(self.order):
            return values[self.order]
        return np.add.reduceat(values[self.order], self.starts)


def group_ids(ids: Ids) -> Groups:
    """Groups rows with the same id. Groups ascend by id."""
    return _group(ids.high, ids)


class RowKeys(NamedTuple):
    """The keys of rows.

    Attributes:
        ids: of the keys; of their private parts where keys are partly public.
        public: int64, shape (n,): the numbers of their public parts, below 2^16, where keys are partly public; otherwise None.
    """

    ids: Ids
    public: Ints | None = None

    @property
    def words(self) -> tuple[Words | Ints, ...]:
        """What tells keys apart but for one pair in 2^64, a word or two for each row."""
        return (self.ids.low,) if self.public is None else (self.ids.low, self.public)

    def take(self, rows: Ints) -> "RowKeys":
        return RowKeys(self.ids.take(rows), None if self.public is None else self.public[rows])


def group_keys(keys: RowKeys) -> Groups:
    """Groups rows with the same key. Groups ascend by id, then by the number of the public part."""
    groups = group_ids(keys.ids)
    return groups if keys.public is None else group_bins(groups, keys.public).rows


@dataclass(frozen=True)
class UnitGroups:
    """Rows grouped by unit and key.

    Attributes:
        pairs: one group per unit and key; the groups of a unit are next to each other and ascend by key id.
        units: int64, shape (u,): which pair each unit starts with. Units ascend by the high word of their id.
    """

    pairs: Groups
    units: Ints

    @property
    def sizes(self) -> Ints:
        """How many keys each unit has. int64, shape (u,)."""
        return np.diff(self.units, append=len(self.pairs.starts))


class GroupUnits:
    """`group_ids`, which remembers its last answer: releases of the same events ask about the same units."""

    def __init__(self) -> None:
        self._last: tuple[Ids, Groups] | None = None

    def __call__(self, units: Ids) -> Groups:
        if self._last is None or not all(map(np.array_equal, units, self._last[0])):
            self._last = units, group_ids(units)
        return self._last[1]


def group_pairs(units: Ids, keys: Ids, group_units: Callable[[Ids], Groups] = group_ids) -> UnitGroups:
    """Groups rows with the same unit and key."""
    by_unit = group_units(units)
    rows = len(by_unit.order)
    ranks = np.zeros(rows, np.uint64)
    ranks[by_unit.starts[1:]] = 1
    ranks = np.cumsum(ranks, dtype=np.uint64)
    high, low = keys.take(by_unit.order)
    rank_bits = max(len(by_unit.starts), 1).bit_length()
    words = ranks << np.uint64(64 - rank_bits) | high >> np.uint64(rank_bits)
    within = _group(words, (ranks, high, low))
    pairs = Groups(by_unit.order[within.order], within.starts)
    return UnitGroups(pairs, np.searchsorted(within.starts, by_unit.starts))


def split_pairs(groups: UnitGroups, public: Ints | None) -> tuple[UnitGroups, Ints]:
    """Groups by unit and key, of groups by unit and private part of the key.

    Args:
        public: int64, shape (n,): the number of the public part of each row's key; None where each is the only one.

    Returns:
        The groups, in the same order; and with which of them each of the given ones starts. int64.
    """
    if public is None:
        return groups, np.arange(len(groups.pairs.starts))
    cells = group_bins(groups.pairs, public)
    starts = np.flatnonzero(np.diff(cells.groups, prepend=-1))
    return UnitGroups(cells.rows, starts[groups.units]), starts


def worth_grouping(units: Ids, keys: Ids, cap: int | None) -> bool:
    """Whether grouping by unit and key leaves clearly fewer rows, or a unit may have more keys than the cap.

    Estimated from how many of some buckets the rows fall into (Whang, Vander-Zanden and Taylor 1990), without sorting.
    """
    rows = len(units.high)
    buckets = 1 << max(rows, 1).bit_length()
    mask = np.uint64(buckets - 1)
    if cap is not None and np.bincount((units.low & mask).view(np.int64), minlength=1).max() > cap:
        return True
    hit = np.zeros(buckets, np.bool_)
    hit[((units.low + keys.low) & mask).view(np.int64)] = True
    free = 1 - np.count_nonzero(hit) / buckets
    return bool(free == 0 or -buckets * np.log(free) < _PAYS * rows)


def ungrouped(units: Ids) -> Groups:
    """Each row as a group of its own, in the order of the bits of the unit's id that shards are cut by."""
    order = np.argsort((units.high >> _CUT_SHIFT).astype(np.uint16), kind="stable")
    return Groups(order, np.arange(len(order)))


def cap_keys(groups: UnitGroups, cap: int | None) -> UnitGroups:
    """Keeps the `cap` smallest key ids of each unit, all without a cap. Rows of other keys stay in no group."""
    sizes = groups.sizes
    if cap is None or sizes.max(initial=0) <= cap:
        return groups
    kept = np.arange(len(groups.pairs.starts)) - np.repeat(groups.units, sizes) < cap
    row_sizes = np.diff(groups.pairs.starts, append=len(groups.pairs.order))
    order = groups.pairs.order[np.repeat(kept, row_sizes)]
    starts = np.cumsum(row_sizes[kept]) - row_sizes[kept]
    kept_sizes = np.minimum(sizes, cap)
    return UnitGroups(Groups(order, starts), np.cumsum(kept_sizes) - kept_sizes)


def binned(groups: UnitGroups, bins: Ints) -> UnitGroups:
    """The rows that are in a bin, and the keys and units that have such rows.

    Args:
        bins: int64, shape (n,), of each row; -1 for none.
    """
    kept = bins[groups.pairs.order] >= 0
    rows = np.add.reduceat(kept, groups.pairs.starts, dtype=np.int64) if len(kept) else np.zeros(0, np.int64)
    pairs = np.add.reduceat(rows > 0, groups.units, dtype=np.int64) if len(rows) else np.zeros(0, np.int64)
    rows, pairs = rows[rows > 0], pairs[pairs > 0]
    return UnitGroups(Groups(groups.pairs.order[kept], np.cumsum(rows) - rows), np.cumsum(pairs) - pairs)


@dataclass(frozen=True)
class Cells:
    """Rows grouped by a group that they are in already, and by a bin.

    Attributes:
        rows: one group per group and bin; rows without a bin are in none.
        groups: int64, shape (cells,), the group of each cell; ascending.
        bins: int64, shape (cells,), the bin of each cell; ascending within a group.
    """

    rows: Groups
    groups: Ints
    bins: Ints


def group_bins(groups: Groups, bins: Ints) -> Cells:
    """Groups the rows of each group by their bins, or by other small numbers.

    Args:
        bins: int64, shape (n,), of each row, below 2^16; -1 for none.
    """
    sizes = np.diff(groups.starts, append=len(groups.order))
    group, bins = np.repeat(np.arange(len(sizes)), sizes), bins[groups.order]
    kept = np.flatnonzero(bins >= 0)
    words = group[kept] << 16 | bins[kept]
    by_word = np.argsort(words, kind="stable")
    words = words[by_word]
    starts = np.flatnonzero(np.diff(words, prepend=-1))
    return Cells(Groups(groups.order[kept[by_word]], starts), words[starts] >> 16, words[starts] & 0xFFFF)


def locate(wanted: Ids, among: Ids) -> Ints:
    """Where each id stands in `among`, which ascends and holds each once; -1 where it does not. int64, shape (n,)."""
    found = np.full(len(wanted.high), -1)
    open_rows = np.arange(len(wanted.high))
    at = np.searchsorted(among.high, wanted.high)
    while open_rows.size:
        inside = at < len(among.high)
        inside[inside] = among.high[at[inside]] == wanted.high[open_rows[inside]]
        open_rows, at = open_rows[inside], at[inside]
        hit = among.low[at] == wanted.low[open_rows]
        found[open_rows[hit]] = at[hit]
        open_rows, at = open_rows[~hit], at[~hit] + 1
    return found


def cut(high: Words, shards: int) -> Ints:
    """Where high words that ascend in their first 16 bits are cut into shards. int64, shape (shards + 1,).

    Args:
        shards: in 1..2^16.
    """
    edges = (np.arange(1, shards, dtype=np.uint64) << np.uint64(16)) // np.uint64(shards)
    inner = np.searchsorted(high >> _CUT_SHIFT, edges)
    return np.concatenate([[0], inner, [len(high)]]).astype(np.int64)


def _group(words: Words, columns: tuple[Words, ...]) -> Groups:
    """Groups equal rows of columns, the most significant first; words ascends with them."""
    rows = len(words)
    if rows == 0:
        return Groups(np.zeros(0, np.int64), np.zeros(0, np.int64))
    low_bits = np.uint64((1 << max(rows - 1, 1).bit_length()) - 1)
    packed = words & ~low_bits | np.arange(rows, dtype=np.uint64)
    packed.sort()
    order = (packed & low_bits).astype(np.int64)
    changes = _changes(columns, order)
    same_prefix = (packed[1:] ^ packed[:-1]) <= low_bits
    tied = changes & same_prefix
    if tied.any():
        _sort_ties(order, same_prefix, tied, columns)
        changes = _changes(columns, order)
    return Groups(order, np.flatnonzero(np.concatenate([[True], changes])))


def _changes(columns: tuple[Words, ...], order: Ints) -> NDArray[np.bool_]:
    changes = np.zeros(len(order) - 1, np.bool_)
    for column in columns:
        ordered = column[order]
        changes |= ordered[1:] != ordered[:-1]
    return changes


def _sort_ties(order: Ints, same_prefix: NDArray[np.bool_], tied: NDArray[np.bool_], columns: tuple[Words, ...]) -> None:
    """Sorts by all bits, in place, the runs of rows whose packed words agree although the rows differ."""
    runs = np.concatenate([[0], np.cumsum(~same_prefix)])
    mixed = np.zeros(int(runs[-1]) + 1, np.bool_)
    mixed[runs[1:][tied]] = True
    at = np.flatnonzero(mixed[runs])
    rows = order[at]
    order[at] = rows[np.lexsort([column[rows] for column in reversed(columns)])]
