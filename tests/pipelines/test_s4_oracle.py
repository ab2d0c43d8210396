"""S4: no event's content changes whether a run succeeds, nor what is published beside noisy values and selected keys."""

import datetime
import shutil
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FAR, NEAR = 2**63 - 1, -(2**63)
MAY = {
    "user": (pa.int64(), 1, [None, FAR, NEAR, 0, -1]),
    "text": (pa.string(), "a", [None, "", "\0", "\ud7ff", "é", "e\u0301", "a" * 100_000, " a", "nan", "${x}", "a/../../b"]),
    "raw": (pa.binary(), b"a", [None, b"", b"\xff\xfe", b"\0" * 10, b"\xed\xa0\x80"]),
    "real": (pa.float64(), 1.0, [None, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -0.0]),
    "small": (pa.float32(), 1.0, [None, np.nan, np.inf, 3.4e38, 1e-45]),
    "whole": (pa.int64(), 1, [None, FAR, NEAR, 2**53 + 1]),
    "natural": (pa.uint64(), 1, [None, 2**64 - 1, 2**63, 0]),
    "tiny": (pa.int8(), 1, [None, 127, -128]),
    "flag": (pa.bool_(), True, [None, False]),
    "money": (pa.decimal128(38, 2), Decimal("1.00"), [None, Decimal(10**35), -Decimal(10**35)]),
    "big": (pa.decimal256(76, 0), Decimal(1), [None, Decimal(10**75), -Decimal(10**75)]),
    "us": (pa.timestamp("us"), 0, [None, FAR, NEAR, NEAR + 1, 253402300800 * 10**6]),
    "ns": (pa.timestamp("ns"), 0, [None, FAR, NEAR]),
    "s": (pa.timestamp("s"), 0, [None, 10**12, -(10**12), 253402300800]),
    "zoned": (pa.timestamp("us", "Europe/Berlin"), 0, [None, FAR, NEAR, 10**17]),
    "date": (pa.date32(), datetime.date(2024, 1, 1), [None, datetime.date.max, datetime.date.min]),
}
AS_KEY = [name for name in MAY if name not in ("raw", "real", "small", "big")]
AS_VALUE = ["real", "small", "whole", "natural", "tiny", "flag", "money", "big"]
AS_TIME = ["us", "ns", "s", "zoned", "date"]


def table(poison: str | None) -> pa.Table:
    """80 plain rows of 40 units; with poison, one unit more that brings every value of a column that may break something."""
    extra = MAY[poison][2] if poison else []
    columns = {}
    for name, (kind, plain, _) in MAY.items():
        values = [plain] * (80 + len(extra))
        if name == "user":
            values = [row % 40 for row in range(80)] + [999] * len(extra)
        if name == poison:
            values[80:] = extra
        columns[name] = pa.array(values, kind)
        if (name, poison) == ("text", "text"):  # bytes that are no UTF-8; Arrow checks them nowhere on the way
            columns[name] = pa.concat_arrays([columns[name][:-1], pa.array([b"\xff\xfe"]).view(pa.string())])
    return pa.table(columns)


def shape(project: Any) -> Any:
    """What may not differ between neighbours."""
    manifest = project.manifest()
    del manifest["charge"]
    for file in manifest["files"]:
        del file["sha256"]
    parts = [pq.ParquetFile(project.root / "out" / file["path"]) for file in manifest["files"]]
    return manifest, [(part.schema_arrow, part.schema_arrow.metadata) for part in parts], sorted(project.visible())


def poisoned(project: Any, column: str) -> None:
    """Runs with and without the poisoned unit; both must end the same way."""
    shapes = []
    for poison in (None, column):
        project.write_events(table(poison), use_deprecated_int96_timestamps=False)
        ended = project.run("--output", "out")
        assert (ended.status, ended.complaint) == (0, ""), poison
        shapes.append((shape(project), ended.json["drawn"]))
        shutil.rmtree(project.root / "out")
        project.new_ledger()
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("column", AS_KEY)
def test_s4_poisoned_key_and_unit(project, column):
    """A value at the end of its type, an empty one, a null: as key, and as part of the privacy unit."""
    project.config["events"]["privacy_unit"] = ["user", column if column != "user" else "text"]
    project.release["keys"]["columns"] = [column]
    project.release["metrics"] = project.release["metrics"][:2]
    poisoned(project, column)


@pytest.mark.parametrize("column", AS_VALUE)
def test_s4_poisoned_value(project, column):
    """NaN, infinities, overflow: in a sum, a mean and a variance."""
    project.release["keys"]["columns"] = ["text"]
    project.release["metrics"] = [
        {"name": "total", "sum": column, "clip": [-5, 5]},
        {"name": "average", "mean": column, "clip": [0, 1e30]},
        {"name": "spread", "variance": column, "clip": [-1e30, 1e30]},
    ]
    poisoned(project, column)


@pytest.mark.parametrize("column", AS_TIME)
def test_s4_poisoned_period(project, column):
    """Timestamps beyond the years that calendars know, in every kind of period."""
    kinds = ["hour", "day", "week", "month", "quarter", "year"][column == "date" :]
    project.config["events"]["derive"] = {to: {"truncate": column, "to": to, "timezone": "America/New_York"} for to in kinds}
    project.release["keys"]["columns"] = kinds
    project.release["metrics"] = project.release["metrics"][:1]
    poisoned(project, column)


@pytest.mark.parametrize("column", [name for name in MAY if name not in ("raw", "big")])
def test_s4_poisoned_condition_and_lookup(project, column):
    """A comparison, a membership and a join by the poisoned column."""
    kind, plain, _ = MAY[column]
    written = pa.array([plain], kind).cast(pa.string())[0].as_py()
    project.config["events"]["where"] = [
        {"column": column, "op": "not_null"},
        {"column": column, "op": ">=" if column != "user" else "!=", "value": written},
        {"column": column, "op": "not_in", "value": [written[:-1] + "3" if column not in ("flag", "user") else written]},
    ]
    if column == "flag":
        project.config["events"]["where"].pop()
    pq.write_table(pa.table({column: pa.array([plain], kind), "area": ["n"]}), "areas.parquet")
    project.config["events"]["lookups"] = [{"file": "areas.parquet", "by": column, "columns": ["area"]}]
    project.release["keys"]["columns"] = ["area"]
    project.release["metrics"] = project.release["metrics"][:1]
    poisoned(project, column)
