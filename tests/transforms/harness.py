"""Runs everything below the noise, as Beam runs it or through the pure functions, and names the keys of what comes out."""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pipelines.config import Config, parse_config
from pipelines.graph import Sharding, bounded_sums, runner_options
from pipelines.inputs import Inputs, resolve_inputs
from privacy.ids import Ids, make_ids, new_secret
from privacy.plan import Plan, make_plan
from transforms.bound_contributions import bound_bins, bound_contributions, bound_pairs, merge_names
from transforms.columns import as_id_words
from transforms.exchange import Exchange, decode, ids_of
from transforms.read_events import prepare_events, read_lookups, read_part
from transforms.sampling import sample
from transforms.sum_by_key import sum_bins_by_key, sum_by_key
from transforms.sum_by_unit import UNIT_DOMAIN, ReleaseInput, all_public_names, sum_by_unit
from transforms.work_folder import WorkFolder

Key = tuple[Any, ...]
Sums = dict[Key, tuple[int, ...]]
Tables = dict[str, list[pa.RecordBatch]]
Cells = dict[str, dict[Key, int]]


@dataclass(frozen=True)
class Setup:
    """A config with its plan and inputs, and the secret of one run."""

    config: Config
    plan: Plan
    inputs: Inputs
    secret: bytes

    @property
    def releases(self) -> tuple[ReleaseInput, ...]:
        return self.inputs.releases


def set_up(text: str, secret: bytes | None = None) -> Setup:
    """Parses, plans and resolves a config."""
    config = parse_config(text)
    plan = make_plan(config.budget, config.releases, config.events.privacy_unit.rows)
    return Setup(config, plan, resolve_inputs(config, plan), secret or new_secret())


class KeepTables(beam.DoFn):
    """Writes each shard's tables to a folder. A shard that comes twice is an error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def process(self, element: tuple[int, bytes]) -> Iterator[int]:
        shard, data = element
        with open(self.folder / f"{shard}.tables", "xb") as file:
            file.write(data)
        yield shard


def run_beam(setup: Setup, root: Path, sharding: Sharding, workers: int) -> tuple[Tables, int]:
    """The tables that the product's graph makes below the noise, and how many payload files it wrote."""
    folder = WorkFolder(root / uuid.uuid4().hex)
    folder.create()
    kept = folder.path / "kept"
    kept.mkdir()
    with beam.Pipeline(options=runner_options([f"--direct_num_workers={workers}"])) as pipeline:
        _ = (
            pipeline
            | "BoundedSums" >> bounded_sums(setup.inputs, sharding, setup.secret, folder)
            | "Keep" >> beam.ParDo(KeepTables(kept))
        )
    tables: Tables = {}
    for path in sorted(kept.iterdir()):
        for name, batches in decode(path.read_bytes()).items():
            tables.setdefault(name, []).extend(batches)
    return tables, len(list(folder.batches.iterdir()))


def read_all(setup: Setup) -> pa.Table:
    """All events as the steps get them, after lookups, periods and conditions."""
    plan = setup.inputs.events
    lookups = read_lookups(plan)
    batches = [prepare_events(batch, plan, lookups) for part in setup.inputs.parts for batch in read_part(part, plan.schema)]
    return pa.Table.from_batches(batches).combine_chunks()


def split(events: pa.Table, order: Sequence[int] | np.ndarray, batches: int) -> list[pa.RecordBatch]:
    """The rows in this order, in so many batches of unequal size, some of them empty."""
    ordered = events.take(pa.array(order)).combine_chunks()
    whole = ordered.to_batches()[0] if ordered.num_rows else pa.RecordBatch.from_pylist([], ordered.schema)
    edges = sorted((np.linspace(0, 1, batches + 1) ** 2 * ordered.num_rows).astype(int))
    return [whole.slice(start, end - start) for start, end in itertools.pairwise(edges)]


def run_twins(
    setup: Setup, batches: Sequence[pa.RecordBatch], unit_shards: int = 3, key_shards: int = 2, folder: Path | None = None
) -> Tables:
    """The tables that the pure functions make of these batches, sent through real exchanges."""
    exchange = Exchange(folder)
    public = all_public_names(setup.releases, setup.secret)
    by_unit: dict[int, list[bytes]] = {}
    for number, batch in enumerate(batches):
        tables = sum_by_unit(batch, setup.inputs.unit, setup.releases, setup.secret, public, (0, number))
        _sent(exchange, [*tables, *(public.values() if number == 0 else ())], unit_shards, by_unit)
    by_key: dict[int, list[bytes]] = {}
    for payloads in by_unit.values():
        for tables in _bounded(setup, exchange.receive(payloads), public):
            _sent(exchange, tables, key_shards, by_key)
    result: Tables = {}
    for payloads in by_key.values():
        for table in _summed(setup, exchange.receive(payloads)):
            result.setdefault(table.schema.metadata[b"table"].decode(), []).append(table)
    return result


def _sent(exchange: Exchange, tables: Sequence[pa.RecordBatch], shards: int, to: dict[int, list[bytes]]) -> None:
    for shard, payload in exchange.send(tables, shards):
        to.setdefault(shard, []).append(payload)


