"""Per shard of units: bounding what each unit adds to each stage, and adding the units up by key."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from privacy.bins import NO_BIN
from privacy.grid import Ints
from privacy.ids import Ids
from privacy.plan import ReleasePlan
from privacy.vectors import BinVector, UnitCells, UnitRows
from transforms.errors import RunnerError
from transforms.exchange import (
    Columns,
    Exchange,
    ids_of,
    joined,
    joined_ids,
    joined_keys,
    key_columns,
    named_batch,
    named_of,
    narrowed,
)
from transforms.form_pairs import form_pairs
from transforms.grouping import (
    Groups,
    GroupUnits,
    RowKeys,
    binned,
    cap_keys,
    group_bins,
    group_ids,
    group_keys,
    group_pairs,
    split_pairs,
)
from transforms.sampling import sample
from transforms.sum_by_unit import ReleaseInput, all_public_names
from transforms.work_folder import WorkFolder, guarded

Grouped = tuple[int, Iterable[bytes]]


@dataclass(eq=False, kw_only=True)
class BoundContributions(beam.PTransform[beam.PCollection[Grouped], beam.PCollection[tuple[int, bytes]]]):
    """(unit shard, payloads) to (key shard, payload): bounded sums by key, and the names of keys.

    Guarantee: one unit changes the sums of a stage by a vector over keys of at most the stage's norm.
    """

    releases: Sequence[ReleaseInput]
    secret: bytes
    shards: int
    exchange: Exchange
    folder: WorkFolder

    def expand(self, input_or_inputs: beam.PCollection[Grouped]) -> beam.PCollection[tuple[int, bytes]]:
        return input_or_inputs | "Bound" >> beam.ParDo(_Bound(self)).with_output_types(tuple[int, bytes])


class _Bound(beam.DoFn):
    def __init__(self, step: BoundContributions) -> None:
        self.releases, self.secret = step.releases, step.secret
        self.shards, self.exchange, self.folder = step.shards, step.exchange, step.folder
        self.public: dict[int, pa.RecordBatch] = {}

    @guarded
    def process(self, element: Grouped) -> Iterator[tuple[int, bytes]]:
        received = self.exchange.receive(element[1])
        tables, group_units = [], GroupUnits()
        for release in self.releases:
            if events := received.pop(f"events:{release.number}", []):
                received |= {named_of([table]): [table] for table in sample(events, release.plan, release.number)}
            if items := received.pop(f"items:{release.number}", []):
                if not self.public:
                    self.public = all_public_names((each for each in self.releases if each.plan.release.pairs), self.secret)
                for pairs in bound_pairs(items, release, self.secret, self.public.get(release.number)):
                    yield from self.exchange.send(pairs, self.shards)
            sums = received.pop(f"sums:{release.number}", [])
            if sums:
                tables.append(bound_contributions(sums, release.plan, group_units))
            for number, vector in enumerate(release.plan.bins):
                if bins := received.pop(f"bins:{release.number}:{number}", []):
                    tables.append(bound_bins(bins, sums, vector, release.plan.cap))
            if names := received.pop(f"names:{release.number}", []):
                tables.append(merge_names(names))
        yield from self.exchange.send(tables, self.shards)


def bound_contributions(
    batches: Sequence[pa.RecordBatch], plan: ReleasePlan, group_units: Callable[[Ids], Groups] = group_ids
) -> pa.RecordBatch:
    """Sums per unit and key, of all batches of some units, to bounded sums per key.

    Args:
        batches: tables `sums:<number>` of `sum_by_unit`, which together hold all rows of their units.

    Returns:
        `sums:<number>`: key_high, key_low, public where keys are partly public, then `stage_<i>` for the selection, if any, and
        each number of the plan's `totals`, int64 steps; ascending by key. The weights of a private part, of which a unit may
        have several keys, stand in rows of any of its keys: what counts is their sum.
    """
    units, keys = joined_ids(batches, "unit"), joined_keys(batches)
    selected = cap_keys(group_pairs(units, keys.ids, group_units), plan.cap)
    groups, starts = split_pairs(selected, keys.public)
    pairs = groups.pairs
    rows = UnitRows(
        units=groups.units,
        tallies={tally: pairs.add_up(joined(batches, f"tally_{number}")) for number, tally in enumerate(plan.tallies)},
        rows=len(pairs.starts),
    )
    pair_keys = keys.take(pairs.firsts)
    by_key = group_keys(pair_keys)
    bounded = []
    if plan.selection is not None:
        weights = np.zeros(rows.rows, np.int64)
        weights[starts] = np.repeat(plan.selection.weights[selected.sizes], selected.sizes)
        bounded.append(weights)
    for vector in plan.totals:
        steps = vector.bounded(rows)
        bounded += [steps] if steps.ndim == 1 else list(steps.T)
    stages: Columns = {f"stage_{number}": by_key.add_up(values) for number, values in enumerate(bounded)}
    return named_batch(named_of(batches), key_columns(pair_keys.take(by_key.firsts)) | stages)


def bound_pairs(
    batches: Sequence[pa.RecordBatch], release: ReleaseInput, secret: bytes, public: pa.RecordBatch | None
) -> Iterator[list[pa.RecordBatch]]:
    """Items of the baskets of some units to bounded sums per pair, some units at a time.

    Args:
        batches: tables `items:<number>` of `sum_by_unit`, which together hold all items of their units.
        public: of `public_names`; None where keys are private.

    Yields:
        `sums:<number>` as of `bound_contributions`, and, for private keys, `names:<number>` of the pairs in them. No unit is in
        two of them.
    """
    units, baskets, items = (joined_ids(batches, prefix) for prefix in ("unit", "basket", "item"))
    named = merge_names([batch.select(["item_high", "item_low", "item"]) for batch in batches], "item")
    for sums, *names in form_pairs(units, baskets, items, named, release, secret, public):
        yield [bound_contributions([sums], release.plan), *names]


def bound_bins(
    batches: Sequence[pa.RecordBatch], sums: Sequence[pa.RecordBatch], vector: BinVector, cap: int | None
) -> pa.RecordBatch:
    """Events per unit, key and bin, of all batches of some units, to bounded sums per key and bin.

    Args:
        batches: tables `bins:<number>:<vector>` of `sum_by_unit`, which together hold all rows of their units.
        sums: tables `sums:<number>` of the same units, which have all their keys: the cap is about these, not only about
            those with events in a bin, which are what a batch happened to leave.

    Returns:
        The same table: key_high, key_low, public where keys are partly public, bin, `steps` int64; ascending by key.
    """
    others = [] if cap is None else sums
    units, keys = joined_ids([*batches, *others], "unit"), joined_keys([*batches, *others])
    none = np.full(sum(batch.num_rows for batch in others), NO_BIN)
    bins = np.concatenate([joined(batches, "bin"), none])
    groups = binned(split_pairs(cap_keys(group_pairs(units, keys.ids), cap), keys.public)[0], bins)
    cells = group_bins(groups.pairs, bins)
    events = cells.rows.add_up(np.concatenate([joined(batches, "events"), none]))
    bounded = vector.bounded(UnitCells(events, cells.groups, groups.units))
    return add_up_bins(named_of(batches), keys.take(groups.pairs.firsts).take(cells.groups), cells.bins, bounded)


def add_up_bins(name: str, keys: RowKeys, bins: Ints, steps: Ints) -> pa.RecordBatch:
    """The sums of each key and bin: the columns of the key, bin, steps; ascending by key."""
    by_key = group_keys(keys)
    cells = group_bins(by_key, bins)
    sums: Columns = {"bin": narrowed(cells.bins), "steps": cells.rows.add_up(steps)}
    return named_batch(name, key_columns(keys.take(by_key.firsts).take(cells.groups)) | sums)


def merge_names(batches: Sequence[pa.RecordBatch], prefix: str = "key") -> pa.RecordBatch:
    """Each key's name once, ascending by key; with the prefix of other ids, those."""
    ids = joined_ids(batches, prefix)
    firsts = np.sort(group_ids(ids).firsts)
    edges = np.cumsum([0, *(batch.num_rows for batch in batches)])
    kept = [
        batch.take(pa.array(firsts[(firsts >= start) & (firsts < stop)] - start))
        for batch, start, stop in zip(batches, edges[:-1], edges[1:], strict=True)
    ]
    merged = pa.Table.from_batches(kept).combine_chunks().to_batches(max_chunksize=None)
    if len(merged) > 1:  # Arrow cuts texts of more than 2 GiB; nothing may be lost of them
        raise RunnerError("the names of keys take more than 2 GiB in one shard; choose shorter or fewer keys")
    empty: pa.RecordBatch = kept[0].slice(0, 0)
    return merged[0].take(pa.array(group_ids(ids_of(merged[0], prefix)).firsts)) if merged else empty
