"""The events that most tests share: every kind of column, every kind of bad value, units far over their bounds."""

import datetime as dt
import random
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

ROWS_PER_GROUP = 700
FILES = (4000, 2500, 1500)
ZONE = ZoneInfo("America/New_York")
UNIT = ("person", "tenant")

CONFIG = """
version: 1
dataset: shops
events:
  files: ROOT/events/*.parquet
  privacy_unit: [person, tenant]
  lookups:
    - {file: ROOT/products.parquet, by: product, columns: [department]}
  derive:
    month: {truncate: at, to: month, timezone: America/New_York}
  where:
    - {column: quantity, op: ">", value: -5}
    - {column: channel, op: not_in, value: [test, staff]}
budget: {epsilon: 4, delta: 1.0e-6}
releases:
  - name: departments
    keys: {columns: [department, month]}
    bounds: {keys_per_unit: 3, rows_per_key: 2}
    select: {cap: 6}
    metrics:
      - {name: purchases, count: events}
      - {name: people, count: units}
      - {name: revenue, sum: amount, clip: [-5, 20]}
      - {name: price, mean: amount, clip: [0.1, 9.7]}
  - name: sizes
    keys: {columns: [size, level, day]}
    bounds: {keys_per_unit: 2, rows_per_key: 3}
    metrics:
      - {name: people, count: units}
      - {name: pieces, sum: quantity, clip: [-3, 1000]}
      - {name: fee, mean: fee, clip: [0, 7.35]}
  - name: shops
    keys: {columns: [shop], values: {shop: [north, south, "", "österreich", nowhere]}}
    bounds: {keys_per_unit: 1, rows_per_key: 4}
    metrics:
      - {name: purchases, count: events}
      - {name: stock, sum: stock, clip: [0, 1000000]}
      - {name: pieces, mean: quantity, clip: [-10, 10]}
  - name: spreads
    keys: {columns: [shop, month]}
    bounds: {keys_per_unit: 4, rows_per_key: 2}
    metrics:
      - {name: price, mean: amount, clip: [0.1, 9.7]}
      - {name: revenue, sum: amount, clip: [0.1, 9.7]}
      - {name: spread, variance: amount, clip: [0.1, 9.7]}
      - {name: deviation, stddev: amount, clip: [0.1, 9.7], share: 2}
      - {name: wide, variance: amount, clip: [-5, 20]}
      - {name: fees, stddev: fee, clip: [0, 7.35]}
      - {name: pieces, variance: quantity, clip: [-3, 1000]}
      - {name: level, mean: quantity, clip: [-3, 1000]}
      - {name: turnover, sum: amount, clip: [0.1, 9.7]}
output: {path: ROOT/out, files: 2}
"""

SCHEMA = pa.schema(
    [
        ("person", pa.string()),
        ("tenant", pa.int16()),
        ("product", pa.int32()),
        ("at", pa.timestamp("us", "UTC")),
        ("channel", pa.string()),
        ("shop", pa.string()),
        ("size", pa.decimal128(7, 2)),
        ("level", pa.int8()),
        ("day", pa.date32()),
        ("amount", pa.float64()),
        ("quantity", pa.int64()),
        ("fee", pa.decimal128(9, 2)),
        ("stock", pa.uint64()),
    ]
)

AMOUNTS = (None, float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, -0.0)
QUANTITIES = (None, 2**63 - 1, -(2**63), 0)


def events(rows: int, seed: int) -> pa.Table:
    """Random events; about a fifth of all fields are awkward."""
    draw = random.Random(seed)
    return pa.Table.from_pylist([_event(draw) for _ in range(rows)], SCHEMA)


def _event(draw: random.Random) -> dict[str, Any]:
    person = "whale" if draw.random() < 0.15 else f"person {int(draw.paretovariate(0.5)) % 400}"
    start = dt.datetime(2023, draw.randint(1, 12), 1, tzinfo=ZONE)
    near = dt.timedelta(minutes=draw.randint(-300, 300))
    return {
        "person": draw.choice([None, "", " "]) if draw.random() < 0.05 else person,
        "tenant": None if draw.random() < 0.03 else 1 + (draw.random() < 0.1),
        "product": None if draw.random() < 0.03 else draw.randint(0, 59),
        "at": None if draw.random() < 0.03 else start + (near if draw.random() < 0.5 else dt.timedelta(days=draw.randint(1, 27))),
        "channel": draw.choice(["web", "shop", "app", "test", None] if draw.random() < 0.1 else ["web", "shop", "app"]),
        "shop": draw.choice(["north", "south", "", "österreich", "elsewhere", "North", None]),
        "size": None if draw.random() < 0.03 else Decimal(draw.randint(-3, 3)) / 4,
        "level": None if draw.random() < 0.03 else draw.choice([-128, 0, 127]),
        "day": None if draw.random() < 0.03 else dt.date(1969, 12, 31) + dt.timedelta(days=draw.randint(0, 1)),
        "amount": draw.choice(AMOUNTS) if draw.random() < 0.1 else round(draw.uniform(-10, 30), 2),
        "quantity": draw.choice(QUANTITIES) if draw.random() < 0.1 else draw.randint(-8, 1500),
        "fee": None if draw.random() < 0.1 else Decimal(draw.randint(0, 1000)) / 100,
        "stock": draw.choice([None, 2**64 - 1, 0]) if draw.random() < 0.1 else draw.randint(0, 2 * 10**6),
    }


def write(root: Path) -> str:
    """Writes the files and returns the config."""
    (root / "events").mkdir(parents=True)
    for number, rows in enumerate(FILES):
        pq.write_table(events(rows, number), root / "events" / f"{number}.parquet", row_group_size=ROWS_PER_GROUP)
    products = range(50)  # the events know more of them
    departments = [None if product % 10 == 9 else f"department {product % 8}" for product in products]
    pq.write_table(pa.table({"product": pa.array(products, pa.int64()), "department": departments}), root / "products.parquet")
    return CONFIG.replace("ROOT", str(root))


SIMPLE = """
version: 1
dataset: simple
events: {files: ROOT/simple.parquet, privacy_unit: UNIT}
budget: {epsilon: 4, delta: 1.0e-6}
releases: RELEASES
output: {path: ROOT/out}
"""


def simple(root: Path, events: pa.Table, *releases: str, unit: str = "unit") -> str:
    """Writes one table of events, and returns a config with these releases, each a YAML flow mapping."""
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(events, root / "simple.parquet")
    text = SIMPLE.replace("RELEASES", "[" + ", ".join(releases) + "]").replace("UNIT", unit)
    return text.replace("ROOT", str(root))


def tree_of(config: str) -> dict[str, Any]:
    """The config as plain values."""
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load(config)
    return tree


def reference_rows(root: Path) -> list[dict[str, Any]]:
    """The events after lookups, periods and conditions, in plain Python."""
    departments = {row["product"]: row["department"] for row in pq.read_table(root / "products.parquet").to_pylist()}
    rows = []
    for path in sorted((root / "events").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            if row["quantity"] is None or row["quantity"] <= -5 or row["channel"] in (None, "test", "staff"):
                continue
            month = None if row["at"] is None else row["at"].astimezone(ZONE).date().replace(day=1)
            rows.append(row | {"department": departments.get(row["product"]), "month": month})
    return rows
