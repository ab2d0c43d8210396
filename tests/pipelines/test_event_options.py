"""Whole runs with the options of `events`: normalise, nulls, {rows: k}. A huge epsilon makes numbers exact."""

import copy
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import parse_config
from pipelines.statement import protected
from tests.pipelines.published import ask, per_user, published, refused, write_csv
from tests.transforms.test_normalise import NO_UTF8, strings

EVERYONE = {"all": ["x"]}
ALL_FORMS = ["trim", "casefold", "nfc"]
ZOE = ["Zo\u00eb", "Zoe\u0308", "zo\u00eb", "ZO\u00cb ", "  Zo\u00eb", "zoe\u0308\u3000"]
COLLAPSED = [
    ([], 6),
    (["trim"], 5),
    (["casefold"], 5),
    (["nfc"], 5),
    (["trim", "casefold"], 2),
    (["trim", "nfc"], 3),
    (["casefold", "nfc"], 4),
    (ALL_FORMS, 1),
]


def spell(project, source):
    """Writes one event for each spelling of a name, and one of somebody else."""
    users = pa.array([*ZOE, "anna"])
    if source == "csv":
        write_csv(project, "user,all", *(f"{user},x" for user in users))
    elif source == "dictionary":
        project.write_events(per_user(users.dictionary_encode()))
    else:
        project.write_events(per_user(users.cast(source)))


@pytest.mark.parametrize(("forms", "units"), COLLAPSED)
def test_b6_spellings_of_an_id_are_one_unit_as_declared_and_not_otherwise(project, forms, units):
    """Before bounding: one unit with six spellings adds no more than one unit may."""
    assert len(set(ZOE)) == 6
    spell(project, pa.string())
    if forms:
        project.config["events"]["normalise"] = {"user": forms}
    ask(project, "all", EVERYONE, bounds={"keys_per_unit": 1, "rows_per_key": 1})
    assert published(project) == {"x": (units + 1, units + 1)}


@pytest.mark.parametrize("source", ["csv", "dictionary", pa.large_string(), pa.string_view()], ids=str)
def test_b6_however_texts_are_stored(project, source):
    spell(project, source)
    ask(project, "all", EVERYONE)
    assert published(project, "plain") == {"x": (7, 7)}
    project.config["events"]["normalise"] = {"user": ALL_FORMS}
    assert published(project, "declared") == {"x": (7, 2)}


def test_b6_a_unit_of_two_columns(project):
    """Each column has forms of its own, or none."""
    users, parts = ["A", "a", "A", "a"], ["B", "B", "b", "b "]
    project.write_events(per_user(users, part=parts))
    ask(project, "all", EVERYONE)
    project.config["events"]["privacy_unit"] = ["user", "part"]
    assert published(project, "none") == {"x": (4, 4)}
    project.config["events"]["normalise"] = {"user": ["casefold"]}
    assert published(project, "one") == {"x": (4, 3)}
    project.config["events"]["normalise"] = {"user": ["casefold"], "part": ALL_FORMS}
    assert published(project, "two") == {"x": (4, 1)}


def test_b5_b6_an_id_of_white_space_is_empty_once_it_is_trimmed(project):
    """Then its events are left out, one by one, as those of other empty ids."""
    project.write_events(per_user([" ", "\u3000\t", "", None, "a"]))
    ask(project, "all", EVERYONE)
    assert published(project, "plain") == {"x": (3, 3)}
    project.config["events"]["normalise"] = {"user": ["trim"]}
    assert published(project, "trimmed") == {"x": (1, 1)}


def test_b5_b6_ids_that_are_no_text_are_left_out_and_not_pooled(project):
    """Bytes that are no UTF-8 become null; the others stay."""
    project.write_events(pa.table({"user": strings([*NO_UTF8, b"x", b"X"]), "all": ["x"] * (len(NO_UTF8) + 2)}))
    ask(project, "all", EVERYONE)
    project.config["events"]["normalise"] = {"user": ["casefold"]}
    assert published(project) == {"x": (2, 1)}


TOWNS = ["K\u00f6ln", "KO\u0308LN", " k\u00f6ln ", "Bonn", "bonn", "Trier"]


@pytest.fixture
def towns(project):
    """60 units in each of six spellings of three towns, which `normalise` makes one."""
    project.write_events(per_user(list(range(60 * len(TOWNS))), town=TOWNS * 60))
    project.config["events"]["normalise"] = {"town": ALL_FORMS}
    return project


EXPECTED = {"bonn": (120, 120), "k\u00f6ln": (180, 180), "trier": (60, 60)}


def test_b6_private_keys_are_one_key_each(towns):
    ask(towns, "town")
    assert published(towns) == EXPECTED
    del towns.config["events"]["normalise"]
    assert published(towns, "as-they-come") == dict.fromkeys(TOWNS, (60, 60))


