"""A whole run at a huge epsilon against plain pandas, within six planned standard deviations.

False-failure rate: about 2e-9 per value, 1e-6 for all values of this file.
"""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def frame() -> pd.DataFrame:
    """6,000 events of 500 units: nulls in every column, values beyond the clip, three months in New York."""
    dice = np.random.default_rng(8421)
    rows = 6000
    events = pd.DataFrame(
        {
            "user": dice.permutation(rows) % 500,
            "product": dice.integers(0, 5, rows),
            "price": np.round(dice.normal(5, 4, rows), 2),
            "quantity": dice.integers(-1, 6, rows),
            "at": pd.to_datetime(1_704_060_000 + dice.integers(0, 85 * 86_400, rows), unit="s"),
        }
    )
    for column, part in (("user", 0.01), ("product", 0.02), ("price", 0.05), ("quantity", 0.03), ("at", 0.01)):
        events[column] = events[column].mask(dice.random(rows) < part)
    events = events.astype({"user": "Int64", "product": "Int64", "quantity": "Int64"})
    events.loc[events.index[:40], "price"] = [np.inf, -np.inf, 1e300, -1e300] * 10
    return events


def reference(events: pd.DataFrame, products: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """What the release would be without privacy."""
    events = events.assign(month=events["at"].dt.tz_localize("UTC").dt.tz_convert("America/New_York").dt.strftime("%Y-%m-01"))
    events = events[events["quantity"] > 0].merge(products, on="product", how="left").dropna(subset=["user", *keys])
    price = events["price"].where(np.isfinite(events["price"])).clip(0, 10)
    grouped = events.assign(price=price).groupby(keys)
    return pd.DataFrame(
        {
            "events": grouped.size(),
            "units": grouped["user"].nunique(),
            "takings": grouped["price"].sum(),
            "priced": grouped["price"].count(),
            "items": grouped["quantity"].sum(),
            "var": grouped["price"].var(ddof=0),
            "std": grouped["price"].std(ddof=0),
        }
    ).reset_index()


def deviations(project: Any, release: str) -> dict[str, float]:
    """Planned standard deviations by part of a metric, as the manifest tells them; parts that share a stage have its name."""
    stages = project.manifest()["plan"]["releases"][release]
    return {name: stage["standard_deviation"] for stage in stages for name in stage["stage"].split("+")}


def compare(found: pd.DataFrame, truth: pd.DataFrame, keys: list[str], sigma: dict[str, float]) -> None:
    """Each value within six deviations of the truth; counts and integer sums to the nearest integer."""
    assert len(found) > 1
    both = found.merge(truth, on=keys, how="left", validate="one_to_one").fillna({"units": 0})
    assert both["events"].notna().all()
    for metric, exact, rounding in (("visits", "events", 0.5), ("people", "units", 0.5), ("sold", "items", 0.5)):
        assert (both[metric] - both[exact]).abs().max() <= 6 * sigma[metric] + rounding, metric
    reach = 6 * (sigma["average.sum"] + 5 * sigma["average.count"])
    assert (both["revenue"] - both["takings"]).abs().max() <= reach + 1e-6  # made from the average's two stages
    least = both["priced"] - 6 * sigma["average.count"]
    allowed = np.where(least > 0, reach / least.clip(1e-9) + 1e-6, 10)
    assert (allowed < 1).any()
    assert ((both["average"] - both["takings"] / both["priced"]).abs() <= allowed).all()
    off_middle = np.minimum(reach / least.clip(1e-9), 5)
    squared = 6 * (sigma["spread.squares"] + 12.5 * sigma["spread.count"]) / least.clip(1e-9)
    allowed = np.where(least > 0, squared + off_middle * (10 + off_middle) + 1e-6, 25)
    assert (allowed < 2).any()
    assert ((both["spread"] - both["var"]).abs() <= allowed).all()
    assert ((both["deviation"] - both["std"]).abs() * both["std"] <= allowed).all()
    assert both["deviation"].to_numpy() == pytest.approx(np.sqrt(both["spread"]).to_numpy(), rel=1e-12)  # one draw for both
    for metric in ("average", "spread", "deviation"):
        assert ((both[f"{metric}_low"] <= both[metric]) & (both[metric] <= both[f"{metric}_high"])).all()
    assert both["visits_again"].tolist() == both["visits"].tolist()
    assert ((both["visits_low"] <= both["visits"]) & (both["visits"] <= both["visits_high"])).all()


@pytest.mark.parametrize("epsilon", [1e4, 1e6])
def test_agrees_with_pandas(project, frame, epsilon):
    """Two releases, three files of several row groups, a lookup, a period and a condition; the selection keeps every key."""
    products = pd.DataFrame({"product": [0, 1, 2, 4], "kind": ["ale", "bread", "ale", "cheese"]})
    pq.write_table(pa.Table.from_pandas(products), "products.parquet")
    (project.root / "events/a.parquet").unlink()
    events = pa.Table.from_pandas(frame)
    events = events.set_column(4, "at", events["at"].cast(pa.timestamp("ms", "UTC")))
    for number in range(3):
        project.write_events(events.slice(number * 2000, 2000), f"events/{number}.parquet", row_group_size=500)
    metrics = [
        {"name": "visits", "count": "events"},
        {"name": "people", "count": "units", "share": 2},
        {"name": "revenue", "sum": "price", "clip": [0, 10]},
        {"name": "sold", "sum": "quantity", "clip": [0, 10]},
        {"name": "average", "mean": "price", "clip": [0, 10]},
        {"name": "spread", "variance": "price", "clip": [0, 10]},
        {"name": "deviation", "stddev": "price", "clip": [0, 10]},
        {"name": "visits_again", "count": "events"},
    ]
    bounds = {"keys_per_unit": 12, "rows_per_key": 12}  # of 12 keys at most, and 12 events of a unit: neither binds
    project.config["events"] |= {
        "lookups": [{"file": "products.parquet", "by": "product", "columns": ["kind"]}],
        "derive": {"month": {"truncate": "at", "to": "month", "timezone": "America/New_York"}},
        "where": [{"column": "quantity", "op": ">", "value": 0}],
    }
    project.config["budget"] = {"epsilon": epsilon, "delta": 1e-6}
    monthly = {"name": "monthly", "share": 3, "keys": {"columns": ["kind", "month"]}, "bounds": bounds, "metrics": metrics}
    product = monthly | {"name": "product", "share": 1, "keys": {"columns": ["product"]}}
    project.config["releases"] = [monthly, product]
    project.write_config()
    ended = project.main("run", "config.yaml", "--run-id", "one", "--json")
    assert ended.status == 0, ended.complaint
    assert all(pq.read_metadata(path).num_row_groups == 4 for path in (project.root / "events").iterdir())
    for name, keys in (("monthly", ["kind", "month"]), ("product", ["product"])):
        truth = reference(frame, products, keys)
        found = project.table(name).to_pandas()
        if "month" in keys:
            found["month"] = [date.isoformat() for date in found["month"]]
        several = truth[truth["units"] >= 5]
        assert len(several) >= 5
        merged = several.merge(found, on=keys, how="left")
        assert merged["visits"].notna().all(), merged.to_string()
        compare(found, truth, keys, deviations(project, name))


SPREAD = ("mean", "variance", "stddev")


def test_metrics_that_share_a_stage_share_its_draw(project, frame):
    """At a small epsilon, where two draws would hardly be equal: each sum is drawn once, as the plan counts it."""
    project.config["budget"]["epsilon"] = 1
    project.release["keys"]["values"] = {"shop": [f"s{number}" for number in range(400)]}
    clips = {"column": [0, 10], "wider": [0, 11]}
    project.release["metrics"] = [{"name": name, "count": "events"} for name in ("visits", "again")]
    project.release["metrics"] += [{"name": name, "sum": "price", "clip": clip} for name, clip in clips.items()]
    project.release["metrics"] += [{"name": f"{name}_{kind}", kind: "price", "clip": [0, 10]} for name in "ab" for kind in SPREAD]
    assert project.run().status == 0
    values = {name: column.to_numpy() for name, column in project.table().to_pandas().items()}
    for one, other in (("visits", "again"), *((f"a_{kind}", f"b_{kind}") for kind in SPREAD)):
        assert len(np.unique(values[one])) > 50
        for end in ("", "_low", "_high"):
            assert values[f"{one}{end}"].tolist() == values[f"{other}{end}"].tolist()
    assert values["a_stddev"] == pytest.approx(np.sqrt(values["a_variance"]), rel=1e-12)
    assert (values["column"] != values["wider"]).all()


def test_more_noise_at_a_small_epsilon(project, frame):
    """The counterpart: the same comparison fails where the noise is planned to be large."""
    project.config["budget"]["epsilon"] = 1
    project.release["keys"]["values"] = {"shop": [f"s{number}" for number in range(400)]}
    assert project.run().status == 0
    sigma = deviations(project, "by_shop")["visits"]
    values = project.table()["visits"].to_numpy()
    assert 0.7 * sigma < values.std() < 1.4 * sigma
    assert np.abs(values).max() > 1.5 * sigma


WHERE = [
    ("text", "=", "007", {"007"}),
    ("text", "=", "NO", {"NO"}),
    ("text", "in", ["7", "NO"], {"7", "NO"}),
    ("text", "not_in", ["007", "7"], {"NO"}),
    ("text", "<", "9", {"007", "7"}),
    ("text", "is_null", None, {None}),
    ("text", "not_null", None, {"007", "7", "NO"}),
    ("number", "=", "007", {"7"}),
    ("number", "!=", "7", {"007", "NO"}),
    ("number", "in", ["1", "2"], {"007", "NO"}),
    ("real", ">", "1e-6", {"7", "NO"}),
    ("real", "<=", "1e-6", {"007"}),
    ("flag", "=", "true", {"007", None}),
    ("flag", "=", "false", {"7", "NO"}),
    ("date", ">=", "2024-02-29", {"7", "NO"}),
    ("moment", "<", "2024-02-29 12:00:00", {"007"}),
    ("money", "=", "1.50", {"7"}),
]


@pytest.mark.parametrize(("column", "op", "value", "kept"), WHERE)
def test_conditions_read_values_as_the_columns_type(project, column, op, value, kept):
    """`007` is text for a column of texts, 7 for one of numbers; a null fulfils only is_null."""
    texts: list[str | None] = ["007", "7", "NO", None]
    rows = {
        "text": pa.array(texts),
        "number": pa.array([1, 7, 2, None], pa.int16()),
        "real": [1e-6, 1.0, 2.0, None],
        "flag": [True, False, False, True],
        "date": [datetime.date(2024, 2, 28), datetime.date(2024, 2, 29), datetime.date(2025, 1, 1), None],
        "moment": pa.array([1_709_208_000 - 1, 1_709_208_000, 1_709_208_000, None], pa.timestamp("s")),
        "money": pa.array(["1.49", "1.50", "1.51", None]).cast(pa.decimal128(9, 2)),
        "shop": pa.array(["007", "7", "NO", "none"]),
    }
    table = pa.table(rows)
    repeated = pa.concat_tables([table] * 50)
    project.write_events(repeated.append_column("user", pa.array([row // 4 for row in range(200)])))
    condition = {"column": column, "op": op} | ({} if value is None else {"value": value})
    project.config["events"]["where"] = [condition]
    project.release["metrics"] = project.release["metrics"][:1]
    ended = project.run()
    assert ended.status == 0, ended.complaint
    assert set(project.table()["shop"].to_pylist()) == {"none" if key is None else key for key in kept}
