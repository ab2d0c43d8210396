"""The example configs over the sample data: each is complete, and what it publishes is close to the truth. Also the samples.

False-failure rate: about 500 values are each compared within 7.5 planned standard deviations, 1e-10 for all of this file.
"""

import csv
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipelines.config import load_config
from privacy.plan import make_plan

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
REACH = 7.5
LAPLACE_REACH = 16
"""In standard deviations; Laplace noise is beyond it in 1e-10 of draws."""

Truth = tuple[pd.Series, float]
"""A metric without privacy, by key, and the part of its total that bounds and clips may cut off."""


def write_sample(script: str, target: Path) -> str:
    """What a script of samples/ prints when it writes there."""
    command = [sys.executable, str(ROOT / "samples" / script), str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the sample data in data/grocery, where an older version without orders and survey was."""
    root = tmp_path_factory.mktemp("sample")
    data = root / "data/grocery"
    data.mkdir(parents=True)
    (data / "products.parquet").write_text("of an older version")
    assert "survey" in write_sample("grocery.py", data)
    return root


@pytest.fixture
def release(project: Any, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Runs an example over the sample data and returns the project that has its tables."""
    monkeypatch.chdir(sample)
    monkeypatch.setenv("DISCREET_LEDGER", f"sqlite:///{project.root}/.discreet/ledger.db")

    def run(name: str) -> Any:
        ended = project.main(
            "run", str(ROOT / f"configs/{name}.yaml"), "--run-id", "one", "--json", "--output", str(project.root / "out")
        )
        assert ended.status == 0, ended.complaint
        return project

    return run


def frame(query: str) -> pd.DataFrame:
    """The rows of a query; dates as in published tables."""
    with duckdb.connect() as connection:
        return connection.sql(query).to_arrow_table().to_pandas()


def deviations(project: Any, name: str) -> dict[str, float]:
    """Planned standard deviations by stage."""
    return {stage["stage"]: stage["standard_deviation"] for stage in project.manifest()["plan"]["releases"][name]}


def sure_keys(project: Any, name: str, events: pd.DataFrame, unit: list[str], keys: list[str]) -> set[Any]:
    """The private keys whose weight is so far above the threshold that they are published."""
    pairs = events[list(dict.fromkeys(unit + keys))].dropna().drop_duplicates()
    weights = (1 / np.sqrt(pairs.groupby(unit)[keys[0]].transform("size"))).groupby([pairs[key] for key in keys]).sum()
    stage = project.manifest()["plan"]["releases"][name][0]
    assert stage["stage"] == "select"
    return set(weights[weights >= stage["threshold"] + REACH * stage["standard_deviation"]].index)


def check(project: Any, name: str, keys: list[str], truths: Mapping[str, Truth], reach_of_noise: float = REACH) -> pd.DataFrame:
    """No value is above the truth, and no total below what bounds leave of it, but for the noise. Returns the table by key."""
    found = project.table(name).to_pandas().set_index(keys)
    for metric, (truth, lost) in truths.items():
        assert set(found.index) <= set(truth.index), metric
        exact, reach = truth.reindex(found.index), reach_of_noise * deviations(project, name)[metric]
        assert (found[metric] <= exact + reach + 1).all(), metric
        total, reach = exact.sum(), reach * len(found) ** 0.5 + len(found)
        assert reach < total / 4, "the noise hides what is compared"
        assert total * (1 - lost) - reach <= found[metric].sum() <= total + reach, metric
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_example_is_complete(path):
    """Editors find the schema, the plan is possible, and the output has the name of the example."""
    assert path.read_text(encoding="utf-8").splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    config = load_config(str(path), {})
    assert config.dataset
    assert config.output.path == f"out/{path.stem}"
    assert make_plan(config.budget, config.releases).stages


def test_every_example_is_tested_here():
    names = {"baskets", "grocery", "household_month", "orders", "prices", "seasons", "stores", "survey"}
    assert {path.stem for path in CONFIGS} == names


def test_the_sample_is_whole_and_written_once(sample):
    """Orders are the baskets of the purchases; survey and purchases are about the same households."""
    data = sample / "data/grocery"
    orders = frame(f"select count(*) as n, sum(items) as items, sum(paid::decimal(10, 2)) as paid from '{data}/orders.jsonl'")
    paid = "sum(cast(sales_value - coupon_disc as decimal(10, 2)))"
    baskets = frame(
        f"select count(distinct basket_id) as n, count(*) as items, {paid} as paid from '{data}/transactions/*.parquet'"
    )
    assert orders.to_dict("records") == baskets.to_dict("records")
    assert orders["n"][0] == 155_848
    survey = pd.read_csv(data / "survey.csv", sep=";", dtype=str)
    assert (len(survey), survey["respondent"].nunique(), survey["respondent"].min()) == (801, 801, "0001")
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert write_sample("grocery.py", data) == ""
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_survey(release, sample):
    """Nothing is cut off: every count of every possible answer is the truth and noise."""
    project = release("survey")
    answers = pd.read_csv(sample / "data/grocery/survey.csv", sep=";", dtype=str)
    for name, keys, rows in (("ages", ["age"], 6), ("incomes", ["income"], 12), ("children_by_age", ["age", "children"], 24)):
        truth = answers.groupby(keys).size()
        found = project.table(name).to_pandas().set_index(keys)["respondents"]
        assert len(found) == rows
        assert set(truth.index) <= set(found.index)
        reach = REACH * deviations(project, name)["respondents"] + 0.5
        assert reach < 30
        assert (found - truth.reindex(found.index, fill_value=0)).abs().max() <= reach
        assert abs(found.sum() - len(answers)) <= reach * rows**0.5


def test_orders(release, sample):
    """All full weeks, and the larger stores."""
    project = release("orders")
    columns = "{household_id: 'bigint', ordered_at: 'timestamptz', store_id: 'varchar', paid: 'double'}"
    orders = frame(
        "select household_id, store_id, greatest(paid, 0) as paid, "
        "cast(date_trunc('week', ordered_at at time zone 'America/New_York') as date) as week "
        f"from read_json('{sample}/data/grocery/orders.jsonl', columns = {columns})"
    )
    weeks, stores = orders.groupby("week"), orders.groupby("store_id")
    for name, metric, truth in (("weekly_orders", "orders", weeks.size()), ("weekly_revenue", "revenue", weeks["paid"].sum())):
        found = check(project, name, ["week"], {metric: (truth, 0.1)})
        sure = sure_keys(project, name, orders, ["household_id"], ["week"])
        assert len(sure) == 52, "of the first week there is one day only"
        assert sure <= set(found.index)
    found = check(project, "stores", ["store_id"], {"households": (stores["household_id"].nunique(), 0.15)})
    assert sure_keys(project, "stores", orders, ["household_id"], ["store_id"]) <= set(found.index)
    assert len(found) >= 20, "44 are expected, with a standard deviation of 3"


@pytest.fixture(scope="module")
def purchases(sample: Path) -> pd.DataFrame:
    """The purchases that both configs over them keep."""
    data = sample / "data/grocery"
    return frame(
        "select household_id, department, product_category, sales_value, "
        "cast(date_trunc('month', transaction_timestamp) as date) as month "
        f"from '{data}/transactions/*.parquet' join '{data}/products.parquet' using (product_id) "
        "where quantity > 0 and department <> 'FUEL'"
    )


def check_mean(project: Any, name: str, count: float, purchases: pd.DataFrame) -> None:
    """Mean prices by month are within a tenth of the truth and the noise, with at least so many purchases within bounds."""
    found = project.table(name).to_pandas().set_index("month")["average_price"]
    truth = purchases.groupby("month")["sales_value"].mean().reindex(found.index)
    sigma = deviations(project, name)
    # The mean is 7.5, the middle of the clip, plus a sum over a count; it is about 4.5 below the middle.
    reach = REACH * np.hypot(sigma["average_price.sum"], 5 * sigma["average_price.count"]) / count
    assert reach < 1.5
    assert ((found - truth).abs() <= 0.1 * truth + reach).all()


def test_household_month(release, purchases):
    """A unit is in one month only, so little is cut off and little noise is needed."""
    project = release("household_month")
    keys, unit = ["department", "month"], ["household_id", "month"]
    groups, months = purchases.groupby(keys), purchases.groupby("month")
    truths = {"households": (groups["household_id"].nunique(), 0.05), "revenue": (groups["sales_value"].sum(), 0.1)}
    found = check(project, "monthly_departments", keys, truths)
    sure = sure_keys(project, "monthly_departments", purchases, unit, keys)
    assert len(sure) > 60
    assert sure <= set(found.index)
    found = check(project, "months", ["month"], {"households": (months["household_id"].nunique(), 0)})
    assert len(found) == len(sure_keys(project, "months", purchases, unit, ["month"])) == 12
    check_mean(project, "months", 80_000, purchases)


def test_grocery(release, purchases):
    project = release("grocery")
    keys, unit = ["department", "month"], ["household_id"]
    groups = purchases.groupby(keys)
    revenue, households = groups["sales_value"].sum(), groups["household_id"].nunique()
    truths = {"purchases": (groups.size(), 0.3), "households": (households, 0.2), "revenue": (revenue, 0.12)}
    found = check(project, "monthly_departments", keys, truths)
    sure = sure_keys(project, "monthly_departments", purchases, unit, keys)
    assert len(sure) > 40
    assert sure <= set(found.index)
    groups = purchases.groupby("product_category")
    revenue, households = groups["sales_value"].sum(), groups["household_id"].nunique()
    check(project, "categories", ["product_category"], {"households": (households, 0.15), "revenue": (revenue, 0.15)})
    assert len(sure_keys(project, "months", purchases, unit, ["month"])) == project.table("months").num_rows == 12


def test_prices(release, sample):
    """Listed departments: bins and pieces are at most what they are, and the larger a department, the closer its mean price."""
    project = release("prices")
    data = sample / "data/grocery"
    purchases = frame(
        f"select department, sales_value, quantity from '{data}/transactions/*.parquet' "
        f"join '{data}/products.parquet' using (product_id) where quantity > 0"
    )
    found = project.table("prices").to_pandas().set_index("department")
    assert len(found) == 6
    purchases = purchases[purchases["department"].isin(found.index)]
    bins = np.clip(np.searchsorted([1, 2, 3, 5, 10], purchases["sales_value"], side="right") + 1, 1, 6)
    sigma = deviations(project, "prices")
    for prefix, groups, count in (("costing", bins, 6), ("pieces", purchases["quantity"], 4)):
        truth = purchases.groupby(["department", groups]).size().unstack(fill_value=0)
        for number in range(1, count + 1):
            assert (found[f"{prefix}_{number}"] <= truth[number] + REACH * sigma[prefix] + 1).all()
    counted = found[[f"costing_{number}" for number in range(1, 7)]].sum(axis=1)
    assert 0.35 * len(purchases) < counted.sum() < len(purchases)
    prices = purchases["sales_value"].clip(upper=10).groupby(purchases["department"])
    assert abs(found["average"]["GROCERY"] - prices.mean()["GROCERY"]) < 0.3
    assert abs(found["spread"]["GROCERY"] - prices.std(ddof=0)["GROCERY"]) < 0.5
    assert found["variance"].to_numpy() == pytest.approx(found["spread"].to_numpy() ** 2)


def test_baskets(release, sample):
    """Pairs within a household's basket, counted once each; the smaller value first."""
    project = release("baskets")
    data = sample / "data/grocery"
    items = (
        f"select distinct household_id, basket_id, COLUMN as item from '{data}/transactions/*.parquet' "
        f"join '{data}/products.parquet' using (product_id) "
        "where quantity > 0 and department in ('PRODUCE', 'MEAT', 'MEAT-PCKGD', 'DELI', 'PASTRY')"
    )
    for name, column, lost in (("categories", "product_category", 0.45), ("departments", "department", 0.15)):
        baskets = frame(
            f"with items as ({items.replace('COLUMN', column)}) "
            f"select household_id, a.item as {column}_1, b.item as {column}_2 from items a join items b "
            "using (household_id, basket_id) where a.item < b.item"
        )
        keys = [f"{column}_1", f"{column}_2"]
        groups = baskets.groupby(keys)
        truths = {"baskets": (groups.size(), lost)}
        if name == "categories":
            truths["households"] = (groups["household_id"].nunique(), 0.2)
        found = check(project, name, keys, truths)
        if name == "departments":
            assert len(found) == len(groups) == 10
        else:
            # What the cap leaves of a household with more pairs follows from chance: those are not counted on.
            pairs = baskets.drop_duplicates()
            whole = pairs[pairs.groupby("household_id")[keys[0]].transform("size") <= 400]
            assert len(whole) > 0.5 * len(pairs)
            sure = sure_keys(project, name, whole, ["household_id"], keys)
            assert len(sure) > 20
            assert sure <= set(found.index)
            assert len(found) > 150


def test_stores(release, sample):
    """All listed stores and no other, with Laplace noise; a household counts in full in one of them."""
    project = release("stores")
    bought = frame(f"select household_id, store_id, sales_value from '{sample}/data/grocery/transactions/*.parquet'")
    listed = bought[bought["store_id"].isin([381, 367, 343, 446, 372, 375, 380, 396, 292, 319])]
    groups = listed.groupby("store_id")
    truths = {
        "purchases": (groups.size(), 0.5),
        "households": (groups["household_id"].nunique(), 0.55),
        "takings": (groups["sales_value"].sum(), 0.7),
    }
    assert len(check(project, "stores", ["store_id"], truths, LAPLACE_REACH)) == 10
    plan = project.manifest("one")["plan"]
    assert (plan["delta"], plan["mu"]) == (0, 0)
    assert {stage["mechanism"] for stage in plan["releases"]["stores"]} == {"discrete Laplace"}


def test_seasons(release, sample):
    """Each category that is selected has all four quarters, and everything that many households buy is selected."""
    project = release("seasons")
    data = sample / "data/grocery"
    purchases = frame(
        "select household_id, product_category, sales_value, "
        "cast(date_trunc('quarter', transaction_timestamp) as date) as quarter "
        f"from '{data}/transactions/*.parquet' join '{data}/products.parquet' using (product_id) "
        "where quantity > 0 and department <> 'FUEL' and transaction_timestamp < '2018-01-01'"
    ).dropna()
    keys = ["product_category", "quarter"]
    groups = purchases.groupby(keys)
    every = pd.MultiIndex.from_product([purchases["product_category"].unique(), purchases["quarter"].unique()], names=keys)
    revenue, households = (
        truth.reindex(every, fill_value=0) for truth in (groups["sales_value"].sum(), groups["household_id"].nunique())
    )
    assert (households == 0).any()
    found = check(project, "seasons", keys, {"households": (households, 0.2), "revenue": (revenue, 0.25)})
    categories = found.index.get_level_values("product_category")
    assert set(categories.value_counts()) == {4}
    sure = sure_keys(project, "seasons", purchases, ["household_id"], ["product_category"])
    assert len(sure) > 80
    assert sure <= set(categories)


def test_the_shops_export_has_every_fault(tmp_path):
    """What is written is what the docstring of samples/shop_export.py says, and the same every time."""
    write_sample("shop_export.py", tmp_path / "shop.csv")
    write_sample("shop_export.py", tmp_path / "again.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "shop.csv"]
    text = (tmp_path / "shop.csv").read_bytes()
    assert text == (tmp_path / "again.csv").read_bytes()
    header, *lines, end = text.decode().split("\n")
    assert (len(lines) + 1, end) == (50_000, "")
    assert lines[-1].startswith("TOTAL;")
    short = [line for line in lines if line.count(";") < 7]
    unclosed = [line for line in lines if line.count('"') % 2]
    assert (len(short), len(unclosed), {*short} & {*unclosed}) == (7, 6, set())
    names, *rows = csv.reader([header, *(line for line in lines if line not in {*short, *unclosed})], delimiter=";", strict=True)
    assert {len(row) for row in rows} == {len(names)} == {8}
    column = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    ids = {customer.strip().casefold() for customer in column["customer"]} - {""}
    assert 2000 < len(ids) < len({*column["customer"]}) - 2000
    assert {"k0001", "K0001"} <= {*column["customer"]}
    assert {customer[:1] + customer[-1:] for customer in column["customer"]} > {" 1", "k1", "K1", "K ", "  "}
    assert 3000 < column["customer"].count("") < 4000
    assert 500 < column["customer"].count("  ") < 1500
    assert column["date"][-1] == "31/12/2024"
    assert 300 < column["amount"].count("NA") < 700
    assert all(amount == "NA" or amount[-3] == "," for amount in column["amount"])
    assert any(";" in product for product in column["product"])
    assert any('"' in product for product in column["product"])
    towns = {*column["store"]}
    composed = {unicodedata.normalize("NFC", town) for town in towns}
    assert (len(composed), len(towns), "Köln" in towns) == (8, 14, True)
