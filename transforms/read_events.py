"""Reading events: parts of files become batches of exactly the columns that releases need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy.tallies import MOST_EVENTS
from transforms.columns import as_key, one_batch
from transforms.conditions import Condition, fulfils
from transforms.errors import InputError
from transforms.file_state import FileState
from transforms.normalise import normalise
from transforms.quarantine import set_aside
from transforms.text_events import TextBatch, TextFormat, merged, read_text
from transforms.work_folder import WorkFolder, guarded

BATCH_ROWS = 1 << 20

_LONGEST_LOOKUP = 1 << 10
"""Bytes: repeated for each event of a batch, longer texts might not fit into one column."""


@dataclass(frozen=True)
class FilePart:
    """Some row groups of a Parquet file, or a whole text file, and what the file was when the run was planned.

    Attributes:
        row_groups: None for a text file.
        rows: exact for Parquet, a guess from the size for text.
        most_lines: of a text file, so that all files together hold at most as many as one run can add up.
    """

    path: str
    state: FileState
    row_groups: range | None
    rows: int
    most_lines: int = MOST_EVENTS


@dataclass(frozen=True)
class Lookup:
    """A left join with a small public table: `columns` of the row of `file` whose columns `by` are the event's."""

    file: str
    by: tuple[str, ...]
    columns: tuple[str, ...]
    state: FileState | None = None


@dataclass(frozen=True)
class Period:
    """A derived column: the start of the period that a timestamp is in, in a time zone."""

    name: str
    truncate: str
    to: str
    timezone: str


@dataclass(frozen=True)
class EventsPlan:
    """What is read from each file, and what becomes of it, in this order: forms of texts, lookups, periods, conditions.

    Attributes:
        forms: of columns of text, as `normalise` takes them; the tables of lookups get them too.
        refuse_bad: whether a line that cannot be read ends the run, outside of the guarantee, or goes to the quarantine.
    """

    schema: pa.Schema
    lookups: tuple[Lookup, ...]
    periods: tuple[Period, ...]
    conditions: tuple[Condition, ...]
    keep: tuple[str, ...]
    text: TextFormat = field(default_factory=TextFormat)
    refuse_bad: bool = False
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class EventBatch(NamedTuple):
    """Events of one part: the part's number, the batch's number within it, and the columns to keep."""

    part: int
    position: int
    events: pa.RecordBatch


@dataclass(eq=False, kw_only=True)
class ReadEvents(beam.PTransform[beam.PCollection[int], beam.PCollection[EventBatch]]):
    """Numbers of parts to EventBatch. Every part gives at least one batch, in the order of its rows."""

    parts: Sequence[FilePart]
    plan: EventsPlan
    folder: WorkFolder

    def expand(self, input_or_inputs: beam.PCollection[int]) -> beam.PCollection[EventBatch]:
        return input_or_inputs | "Read" >> beam.ParDo(_Read(self.parts, self.plan, self.folder))


class _Read(beam.DoFn):
    def __init__(self, parts: Sequence[FilePart], plan: EventsPlan, folder: WorkFolder) -> None:
        self.parts, self.plan, self.folder = parts, plan, folder
        self.tables: list[pa.Table] = []

    def setup(self) -> None:
        pa.set_cpu_count(1)

    @guarded
    def process(self, number: int) -> Iterator[EventBatch]:
        self.folder.note_reading()
        if not self.tables:
            self.tables = read_lookups(self.plan)
        position = 0
        for batch, bad in self._batches(number):
            if bad is not None and bad.num_rows:
                self._set_aside(number, position, bad)
            yield EventBatch(number, position, prepare_events(batch, self.plan, self.tables))
            position += 1
        if position == 0:
            empty = one_batch(self.plan.schema.empty_table())
            yield EventBatch(number, 0, prepare_events(empty, self.plan, self.tables))

    def _batches(self, number: int) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
        part, schema = self.parts[number], self.plan.schema
        if part.row_groups is not None:
            for batch in read_part(part, schema):
                yield batch, None
        else:
            lines = 0
            for text in read_text_part(part, schema, self.plan.text):
                lines += text.events.num_rows + text.bad.num_rows
                if lines > part.most_lines:
                    raise InputError(f"{part.path}: more events than one run can add up; split the run")
                yield text.events, text.bad

    def _set_aside(self, number: int, position: int, bad: pa.RecordBatch) -> None:
        path = self.parts[number].path
        if self.plan.refuse_bad:
            line, reason = bad["line"][0], bad["reason"][0]
            raise InputError(f"{path}, line {line}: {reason}, and events.bad_rows is refuse; correct the line")
        set_aside(self.folder.quarantine / f"{number:05d}-{position:05d}.parquet", path, bad)