def _bounded(setup: Setup, received: Tables, public: dict[int, pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """What a shard of units makes of its tables: pairs some units at a time, then all else."""
    for release in setup.releases:
        if items := received.pop(f"items:{release.number}", None):
            yield from bound_pairs(items, release, setup.secret, public.get(release.number))
        if events := received.pop(f"events:{release.number}", None):
            received |= {
                table.schema.metadata[b"table"].decode(): [table] for table in sample(events, release.plan, release.number)
            }
    tables = []
    for name, batches in received.items():
        kind, number, *vector = name.split(":")
        plan = setup.releases[int(number)].plan
        if kind == "bins":
            tables.append(bound_bins(batches, received[f"sums:{number}"], plan.bins[int(vector[0])], plan.cap))
        else:
            tables.append(merge_names(batches) if kind == "names" else bound_contributions(batches, plan))
    yield tables


def _summed(setup: Setup, received: Tables) -> list[pa.RecordBatch]:
    """What a shard of keys makes of its tables."""
    reduce = {"names": merge_names, "bins": sum_bins_by_key}
    tables = []
    for name, batches in received.items():
        kind, number, *_ = name.split(":")
        tables.append(reduce[kind](batches) if kind in reduce else sum_by_key(batches, setup.releases[int(number)].plan))
    return tables


def names_of(tables: Tables, release: ReleaseInput) -> dict[int, Key]:
    """What each key id of a release stands for."""
    names: dict[int, Key] = {}
    for table in tables.get(f"names:{release.number}", []):
        columns = [table[f"column_{number}"].to_pylist() for number in range(len(release.named_columns))]
        for number, name in zip(numbers(ids_of(table, "key")), zip(*columns, strict=True), strict=True):
            if names.setdefault(number, name) != name:
                raise AssertionError("two keys have one id")
    return names


def named_sums(tables: Tables, release: ReleaseInput) -> Sums:
    """The sums of each stage by the name of the key. A key that comes twice is an error."""
    names, sums = names_of(tables, release), {}
    for table in tables.get(f"sums:{release.number}", []):
        stages = [table[f"stage_{number}"].to_pylist() for number in range(len(release.plan.stages))]
        for number, amounts in zip(numbers(ids_of(table, "key")), zip(*stages, strict=True), strict=True):
            if names[number] in sums:
                raise AssertionError("a key has two rows of sums")
            sums[names[number]] = amounts
    return sums


def named_cells(tables: Tables, release: ReleaseInput) -> Cells:
    """The sums of each stage by the name of the key, or of the key and a bin or column. Those that are 0 are left out."""
    plan, names = release.plan, names_of(tables, release)
    found: Cells = {stage.name: {} for stage in plan.stages}
    columns: list[tuple[str, tuple[int, ...]]] = [("select", ())] if plan.selection else []
    for stage in plan.vectors:
        if stage.vector in plan.totals:
            columns += [(stage.name, (place,) if stage.vector.width > 1 else ()) for place in range(stage.vector.width)]
    for table in tables.get(f"sums:{release.number}", []):
        assert table.schema.names == ["key_high", "key_low", *(f"stage_{number}" for number in range(len(columns)))]
        keys = [names[key] for key in numbers(ids_of(table, "key"))]
        for number, (name, place) in enumerate(columns):
            _put(found[name], [(*key, *place) for key in keys], table[f"stage_{number}"])
    for number, vector in enumerate(plan.bins):
        (of_bins,) = (stage.name for stage in plan.vectors if stage.vector == vector)
        for table in tables.get(f"bins:{release.number}:{number}", []):
            assert table.schema.names == ["key_high", "key_low", "bin", "steps"]
            keys = [names[key] for key in numbers(ids_of(table, "key"))]
            _put(found[of_bins], [(*key, cell) for key, cell in zip(keys, table["bin"].to_pylist(), strict=True)], table["steps"])
    return {name: {cell: total for cell, total in cells.items() if total} for name, cells in found.items()}


def _put(cells: dict[Key, int], names: Sequence[Key], amounts: pa.Array) -> None:
    for name, amount in zip(names, amounts.to_pylist(), strict=True):
        if name in cells:
            raise AssertionError("a cell is there twice")
        cells[name] = amount


def all_named(tables: Tables, setup: Setup) -> dict[str, Sums]:
    """The named sums of each release."""
    return {release.plan.name: named_sums(tables, release) for release in setup.releases}


def numbers(ids: Ids) -> list[int]:
    """Ids as Python integers of 128 bits."""
    return [high << 64 | low for high, low in zip(ids.high.tolist(), ids.low.tolist(), strict=True)]


def ranks(release: ReleaseInput, secret: bytes, keys: Sequence[Key]) -> dict[Key, int]:
    """The id of each key, by which the cap chooses."""
    return _numbered(keys, release.key_ids(_columns(keys, release.key_types), secret))


def unit_ids(setup: Setup, units: Sequence[Key]) -> dict[Key, int]:
    """The id of each unit, which goes into the hashes that sampling chooses by."""
    columns = [as_id_words(column) for column in _columns(units, setup.inputs.unit.types)]
    return _numbered(units, make_ids(columns, setup.secret, UNIT_DOMAIN))


def _columns(tuples: Sequence[Key], types: Sequence[pa.DataType]) -> list[pa.Array]:
    return [pa.array(column, kind) for column, kind in zip(zip(*tuples, strict=True), types, strict=True)]


def _numbered(tuples: Sequence[Key], ids: Ids) -> dict[Key, int]:
    return dict(zip(tuples, numbers(ids), strict=True))


def squared(vector: Sequence[int]) -> int:
    """The sum of squares, exactly."""
    return sum(int(x) ** 2 for x in vector)


def squared_changes(before: Sums, after: Sums, stages: int) -> list[int]:
    """For each stage, the squared L2 distance between two vectors over keys, exactly."""
    zero = (0,) * stages
    pairs = [(before.get(key, zero), after.get(key, zero)) for key in before.keys() | after.keys()]
    return [squared([new[stage] - old[stage] for old, new in pairs]) for stage in range(stages)]
