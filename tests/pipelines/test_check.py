"""`discreet check`: tells what is wrong with how files are declared before a run spends anything on it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CANARY = "CANARY-8421"
COLUMNS = ("Kunde", "Tag", "Filiale", "Größe", "Betrag")
RIGHT: dict[str, Any] = {
    "files": "events/a.csv",
    "privacy_unit": "Kunde",
    "csv": {"delimiter": ";", "decimal": ",", "timestamps": "%d.%m.%Y", "encoding": "cp1252"},
    "types": {"Tag": "date32", "Betrag": "float64"},
    "derive": {"month": {"truncate": "Tag", "to": "month", "timezone": "UTC"}},
}


def rows(bad: int = 0) -> list[dict[str, Any]]:
    """500 events, the last `bad` of which have no date and no amount. The text of each is a canary."""
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=n % 360) for n in range(500)]
    found = [dict(zip(COLUMNS, (f"{CANARY}{n}", day, "Köln", CANARY, n / 4), strict=True)) for n, day in enumerate(days)]
    return found[: 500 - bad] + [row | {"Tag": CANARY, "Betrag": CANARY} for row in found[500 - bad :]]


def german(value: Any) -> str:
    return f"{value:%d.%m.%Y}" if isinstance(value, dt.date) else str(value).replace(".", ",")


@pytest.fixture
def shop(project):
    """A project over a German CSV, read as it is written."""
    (project.root / "events/a.parquet").unlink()
    project.config["events"] = json.loads(json.dumps(RIGHT))
    project.release["keys"]["columns"] = ["Filiale", "Größe", "month"]
    project.release["metrics"] = [{"name": "events", "count": "events"}, {"name": "total", "sum": "Betrag", "clip": [0, 9]}]
    write_csv(project)
    return project


def write_csv(shop: Any, bad: int = 0, encoding: str = "cp1252") -> None:
    lines = [";".join(COLUMNS), *(";".join(map(german, row.values())) for row in rows(bad))]
    (shop.root / "events/a.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))


def write_json(shop: Any, *without: str) -> None:
    """The same events as JSON Lines, in which an object may lack keys."""
    found = [{name: value for name, value in row.items() if name not in without} for row in rows()]
    (shop.root / "events/a.jsonl").write_text("".join(json.dumps(row, default=str) + "\n" for row in found))
    shop.config["events"]["files"] = "events/a.jsonl"


def checked(shop: Any, *options: str) -> Any:
    """How the check of the config ends. It writes nothing, so it spends nothing, and prints no value."""
    path = shop.write_config()
    before = contents(shop.root)
    ended = shop.main("check", str(path), *options)
    assert contents(shop.root) == before
    assert CANARY not in ended.out + ended.err
    return ended


def contents(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder, ledger included."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def assert_told(shop: Any, *said: str) -> None:
    """The check fails with one sentence that holds these words, and a cure."""
    ended = checked(shop)
    assert (ended.status, ended.out) == (4, "")
    (line,) = ended.err.splitlines()
    assert all(word in line for word in said), line
    assert "; correct" in line or "; add" in line, "no cure"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_right_config_passes(shop, form):
    if form == "json":
        write_json(shop)
    ended = checked(shop)
    assert (ended.status, ended.err) == (0, "")
    assert "can be read as it says" in ended.out


def test_parquet_needs_its_columns_only(project):
    """What a footer says is not looked for in rows."""
    assert checked(project).status == 0
    project.release["keys"]["columns"] = ["shopp"]
    assert_told(project, "releases[0].keys.columns", "a.parquet", "'shopp'")
    project.release["keys"]["columns"] = ["shop"]
    project.write_events(pa.table({"user": ["k"], "shop": ["s"], "price": ["x"], "quantity": [1]}))
    ended = checked(project)
    assert (ended.status, "'price' is string" in ended.complaint) == (4, True)


@pytest.mark.parametrize("form", [None, "%m.%d.%Y", "%d/%m/%Y", "%Y-%m-%d", "%d.%m.%Y %H:%M"])
def test_a_wrong_form_of_dates_is_told(shop, form):
    if form is None:
        del shop.config["events"]["csv"]["timestamps"]
    else:
        shop.config["events"]["csv"]["timestamps"] = form
    assert_told(shop, "events/a.csv", "column Tag", "more than 1%", "events.csv")


def test_a_wrong_decimal_sign_is_told(shop):
    shop.config["events"]["csv"]["decimal"] = "."
    assert_told(shop, "events/a.csv", "column Betrag", "more than 1%", "events.csv")


@pytest.mark.parametrize("kind", ["int64", "bool"])
def test_a_wrong_type_is_told(shop, kind):
    shop.config["events"]["types"]["Betrag"] = kind
    assert_told(shop, "events/a.csv", "column Betrag", "more than 1%", "events.types")


@pytest.mark.parametrize("delimiter", [",", "tab", "|"])
def test_a_wrong_delimiter_is_told(shop, delimiter):
    """No column has a name of the config then."""
    shop.config["events"]["csv"]["delimiter"] = delimiter
    assert_told(shop, "events/a.csv", "events.csv.delimiter")


def test_a_wrong_delimiter_in_some_lines_is_told(shop):
    """The header alone would do."""
    path = shop.root / "events/a.csv"
    header, rest = path.read_bytes().split(b"\r\n", 1)
    path.write_bytes(header + b"\r\n" + rest.replace(b";", b"|"))
    assert_told(shop, "events/a.csv", "more or fewer values than the header", "events.csv")


def test_a_wrong_encoding_is_told(shop):
    """Of the values; in the header it would make the names unknown."""
    shop.release["keys"]["columns"] = ["Filiale", "month"]
    path = shop.root / "events/a.csv"
    path.write_bytes(path.read_bytes().replace("Größe".encode("cp1252"), b"size", 1))
    assert checked(shop).status == 0
    del shop.config["events"]["csv"]["encoding"]
    assert_told(shop, "events/a.csv", "no text in the declared encoding", "events.csv")


def test_a_wrong_encoding_of_names_is_told(shop):
    write_csv(shop, encoding="utf-8")
    assert_told(shop, "events/a.csv", "'Größe'")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_misspelt_column_is_told(shop, form):
    """An object without the key is sound, so in JSON Lines only a column without any value tells it."""
    if form == "json":
        write_json(shop)
    shop.release["keys"]["columns"] = ["Filliale", "month"]
    assert_told(shop, f"events/a.{form}", "Filliale", "correct")


@pytest.mark.parametrize("place", ["unit", "where", "sum", "date"])
def test_a_json_column_that_no_object_has_is_told_wherever_it_is_named(shop, place):
    name = {"unit": "Kunde", "where": "note", "sum": "Betrag", "date": "Tag"}[place]
    shop.config["events"]["where"] = [{"column": "note", "op": "is_null"}] if place == "where" else []
    write_json(shop, name)
    assert_told(shop, "events/a.jsonl", f"column {name} ", "empty")


def test_every_file_is_looked_at_and_every_fault_told(shop):
    """A sentence for each file and reason."""
    write_csv(shop, bad=20)
    text = (shop.root / "events/a.csv").read_bytes()
    (shop.root / "events/b.csv").write_bytes(text)
    shop.config["events"]["files"] = "events/*.csv"
    ended = checked(shop)
    said = [(line.split(":")[1].strip(), "Tag" in line) for line in ended.complaint.splitlines()]
    assert (ended.status, said) == (4, [("events/a.csv", True), ("events/b.csv", True)])


@pytest.mark.parametrize(("bad", "status"), [(0, 0), (5, 0), (6, 4), (500, 4)])
def test_more_than_one_line_in_a_hundred_is_too_many(shop, bad, status):
    """Of 500. A few faults are what the quarantine is for."""
    write_csv(shop, bad=bad)
    assert checked(shop).status == status


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.zst"])
def test_a_damaged_file_is_told(shop, name):
    (shop.root / "events" / name).write_bytes(CANARY.encode())
    shop.config["events"]["files"] = f"events/{name}"
    ended = checked(shop)
    assert (ended.status, name in ended.complaint) == (4, True)


@pytest.mark.parametrize("text", ["", "Kunde;Tag;Filiale;Größe;Betrag\r\n"])
def test_a_file_without_events_is_told(shop, text):
    (shop.root / "events/a.csv").write_bytes(text.encode("cp1252"))
    ended = checked(shop)
    assert (ended.status, "events/a.csv" in ended.complaint) == (4, True)


def test_a_config_that_is_wrong_is_2(shop):
    """Before any file is looked for."""
    shop.config["events"]["files"] = "absent.csv"
    assert checked(shop).status == 4
    shop.config["budget"]["epsilon"] = 0
    assert checked(shop).status == 2


def test_json_names_the_faults(shop):
    """One object on stdout, with and without faults; the sentences are those on stderr."""
    ended = checked(shop, "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json == {"config": str(shop.root / "config.yaml"), "faults": []}
    shop.config["events"]["csv"]["decimal"] = "."
    ended = checked(shop, "--json")
    assert ended.status == 4
    assert [f"discreet: {fault}" for fault in ended.json["faults"]] == ended.complaint.splitlines()
    assert len(ended.json["faults"]) == 1


def test_what_check_lets_pass_is_not_set_aside(shop):
    """The run that follows has no quarantine; that of a config which check refuses has every line in it."""
    shop.config["budget"]["epsilon"] = 1000
    assert checked(shop).status == 0
    assert shop.run(run_id="right").status == 0
    assert not (shop.root / "out.private").exists()
    shop.config["events"]["csv"]["decimal"] = "."
    assert checked(shop).status == 4
    assert shop.run(run_id="wrong").status == 0
    assert pq.read_table("out.private/_quarantine/wrong").num_rows == 500