def read_part(part: FilePart, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The columns of a part in batches of about a million rows.

    Raises:
        InputError: the file is not what it was when the run was planned, or cannot be read.
    """
    assert part.row_groups is not None
    part.state.check(part.path)
    try:
        with pq.ParquetFile(part.path, page_checksum_verification=True) as file:
            groups = list(part.row_groups)
            batches = file.iter_batches(BATCH_ROWS, groups, columns=schema.names, use_threads=False)
            for batch in batches:
                yield batch.select(schema.names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{part.path}: cannot be read as Parquet ({type(error).__name__}); replace the file") from None
    part.state.check(part.path)


def read_text_part(part: FilePart, schema: pa.Schema, text: TextFormat) -> Iterator[TextBatch]:
    """The events of a text file, and the lines that cannot be read.

    Raises:
        InputError: the file is not what it was when the run was planned, or cannot be decompressed.
    """
    part.state.check(part.path)
    try:
        yield from merged(read_text(part.path, schema.names, text))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{part.path}: cannot be read or decompressed ({type(error).__name__}); replace the file") from None
    part.state.check(part.path)


def read_lookups(plan: EventsPlan) -> list[pa.Table]:
    """The table of each lookup, as `read_lookup` reads it."""
    return [read_lookup(lookup, plan.forms) for lookup in plan.lookups]


def read_lookup(lookup: Lookup, forms: Mapping[str, tuple[str, ...]] | None = None) -> pa.Table:
    """The columns of a lookup's table, in the forms of the events' columns of the same names.

    Raises:
        InputError: it cannot be read, a column is missing, or a key is there twice.
    """
    try:
        with pq.ParquetFile(lookup.file) as file:
            missing = [name for name in (*lookup.by, *lookup.columns) if name not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{lookup.file}: has no column {missing[0]!r}; correct the lookup")
            table = file.read([*lookup.by, *lookup.columns], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{lookup.file}: cannot be read as Parquet ({type(error).__name__}); replace the file") from None
    if lookup.state is not None:
        lookup.state.check(lookup.file)
    table = pa.table({name: _formed(_chunk(table[name]), (forms or {}).get(name, ())) for name in table.column_names})
    for name in lookup.by:
        if pa.types.is_nested(table[name].type):
            raise InputError(f"{lookup.file}: column {name!r} is {table[name].type}; look up by texts or numbers")
        table = table.filter(pc.is_valid(table[name])).combine_chunks()
    for name in lookup.columns:
        if pa.types.is_string(table[name].type) and (pc.max(pc.binary_length(table[name])).as_py() or 0) > _LONGEST_LOOKUP:
            raise InputError(f"{lookup.file}: column {name!r} has a text of more than {_LONGEST_LOOKUP} bytes; shorten it")
    if table.group_by(list(lookup.by), use_threads=False).aggregate([]).num_rows < table.num_rows:
        named = f"column {lookup.by[0]!r} has" if len(lookup.by) == 1 else f"columns {', '.join(lookup.by)} have"
        raise InputError(f"{lookup.file}: {named} a value in two rows; a lookup needs each once")
    return table


def prepare_events(batch: pa.RecordBatch, plan: EventsPlan, tables: Sequence[pa.Table]) -> pa.RecordBatch:
    """Normalises, joins, derives and filters a batch, and keeps the columns that releases need.

    Args:
        tables: of `read_lookups`.
    """
    columns = {name: _formed(batch[name], plan.forms.get(name, ())) for name in batch.schema.names}
    for lookup, table in zip(plan.lookups, tables, strict=True):
        rows = _rows_in([columns[name] for name in lookup.by], [table[name] for name in lookup.by])
        for name in lookup.columns:
            columns[name] = _chunk(table[name]).take(rows)
    for period in plan.periods:
        columns[period.name] = truncate(columns[period.truncate], period.to, period.timezone)
    kept = None
    for condition in plan.conditions:
        holds = fulfils(columns[condition.column], condition)
        kept = holds if kept is None else pc.and_(kept, holds)
    events = pa.RecordBatch.from_arrays([columns[name] for name in plan.keep], names=list(plan.keep))
    return events if kept is None else events.filter(kept)


def _rows_in(values: Sequence[pa.Array], among: Sequence[pa.ChunkedArray]) -> pa.Array:
    """In which row of `among` each tuple of values stands, null where in none."""
    if len(values) == 1:
        return _index_in(values[0], among[0])
    # Both sides become numbers, one column after the other, and only as many as the table has tuples.
    left, right = pa.nulls(len(values[0]), pa.int64()).fill_null(0), pa.nulls(len(among[0]), pa.int64()).fill_null(0)
    for column, known in zip(values, among, strict=True):
        distinct = pa.chunked_array([pc.unique(known)])
        left, right = (
            pc.add(pc.multiply(tuples, len(distinct)), _index_in(side, distinct).cast(pa.int64()))
            for tuples, side in ((left, column), (right, _chunk(known)))
        )
        tuples = pc.unique(right)
        left, right = (pc.index_in(side, tuples).cast(pa.int64()) for side in (left, right))
    return left


def _index_in(values: pa.Array, among: pa.ChunkedArray) -> pa.Array:
    """Where each value stands in `among`, null where it does not. Integers of different sizes are compared as numbers."""
    kinds = (values.type, among.type)
    if kinds[0] != kinds[1]:
        kind = pa.decimal128(20, 0) if pa.uint64() in kinds else pa.int64()
        values, among = values.cast(kind), among.cast(kind)
    return pc.index_in(values, among)


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _formed(column: pa.Array, forms: Sequence[str]) -> pa.Array:
    """Strings as `string`, whatever their encoding in the file, and in their declared forms."""
    plain = plain_type(column.type)
    column = column if plain == column.type else pc.cast(column, plain)
    return normalise(column, forms) if pa.types.is_string(plain) else column


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column once it is read: dictionaries are decoded, all kinds of strings are `string`."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def truncate(column: pa.Array, to: str, timezone: str) -> pa.Array:
    """The first day of the period each timestamp or date is in, as date32; for `hour`, the hour as timestamp[us].

    Timestamps without a zone count as in `timezone`; others are taken there. Weeks are ISO weeks.

    >>> truncate(pa.array([1_700_000_000_000_000], pa.timestamp("us", "UTC")), "month", "America/New_York")[0]
    <pyarrow.Date32Scalar: datetime.date(2023, 11, 1)>
    """
    zoned = pa.types.is_timestamp(column.type) and column.type.tz is not None
    local = pc.local_timestamp(column.cast(pa.timestamp(column.type.unit, timezone))) if zoned else column
    floored = pc.floor_temporal(local, unit=to)
    if to != "hour":
        return floored.cast(pa.date32(), safe=False)
    if not zoned:
        return as_key(floored, pa.timestamp("us"))
    # Back to the instant at which the hour began: its local time alone may have been twice, or never.
    past = pc.subtract(local.view(pa.int64()), floored.view(pa.int64()))
    began = pc.subtract(column.view(pa.int64()), past).view(pa.timestamp(column.type.unit, timezone))
    return as_key(began, pa.timestamp("us", timezone))
