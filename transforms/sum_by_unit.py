"""Per batch: events become integer sums per unit and key, cut by unit for the first shuffle."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.bins import Categories, Ranges
from privacy.grid import Ints
from privacy.ids import Ids, make_ids, make_pair_ids
from privacy.plan import ReleasePlan
from privacy.tallies import Events, Values
from transforms.columns import as_id_words, as_key, ids_by_values, is_given, places_among, usable_values
from transforms.exchange import Columns, Exchange, id_columns, ids_of, key_columns, named_batch, narrowed, unit_tables
from transforms.grouping import (
    RowKeys,
    cap_keys,
    group_ids,
    group_pairs,
    locate,
    split_pairs,
    ungrouped,
    worth_grouping,
)
from transforms.public_keys import Combinations, PublicKeys
from transforms.read_events import EventBatch
from transforms.work_folder import WorkFolder, guarded

UNIT_DOMAIN = 0
"""Of the ids of units; release number i has i + 1 for its keys."""

ITEM_DOMAINS, BASKET_DOMAINS = 1 << 32, 1 << 33
"""Release number i adds i."""


@dataclass(frozen=True, kw_only=True)
class ReleaseInput:
    """A release as the steps see it: its plan, the published types of its key columns, its public keys if they are public.

    Attributes:
        listed: the public parts of the keys if they are partly public.
        categories: the values of each of the plan's categories, in the column's published type.
        basket_types: where its events are pairs, the canonical types of the columns of a basket.
        null_keys: whether null is a key like others; otherwise events with a null key are left out.
        zero_values: whether a null, NaN or infinite value counts as 0; otherwise it is left out.
    """

    plan: ReleasePlan
    number: int
    key_types: tuple[pa.DataType, ...]
    public: PublicKeys | None
    listed: Combinations | None = None
    categories: Mapping[Categories, pa.Array] = field(default_factory=dict)
    basket_types: tuple[pa.DataType, ...] = ()
    null_keys: bool = False
    zero_values: bool = False

    @property
    def key_columns(self) -> tuple[str, ...]:
        return self.plan.release.keys.columns

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The columns that ids of keys are made of: all of them, or the private ones of keys that are partly public."""
        return tuple(name for name in self.key_columns if self.listed is None or name not in self.listed.columns)

    @property
    def key_domain(self) -> int:
        return self.number + 1

    def key_ids(self, columns: Sequence[pa.Array], secret: bytes) -> Ids:
        """The ids of keys, from their columns."""
        if self.plan.release.pairs:
            first, second = (self.item_ids(column, secret) for column in columns)
            return make_pair_ids(first, second, secret, self.key_domain)
        words = [as_id_words(column) for column in columns]
        return ids_by_values(words, lambda different: make_ids(different, secret, self.key_domain))

    def item_ids(self, column: pa.Array, secret: bytes) -> Ids:
        """The ids of the values that are paired."""
        return make_ids([as_id_words(column)], secret, ITEM_DOMAINS + self.number)


@dataclass(frozen=True, kw_only=True)
class UnitInput:
    """The columns whose values identify a privacy unit, and their canonical types. None where each event is a unit."""

    columns: tuple[str, ...]
    types: tuple[pa.DataType, ...]


@dataclass(eq=False, kw_only=True)
class SumByUnit(beam.PTransform[beam.PCollection[EventBatch], beam.PCollection[tuple[int, bytes]]]):
    """EventBatch to (unit shard, payload): sums per unit and key, and the names of keys."""

    unit: UnitInput
    releases: Sequence[ReleaseInput]
    secret: bytes
    shards: int
    exchange: Exchange
    folder: WorkFolder

    def expand(self, input_or_inputs: beam.PCollection[EventBatch]) -> beam.PCollection[tuple[int, bytes]]:
        return input_or_inputs | "Sum" >> beam.ParDo(_Sum(self)).with_output_types(tuple[int, bytes])


class _Sum(beam.DoFn):
    def __init__(self, step: SumByUnit) -> None:
        self.unit, self.releases, self.secret = step.unit, step.releases, step.secret
        self.shards, self.exchange, self.folder = step.shards, step.exchange, step.folder
        self.public: dict[int, pa.RecordBatch] = {}

    @guarded
    def process(self, batch: EventBatch) -> Iterator[tuple[int, bytes]]:
        if not self.public:
            self.public = all_public_names(self.releases, self.secret)
        place = (batch.part, batch.position)
        tables = sum_by_unit(batch.events, self.unit, self.releases, self.secret, self.public, place)
        if place == (0, 0):
            tables.extend(self.public.values())
        yield from self.exchange.send(tables, self.shards)


