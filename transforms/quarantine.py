"""The private quarantine: lines that cannot be read, with file, line and reason. Nothing that is published depends on it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.work_folder import create_if_absent


def set_aside(target: Path, path: str, bad: pa.RecordBatch) -> None:
    """Writes the bad lines of a batch. A repeated bundle finds the same file and leaves it.

    Args:
        path: the file that they are in.
        bad: line, reason, text.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    table = pa.Table.from_batches([bad]).add_column(0, "file", pa.array([path] * bad.num_rows, pa.string()))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    create_if_absent(target, sink.getvalue().to_pybytes())
