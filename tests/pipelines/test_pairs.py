"""Whole runs over pairs of what occurs together; what plan and manifest say of them; what is refused."""

import itertools
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import parse_config
from tests.pipelines.published import ask, published, refused


@pytest.fixture
def baskets(project) -> Any:
    """40 users with the same two baskets each, under the same numbers; products, some of which belong to no category."""
    rows = []
    for user in range(40):
        rows += [(user, 1, product) for product in (0, 1, 2, 2, 3, 4)] + [(user, 2, product) for product in (0, 0, 1, 5)]
        rows += [(user, None, product) for product in (3, 5)] + [(user, 3 + user, 3), (None, 1, 5)]
    names = ("user", "basket", "product")
    project.write_events(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))))
    pq.write_table(pa.table({"product": range(6), "item": ["tea", "Tea ", "milk", "bread", None, "jam"]}), "products.parquet")
    project.config["events"] |= {
        "lookups": [{"file": "products.parquet", "by": "product", "columns": ["item"]}],
        "normalise": {"item": ["trim", "casefold"]},
    }
    ask(project, ["item_1", "item_2"], pairs={"of": "item", "within": "basket"})
    return project


EXPECTED = {("milk", "tea"): (40, 40), ("bread", "tea"): (40, 40), ("bread", "milk"): (40, 40), ("jam", "tea"): (40, 40)}


def test_a_whole_run(baskets):
    """Forms and lookups come first; nulls, other users' baskets and repeated items make no pair."""
    assert published(baskets) == EXPECTED
    assert baskets.table("asked").schema.field("item_1").type == pa.string()
    assert baskets.leftovers() == []


def test_b5_null_is_no_item_and_no_basket_where_null_is_a_key(baskets):
    baskets.config["events"]["nulls"] = {"key": "keep", "value": "zero"}
    assert published(baskets) == EXPECTED


def test_conditions_come_before_pairs(baskets):
    baskets.config["events"]["where"] = [{"column": "user", "op": "<", "value": 30}]
    assert published(baskets) == dict.fromkeys(EXPECTED, (30, 30))


def test_a_basket_may_be_all_that_a_unit_has(baskets):
    """Then the number of a basket that several users share does not matter at all."""
    baskets.release["pairs"]["within"] = "user"
    assert published(baskets) == dict.fromkeys(itertools.combinations(["bread", "jam", "milk", "tea"], 2), (40, 40))


@pytest.mark.parametrize("form", ["values", "file"])
def test_public_pairs_in_any_order_and_of_any_spelling(baskets, form):
    """Listed in the wrong order, twice, in another form; a value with itself is no pair; one without data is published too."""
    columns = ["item_1", "item_2"]
    if form == "values":
        listed = {"item_1": ["tea", "milk", " JAM"], "item_2": ["tea", "Milk", "jam"]}
        ask(baskets, columns, listed, pairs=baskets.release["pairs"])
        expected = {("jam", "milk"): (0, 0), ("jam", "tea"): (40, 40), ("milk", "tea"): (40, 40)}
    else:
        rows = [("tea", "milk"), ("Milk", "TEA"), ("salt", "bread"), ("tea", "tea")]
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), "keys.parquet")
        ask(baskets, columns, "keys.parquet", pairs=baskets.release["pairs"])
        expected = {("milk", "tea"): (40, 40), ("bread", "salt"): (0, 0)}
    assert published(baskets) == expected


def test_pairs_from_lines_of_text_by_several_workers(baskets):
    """Numbers are ordered as numbers, beside a release of events."""
    lines = [f"{user},{basket},{item}" for user in range(50) for basket in "ab" for item in (9, 10, 10, 100)]
    (baskets.root / "events/a.csv").write_text("user,basket,item\n" + "\n".join([*lines, "7,,9", "7,c,"]) + "\n")
    baskets.config["events"] = {"files": "events/a.csv", "privacy_unit": "user", "types": {"item": "int64"}}
    baskets.config["releases"].append(baskets.release | {"name": "single", "pairs": None, "keys": {"columns": ["item"]}})
    del baskets.config["releases"][1]["pairs"]
    assert published(baskets) == dict.fromkeys([(9, 10), (9, 100), (10, 100)], (100, 50))
    single = baskets.table("single").to_pydict()
    assert dict(zip(single["item"], single["events"], strict=True)) == {9: 101, 10: 200, 100: 100}


def test_b3_a_run_whose_bundles_are_all_repeated(baskets):
    """What was formed twice counts once."""
    assert published(baskets, options=["--direct_runner_bundle_repeat=1"]) == EXPECTED


