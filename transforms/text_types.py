"""What a text file seems to hold: how it is written, its columns and their types. For a first config, never while running."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from transforms.columns import decodable
from transforms.errors import InputError
from transforms.text_events import TextBatch, TextFormat, csv_header, is_json, parser, read_text, typed_sql
from transforms.text_lines import read_lines

SAMPLE_BYTES = 1 << 20
"""Of a file; no more of it is looked at."""

FITS = 0.99
"""A type fits a column if at least this part of its values can be read as it."""

_DELIMITERS = ",;\t|"
_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y")
_FORMS = (None, *(date + time for time in ("", " %H:%M", " %H:%M:%S") for date in _DATES))
"""Of dates and timestamps, as CSV files have them; None is ISO 8601, which JSON has always."""

_NO_NUMBER = r"^\s*[+-]?(0[0-9]|[0-9]{16})"
"""007 is a name, and so is what has more digits than any amount."""

_DATE = r"^\s*[0-9]+[-/.][0-9]+[-/.][0-9]"
"""What any date begins with."""

_VALUE = re.compile(r"\s*([-+]?[0-9.,]+([eE][-+]?[0-9]+)?|[0-9]+[-/.][0-9]+[-/.][0-9: T]+|[^@\s]+@[^@\s]+)\s*")
"""What no column is called: a number, a date, a mail address."""


@dataclass(frozen=True, kw_only=True)
class FoundColumn:
    """A column of a file, and its type; text where no other fits.

    Attributes:
        other_dates: whether it seems to hold dates in another form than the file's.
        thousands: whether its numbers could be such with a sign for thousands.
        nested: whether it holds JSON objects or lists.
    """

    name: str
    type: pa.DataType
    other_dates: bool = False
    thousands: bool = False
    nested: bool = False


@dataclass(frozen=True, kw_only=True)
class FoundText:
    """What a text file seems to hold.

    Attributes:
        ambiguous: whether days and months could be meant the other way round.
    """

    format: TextFormat
    columns: tuple[FoundColumn, ...]
    ambiguous: bool = False


def find_text(path: str) -> FoundText:
    """Looks at the first mebibyte of a CSV or JSON Lines file.

    Raises:
        InputError: it is empty, or its first line does not name the columns.
        OSError, pa.ArrowException: it cannot be read or decompressed.
    """
    if is_json(path):
        signs, forms, names, text = ["."], _FORMS[:1], _json_names(path), TextFormat()
    else:
        signs, forms, encoding = [".", ","], _FORMS, _encoding(path)
        text = TextFormat(encoding=encoding, delimiter=_delimiter(path, encoding))
        names = _csv_names(path, text)
    values = sample(path, names, text).events
    signs = [sign for sign in signs if sign == "." or any(kind == "decimals" for kind in _signed(values, sign))]
    numbers = [_Fits(values, [(kind, replace(text, decimal=sign)) for kind in (pa.int64(), pa.float64())]) for sign in signs]
    dates = [_Fits(values, [(kind, replace(text, timestamps=form)) for kind in _date_types(form)], _DATE) for form in forms]
    # What most columns are written in; the first of equally good ones.
    number, date = (max(found, key=lambda fits: fits.columns) for found in (numbers, dates))
    text = replace(text, decimal=signs[numbers.index(number)], timestamps=forms[dates.index(date)])
    unclear = [kind == "thousands" and text.delimiter != "," for kind in _signed(values, text.decimal)]
    others = _Fits(values, [(pa.bool_(), text)])
    columns = []
    for place, (name, column) in enumerate(zip(names, values.columns, strict=True)):
        kind = date.types[place]
        if kind is None and not unclear[place] and not _some(column, _NO_NUMBER):
            kind = number.types[place] or others.types[place]
        columns.append(
            FoundColumn(
                name=name,
                type=kind or pa.string(),
                other_dates=kind is None and any(fits.types[place] for fits in dates),
                thousands=kind is None and unclear[place],
                nested=is_json(path) and _some(column, r"^[\[{]"),
            )
        )
    same = any(fits is not date and fits.types == date.types for fits in dates)
    return FoundText(format=text, columns=tuple(columns), ambiguous=text.timestamps is not None and same)


def _some(column: pa.Array, pattern: str) -> bool:
    """Whether any value holds the pattern."""
    return pc.any(pc.match_substring_regex(column, pattern)).as_py() is True


def _signed(values: pa.RecordBatch, sign: str) -> list[str | None]:
    """What the sign seems to mean in each column: decimals; or thousands, if three digits follow it in every value; None where
    no number has it."""
    found: list[str | None] = []
    for column in values.columns:
        has = pc.fill_null(pc.match_substring_regex(column, rf"^\s*[+-]?[0-9]+[{sign}][0-9{sign}]*\s*$"), False)
        grouped = pc.all(pc.match_substring_regex(column.filter(has), rf"^\s*[+-]?[0-9]{{1,3}}([{sign}][0-9]{{3}})+\s*$")).as_py()
        found.append(None if not pc.any(has).as_py() else "thousands" if grouped else "decimals")
    return found


class _Fits:
    """Which of some types each column's values can be read as, just as a run reads them.

    Columns without a value of the pattern are not tried.

    Attributes:
        types: of each column the first that fits, None where none does.
    """

    def __init__(self, values: pa.RecordBatch, kinds: Sequence[tuple[pa.DataType, TextFormat]], pattern: str = "") -> None:
        parts = ", ".join(f"count({typed_sql('v', kind, text)}) / greatest(count(v), 1)" for kind, text in kinds)
        self.types: list[pa.DataType | None] = []
        with parser() as connection:
            for column in values.columns:
                if not _some(column, pattern):
                    self.types.append(None)
                    continue
                connection.register("lines", pa.table({"v": column}))
                ((*row,),) = connection.sql(f"select {parts} from lines").fetchall()
                fitting = (kind for (kind, _), part in zip(kinds, row, strict=True) if part >= FITS)
                self.types.append(next(fitting, None))

    @property
    def columns(self) -> int:
        """How many columns a type was found for."""
        return sum(kind is not None for kind in self.types)


def _date_types(form: str | None) -> list[pa.DataType]:
    """What a form reads: ISO 8601 has dates and times of several lengths, any other form one of them."""
    if form is None:
        return [pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")]
    return [pa.timestamp("us") if "%H" in form else pa.date32()]


def sample(path: str, columns: Sequence[str], text: TextFormat) -> TextBatch:
    """The first events of a file, and the first lines that cannot be read.

    Raises:
        InputError: it holds no event.
        OSError, pa.ArrowException: it cannot be read or decompressed.
    """
    for batch in read_text(path, columns, text, SAMPLE_BYTES):
        if batch.events.num_rows or batch.bad.num_rows:
            return batch
    raise InputError(f"{path}: holds no event; name a file with some")


def _encoding(path: str) -> str:
    with pa.input_stream(path, compression="detect") as stream:
        data = stream.read(SAMPLE_BYTES)
    whole = data[: data.rfind(b"\n") + 1] or data
    return "utf-8" if decodable(pa.array([whole], pa.binary())).all() else "cp1252"


def _delimiter(path: str, encoding: str) -> str:
    """The character that cuts the first line into most values."""
    return max(_DELIMITERS, key=lambda character: len(csv_header(path, TextFormat(delimiter=character, encoding=encoding))))


def _csv_names(path: str, text: TextFormat) -> list[str]:
    names = csv_header(path, text)
    faults = (
        (lambda name: not name, "is empty"),
        (_VALUE.fullmatch, "is a value"),
        (lambda n: names.count(n) > 1, "is there twice"),
    )
    for place, name in enumerate(names, start=1):
        for fault, what in faults:
            if fault(name):
                raise InputError(
                    f"{path}: the first line does not name the columns, since name {place} {what}; write names there"
                )
    return names


def _json_names(path: str) -> list[str]:
    """The names that a tenth of the first objects have, and ten at least, in the order in which they come."""
    with parser() as connection:
        for lines in read_lines(path, "utf-8", SAMPLE_BYTES):
            connection.register("lines", pa.table({"line": lines.numbers, "text": lines.texts}))
            found = connection.sql("""
                with objects as (
                    select line, json_keys(text) as names from lines where json_valid(text) and json_type(text) = 'OBJECT'),
                  named as (select line, unnest(names) as name, generate_subscripts(names, 1) as place from objects)
                select name from named group by name
                having count(*) * 10 >= (select count(*) from objects) and count(*) >= least((select count(*) from objects), 10)
                order by min(line), min(place)""").fetchall()
            break
        else:
            raise InputError(f"{path}: holds no event; name a file with some")
    names = [name for (name,) in found if name and not _VALUE.fullmatch(name)]
    if not names:
        raise InputError(f"{path}: holds no JSON objects, one a line; name a file that does")
    return names