def sum_by_unit(
    events: pa.RecordBatch,
    unit: UnitInput,
    releases: Sequence[ReleaseInput],
    secret: bytes,
    public: dict[int, pa.RecordBatch],
    place: tuple[int, int] = (0, 0),
) -> list[pa.RecordBatch]:
    """The sums of a batch per unit and key, and the names of the keys of releases with private keys.

    Args:
        place: of the batch among all: no two have the same. Matters where each event is a unit.

    Returns:
        For each release `sums:<number>` (unit_high, unit_low, key_high, key_low, public, then each tally), ascending in the
        first 16 bits of the unit, and not always one row per unit and key; for each `BinVector` of the plan
        `bins:<number>:<vector>` (the same ids and public, then bin and events), in the same order; where bounds sample, instead
        `events:<number>`, one row an event (the same ids and public, then tally_<i> and bin_<i>);
        for private keys `names:<number>` (key_high, key_low, then the key columns), ascending by key. Where keys are partly
        public, ids and names are of their private parts, and `public` is the number of the public one; otherwise it is left out.
        For a release of pairs instead of all these `items:<number>` (unit_high, unit_low, basket_high, basket_low, item_high,
        item_low, item), in the same order; an item may be in a basket twice.
    """
    if unit.columns:
        columns = [as_key(events[name], kind) for name, kind in zip(unit.columns, unit.types, strict=True)]
        rows = _all_true([is_given(column) for column in columns])
        if len(rows) < events.num_rows:
            events, columns = events.take(rows), [column.take(rows) for column in columns]
    else:
        columns = [pa.array(np.full(events.num_rows, number)) for number in place] + [pa.array(np.arange(events.num_rows))]
    words = [as_id_words(column) for column in columns]
    units = make_ids(words, secret, UNIT_DOMAIN)
    alone = not unit.columns
    return [
        table
        for release in releases
        for table in (
            [basket_items(events, units, words, release, secret, public.get(release.number))]
            if release.plan.release.pairs
            else _sum_release(events, units, release, secret, public.get(release.number), alone=alone)
        )
    ]


def _sum_release(
    events: pa.RecordBatch, units: Ids, release: ReleaseInput, secret: bytes, public: pa.RecordBatch | None, *, alone: bool
) -> list[pa.RecordBatch]:
    columns = {name: as_key(events[name], kind) for name, kind in zip(release.key_columns, release.key_types, strict=True)}
    rows = _all_true([pc.is_valid(column) for column in columns.values()])
    if len(rows) < events.num_rows and not release.null_keys:
        events, units, columns = _taken(rows, events, units, columns)
    numbers = None
    if release.listed is not None:
        numbers = release.listed.numbers([columns[name] for name in release.listed.columns])
        rows = np.flatnonzero(numbers >= 0)
        events, units, columns = _taken(rows, events, units, columns)
        numbers = numbers[rows]
    named = [columns[name] for name in release.named_columns]
    keys = RowKeys(release.key_ids(named, secret), numbers)
    if public is not None:
        rows = np.flatnonzero(locate(keys.ids, ids_of(public, "key")) >= 0)
        events, units, keys = events.take(rows), units.take(rows), keys.take(rows)
    cap = release.plan.cap
    # An event that is a unit by itself has nothing to be grouped with, and to choose among events takes each by itself.
    group = not alone and not release.plan.bounds.sampling and worth_grouping(units, keys.ids, cap)
    pairs = split_pairs(cap_keys(group_pairs(units, keys.ids), cap), keys.public)[0].pairs if group else ungrouped(units)
    tallies, bins = tally_steps(events, release), event_bins(events, release)
    if release.plan.bounds.sampling:
        tables = [_events_table(release.number, units, keys, pairs.order, tallies, bins)]
    else:
        tables = unit_tables(release.number, units, keys, pairs, tallies, bins)
    if public is None:
        pair_ids = keys.ids.take(pairs.firsts)
        by_key = group_ids(pair_ids)
        tables.append(names_batch(release, pair_ids.take(by_key.firsts), named, pairs.firsts[by_key.firsts]))
    return tables


def _events_table(
    number: int, units: Ids, keys: RowKeys, order: Ints, tallies: Iterable[Ints], bins: Iterable[Ints]
) -> pa.RecordBatch:
    """Each event by itself, in this order: its unit, its key, what it adds to each tally, and its bins."""
    ids = id_columns(units.take(order), "unit") | key_columns(keys.take(order))
    steps: Columns = {f"tally_{place}": narrowed(steps[order]) for place, steps in enumerate(tallies)}
    found: Columns = {f"bin_{place}": narrowed(found[order]) for place, found in enumerate(bins)}
    return named_batch(f"events:{number}", ids | steps | found)


