"""N4, N6, N7, B1: taking one unit away changes each stage by at most its norm, exactly, whatever the unit brings."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.transforms import harness, world
from transforms.release_keys import release_keys

ALL_METRICS = """[
    {name: purchases, count: events}, {name: people, count: units},
    {name: total, sum: value, clip: [-20, 10]}, {name: average, mean: value, clip: [-3, 11]},
    {name: spread, variance: value, clip: [-3, 11]}, {name: root, stddev: value, clip: [-18, 12]}]"""
COUNT = "average.count+spread.count+root.count"
"""The stage of all counts of values."""
RELEASE = (
    "{name: NAME, keys: {columns: [key]}, bounds: {keys_per_unit: 4, rows_per_key: 3}, select: {cap: CAP}, metrics: METRICS}"
)


def release(name, cap):
    """A release with every kind of metric."""
    return RELEASE.replace("NAME", name).replace("CAP", str(cap)).replace("METRICS", ALL_METRICS)


def sums_of(setup, events, batches=3):
    """The named sums of each release."""
    return harness.all_named(harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), batches)), setup)


def check_unit(setup, events, mine):
    """Takes the rows of `mine` away. Returns for each release and stage how much of the norm the unit used, squared."""
    with_unit, without = sums_of(setup, events), sums_of(setup, events.filter(pc.invert(mine)))
    alone = sums_of(setup, events.filter(mine), 2)
    used = {}
    for item in setup.releases:
        name, stages = item.plan.name, item.plan.stages
        changes = harness.squared_changes(without[name], with_unit[name], len(stages))
        assert changes == harness.squared_changes({}, alone[name], len(stages))
        for stage, change in zip(stages, changes, strict=True):
            assert change <= stage.norm**2, (name, stage.name)
            used[name, stage.name] = change / stage.norm**2
    return used


def people(events):
    """The units by how many rows they have, most first."""
    counts = events.group_by(["person", "tenant"]).aggregate([([], "count_all")])
    return [row for row in counts.sort_by([("count_all", "descending")]).to_pylist() if row["person"] and row["tenant"]]


@pytest.mark.parametrize("place", [0, 1, 2, 3, 10, 40, 100, -1])
def test_n4_removing_one_unit_changes_each_stage_by_at_most_its_norm(world_setup, place):
    setup, events = world_setup
    unit = people(events)[place]
    mine = pc.and_(
        pc.fill_null(pc.equal(events["person"], unit["person"]), False),
        pc.fill_null(pc.equal(events["tenant"], unit["tenant"]), False),
    )
    assert pc.sum(mine).as_py() == unit["count_all"]
    used = check_unit(setup, events, mine)
    if 0 <= place < 3:  # whales reach the norms, so that they are what limits them
        assert min(used["departments", stage] for stage in ("select", "purchases", "people", "price.count")) > 0.99
        assert used["sizes", "pieces"] > 0.99


def crowd(units=200, keys=10_000):
    """Some ordinary units with a few keys each."""
    draw = np.random.default_rng(0)
    rows = units * 5
    return {
        "unit": np.repeat(np.arange(units), 5),
        "key": draw.integers(0, keys, rows),
        "value": draw.uniform(-5, 15, rows),
    }


def crowd_and(unit_rows):
    """The crowd's events, and those of unit -1."""
    rows = len(unit_rows["key"])
    mine = {"unit": np.full(rows, -1)} | unit_rows
    columns = crowd()
    return pa.table({name: np.concatenate([columns[name], np.asarray(mine[name])]) for name in columns})


def with_outlier(root, unit_rows, *releases):
    """A setup with the crowd and unit -1, its events, and which are the unit's."""
    setup = harness.set_up(world.simple(root, crowd_and(unit_rows), *releases))
    events = harness.read_all(setup)
    mine = pc.equal(events["unit"], -1)
    assert pc.sum(mine).as_py() == len(unit_rows["key"])
    assert len(crowd()["unit"]) == events.num_rows - len(unit_rows["key"]) == 1000
    return setup, events, mine


def test_n6_a_unit_with_nan_infinities_and_huge_values_stays_within_the_bound(tmp_path):
    bad = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, np.finfo(float).max, 5e-324, -0.0, 1e300])
    rows = {"key": np.arange(900) % 40, "value": np.tile(bad, 100)}
    used = check_unit(*with_outlier(tmp_path, rows, release("one", 1024), release("two", 8)))
    assert min(used["one", stage] for stage in ("select", "purchases", "people", "total", COUNT)) > 0.99


