"""Selection and noise, once: the only step after which anything may be published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from privacy.grid import Floats, Ints
from privacy.ids import Ids
from privacy.metrics.base import NoisySums
from privacy.selection import select_keys
from privacy.vectors import BinVector, Vector
from transforms.columns import is_integer
from transforms.exchange import decode, encode, ids_of, named_batch
from transforms.grouping import locate
from transforms.sum_by_unit import ReleaseInput
from transforms.work_folder import WorkFolder, create_if_absent, guarded


@dataclass(eq=False, kw_only=True)
class ReleaseKeys(beam.PTransform[beam.PCollection[tuple[int, bytes]], beam.PCollection[int]]):
    """(key shard, tables) to the shard's number, once its noisy releases lie in the private folder.

    The first attempt's draw stays: a repeated one finds the file and leaves it.
    Guarantee: docs/guarantee.md, "Retries and publishing".
    """

    releases: Sequence[ReleaseInput]
    value_types: Mapping[str, pa.DataType]
    folder: WorkFolder

    def expand(self, input_or_inputs: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[int]:
        return input_or_inputs | "Stage" >> beam.ParDo(_Stage(self)).with_output_types(int)


class _Stage(beam.DoFn):
    def __init__(self, step: ReleaseKeys) -> None:
        self.releases, self.value_types, self.folder = step.releases, step.value_types, step.folder

    @guarded
    def process(self, element: tuple[int, bytes]) -> Iterator[int]:
        shard, data = element
        tables = decode(data)
        released = []
        for release in self.releases:
            names = tables.get(f"names:{release.number}")
            if names is not None:
                sums = tables.get(f"sums:{release.number}", [None])
                bins = [tables.get(f"bins:{release.number}:{n}", [None])[0] for n in range(len(release.plan.bins))]
                released.append(release_keys(sums[0], names[0], release, self.value_types, bins))
        create_if_absent(self.folder.staged / f"{shard:04d}.arrow", encode(released))
        yield shard


def release_keys(
    sums: pa.RecordBatch | None,
    names: pa.RecordBatch,
    release: ReleaseInput,
    value_types: Mapping[str, pa.DataType],
    bins: Sequence[pa.RecordBatch | None] = (),
) -> pa.RecordBatch:
    """Selects the keys of a shard, adds noise to each of their sums, and makes the published columns.

    Args:
        sums: of `sum_by_key`; None where no unit has a key of the shard.
        names: the shard's keys by id: all candidates where keys are private, exactly the published ones where public.
        bins: of `sum_bins_by_key`, one of each of the plan's `bins`; None as above.

    Returns:
        Table `<release's name>`: the key columns, then each metric's columns. Not sorted.
    """
    plan = release.plan
    keys = Ids(*(np.zeros(0, np.uint64),) * 2) if sums is None else ids_of(sums, "key")
    listed = ids_of(names, "key")
    noisy: dict[Vector | BinVector | None, NoisySums] = {}
    if plan.selection is None:
        published, named, summed = listed, np.arange(len(listed.high)), locate(listed, keys)
    else:
        summed, noisy_weights = select_keys(_stage_sums(sums, 0), plan.selection.noise, plan.selection.threshold)
        noisy[plan.selection.vector] = NoisySums(noisy_weights, plan.selection.grid, plan.selection.noise)
        published = keys.take(summed)
        named = locate(published, listed)
    exact: dict[Vector | BinVector, Ints] = {}
    number = int(plan.selection is not None)
    for total in plan.totals:
        exact[total] = _total_sums(sums, number, total.width, summed)
        number += total.width
    for vector, table in zip(plan.bins, bins, strict=True):
        exact[vector] = vector.nodes(_bin_sums(table, published, vector.bins.count))
    for stage in plan.vectors:
        noisy[stage.vector] = NoisySums(stage.noise.add(exact[stage.vector]), stage.grid, stage.noise)
    columns: dict[str, pa.Array | Ints | Floats] = {
        column: names[f"column_{number}"].take(pa.array(named)) for number, column in enumerate(release.key_columns)
    }
    for part in plan.metrics:
        metric = part.metric
        integers = all(is_integer(value_types[column]) for column in metric.value_names)
        columns |= metric.columns([noisy[stage.vector] for stage in part.stages], integers=integers)
    return named_batch(plan.name, columns)


def _bin_sums(table: pa.RecordBatch | None, keys: Ids, bins: int) -> Ints:
    """The sums of each bin of keys that ascend, 0 where there are none. int64 (keys, bins)."""
    sums = np.zeros((len(keys.high), bins), np.int64)
    if table is not None:
        places = locate(ids_of(table, "key"), keys)
        found = np.flatnonzero(places >= 0)
        sums[places[found], table["bin"].to_numpy()[found]] = table["steps"].to_numpy()[found]
    return sums


def _total_sums(sums: pa.RecordBatch | None, first: int, width: int, rows: Ints) -> Ints:
    """The sums of so many stage columns at these rows, 0 where a row is -1. int64 (n,), or (n, width) of more than one."""
    columns = [np.where(rows >= 0, np.append(_stage_sums(sums, number), 0)[rows], 0) for number in range(first, first + width)]
    return columns[0] if width == 1 else np.stack(columns, axis=1)


def _stage_sums(sums: pa.RecordBatch | None, number: int) -> Ints:
    return np.zeros(0, np.int64) if sums is None else sums[f"stage_{number}"].to_numpy()


def published_schema(release: ReleaseInput, value_types: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns that `release_keys` gives, from the config and the files' schema alone."""
    ids = {f"key_{word}": pa.array([], pa.uint64()) for word in ("high", "low")}
    names = {f"column_{number}": pa.array([], kind) for number, kind in enumerate(release.key_types)}
    empty = named_batch("names", ids | names)
    schema: pa.Schema = release_keys(None, empty, release, value_types, [None] * len(release.plan.bins)).schema
    return schema.remove_metadata()


def stage_schemas(releases: Sequence[ReleaseInput], value_types: Mapping[str, pa.DataType], folder: WorkFolder) -> None:
    """Stages a batch without rows of each release, so that its columns are known where no key is published."""
    empty = [
        named_batch(release.plan.name, {field.name: pa.array([], field.type) for field in published_schema(release, value_types)})
        for release in releases
    ]
    create_if_absent(folder.staged / "schemas.arrow", encode(empty))
