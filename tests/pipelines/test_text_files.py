"""Runs over CSV and JSON Lines: the quarantine, and what the public may not see of it."""

import json
from pathlib import Path
from typing import Any

import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

TYPES = {"user": "int64", "price": "float64", "quantity": "int64", "at": "timestamp"}
CANARY = "CANARY-8421"


def as_text(project: Any, ending: str, extra: str = "") -> Path:
    """The project's events as CSV or JSON Lines instead of Parquet, with more lines at the end."""
    path = project.root / f"events/a.{ending}"
    path.parent.mkdir(exist_ok=True)
    if ending == "csv":
        pc.write_csv(project.base, path)
    else:
        rows = project.base.to_pylist()
        path.write_text("".join(json.dumps(row | {"at": row["at"].isoformat()}) + "\n" for row in rows))
    with open(path, "a") as file:
        file.write(extra)
    project.config["events"] |= {"files": f"events/a.{ending}", "types": dict(TYPES)}
    return path


@pytest.fixture
def shops(project):
    """A project whose Parquet events are gone."""
    for path in (project.root / "events").glob("*"):
        path.unlink()
    return project


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_text_is_released_like_parquet(shops, ending):
    as_text(shops, ending)
    shops.config["budget"]["epsilon"] = 1e6
    ended = shops.run()
    assert ended.status == 0, ended.err
    table = shops.table()
    assert table["shop"].to_pylist() == ["ash", "birch", "cedar"]
    assert table["people"].to_pylist() == [60, 60, 60]
    assert table["visits"].to_pylist() == [240, 240, 240]
    assert not (shops.root / "out.private").exists()


def bad_lines(ending: str) -> str:
    return f"{CANARY},1\n1,ash,{CANARY},1,2024-01-01\n" if ending == "csv" else f'{CANARY}\n{{"user": "{CANARY}"}}\n'


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_f3_s3_s6_bad_lines_are_private(shops, ending):
    """Set aside with file, line and reason; in nothing that is published, printed or named."""
    as_text(shops, ending)
    clean = shops.run(run_id="clean")
    path = as_text(shops, ending, bad_lines(ending))
    ended = shops.run(run_id="dirty")
    assert (clean.status, ended.status) == (0, 0), ended.err
    assert CANARY not in ended.out + ended.err
    for file in (shops.root / "out").rglob("*"):
        assert CANARY not in str(file)
        assert file.is_dir() or CANARY.encode() not in file.read_bytes()
    aside = pq.read_table(shops.root / "out.private/_quarantine/dirty").to_pylist()
    lines = len(path.read_text().splitlines())
    assert [(row["file"], row["line"]) for row in aside] == [(f"events/a.{ending}", lines - 1), (f"events/a.{ending}", lines)]
    assert all(CANARY in row["text"] and CANARY not in row["reason"] for row in aside)
    public = [json.loads(end.out.replace("dirty", "clean")) | {"ledger": None} for end in (clean, ended)]
    assert public[0] == public[1]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_bad_rows_refuse_says_where_and_not_what(shops, ending):
    path = as_text(shops, ending, bad_lines(ending))
    shops.config["events"]["bad_rows"] = "refuse"
    ended = shops.run()
    assert (ended.status, ended.out) == (4, "")
    assert f"events/a.{ending}, line {len(path.read_text().splitlines()) - 1}" in ended.complaint
    assert CANARY not in ended.err
    shops.assert_nothing_published()


@pytest.mark.parametrize(
    ("column", "said"), [("price", "events.types: {price: float64}"), ("at", "events.types: {at: timestamp}")]
)
def test_an_undeclared_column_is_text_and_the_line_to_add_is_told(shops, column, said):
    as_text(shops, "csv")
    del shops.config["events"]["types"][column]
    if column == "at":
        shops.config["events"]["derive"] = {"day": {"truncate": "at", "to": "day", "timezone": "UTC"}}
        shops.release["keys"]["columns"] = ["shop", "day"]
    ended = shops.run()
    assert (ended.status, ended.out) == (4, "")
    assert said in ended.complaint


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.zst"])
def test_f2_a_damaged_compressed_file_is_4(shops, name):
    as_text(shops, "csv")
    shops.config["events"]["files"] = f"events/{name}"
    (shops.root / "events" / name).write_bytes(b"this is no compressed file")
    ended = shops.run()
    assert (ended.status, ended.out) == (4, "")
    assert name in ended.complaint
    shops.assert_nothing_published()


def test_a_missing_column_and_an_empty_file_are_4(shops):
    path = as_text(shops, "csv")
    path.write_text("user,shop\n1,ash\n")
    ended = shops.run()
    assert (ended.status, "'price'" in ended.complaint) == (4, True), ended.err
    path.write_text("")
    assert shops.run().status == 4


def test_types_that_a_parquet_file_contradicts_are_refused(project):
    project.config["events"]["types"] = {"user": "string"}
    ended = project.run()
    assert ended.status == 4
    assert "events.types.user" in ended.complaint


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("types", {"x": "int32"}, "write one of string"),
        ("types", {"x": "decimal(50,2)"}, "write one of string"),
        ("csv", {"delimiter": ";;"}, "one character"),
        ("csv", {"decimal": "x"}, "write '.' or ','"),
        ("csv", {"encoding": "utf-16"}, "write 'utf-8'"),
        ("bad_rows", "keep", "write 'drop' or 'refuse'"),
    ],
)
def test_r11_malformed_text_options(project, key, value, said):
    project.config["events"][key] = value
    ended = project.run()
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.complaint


def test_n5_more_lines_than_can_be_added_up_are_refused(shops, monkeypatch):
    as_text(shops, "csv")
    monkeypatch.setattr("privacy.release.MOST_EVENTS", 700)
    ended = shops.run()
    assert (ended.status, ended.out) == (4, "")
    assert "split the run" in ended.complaint
    shops.assert_nothing_published()


def test_a_worker_that_fails_prints_one_sentence_and_no_traceback(shops):
    as_text(shops, "csv", bad_lines("csv"))
    shops.config["events"]["bad_rows"] = "refuse"
    ended = shops.main("run", str(shops.write_config()), "--direct_num_workers=2")
    assert ended.status == 4
    assert "Traceback" not in ended.err
    assert "the line has more or fewer values than the header" in ended.complaint
