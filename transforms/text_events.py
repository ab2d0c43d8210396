"""Events from CSV and JSON Lines: each line is one event, parsed alone, so that no line can change what another one is.

A line that cannot be read goes to the quarantine. Quoted CSV values may hold delimiters and doubled quotes, not line ends.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms.columns import one_batch
from transforms.errors import InputError
from transforms.text_lines import BLOCK_BYTES, mark_delimiters, read_lines

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NULLS = ("", "NA", "null", "NaN")
_HEADER_BYTES = 1 << 16
_ISO = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME = _ISO + "([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?)?"
_ZONE = "(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)"


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
    return re.search(r"\.(jsonl|ndjson)(\.gz|\.zst)?$", path) is not None


def is_csv(path: str) -> bool:
    """Whether a path names CSV."""
    return re.search(r"\.(csv|tsv|txt)(\.gz|\.zst)?$", path) is not None


def csv_header(path: str, text: TextFormat) -> list[str]:
    """The names in the first line of a CSV file.

    Raises:
        InputError: there is none.
    """
    for lines in read_lines(path, text.encoding, _HEADER_BYTES):
        (names,) = csv.reader([lines.texts[0].as_py()], delimiter=text.delimiter)
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
    import duckdb  # not needed by who reads Parquet only

    header = None if is_json(path) else csv_header(path, text)
    if header is None:
        text = TextFormat(types=text.types)  # the other options are about CSV
    query = _query(_json_fields(columns) if header is None else _csv_fields(columns, header), columns, text)
    with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
        first = True
        for lines in read_lines(path, text.encoding, block_bytes):
            table = pa.table({"line": lines.numbers, "text": lines.texts, "readable": lines.readable})
            if header is not None:
                marked, sound = mark_delimiters(lines.texts, text.delimiter)
                table = table.append_column("marked", marked).append_column("sound", sound).slice(int(first))
            first = False
            yield _parse(connection, table, query, columns, text)


def _query(fields: str, columns: Sequence[str], text: TextFormat) -> str:
    """SQL for line, text, the typed columns, and the reason why a line cannot be read, null where it can."""
    kinds = [text.type_of(name) for name in columns]
    typed = ", ".join(f"{typed_sql(f'v{place}', kind, text)} as t{place}" for place, kind in enumerate(kinds))
    reasons = " ".join(
        f"when v{place} is not null and t{place} is null then {_literal(f'column {name} is no {kind}')}"
        for place, (name, kind) in enumerate(zip(columns, kinds, strict=True))
    )
    named = ", ".join(f"t{place} as {_quoted(name)}" for place, name in enumerate(columns))
    return f"""
        with fielded as ({fields}), typed as (select *, {typed} from fielded)
        select line, text, {named}, case when fault is not null then fault {reasons} end as reason from typed"""


def _parse(connection: "DuckDBPyConnection", table: pa.Table, query: str, columns: Sequence[str], text: TextFormat) -> TextBatch:
    connection.register("lines", table)
    parsed = connection.sql(query).to_arrow_table()
    good = parsed.filter(parsed["reason"].is_null())
    bad = parsed.filter(parsed["reason"].is_valid())
    schema = pa.schema([pa.field(name, text.type_of(name)) for name in columns])
    return TextBatch(
        one_batch(good.select(list(columns)).cast(schema)),
        one_batch(bad.select(["line", "reason", "text"]).cast(BAD_SCHEMA)),
    )


BAD_SCHEMA = pa.schema([("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])


def _csv_fields(columns: Sequence[str], header: Sequence[str]) -> str:
    """SQL for line, text, fault, and v0, v1, ...: the columns' texts, null where they say so or there is a fault."""
    found = ", ".join(f"parts[{header.index(name) + 1}] as p{place}" for place, name in enumerate(columns))
    nulls = ", ".join(map(_literal, NULLS))
    values = ", ".join(f"{_csv_value(f'p{place}', nulls)} as v{place}" for place in range(len(columns)))
    return f"""
        select line, text, fault, {values} from (
          select line, text, {found}, case when not readable then 'the line is no text in the declared encoding, or too long'
            when not sound then 'a quote is not closed, or stands in the wrong place'
            when len(parts) <> {len(header)} then 'the line has more or fewer values than the header' end as fault
          from (select *, string_split(marked, chr(31)) as parts from lines where trim(text) <> '' or not readable))"""


def _csv_value(part: str, nulls: str) -> str:
    # Long values cannot be null, which saves most of the trimming.
    return f"""case when fault is not null then null
      when (length({part}) < 8 or starts_with({part}, ' ')) and trim({part}) in ({nulls}) then null
      when starts_with({part}, '"') then nullif(replace({part}[2:-2], '""', '"'), '') else {part} end"""


def _json_fields(columns: Sequence[str]) -> str:
    """The same from JSON Lines."""
    paths = ", ".join(_literal('$."' + name + '"') for name in columns)
    values = ", ".join(f"f[{place + 1}] as v{place}" for place in range(len(columns)))
    return f"""
        select line, text, fault, {values} from (
          select *, case when fault is null then json_extract_string(text, [{paths}]) end as f from (
            select *, case when not readable then 'the line is no UTF-8, or too long'
              when not starts_with(ltrim(text), '{{') or not json_valid(text) then 'the line is no JSON object' end as fault
            from lines where trim(text) <> '' or not readable))"""


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


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
