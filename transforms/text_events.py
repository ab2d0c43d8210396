"""Events from CSV and JSON Lines: each line is one event, parsed alone, so that no line can change what another one is.

A line that cannot be read goes to the quarantine. Quoted CSV values may hold delimiters and doubled quotes, not line ends.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms.column_types import type_name
from transforms.columns import one_batch
from transforms.errors import InputError
from transforms.text_lines import BLOCK_BYTES, CsvLines, cut_lines, read_lines

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NULLS = ("", "NA", "null", "NaN")
_NULL_STARTS = ", ".join(sorted({str(ord(null[0])) for null in NULLS if null}))
_HEADER_BYTES = 1 << 16
_CONTROL = re.compile(r"[\0-\x08\x0a-\x1f]")
_MERGED_ROWS, _MERGED_BYTES = 1 << 20, 1 << 26
_ISO = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME = _ISO + "([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?)?"
_ZONE = "(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)"

_VISIBLE = "ord({}) between 33 and 127"
"""SQL for whether a text begins with a visible ASCII character: then there is nothing to trim there."""

_NOT_BLANK = f"case when {_VISIBLE.format('text')} then true else trim(text) <> '' or not readable end"


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """How text files are written.

    Attributes:
        types: of the columns that are read; text where a column has none.
        delimiter, decimal, timestamps, encoding: of CSV; timestamps is a strptime format, None for ISO 8601.
    """

    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    delimiter: str = ","
    decimal: str = "."
    timestamps: str | None = None
    encoding: str = "utf-8"

    def type_of(self, column: str) -> pa.DataType:
        return self.types.get(column, pa.string())


@dataclass(frozen=True)
class TextBatch:
    """Events of some lines, and the lines that cannot be read: line (int64), reason, text."""

    events: pa.RecordBatch
    bad: pa.RecordBatch


def is_json(path: str) -> bool:
    """Whether a path names JSON Lines."""
    return re.search(r"\.(?i:jsonl|ndjson)(\.gz|\.zst)?$", path) is not None


def is_csv(path: str) -> bool:
    """Whether a path names CSV."""
    return re.search(r"\.(?i:csv|tsv|txt)(\.gz|\.zst)?$", path) is not None


def is_text(path: str) -> bool:
    """Whether a path names a text file; any other is Parquet."""
    return is_csv(path) or is_json(path)


def csv_header(path: str, text: TextFormat) -> list[str]:
    """The names in the first line of a CSV file.

    Raises:
        InputError: there is none.
    """
    for lines in read_lines(path, text.encoding, _HEADER_BYTES):
        if not lines.readable[0].as_py():
            raise InputError(
                f"{path}: the first line is no {text.encoding}, or too long; correct events.csv.encoding or the file"
            )
        line = lines.texts[0].as_py()
        try:
            (names,) = csv.reader([line], delimiter=text.delimiter)
        except (csv.Error, ValueError):
            names = []
        if not names or _CONTROL.search(line):
            raise InputError(f"{path}: the first line is no text that names the columns; write their names there")
        return [name.strip() for name in names]
    raise InputError(f"{path}: is empty; the first line must name the columns")


def read_text(path: str, columns: Sequence[str], text: TextFormat, block_bytes: int = BLOCK_BYTES) -> Iterator[TextBatch]:
    """The events of a file, in batches of about 4 MiB of text.

    Args:
        columns: to read, in the order of the result.
        block_bytes: of the file that are read at a time.

    Raises:
        OSError, pa.ArrowException: the file cannot be read or decompressed.
    """
    header = None if is_json(path) else csv_header(path, text)
    if header is None:
        text = TextFormat(types=text.types)  # the other options are about CSV
    places = [] if header is None else [header.index(name) for name in columns]
    query = _query(_json_fields(columns) if header is None else _csv_fields(columns), columns, text)
    with parser() as connection:
        first = True
        for lines in read_lines(path, text.encoding, block_bytes):
            table = pa.table({"line": lines.numbers, "text": lines.texts, "readable": lines.readable})
            if header is not None:
                table = _with_values(table, cut_lines(lines.texts, text.delimiter, len(header), places)).slice(int(first))
            first = False
            yield _parse(connection, table, query, columns, text)


def parser() -> "DuckDBPyConnection":
    """What parses and converts texts: of one thread, with the extensions that it comes with."""
    import duckdb  # not needed by who reads Parquet only

    return duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})


def merged(batches: Iterable[TextBatch]) -> Iterator[TextBatch]:
    """The same in batches of about a million lines, or 64 MiB: each batch costs the steps that follow."""
    held: list[TextBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.events.num_rows + batch.bad.num_rows
        size += batch.events.nbytes + batch.bad.nbytes
        if rows >= _MERGED_ROWS or size >= _MERGED_BYTES:
            yield _concatenated(held)
            held, rows, size = [], 0, 0
    if held:
        yield _concatenated(held)


def _concatenated(batches: Sequence[TextBatch]) -> TextBatch:
    return TextBatch(
        one_batch(pa.Table.from_batches([batch.events for batch in batches])),
        one_batch(pa.Table.from_batches([batch.bad for batch in batches])),
    )


def _query(fields: str, columns: Sequence[str], text: TextFormat) -> str:
    """SQL for line, the reason why it cannot be read and its text, null where it can, and the typed columns t0, t1, ..."""
    kinds = [text.type_of(name) for name in columns]
    typed = ", ".join(f"{typed_sql(f'v{place}', kind, text)} as t{place}" for place, kind in enumerate(kinds))
    reasons = " ".join(
        f"when v{place} is not null and t{place} is null then {_literal(f'column {name} is no {type_name(kind)}')}"
        for place, (name, kind) in enumerate(zip(columns, kinds, strict=True))
    )
    found = ", ".join(f"t{place}" for place in range(len(columns)))
    return f"""
        with fielded as ({fields}), typed as (select *, {typed} from fielded),
          judged as (select *, case when fault is not null then fault {reasons} end as reason from typed)
        select line, reason, case when reason is not null then text end as text, {found} from judged"""


def _parse(connection: "DuckDBPyConnection", table: pa.Table, query: str, columns: Sequence[str], text: TextFormat) -> TextBatch:
    connection.register("lines", table)
    parsed = connection.sql(query).to_arrow_table()
    bad = parsed.filter(parsed["reason"].is_valid())
    good = parsed.filter(parsed["reason"].is_null()) if bad.num_rows else parsed
    schema = pa.schema([pa.field(name, text.type_of(name)) for name in columns])
    return TextBatch(
        one_batch(good.select(range(len(BAD_SCHEMA), good.num_columns)).rename_columns(schema.names).cast(schema)),
        one_batch(bad.select(BAD_SCHEMA.names).cast(BAD_SCHEMA)),
    )


BAD_SCHEMA = pa.schema([("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])


def _with_values(table: pa.Table, lines: CsvLines) -> pa.Table:
    table = table.append_column("sound", lines.sound).append_column("complete", lines.complete)
    for place, column in enumerate(lines.columns):
        table = table.append_column(f"p{place}", column.values).append_column(f"q{place}", column.quoted)
    return table


def _csv_fields(columns: Sequence[str]) -> str:
    """SQL for line, text, fault, and v0, v1, ...: the columns' texts, null where they say so or there is a fault."""
    nulls = ", ".join(map(_literal, NULLS))
    values = ", ".join(f"{_csv_value(f'p{place}', f'q{place}', nulls)} as v{place}" for place in range(len(columns)))
    return f"""
        select line, text, {values}, case when not readable then 'the line is no text in the declared encoding, or too long'
          when not sound then 'a quote is not closed, or stands in the wrong place'
          when not complete then 'the line has more or fewer values than the header' end as fault
        from lines where {_NOT_BLANK}"""


