"""CSV and JSON Lines: each line alone, typed as declared, bad lines set aside."""

import csv
import datetime as dt
import gzip
import io
import json
import re
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.test_columns_not_rows import instructions
from transforms.column_types import type_name
from transforms.text_events import TextFormat, merged, read_text
from transforms.text_lines import cut_lines

TYPES = {
    "id": pa.string(),
    "n": pa.int64(),
    "x": pa.float64(),
    "paid": pa.decimal128(10, 2),
    "yes": pa.bool_(),
    "day": pa.date32(),
    "at": pa.timestamp("us"),
    "moment": pa.timestamp("us", "UTC"),
}
ROWS = [
    [
        "007",
        7,
        1.5,
        Decimal("2.50"),
        True,
        dt.date(2024, 2, 29),
        dt.datetime(2024, 1, 1, 10),
        dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC),
    ],
    ["Käse; rot", -(2**63), -1e300, Decimal("-0.01"), False, dt.date(1969, 12, 31), dt.datetime(2024, 3, 31, 2, 30), None],
    [None, None, None, None, None, None, None, None],
    ['a "b" c', 2**63 - 1, 0.1, Decimal("99999999.99"), None, None, dt.datetime(1999, 1, 1, 0, 0, 0, 5), None],
]


def shown(value: object) -> str:
    """A value as a CSV export writes it."""
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def read(path, text=None, columns=None):
    """All events and all bad lines of a file."""
    batches = list(read_text(str(path), list(columns or TYPES), text or TextFormat(types=TYPES)))
    events = pa.Table.from_batches([batch.events for batch in batches])
    return events, pa.Table.from_batches([batch.bad for batch in batches])


def csv_text(rows, delimiter=",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(TYPES)
    writer.writerows([[shown(value) for value in row] for row in rows])
    return out.getvalue()


def json_text(rows) -> str:
    def plain(value):
        return value.isoformat() if isinstance(value, dt.date) else float(value) if isinstance(value, Decimal) else value

    return "".join(json.dumps({name: plain(value) for name, value in zip(TYPES, row, strict=True)}) + "\n" for row in rows)


EXPECTED = pa.table({name: pa.array([row[place] for row in ROWS], kind) for place, (name, kind) in enumerate(TYPES.items())})


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_csv_gives_the_declared_values(tmp_path, delimiter):
    path = tmp_path / "e.csv"
    path.write_text(csv_text(ROWS, delimiter))
    events, bad = read(path, TextFormat(types=TYPES, delimiter=delimiter))
    assert bad.num_rows == 0
    assert events.equals(EXPECTED)


def test_json_lines_give_the_same_values(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text(json_text(ROWS))
    events, bad = read(path)
    assert bad.num_rows == 0
    assert events.equals(EXPECTED)
    of_csv = TextFormat(types=TYPES, delimiter=";", decimal=",", timestamps="%d/%m/%Y", encoding="latin-1")
    assert read(path, of_csv)[0].equals(EXPECTED), "options of CSV are none of JSON's"


def test_compressed_files_give_the_same_values(tmp_path):
    for name, data in (("e.csv", csv_text(ROWS)), ("e.jsonl", json_text(ROWS))):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data.encode()))
        (tmp_path / f"{name}.zst").write_bytes(pa.compress(data.encode(), "zstd", asbytes=True))
        for ending in ("gz", "zst"):
            assert read(tmp_path / f"{name}.{ending}")[0].equals(EXPECTED), (name, ending)


def test_line_ends_marks_blank_lines_and_missing_last_end_do_not_matter(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"\xef\xbb\xbf" + csv_text(ROWS).replace("\n", "\r\n\r\n").rstrip().encode())
    assert read(path)[0].equals(EXPECTED)


