"""The sums below the noise equal the reference to the integer: the real graph, all kinds of columns and bad values."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipelines.graph import Sharding
from tests.transforms import harness, reference, world

BATCH_ROWS = 500
TREES = {tree["name"]: tree for tree in world.tree_of(world.CONFIG)["releases"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def setup(root):
    """The world in parts and batches of a few hundred rows, so that small files make many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.files.BATCH_ROWS", BATCH_ROWS)
        patch.setattr("transforms.read_events.BATCH_ROWS", BATCH_ROWS)
        yield harness.set_up(world.write(root))


@pytest.fixture(scope="module")
def rows(setup, root):
    return world.reference_rows(root)


def listed(tree) -> set | None:
    """The public keys of a release."""
    return {(shop,) for shop in tree["keys"]["values"]["shop"]} if "values" in tree["keys"] else None


def rows_by_unit(rows, name):
    """The rows of each unit and key of a release, before the cap."""
    return reference.rows_by_unit(rows, world.UNIT, TREES[name], listed(TREES[name]))


@pytest.fixture(scope="module")
def expected(setup, rows):
    """The reference's sums of each release."""
    sums = {}
    for release in setup.releases:
        tree = TREES[release.plan.name]
        keys = {tuple(row[column] for column in tree["keys"]["columns"]) for row in rows}
        rank = harness.ranks(release, setup.secret, [key for key in keys if None not in key])
        sums[tree["name"]] = reference.bounded_sums(rows, world.UNIT, tree, rank.__getitem__, listed(tree))
    return sums


def test_the_world_is_large_and_awkward_enough(setup, rows):
    files = Counter(part.path for part in setup.inputs.parts)
    assert len(files) == 3
    assert min(files.values()) >= 3
    assert len(rows) > 5000
    for column in (
        "person",
        "tenant",
        "product",
        "at",
        "shop",
        "size",
        "level",
        "day",
        "amount",
        "fee",
        "stock",
        "department",
        "month",
    ):
        assert any(row[column] is None for row in rows), column
    assert any(row["person"] == "" for row in rows)
    assert {repr(row["amount"]) for row in rows} >= {"nan", "inf", "-inf", "1e+308", "-1e+308"}
    assert max(row["quantity"] for row in rows) == 2**63 - 1
    assert max(row["stock"] or 0 for row in rows) == 2**64 - 1
    # Half of the events lie within 5 hours of a month's edge: the zone decides.
    assert sum(row["at"] is not None and row["at"].date().replace(day=1) != row["month"] for row in rows) > 100


@pytest.mark.parametrize("name", TREES)
def test_the_world_has_units_over_every_bound(rows, name):
    stages = reference.stages_of(TREES[name])
    units = rows_by_unit(rows, name)
    assert len(units) > 100
    sizes = [len(keys) for keys in units.values()]
    cap = TREES[name].get("select", {}).get("cap", 1024)
    if name == "departments":
        assert sum(size > cap for size in sizes) >= 10
        assert sum(size <= cap for size in sizes) >= 10
    assert max(sizes) > TREES[name]["bounds"]["keys_per_unit"]
    for stage in stages:
        lengths = [harness.squared(stage.of(keys).values()) for keys in units.values()]
        reached = sum(length > 0.99 * stage.norm**2 for length in lengths)
        # Sums around a middle are cut by their counts, a stage of its own; every unit uses its whole weight for the selection.
        assert reached >= 5 or stage.what[0] in ("sum", "squares"), stage.name
        assert len(lengths) - reached >= 5 or stage.name == "select", stage.name


@pytest.mark.parametrize("name", TREES)
def test_the_reference_has_the_norms_of_the_plan(setup, name):
    plan = next(release.plan for release in setup.releases if release.plan.name == name)
    assert [(stage.name, stage.norm) for stage in reference.stages_of(TREES[name])] == [(s.name, s.norm) for s in plan.stages]


def test_equal_stages_are_one_in_the_reference():
    """And all others are not: what the release of spreads shares, by hand. Its sums are made from what a mean needs."""
    names = [stage.name for stage in reference.stages_of(TREES["spreads"])]
    assert names == [
        "select",
        "price.sum+revenue.sum+spread.sum+deviation.sum+turnover.sum",
        "price.count+revenue.count+spread.count+deviation.count+wide.count+turnover.count",
        "spread.squares+deviation.squares",
        "wide.squares",
        "wide.sum",
        "fees.squares",
        "fees.sum",
        "fees.count",
        "pieces.squares",
        "pieces.sum+level.sum",
        "pieces.count+level.count",
    ]


SHARDINGS = {
    "1 worker, by reference": (Sharding(unit_shards=1, key_shards=1, by_reference=True), 1),
    "2 workers, by reference": (Sharding(unit_shards=5, key_shards=3, by_reference=True), 2),
    "2 workers, by value": (Sharding(unit_shards=4, key_shards=4, by_reference=False), 2),
}


@pytest.mark.parametrize("how", SHARDINGS)
def test_n4_the_graphs_sums_equal_the_reference(setup, expected, tmp_path, how):
    sharding, workers = SHARDINGS[how]
    tables, files = harness.run_beam(setup, tmp_path, sharding, workers)
    if sharding.by_reference:
        assert files > len(setup.inputs.parts) + sharding.unit_shards
    found = harness.all_named(tables, setup)
    for name, sums in expected.items():
        assert len(sums) > (2 if listed(TREES[name]) else 30)
        assert found[name] == sums, name


def test_n4_the_pure_functions_sums_equal_the_reference(setup, expected):
    events = harness.read_all(setup)
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 7))
    assert harness.all_named(tables, setup) == expected


def test_every_public_key_is_named_even_without_events(setup):
    events = harness.read_all(setup)
    release = setup.releases[2]
    for batches in (harness.split(events, np.arange(events.num_rows), 3), harness.split(events, np.arange(0), 2)):
        tables = harness.run_twins(setup, batches)
        names = list(harness.names_of(tables, release).values())
        assert sorted(names) == sorted(listed(TREES["shops"]))


def test_keys_that_are_not_listed_leave_no_name_and_no_sum(setup, rows):
    assert {row["shop"] for row in rows} > {"elsewhere", "North"}
    events = harness.read_all(setup)
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 3))
    shops = {table.field("column_0").name: table["column_0"].to_pylist() for table in tables["names:2"]}
    assert not {"elsewhere", "North"} & {shop for found in shops.values() for shop in found}
    assert set(harness.named_sums(tables, setup.releases[2])) <= listed(TREES["shops"]) - {("nowhere",)}
