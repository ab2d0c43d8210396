"""Selection and noise, once: the only step after which anything may be published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from privacy.grid import Floats, Ints
from privacy.ids import Ids
from privacy.metrics.base import NoisySums
from privacy.plan import SelectionStage
from privacy.selection import select_keys
from privacy.vectors import BinVector, Vector
from transforms.columns import is_integer
from transforms.exchange import decode, encode, ids_of, keys_of, named_batch
from transforms.grouping import group_ids, locate
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
        names: the shard's keys by id: all candidates where keys are private, exactly the published ones where public. Where
            they are partly public, their private parts.
        bins: of `sum_bins_by_key`, one of each of the plan's `bins`; None as above.

    Returns:
        Table `<release's name>`: the key columns, then each metric's columns. Not sorted. Where keys are partly public, each
        selected private part with every public part.

    Source: docs/guarantee.md, "Selection", "Keys that are partly public".
    """
    plan = release.plan
    listed = ids_of(names, "key")
    noisy: dict[Vector | BinVector | None, NoisySums] = {}
    if plan.selection is None:
        published, named = listed, np.arange(len(listed.high))
    else:
        published, noisy_weights = _selected(sums, plan.selection)
        noisy[plan.selection.vector] = NoisySums(noisy_weights, plan.selection.grid, plan.selection.noise)
        named = locate(published, listed)
    each = 1 if release.listed is None else len(release.listed)  # keys of each id that is published
    rows, places = _places(sums, published, each)
    exact: dict[Vector | BinVector, Ints] = {}
    number = int(plan.selection is not None)
    for total in plan.totals:
        exact[total] = _total_sums(sums, range(number, number + total.width), rows, places, len(named) * each)
        number += total.width
    for vector, table in zip(plan.bins, bins, strict=True):
        exact[vector] = vector.nodes(_bin_sums(table, published, each, vector.bins.count))
    for stage in plan.vectors:
        noisy[stage.vector] = NoisySums(stage.noise.add(exact[stage.vector]), stage.grid, stage.noise)
    columns: dict[str, pa.Array | Ints | Floats] = _key_columns(names, named, release)
    for part in plan.metrics:
        metric = part.metric
        integers = all(is_integer(value_types[column]) for column in metric.value_names)
        columns |= metric.columns([noisy[stage.vector] for stage in part.stages], integers=integers)
    return named_batch(plan.name, columns)


def _selected(sums: pa.RecordBatch | None, selection: SelectionStage) -> tuple[Ids, Ints]:
    """The ids that are selected, ascending, and their noisy weights. Draws the noise of the selection."""
    if sums is None:
        return Ids(*(np.zeros(0, np.uint64),) * 2), np.zeros(0, np.int64)
    keys = ids_of(sums, "key")
    candidates = group_ids(keys)
    weights = candidates.add_up(_stage_sums(sums, 0))
    kept, noisy = select_keys(weights, selection.noise, selection.threshold)
    return keys.take(candidates.firsts[kept]), noisy


def _places(table: pa.RecordBatch | None, published: Ids, each: int) -> tuple[Ints, Ints]:
    """Which rows of a table are about published keys, and where these stand among them: the `each` of an id together."""
    if table is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    keys = keys_of(table)
    places = locate(keys.ids, published)
    rows = np.flatnonzero(places >= 0)
    places = places[rows] * each
    return rows, places if keys.public is None else places + keys.public[rows]


def _key_columns(names: pa.RecordBatch, named: Ints, release: ReleaseInput) -> dict[str, pa.Array | Ints | Floats]:
    """The key columns: names in these rows, each with every public part where keys are partly public."""
    columns: dict[str, pa.Array | Ints | Floats] = {}
    each = 1
    if release.listed is not None:
        each = len(release.listed)
        parts = release.listed.take(np.tile(np.arange(each), len(named)))
        columns |= zip(release.listed.columns, parts, strict=True)
    rows = pa.array(np.repeat(named, each))
    columns |= {name: names[f"column_{number}"].take(rows) for number, name in enumerate(release.named_columns)}
    return {name: columns[name] for name in release.key_columns}


def _bin_sums(table: pa.RecordBatch | None, published: Ids, each: int, bins: int) -> Ints:
    """The sums of each bin of published keys, 0 where there are none. int64 (keys, bins)."""
    sums = np.zeros((len(published.high) * each, bins), np.int64)
    if table is not None:
        rows, places = _places(table, published, each)
        sums[places, table["bin"].to_numpy()[rows]] = table["steps"].to_numpy()[rows]
    return sums


def _total_sums(sums: pa.RecordBatch | None, numbers: range, rows: Ints, places: Ints, keys: int) -> Ints:
    """The sums of these stage columns of published keys, 0 where there are none. int64 (keys,), or (keys, width) of several."""
    totals = np.zeros((keys, len(numbers)), np.int64)
    for column, number in enumerate(numbers):
        totals[places, column] = _stage_sums(sums, number)[rows]
    return totals[:, 0] if len(numbers) == 1 else totals


def _stage_sums(sums: pa.RecordBatch | None, number: int) -> Ints:
    return np.zeros(0, np.int64) if sums is None else sums[f"stage_{number}"].to_numpy()


def published_schema(release: ReleaseInput, value_types: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns that `release_keys` gives, from the config and the files' schema alone."""
    ids = {f"key_{word}": pa.array([], pa.uint64()) for word in ("high", "low")}
    kinds = dict(zip(release.key_columns, release.key_types, strict=True))
    names = {f"column_{number}": pa.array([], kinds[name]) for number, name in enumerate(release.named_columns)}
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