@pytest.mark.parametrize("listed", [["K\u00d6LN ", "Bonn", "TRIER"], ["Ko\u0308ln", "BONN", "Bonn ", " trier"]])
@pytest.mark.parametrize("source", ["values", "from"])
def test_b6_public_keys_are_normalised_like_the_events(towns, listed, source):
    """Spelled in any way, in the config or in a file, they mean the events' keys, each once."""
    if source == "values":
        ask(towns, "town", {"town": listed})
    else:
        pq.write_table(pa.table({"town": listed}), "towns.parquet")
        ask(towns, "town", "towns.parquet")
    assert published(towns) == EXPECTED


@pytest.mark.parametrize(
    ("op", "value", "events"),
    [
        ("=", " KO\u0308LN", 180),
        ("!=", "K\u00d6LN", 180),
        ("in", ["k\u00f6ln\u2003", "TRIER"], 240),
        ("not_in", ["BONN"], 240),
        (">=", "TRIER", 60),
        ("<", "BONN ", 0),
    ],
)
def test_b6_values_of_conditions_are_normalised_like_the_events(towns, op, value, events):
    ask(towns, "all", EVERYONE)
    towns.config["events"]["where"] = [{"column": "town", "op": op, "value": value}]
    assert published(towns)["x"] == (events, events)


def test_b6_lookups_match_in_any_spelling_and_give_normalised_texts(towns):
    """Both columns of the table get the forms that the events' columns of these names have."""
    table = pa.table({"town": ["KÖLN", "Bonn ", "Trier"], "area": ["Rhine", "RHINE", "Mosel"]})
    pq.write_table(table, "areas.parquet")
    towns.config["events"]["lookups"] = [{"file": "areas.parquet", "by": "town", "columns": ["area"]}]
    ask(towns, "area")
    assert published(towns) == {"Rhine": (180, 180), "RHINE": (120, 120), "Mosel": (60, 60)}
    towns.config["events"]["normalise"]["area"] = "casefold"
    assert published(towns, "areas-too") == {"rhine": (300, 300), "mosel": (60, 60)}


def test_b6_a_lookup_with_two_spellings_of_one_key_is_refused(towns):
    """Which of them would be meant?"""
    pq.write_table(pa.table({"town": ["BONN", "bonn"], "area": ["a", "b"]}), "areas.parquet")
    towns.config["events"]["lookups"] = [{"file": "areas.parquet", "by": "town", "columns": ["area"]}]
    ask(towns, "area")
    assert "areas.parquet: column 'town' has a value in two rows; a lookup needs each once" in refused(towns)


@pytest.mark.parametrize(
    ("column", "said"),
    [("quantity", "is int32, not text"), ("day", "is date32[day], not text"), ("twon", "no part of the config uses this column")],
)
def test_normalise_is_for_columns_of_text_that_are_used(project, column, said):
    project.config["events"]["derive"] = {"day": {"truncate": "at", "to": "day", "timezone": "UTC"}}
    project.config["events"]["normalise"] = {column: ["trim"]}
    complaint = refused(project, status=2)
    assert f"events.normalise.{column}: " in complaint
    assert said in complaint
    assert "; remove it" in complaint


@pytest.fixture
def some_null(project):
    """60 units: 30 in key a, 20 in null, 10 in the empty text; values null, NaN, infinite, or 7."""
    keys = ["a"] * 30 + [None] * 20 + [""] * 10
    values = pa.array([None, float("nan"), float("inf"), float("-inf"), 7.0, 7.0] * 10)
    whole = pa.array([None, 7, 20] * 20, pa.int64())
    project.write_events(pa.table({"user": range(60), "key": keys, "all": ["x"] * 60, "value": values, "whole": whole}))
    return project


@pytest.mark.parametrize("key", ["drop", "keep", None])
def test_b5_null_keys_are_left_out_or_published_as_declared(some_null, key):
    """A null key is neither the empty one nor pooled with it, and is last."""
    if key is not None:
        some_null.config["events"]["nulls"] = {"key": key}
    ask(some_null, "key")
    kept = {None: (20, 20)} if key == "keep" else {}
    assert published(some_null) == {"": (10, 10), "a": (30, 30)} | kept
    assert list(some_null.table("asked")["key"].to_pylist()) == ["", "a", *kept]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint8(), pa.bool_(), pa.date32(), pa.timestamp("us", "UTC"), pa.decimal128(12, 2)], ids=str
)
def test_b5_null_keys_of_every_type(project, kind):
    """Beside zero, which may lie beneath a null."""
    whole = pa.int64() if pa.types.is_timestamp(kind) else pa.int32()
    keys = pa.array([1] * 30 + [None] * 20 + [0] * 10, whole).cast(kind)
    assert keys.null_count == 20
    project.write_events(pa.table({"user": range(60), "key": keys}))
    project.config["events"]["nulls"] = {"key": "keep"}
    ask(project, "key")
    one, zero = keys[0].as_py(), keys[59].as_py()
    assert published(project) == {one: (30, 30), zero: (10, 10), None: (20, 20)}


