"""Whole runs with histograms and frequencies: against pandas, their columns, their noise, and what is refused.

At a huge epsilon counts are exact: noise of 0.5 is beyond 10 deviations, less often than once in 1e23.
"""

import datetime
import random
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipelines.published import HUGE, LEAST, ask, per_user, refused, write_csv
from tests.pipelines.test_s3_canary import KEY, VALUE, assert_nowhere, canary
from tests.pipelines.test_s5_neighbours import base_rows, seen, unit_rows, write
from tests.transforms.test_normalise import NO_UTF8, strings

__all__ = ["canary"]

EVERYONE = {"all": ["x"]}


def histogram(of: str, *edges: Any, name: str = "h") -> dict[str, Any]:
    """A metric."""
    return {"name": name, "histogram": {"of": of, "bins": list(edges)}}


def frequency(of: str, *values: Any, name: str = "f") -> dict[str, Any]:
    """A metric."""
    return {"name": name, "frequency": {"of": of, "values": list(values)}}


def exact(project: Any, run_id: str = "one", release: str = "asked") -> pd.DataFrame:
    """Runs the project at a huge epsilon, as a dataset of its own. What it published, without intervals."""
    project.config["budget"]["epsilon"] = HUGE
    project.config["dataset"] = f"dataset_{run_id.replace('-', '_')}"
    ended = project.run(run_id=run_id)
    assert ended.status == 0, ended.err
    stages = project.manifest(run_id)["plan"]["releases"][release]
    assert max(stage["standard_deviation"] for stage in stages) < LEAST
    found = project.table(release, run_id).to_pandas()
    return found[[column for column in found if not column.endswith(("_low", "_high"))]]


def counts(project: Any, run_id: str = "one") -> list[int]:
    """The bins of the only key of such a run, in their order."""
    (row,) = exact(project, run_id).itertuples(index=False)
    return list(row[1:])


@pytest.fixture
def frame() -> pd.DataFrame:
    """4,000 events of 800 units, at most 5 in a key: nulls in every column, prices that are none, on edges and far outside."""
    dice = np.random.default_rng(8421)
    rows = 4000
    events = pd.DataFrame(
        {
            "user": dice.permutation(rows) % 800,
            "shop": dice.choice(["ash", "birch", "cedar"], rows, p=[0.6, 0.3, 0.1]),
            "price": dice.integers(-30, 300, rows) / 10,
            "quantity": dice.integers(-1, 6, rows),
            "channel": dice.choice(["Web Shop", "app", "phone", "web shop", ""], rows),
            "at": pd.to_datetime(1_704_060_000 + dice.integers(0, 85 * 86_400, rows), unit="s"),
        }
    )
    for column, part in (("user", 0.01), ("shop", 0.02), ("price", 0.05), ("quantity", 0.03), ("channel", 0.04)):
        events[column] = events[column].mask(dice.random(rows) < part)
    events = events.astype({"user": "Int64", "quantity": "Int64"})
    events.loc[events.index[:60], "price"] = [np.inf, -np.inf, 1e300, -1e300, 5.0, np.nextafter(5.0, 0)] * 10
    return events


def write_frame(project: Any, events: pd.DataFrame) -> None:
    """In three files of several row groups."""
    (project.root / "events/a.parquet").unlink()
    for number in range(3):
        part = pa.Table.from_pandas(events.iloc[number::3], preserve_index=False)
        project.write_events(part, f"events/{number}.parquet", row_group_size=300)


PRICES = [0, 5, 9.5, 20]
CHANNELS = ["app", "Web Shop", "fax", "phone"]


