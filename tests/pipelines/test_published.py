"""What is published: files, order, types, values, and how other tools read it."""

import datetime
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from privacy.noise import Noise

KEYS = {
    "text": (pa.string(), pa.string()),
    "large_text": (pa.large_string(), pa.string()),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), pa.string()),
    "whole": (pa.int64(), pa.int64()),
    "tiny": (pa.int8(), pa.int8()),
    "natural": (pa.uint64(), pa.uint64()),
    "flag": (pa.bool_(), pa.bool_()),
    "money": (pa.decimal128(9, 2), pa.decimal128(9, 2)),
    "seconds": (pa.timestamp("s"), pa.timestamp("us")),
    "nanos": (pa.timestamp("ns"), pa.timestamp("us")),
    "zoned": (pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("us", "Europe/Berlin")),
    "date": (pa.date32(), pa.date32()),
    "long_date": (pa.date64(), pa.date32()),
}


def values_of(kind: pa.DataType, number: int) -> Any:
    """Four different values of a type, two of a boolean."""
    number %= 2 if pa.types.is_boolean(kind) else 4
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "bdac"[number]
    if pa.types.is_decimal(kind):
        return Decimal(number) / 4
    if pa.types.is_date(kind):
        return datetime.date(2024, 1, 9 - number)
    if pa.types.is_timestamp(kind):
        return datetime.datetime(2024, 3, 30, 22 + number % 2, number)
    if pa.types.is_boolean(kind):
        return bool(number)
    return number if pa.types.is_uint64(kind) else number - 2