def test_b5_null_in_one_of_two_key_columns(project):
    """Each combination with nulls is a key of its own."""
    rows = [("a", 1), ("a", None), (None, 1), (None, None)] * 15
    project.write_events(pa.table({"user": range(60), "key": [key for key, _ in rows], "part": [part for _, part in rows]}))
    ask(project, ["key", "part"])
    assert published(project, "drop") == {("a", 1): (15, 15)}
    project.config["events"]["nulls"] = {"key": "keep"}
    assert published(project, "keep") == dict.fromkeys(rows, (15, 15))


@pytest.mark.parametrize("default", ["drop", "keep", None])
@pytest.mark.parametrize("own", ["drop", "keep", None])
def test_b5_a_release_says_for_itself_whether_null_is_a_key(some_null, default, own):
    """Its word wins over the config's, which stays that of the releases beside it."""
    if default is not None:
        some_null.config["events"]["nulls"] = {"key": default}
    ask(some_null, "key")
    beside = copy.deepcopy(some_null.release) | {"name": "beside"}
    some_null.config["releases"].append(beside)
    if own is not None:
        some_null.release["keys"]["nulls"] = own
    keys = {"": (10, 10), "a": (30, 30)}
    assert published(some_null) == keys | ({None: (20, 20)} if (own or default) == "keep" else {})
    others = some_null.table("beside").to_pydict()
    assert dict(zip(others["key"], zip(others["events"], others["units"], strict=True), strict=True)) == keys | (
        {None: (20, 20)} if default == "keep" else {}
    )


@pytest.mark.parametrize("default", ["drop", "keep"])
def test_b5_null_among_public_keys_as_their_release_says(some_null, default):
    """A null in the file is refused or a key like others, whatever the config says for the rest."""
    some_null.config["events"]["nulls"] = {"key": default}
    pq.write_table(pa.table({"key": ["a", None]}), "keys.parquet")
    ask(some_null, "key", "keys.parquet")
    some_null.release["keys"]["nulls"] = "drop"
    assert "keys.parquet: lists a null" in refused(some_null)
    assert "write keys.nulls: keep" in refused(some_null)
    some_null.release["keys"]["nulls"] = "keep"
    assert published(some_null) == {"a": (30, 30), None: (20, 20)}


def test_the_digest_of_a_config_without_the_word_is_as_before(project):
    """What a release leaves out is not in the resolved config."""
    project.config["events"]["nulls"] = {"key": "keep"}
    resolved = parse_config(json.dumps(project.config)).resolved()
    assert resolved["releases"][0]["keys"] == {"columns": ["shop"]}
    project.release["keys"]["nulls"] = "keep"
    assert parse_config(json.dumps(project.config)).resolved()["releases"][0]["keys"] == {"columns": ["shop"], "nulls": "keep"}


def test_b5_null_among_public_keys_from_a_file(some_null):
    """Listed like others where null is a key; refused with the cure where it is not."""
    pq.write_table(pa.table({"key": ["a", None, "nobody"]}), "keys.parquet")
    ask(some_null, "key", "keys.parquet")
    assert "keys.parquet: lists a null" in refused(some_null)
    some_null.config["events"]["nulls"] = {"key": "keep"}
    assert published(some_null) == {"a": (30, 30), "nobody": (0, 0), None: (20, 20)}
    pq.write_table(pa.table({"key": ["a"]}), "keys.parquet")
    assert published(some_null, "not-listed") == {"a": (30, 30)}


@pytest.mark.parametrize(("clip", "each"), [([5, 10], 5), ([0, 10], 0), ([-3, 10], 0), ([-9, -2], -2)])
def test_n6_values_that_are_none_count_as_0_cut_to_the_clip_where_so_declared(some_null, clip, each):
    """Nulls, NaN and infinities: left out of sum and mean, or 0. Events are counted either way."""
    metrics = [
        {"name": "events", "count": "events"},
        {"name": "whole", "sum": "whole", "clip": clip},
        {"name": "total", "sum": "value", "clip": clip},
        {"name": "mean", "mean": "value", "clip": clip},
    ]
    low, high = clip
    seven = min(max(7, low), high)
    ask(some_null, "all", EVERYONE, metrics)
    whole = 20 * seven + 20 * high
    assert published(some_null, "skip")["x"] == pytest.approx((60, whole, 20 * seven, seven), abs=0.5)
    some_null.config["events"]["nulls"] = {"value": "zero"}
    expected = (60, whole + 20 * each, 20 * seven + 40 * each, (20 * seven + 40 * each) / 60)
    assert published(some_null, "zero")["x"] == pytest.approx(expected, abs=0.5)
    mean = some_null.table("asked", "zero")["mean"][0].as_py()
    assert mean == pytest.approx(expected[3], abs=0.02)


