"""The private quarantine: lines that cannot be read, with file, line and reason. Nothing that is published depends on it."""

import os
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def set_aside(target: Path, path: str, bad: pa.RecordBatch) -> None:
    """Writes the bad lines of a batch. A repeated bundle writes the same file again.

    Args:
        path: the file that they are in.
        bad: line, reason, text.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    table = pa.Table.from_batches([bad]).add_column(0, "file", pa.array([path] * bad.num_rows, pa.string()))
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    pq.write_table(table, part, compression="zstd")
    os.replace(part, target)