def big_table() -> pa.Table:
    """200 units in every key; columns of every kind."""
    numbers = [row % 4 for row in range(800)]
    columns = {name: pa.array([values_of(kind, number) for number in numbers], kind) for name, (kind, _) in KEYS.items()}
    return pa.table(columns | {"user": [row // 4 for row in range(800)], "price": [row % 7 / 2 for row in range(800)]})


@pytest.mark.parametrize("column", KEYS)
def test_key_columns_have_their_own_types(project, column):
    """No dictionaries, timestamps in microseconds; rows ascending over the files."""
    project.write_events(big_table())
    project.config["output"]["files"] = 3
    project.release["keys"]["columns"] = [column]
    project.release["metrics"] = project.release["metrics"][:2]
    assert project.run().status == 0
    table = project.table()
    assert table.schema.field(column).type == KEYS[column][1]
    assert table.num_rows == len(set(big_table()[column].to_pylist()))
    assert table[column].to_pylist() == sorted(table[column].to_pylist())
    assert set(table[column].to_pylist()) == set(big_table()[column].cast(KEYS[column][1]).to_pylist())


def test_metric_columns_have_the_types_of_the_issue(project):
    """Counts and sums of integers are int64, others double; each with its interval next to it."""
    assert project.run().status == 0
    expected = [("shop", pa.string())]
    for metric, kind in (("visits", "i"), ("people", "i"), ("takings", "f"), ("items", "i"), ("average", "f")):
        expected += [(metric + end, pa.int64() if kind == "i" else pa.float64()) for end in ("", "_low", "_high")]
    assert [(field.name, field.type) for field in project.table().schema] == expected


@pytest.mark.parametrize(
    ("to", "kind"), [(to, pa.date32()) for to in ("day", "week", "month", "quarter", "year")] + [("hour", pa.timestamp("us"))]
)
def test_periods_are_dates_of_their_first_day(project, to, kind):
    """The hour is a timestamp; weeks start on Mondays."""
    project.config["events"]["derive"] = {"period": {"truncate": "at", "to": to, "timezone": "UTC"}}
    project.config["budget"]["epsilon"] = 1e6
    table = project.base
    project.write_events(table.set_column(4, "at", pa.array([1_700_000_000] * len(table), pa.timestamp("s"))))
    project.release["keys"]["columns"] = ["period"]
    assert project.run().status == 0
    period = project.table()["period"]
    assert period.type == kind
    start = {"day": 14, "week": 13, "month": 1}.get(to)
    expected = {
        "hour": datetime.datetime(2023, 11, 14, 22),
        "quarter": datetime.date(2023, 10, 1),
        "year": datetime.date(2023, 1, 1),
    }.get(to) or datetime.date(2023, 11, start)
    assert period.to_pylist() == [expected]


@pytest.mark.parametrize("files", [1, 4, 7])
def test_n_files_always(project, files):
    """Also when there are fewer keys than files, or none."""
    project.config["output"]["files"] = files
    names = [f"part-{number:05d}.parquet" for number in range(files)]
    assert project.run().status == 0
    assert [path.name for path in project.parts()] == names
    project.config["budget"]["epsilon"] = 1e-3
    assert project.run(run_id="none").json["releases"]["by_shop"]["keys"] == 0
    assert [path.name for path in project.parts(run_id="none")] == names
    assert project.table(run_id="none").schema == project.table().schema


def test_r4_files_of_other_runs_never_mix(project):
    """Five files, then three, then five: each run has its own rows in as many files, all named in its manifest."""
    tables = {}
    for run_id, files in {"one": 5, "two": 3, "three": 5}.items():
        project.config["output"]["files"] = files
        assert project.run(run_id=run_id).status == 0
        tables[run_id] = project.table(run_id=run_id)
        assert len(project.parts(run_id=run_id)) == files
    for run_id, table in tables.items():
        assert project.table(run_id=run_id).equals(table)
        assert table["shop"].to_pylist() == ["ash", "birch", "cedar"]
        named = {project.root / "out" / file["path"] for file in project.manifest(run_id)["files"]}
        assert named == set(project.parts(run_id=run_id))


@pytest.mark.parametrize("noise", ["least", "most", "zero", "mixed"])
def test_r2_no_noise_lets_a_run_fail(project, monkeypatch, noise):
    """Whatever was drawn is published, in the types and the order of any other run: a failure would tell what was drawn."""
    ends = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0, -1, 1, 2**53 + 1, -(2**62)])
    cells = {"least": ends[:1], "most": ends[1:2], "zero": ends[2:3], "mixed": ends}[noise]
    drawn: list[int] = []

    def draw(_: Noise, values: Any) -> Any:
        drawn.append(len(values))
        return np.resize(np.roll(cells, len(drawn)), len(values))

    project.release["keys"]["values"] = {"shop": ["ash", "birch", "cedar", "nowhere"]}
    assert project.run(run_id="usual").status == 0
    monkeypatch.setattr(Noise, "add", draw)
    ended = project.run()
    assert ended.status == 0, ended.complaint
    assert sum(drawn) >= 5 * 4
    table = project.table()
    assert table.schema == project.table(run_id="usual").schema
    assert table["shop"].to_pylist() == ["ash", "birch", "cedar", "nowhere"]
    assert not any(pc.any(pc.is_nan(column)).as_py() for column in table.columns if pa.types.is_floating(column.type))
    assert all(column.null_count == 0 for column in table.columns)


@pytest.mark.parametrize("kind", ["no rows", "all filtered", "no units", "no row groups"])
def test_no_events_is_an_empty_release(project, kind):
    """The schema is that of a full one, and public keys are there with noise (S2)."""
    full = project.run(run_id="full")
    assert full.status == 0
    public = {"name": "public", "keys": {"columns": ["shop"], "values": {"shop": ["x", "y"]}}}
    project.config["releases"].append(project.release | public)
    table = project.base
    if kind == "all filtered":
        project.config["events"]["where"] = [{"column": "shop", "op": "=", "value": "nowhere"}]
    elif kind == "no units":
        table = table.set_column(0, "user", pa.nulls(len(table), pa.int64()))
    else:
        table = table.slice(0, 0)
    project.write_events(table)
    if kind == "no row groups":
        with pq.ParquetWriter("events/a.parquet", table.schema):
            pass
    ended = project.run()
    assert ended.status == 0, ended.complaint
    assert ended.json["releases"]["by_shop"]["keys"] == 0
    assert project.table().schema.remove_metadata() == project.table(run_id="full").schema.remove_metadata()
    rows = project.table("public")
    assert rows["shop"].to_pylist() == ["x", "y"]
    assert any(value != 0 for value in rows["takings"].to_pylist())


def test_rows_ascend_by_all_key_columns_over_the_files(project):
    """The first key column first."""
    table = project.base
    project.write_events(table.append_column("odd", pa.array([user % 2 == 1 for user in table["user"].to_pylist()])))
    project.config["output"]["files"] = 4
    project.release["keys"]["columns"] = ["odd", "shop"]
    assert project.run().status == 0
    keys = list(zip(*(project.table()[column].to_pylist() for column in ("odd", "shop")), strict=True))
    assert keys == [(odd, shop) for odd in (False, True) for shop in ("ash", "birch", "cedar")]
    sizes = [pq.read_metadata(path).num_rows for path in project.parts()]
    assert max(sizes) - min(sizes) <= 1


def check_values(table: pa.Table, metrics: list[dict[str, Any]]) -> None:
    """No null, no NaN, low <= value <= high, means within the clip."""
    for metric in metrics:
        value, low, high = (table[metric["name"] + end].to_numpy() for end in ("", "_low", "_high"))
        assert not any(table[metric["name"] + end].null_count for end in ("", "_low", "_high"))
        assert np.isfinite(np.concatenate([value, low, high])).all()
        assert (low <= value).all(), metric
        assert (value <= high).all(), metric
        if "mean" in metric:
            for column in (value, low, high):
                assert ((column >= metric["clip"][0]) & (column <= metric["clip"][1])).all()


@pytest.mark.parametrize("epsilon", [0.001, 0.5, 50, 1e6, 1e12])
@pytest.mark.parametrize("clip", [[0, 10], [-3, 3.3], [2.9, 3.1], [1e20, 2e20]])
def test_values_and_intervals(project, epsilon, clip):
    """2,000 public keys, most without data, from hopeless to noiseless: every interval holds its value."""
    project.config["budget"]["epsilon"] = epsilon
    names = [f"s{number:04d}" for number in range(2000)]
    table = project.base
    project.write_events(table.set_column(1, "shop", pa.array([names[user * 5] for user in table["user"].to_pylist()])))
    project.release["keys"]["values"] = {"shop": names}
    for metric in project.release["metrics"]:
        if "clip" in metric:
            metric["clip"] = clip
    assert project.run().status == 0
    assert project.table().num_rows == 2000
    check_values(project.table(), project.release["metrics"])


def test_counts_may_be_negative(project):
    """Clamping at zero would bias sums of them."""
    project.config["budget"]["epsilon"] = 0.5
    project.release["keys"]["values"] = {"shop": [f"none-{number}" for number in range(200)]}
    assert project.run().status == 0
    assert pc.min(project.table()["visits"]).as_py() < 0
    assert pc.min(project.table()["people"]).as_py() < 0


def test_runs_are_partitions_for_pandas_and_duckdb(project):
    """As the README shows: `<output>/<release>` is one table with the column `run`."""
    project.config["output"]["files"] = 3
    for run_id in ("monday", "tuesday"):
        assert project.run(run_id=run_id).status == 0
    project.config["budget"]["epsilon"] = 1e-3
    assert project.run(run_id="without-keys").status == 0
    frame = pd.read_parquet("out/by_shop")
    assert frame.groupby("run", observed=True).size().to_dict() == {"monday": 3, "tuesday": 3}
    assert str(frame["visits"].dtype) == "int64"
    query = "select run, count(*), min(shop), max(shop) from read_parquet('out/by_shop/*/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        rows = connection.execute(f"{query} group by run order by run").fetchall()
    assert rows == [("monday", 3, "ash", "cedar"), ("tuesday", 3, "ash", "cedar")]


def test_files_are_zstd_and_plain(project):
    """What every reader can read."""
    assert project.run().status == 0
    for path in project.parts():
        metadata = pq.read_metadata(path)
        columns = [metadata.row_group(group).column(c) for group in range(metadata.num_row_groups) for c in range(16)]
        assert {column.compression for column in columns} == {"ZSTD"}


def test_the_output_can_be_read_by_others(project):
    """It is published: neither folders nor files are as private as the private folder's."""
    assert project.run().status == 0
    for path in (project.root / "out").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
    assert not [name for name in project.names() if "/." in f"/{name}"], "temporary files stay"
