"""Any k rows as the privacy unit: below the noise are plain sums, and any k rows change each stage by at most its norm."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.graph import Sharding
from tests.transforms import harness, world
from tests.transforms.reference import Limits, clipped, spread_stages, steps, usable
from transforms.read_events import read_text_part

TOTAL, AVERAGE = (-20.0, 10.0), (-3.0, 11.0)
METRICS = (
    "metrics: [{name: purchases, count: events}, {name: total, sum: value, clip: [-20, 10]}, "
    "{name: average, mean: value, clip: [-3, 11]}, {name: spread, variance: value, clip: [-3, 11]}]}"
)
AVERAGE_SUM, COUNT = "average.sum+spread.sum", "average.count+spread.count"
"""Two stages that the mean and the variance share."""
RELEASES = (
    "{name: private, keys: {columns: [key]}, " + METRICS,
    "{name: public, keys: {columns: [key, text], values: {key: ['1', '2', '999'], text: [a, '', nobody]}}, " + METRICS,
)
AWKWARD = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -0.0]


def events(rows=3000, seed=0):
    """Many rows alike, some with nulls, a few keys with most of them, values far beyond the clips and values that are none."""
    draw = np.random.default_rng(seed)
    values = np.where(draw.random(rows) < 0.1, draw.choice(AWKWARD, rows), draw.integers(-30, 30, rows) / 2)
    return pa.table(
        {
            "user": pa.array(draw.integers(0, 3, rows), mask=draw.random(rows) < 0.5),
            "key": pa.array(np.minimum(draw.zipf(1.3, rows), 400), mask=draw.random(rows) < 0.05),
            "text": [draw.choice(["a", "", "b", None]) for _ in range(rows)],
            "value": pa.array(values, mask=draw.random(rows) < 0.05),
        }
    )


def set_up(root, rows, table=None):
    """A setup that protects so many rows, and its events."""
    setup = harness.set_up(world.simple(root, events() if table is None else table, *RELEASES, unit=f"{{rows: {rows}}}"))
    assert (setup.inputs.unit.columns, setup.plan.rows) == ((), rows)
    return setup, harness.read_all(setup)


def sums_of(setup, table, batches=3):
    """The named sums of each release."""
    return harness.all_named(harness.run_twins(setup, harness.split(table, np.arange(table.num_rows), batches)), setup)


def plain_sums(setup, table):
    """The same in Python, a row at a time: every row adds its clipped values, in steps of the stages' grids, to its key."""
    found = {}
    for release in setup.releases:
        planned = release.plan
        grids = {stage.name: stage.grid.exponent for stage in planned.stages}
        columns = [] if release.public is None else [column.to_pylist() for column in release.public.load()]
        listed = set(zip(*columns, strict=True)) if columns else None
        middle = AVERAGE[0] / 2 + AVERAGE[1] / 2
        squares = spread_stages("", "value", AVERAGE, Limits(1, setup.plan.rows))[0]
        sums = found.setdefault(planned.name, {})
        for row in table.to_pylist():
            key = tuple(row[column] for column in release.key_columns)
            if None in key or (listed is not None and key not in listed):
                continue
            counts = usable(row["value"])
            amounts = {
                "select": math.floor(2**29 / setup.plan.rows),
                "purchases": steps(1.0, grids["purchases"]),
                "total": steps(clipped(row["value"], TOTAL), grids["total"]) if counts else 0,
                AVERAGE_SUM: steps(clipped(row["value"], AVERAGE) - middle, grids[AVERAGE_SUM]) if counts else 0,
                COUNT: steps(float(counts), grids[COUNT]),
                "spread.squares": squares.of({key: [row]})[key],
            }
            before = sums.get(key, (0,) * len(planned.stages))
            sums[key] = tuple(old + amounts[stage.name] for old, stage in zip(before, planned.stages, strict=True))
    return found


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_sums_are_the_plain_sums_of_clipped_values(tmp_path, rows):
    """No row is left out for what else is there: neither its user's other rows, nor rows alike, nor a null outside of the key."""
    setup, table = set_up(tmp_path, rows)
    expected = plain_sums(setup, table)
    assert len(expected["private"]) > 50
    assert set(expected["public"]) == {(key, text) for key in (1, 2) for text in ("a", "")}
    alike = table.group_by(["key", "text", "value"]).aggregate([([], "count_all")])["count_all"]
    assert pc.max(alike).as_py() > 10
    assert sums_of(setup, table) == expected


def used(setup, table, removed):
    """Takes some rows away. For each release and stage, how much of its norm they used, which is at most 1."""
    mask = np.zeros(table.num_rows, np.bool_)
    mask[removed] = True
    assert mask.sum() == len(removed) > 0
    before, after = sums_of(setup, table.filter(~mask)), sums_of(setup, table)
    found = {}
    for release in setup.releases:
        name, stages = release.plan.name, release.plan.stages
        changes = harness.squared_changes(before[name], after[name], len(stages))
        found |= {(name, stage.name): (change, stage.norm**2) for stage, change in zip(stages, changes, strict=True)}
    return found


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_n4_any_k_rows_change_each_stage_by_at_most_its_norm(tmp_path, rows, seed):
    """Rows drawn at random, of any users and keys: exactly, in integers. So do fewer."""
    setup, table = set_up(tmp_path, rows)
    order = np.random.default_rng(seed).permutation(table.num_rows)
    for count in {rows, max(rows - 1, 1)}:
        found = used(setup, table, order[:count])
        assert max(change for change, _ in found.values()) > 0
        assert all(change <= limit for change, limit in found.values())