def test_plan_and_manifest_say_that_events_are_pairs(baskets):
    baskets.config["releases"].append(baskets.release | {"name": "single", "keys": {"columns": ["item"]}})
    del baskets.config["releases"][1]["pairs"]
    assert baskets.run().status == 0
    ((name, said),) = baskets.manifest()["pairs"].items()
    assert name == "asked"
    assert said.startswith("Its events are pairs of two different values of item in one basket, which is all that one unit has ")
    assert "At most 46 values of a basket are paired, and at most 1,024 pairs of a unit are looked at." in said
    assert said in " ".join(baskets.main("plan", "config.yaml").out.split())
    assert baskets.main("plan", "--json", "config.yaml").json["pairs"] == {"asked": said}
    assert baskets.manifest()["nulls"].endswith(" No pair has a null.")
    assert baskets.manifest()["config"]["releases"][0]["pairs"] == {"of": "item", "within": ["basket"]}


def test_without_pairs_nothing_says_so(project):
    """And the resolved config, which the digest is of, is what it was."""
    assert project.run().status == 0
    assert "pairs" not in project.manifest()
    assert "pair" not in json.dumps(project.manifest()).lower()
    assert "pair" not in project.main("plan", "config.yaml").out.lower()


def test_one_column_is_a_list_of_one(baskets):
    """Also for the digest."""
    one = parse_config(json.dumps(baskets.config)).digest()
    baskets.release["pairs"]["within"] = ["basket"]
    assert parse_config(json.dumps(baskets.config)).digest() == one


@pytest.mark.parametrize(("column", "where"), [("of", "releases[0].pairs: "), ("within", "releases[0].pairs: ")])
def test_a_column_that_is_not_there(baskets, column, where):
    baskets.release["pairs"][column] = "absent"
    if column == "of":
        baskets.release["keys"]["columns"] = ["absent_1", "absent_2"]
    assert f"{where}events/a.parquet has no column 'absent'" in refused(baskets)


@pytest.mark.parametrize("column", ["of", "within"])
def test_b4_a_column_without_exact_values(baskets, column):
    table = pq.read_table("events/a.parquet")
    baskets.write_events(table.append_column("price", pa.nulls(table.num_rows, pa.float64())))
    baskets.release["pairs"][column] = "price"
    if column == "of":
        baskets.release["keys"]["columns"] = ["price_1", "price_2"]
    assert "releases[0].pairs: column 'price' is double, which has no exact values" in refused(baskets)


def test_rows_as_units_have_no_pairs(baskets):
    baskets.config["events"]["privacy_unit"] = {"rows": 3}
    del baskets.release["bounds"]
    baskets.release["metrics"] = [{"name": "events", "count": "events"}]
    said = refused(baskets, 2)
    assert "releases[0].pairs: needs a privacy unit with several events; write columns in privacy_unit, not rows" in said


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (
            {"item_1": ["tea", "milk"], "item_2": ["tea", None]},
            "keys.parquet: lists a null, or a text that is no UTF-8;",
        ),
        ({"item_1": ["tea", "milk"], "item_2": ["Tea", "milk "]}, "keys.parquet: lists no pair of two different values"),
        ({"item_1": ["tea"], "item": ["milk"]}, "keys.parquet: cannot be read as public keys"),
    ],
)
def test_public_pairs_that_are_none(baskets, listed, said):
    """Nulls are refused also where null is a key."""
    baskets.config["events"]["nulls"] = {"key": "keep"}
    pq.write_table(pa.table(listed), "keys.parquet")
    ask(baskets, ["item_1", "item_2"], "keys.parquet", pairs=baskets.release["pairs"])
    complaint = refused(baskets)
    assert said in complaint
    assert "nulls" not in complaint


def test_values_that_make_no_pair(baskets):
    ask(baskets, ["item_1", "item_2"], {"item_1": ["tea"], "item_2": ["TEA"]}, pairs=baskets.release["pairs"])
    assert "lists no pair of two different values; list at least one" in refused(baskets)


def test_n5_pairs_leave_less_room_for_events(baskets, monkeypatch):
    """As many events as can be added up without pairs are too many with them."""
    monkeypatch.setattr("privacy.release.MOST_EVENTS", pq.read_table("events/a.parquet").num_rows)
    assert "events.files: more than 559 events; no sum of them is sure to fit, split the run" in refused(baskets)
    ask(baskets, "item")
    assert baskets.run().status == 0
