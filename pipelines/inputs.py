"""From the config's file names to what the steps need: parts of files, typed columns, conditions. Reads footers only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.config import ConditionConfig, Config, PeriodConfig
from pipelines.files import find_files, read_footers, text_format
from privacy.metrics.base import Metric
from privacy.plan import Plan, ReleasePlan
from transforms.columns import is_number, key_type
from transforms.conditions import Condition
from transforms.errors import ConfigError, InputError
from transforms.file_state import FileState
from transforms.public_keys import PublicKeys
from transforms.read_events import (
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
    schema, parts = read_footers(paths, text_format(config.events), needed, made)
    types = {name: plain_type(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
    states: dict[str, FileState] = {}
    for lookup in config.events.lookups:
        states[lookup.file] = _state(lookup.file)
        types |= _lookup_types(lookup.file, lookup.by, lookup.columns, types)
    for name, period in config.events.derive.items():
        types[name] = _period_type(name, period, types, parts)
    values = {metric.column: f"releases[{r}].metrics[{m}]" for r, m, metric in _metrics(config) if metric.column}
    for column, where in values.items():
        if not is_number(types[column]):
            cure = _declare(column, types[column], "float64", parts) or "name a column of numbers"
            raise InputError(f"{where}: column {column!r} is {types[column]}, not a number; {cure}")
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
            text=text_format(config.events),
            refuse_bad=config.events.bad_rows == "refuse",
        ),
        unit=UnitInput(
            columns=config.events.privacy_unit,
            types=tuple(_key_type(c, types[c], "events.privacy_unit") for c in config.events.privacy_unit),
        ),
        releases=tuple(_release_input(item, number, types) for number, item in enumerate(plan.releases)),
        value_types={column: types[column] for column in values},
    )


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


def _lookup_types(file: str, by: str, columns: Sequence[str], types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    table = read_lookup(Lookup(file, by, tuple(columns)))
    key = plain_type(table.schema.field(by).type)
    if key != types[by] and not (pa.types.is_integer(key) and pa.types.is_integer(types[by])):
        raise InputError(f"{file}: column {by!r} is {key}, but {types[by]} in the events; write both with the same type")
    return {column: plain_type(table.schema.field(column).type) for column in columns}


def _period_type(name: str, period: PeriodConfig, types: Mapping[str, pa.DataType], parts: Sequence[FilePart]) -> pa.DataType:
    source, to, zone = period.truncate, period.to, period.timezone
    kind = types[source]
    if not (pa.types.is_timestamp(kind) or (pa.types.is_date(kind) and to != "hour")):
        cure = _declare(source, kind, "timestamp", parts) or "name a column of timestamps"
        raise InputError(f"events.derive.{name}: column {source!r} is {kind}, not a timestamp; {cure}")
    if to != "hour":
        return pa.date32()
    return pa.timestamp("us", zone if kind.tz is not None else None)


def _declare(column: str, kind: pa.DataType, wanted: str, parts: Sequence[FilePart]) -> str | None:
    """The line to add where a column of text files is text because nothing else is declared."""
    if not pa.types.is_string(kind) or all(part.row_groups is not None for part in parts):
        return None
    form = "decimal" if wanted == "float64" else "timestamps"
    return f"add events.types: {{{column}: {wanted}}}, and events.csv.{form} if it is not written as {_FORMS[form]}"


_FORMS = {"decimal": "1234.5", "timestamps": "2024-12-31"}


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