def extreme(table, key, value, rows):
    """The table with so many further rows of one key and value, and where they stand."""
    more = {"user": [None] * rows, "key": [key] * rows, "text": ["a"] * rows, "value": [value] * rows}
    start = table.num_rows // 2
    middle = pa.Table.from_pydict(more, table.schema)
    return pa.concat_tables([table[:start], middle, table[start:]]), np.arange(start, start + rows)


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
@pytest.mark.parametrize("value", [1e308, -1e308])
def test_n6_n7_k_rows_of_one_key_with_the_largest_values_reach_the_norm_and_not_more(tmp_path, rows, value):
    """The worst that k rows can bring: all in one key, all beyond the clips. One row more is beyond the norm."""
    setup, _ = set_up(tmp_path, rows)
    for count in (rows, rows + 1):
        table, mine = extreme(events(), 1, value, count)
        for (_, stage), (change, limit) in used(setup, table, mine).items():
            if stage == "select":
                assert change <= limit if count == rows else change > limit
            else:
                part = 4 if stage == "total" and value > 0 else 1  # the clip is [-20, 10]
                assert part * change * rows**2 == limit * count**2, stage


@pytest.mark.parametrize("rows", [2, 7, 1000])
def test_s2_b1_k_rows_in_as_many_keys_of_their_own_stay_within_the_norm(tmp_path, rows):
    """No cap holds them: each shows in its key, and all together are within the norm."""
    table, mine = extreme(events(), 1, 1e308, rows)
    keys = np.array(table["key"].fill_null(0).to_pylist())
    keys[mine] = 10**6 + np.arange(rows)
    table = table.set_column(1, "key", pa.array(keys, mask=keys == 0))
    setup, table = set_up(tmp_path, rows, table)
    assert sum(key >= 10**6 for (key,) in sums_of(setup, table)["private"]) == rows
    assert all(change <= limit for change, limit in used(setup, table, mine).values())


@pytest.mark.parametrize("seed", range(6))
def test_n4_batches_shards_and_order_do_not_matter(tmp_path, seed):
    """Also where many batches hold rows alike: a row is known by its place, so none is taken for another."""
    setup, table = set_up(tmp_path, 1)
    expected = sums_of(setup, table, 1)
    order = np.random.default_rng(seed).permutation(table.num_rows)
    for batches in (1, 8, 64):
        parts = harness.split(table, order, batches)
        assert sum(part.num_rows for part in parts) == table.num_rows
        tables = harness.run_twins(setup, parts, 1 + seed, 1 + seed % 3, tmp_path if seed % 2 else None)
        assert harness.all_named(tables, setup) == expected


@pytest.mark.parametrize(
    ("row_groups", "sharding", "workers"),
    [(6, Sharding(4, 2, True), 2), (1, Sharding(3, 3, False), 1), (40, Sharding(9, 5, True), 2)],
)
def test_n4_through_beam(tmp_path, monkeypatch, row_groups, sharding, workers):
    """Parts and batches of a real graph give the plain sums as well, for one row and for three."""
    size = math.ceil(events().num_rows / row_groups)
    monkeypatch.setattr("pipelines.files.BATCH_ROWS", size)
    monkeypatch.setattr("transforms.read_events.BATCH_ROWS", size // 2)
    for rows in (1, 3):
        text = world.simple(tmp_path / "data", events(), *RELEASES, unit=f"{{rows: {rows}}}")
        world.pq.write_table(events(), tmp_path / "data/simple.parquet", row_group_size=size)
        setup = harness.set_up(text)
        assert len(setup.inputs.parts) == row_groups
        tables, _ = harness.run_beam(setup, tmp_path, sharding, workers)
        assert harness.all_named(tables, setup) == plain_sums(setup, harness.read_all(setup))


def test_n4_text_files_in_several_batches(tmp_path, monkeypatch):
    """Two files of several batches each, all rows alike: each of them counts."""
    monkeypatch.setattr("transforms.text_events._MERGED_ROWS", 1000)
    lines = 600_000
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("key,value\n" + "k,1.2345\n" * lines)
    text = world.simple(tmp_path, pa.table({"key": ["k"]}), "{name: one, keys: {columns: [key]}, " + METRICS, unit="{rows: 1}")
    text = text.replace("simple.parquet,", "*.csv, types: {value: float64},")
    setup = harness.set_up(text)
    plan = setup.inputs.events
    batches = [len(list(read_text_part(part, plan.schema, plan.text))) for part in setup.inputs.parts]
    assert (len(batches), min(batches) > 1) == (2, True)
    tables, _ = harness.run_beam(setup, tmp_path, Sharding(4, 2, True), 2)
    ((key, sums),) = harness.all_named(tables, setup)["one"].items()
    stages = {stage.name: value * stage.grid.step for stage, value in zip(setup.plan.stages, sums, strict=True)}
    assert key == ("k",)
    assert (stages["select"], stages["purchases"], stages[COUNT]) == (2 * lines,) * 3
    assert stages["total"] == pytest.approx(1.2345 * 2 * lines, rel=1e-6)


def test_b5_nobody_is_left_out_for_a_null(tmp_path):
    """There is no unit that could be missing: rows whose every other column is null count in their key."""
    table = pa.table({"key": [5, 5, None], "text": pa.nulls(3, pa.string()), "value": pa.nulls(3, pa.float64())})
    setup, table = set_up(tmp_path, 2, table)
    ((key, sums),) = sums_of(setup, table)["private"].items()
    named = {stage.name: value * stage.grid.step for stage, value in zip(setup.plan.releases[0].stages, sums, strict=True)}
    assert key == (5,)
    assert named == {"select": 1.0, "purchases": 2.0, "total": 0.0, AVERAGE_SUM: 0.0, COUNT: 0.0, "spread.squares": 0.0}
