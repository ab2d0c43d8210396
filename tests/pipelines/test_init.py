"""`discreet init`: a first config that can be read as it is, guesses to be corrected, and never a value of the files."""

import datetime as dt
import gzip
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from pipelines.config import load_config
from pipelines.first_config import config_path

CANARY = "CANARY-8421"
DAYS = [dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in range(60)]
SHOP_EXPORT = Path(__file__).parents[2] / "samples/shop_export.py"


def write(project: Any, name: str, data: bytes | str, encoding: str = "utf-8") -> str:
    """A file in the working folder, compressed as its name says."""
    data = data.encode(encoding) if isinstance(data, str) else data
    if name.endswith(".gz"):
        data = gzip.compress(data)
    elif name.endswith(".zst"):
        data = pa.compress(data, "zstd", asbytes=True)
    path = project.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return name


def lines(header: str, rows: Sequence[str], end: str = "\n") -> str:
    return "".join(f"{line}{end}" for line in [header, *rows])


def init(project: Any, *files: str) -> dict[str, Any]:
    """What `discreet init` writes for some files, every value as the text that it is."""
    ended = project.main("init", *files)
    assert (ended.status, ended.err) == (0, ""), ended.err
    return YAML(typ="base", pure=True).load(config_path(files).read_text())


def export(name: str, delimiter: str, date: str, sign: str, header: str, rows: int = 60) -> tuple[str, str]:
    """A file of customer, date, shop and amount, as some program writes it."""
    values = [[f"k{n % 20:03d}", f"{DAYS[n]:{date}}", f"Köln {n % 3}", f"{n}{sign}50"] for n in range(rows)]
    return name, lines(header.replace(",", delimiter), [delimiter.join(row) for row in values], "\r\n")


JSON_ROWS = [
    {"userId": f"u{n % 20}", "at": f"{DAYS[n]}T10:00:00Z", "plan": "pro", "paid": n / 2, "cart": {"sku": CANARY}}
    | ({"coupon": CANARY} if n % 3 == 0 else {})
    for n in range(60)
]

