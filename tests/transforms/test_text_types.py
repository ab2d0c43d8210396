"""What a text file seems to hold: delimiter, decimal sign, form of dates, types. And what must stay text."""

import datetime as dt
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from transforms.errors import InputError
from transforms.text_events import read_text
from transforms.text_types import FoundText, find_text

DAYS = [dt.datetime(2024, 1 + n % 12, 1 + n % 28, n % 24, n % 60, n % 60) for n in range(60)]
"""Days above 12 are among them, so that no two forms read all of them."""

DATES = ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d.%m.%y"]
CANARY = "CANARY8421"


def find(folder: Path, header: str, rows: Sequence[str], name: str = "a.csv", encoding: str = "utf-8") -> FoundText:
    """What is found in a file of these lines."""
    path = folder / name
    data = "".join(f"{line}\n" for line in [header, *rows]).encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return find_text(str(path))


def types(found: FoundText) -> dict[str, pa.DataType]:
    return {column.name: column.type for column in found.columns}


def column(folder: Path, values: Sequence[str]) -> pa.DataType:
    """The type of a column with these values, beside one of text."""
    return types(find(folder, "a;b", [f"{value};x" for value in values]))["a"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_cuts_the_header_into_most_names(tmp_path, delimiter):
    """Also where another delimiter stands within quotes."""
    found = find(tmp_path, delimiter.join(["id", '"x, y; z|w"', "price", "n"]), [delimiter.join(["a", "b", "1.5", "2"])] * 9)
    assert found.format.delimiter == delimiter
    assert types(found) == {"id": pa.string(), "x, y; z|w": pa.string(), "price": pa.float64(), "n": pa.int64()}


@pytest.mark.parametrize(("sign", "other"), [(".", ","), (",", ".")])
def test_the_decimal_sign_is_that_of_most_columns(tmp_path, sign, other):
    """A number in the other way stays text rather than becoming another number."""
    rows = [f"{n}{sign}5;-{n}{sign}25;{n}{other}75;{n}" for n in range(50)]
    found = find(tmp_path, "a;b;c;n", rows)
    assert found.format.decimal == sign
    assert list(types(found).values()) == [pa.float64(), pa.float64(), pa.string(), pa.int64()]


def test_whole_numbers_say_nothing_about_the_decimal_sign(tmp_path):
    assert find(tmp_path, "a;b", [f"{n};x" for n in range(9)]).format.decimal == "."


@pytest.mark.parametrize("time", ["", " %H:%M", " %H:%M:%S"])
@pytest.mark.parametrize("form", DATES)
def test_each_form_of_dates_is_found_and_reads_every_value(tmp_path, form, time):
    """With the format and types that were found, a run sets no line aside and reads the dates that were meant."""
    rows = [f"{day:{form}{time}};x" for day in DAYS]
    found = find(tmp_path, "at;b", rows)
    kind = pa.timestamp("us") if time else pa.date32()
    assert (found.format.timestamps, found.ambiguous, types(found)["at"]) == (form + time, False, kind)
    (batch,) = read_text(str(tmp_path / "a.csv"), ["at"], replace(found.format, types=types(found)))
    assert batch.bad.num_rows == 0
    meant = [dt.datetime.strptime(row.split(";")[0], form + time) for row in rows]
    assert batch.events["at"].to_pylist() == (meant if time else [day.date() for day in meant])


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        ("%Y-%m-%d", pa.date32()),
        ("%Y-%m-%d %H:%M", pa.timestamp("us")),
        ("%Y-%m-%dT%H:%M:%S", pa.timestamp("us")),
        ("%Y-%m-%dT%H:%M:%S.123456", pa.timestamp("us")),
        ("%Y-%m-%dT%H:%M:%SZ", pa.timestamp("us", "UTC")),
        ("%Y-%m-%d %H:%M:%S+02:00", pa.timestamp("us", "UTC")),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_iso_8601_needs_no_form(tmp_path, name, shown, kind):
    values = [f"{day:{shown}}" for day in DAYS]
    lines = [json.dumps({"at": value, "b": "x"}) for value in values]
    found = find(tmp_path, "at;b", [f"{value};x" for value in values]) if name == "a.csv" else find(tmp_path, "", lines, name)
    assert (found.format.timestamps, found.ambiguous, types(found)["at"]) == (None, False, kind)


def test_days_and_months_that_fit_both_ways_are_ambiguous(tmp_path):
    """Day first is taken, and told to be a guess."""
    rows = [f"{n % 12 + 1}/{n % 11 + 1}/2024;x" for n in range(60)]
    found = find(tmp_path, "at;b", rows)
    assert (found.format.timestamps, found.ambiguous) == ("%d/%m/%Y", True)


@pytest.mark.parametrize(("row", "form"), [("13/1/2024;x", "%d/%m/%Y"), ("1/13/2024;x", "%m/%d/%Y")])
def test_one_day_above_12_settles_it(tmp_path, row, form):
    rows = [f"{n % 12 + 1}/{n % 11 + 1}/2024;x" for n in range(60)] + [row] * 2
    found = find(tmp_path, "at;b", rows)
    assert (found.format.timestamps, found.ambiguous) == (form, False)


def test_dates_in_another_form_than_the_files_stay_text_and_are_told(tmp_path):
    """A config has one form for a file."""
    found = find(tmp_path, "a;b;c", [f"{day:%Y-%m-%d};{day:%d.%m.%Y};x" for day in DAYS])
    assert [(column.type, column.other_dates) for column in found.columns] == [
        (pa.date32(), False),
        (pa.string(), True),
        (pa.string(), False),
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["007", "008", "123"], pa.string()),
        (["-01", "+02", "3"], pa.string()),
        (["01067", "80331", "10115"], pa.string()),
        (["0", "0.5", "10"], pa.float64()),
        (["0", "10", "-7"], pa.int64()),
        (["1e3", "2.5E-1", ".5"], pa.float64()),
        (["k1", "k2", "3"], pa.string()),
        (["true", "FALSE", "True"], pa.bool_()),
        (["0", "1", "1"], pa.int64()),
        (["true", "1", "0"], pa.bool_()),
        (["yes", "no", "no"], pa.string()),
        (["1,50 EUR", "2,00 EUR", "3"], pa.string()),
        (["", "NA", "null"], pa.string()),
        (["", "NA", "7"], pa.int64()),
        (["2024-02-30"] * 3, pa.string()),
        (["10:30", "11:30", "12:30"], pa.string()),
    ],
)
def test_types_of_values(tmp_path, values, kind):
    """Leading zeros are names; 0 and 1 are numbers; nulls say nothing."""
    assert column(tmp_path, values) == kind


