"""From the config's file names to what the steps need: parts of files, typed columns, conditions. Reads footers only."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import ConditionConfig, Config
from privacy.metrics.base import Metric
from privacy.plan import Plan, ReleasePlan
from privacy.tallies import MOST_EVENTS
from transforms.columns import is_number, key_type
from transforms.conditions import Condition
from transforms.errors import ConfigError, InputError
from transforms.file_state import FileState
from transforms.public_keys import PublicKeys
from transforms.read_events import (
    BATCH_ROWS,
    EventsPlan,
    FilePart,
    Lookup,
    Period,
    plain_type,
    read_lookup,
)
from transforms.sum_by_unit import ReleaseInput, UnitInput


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that the graph is built from."""

    parts: tuple[FilePart, ...]
    events: EventsPlan
    unit: UnitInput
    releases: tuple[ReleaseInput, ...]
    value_types: Mapping[str, pa.DataType]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


def resolve_inputs(config: Config, plan: Plan) -> Inputs:
    """Finds the files, reads their footers, and checks the columns that the config names.

    Raises:
        InputError: a file or column is missing, or has a type that cannot be used.
        ConfigError: a value of the config does not fit its column.
    """
    paths = find_files(config.events.files)
    needed = _needed(config)
    made = {column: f"events.derive.{column}" for column in config.events.derive}
    made |= {column: f"events.lookups[{n}].columns" for n, item in enumerate(config.events.lookups) for column in item.columns}
    schema, parts = _read_footers(paths, needed, made)
    types = {name: plain_type(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
    states: dict[str, FileState] = {}
    for lookup in config.events.lookups:
        states[lookup.file] = _state(lookup.file)
        types |= _lookup_types(lookup.file, lookup.by, lookup.columns, types)
    for name, period in config.events.derive.items():
        types[name] = _period_type(name, period.truncate, period.to, period.timezone, types)
    values = {metric.column: f"releases[{r}].metrics[{m}]" for r, m, metric in _metrics(config) if metric.column}
    for column, where in values.items():
        if not is_number(types[column]):
            raise InputError(f"{where}: column {column!r} is {types[column]}, not a number; name a column of numbers")
    keep = dict.fromkeys([*config.events.privacy_unit, *(c for r in config.releases for c in r.keys.columns), *values])
    return Inputs(
        parts=parts,
        events=EventsPlan(
            schema=schema,
            lookups=tuple(Lookup(item.file, item.by, item.columns, states[item.file]) for item in config.events.lookups),
            periods=tuple(Period(name, item.truncate, item.to, item.timezone) for name, item in config.events.derive.items()),
            conditions=tuple(
                _condition(item, types[item.column], f"events.where[{number}]") for number, item in enumerate(config.events.where)
            ),
            keep=tuple(keep),
        ),
        unit=UnitInput(
            columns=config.events.privacy_unit,
            types=tuple(_key_type(c, types[c], "events.privacy_unit") for c in config.events.privacy_unit),
        ),
        releases=tuple(_release_input(item, number, types) for number, item in enumerate(plan.releases)),
        value_types={column: types[column] for column in values},
    )


def find_files(patterns: Sequence[str]) -> list[str]:
    """The files that paths and globs name, each once, sorted.

    Raises:
        InputError: a path or glob names no file.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        if "://" in pattern:
            raise ConfigError(f"events.files: {pattern} is not a local path; this version reads local files only, copy them")
        files = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
        if not files:
            cure = "is a folder; write folder/*.parquet" if os.path.isdir(pattern) else "names no file; correct the path"
            raise InputError(f"events.files: {pattern} {cure}")
        for path in files:
            found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def _metrics(config: Config) -> Iterator[tuple[int, int, Metric]]:
    for number, release in enumerate(config.releases):
        for place, metric in enumerate(release.metrics):
            yield number, place, metric


def _needed(config: Config) -> dict[str, str]:
    """The columns that must be in the event files, and where the config names each first."""
    events = config.events
    made = set(events.derive) | {column for lookup in events.lookups for column in lookup.columns}
    named = [(column, "events.privacy_unit") for column in events.privacy_unit]
    named += [(lookup.by, f"events.lookups[{n}].by") for n, lookup in enumerate(events.lookups)]
    named += [(period.truncate, f"events.derive.{name}.truncate") for name, period in events.derive.items()]
    named += [(item.column, f"events.where[{n}].column") for n, item in enumerate(events.where)]
    named += [(c, f"releases[{n}].keys.columns") for n, r in enumerate(config.releases) for c in r.keys.columns]
    named += [(m.column, f"releases[{n}].metrics[{i}]") for n, i, m in _metrics(config) if m.column]
    needed: dict[str, str] = {}
    for column, where in named:
        if column not in made:
            needed.setdefault(column, where)
    return needed


def _read_footers(
    paths: Sequence[str], needed: Mapping[str, str], made: Mapping[str, str]
) -> tuple[pa.Schema, tuple[FilePart, ...]]:
    schema: pa.Schema | None = None
    parts: list[FilePart] = []
    for path in paths:
        state = FileState.of(path)
        try:
            with pq.ParquetFile(path) as file:
                found, metadata = file.schema_arrow, file.metadata
        except (pa.ArrowException, OSError):
            raise InputError(f"{path}: is no Parquet file, or is cut off; replace the file") from None
        for column, where in needed.items():
            if found.names.count(column) != 1:
                raise InputError(f"{where}: {path} has no column {column!r} (or several); correct the name or the file")
        for column, where in made.items():
            if column in found.names:
                raise ConfigError(f"{where}: {path} has a column {column!r} of its own; rename one")
        fields = pa.schema([pa.field(column, found.field(column).type) for column in needed])
        if schema is None:
            schema = fields
        for column in needed:
            if fields.field(column).type != schema.field(column).type:
                raise InputError(
                    f"{path}: column {column!r} is {fields.field(column).type}, "
                    f"but {schema.field(column).type} in {paths[0]}; write all files with the same types"
                )
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        parts += [FilePart(path, state, groups, sum(sizes[number] for number in groups)) for groups in _cut(sizes)]
    assert schema is not None
    rows = sum(part.rows for part in parts)
    if rows > MOST_EVENTS:
        raise InputError(f"events.files: more than {MOST_EVENTS} events; no sum of them is sure to fit, split the run")
    return schema, tuple(parts)


def _cut(sizes: Sequence[int]) -> Iterator[range]:
    """Row groups of a file in parts of about a batch. A file without rows is one part."""
    start, rows = 0, 0
    for number, size in enumerate(sizes):
        rows += size
        if rows >= BATCH_ROWS or number == len(sizes) - 1:
            yield range(start, number + 1)
            start, rows = number + 1, 0
    if not sizes:
        yield range(0)


def _lookup_types(file: str, by: str, columns: Sequence[str], types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    table = read_lookup(Lookup(file, by, tuple(columns)))
    key = plain_type(table.schema.field(by).type)
    if key != types[by] and not (pa.types.is_integer(key) and pa.types.is_integer(types[by])):
        raise InputError(f"{file}: column {by!r} is {key}, but {types[by]} in the events; write both with the same type")
    return {column: plain_type(table.schema.field(column).type) for column in columns}


def _period_type(name: str, source: str, to: str, zone: str, types: Mapping[str, pa.DataType]) -> pa.DataType:
    kind = types[source]
    if not (pa.types.is_timestamp(kind) or (pa.types.is_date(kind) and to != "hour")):
        raise InputError(f"events.derive.{name}: column {source!r} is {kind}, not a timestamp; name a column of timestamps")
    if to != "hour":
        return pa.date32()
    return pa.timestamp("us", zone if kind.tz is not None else None)


def _key_type(column: str, kind: pa.DataType, where: str) -> pa.DataType:
    published = key_type(kind)
    if published is None:
        raise InputError(f"{where}: column {column!r} is {kind}, which has no exact values; write it as text or integer")
    return published


def _state(path: str) -> FileState:
    try:
        return FileState.of(path)
    except OSError:
        raise InputError(f"{path}: names no file; correct the path") from None


def _condition(item: ConditionConfig, kind: pa.DataType, where: str) -> Condition:
    if item.value is None:
        return Condition(item.column, item.op, pa.nulls(0, kind))
    texts = [item.value] if isinstance(item.value, str) else list(item.value)
    return Condition(item.column, item.op, _typed(texts, kind, f"{where}.value"))


def _typed(texts: Sequence[str], kind: pa.DataType, where: str) -> pa.Array:
    """Texts of the config as values of a column's type."""
    try:
        return pa.array(texts, pa.string()).cast(kind)
    except pa.ArrowException:
        shown = texts[0] if len(texts) == 1 else list(texts)
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        cure = "write it as 2024-12-31T00:00:00Z" if zoned else "correct it"
        raise ConfigError(f"{where}: {shown!r} cannot be read as {kind}, the column's type; {cure}") from None


def _release_input(plan: ReleasePlan, number: int, types: Mapping[str, pa.DataType]) -> ReleaseInput:
    keys = plan.release.keys
    where = f"releases[{number}].keys"
    kinds = tuple(_key_type(column, types[column], f"{where}.columns") for column in keys.columns)
    public = None
    if keys.public:
        values = None
        if keys.values is not None:
            values = tuple(
                _typed(keys.values[column], kind, f"{where}.values.{column}")
                for column, kind in zip(keys.columns, kinds, strict=True)
            )
        public = PublicKeys(keys.columns, kinds, values, keys.file, _state(keys.file) if keys.file else None)
        public.load()
    return ReleaseInput(plan=plan, number=number, key_types=kinds, public=public)