def test_latin_1_is_read_as_declared(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(csv_text(ROWS).encode("latin-1"))
    assert read(path, TextFormat(types=TYPES, encoding="latin-1"))[0].equals(EXPECTED)
    events, bad = read(path)
    assert (events.num_rows, bad["line"].to_pylist()) == (3, [3])


def test_german_exports(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("k;t;b\n007;31/12/2024;1,50\nNA;31/02/2024;2\n;01/01/2024;\n8;1/1/2024;1.000,5\n")
    text = TextFormat(types={"t": pa.timestamp("us"), "b": pa.float64()}, delimiter=";", decimal=",", timestamps="%d/%m/%Y")
    events, bad = read(path, text, ["k", "t", "b"])
    assert events.to_pylist() == [
        {"k": "007", "t": dt.datetime(2024, 12, 31), "b": 1.5},
        {"k": None, "t": dt.datetime(2024, 1, 1), "b": None},
    ]
    assert bad["line"].to_pylist() == [3, 5]
    assert bad["reason"].to_pylist() == ["column t is no timestamp", "column b is no float64"]


BAD = {
    "n": ["1.5", "1e3", "0x10", "1_000", "9223372036854775808", "x", "nan"],
    "x": ["1,5", "0x1p3", "1_0", "inf", "one", "1e", "."],
    "paid": ["1.555", "1e2", "123456789.00", "nan", "x"],
    "yes": ["maybe", "2", "t"],
    "day": ["2024-02-30", "2024-1-1", "31/12/2024", "2024-01-01 10:00:00"],
    "at": ["2024-02-30", "2024-01-01T25:00:00", "2024-01-01T10:00:00Z", "yesterday", "infinity"],
    "moment": ["2024-01-01T10:00:00", "2024-01-01T10:00:00+99:99", "now"],
}


@pytest.mark.parametrize("column", BAD)
def test_f3_values_of_a_wrong_type_are_set_aside_with_line_and_reason(tmp_path, column):
    (tmp_path / "e.csv").write_text(f"id,{column}\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(BAD[column])))
    (tmp_path / "e.jsonl").write_text(
        "".join(json.dumps({"id": str(n), column: text}) + "\n" for n, text in enumerate(BAD[column]))
    )
    for name, first in (("e.csv", 2), ("e.jsonl", 1)):
        events, bad = read(tmp_path / name, columns=["id", column])
        assert events.num_rows == 0, events.to_pylist()
        assert bad["line"].to_pylist() == list(range(first, first + len(BAD[column])))
        assert set(bad["reason"].to_pylist()) == {f"column {column} is no {type_name(TYPES[column])}"}
        assert read(tmp_path / name, columns=["id"])[0].num_rows == len(BAD[column]), "a column that is not needed"


POISON = st.one_of(
    st.sampled_from(['"', 'x"y,1', '1,"2', '"a\rb",1', ",,,", "x", "\x1f,1", "1,2,3", '{"id": 1', "[]", '"a""', "\0,1"]).map(
        str.encode
    ),
    st.binary(max_size=40),
    st.text('",\n\r\x1f{}:ab1', max_size=20).map(str.encode),
)


@given(POISON, st.integers(0, 3), st.sampled_from(["e.csv", "e.jsonl"]))
def test_s4_a_line_changes_no_other_line(tmp_path_factory, poison, place, name):
    """Whatever bytes a line holds, the events of the other lines are what they are without it."""
    path = tmp_path_factory.mktemp("s4") / name
    good = [f'u{n},"{n},x"' if name == "e.csv" else json.dumps({"id": f"u{n}", "c": f"{n},x"}) for n in range(4)]
    lines = [line.encode() for line in good]
    header = [b"id,c"] if name == "e.csv" else []
    path.write_bytes(b"\n".join([*header, *lines]) + b"\n")
    without = read(path, columns=["id", "c"])[0].to_pylist()
    assert [event["id"] for event in without] == ["u0", "u1", "u2", "u3"]
    lines.insert(place, poison)
    path.write_bytes(b"\n".join([*header, *lines]) + b"\n")
    found = read(path, columns=["id", "c"])[0].to_pylist()
    rest = iter(found)
    assert all(event in rest for event in without), "the good ones are there, in order"


FIELD = st.text(st.characters(blacklist_characters="\n\r\x1f\x00", blacklist_categories=("Cs",)), max_size=8)


@given(st.lists(st.lists(FIELD, min_size=2, max_size=4), min_size=1, max_size=6), st.sampled_from(",;|"))
def test_cut_lines_are_those_of_the_csv_module(rows, delimiter):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    assert cut(out.getvalue().split("\n")[:-1], delimiter, 3) == [row if len(row) == 3 else None for row in rows]


@given(st.lists(st.text('",a \x1fé', max_size=10), min_size=1, max_size=8), st.integers(1, 4))
def test_cut_lines_follow_the_grammar_of_each_alone(texts, width):
    value = '"(?:[^"]|"")*"|[^",]*'
    sound = [re.fullmatch(f"(?:{value})(?:,(?:{value}))*", text) is not None and "\x1f" not in text for text in texts]
    assert cut_lines(pa.array(texts), ",", width, []).sound.to_pylist() == sound
    rows = [re.findall(f"(?:^|,)({value})", text) for text in texts]
    plain = [[part[1:-1].replace('""', '"') if part[:1] == '"' else part for part in row] for row in rows]
    expected = [row if good and len(row) == width else None for row, good in zip(plain, sound, strict=True)]
    assert cut(texts, ",", width) == expected


def cut(texts, delimiter, width):
    """The values of each line, None where it is not complete. The lines are a slice of others."""
    lines = cut_lines(pa.array(['a,"', *texts, '"'])[1:-1], delimiter, width, range(width))
    columns = [
        [value.replace('""', '"') if quoted else value for value, quoted in zip(*map(pa.Array.to_pylist, column), strict=True)]
        for column in ((column.values, column.quoted) for column in lines.columns)
    ]
    return [list(row) if complete else None for *row, complete in zip(*columns, lines.complete.to_pylist(), strict=True)]


@pytest.mark.parametrize("names", [["line", "text"], ["reason", "fault"], ["v0", "t0"], ["p0", "P0"]])
def test_columns_may_have_any_name(tmp_path, names):
    (tmp_path / "e.csv").write_text(",".join(names) + "\na,b\nc\n")
    (tmp_path / "e.jsonl").write_text(json.dumps(dict(zip(names, "ab", strict=True))) + "\nc\n")
    for name in ("e.csv", "e.jsonl"):
        events, bad = read(tmp_path / name, columns=names)
        assert events.to_pylist() == [dict(zip(names, "ab", strict=True))]
        assert bad["text"].to_pylist() == ["c"]


def test_lines_longer_than_a_mebibyte_are_set_aside(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("id\na\n" + "x" * 9_000_000 + "\nb\n" + "y" * (1 << 21) + "\nc")
    events, bad = read(path, columns=["id"])
    assert events["id"].to_pylist() == ["a", "b", "c"]
    assert bad["line"].to_pylist() == [3, 5]
    assert bad["text"].to_pylist() == ["", ""]


def test_many_blocks_keep_line_numbers(tmp_path):
    path = tmp_path / "e.csv"
    count = 900_000
    path.write_text("id,n\n" + "".join(f"u{n},{'x' if n % 100_000 == 99_999 else n}\n" for n in range(count)))
    assert path.stat().st_size > 2 * (1 << 22), "several blocks"
    events, bad = read(path, columns=["id", "n"])
    assert bad["line"].to_pylist() == [n + 2 for n in range(99_999, count, 100_000)]
    assert events.num_rows == count - bad.num_rows
    assert events["n"].to_pylist()[-2:] == [count - 3, count - 2]


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_s4_where_a_block_ends_decides_nothing(tmp_path, pad):
    """A line of exactly a mebibyte that ends in CR LF, with the end of a block between the two, or beside it."""
    path = tmp_path / "e.csv"
    line = b"x" * (1 << 20)
    first = b"y" * ((1 << 19) + pad)
    head = b"id\r\n" + (first + b"\r\n") * 5
    filler = b"z" * ((1 << 22) - len(head) - len(line) - 1 - 2 + (pad - 1))
    path.write_bytes(head + filler + b"\r\n" + line + b"\r\nlast\r\n")
    events, bad = read(path, columns=["id"])
    assert events["id"].to_pylist()[-2:] == [line.decode(), "last"]
    assert bad.num_rows == 0


@pytest.mark.parametrize(("limit", "value", "batches"), [("ROWS", 10**6, 1), ("ROWS", 1, 3), ("BYTES", 1, 3)])
def test_batches_are_merged_up_to_a_limit(tmp_path, monkeypatch, limit, value, batches):
    path = tmp_path / "e.csv"
    count = 900_000
    path.write_text("id\n" + "".join(f"user {n:>6}\n" if n % 9 else '"\n' for n in range(count)))
    assert 2 * (1 << 22) < path.stat().st_size < 3 * (1 << 22), "three blocks"
    monkeypatch.setattr(f"transforms.text_events._MERGED_{limit}", value)
    found = list(merged(read_text(str(path), ["id"], TextFormat())))
    assert len(found) == batches
    assert sum(batch.events.num_rows for batch in found) == count - count // 9
    assert sum(batch.bad.num_rows for batch in found) == count // 9


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_python_does_not_grow_with_lines(tmp_path, ending):
    """No code of Python runs for each line of a block, good or bad."""
    text, counts = TextFormat(types={"n": pa.int64(), "v": pa.float64()}), []
    for rows in (100, 100, 20_000):
        lines = [
            f'{row},"a ""b"", {row}",{row}.5' if ending == "csv" else f'{{"n":{row},"s":"x","v":0.5}}' for row in range(rows)
        ]
        lines[::50] = ["bad"] * len(lines[::50])
        path = tmp_path / f"{rows}.{ending}"
        path.write_text("\n".join([*(["n,s,v"] if ending == "csv" else []), *lines]))
        assert path.stat().st_size < 1 << 22, "one block"
        counts.append(instructions(lambda path=path: list(read_text(str(path), ["n", "s", "v"], text))))
    assert 100 < counts[1] <= counts[2] < counts[1] + 100  # the first run also imports