def test_agrees_with_pandas(project, frame):
    """Private and public keys, a condition, a period, next to a count: every bin of every key, exactly."""
    write_frame(project, frame)
    project.config["events"] |= {
        "where": [{"column": "quantity", "op": ">", "value": -1}],
        "derive": {"month": {"truncate": "at", "to": "month", "timezone": "UTC"}},
    }
    metrics = [
        {"name": "visits", "count": "events"},
        histogram("price", *PRICES, name="prices"),
        frequency("channel", *CHANNELS, name="via"),
        histogram("quantity", 0, 1, 2, 6, name="size"),
        frequency("month", "2024-01-01", "2024-03-01", name="in"),
    ]
    ask(project, "shop", metrics=metrics)
    project.config["releases"].append(
        project.config["releases"][0] | {"name": "listed", "keys": {"columns": ["shop"], "values": {"shop": ["none", "birch"]}}}
    )
    found = exact(project)
    kept = frame[(frame["quantity"] > -1) & frame["user"].notna() & frame["shop"].notna()]
    assert kept.groupby(["user", "shop"]).size().max() <= 5
    inside = np.isfinite(kept["price"])
    bins = np.digitize(kept["price"], PRICES[1:-1])
    sizes = np.digitize(kept["quantity"].astype(int), [1, 2])
    months = kept["at"].dt.strftime("%Y-%m-01")
    wanted = {"visits": np.ones(len(kept), bool)}
    wanted |= {f"prices_{number + 1}": inside & (bins == number) for number in range(3)}
    wanted |= {f"via_{value.lower().replace(' ', '_')}": (kept["channel"] == value).fillna(False) for value in CHANNELS}
    wanted |= {f"size_{number + 1}": sizes == number for number in range(3)}
    wanted |= {f"in_{month.replace('-', '_')}": months == month for month in ("2024-01-01", "2024-03-01")}
    truth = pd.DataFrame(wanted).groupby(kept["shop"]).sum().reset_index()
    assert truth["shop"].tolist() == ["ash", "birch", "cedar"]
    assert (truth.drop(columns=["shop", "via_fax"]) > 0).all(axis=None)
    assert (truth[[f"prices_{number}" for number in (1, 2, 3)]].sum(axis=1) < truth["visits"]).all()
    pd.testing.assert_frame_equal(found, truth, check_dtype=False)
    listed = project.table("listed").to_pandas()[list(truth)]
    assert listed["shop"].tolist() == ["birch", "none"]
    assert listed.iloc[0].tolist() == truth.iloc[1].tolist()
    assert (listed.iloc[1, 1:] == 0).all()


def test_a_unit_above_its_bounds_is_cut_over_all_bins_together(project):
    """8 events in one key where 4 count in full: half of each bin. Another one is within its bounds."""
    words = ["a"] * 4 + ["b"] * 4 + ["a"] * 4
    project.write_events(per_user([1] * 8 + [2] * 4, word=words, price=[1.0, 7.0] * 6))
    bounds = {"keys_per_unit": 1, "rows_per_key": 4}
    ask(project, "all", EVERYONE, [frequency("word", "a", "b"), histogram("price", 0, 5, 10)], bounds=bounds)
    assert counts(project) == [6, 2, 4, 4]


