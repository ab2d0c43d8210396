"""Input that cannot be used (F2): exit 4, one clear sentence without data, nothing published."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms import read_events


def assert_refused(project: Any, *said: str, status: int = 4, **options: Any) -> None:
    """The run ends with one sentence that holds these words, and leaves nothing to read."""
    ended = project.run(**options)
    assert (ended.status, ended.out) == (status, ""), ended.err
    lines = ended.complaint.splitlines()
    assert len(lines) == 1, ended.complaint
    assert all(word in lines[0] for word in said), lines[0]
    assert "fault of Discreet" not in lines[0]
    assert ";" in lines[0], "no cure"
    assert "Traceback" not in ended.err
    project.assert_nothing_published()


def damage(path: Path, at: int, length: int = 64) -> None:
    """Overwrites some bytes; size and footer stay."""
    data = bytearray(path.read_bytes())
    data[at : at + length] = bytes(255 - byte for byte in data[at : at + length])
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("absent.parquet", ["absent.parquet", "no file"]),
        ("events/*.csv", ["events/*.csv", "no file"]),
        ("nowhere/**/*.parquet", ["nowhere", "no file"]),
        ("events", ["events", "folder", "*.parquet"]),
        (["events/*.parquet", "absent.parquet"], ["absent.parquet", "no file"]),
    ],
)
def test_files_that_are_not_there(project, files, said):
    """A missing file, an empty glob, a folder instead of files, one of two."""
    project.config["events"]["files"] = files
    assert_refused(project, *said)


@pytest.mark.parametrize("place", ["privacy_unit", "key", "metric", "where", "derive", "lookup"])
def test_missing_column(project, place):
    """The sentence names the place in the config, the file and the column."""
    events = project.config["events"]
    if place == "privacy_unit":
        events["privacy_unit"] = "absent"
        where = "events.privacy_unit"
    elif place == "key":
        project.release["keys"]["columns"] = ["absent"]
        where = "releases[0].keys"
    elif place == "metric":
        project.release["metrics"][2]["sum"] = "absent"
        where = "releases[0].metrics[2]"
    elif place == "where":
        events["where"] = [{"column": "absent", "op": "is_null"}]
        where = "events.where[0]"
    elif place == "derive":
        events["derive"] = {"day": {"truncate": "absent", "to": "day", "timezone": "UTC"}}
        where = "events.derive.day"
    else:
        pq.write_table(pa.table({"absent": ["x"], "area": ["y"]}), "towns.parquet")
        events["lookups"] = [{"file": "towns.parquet", "by": "absent", "columns": ["area"]}]
        where = "events.lookups[0]"
    assert_refused(project, where, "'absent'", "a.parquet")


def test_column_missing_in_one_file(project):
    """And the sentence says in which."""
    project.write_events(pa.table({"user": [1]}), "events/b.parquet")
    assert_refused(project, "b.parquet", "column")


def test_sum_of_text(project):
    """A mistyped column."""
    project.release["metrics"][2]["sum"] = "shop"
    assert_refused(project, "releases[0].metrics[2]", "'shop'", "string", "number")


def test_period_of_text(project):
    """Another."""
    project.config["events"]["derive"] = {"day": {"truncate": "shop", "to": "day", "timezone": "UTC"}}
    assert_refused(project, "events.derive.day", "'shop'", "string", "timestamp")


@pytest.mark.parametrize("place", ["privacy_unit", "key"])
def test_float_as_id_or_key(project, place):
    """0.1 + 0.2 is not 0.3."""
    if place == "key":
        project.release["keys"]["columns"] = ["price"]
    else:
        project.config["events"]["privacy_unit"] = "price"
    assert_refused(project, "'price'", "double", "text or integer")


@pytest.mark.parametrize("kept", [0, 3, 4, 8, 0.5, 0.99])
def test_truncated_parquet(project, kept):
    """A copy that broke off, at any place."""
    path = project.root / "events/a.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert_refused(project, "a.parquet", "Parquet")


@pytest.mark.parametrize("content", [b"user,shop\n1,ash\n", b"PAR1", b"PAR1" * 4, b"\0" * 100])
def test_no_parquet_at_all(project, content):
    """A file of another kind, or with Parquet's mark only."""
    (project.root / "events/a.parquet").write_bytes(content)
    assert_refused(project, "a.parquet", "Parquet")


