"""Event files: which there are, how they are written, which columns they have. Reads footers and headers only."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.events_config import Events
from transforms.column_types import column_type
from transforms.errors import ConfigError, InputError
from transforms.file_state import FileState
from transforms.read_events import BATCH_ROWS, FilePart, plain_type
from transforms.text_events import TextFormat, csv_header, is_csv, is_json, is_text

_TEXT_ROW_BYTES = 50
"""About what an event takes in a text file; only the number of shards follows from it."""


def find_files(patterns: Sequence[str]) -> list[str]:
    """The files that paths and globs name, each once, sorted.

    Raises:
        InputError: a path or glob names no file.
    """
    found: dict[tuple[int, int], str] = {}
    for pattern in patterns:
        if "://" in pattern:
            raise ConfigError(f"events.files: {pattern} is not a local path; this version reads local files only, copy them")
        files = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
        if not files:
            cure = "is a folder; write folder/*.parquet" if os.path.isdir(pattern) else "names no file; correct the path"
            raise InputError(f"events.files: {pattern} {cure}")
        for path in files:
            file = os.stat(path)
            found.setdefault((file.st_dev, file.st_ino), path)  # the same for symbolic and hard links
    return sorted(found.values())


def text_format(events: Events) -> TextFormat:
    """How the config says that text files are written."""
    return TextFormat(
        types={column: column_type(kind) for column, kind in events.types.items()},
        delimiter=events.csv.delimiter,
        decimal=events.csv.decimal,
        timestamps=events.csv.timestamps,
        encoding=events.csv.encoding,
    )


def _read_footer(path: str, needed: Iterable[str], text: TextFormat) -> tuple[pa.Schema, list[int] | None]:
    """The columns of a file, and the rows of each row group; None for text.

    JSON Lines have whatever columns are needed: where an object lacks one, it is null.
    """
    if is_text(path):
        try:
            names = list(needed) if is_json(path) else csv_header(path, text)
        except (pa.ArrowException, OSError):
            raise InputError(f"{path}: cannot be read or decompressed; replace the file") from None
        return pa.schema([pa.field(name, text.type_of(name)) for name in names]), None
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            return file.schema_arrow, [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError):
        raise InputError(
            f"{path}: is no Parquet file, or is cut off; replace it, or let its name end in .csv or .jsonl if it is text"
        ) from None


def read_footers(
    paths: Sequence[str], text: TextFormat, needed: Mapping[str, str], made: Mapping[str, str], most: int
) -> tuple[pa.Schema, tuple[FilePart, ...]]:
    """The types of the columns that are needed, which all files must share, and the files in parts.

    Args:
        needed, made: columns that must be in every file, and that must be in none; and where the config names each.
        most: how many events there may be.

    Raises:
        InputError: a file cannot be read, or its columns cannot be used.
        ConfigError: a made column is in a file.
    """
    schema: pa.Schema | None = None
    parts: list[FilePart] = []
    unknown = set(text.types)
    for path in paths:
        state = FileState.of(path)
        found, sizes = _read_footer(path, needed, text)
        unknown.difference_update(text.types if is_json(path) else found.names)
        for column, where in needed.items():
            if found.names.count(column) != 1:
                which = "has several columns" if column in found.names else "has no column"
                cure = "correct the name, or events.csv.delimiter" if is_csv(path) else "correct the name or the file"
                raise InputError(f"{where}: {path} {which} {column!r}; {cure}")
        for column, where in made.items():
            if column in found.names:
                raise ConfigError(f"{where}: {path} has a column {column!r} of its own; rename one")
        fields = pa.schema([pa.field(column, found.field(column).type) for column in needed])
        for column, declared in text.types.items():
            if column in needed and plain_type(fields.field(column).type) != declared:
                raise InputError(
                    f"events.types.{column}: is {declared}, but {fields.field(column).type} in {path}; remove it or correct it"
                )
        if schema is None:
            schema = fields
        for column in needed:
            if fields.field(column).type != schema.field(column).type:
                raise InputError(
                    f"{path}: column {column!r} is {fields.field(column).type}, "
                    f"but {schema.field(column).type} in {paths[0]}; write all files with the same types"
                )
        if sizes is None:
            parts.append(FilePart(path, state, None, state.size // _TEXT_ROW_BYTES))
        else:
            parts += [FilePart(path, state, groups, sum(sizes[number] for number in groups)) for groups in _cut(sizes)]
    if unknown:
        raise ConfigError(f"events.types.{min(unknown)}: no file has this column; correct its name or remove it")
    assert schema is not None
    exact = sum(part.rows for part in parts if part.row_groups is not None)
    text_bytes = sum(part.state.size for part in parts if part.row_groups is None)
    parts = [
        replace(part, most_lines=max(most - exact, 0) * part.state.size // max(text_bytes, 1))
        if part.row_groups is None
        else part
        for part in parts
    ]
    rows = sum(part.rows for part in parts)
    if rows > most:
        raise InputError(f"events.files: more than {most} events; no sum of them is sure to fit, split the run")
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