def test_n6_no_nan_and_no_infinity_comes_out(tmp_path):
    """Also where half of a key's values are unusable, and where all of them are."""
    bad = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308])
    rows = {"key": np.arange(20_000, 20_100).repeat(5), "value": np.tile(bad, 100)}
    setup, events, _ = with_outlier(tmp_path, rows, release("one", 1024).replace("keys_per_unit: 4", "keys_per_unit: 1000"))
    item = setup.releases[0]
    selection = replace(item.plan.selection, threshold=-(2**62))
    item = replace(item, plan=replace(item.plan, selection=selection))
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 2), 2, 1)
    for _ in range(10):
        released = release_keys(tables["sums:0"][0], tables["names:0"][0], item, setup.inputs.value_types).to_pandas()
        assert len(released) > 900
        assert set(range(20_000, 20_100)) <= set(released["key"])
        assert np.isfinite(released.to_numpy(np.float64)).all()
        assert released["average"].between(-3, 11).all()
        assert released["spread"].between(0, 7**2).all()
        assert released["root"].between(0, 15).all()
        for name in ("average", "spread", "root"):
            assert (released[f"{name}_low"] <= released[name]).all()
            assert (released[name] <= released[f"{name}_high"]).all()


def test_n6_a_key_with_unusable_values_only_adds_nothing_but_its_events(tmp_path):
    rows = {"key": np.full(4, 77_777), "value": np.array([np.nan, np.inf, -np.inf, np.nan])}
    setup, events, _ = with_outlier(tmp_path, rows, release("one", 1024))
    stages = [stage.name for stage in setup.plan.releases[0].stages]
    added = dict(zip(stages, sums_of(setup, events)["one"][(77_777,)], strict=True))
    nothing = {"total", "average.sum+spread.sum", "spread.squares", "root.squares", "root.sum", COUNT}
    assert {name for name, value in added.items() if value == 0} == nothing


@pytest.mark.parametrize("keys", [1, 7])
def test_n7_a_unit_with_a_million_rows_at_a_billion_stays_within_the_bound(tmp_path, keys):
    rows = {"key": np.arange(10**6) % keys, "value": np.full(10**6, 1e9)}
    used = check_unit(*with_outlier(tmp_path, rows, release("one", 1024)))
    # The whole norm is used: 10 a row, 3 rows a key, 4 keys; the values are clipped before they are summed.
    assert min(used["one", stage] for stage in ("purchases", "total", COUNT)) > 0.99
    # All values are at the clip's end, where the squares are the largest.
    assert min(used["one", stage] for stage in ("average.sum+spread.sum", "spread.squares", "root.squares", "root.sum")) > 0.99


def test_n7_the_clip_comes_before_the_sum(tmp_path):
    """A hundred rows at 1e9 and one at -1e9 in one key add up to 990 - 20 and not to 10."""
    events = pa.table({"unit": [1] * 101, "key": [5] * 101, "value": [1e9] * 100 + [-1e9]})
    free = release("one", 1024).replace("rows_per_key: 3", "rows_per_key: 1000")
    setup = harness.set_up(world.simple(tmp_path, events, free))
    stage = setup.plan.releases[0].vectors[2]
    assert stage.name == "total"
    total = sums_of(setup, harness.read_all(setup))["one"][(5,)][3]
    assert total * stage.grid.step == pytest.approx(980, rel=1e-6)


@pytest.mark.parametrize("cap", [1, 16, 1024, 65536])
def test_b1_a_unit_in_ten_thousand_keys_stays_within_the_bound(tmp_path, cap):
    rows = {"key": np.arange(10_000), "value": np.linspace(-30, 30, 10_000)}
    setup, events, mine = with_outlier(tmp_path, rows, release("one", cap))
    assert len(set(crowd()["key"]) & set(rows["key"])) > 900  # it shares its keys with others
    used = check_unit(setup, events, mine)
    assert used["one", "select"] > 0.99
    assert used["one", "people"] > 0.99 or cap < 4
    assert used["one", "purchases"] > 0.99 or cap < 3 * 3 * 4


@pytest.mark.parametrize("cap", [1, 16, 1024])
def test_b1_exactly_cap_keys_are_kept_the_same_for_every_split(tmp_path, cap):
    rows = {"key": np.arange(10_000), "value": np.ones(10_000)}
    setup, events, mine = with_outlier(tmp_path, rows, release("one", cap))
    alone = events.filter(mine)
    rank = harness.ranks(setup.releases[0], setup.secret, [(key,) for key in range(10_000)])
    smallest = set(sorted(rank, key=rank.__getitem__)[:cap])
    for batches, seed in ((1, 0), (8, 1), (64, 2)):
        order = np.random.default_rng(seed).permutation(alone.num_rows)
        tables = harness.run_twins(setup, harness.split(alone, order, batches))
        assert set(harness.all_named(tables, setup)["one"]) == smallest
