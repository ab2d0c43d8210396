"""Whole runs with keys that are partly public. A huge epsilon makes counts and sums of integers exact."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from pipelines.config import parse_config
from pipelines.statement import plan_json, units_note
from privacy.plan import make_plan
from tests.pipelines.published import COUNTS, HUGE, ask, published, refused

DEPARTMENTS = ["deli", "grocery", "empty"]


def bought() -> list[dict[str, Any]]:
    """Ham and rice have 60 units, salt has one of its own, and petrol is only in a department that is not listed."""
    rows = [{"user": user, "product": product, "department": "deli"} for user in range(60) for product in ("ham", "rice")]
    rows += [{"user": user, "product": "rice", "department": "grocery"} for user in range(0, 60, 2)]
    rows += [{"user": user, "product": "petrol", "department": "fuel"} for user in range(60)]
    rows += [{"user": user, "product": "ham", "department": None} for user in range(60)]
    rows += [{"user": user, "product": None, "department": "deli"} for user in range(40)]
    rows += [{"user": 99, "product": "salt", "department": "deli"}]
    return [row | {"price": 1.0 + row["user"] % 4} for row in rows]


@pytest.fixture
def shop(project):
    project.write_events(pa.Table.from_pylist(bought()))
    ask(project, ["product", "department"])
    project.release["keys"]["values"] = {"department": DEPARTMENTS}
    return project


def truth(*products: str | None) -> dict[tuple[str | None, str], tuple[int, int]]:
    """The events and units of these products in every listed department."""
    count = Counter((row["product"], row["department"]) for row in bought())
    return {(product, name): (count[product, name],) * 2 for product in products for name in DEPARTMENTS}


def test_every_listed_value_with_everything_that_is_selected(shop):
    """Also where there is no event; sorted by the columns in their order; nothing of a department that is not listed."""
    assert published(shop) == truth("ham", "rice")
    rows = [(row["product"], row["department"]) for row in shop.table("asked").to_pylist()]
    assert rows == sorted(rows)
    assert len(rows) == 6
    assert "empty" in {department for _, department in rows}


@pytest.mark.parametrize("word", ["drop", "keep", None])
def test_b5_null_as_the_private_part(shop, word):
    """A product like others where the release keeps it. A null department is never listed."""
    if word is not None:
        shop.release["keys"]["nulls"] = word
    assert published(shop) == truth("ham", "rice", *([None] if word == "keep" else []))


def test_b6_listed_values_in_the_form_of_the_column(shop):
    """Two spellings in the config, and any number in the events, are one public part."""
    rows = [row | {"department": row["department"] and row["department"].upper()} for row in bought()]
    shop.write_events(pa.Table.from_pylist(rows))
    shop.config["events"]["normalise"] = {"department": ["casefold"]}
    shop.release["keys"]["values"] = {"department": ["Deli", "DELI", "groCery", "empty"]}
    assert published(shop) == truth("ham", "rice")


def test_the_order_of_columns_and_several_of_either_kind(shop):
    """Two public columns around two private ones: all combinations of the former with each pair that is selected."""
    table = pa.Table.from_pylist([row | {"floor": 1 + row["user"] % 2, "brand": "own"} for row in bought()])
    shop.write_events(table)
    shop.release["keys"] = {
        "columns": ["floor", "product", "brand", "department"],
        "values": {"department": ["deli", "grocery"], "floor": [2, 1, 7]},
    }
    found = published(shop)
    assert set(found) == {(f, p, "own", d) for f in (1, 2, 7) for p in ("ham", "rice") for d in ("deli", "grocery")}
    assert found[1, "rice", "own", "grocery"] == (30, 30)
    assert found[2, "ham", "own", "deli"] == (30, 30)
    assert found[2, "rice", "own", "grocery"] == found[7, "ham", "own", "deli"] == (0, 0)
    assert list(shop.table("asked").to_pydict())[:4] == ["floor", "product", "brand", "department"]


def test_every_metric_and_the_largest(shop):
    """Bins, quantiles and means of each combination; `top` chooses among all of them."""
    shop.release["metrics"] = [
        *COUNTS,
        {"name": "h", "histogram": {"of": "price", "bins": [0, 2, 3, 5]}},
        {"name": "f", "frequency": {"of": "product", "values": ["ham", "rice"]}},
        {"name": "q", "quantiles": {"of": "price", "at": [0.5], "clip": [0, 8]}},
        {"name": "m", "mean": "price", "clip": [0, 8]},
        {"name": "s", "stddev": "price", "clip": [0, 8]},
    ]
    shop.config["budget"]["epsilon"] = HUGE
    assert shop.run().status == 0
    rows = {(row["product"], row["department"]): row for row in shop.table("asked").to_pylist()}
    assert {key: (row["events"], row["units"]) for key, row in rows.items()} == truth("ham", "rice")
    ham = rows["ham", "deli"]
    assert (ham["h_1"], ham["h_2"], ham["h_3"], ham["f_ham"], ham["f_rice"]) == (15, 15, 30, 60, 0)
    assert (ham["m"], ham["s"]) == (pytest.approx(2.5, abs=0.01), pytest.approx(1.25**0.5, abs=0.01))
    assert ham["q_p50"] == pytest.approx(2.5, abs=0.6)
    grocery = rows["rice", "grocery"]
    assert (grocery["h_1"], grocery["h_2"], grocery["h_3"], grocery["f_rice"]) == (15, 0, 15, 30)
    assert [rows["ham", "empty"][name] for name in ("h_1", "h_2", "h_3", "f_ham")] == [0, 0, 0, 0]
    shop.release["top"] = {"by": "events", "n": 3}
    assert shop.run(run_id="top").status == 0
    top = [(row["product"], row["department"]) for row in shop.table("asked", "top").to_pylist()]
    assert top == [("ham", "deli"), ("rice", "deli"), ("rice", "grocery")]


def test_s2_without_events_nothing_is_selected(shop):
    """And nothing of what is listed appears by itself; the columns are the same."""
    published(shop)
    schema = shop.table("asked").schema
    shop.write_events(pa.Table.from_pylist(bought()).slice(0, 0))
    assert published(shop, "none") == {}
    assert shop.table("asked", "none").schema == schema


def test_rows_as_the_unit(shop):
    """Any 3 rows: a product needs so many events, in all listed departments together."""
    shop.config["events"]["privacy_unit"] = {"rows": 3}
    del shop.release["bounds"]
    shop.release["metrics"] = [{"name": "events", "count": "events"}]
    assert published(shop) == {key: events for key, (events, _) in truth("ham", "rice").items()}


def note(project, **keys):
    """What `discreet plan` says of the release, and the plan of its selection in JSON."""
    project.release["keys"] |= keys
    config = parse_config(json.dumps(project.config))
    plan = make_plan(config.budget, config.releases, config.events.privacy_unit.rows)
    return units_note(plan, plan.releases[0]), plan_json(plan)["releases"]["asked"][0]


def test_the_plan_says_what_is_public_and_what_is_selected(shop):
    said, stage = note(shop)
    assert said.startswith(
        "Public: department. Selected: product; what appears of it does so with every listed value of department. A value of "
        "product appears with 50% probability where it has "
    )
    assert "units, with 95% where it has" in said
    assert ", if those have 7 values of product each; no value of product of a single unit appears, but with" in said
    assert (stage["stage"], stage["selected_columns"], stage["keys_looked_at_per_unit"]) == ("select", ["product"], 1024)
    values = {"department": ["deli"], "floor": ["1"]}
    said, stage = note(shop, columns=["department", "a", "floor", "b"], values=values)
    assert said.startswith(
        "Public: department and floor. Selected: a and b; what appears of it does so with every combination of"
    )
    assert "A combination of a and b appears with 50%" in said
    assert stage["selected_columns"] == ["a", "b"]
    shop.release["keys"] = {"columns": ["product"]}
    said, stage = note(shop)
    assert said.startswith("A key appears with 50% probability")
    assert "selected_columns" not in stage


def test_the_manifest_has_the_selection_that_was_left_out(shop):
    """As of private keys: its share and its cap are in the resolved config."""
    published(shop)
    (release,) = shop.manifest()["config"]["releases"]
    assert release["select"] == {"share": 1.0, "cap": 1024}
    assert release["keys"] == {"columns": ["product", "department"], "values": {"department": DEPARTMENTS}}


MANY = [str(number) for number in range(300)]
REFUSED = [
    ({"values": {"shop": ["a"]}}, "values lists ['shop']; list values of key columns only: ['product', 'department']"),
    ({"values": {}}, "releases[0].keys.values: is empty; list at least one"),
    ({"values": {"department": ["a", "a"]}}, "values.department repeats a value; list each once"),
    (
        {"columns": ["product", "department", "floor"], "values": {"department": MANY, "floor": MANY}},
        "values has 90,000 combinations, more than 65,536; list fewer",
    ),
    ({"from": "keys.parquet"}, "values and from are both given; list the public keys in one of them"),
    (
        {"columns": ["user", "department"]},
        "keys.columns: hold the privacy unit, so each key has one unit and none could appear; name columns that many units share",
    ),
]


@pytest.mark.parametrize(("keys", "says"), REFUSED)
def test_r11_what_is_refused(shop, keys, says):
    shop.release["keys"] |= keys
    assert says in refused(shop, 2)


def test_r11_a_selection_where_all_columns_are_listed_is_refused(shop):
    shop.release["select"] = {"cap": 5}
    assert note(shop)[1]["keys_looked_at_per_unit"] == 5
    shop.release["keys"]["values"]["product"] = ["ham"]
    assert "select is given, but the keys are public and not selected; remove select" in refused(shop, 2)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"values": {"product_2": ["ham"]}}, "keys.values lists one column of a pair only, but a pair has no order"),
        ({"nulls": "keep"}, "keys.nulls is keep, but no pair has a null; remove nulls"),
    ],
)
def test_r11_pairs_are_wholly_private_or_public_and_have_no_nulls(shop, keys, says):
    shop.release["pairs"] = {"of": "product", "within": "department"}
    shop.release["keys"] = {"columns": ["product_1", "product_2"]} | keys
    assert says in refused(shop, 2)


def test_r11_a_count_of_units_of_whole_keys_selects_no_private_parts(shop):
    shop.release["select"] = {"by": "units"}
    assert "counts the units of whole keys, but keys.values makes parts of them public; remove select.by" in refused(shop, 2)


def test_r11_a_listed_value_that_the_column_cannot_hold_is_refused(shop):
    """Before anything is drawn."""
    shop.release["keys"] = {"columns": ["product", "user"], "values": {"user": ["ham"]}}
    assert "releases[0].keys.values.user: 'ham' cannot be read as int64, the column's type; correct it" in refused(shop, 2)