MOMENT = datetime.datetime(2024, 2, 29, 23, 30)
CATEGORIES: dict[str, tuple[pa.Array, list[Any]]] = {
    "text": (pa.array(["Web Shop", "app", None, "Web Shop"]), ["app", "Web Shop"]),
    "large text": (pa.array(["Web Shop", "app", None, "Web Shop"], pa.large_string()), ["app", "Web Shop"]),
    "text view": (pa.array(["Web Shop", "app", None, "Web Shop"], pa.string_view()), ["app", "Web Shop"]),
    "dictionary": (pa.array(["Web Shop", "app", None, "Web Shop"]).dictionary_encode(), ["app", "Web Shop"]),
    "text that looks like a number": (pa.array(["007", "7.0", None, "007"]), ["7.0", "007"]),
    "text that is a word of YAML": (pa.array(["null", "NO", None, "null"]), ["NO", "null"]),
    "integer": (pa.array([-7, 12, None, -7], pa.int8()), [12, -7]),
    "unsigned": (pa.array([2**64 - 1, 12, None, 2**64 - 1], pa.uint64()), [12, 2**64 - 1]),
    "large": (pa.array([2**53 + 1, 2**53, None, 2**53 + 1], pa.int64()), [2**53, 2**53 + 1]),
    "boolean": (pa.array([True, False, None, True]), ["false", "true"]),
    "date": (pa.array([MOMENT.date(), datetime.date(1969, 12, 31), None, MOMENT.date()]), ["1969-12-31", "2024-02-29"]),
    "long date": (
        pa.array([MOMENT.date(), datetime.date(1969, 12, 31), None, MOMENT.date()], pa.date64()),
        ["1969-12-31", "2024-02-29"],
    ),
    "decimal": (
        pa.array([Decimal("-1.50"), Decimal("2.25"), None, Decimal("-1.50")], pa.decimal128(9, 2)),
        ["2.25", "-1.5"],
    ),
    "timestamp": (
        pa.array([MOMENT, datetime.datetime(2024, 3, 1), None, MOMENT], pa.timestamp("s")),
        ["2024-03-01", str(MOMENT)],
    ),
    "nanoseconds": (
        pa.array([1_000_000_999, 1, None, 1_000_000_000], pa.timestamp("ns")),
        ["1970-01-01 00:00:00", "1970-01-01 00:00:01"],
    ),
    "zoned timestamp": (
        pa.array([MOMENT, datetime.datetime(2024, 3, 1), None, MOMENT], pa.timestamp("ms", "Europe/Berlin")),
        ["2024-03-01T00:00:00Z", "2024-03-01T00:30:00+01:00"],
    ),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories_of_every_type(project, kind):
    """Values are read as the column's type; a null is in no category. 30 units have the last one, 15 the first."""
    column, values = CATEGORIES[kind]
    assert column.null_count == 1
    repeated = pa.concat_arrays([column] * 15)
    project.write_events(per_user(list(range(60)), value=repeated))
    ask(project, "all", EVERYONE, [frequency("value", *values)])
    assert counts(project) == [15, 30]
    project.config["events"]["nulls"] = {"key": "keep", "value": "zero"}
    assert counts(project, "kept") == [15, 30]


def test_categories_of_text_files(project):
    """Of declared types, and text where none is declared."""
    rows = [("1" if user % 3 else "01", f"{user % 4 + 1}.2.2024", user % 4) for user in range(60)]
    write_csv(
        project, "user,all,code,day,whole", *(f"{user},x,{code},{day},{whole}" for user, (code, day, whole) in enumerate(rows))
    )
    project.config["events"] |= {"types": {"day": "date32", "whole": "int64"}, "csv": {"timestamps": "%d.%m.%Y"}}
    metrics = [
        frequency("code", "01", "2"),
        frequency("day", "2024-02-01", "2024-01-01", name="g"),
        frequency("whole", "01", "2", name="i"),
        histogram("whole", 0, 2, 3),
    ]
    ask(project, "all", EVERYONE, metrics)
    assert counts(project) == [20, 0, 15, 0, 15, 15, 30, 30]


def test_categories_of_lookups_and_periods(project):
    """Columns that the config makes are like those of the files."""
    pq.write_table(pa.table({"shop": ["ash", "birch"], "town": ["Bonn", "Trier"]}), "towns.parquet")
    project.config["events"] |= {
        "lookups": [{"file": "towns.parquet", "by": "shop", "columns": ["town"]}],
        "derive": {"day": {"truncate": "at", "to": "day", "timezone": "UTC"}},
    }
    first = datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC).date()
    ask(project, "shop", metrics=[frequency("town", "Bonn", "Trier"), frequency("day", str(first), name="g")])
    found = exact(project).set_index("shop")
    assert found.to_numpy().tolist() == [[240, 0, 4], [0, 240, 4], [0, 0, 4]]


@pytest.mark.parametrize(
    ("forms", "expected"), [([], [10, 0]), (["trim"], [20, 0]), (["casefold"], [20, 0]), (["trim", "casefold", "nfc"], [50, 10])]
)
def test_b6_categories_are_normalised_like_the_events(project, forms, expected):
    """The declared value and the events' are made one as declared, and not otherwise."""
    words = ["Köln", "köln ", "KO\u0308LN", "Köln ", "KÖLN", "Straße"]
    project.write_events(per_user(list(range(60)), word=[words[user % 6] for user in range(60)]))
    if forms:
        project.config["events"]["normalise"] = {"word": forms}
    ask(project, "all", EVERYONE, [frequency("word", "Köln", "STRASSE\u3000")])
    assert counts(project) == expected


def test_texts_that_are_no_text_are_in_no_category(project):
    """Bytes that are no UTF-8 neither end the run nor count."""
    words = strings([*NO_UTF8, b"web", b"WEB"])
    project.write_events(pa.table({"user": range(len(words)), "all": ["x"] * len(words), "word": words}))
    ask(project, "all", EVERYONE, [frequency("word", "web", "fax")])
    assert counts(project, "plain") == [1, 0]
    project.config["events"]["normalise"] = {"word": ["casefold"]}
    assert counts(project, "folded") == [2, 0]


@pytest.mark.parametrize(
    ("nulls", "expected"), [(None, [0, 20, 10]), ({"value": "zero"}, [30, 20, 10]), ({"value": "skip"}, [0, 20, 10])]
)
def test_n6_values_that_are_none_are_in_no_bin_or_in_that_of_0(project, nulls, expected):
    values = pa.array([None, float("nan"), float("inf"), 7.0, 7.0, 1e308] * 10)
    project.write_events(per_user(list(range(60)), value=values))
    if nulls:
        project.config["events"]["nulls"] = nulls
    ask(project, "all", EVERYONE, [histogram("value", -1, 5, 9, 10)])
    assert counts(project) == expected


