"""Per shard of keys: adding up what the shards of units left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from privacy.plan import ReleasePlan
from transforms.bound_contributions import Grouped, add_up_bins, merge_names
from transforms.exchange import Columns, Exchange, encode, joined, joined_keys, key_columns, named_batch, named_of
from transforms.grouping import group_keys
from transforms.sum_by_unit import ReleaseInput
from transforms.work_folder import WorkFolder, guarded


@dataclass(eq=False, kw_only=True)
class SumByKey(beam.PTransform[beam.PCollection[Grouped], beam.PCollection[tuple[int, bytes]]]):
    """(key shard, payloads) to (key shard, tables): for each release one table of sums and one of names, as IPC bytes."""

    releases: Sequence[ReleaseInput]
    exchange: Exchange
    folder: WorkFolder

    def expand(self, input_or_inputs: beam.PCollection[Grouped]) -> beam.PCollection[tuple[int, bytes]]:
        return input_or_inputs | "Sum" >> beam.ParDo(_Sum(self)).with_output_types(tuple[int, bytes])


class _Sum(beam.DoFn):
    def __init__(self, step: SumByKey) -> None:
        self.releases, self.exchange, self.folder = step.releases, step.exchange, step.folder

    @guarded
    def process(self, element: Grouped) -> Iterator[tuple[int, bytes]]:
        shard, payloads = element
        received = self.exchange.receive(payloads)
        tables: list[pa.RecordBatch] = []
        for release in self.releases:
            if sums := received.pop(f"sums:{release.number}", []):
                tables.append(sum_by_key(sums, release.plan))
            for number in range(len(release.plan.bins)):
                if bins := received.pop(f"bins:{release.number}:{number}", []):
                    tables.append(sum_bins_by_key(bins))
            if names := received.pop(f"names:{release.number}", []):
                tables.append(merge_names(names))
        yield shard, encode(tables)


def sum_by_key(batches: Sequence[pa.RecordBatch], plan: ReleasePlan) -> pa.RecordBatch:
    """Adds up tables of `bound_contributions`: same columns, each key once, ascending."""
    keys = joined_keys(batches)
    by_key = group_keys(keys)
    numbers = sum(vector.width for vector in plan.totals) + (plan.selection is not None)
    columns = [f"stage_{number}" for number in range(numbers)]
    stages: Columns = {column: by_key.add_up(joined(batches, column)) for column in columns}
    return named_batch(named_of(batches), key_columns(keys.take(by_key.firsts)) | stages)


def sum_bins_by_key(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Adds up tables of `bound_bins`: same columns, each key and bin once, ascending by key."""
    return add_up_bins(named_of(batches), joined_keys(batches), joined(batches, "bin"), joined(batches, "steps"))
