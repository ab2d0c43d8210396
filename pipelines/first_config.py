"""`discreet init`: a first config, from the names and types of some files. No value of theirs is in it."""

import glob
import json
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipelines.guesses import Guess, guess
from privacy.fields import OPEN
from transforms.column_types import type_name
from transforms.errors import InputError

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./*-]*")
_OTHERS = 6
"""So many further columns are told for each question."""


def first_config(files: Sequence[str], target: Path) -> str:
    """The text of a first config, which runs as it is unless a question in it is open.

    Args:
        files: Parquet, CSV or JSON Lines, all with the columns of the first.
        target: where it will be written.

    Raises:
        InputError: a file cannot be read, holds nothing, or does not name its columns; or a name cannot be in a config.
    """
    files = list(dict.fromkeys(files))
    found = [guess(path) for path in files]
    for path, other in zip(files, found, strict=True):
        if set(other.types) != set(found[0].types):
            raise InputError(f"{path}: has not the columns of {files[0]}; name files with the same columns")
    for place, column in enumerate(found[0].types, start=1):
        if "${" in column or column == OPEN:
            raise InputError(f"{files[0]}: the name of column {place} cannot be written in a config; rename it")
    return "\n".join([*_head(files, target), *_events(files, found[0]), *_release(found[0], target)]) + "\n"


def config_path(files: Sequence[str]) -> Path:
    """Where the first config of some files goes if nobody says it: the first file's name, in the working folder."""
    return Path(f"{_name(re.split(r'[.*]', Path(files[0]).name)[0])}.yaml")


def _head(files: Sequence[str], target: Path) -> Iterator[str]:
    others = "" if len(files) == 1 else f" and {len(files) - 1} more"
    yield f"# A first config, made of the names and types of {_text(files[0])}{others}. Answer the QUESTIONS, then:"
    yield f"#   discreet check {_text(str(target))}    can the files be read like this? (spends nothing)"
    yield f"#   discreet plan {_text(str(target))}     what would it cost, and how far off would numbers be? (reads no data)"
    yield f"#   discreet run {_text(str(target))}      publish"
    yield "# For completion in an editor: discreet schema > schema.json, and as the first line of this file"
    yield "#   yaml-language-server: $schema=schema.json"
    yield "version: 1"
    yield f"dataset: {_name(target.stem)}    # whose budget is spent: one name for everything about the same people"


def _events(files: Sequence[str], found: Guess) -> Iterator[str]:
    unit = found.units[0] if found.units else OPEN
    yield "events:"
    yield f"  files: {_files(files)}"
    yield "  # QUESTION 1: who is protected? The column that tells persons apart (or households, accounts, machines)."
    yield "  # All rows with the same value are protected together; rows without a value are left out."
    if found.units[1:]:
        yield f"  # Also possible: {_listed(found.units[1:])}"
    yield f"  privacy_unit: {_text(unit)}{'    # found by its name; is it right?' if found.units else ''}"
    yield from _text_lines(found, unit)
    strings = {name for name, kind in found.types.items() if pa.types.is_string(kind) or (name == unit and found.text)}
    texts = [name for name in (unit, found.key) if name in strings]
    if texts:
        yield "  normalise:    # spellings of one thing are made one; add casefold where K7 and k7 are the same"
        for name in texts:
            yield f"    {_text(name)}: [trim, nfc]"
    if found.times:
        yield f"  derive:    # periods of {_listed(found.times)}"
        yield "    # QUESTION: whose months? Write your time zone, such as Europe/Berlin."
        yield f"    {_month(found)}: {{truncate: {_text(found.times[0])}, to: month, timezone: UTC}}"
    yield "  # where:    # which events count; all conditions must hold"
    yield f"  #   - {{column: {_text(next(iter(found.types)))}, op: not_null}}"


def _text_lines(found: Guess, unit: str) -> Iterator[str]:
    """How text files are written. Units are text whatever they look like: a number that is not one sets its line aside."""
    if found.text is None:
        return
    if found.csv:
        yield "  # The first line of the file is taken as the names of its columns."
        options = {"delimiter": found.text.delimiter.replace("\t", "tab"), "decimal": found.text.decimal}
        if found.text.timestamps:
            options["timestamps"] = found.text.timestamps
        if found.text.encoding != "utf-8":
            options["encoding"] = found.text.encoding
        if found.ambiguous:
            yield "  # QUESTION: is the day first in dates, or the month? The first rows fit both, such as %d/%m/%Y and %m/%d/%Y."
        yield f"  csv: {{{', '.join(f'{key}: {json.dumps(value)}' for key, value in options.items())}}}"
    yield "  types:    # as what columns are read; a value that does not fit sets its line aside, privately"
    for name, kind in found.types.items():
        note = f"    # {found.notes[name]}" if name in found.notes else ""
        yield f"    {_text(name)}: {'string' if name == unit else type_name(kind)}{note}"


def _release(found: Guess, target: Path) -> Iterator[str]:
    key = found.key or (_month(found) if found.times else OPEN)
    others = [name for name in [*found.keys, *([_month(found)] if found.times else [])] if name != key]
    taken = {key}
    yield "budget: {epsilon: 1, delta: 1.0e-6}    # epsilon 1 is a good start; smaller is more private and less accurate"
    yield "releases:"
    yield f"  - name: by_{_name(key) if key != OPEN else 'key'}"
    yield f"    # QUESTION 2: one row for each what?{f' Also possible: {_listed(others)}' if others else ''}"
    yield f"    keys: {{columns: [{_text(key)}]}}"
    yield "    # QUESTION 3: in how many of these keys is a usual person, and with how many rows in each?"
    yield "    # Who has more counts less per row. Larger bounds need more noise."
    yield "    bounds: {keys_per_unit: 4, rows_per_key: 5}"
    yield "    metrics:"
    yield f"      - {{name: {_unused('events', taken)}, count: events}}"
    yield f"      - {{name: {_unused('people', taken)}, count: units}}"
    taken |= {"events", "people"}
    for amount in found.amounts[:3]:
        total = _unused(f"{_name(amount)}_total", taken)
        taken.add(total)
        yield f"      # QUESTION 4: the largest sensible {_text(amount)} of one row? From what you know, not from the data."
        yield f"      # - {{name: {total}, sum: {_text(amount)}, clip: [0, LARGEST]}}"
    yield f"output: {{path: {_text(f'out/{_name(target.stem)}')}}}"


def _month(found: Guess) -> str:
    return _unused("month", found.types)


def _files(files: Sequence[str]) -> str:
    """The files as a path, as a glob where it names exactly them, or as a list."""
    first = Path(files[0])
    pattern = str(first.parent / f"*{''.join(first.suffixes)}")
    if len(files) > 1 and sorted(glob.glob(pattern)) == sorted(str(Path(path)) for path in files):
        return _text(pattern)
    return _text(files[0]) if len(files) == 1 else f"[{', '.join(_text(path) for path in files)}]"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_text(name) for name in names[:_OTHERS])


def _text(value: str) -> str:
    """A text as YAML writes it, on one line."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=not value.isprintable())


def _name(text: str) -> str:
    """A name for what is made of a file or column: lower-case letters, digits and _."""
    name = re.sub("[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def _unused(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_"
    return name