@pytest.mark.parametrize("key", ["drop", "keep"])
def test_b5_a_null_key_has_bins_where_it_is_a_key(project, key):
    keys = ["a"] * 30 + [None] * 20 + [""] * 10
    project.write_events(pa.table({"user": range(60), "key": keys, "word": ["web", "app"] * 30}))
    project.config["events"]["nulls"] = {"key": key}
    ask(project, "key", metrics=[frequency("word", "web", "app")])
    exact(project)
    found = {row["key"]: (row["f_web"], row["f_app"]) for row in project.table("asked").to_pylist()}
    assert found == {"": (5, 5), "a": (15, 15)} | ({None: (10, 10)} if key == "keep" else {})


def test_rows_as_units(project):
    """Any 3 rows are protected: nothing is cut, and rows without a user count."""
    project.write_events(pa.table({"user": pa.nulls(500, pa.int64()), "all": ["x"] * 500, "price": np.arange(500) % 10 / 1.0}))
    project.config["events"]["privacy_unit"] = {"rows": 3}
    metrics = [histogram("price", 0, 3, 10), {"name": "n", "count": "events"}]
    project.config["releases"] = [{"name": "asked", "keys": {"columns": ["all"]}, "metrics": metrics}]
    assert counts(project) == [150, 350, 500]


# Columns, noise, intervals, schema.

COLUMNS = ["shop", "h_1", "h_2", "visits", "via_web_shop", "via_app", "g_1"]
METRICS = [
    histogram("price", 0, 5, 10),
    {"name": "visits", "count": "events"},
    frequency("channel", "Web Shop", "app", name="via"),
    histogram("quantity", 0, 3, name="g"),
]


def with_channel(table: pa.Table) -> pa.Table:
    """The base events, with a channel."""
    channels = ["Web Shop", "app", "phone", "web shop"]
    return table.append_column("channel", pa.array([channels[row % 4] for row in range(table.num_rows)], pa.string()))


@pytest.fixture
def binned(project):
    """The base project with two releases of all of `METRICS`: private, and public keys of which one has no event."""
    project.write_events(with_channel(project.base))
    project.release["metrics"] = METRICS
    listed = {"name": "listed", "keys": {"columns": ["shop"], "values": {"shop": ["none", "ash"]}}}
    project.config["releases"].append(project.release | listed)
    return project


def test_columns_are_those_of_the_config_in_its_order(binned):
    """h_1 .. of a histogram, f_<value> of a frequency, each with its interval next to it, all int64."""
    assert binned.run().status == 0
    expected = [("shop", pa.string())]
    expected += [(name + end, pa.int64()) for name in COLUMNS[1:] for end in ("", "_low", "_high")]
    for release, shops in (("by_shop", ["ash", "birch", "cedar"]), ("listed", ["ash", "none"])):
        table = binned.table(release)
        assert [(field.name, field.type) for field in table.schema] == expected
        assert table["shop"].to_pylist() == shops
        assert all(column.null_count == 0 for column in table.columns)


@pytest.mark.parametrize("rows", [0, 1])
def test_s5_inputs_without_events_have_the_same_schema(binned, rows):
    """No rows at all, or only one whose key is not selected; the public keys are all there, with noise. False failure: 1e-11."""
    binned.config["budget"]["delta"] = 1e-9
    assert binned.run(run_id="full").status == 0
    binned.write_events(with_channel(binned.base).slice(0, rows))
    assert binned.run(run_id="empty").status == 0
    for release, keys in (("by_shop", []), ("listed", ["ash", "none"])):
        empty = binned.table(release, "empty")
        assert empty.schema.equals(binned.table(release, "full").schema)
        assert empty["shop"].to_pylist() == keys
        assert len(binned.parts(release, "empty")) == 2


