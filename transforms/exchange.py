"""How tables travel through a shuffle: as Arrow IPC bytes, or, where all workers share a disk, as references to them."""

import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.grid import Ints
from privacy.ids import Ids
from transforms.grouping import Groups, RowKeys, cut, group_bins

_BYTES_BY_VALUE = 1 << 20
_NAME = b"table"

Columns = dict[str, pa.Array | NDArray[Any]]


def named_batch(name: str, columns: Columns) -> pa.RecordBatch:
    """A record batch that says which table it is part of."""
    arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns.values()]
    fields = [pa.field(field, array.type) for field, array in zip(columns, arrays, strict=True)]
    return pa.record_batch(arrays, schema=pa.schema(fields, metadata={_NAME: name}))


def ids_of(batch: pa.RecordBatch | pa.Table, prefix: str) -> Ids:
    """The ids in the columns `<prefix>_high` and `<prefix>_low`."""
    return Ids(*(batch[f"{prefix}_{word}"].to_numpy().view(np.uint64) for word in ("high", "low")))


def id_columns(ids: Ids, prefix: str) -> Columns:
    """The two columns of `ids_of`."""
    return {f"{prefix}_high": ids.high, f"{prefix}_low": ids.low}


def keys_of(batch: pa.RecordBatch) -> RowKeys:
    """The keys in a table's columns: their ids, and `public` where they are partly public."""
    public = batch["public"].to_numpy().astype(np.int64) if "public" in batch.schema.names else None
    return RowKeys(ids_of(batch, "key"), public)


def key_columns(keys: RowKeys) -> Columns:
    """The columns of `keys_of`."""
    return id_columns(keys.ids, "key") | ({} if keys.public is None else {"public": narrowed(keys.public)})


def narrowed(values: Ints) -> NDArray[np.integer]:
    """The same integers in the narrowest type that holds them."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(np.min_scalar_type(high) if low == 0 else np.min_scalar_type(min(low, -high - 1)))


def joined(batches: Sequence[pa.RecordBatch], column: str) -> Ints:
    """A column of several batches, one after the other. int64, whatever narrower types they came in."""
    return np.concatenate([batch[column].to_numpy().astype(np.int64) for batch in batches])


def joined_ids(batches: Sequence[pa.RecordBatch], prefix: str) -> Ids:
    """The ids of several batches, one after the other."""
    parts = [ids_of(batch, prefix) for batch in batches]
    return Ids(np.concatenate([part.high for part in parts]), np.concatenate([part.low for part in parts]))


def joined_keys(batches: Sequence[pa.RecordBatch]) -> RowKeys:
    """The keys of several batches, one after the other."""
    parts = [keys_of(batch) for batch in batches]
    numbers = [part.public for part in parts if part.public is not None]
    return RowKeys(joined_ids(batches, "key"), np.concatenate(numbers) if numbers else None)


def named_of(batches: Sequence[pa.RecordBatch]) -> str:
    """The table that batches are of."""
    return str(batches[0].schema.metadata[b"table"].decode())


def unit_tables(
    number: int, units: Ids, keys: RowKeys, pairs: Groups, tallies: Iterable[Ints], bins: Iterable[Ints]
) -> list[pa.RecordBatch]:
    """The tables `sums:<number>` and `bins:<number>:<vector>` of events.

    Args:
        units, keys: of each event.
        pairs: of the events by unit and key, or each alone.
        tallies: int64, shape (n,) each: what each event adds to each tally.
        bins: int64, shape (n,) each: the bin of each event in each of the `BinVector`s; -1 for none.
    """
    pair_units, pair_keys = units.take(pairs.firsts), keys.take(pairs.firsts)
    sums: Columns = {f"tally_{place}": narrowed(pairs.add_up(steps)) for place, steps in enumerate(tallies)}
    tables = [named_batch(f"sums:{number}", id_columns(pair_units, "unit") | key_columns(pair_keys) | sums)]
    for place, found in enumerate(bins):
        cells = group_bins(pairs, found)
        ids = id_columns(pair_units.take(cells.groups), "unit") | key_columns(pair_keys.take(cells.groups))
        counts: Columns = {"bin": narrowed(cells.bins), "events": narrowed(cells.rows.add_up(np.ones(len(found), np.int64)))}
        tables.append(named_batch(f"bins:{number}:{place}", ids | counts))
    return tables


def encode(batches: Iterable[pa.RecordBatch]) -> bytes:
    """Arrow IPC streams, one after the other. A slice carries its own rows only."""
    sink = pa.BufferOutputStream()
    _write(batches, sink)
    return bytes(sink.getvalue().to_pybytes())


def _write(batches: Iterable[pa.RecordBatch], sink: pa.NativeFile) -> None:
    for batch in batches:
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)


def decode(data: bytes) -> dict[str, list[pa.RecordBatch]]:
    """The batches of `encode`, by the name of their table."""
    tables: dict[str, list[pa.RecordBatch]] = {}
    reader = pa.BufferReader(data)
    while reader.tell() < len(data):
        with pa.ipc.open_stream(reader) as stream:
            tables.setdefault(stream.schema.metadata[_NAME].decode(), []).extend(stream)
    return tables


@dataclass(frozen=True)
class Exchange:
    """Sends batches to shards.

    Attributes:
        folder: where payloads lie if all workers and the submitter share a disk; None sends them by value.
    """

    folder: Path | None

    def send(self, tables: Sequence[pa.RecordBatch], shards: int) -> list[tuple[int, bytes]]:
        """Cuts tables by the ids in their first column, in which they ascend, into elements (shard, payload).

        Shards without rows get none.
        """
        filled = []
        edges = [cut(table.column(0).to_numpy(), shards) for table in tables]
        for shard in range(shards):
            batches = [
                table.slice(at[shard], at[shard + 1] - at[shard])
                for table, at in zip(tables, edges, strict=True)
                if at[shard] < at[shard + 1]
            ]
            if batches:
                filled.append((shard, batches))
        if self.folder is None:
            return [(shard, b"V" + encode([part])) for shard, batches in filled for part in _parts(batches)]
        path = self.folder / uuid.uuid4().hex
        sent = []
        with pa.OSFile(str(path), "wb") as file:
            for shard, batches in filled:
                at = file.tell()
                _write(batches, file)
                sent.append((shard, b"R" + json.dumps([path.name, at, file.tell() - at]).encode()))
        return sent

    def receive(self, payloads: Iterable[bytes]) -> dict[str, list[pa.RecordBatch]]:
        """All batches of a shard, by the name of their table."""
        tables: dict[str, list[pa.RecordBatch]] = {}
        for payload in payloads:
            for name, batches in decode(self._data(payload)).items():
                tables.setdefault(name, []).extend(batches)
        return tables

    def _data(self, payload: bytes) -> bytes:
        if payload[:1] == b"V" or self.folder is None:
            return payload[1:]
        name, at, size = json.loads(payload[1:])
        with open(self.folder / name, "rb") as file:
            return os.pread(file.fileno(), size, at)


def _parts(batches: Sequence[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    for batch in batches:
        rows = max(1, _BYTES_BY_VALUE * batch.num_rows // max(batch.nbytes, 1))
        for at in range(0, batch.num_rows, rows):
            yield batch.slice(at, rows)
