"""Synthetic shop events: skewed users, heavy-tailed products.

usage: python -m benchmarks.make_events EVENTS USERS PRODUCTS FILES FOLDER      (numbers may be written 1e7)
Columns: user_id, product, store (strings), amount (float64, above 0), ts (timestamp[us]).
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUP = 1 << 17
_START = 1_750_000_000_000_000


def make_events(events: int, users: int, products: int, files: int, folder: Path) -> None:
    """Writes the files. Does nothing where the folder is there."""
    if folder.exists():
        return
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    names = {
        "user_id": pa.array([f"u{number:08d}" for number in range(users)]),
        "product": pa.array([f"p{number:06d}" for number in range(products)]),
        "store": pa.array([f"s{number:02d}" for number in range(20)]),
    }
    rows = events // files
    for number in range(files):
        drawn = {
            "user_id": (users * rng.random(rows) ** 2).astype(np.int64),
            "product": np.minimum((rng.pareto(1.1, rows) * 3).astype(np.int64), products - 1),
            "store": rng.integers(0, 20, rows),
        }
        table = pa.table(
            {column: names[column].take(pa.array(places)) for column, places in drawn.items()}
            | {
                "amount": np.round(rng.lognormal(2.5, 0.8, rows), 2),
                "ts": pa.array(_START + rng.integers(0, 30 * 86400, rows) * 1_000_000, pa.timestamp("us")),
            }
        )
        pq.write_table(table, part / f"part-{number:04d}.parquet", row_group_size=_ROW_GROUP, compression="zstd")
    part.rename(folder)


if __name__ == "__main__":
    events, users, products, files = (int(float(number)) for number in sys.argv[1:5])
    make_events(events, users, products, files, Path(sys.argv[5]))