@pytest.mark.parametrize(("compression", "place"), [("none", 0), ("snappy", 0), ("zstd", 0), ("snappy", 40), ("zstd", 40)])
def test_damaged_page(project, compression, place):
    """The footer is fine, but reading fails: in the header of a page, or in what is compressed."""
    path = project.write_events(compression=compression, use_dictionary=False)
    column = pq.read_metadata(path).row_group(0).column(2)
    assert (column.path_in_schema, column.total_compressed_size > place + 20) == ("price", True)
    damage(path, column.data_page_offset + place, 20)
    assert_refused(project, "a.parquet", "Parquet")


def test_damage_that_only_a_checksum_shows(project):
    """A flipped value reads well; where the writer left checksums, they are looked at."""
    path = project.write_events(compression="none", use_dictionary=False, write_page_checksum=True)
    column = pq.read_metadata(path).row_group(0).column(2)
    damage(path, column.data_page_offset + column.total_compressed_size - 100)
    assert_refused(project, "a.parquet", "Parquet")


def test_damaged_page_header(project):
    """Nothing is left of the pages."""
    path = project.write_events(compression="none")
    damage(path, 4, path.stat().st_size - pq.read_metadata(path).serialized_size - 16)
    assert_refused(project, "a.parquet", "Parquet")


def test_different_types(project):
    """int64 in one file, text in the other."""
    table = pq.read_table("events/a.parquet")
    project.write_events(table.set_column(0, "user", table["user"].cast(pa.string())), "events/b.parquet")
    assert_refused(project, "b.parquet", "'user'", "string", "int64", "same types")


def test_missing_lookup_file(project):
    """A table that is not there."""
    project.config["events"]["lookups"] = [{"file": "towns.parquet", "by": "shop", "columns": ["area"]}]
    assert_refused(project, "towns.parquet")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"shop": ["ash", "ash"], "area": ["n", "s"]}, ["towns.parquet", "'shop'", "once"]),
        ({"shop": ["ash"], "are": ["n"]}, ["towns.parquet", "'area'", "column"]),
        ({"town": ["ash"], "area": ["n"]}, ["towns.parquet", "'shop'", "column"]),
        ({"shop": [1], "area": ["n"]}, ["towns.parquet", "'shop'", "int64", "string"]),
    ],
)
def test_unusable_lookup(project, table, said):
    """A key twice, a column missing, another type."""
    pq.write_table(pa.table(table), "towns.parquet")
    project.config["events"]["lookups"] = [{"file": "towns.parquet", "by": "shop", "columns": ["area"]}]
    assert_refused(project, *said)


def test_lookup_of_a_column_that_the_events_have(project):
    """Which of the two is meant? Refused rather than guessed."""
    pq.write_table(pa.table({"shop": ["ash"], "price": [1.0]}), "towns.parquet")
    project.config["events"]["lookups"] = [{"file": "towns.parquet", "by": "shop", "columns": ["price"]}]
    assert_refused(project, "'price'", "rename", status=2)


def test_derived_column_that_the_events_have(project):
    """The same for periods."""
    project.config["events"]["derive"] = {"price": {"truncate": "at", "to": "day", "timezone": "UTC"}}
    project.release["metrics"] = project.release["metrics"][:2]
    assert_refused(project, "'price'", "rename", status=2)