EXPORTS = {
    "excel": (*export("a.csv", ";", "%d.%m.%Y", ",", "customer,Datum,store,amount"), "cp1252", ";", ",", "%d.%m.%Y"),
    "us": (*export("a.csv", ",", "%m/%d/%Y", ".", "customer,Datum,store,amount"), "utf-8", ",", ".", "%m/%d/%Y"),
    "uk": (*export("a.txt", "|", "%d/%m/%Y", ".", "customer,Datum,store,amount"), "utf-8", "|", ".", "%d/%m/%Y"),
    "tabs": (*export("a.tsv", "\t", "%Y-%m-%d", ".", "customer,Datum,store,amount"), "utf-8", "tab", ".", None),
    "gz": (*export("a.csv.gz", ",", "%Y-%m-%d", ".", "customer,Datum,store,amount"), "utf-8", ",", ".", None),
    "zst": (*export("a.csv.zst", ";", "%Y/%m/%d", ",", "customer,Datum,store,amount"), "utf-8", ";", ",", "%Y/%m/%d"),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_first_config_of_an_export(project, kind):
    """How the file is written, its types, the unit, a key and the month: all as meant, and check agrees."""
    name, text, encoding, delimiter, decimal, form = EXPORTS[kind]
    config = init(project, write(project, name, text, encoding))
    written = {"delimiter": delimiter, "decimal": decimal} | ({"timestamps": form} if form else {})
    events, release = config["events"], config["releases"][0]
    assert events["csv"] == written | ({"encoding": encoding} if encoding != "utf-8" else {})
    assert events["types"] == {"customer": "string", "Datum": "date32", "store": "string", "amount": "float64"}
    assert (events["files"], events["privacy_unit"]) == (name, "customer")
    assert events["derive"] == {"month": {"truncate": "Datum", "to": "month", "timezone": "UTC"}}
    assert (release["name"], release["keys"]) == ("by_store", {"columns": ["store"]})
    assert [metric["count"] for metric in release["metrics"]] == ["events", "units"]
    assert "# - {name: amount_total, sum: amount, clip: [0, LARGEST]}" in Path("a.yaml").read_text()
    ended = project.main("check", "a.yaml")
    assert ended.status == 0, ended.err


def test_a_first_config_of_json_lines(project):
    """Nested values are text and keys may be missing; JSON has no options of CSV."""
    text = "".join(json.dumps(row) + "\n" for row in JSON_ROWS)
    config = init(project, write(project, "a.jsonl", text))
    kinds = {
        "userId": "string",
        "at": "timestamp(UTC)",
        "plan": "string",
        "paid": "float64",
        "cart": "string",
        "coupon": "string",
    }
    assert config["events"]["types"] == kinds
    assert (config["events"]["privacy_unit"], config["releases"][0]["keys"]) == ("userId", {"columns": ["plan"]})
    assert "csv" not in config["events"]
    assert project.main("check", "a.yaml").status == 0


def test_a_first_config_of_parquet_has_no_types_of_text(project):
    config = init(project, "events/a.parquet")
    assert {"types", "csv"}.isdisjoint(config["events"])
    assert (config["events"]["privacy_unit"], config["releases"][0]["keys"]) == ("user", {"columns": ["shop"]})
    assert project.main("check", "a.yaml").status == 0


def test_odd_types_of_parquet_are_neither_unit_nor_key_nor_sum(project):
    """Lists, structs, bytes, durations, nulls; and floats, whose equality is not exact, are no ids."""
    odd = {
        "customer_id": pa.array([1.5]),
        "store_list": pa.array([[CANARY]]),
        "store_of": pa.array([{"a": CANARY}]),
        "category": pa.array([CANARY.encode()]),
        "type": pa.array([dt.timedelta(1)]),
        "tier": pa.nulls(1),
    }
    project.write_events(pa.table(odd), "odd.parquet")
    config = init(project, "odd.parquet")
    assert (config["events"]["privacy_unit"], config["releases"][0]["keys"]) == ("?", {"columns": ["?"]})
    text = Path("odd.yaml").read_text()
    assert "sum:" not in text
    assert CANARY not in text


def test_the_first_config_of_the_shops_export_publishes_its_stores(project):
    """With every fault that samples/shop_export.py has, and nothing corrected: eight stores, each in one spelling."""
    subprocess.run([sys.executable, str(SHOP_EXPORT), "shop.csv"], check=True, capture_output=True, timeout=120)
    init(project, "shop.csv")
    for command in ("check", "plan"):
        assert project.main(command, "shop.yaml").status == 0
    ended = project.main("run", "shop.yaml", "--run-id", "one", "--direct_num_workers=1")
    assert ended.status == 0, ended.err
    stores = project.table("by_store", output="out/shop")["store"].to_pylist()
    assert len(stores) == len({unicodedata.normalize("NFC", store) for store in stores}) == 8
    assert {"Graz", "Hamburg"} < set(stores)


VALUES = {
    "a.csv": lines("customer,day,store", [f"{CANARY}{n},{CANARY},{CANARY}" for n in range(9)]),
    "b.csv": lines("customer;day;store", [f"k{n};2024-01-01;a" for n in range(99)] + [f"{CANARY};{CANARY};{CANARY};{CANARY}"]),
    "c.jsonl": "".join(json.dumps({"user": CANARY, "store": {CANARY: CANARY}}) + "\n" for _ in range(9)) + CANARY,
    "d.jsonl": "".join(json.dumps({"user": "u", "store": "s", **({CANARY: 1} if n == 5 else {})}) + "\n" for n in range(50)),
}


@pytest.mark.parametrize("name", [*VALUES, "e.parquet"])
def test_no_value_of_a_file_is_written_or_printed(project, name):
    """By init, check, plan and schema, in well-formed lines and others."""
    if name in VALUES:
        write(project, name, VALUES[name])
    else:
        project.write_events(pa.table({"customer": [CANARY] * 9, "store": [CANARY] * 9}), name)
    assert CANARY.encode() in (project.root / name).read_bytes()
    init(project, name)
    target = str(config_path([name]))
    assert CANARY not in Path(target).read_text()
    for arguments in (["init", name], ["check", target], ["check", target, "--json"], ["plan", target], ["schema"]):
        ended = project.main(*arguments)
        assert ended.out + ended.err
        assert CANARY not in ended.out + ended.err, arguments


OPEN = "events.privacy_unit.columns[0]: '?' is a question that is open; write the name of a column"


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_an_open_question_is_refused_until_it_is_answered(project, command):
    """A unit that no name gives away is asked for rather than guessed."""
    config = init(project, write(project, "a.csv", lines("ref;store", ["x;y"] * 9)))
    assert config["events"]["privacy_unit"] == "?"
    ended = project.main(command, "a.yaml")
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint == f"discreet: {OPEN}"
    assert not Path("out").exists()
    answered = Path("a.yaml").read_text().replace('privacy_unit: "?"', "privacy_unit: ref")
    project.write_config(answered, "a.yaml")
    assert project.main("plan", "a.yaml").status == 0


@pytest.mark.parametrize("told", [(), ("--to", "a.yaml")])
def test_a_config_that_is_there_is_not_overwritten(project, told):
    write(project, "a.csv", lines("customer,store", ["k,s"] * 9))
    project.write_config("version: 1  # mine", "a.yaml")
    ended = project.main("init", "a.csv", *told)
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint == "discreet: a.yaml: is there already; remove it, or name another with --to"
    assert Path("a.yaml").read_text() == "version: 1  # mine"


def test_another_name_can_be_given(project):
    """The data set and the output are called like it; what to do next is told."""
    write(project, "a.csv", lines("customer,store", ["k,s"] * 9))
    ended = project.main("init", "a.csv", "--to", "My Shop.yaml")
    assert (ended.status, Path("a.yaml").exists()) == (0, False)
    assert "discreet check My Shop.yaml" in ended.out
    config = load_config("My Shop.yaml", {})
    assert (config.dataset, config.output.path) == ("my_shop", "out/my_shop")


@pytest.mark.parametrize(
    ("file", "name"),
    [("Sales 2024.csv", "sales_2024"), ("2024-01.csv.gz", "data_2024_01"), ("x/Umsätze.tsv", "ums_tze"), ("€.csv", "data")],
)
def test_a_config_is_called_like_its_file(project, file, name):
    """In the working folder, wherever the file is; with the letters that a data set may have."""
    assert init(project, write(project, file, lines("customer,store", ["k,s"] * 9)))["dataset"] == name
    assert load_config(f"{name}.yaml", {}).events.files == (file,)


REFUSED = {
    "no names": ("a.csv", f"{CANARY},2024-01-01,3\n" * 9, "does not name the columns"),
    "mail address": ("a.csv", f"{CANARY}@example.org,x\n" * 9, "does not name the columns"),
    "a name twice": ("a.csv", lines("customer,paid,paid", ["k,1,2"] * 9), "there twice"),
    "a name empty": ("a.csv", lines(",customer,paid", ["1,k,2"] * 9), "name 1 is empty"),
    "empty": ("a.csv", "", "is empty"),
    "header only": ("a.csv", "customer,store\n", "holds no event"),
    "header without end": ("a.csv", "customer,store", "holds no event"),
    "empty JSON": ("a.jsonl", "", "holds no event"),
    "JSON array": ("a.jsonl", json.dumps([{"user": CANARY}], indent=1), "no JSON objects, one a line"),
    "not compressed": ("b/a.csv.zst", None, "b/a.csv.zst"),
    "no Parquet": ("a.parquet", f"customer,store\n{CANARY},a\n", "a.parquet"),
    "Excel": ("a.xlsx", b"PK\x03\x04" + bytes(range(256)) * 9, "a.xlsx"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_cannot_be_used_are_refused_in_one_sentence(project, kind):
    """With a cure, without what is in them, and no config is left."""
    name, data, said = REFUSED[kind]
    if data is None:
        write(project, name, "")
        (project.root / name).write_text(f"customer,store\n{CANARY},a\n")
    else:
        write(project, name, data)
    ended = project.main("init", name)
    assert (ended.status, ended.out) == (4, "")
    (line,) = ended.err.splitlines()
    assert said in line
    assert ";" in line, "no cure"
    assert CANARY not in line
    assert not [path for path in project.root.rglob("*") if "yaml" in path.name]


@pytest.mark.parametrize("name", ["events", "absent.csv", "absent.parquet", "none/*.csv"])
def test_what_is_no_file_is_refused(project, name):
    ended = project.main("init", name)
    assert (ended.status, ended.out) == (4, "")
    assert ended.complaint.startswith(f"discreet: {name}: ")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_file_without_permission_is_refused(project, name):
    path = Path(write(project, name, "x"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    ended = project.main("init", name)
    assert (ended.status, ended.out) == (4, "")
    assert name in ended.complaint


def test_files_with_other_columns_are_refused(project):
    """Named by the first that differs."""
    for name, header in (("a.csv", "customer,store"), ("b.csv", "customer,store"), ("c.csv", f"customer,{CANARY}")):
        write(project, name, lines(header, ["k,s"] * 9))
    ended = project.main("init", "a.csv", "b.csv", "c.csv")
    assert (ended.status, ended.out) == (4, "")
    assert ended.complaint == "discreet: c.csv: has not the columns of a.csv; name files with the same columns"


def test_several_files_are_named_by_a_glob_only_where_it_names_exactly_them(project):
    for name in ("x/a.csv", "x/b.csv"):
        write(project, name, lines("customer,store", ["k,s"] * 9))
    assert init(project, "x/b.csv", "x/a.csv")["events"]["files"] == "x/*.csv"
    Path("b.yaml").unlink()
    write(project, "x/other.csv", lines("account,shop", ["k,s"] * 9))
    assert init(project, "x/b.csv", "x/a.csv")["events"]["files"] == ["x/b.csv", "x/a.csv"]
    assert project.main("check", "b.yaml").status == 0


NAMES = [
    "Customer Name", 'say "hi"', "größe", "a#b", "a #b", "k: v", "on", "NO", "null", "~", "true", "- dash", "{z}", "[l]", "%p",
    "*star", "&amp", "'q", "!t", "@at", "`tick", "a,b", "|", ">", "1a", "0x1", "1e", ".inf", "\\back", "=", "<<", "---", "金額",
    "x\ty", "a;b",
]  # fmt: skip


def test_any_name_of_a_column_is_written_so_that_it_is_read_as_the_same(project):
    """Spaces, quotes, umlauts and everything that means something else in YAML."""
    rows = [dict.fromkeys(NAMES, 1) | {"Customer Name": "k"}] * 9
    quoted = ",".join('"' + name.replace('"', '""') + '"' for name in NAMES)
    config = init(project, write(project, "a.csv", lines(quoted, [",".join(map(str, row.values())) for row in rows])))
    assert list(config["events"]["types"]) == NAMES
    assert config["events"]["privacy_unit"] == "Customer Name"


@pytest.mark.parametrize("name", NAMES[1:])
def test_any_name_of_a_column_can_be_key_and_sum(project, name):
    """The config loads, finds the column, and gives it a name that a release and a metric may have."""
    key, amount = f"store {name}", f"{name} paid"
    table = pa.table({"customer": ["k"] * 9, key: ["s"] * 9, amount: [1.5] * 9})
    project.write_events(table, "a.parquet")
    config = init(project, "a.parquet")
    assert config["releases"][0]["keys"] == {"columns": [key]}
    text = Path("a.yaml").read_text().replace("# - {name", "- {name").replace("LARGEST", "5")
    project.write_config(text, "a.yaml")
    assert load_config("a.yaml", {}).releases[0].metrics[2].column == amount
    ended = project.main("check", "a.yaml")
    assert ended.status == 0, ended.err


def test_300_columns(project):
    """All of them are there, in order; the remarks stay short."""
    names = ["customer", *(f"q{n}" for n in range(299))]
    config = init(project, write(project, "a.csv", lines(",".join(names), [",".join(["k", *"7" * 299])] * 9)))
    assert config["events"]["types"] == {"customer": "string"} | dict.fromkeys(names[1:], "int64")
    text = Path("a.yaml").read_text()
    assert text.count("QUESTION 4") == 3
    assert max(map(len, text.splitlines())) < 130


def test_names_that_are_taken_are_avoided(project):
    """The file has a column `month` of its own."""
    table = pa.table({"customer": ["k"], "month": ["x"], "at": [DAYS[0]]})
    project.write_events(table, "a.parquet")
    assert list(init(project, "a.parquet")["events"]["derive"]) == ["month_"]
    assert load_config("a.yaml", {}).releases[0].keys.columns == ("month_",)


def test_days_and_months_that_could_be_swapped_are_asked_about(project):
    rows = [f"k;{n % 12 + 1}/{n % 11 + 1}/2024;s" for n in range(60)]
    init(project, write(project, "a.csv", lines("customer;day;store", rows)))
    assert "# QUESTION: is the day first in dates, or the month?" in Path("a.yaml").read_text()
    write(project, "b.csv", lines("customer;day;store", [*rows, "k;31/1/2024;s"]))
    init(project, "b.csv")
    assert "is the day first" not in Path("b.yaml").read_text()


def test_dates_in_a_second_form_are_told(project):
    rows = [f"k;{day};{day:%d.%m.%Y}" for day in DAYS]
    config = init(project, write(project, "a.csv", lines("customer;ordered;sent", rows)))
    assert (config["events"]["types"]["ordered"], config["events"]["types"]["sent"]) == ("date32", "string")
    assert "sent: string    # dates in another form than the others stay text" in Path("a.yaml").read_text()


@pytest.mark.parametrize(
    "name",
    ["customer_id", "CustomerID", "userId", "user id", "Client-No", "household_id", "member", "email", "Kunde", "card.number"],
)
def test_columns_that_tell_persons_apart_are_found_by_name(project, name):
    project.write_events(pa.table({"ref": ["x"], name: ["k"], "store": ["s"]}), "a.parquet")
    assert init(project, "a.parquet")["events"]["privacy_unit"] == name


@pytest.mark.parametrize("name", ["order_id", "receipt", "usage", "carding", "memberships", "hostname"])
def test_columns_that_do_not_are_not(project, name):
    project.write_events(pa.table({name: ["k"], "store": ["s"]}), "a.parquet")
    assert init(project, "a.parquet")["events"]["privacy_unit"] == "?"


@pytest.mark.parametrize("name", ["id", "order_id", "zip", "customerNo", "EAN", "orderID"])
def test_numbers_that_are_names_are_not_offered_as_sums(project, name):
    project.write_events(pa.table({"user": ["k"], name: [1], "paid": [1.5]}), "a.parquet")
    init(project, "a.parquet")
    text = Path("a.yaml").read_text()
    assert "sum: paid" in text
    assert f"sum: {name}" not in text


def test_what_is_published_of_a_first_config_is_what_it_says(project):
    """With one answer given, from export to table."""
    rows = [f"k{n % 500};{'ash' if n % 2 else 'birch'};{n % 7},50" for n in range(3000)]
    init(project, write(project, "a.csv", lines("customer;store;paid", rows)))
    text = Path("a.yaml").read_text().replace("# - {name", "- {name").replace("LARGEST", "10")
    text = text.replace("epsilon: 1,", "epsilon: 1000,") + f"ledger: {json.dumps(project.config['ledger'])}\n"
    project.write_config(text, "a.yaml")
    ended = project.main("run", "a.yaml", "--run-id", "one", "--direct_num_workers=1")
    assert ended.status == 0, ended.err
    table = project.table("by_store", output="out/a").to_pydict()
    totals = [sum(n % 7 + 0.5 for n in range(start, 3000, 2)) for start in (1, 0)]
    assert table["store"] == ["ash", "birch"]
    assert table["people"] == [250, 250]
    assert all(abs(found - total) < 100 for found, total in zip(table["paid_total"], totals, strict=True))
