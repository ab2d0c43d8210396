"""Per shard of units: the items of baskets become pairs, each an event of its unit, a block of baskets at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.grid import Ints
from privacy.ids import Ids, make_pair_ids
from transforms.exchange import Columns, id_columns, ids_of, named_batch, narrowed
from transforms.grouping import cap_keys, group_ids, group_pairs, locate
from transforms.sum_by_unit import ReleaseInput, names_batch

BLOCK_PAIRS = 1 << 20
"""About so many pairs are formed at once, and as many as the last basket makes more."""

_LOW = (1 << 32) - 1


@dataclass(frozen=True)
class UnitPairs:
    """Pairs of units. All int64, shape (n,).

    Attributes:
        units: the number of the unit.
        pairs: the places of both items among all values, in 32 bits each, the smaller one first.
        events: how many of the unit's baskets have the pair.
    """

    units: Ints
    pairs: Ints
    events: Ints

    def and_(self, other: "UnitPairs") -> "UnitPairs":
        columns = zip((self.units, self.pairs, self.events), (other.units, other.pairs, other.events), strict=True)
        return UnitPairs(*map(np.concatenate, columns))

    def take(self, rows: Ints | NDArray[np.bool_]) -> "UnitPairs":
        return UnitPairs(self.units[rows], self.pairs[rows], self.events[rows])


@dataclass(frozen=True)
class Baskets:
    """The distinct items of baskets, those of a unit next to each other.

    Attributes:
        items: int64, shape (n,), ascending in each basket: the place of the item's value among all values.
        starts: int64, shape (baskets,), where in `items` each basket starts.
        units: int64, shape (baskets,), the number of the unit of each basket; ascending.
        unit_ids: of each of these numbers.
    """

    items: Ints
    starts: Ints
    units: Ints
    unit_ids: Ids

    @property
    def sizes(self) -> Ints:
        return np.diff(self.starts, append=len(self.items))

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of baskets that make about `BLOCK_PAIRS` pairs each."""
        pairs = self.sizes * (self.sizes - 1) // 2
        edges = np.flatnonzero(np.diff((np.cumsum(pairs) - pairs) // BLOCK_PAIRS, prepend=-1))
        return pairwise([*edges.tolist(), len(pairs)])

    def pairs(self, start: int, stop: int) -> UnitPairs:
        """The pairs of a range of baskets, each as often as it is there."""
        sizes = self.sizes[start:stop]
        ends = np.repeat(self.starts[start:stop] + sizes, sizes)
        rows = np.arange(len(ends)) + self.starts[start]
        later = ends - rows - 1  # in the same basket
        firsts = np.repeat(rows, later)
        seconds = np.arange(len(firsts)) - np.repeat(np.cumsum(later) - later, later) + firsts + 1
        units = np.repeat(np.repeat(self.units[start:stop], sizes), later)
        return UnitPairs(units, self.items[firsts] << 32 | self.items[seconds], np.ones(len(units), np.int64))

    def goes_on(self, stop: int) -> int:
        """The unit that has baskets on both sides of this place; -1 for none."""
        return int(self.units[stop]) if stop < len(self.units) and self.units[stop] == self.units[stop - 1] else -1


def gather_baskets(units: Ids, baskets: Ids, items: Ids, places: Ints, most: int) -> Baskets:
    """The distinct items of each basket, at most the `most` with the smallest ids.

    Args:
        units, baskets, items: of each row, shape (n,); a basket has one unit.
        places: int64, shape (n,), of each row's item among all by value; below 2^31.
    """
    groups = cap_keys(group_pairs(baskets, items), most)
    rows = groups.pairs.firsts
    sizes = np.diff(groups.units, append=len(rows))
    firsts = rows[groups.units]
    by_unit = group_ids(units.take(firsts))
    rank = np.empty(len(sizes), np.int64)
    rank[by_unit.order] = np.arange(len(sizes))
    words = np.sort(np.repeat(rank, sizes) << 32 | places[rows])
    sizes = sizes[by_unit.order]
    of_unit = np.diff(by_unit.starts, append=len(sizes))
    numbers = np.repeat(np.arange(len(of_unit)), of_unit)
    return Baskets(words & _LOW, np.cumsum(sizes) - sizes, numbers, units.take(firsts[by_unit.firsts]))


def form_pairs(
    units: Ids,
    baskets: Ids,
    items: Ids,
    named: pa.RecordBatch,
    release: ReleaseInput,
    secret: bytes,
    public: pa.RecordBatch | None,
) -> Iterator[list[pa.RecordBatch]]:
    """The pairs of units, as `sum_by_unit` gives the events of other releases.

    Args:
        units, baskets, items: of each row of `items:<number>`, shape (n,); all rows of these units.
        named: item_high, item_low, item: each item once.
        public: of `public_names`; None where keys are private.

    Yields:
        `sums:<number>`, one row per unit and pair, at most `most_pairs` of a unit; and for private keys `names:<number>`.
        All pairs of a unit are in one of them.

    Guarantee: what is kept of a unit is a function of its own rows and the secret. Source: docs/guarantee.md, "Pairs".
    """
    listed = None if public is None else ids_of(public, "key")
    named = named.take(pc.sort_indices(named["item"]))
    by_value = ids_of(named, "item")
    by_id = group_ids(by_value).order
    places = by_id[locate(items, by_value.take(by_id))]
    gathered = gather_baskets(units, baskets, items, places, release.plan.release.most_items)
    none = np.zeros(0, np.int64)
    rest = UnitPairs(none, none, none)
    for start, stop in gathered.blocks():
        formed = rest.and_(gathered.pairs(start, stop))
        distinct, which = np.unique(formed.pairs, return_inverse=True)
        ids = make_pair_ids(by_value.take(distinct >> 32), by_value.take(distinct & _LOW), secret, release.key_domain)
        if listed is not None:
            rows = np.flatnonzero((locate(ids, listed) >= 0)[which])
            formed, which = formed.take(rows), which[rows]
        groups = group_pairs(gathered.unit_ids.take(formed.units), ids.take(which))
        kept = cap_keys(groups, release.plan.release.most_pairs).pairs
        summed = replace(formed.take(kept.firsts), events=kept.add_up(formed.events))
        # A unit that goes on in the next block has no more there than the pairs that are kept of it here.
        open_ = summed.units == gathered.goes_on(stop)
        rest, done = summed.take(open_), summed.take(~open_)
        if len(done.units):
            keys = ids.take(which[kept.firsts][~open_])
            tables = [_sums(done, gathered.unit_ids, keys, release)]
            yield tables if release.public else [*tables, _names(done, keys, named["item"], release)]


def _sums(pairs: UnitPairs, unit_ids: Ids, keys: Ids, release: ReleaseInput) -> pa.RecordBatch:
    tallies: Columns = {f"tally_{number}": narrowed(pairs.events) for number in range(len(release.plan.tallies))}
    ids = id_columns(unit_ids.take(pairs.units), "unit") | id_columns(keys, "key")
    return named_batch(f"sums:{release.number}", ids | tallies)


def _names(pairs: UnitPairs, keys: Ids, values: pa.Array, release: ReleaseInput) -> pa.RecordBatch:
    by_key = group_ids(keys)
    both = pairs.pairs[by_key.firsts]
    columns = [values.take(pa.array(places)) for places in (both >> 32, both & _LOW)]
    return names_batch(release, keys.take(by_key.firsts), columns, np.arange(len(both)))