def test_s2_every_bin_of_every_published_key_has_noise(binned):
    """Also of public keys without data, and in bins without events, which are 0 exactly otherwise.

    At epsilon 1 the noise is above 50 events, so that any of 24 cells is the same in all of 8 runs has a probability below 1e-13.
    """
    binned.config["budget"]["epsilon"] = 1
    binned.release["metrics"] = [*METRICS, frequency("channel", "fax", "pigeon", name="old")]
    binned.release["keys"]["values"] = {"shop": ["ash", "birch", "none"]}
    drawn = []
    for number in range(8):
        assert binned.run(run_id=f"r{number}").status == 0
        drawn.append(binned.table(run_id=f"r{number}").to_pandas())
    names = [name for name in drawn[0] if name != "shop" and not name.endswith(("_low", "_high"))]
    values = np.array([frame[names].to_numpy() for frame in drawn])
    assert values.shape == (8, 3, 8)
    sigma = {stage["stage"]: stage["standard_deviation"] for stage in binned.manifest("r0")["plan"]["releases"]["by_shop"]}
    assert min(sigma.values()) > 50
    assert (np.ptp(values, axis=0) > 0).all()
    # No bin is the copy of another.
    flat = values.reshape(8, -1)
    assert len({tuple(column) for column in flat.T}) == flat.shape[1]
    # 192 draws with noise of the plan: all within 8 deviations of it, half of them beyond a tenth of one.
    truth = np.array([[120, 120, 240, 60, 60, 240, 0, 0]] * 2 + [[0] * 8])
    stages = [name if name in sigma else name.rpartition("_")[0].removesuffix("_web") for name in names]
    relative = np.abs(values - truth) / np.array([sigma[stage] for stage in stages])
    assert relative.max() < 8
    assert (relative > 0.1).mean() > 0.5


def test_intervals_are_those_of_the_plan(binned):
    """Low and high are as far from the value as the manifest says, rounded outwards."""
    binned.config["budget"]["epsilon"] = 2
    assert binned.run().status == 0
    reach = {stage["stage"]: stage["interval_95"] for stage in binned.manifest()["plan"]["releases"]["listed"]}
    table = binned.table("listed").to_pandas()
    for name in COLUMNS[1:]:
        width = reach[next(stage for stage in reach if name == stage or name.startswith(f"{stage}_"))]
        assert width > 10
        assert ((table[name] - table[f"{name}_low"] - width).abs() <= 1.5).all(), name
        assert ((table[f"{name}_high"] - table[name] - width).abs() <= 1.5).all(), name


def test_manifest_and_plan_name_the_stage(binned):
    """One stage for all bins of a metric, with the bound of a count."""
    path = str(binned.write_config())
    assert binned.run().status == 0
    planned = binned.main("plan", path, "--json").json["plan"]
    assert binned.manifest()["plan"] == planned
    for release, selection in (("by_shop", ["select"]), ("listed", [])):
        stages = planned["releases"][release]
        assert [stage["stage"] for stage in stages] == [*selection, "h", "visits", "via", "g"]
        bounds = {stage["stage"]: stage["bound"] for stage in stages}
        assert bounds["h"] == bounds["via"] == bounds["g"] == bounds["visits"] == pytest.approx(4 * 3**0.5)
        assert len({stage["share"] for stage in stages}) == 1
    shown = binned.main("plan", path).out
    assert all(re.search(rf"(?m)^ *{name} +1\d\.\d%", shown) for name in ("h", "via", "g")), shown
    resolved = binned.manifest()["config"]["releases"][0]["metrics"]
    assert [metric.get("histogram") or metric.get("frequency") for metric in resolved] == [
        {"of": "price", "bins": [0.0, 5.0, 10.0]},
        None,
        {"of": "channel", "values": ["Web Shop", "app"]},
        {"of": "quantity", "bins": [0.0, 3.0]},
    ]


def test_metrics_with_the_same_bins_are_drawn_once(project):
    """Then all of them show the same noise, with the share of both; categories in another order are other bins."""
    project.config["budget"]["epsilon"] = 1
    project.write_events(with_channel(project.base))
    values = ["app", "Web Shop"]
    metrics = [
        histogram("price", 0, 5, 10),
        histogram("price", 0.0, 5.0, 10.0, name="again") | {"share": 2},
        frequency("channel", *values),
        frequency("channel", *values, name="same"),
        frequency("channel", *reversed(values), name="turned"),
    ]
    ask(project, "shop", {"shop": ["ash", "birch", "none"]}, metrics)
    assert project.run().status == 0
    stages = project.manifest()["plan"]["releases"]["asked"]
    assert [(stage["stage"], round(stage["share"] * 6)) for stage in stages] == [("h+again", 3), ("f+same", 2), ("turned", 1)]
    table = project.table("asked").to_pandas()
    for one, other in (("h_1", "again_1"), ("h_2", "again_2"), ("f_app", "same_app"), ("f_web_shop", "same_web_shop")):
        assert (table[one] == table[other]).all()
    assert (table["f_app"] != table["turned_app"]).any()