def _csv_value(part: str, quoted: str, nulls: str) -> str:
    # Long values cannot be null, and few begin like one, which saves most of the trimming.
    return f"""case when {quoted} then nullif(replace({part}, '""', '"'), '')
      when {_VISIBLE.format(part)} and ord({part}) not in ({_NULL_STARTS}) then {part}
      when (length({part}) < 8 or starts_with({part}, ' ')) and trim({part}) in ({nulls}) then null else {part} end"""


def _json_fields(columns: Sequence[str]) -> str:
    """The same from JSON Lines."""
    # JSON pointers, in which only ~ and / mean something.
    paths = ", ".join(_literal("/" + name.replace("~", "~0").replace("/", "~1")) for name in columns)
    values = ", ".join(f"f[{place + 1}] as v{place}" for place in range(len(columns)))
    return f"""
        select line, text, fault, {values} from (
          select *, case when fault is null then json_extract_string(text, [{paths}]) end as f from (
            select *, case when not readable then 'the line is no UTF-8, or too long'
              when not starts_with(ltrim(text), '{{') or not json_valid(text) then 'the line is no JSON object' end as fault
            from lines where {_NOT_BLANK}))"""


def typed_sql(value: str, kind: pa.DataType, text: TextFormat) -> str:
    """SQL for a text as a value of a type, null where it is none."""
    trimmed = f"trim({value})"
    number = trimmed if text.decimal == "." else f"replace(replace({trimmed}, '.', 'x'), {_literal(text.decimal)}, '.')"
    if pa.types.is_string(kind):
        return value
    if pa.types.is_integer(kind):
        return _if(trimmed, "[+-]?[0-9]{1,19}", f"try_cast({trimmed} as bigint)")
    if pa.types.is_floating(kind):
        return _if(number, r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?", f"try_cast({number} as double)")
    if pa.types.is_decimal(kind):
        digits = rf"[+-]?([0-9]+([.][0-9]{{0,{kind.scale}}}0*)?|[.][0-9]{{1,{max(kind.scale, 1)}}}0*)"
        return _if(number, digits, f"try_cast({number} as decimal({kind.precision}, {kind.scale}))")
    if pa.types.is_boolean(kind):
        return _if(f"lower({trimmed})", "true|false|1|0", f"try_cast({trimmed} as boolean)")
    if text.timestamps is not None:
        parsed = f"try_strptime({trimmed}, {_literal(text.timestamps)})"
        # A year of two digits is none of four.
        parsed = f"case when year({parsed}) >= 1000 then {parsed} end"
        return f"cast({parsed} as date)" if pa.types.is_date(kind) else f"cast({parsed} as timestamp)"
    if pa.types.is_date(kind):
        return _if(trimmed, _ISO, f"try_cast({trimmed} as date)")
    if kind.tz is None:
        return _if(trimmed, _ISO_TIME, f"try_cast({trimmed} as timestamp)")
    return _if(trimmed, f"{_ISO_TIME}{_ZONE}", f"try_cast({trimmed} as timestamptz)")


def _if(value: str, pattern: str, then: str) -> str:
    return f"case when regexp_full_match({value}, {_literal(pattern)}) then {then} end"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
