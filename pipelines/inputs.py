"""From the config's file names to what the steps need: parts of files, typed columns, conditions. Reads footers only."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipelines.config import Config
from pipelines.events_config import ConditionConfig, Events, PeriodConfig, Retain, Window
from pipelines.files import find_files, read_footers, text_format
from privacy.bins import Categories
from privacy.metrics.base import Metric
from privacy.plan import Plan, ReleasePlan
from privacy.release import Release, most_events
from transforms.columns import is_number, key_type
from transforms.conditions import Condition
from transforms.errors import ConfigError, InputError
from transforms.file_state import FileState
from transforms.normalise import normalise
from transforms.public_keys import Combinations, PublicKeys
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
    text = text_format(config.events)
    schema, parts = read_footers(paths, text, needed, made, most_events(config.releases))
    types = {name: plain_type(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
    states: dict[str, FileState] = {}
    for item in config.events.lookups:
        states[item.file] = _state(item.file)
        types |= _lookup_types(Lookup(item.file, item.by, item.columns), config.events, types)
    for name, period in config.events.derive.items():
        types[name] = _period_type(name, period, types, parts)
    values = {column: f"releases[{r}].metrics[{m}]" for r, m, metric in _metrics(config) for column in metric.value_names}
    for column, where in values.items():
        if not is_number(types[column]):
            cure = _declare(column, types[column], "float64", parts) or "name a column of numbers"
            raise InputError(f"{where}: column {column!r} is {types[column]}, not a number; {cure}")
    categories = {metric.categories.column: None for _, _, metric in _metrics(config) if metric.categories}
    _check_forms(config.events, types)
    unit = config.events.privacy_unit.columns
    keep = dict.fromkeys([*unit, *(c for r in config.releases for c in r.event_columns), *values, *categories])
    return Inputs(
        parts=parts,
        events=EventsPlan(
            schema=schema,
            lookups=tuple(Lookup(item.file, item.by, item.columns, states[item.file]) for item in config.events.lookups),
            periods=tuple(Period(name, item.truncate, item.to, item.timezone) for name, item in config.events.derive.items()),
            conditions=_conditions(config.events, types, parts),
            keep=tuple(keep),
            text=text,
            refuse_bad=config.events.bad_rows == "refuse",
            forms=config.events.normalise,
        ),
        unit=UnitInput(columns=unit, types=tuple(_key_type(column, types[column], "events.privacy_unit") for column in unit)),
        releases=tuple(_release_input(item, number, config.events, types) for number, item in enumerate(plan.releases)),
        value_types={column: types[column] for column in values},
    )


def _metrics(config: Config) -> Iterator[tuple[int, int, Metric]]:
    for number, release in enumerate(config.releases):
        for place, metric in enumerate(release.metrics):
            yield number, place, metric


def _columns(metric: Metric) -> list[str]:
    """The columns that a metric needs."""
    return [*metric.value_names, *([metric.categories.column] if metric.categories else [])]


def _needed(config: Config) -> dict[str, str]:
    """The columns that must be in the event files, and where the config names each first."""
    events = config.events
    made = set(events.derive) | {column for lookup in events.lookups for column in lookup.columns}
    named = [(column, "events.privacy_unit") for column in events.privacy_unit.columns]
    named += [(column, f"events.lookups[{n}].by") for n, lookup in enumerate(events.lookups) for column in lookup.by]
    named += [(period.truncate, f"events.derive.{name}.truncate") for name, period in events.derive.items()]
    named += [(item.column, f"events.where[{n}].column") for n, item in enumerate(events.where)]
    named += [(item.column, f"events.{name}.column") for name, item in _spans(events).items()]
    named += [(c, f"releases[{n}].{_named_in(r)}") for n, r in enumerate(config.releases) for c in r.event_columns]
    named += [(column, f"releases[{n}].metrics[{i}]") for n, i, m in _metrics(config) for column in _columns(m)]
    needed: dict[str, str] = {}
    for column, where in named:
        if column not in made:
            needed.setdefault(column, where)
    return needed


def _named_in(release: Release) -> str:
    """The part of a release that names the columns of its keys."""
    return "pairs" if release.pairs else "keys.columns"


def _spans(events: Events) -> dict[str, Retain | Window]:
    """The parts of the config that say which days are used, by name."""
    spans = {"retain": events.retain, "window": events.window}
    return {name: span for name, span in spans.items() if span is not None}


def _lookup_types(lookup: Lookup, events: Events, types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    table = read_lookup(lookup, events.normalise)
    for by in lookup.by:
        key = table.schema.field(by).type
        if key != types[by] and not (pa.types.is_integer(key) and pa.types.is_integer(types[by])):
            raise InputError(
                f"{lookup.file}: column {by!r} is {key}, but {types[by]} in the events; write both with the same type"
            )
    return {column: table.schema.field(column).type for column in lookup.columns}


def _check_forms(events: Events, types: Mapping[str, pa.DataType]) -> None:
    for column in events.normalise:
        where = f"events.normalise.{column}"
        if column not in types:
            raise ConfigError(f"{where}: no part of the config uses this column; remove it or correct its name")
        if not pa.types.is_string(types[column]):
            raise ConfigError(f"{where}: column {column!r} is {types[column]}, not text; remove it")


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


def _conditions(events: Events, types: Mapping[str, pa.DataType], parts: Sequence[FilePart]) -> tuple[Condition, ...]:
    """What must hold for an event to stay: the window, the retention, then the config's own conditions."""
    found = []
    if events.window is not None:
        column, kind = events.window.column, types[events.window.column]
        if not pa.types.is_date(kind):
            cure = "derive its day and name that" if pa.types.is_timestamp(kind) else "name a column of dates"
            raise InputError(f"events.window: column {column!r} is {kind}, not a date; {cure}")
        found += [
            _since(column, events.window.first, kind, "UTC"),
            Condition(column, "<=", _day(events.window.last, kind, "UTC")),
        ]
    if events.retain is not None:
        column, kind = events.retain.column, types[events.retain.column]
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            cure = _declare(column, kind, "timestamp", parts) or "name a column of timestamps"
            raise InputError(f"events.retain: column {column!r} is {kind}, not a timestamp; {cure}")
        found.append(_since(column, events.retain.first, kind, events.retain.timezone))
    where = [_condition(item, types[item.column], events, f"events.where[{number}]") for number, item in enumerate(events.where)]
    return (*found, *where)