def basket_items(
    events: pa.RecordBatch,
    units: Ids,
    unit_words: Sequence[pa.Array],
    release: ReleaseInput,
    secret: bytes,
    public: pa.RecordBatch | None,
) -> pa.RecordBatch:
    """The items of each unit's baskets, of which pairs are made once all events of the unit are together.

    An event without item or basket is left out, and where keys are public one whose item is in no listed pair. Of a basket with
    more than `most_items` items in the batch, those with the smallest ids stay.
    """
    declared = release.plan.release
    kinds = (release.key_types[0], *release.basket_types)
    item, *within = (as_key(events[name], kind) for name, kind in zip(declared.event_columns, kinds, strict=True))
    used = [pc.is_valid(item), *(is_given(column) for column in within)]
    if public is not None:
        used.append(pc.is_in(item, pa.concat_arrays([public["column_0"], public["column_1"]])))
    rows = _all_true(used)
    item, units = item.take(rows), units.take(rows)
    # A unit is part of its baskets: those of two units have nothing in common.
    columns = [column.take(rows) for column in (*unit_words, *map(as_id_words, within))]
    baskets = make_ids(columns, secret, BASKET_DOMAINS + release.number)
    items = release.item_ids(item, secret)
    kept = np.arange(len(rows))
    if worth_grouping(baskets, items, declared.most_items):
        kept = cap_keys(group_pairs(baskets, items), declared.most_items).pairs.firsts
    kept = kept[ungrouped(units.take(kept)).order]
    ids = {"unit": units, "basket": baskets, "item": items}
    found: Columns = {}
    for prefix, made in ids.items():
        found |= id_columns(made.take(kept), prefix)
    return named_batch(f"items:{release.number}", found | {"item": item.take(kept)})


def tally_steps(events: pa.RecordBatch, release: ReleaseInput) -> Iterator[NDArray[np.int64]]:
    """What each event adds to each of the release's tallies. int64 (n,) each."""
    tallies = release.plan.tallies
    columns = {tally.column for tally in tallies if tally.column}
    values = {column: usable_values(events[column], zero=release.zero_values) for column in columns}
    for tally in tallies:
        if isinstance(tally, Events):
            yield np.ones(events.num_rows, np.int64)
        elif isinstance(tally, Values):
            yield values[tally.column][1].astype(np.int64)
        else:
            yield tally.steps(*values[tally.column])


def event_bins(events: pa.RecordBatch, release: ReleaseInput) -> Iterator[NDArray[np.int64]]:
    """The bin of each event in each of the release's `BinVector`s. int64 (n,) each; -1 for none."""
    for vector in release.plan.bins:
        column = events[vector.bins.column]
        if isinstance(vector.bins, Ranges):
            yield vector.bins.of(*usable_values(column, zero=release.zero_values))
        else:
            values = release.categories[vector.bins]
            yield places_among(as_key(column, values.type), values)


def names_batch(release: ReleaseInput, ids: Ids, columns: Sequence[pa.Array], rows: NDArray[np.int64]) -> pa.RecordBatch:
    """The table `names:<number>`: ids of keys, and their columns at these rows."""
    named = {f"column_{number}": column.take(pa.array(rows)) for number, column in enumerate(columns)}
    return named_batch(f"names:{release.number}", id_columns(ids, "key") | named)


def all_public_names(releases: Iterable[ReleaseInput], secret: bytes) -> dict[int, pa.RecordBatch]:
    """The names of the public keys of those of the releases that have such, by number."""
    return {release.number: public_names(release, secret) for release in releases if release.public}


def public_names(release: ReleaseInput, secret: bytes) -> pa.RecordBatch:
    """The names of a release's public keys, ascending by id."""
    assert release.public is not None
    columns = release.public.load()
    ids = release.key_ids(columns, secret)
    firsts = group_ids(ids).firsts
    return names_batch(release, ids.take(firsts), columns, firsts)


def _taken(
    rows: NDArray[np.int64], events: pa.RecordBatch, units: Ids, columns: Mapping[str, pa.Array]
) -> tuple[pa.RecordBatch, Ids, dict[str, pa.Array]]:
    """These rows of each."""
    return events.take(rows), units.take(rows), {name: column.take(rows) for name, column in columns.items()}


def _all_true(masks: Sequence[pa.Array]) -> NDArray[np.int64]:
    mask = masks[0].to_numpy(zero_copy_only=False)
    for other in masks[1:]:
        mask = mask & other.to_numpy(zero_copy_only=False)
    return np.flatnonzero(mask)