@pytest.mark.parametrize("zeros", [1, 50])
def test_one_leading_zero_makes_names_of_all(tmp_path, zeros):
    """An id that a number would change is too many."""
    assert column(tmp_path, [f"0{n}" if n < zeros else f"{n + 1}" for n in range(1000)]) == pa.string()


@pytest.mark.parametrize(("wrong", "kind"), [(1, pa.int64()), (2, pa.string())])
def test_a_type_fits_where_99_of_100_values_can_be_read(tmp_path, wrong, kind):
    """Nulls do not count."""
    assert column(tmp_path, [*map(str, range(100 - wrong)), *["x"] * wrong, *[""] * 100]) == kind


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.txt"])
def test_the_encoding_is_utf_8_where_it_can_be(tmp_path, name, encoding):
    found = find(tmp_path, "Größe;Straße", ["1,5;Köln"] * 9, name, encoding)
    assert found.format.encoding == encoding.removesuffix("-sig")
    assert types(found) == {"Größe": pa.float64(), "Straße": pa.string()}


def test_json_lines_have_the_names_that_a_tenth_of_the_objects_have(tmp_path):
    """In the order in which they come. Rare names may be somebody's, like ids that are keys."""
    rows = [{"id": f"k{n}", "x": n / 2} | ({"seen": n} if n % 10 == 5 else {}) | {f"{CANARY}{n}": 1} for n in range(100)]
    found = find(tmp_path, json.dumps(rows[0]), [json.dumps(row) for row in rows[1:]], "a.jsonl")
    assert types(found) == {"id": pa.string(), "x": pa.float64(), "seen": pa.int64()}


def test_json_values_get_types_too(tmp_path):
    """Objects and lists are text; numbers in texts are numbers; a date is one in ISO 8601 only."""
    row = {"o": {"a": 1}, "l": [1], "yes": True, "n": 1, "x": 1.5, "t": "7", "zip": "007", "at": "31/12/2024", "none": None}
    found = find(tmp_path, json.dumps(row), [json.dumps(row)] * 9, "a.jsonl")
    kinds = {"yes": pa.bool_(), "n": pa.int64(), "x": pa.float64(), "t": pa.int64()}
    assert types(found) == {name: kinds.get(name, pa.string()) for name in row}


@pytest.mark.parametrize(
    "header",
    [
        "k1;17;x",
        "k1;1,5;x",
        "k1;-2.5e3;x",
        "k1;31.12.2024;x",
        "k1;2024-12-31 10:00;x",
        f"{CANARY}@example.org;x",
        "a;;c",
        "a;b;a",
    ],
)
def test_a_first_line_of_values_is_refused(tmp_path, header):
    """A number, a date, a mail address, nothing, the same twice: such a line is no names, and is not shown."""
    with pytest.raises(InputError, match="does not name the columns") as raised:
        find(tmp_path, header, ["k1;2;3"] * 9)
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "a,b\n", "holds no event"),
        ("a.jsonl", "", "holds no event"),
        ("a.jsonl", f"[1, 2]\n{CANARY}\n", "no JSON objects"),
        ("a.jsonl", "{}\n{}\n", "no JSON objects"),
    ],
)
def test_a_file_without_events_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        find_text(str(tmp_path / name))
    assert CANARY not in str(raised.value)