def test_s1_which_keys_are_published_does_not_depend_on_bins(project):
    """One with many units is, although all of its events are in no bin; one with one unit is not, with 3,000 events in a bin.

    False failure: 1e-10.
    """
    quiet = per_user(list(range(60)), shop=["quiet"] * 60, word=["none"] * 60, price=[float("nan")] * 60)
    loud = per_user([99] * 3000, shop=["loud"] * 3000, word=["web"] * 3000, price=[1.0] * 3000)
    project.write_events(pa.concat_tables([quiet, loud]))
    project.config["budget"] = {"epsilon": 20, "delta": 1e-9}
    ask(project, "shop", metrics=[frequency("word", "web", "app"), histogram("price", 0, 2, 4)])
    for number in range(3):
        assert project.run(run_id=f"r{number}").status == 0
        table = project.table("asked", f"r{number}").to_pandas()
        assert table["shop"].tolist() == ["quiet"]
    assert abs(table["f_web"][0]) < 100


def test_s1_the_same_keys_as_without_bins(project):
    """At a huge epsilon, where nothing is left to chance."""
    names = [f"s{unit % 37}" for unit in range(300)]
    project.write_events(per_user(list(range(300)), shop=names, word=[("web", "app", None)[unit % 3] for unit in range(300)]))
    ask(project, "shop", metrics=[{"name": "n", "count": "events"}])
    plain = exact(project, "plain")
    ask(project, "shop", metrics=[frequency("word", "web")])
    only = exact(project, "only")
    assert len(plain) == 37
    assert only["shop"].tolist() == plain["shop"].tolist()
    assert (only["f_web"] > 0).sum() > 30


def test_s5_neighbours(project):
    """20 pairs with and without all events of one unit: nothing but noisy values and selected keys differs."""
    bounds = {"keys_per_unit": 2, "rows_per_key": 2}
    metrics = [histogram("price", 0, 5, 10), frequency("shop", "own", "ash"), frequency("quantity", "0", "5", name="g")]
    project.config["budget"] = {"epsilon": 8, "delta": 1e-2}
    project.config["releases"] = [
        {"name": "private", "keys": {"columns": ["shop"]}, "bounds": bounds, "metrics": metrics},
        {
            "name": "public",
            "keys": {"columns": ["shop"], "values": {"shop": ["birch", "absent", "own"]}},
            "bounds": bounds,
            "metrics": [*metrics, {"name": "visits", "count": "events"}],
        },
    ]
    selected = set()
    for number in range(20):
        write(project, base_rows())
        without = seen(project, f"w{number:03d}")
        write(project, [*base_rows(), *unit_rows(number)])
        with_unit = seen(project, f"u{number:03d}")
        for name, value in without.items():
            assert with_unit[name] == value, name
        selected |= {tuple(project.table("private", f"{kind}{number:03d}")["shop"].to_pylist()) for kind in "uw"}
    assert len(selected) > 1, "the selection never varied: the fixture shows nothing"


# Configs that are refused.

DECLARED: dict[str, tuple[dict[str, Any], str, str]] = {
    "edges that fall": (histogram("price", 5, 0, 9), "histogram.bins: [5.0, 0.0, 9.0] do not ascend", "write each edge once"),
    "an edge twice": (histogram("price", 0, 5, 5), "histogram.bins: [0.0, 5.0, 5.0] do not ascend", "write each edge once"),
    "two zeros": (histogram("price", -0.0, 0.0), "histogram.bins: [-0.0, 0.0] do not ascend", "write each edge once"),
    "a NaN": (histogram("price", 0, "nan", 9), "histogram.bins: [0.0, nan, 9.0] are not all finite", "write the inner ones"),
    "infinity": (histogram("price", 0, "inf"), "histogram.bins: [0.0, inf] are not all finite", "write the inner ones"),
    "more than a float": (
        histogram("price", 0, "1e400"),
        "histogram.bins: [0.0, inf] are not all finite",
        "write the inner ones",
    ),
    "one edge": (histogram("price", 0), "histogram.bins: 1 edges make no bins", "write 2 to 101"),
    "no edge": (histogram("price"), "histogram.bins: 0 edges make no bins", "write 2 to 101"),
    "102 edges": (histogram("price", *range(102)), "histogram.bins: 102 edges make too many bins", "write 2 to 101"),
    "an edge of text": (histogram("price", 0, "low"), "histogram.bins[1]: 'low' is no number", "write a number"),
    "no values": (frequency("channel"), "frequency.values: is empty", "list at least one"),
    "101 values": (frequency("channel", *range(101)), "frequency.values: has too many entries", "list fewer"),
    "two values of one column": (
        frequency("channel", "Web Shop", "web-shop"),
        "values: 'Web Shop' and 'web-shop' make the same column, .._web_shop",
        "list one of them",
    ),
    "a value twice": (frequency("channel", "web", "web"), "values: 'web' and 'web' make the same column", "list one of them"),
    "a letter twice": (frequency("channel", "a", "a"), "values: 'a' and 'a' make the same column", "list one of them"),
    "a value without letters": (
        frequency("channel", "app", "+"),
        "values: '+' makes no name of a column",
        "it needs a letter or digit",
    ),
    "an empty value": (frequency("channel", ""), "values: '' makes no name of a column", "it needs a letter or digit"),
}