ROW_METRICS = [
    {"name": "events", "count": "events"},
    {"name": "total", "sum": "quantity", "clip": [-5, 4]},
    {"name": "mean", "mean": "quantity", "clip": [-5, 4]},
]


@pytest.mark.parametrize("rows", [1, 3, 50])
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_count_each_event_whoever_it_is_of(project, rows, ending):
    """Rows alike, rows without a user, thousands of one user: nothing is left out and nothing scaled down."""
    whale = [("ash", quantity % 7, "w") for quantity in range(2000)]
    others = [("birch", 9, None), ("birch", -9, None), ("birch", None, None)] * 20 + [(None, 1, "a")] * 9
    events = [*whale, *others]
    if ending == "csv":
        write_csv(project, "shop,quantity,user", *(",".join("" if v is None else str(v) for v in row) for row in events))
        project.config["events"]["types"] = {"quantity": "int64"}
    else:
        columns = {name: [row[place] for row in events] for place, name in enumerate(("shop", "quantity", "user"))}
        project.write_events(pa.table(columns), row_group_size=500)
    project.config["events"]["privacy_unit"] = {"rows": rows}
    ask(project, "shop", metrics=ROW_METRICS)
    del project.config["releases"][0]["bounds"]
    found = published(project)
    clipped = sum(min(quantity, 4) for _, quantity, _ in whale)
    assert set(found) == {"ash", "birch"}
    assert found["ash"] == pytest.approx((2000, clipped, clipped / 2000), abs=0.5)
    assert found["birch"] == pytest.approx((60, 20 * 4 - 20 * 5, -0.5), abs=0.5)
    assert (found["ash"][0], found["birch"][0]) == (2000, 60)


def test_two_periods_in_the_unit_are_both_said(project):
    """Only a day of a month is protected, not the month."""
    project.config["events"] |= {
        "privacy_unit": ["user", "month", "day"],
        "derive": {to: {"truncate": "at", "to": to, "timezone": "UTC"} for to in ("month", "day")},
    }
    assert "events in that month and day together" in protected(parse_config(json.dumps(project.config)))


def test_b7_hard_links_are_read_once(project):
    project.write_events(per_user(list(range(60))))
    os.link("events/a.parquet", "events/b.parquet")
    ask(project, "all", {"all": ["x"]})
    assert published(project) == {"x": (60, 60)}


def test_a_resolved_config_of_rows_is_a_config(project):
    """What the manifest holds can be run again."""
    project.config["events"]["privacy_unit"] = {"rows": 3}
    del project.release["bounds"]
    project.release["metrics"] = [{"name": "visits", "count": "events"}]
    resolved = parse_config(json.dumps(project.config)).resolved()
    assert "cap" not in resolved["releases"][0]["select"]
    assert parse_config(json.dumps(resolved)).resolved() == resolved


@pytest.mark.parametrize("forms", [["trim"], None])
def test_public_keys_that_are_no_text_are_refused(project, forms):
    project.write_events(per_user(list(range(60))))
    pq.write_table(pa.table({"all": strings([b"x", b"\xff"])}), "keys.parquet")
    ask(project, "all", "keys.parquet")
    if forms:
        project.config["events"]["normalise"] = {"all": forms}
    ended = project.run()
    assert (ended.status, "no UTF-8" in ended.complaint) == (4, True)


@pytest.mark.parametrize("as_of", ["9999-12-31", "1600-01-01"])
def test_retain_beyond_what_the_column_holds_is_refused(project, as_of):
    project.write_events(per_user([1], at=pa.array([0], pa.timestamp("ns"))))
    ask(project, "all", {"all": ["x"]})
    project.config["events"]["retain"] = {"column": "at", "days": 1, "as_of": as_of}
    ended = project.run()
    assert (ended.status, "events.retain" in ended.complaint) == (2, True)


def test_a_lookup_by_a_list_is_refused(project):
    project.write_events(per_user([1], tags=pa.array([[1]])))
    pq.write_table(pa.table({"tags": pa.array([[1]]), "area": ["a"]}), "t.parquet")
    project.config["events"]["lookups"] = [{"file": "t.parquet", "by": "tags", "columns": ["area"]}]
    ask(project, "area", {"area": ["a"]})
    ended = project.run()
    assert (ended.status, "'tags'" in ended.complaint) == (4, True)