def _since(column: str, day: datetime.date, kind: pa.DataType, timezone: str) -> Condition:
    return Condition(column, ">=", _day(day, kind, timezone))


def _day(day: datetime.date, kind: pa.DataType, timezone: str) -> pa.Array:
    """The beginning of a day as a value of a column's type; in a time zone where the type has one."""
    zone = ZoneInfo(timezone) if pa.types.is_timestamp(kind) and kind.tz is not None else None
    try:
        return pa.array([day if pa.types.is_date(kind) else datetime.datetime(day.year, day.month, day.day, tzinfo=zone)], kind)
    except (pa.ArrowException, OverflowError):
        raise ConfigError(
            f"events.retain: {day} is no date that {kind}, the column's type, can hold; correct as_of or days"
        ) from None


def _condition(item: ConditionConfig, kind: pa.DataType, events: Events, where: str) -> Condition:
    if item.value is None:
        return Condition(item.column, item.op, pa.nulls(0, kind))
    texts = [item.value] if isinstance(item.value, str) else list(item.value)
    values = _typed(texts, kind, f"{where}.value")
    return Condition(item.column, item.op, normalise(values, events.normalise.get(item.column, ())))


def _typed(texts: Sequence[str], kind: pa.DataType, where: str) -> pa.Array:
    """Texts of the config as values of a column's type."""
    try:
        return pa.array(texts, pa.string()).cast(kind)
    except pa.ArrowException:
        shown = texts[0] if len(texts) == 1 else list(texts)
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        cure = "write it as 2024-12-31T00:00:00Z" if zoned else "correct it"
        raise ConfigError(f"{where}: {shown!r} cannot be read as {kind}, the column's type; {cure}") from None


def _release_input(plan: ReleasePlan, number: int, events: Events, types: Mapping[str, pa.DataType]) -> ReleaseInput:
    keys, pairs = plan.release.keys, plan.release.pairs
    where = f"releases[{number}].keys"
    named_in = f"releases[{number}].{_named_in(plan.release)}"
    kinds = tuple(_key_type(column, types[column], named_in) for column in plan.release.event_columns)
    basket_types: tuple[pa.DataType, ...] = ()
    forms = events.normalise
    if pairs:
        kinds, basket_types = kinds[:1] * 2, kinds[1:]
        forms = {column: forms.get(pairs.of, ()) for column in pairs.columns}
    null_keys = (keys.nulls or events.nulls.key) == "keep" and not pairs
    listed = None
    if keys.values is not None:
        columns = {column: kind for column, kind in zip(keys.columns, kinds, strict=True) if column in keys.values}
        values = (_listed(keys.values[c], kind, forms.get(c, ()), f"{where}.values.{c}").unique() for c, kind in columns.items())
        listed = Combinations(tuple(columns), tuple(values))
    public = None
    if keys.public:
        state = _state(keys.file) if keys.file else None
        public = PublicKeys(keys.columns, kinds, listed, keys.file, state, null_keys, forms, pairs is not None)
        public.load()
    return ReleaseInput(
        plan=plan,
        number=number,
        key_types=kinds,
        basket_types=basket_types,
        public=public,
        listed=None if keys.public else listed,
        categories={
            metric.categories: _categories(metric.categories, events, types, f"releases[{number}].metrics[{place}]")
            for place, metric in enumerate(plan.release.metrics)
            if metric.categories
        },
        null_keys=null_keys,
        zero_values=events.nulls.value == "zero",
    )


def _listed(texts: Sequence[str], kind: pa.DataType, forms: Sequence[str], where: str) -> pa.Array:
    """Texts of the config as values of a column's published type, in its forms."""
    return normalise(_typed(texts, kind, where), forms)


def _categories(categories: Categories, events: Events, types: Mapping[str, pa.DataType], where: str) -> pa.Array:
    """Categories as values of their column's published type, in its form."""
    kind = _key_type(categories.column, types[categories.column], where)
    values = _listed(categories.values, kind, events.normalise.get(categories.column, ()), f"{where}.frequency.values")
    if len(values.unique()) < len(values):
        raise ConfigError(f"{where}.frequency.values: two are the same value of column {categories.column!r}; list each once")
    return values