@pytest.mark.parametrize("fault", DECLARED)
def test_s7_bins_that_are_none_are_refused_before_data_is_looked_for(project, fault):
    """One sentence: where, value, rule, cure; also by `plan`, which needs no data."""
    metric, said, cure = DECLARED[fault]
    (project.root / "events/a.parquet").unlink()
    ask(project, "shop", metrics=[metric])
    complaint = refused(project, status=2)
    kind = "histogram" if "histogram" in metric else "frequency"
    assert complaint.startswith(f"discreet: releases[0].metrics[0].{kind}"), complaint
    assert said in complaint
    assert cure in complaint.rpartition("; ")[2]
    assert project.main("plan", "config.yaml").complaint == complaint


@pytest.mark.parametrize("fault", ["edges that fall", "no values", "two values of one column"])
def test_the_place_is_one_of_the_config(project, fault):
    """The kind of the metric is in it once."""
    ask(project, "shop", metrics=[DECLARED[fault][0]])
    place = refused(project, status=2).removeprefix("discreet: ").partition(": ")[0]
    assert re.fullmatch(r"releases\[0\]\.metrics\[0\]\.(histogram\.bins|frequency(\.values)?)", place)


COLLISIONS = [
    ([histogram("price", 0, 5, 9), {"name": "h_1", "count": "events"}], "h_1"),
    ([histogram("price", 0, 5, 9), {"name": "h_2_low", "count": "events"}], "h_2_low"),
    ([frequency("channel", "Web Shop"), {"name": "f_web_shop", "sum": "price", "clip": [0, 1]}], "f_web_shop"),
    ([{"name": "f", "count": "events"}, frequency("channel", "low")], "f_low"),
    ([frequency("channel", "1"), histogram("price", 0, 1, name="f")], "f_1"),
    ([frequency("channel", "web", "web low")], "f_web_low"),
    ([histogram("price", 0, 5), histogram("price", 0, 9)], "h_1"),
    ([frequency("channel", "op", name="sh")], "sh_op"),
]


@pytest.mark.parametrize(("metrics", "column"), COLLISIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_columns_that_collide_are_refused(project, metrics, column):
    """With those of other metrics, with their intervals, with each other, with a key."""
    keys = "shop" if column != "sh_op" else "SH_OP"
    ask(project, keys, metrics=metrics)
    complaint = refused(project, status=2)
    assert f"releases[0]: two output columns are called '{column}'" in complaint
    assert complaint.endswith("; rename one")


@pytest.mark.parametrize(
    "others",
    [[frequency("quantity", "2", "3")], [histogram("price", 0, 5, 9, name="f")], [{"name": "f", "count": "events"}]],
    ids=["two frequencies", "frequency and histogram", "frequency and count"],
)
def test_metrics_of_one_name_are_refused(project, others):
    """Their columns differ, but not their stages, by whose names the noisy sums are found."""
    ask(project, "shop", metrics=[frequency("shop", "ash"), *others])
    assert "releases[0]: two metrics are called 'f'; rename one" in refused(project, status=2)


def test_values_that_a_column_cannot_hold_are_refused(project):
    """As with values of conditions: the sentence names the place, the value, the type."""
    for column, value, kind in (("quantity", "many", "int32"), ("quantity", "1.5", "int32"), ("at", "noon", "timestamp[us]")):
        ask(project, "shop", metrics=[frequency(column, value)])
        complaint = refused(project, status=2)
        assert f"releases[0].metrics[0].frequency.values: '{value}' cannot be read as {kind}" in complaint


@pytest.mark.parametrize(
    ("column", "values", "forms"),
    [
        ("quantity", ["1", "01"], None),
        ("at", ["2024-01-01", "2024-01-01 00:00:00"], None),
        ("shop", ["Straße", "STRASSE"], ["casefold"]),
        ("shop", ["Ko\u0308ln 1", "K\u00f6ln 1"], ["nfc"]),
    ],
    ids=["integers", "timestamps", "casefold", "nfc"],
)
def test_b6_two_values_that_are_the_same_are_refused(project, column, values, forms):
    """After they are read as the column's type and normalised; without that they are two."""
    if forms:
        project.config["events"]["normalise"] = {column: forms}
    ask(project, "shop", metrics=[frequency(column, *values)])
    complaint = refused(project, status=2)
    said = f"releases[0].metrics[0].frequency.values: two are the same value of column '{column}'; list each once"
    assert said in complaint
    if forms:
        del project.config["events"]["normalise"]
        assert project.run(run_id="plain").status == 0


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (frequency("price", "1"), "column 'price' is double, which has no exact values; write it as text or integer"),
        (histogram("shop", 0, 1), "column 'shop' is string, not a number; name a column of numbers"),
        (histogram("at", 0, 1), "column 'at' is timestamp[ms], not a number; name a column of numbers"),
        (histogram("absent", 0, 1), "has no column 'absent'; correct the name or the file"),
        (frequency("absent", "a"), "has no column 'absent'; correct the name or the file"),
    ],
    ids=["frequency of floats", "histogram of text", "histogram of timestamps", "no column", "no column of categories"],
)
def test_columns_that_do_not_fit_are_refused(project, metric, said):
    """As those of sums and keys: the files do not fit the config, status 4, and nothing is charged."""
    ask(project, "shop", metrics=[{"name": "n", "count": "events"}, metric])
    complaint = refused(project)
    assert "releases[0].metrics[1]: " in complaint
    assert said in complaint