@pytest.mark.parametrize("kind", ["derived", "later lookup"])
def test_lookup_by_a_column_that_is_made_later(project, kind):
    """Lookups come before periods, in the order they are written."""
    pq.write_table(pa.table({"day": pa.array([1], pa.date32()), "area": ["n"]}), "days.parquet")
    pq.write_table(pa.table({"shop": ["ash"], "day": pa.array([1], pa.date32())}), "shops.parquet")
    events = project.config["events"]
    events["lookups"] = [{"file": "days.parquet", "by": "day", "columns": ["area"]}]
    if kind == "derived":
        events["derive"] = {"day": {"truncate": "at", "to": "day", "timezone": "UTC"}}
    else:
        events["lookups"].append({"file": "shops.parquet", "by": "shop", "columns": ["day"]})
    assert_refused(project, "'day'", status=2)


@pytest.mark.parametrize("written", ["many", "1.5", "99999999999", ""])
def test_condition_that_does_not_fit_its_column(project, written):
    """quantity is int32: the config is wrong, not the data."""
    project.config["events"]["where"] = [{"column": "quantity", "op": ">", "value": written}]
    assert_refused(project, "events.where[0].value", f"'{written}'", "int32", status=2)


@pytest.mark.parametrize("keys", [None, {"shop": pa.array([], pa.string())}, {"shop": ["ash", None]}, {"town": ["ash"]}])
def test_unusable_public_keys(project, keys):
    """A missing file, an empty one, a null, another column."""
    if keys is not None:
        pq.write_table(pa.table(keys), "keys.parquet")
    project.release["keys"]["from"] = "keys.parquet"
    assert_refused(project, "keys.parquet")


@pytest.mark.parametrize("change", ["replaced", "grown", "gone"])
def test_file_that_changes_while_it_is_read(project, monkeypatch, change):
    """Half of the old and half of the new would be neither."""
    path, read = project.root / "events/a.parquet", read_events.read_part

    def changing(*arguments):
        if change == "gone":
            path.unlink(missing_ok=True)
        elif change == "replaced":
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data)
            os.utime(path, (1, 1))
        else:
            with path.open("ab") as file:
                file.write(b"x")
        return read(*arguments)

    monkeypatch.setattr(read_events, "read_part", changing)
    assert_refused(project, "a.parquet", "while the run was reading")


def test_remote_files_are_refused_clearly(project):
    """This version reads local files."""
    project.config["events"]["files"] = "gs://bucket/*.parquet"
    assert_refused(project, "gs://bucket/*.parquet", "local", status=2)


def test_a_file_with_brackets_in_its_name(project):
    """`a[1].parquet` is how a browser calls the second download; it is a file before it is a glob."""
    path = project.root / "events/a.parquet"
    path.rename(path.with_name("a[1].parquet"))
    project.config["events"]["files"] = "events/a[1].parquet"
    assert project.run().status == 0


def test_after_a_failure_the_corrected_input_is_published(project):
    """Before data is read that costs nothing; afterwards the charge stays, and other files need a run id of their own."""
    path = project.root / "events/a.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:100])
    assert project.run().status == 4
    damaged = bytearray(good)
    damaged[50:400] = b"\0" * 350
    path.write_bytes(damaged)
    assert project.run().status == 4
    path.write_bytes(good)
    ended = project.run()
    assert (ended.status, "other files" in ended.complaint) == (2, True)
    assert project.run(run_id="two").status == 0
    assert project.leftovers() == []


def test_a_lookup_with_long_texts_is_refused(project):
    pq.write_table(pa.table({"shop": ["ash"], "town": ["x" * 1025]}), "towns.parquet")
    project.config["events"]["lookups"] = [{"file": "towns.parquet", "by": "shop", "columns": ["town"]}]
    assert_refused(project, "'town'", "1024 bytes")


def test_a_metric_of_no_column_is_refused(project):
    project.release["metrics"][2]["sum"] = ""
    assert_refused(project, "sum", "is empty", status=2)
