"""`discreet init`: a first config, from the names and types of some files. No value of theirs is in it."""

import glob
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.events_config import TYPES
from privacy.metrics.base import OPEN
from transforms.columns import is_number, key_type
from transforms.errors import InputError
from transforms.read_events import plain_type
from transforms.text_events import TextFormat, is_csv, is_json
from transforms.text_types import find_text

_PEOPLE = (
    "customer|client|user|member|patient|household|account|person|people|employee|student|pupil|subscriber|visitor|guest|donor"
    "|respondent|participant|driver|rider|tenant|citizen|contact|card|email|mail|phone|kunde|kundin|nutzer|mitglied|cliente|usuario"
)
_NUMBERED = r"([ _.-]?(id|no|nr|num|number|key|code|uuid|guid|hash|name|address))?"
_UNIT = re.compile(rf"(.*[ _.-])?({_PEOPLE})s?{_NUMBERED}", re.IGNORECASE)
_ID = re.compile(
    r"(?i:(.*[ _.-])?(id|no|nr|num|number|key|code|uuid|guid|hash|zip|plz|postcode|phone|ean|sku|iban))|.*[a-z]I[Dd]"
)
_KEY = re.compile(
    r"(.*[ _.-])?(category|department|product|store|shop|branch|country|region|city|state|channel|plan|tier|type|status|segment|"
    r"group|source|campaign|feature|brand|age|income|gender|answer|filiale|kategorie|land|stadt|tienda|categoria)s?.*",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./*-]*")


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The columns of the files, how text files are written, and what must be asked about them."""

    types: dict[str, pa.DataType]
    text: TextFormat | None = None
    csv: bool = False
    ambiguous: bool = False
    other_dates: tuple[str, ...] = ()


def first_config(files: Sequence[str], name: str) -> str:
    """The text of a first config, which runs as it is unless a question in it is open.

    Args:
        files: Parquet, CSV or JSON Lines, all with the columns of the first.
        name: of the file it is written to, without folder and ending.

    Raises:
        InputError: a file cannot be read, holds nothing, or does not name its columns.
    """
    found = [_look(path) for path in files]
    for path, other in zip(files, found, strict=True):
        if list(other.types) != list(found[0].types):
            raise InputError(f"{path}: has not the columns of {files[0]}; name files with the same columns")
    return "\n".join(_lines(files, name, found[0])) + "\n"


def _look(path: str) -> _Found:
    try:
        if is_csv(path) or is_json(path):
            text = find_text(path)
            return _Found(
                types={column.name: column.type for column in text.columns},
                text=text.format,
                csv=is_csv(path),
                ambiguous=text.ambiguous,
                other_dates=tuple(column.name for column in text.columns if column.other_dates),
            )
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        raise InputError(f"{path}: is no file that can be read; name Parquet, or text that ends in .csv or .jsonl") from None
    return _Found(types={field.name: plain_type(field.type) for field in schema})


def _lines(files: Sequence[str], name: str, found: _Found) -> Iterator[str]:
    units = [column for column, kind in found.types.items() if _UNIT.fullmatch(column) and key_type(kind)]
    unit = units[0] if units else OPEN
    times = [column for column, kind in found.types.items() if pa.types.is_timestamp(kind) or pa.types.is_date(kind)]
    usable = [column for column, kind in found.types.items() if key_type(kind) and column not in (*units, *times)]
    usable.sort(key=lambda column: not pa.types.is_string(found.types[column]))
    keys = [column for column in usable if _KEY.fullmatch(column)]
    month = _unused("month", found.types)
    key = keys[0] if keys else month if times else OPEN
    amounts = [c for c, kind in found.types.items() if is_number(kind) and c not in units and not _ID.fullmatch(c)]
    yield f"# A first config, made of the names and types of {_shown(files)}. Answer the QUESTIONS, then:"
    yield f"#   discreet check {name}.yaml    can the files be read like this? (spends nothing)"
    yield f"#   discreet plan {name}.yaml     what would it cost, and how far off would numbers be? (reads no data)"
    yield f"#   discreet run {name}.yaml      publish"
    yield "# For completion in an editor: discreet schema > schema.json, and as the first line of this file"
    yield "#   yaml-language-server: $schema=schema.json"
    yield "version: 1"
    yield f"dataset: {_name(name)}    # whose budget is spent: one name for everything about the same people"
    yield "events:"
    yield f"  files: {_files(files)}"
    yield "  # QUESTION 1: who is protected? The column that tells persons apart (or households, accounts, machines)."
    yield "  # All rows with the same value are protected together; rows without a value are left out."
    yield f"  privacy_unit: {_text(unit)}{'    # found by its name; is it right?' if units else ''}"
    yield from _text_lines(found)
    normal = [column for column in (unit, key) if column in found.types and pa.types.is_string(found.types[column])]
    if normal:
        yield "  normalise:    # spellings of one thing are made one; add casefold where K7 and k7 are the same"
        for column in normal:
            yield f"    {_text(column)}: [trim, nfc]"
    if times:
        yield "  derive:"
        yield f"    # QUESTION: whose months? Write your time zone, such as Europe/Berlin. ({', '.join(times)} can be truncated.)"
        yield f"    {month}: {{truncate: {_text(times[0])}, to: month, timezone: UTC}}"
    yield "  # where:    # which events count; all conditions must hold"
    yield f"  #   - {{column: {_text(next(iter(found.types)))}, op: not_null}}"
    yield "budget: {epsilon: 1, delta: 1.0e-6}    # epsilon 1 is a good start; smaller is more private and less accurate"
    yield "releases:"
    yield f"  - name: by_{_name(key) if key != OPEN else 'key'}"
    others = [column for column in dict.fromkeys([*keys, *([month] if times else []), *usable]) if column != key]
    yield f"    # QUESTION 2: one row for each what? Other columns: {', '.join(others[:6])}"
    yield f"    keys: {{columns: [{_text(key)}]}}"
    yield "    # QUESTION 3: in how many of these keys is a usual person, and with how many rows in each?"
    yield "    # Who has more counts less per row. Larger bounds need more noise."
    yield "    bounds: {keys_per_unit: 4, rows_per_key: 5}"
    yield "    metrics:"
    yield f"      - {{name: {_unused('events', [key])}, count: events}}"
    yield f"      - {{name: {_unused('people', [key])}, count: units}}"
    for amount in amounts[:3]:
        yield f"      # QUESTION 4: the largest sensible {amount} of one row? Choose it from what you know, not from the data."
        yield f"      # - {{name: {_unused(f'{_name(amount)}_total', [key])}, sum: {_text(amount)}, clip: [0, LARGEST]}}"
    yield f"output: {{path: {_text(f'out/{name}')}}}"


def _text_lines(found: _Found) -> Iterator[str]:
    """How text files are written."""
    if found.text is None:
        return
    if found.csv:
        options = {"delimiter": found.text.delimiter.replace("\t", "tab"), "decimal": found.text.decimal}
        if found.text.timestamps:
            options["timestamps"] = found.text.timestamps
        if found.text.encoding != "utf-8":
            options["encoding"] = found.text.encoding
        if found.ambiguous:
            yield "  # QUESTION: is the day first in dates, or the month? The first rows fit both: %d/%m/%Y or %m/%d/%Y"
        yield f"  csv: {{{', '.join(f'{key}: {json.dumps(value)}' for key, value in options.items())}}}"
    yield "  types:    # as what columns are read; a value that does not fit sets its line aside, privately"
    for column, kind in found.types.items():
        note = "    # dates in another form than the others; they stay text" if column in found.other_dates else ""
        yield f"    {_text(column)}: {next(name for name, known in TYPES.items() if known == kind)}{note}"


def _shown(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _files(files: Sequence[str]) -> str:
    """The files as a path, as a glob where it names exactly them, or as a list."""
    first = Path(files[0])
    pattern = str(first.parent / f"*{''.join(first.suffixes)}")
    if len(files) > 1 and sorted(glob.glob(pattern)) == sorted(str(Path(path)) for path in files):
        return _text(pattern)
    return _text(files[0]) if len(files) == 1 else f"[{', '.join(_text(path) for path in files)}]"


def _text(value: str) -> str:
    """A text as YAML writes it."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _name(text: str) -> str:
    """A name for what is made of a file or column: lower-case letters, digits and _."""
    name = re.sub("[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def _unused(name: str, taken: Sequence[str] | dict[str, pa.DataType]) -> str:
    while name in taken:
        name += "_"
    return name


def config_path(files: Sequence[str]) -> Path:
    """Where the first config of some files goes if nobody says it: the first file's name, in the working folder."""
    return Path(f"{_name(re.split(r'[.*]', Path(files[0]).name)[0])}.yaml")