# S3: nothing of the data in a message.


def canary_metrics(project: Any) -> None:
    project.release["metrics"] = [
        histogram("price", 0, 5, 10),
        frequency("shop", "ash", "birch"),
        frequency("quantity", "1", name="g"),
    ]


def test_s3_a_normal_run_with_bins(canary):
    """The canary's value is in a bin at the end, its category in none."""
    canary_metrics(canary)
    ended = canary.run()
    assert ended.status == 0, ended.err
    assert canary.table()["shop"].to_pylist() == ["ash", "birch", "cedar"]
    assert_nowhere(canary, ended)


@pytest.mark.parametrize("step", ["sum_by_unit.event_bins", "exchange.group_bins"])
@pytest.mark.parametrize("kind", [ValueError, KeyError, pa.ArrowInvalid])
def test_s3_a_fault_of_our_own_in_a_step_of_bins(canary, monkeypatch, step, kind):
    """Whatever it raises with data in its message: only its kind and place are told."""
    canary_metrics(canary)

    def faulty(*_: Any) -> Any:
        raise kind(f"{KEY} {VALUE}")

    monkeypatch.setattr(f"transforms.{step}", faulty)
    ended = canary.run()
    assert ended.status in (1, 4, 5)
    assert len(ended.complaint.splitlines()) == 1, ended.err
    assert_nowhere(canary, ended)
    canary.assert_nothing_published()


@pytest.mark.parametrize(
    ("metric", "status"),
    [
        (frequency("price", "1"), 4),
        (histogram("shop", 0, 1), 4),
        (frequency("absent", "1"), 4),
        (frequency("quantity", "many"), 2),
        (frequency("quantity", "1", "01"), 2),
    ],
    ids=["floats", "text", "no column", "no integer", "one value"],
)
def test_s3_columns_and_values_that_do_not_fit(canary, metric, status):
    """Messages hold what the config says, never what the files do."""
    canary.release["metrics"] = [metric]
    ended = canary.run()
    assert ended.status == status, ended.err
    assert_nowhere(canary, ended)


def test_s4_a_poisoned_row_changes_nothing_but_numbers(binned):
    """Values at the ends of their types, odd texts: the same status, the same keys, the same schema."""
    table = with_channel(binned.base)
    assert binned.run(run_id="clean").status == 0
    texts = ["", "\0", "Web Shop\0", "\U0010ffff" * 1000, None]
    rows = {
        "user": [999] * 5,
        "shop": ["ash"] * 5,
        "price": [float("nan"), float("inf"), -1e308, 5e-324, None],
        "quantity": [2**31 - 1, -(2**31), 0, None, 3],
        "at": [None] * 5,
        "channel": random.sample(texts, 5),
    }
    binned.write_events(pa.concat_tables([table, pa.Table.from_pydict(rows, table.schema)]))
    ended = binned.run(run_id="poisoned")
    assert ended.status == 0, ended.complaint
    for release in ("by_shop", "listed"):
        clean, poisoned = binned.table(release, "clean"), binned.table(release, "poisoned")
        assert poisoned.schema.equals(clean.schema)
        assert poisoned["shop"].equals(clean["shop"])
