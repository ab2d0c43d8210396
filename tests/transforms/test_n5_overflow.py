"""N5: values at the ends of their types, and sums at the ends of what the plan allows: no wrap and no error."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from privacy.ids import make_ids, new_secret
from privacy.tallies import MOST_EVENTS
from tests.transforms import harness, reference, world
from transforms.bound_contributions import bound_contributions
from transforms.columns import usable_values
from transforms.exchange import id_columns, named_batch
from transforms.release_keys import release_keys
from transforms.sum_by_key import sum_by_key

RELEASE = """{name: one, keys: {columns: [key]}, bounds: {keys_per_unit: 4, rows_per_key: 3}, metrics: [
    {name: purchases, count: events}, {name: people, count: units},
    {name: total, sum: same, clip: CLIP}, {name: average, mean: value, clip: CLIP},
    {name: spread, variance: value, clip: CLIP}, {name: root, stddev: value, clip: [-5, 3]},
    {name: shared, sum: value, clip: CLIP}]}"""
CLIPS = ([-1e30, 1e30], [0, 1e30], [-1e-29, 1e-29], [-3, 11], [2, 5], [-5e9, -2e9])

ENDS = {
    "int8": pa.array([-128, 127, None], pa.int8()),
    "int64": pa.array([-(2**63), 2**63 - 1, None], pa.int64()),
    "uint64": pa.array([0, 2**64 - 1, 2**63], pa.uint64()),
    "float16": pa.array([-65504.0, 65504.0, float("inf")], pa.float16()),
    "float32": pa.array([-3.4028235e38, 3.4028235e38, float("nan")], pa.float32()),
    "float64": pa.array([-np.finfo(float).max, np.finfo(float).max, 5e-324], pa.float64()),
    "decimal128": pa.array([Decimal("9" * 38), Decimal("-" + "9" * 38), None], pa.decimal128(38, 0)),
    "decimal256": pa.array([Decimal("9" * 76), Decimal("-" + "9" * 76), None], pa.decimal256(76, 0)),
    "bool": pa.array([True, False, None], pa.bool_()),
}


def events_of(values):
    """12 units with 3 keys, each with all of the values. Of the same ones in a second column, a sum has a stage of its own."""
    rows = 12 * 3 * 3
    taken = values.take(pa.array(np.arange(rows) % 3))
    return pa.table({"unit": np.arange(rows) // 9, "key": np.arange(rows) // 3 % 3, "value": taken, "same": taken})


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("kind", ENDS)
def test_n5_values_at_the_ends_of_every_type_equal_the_reference(tmp_path, kind, clip):
    text = RELEASE.replace("CLIP", str([f"{end:.0e}" for end in clip]).replace("'", ""))
    setup = harness.set_up(world.simple(tmp_path, events_of(ENDS[kind]), text))
    events = harness.read_all(setup)
    rows = events.to_pylist()
    assert len(rows) == 108
    assert any(reference.usable(row["value"]) for row in rows)
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 2))
    tree = world.tree_of(text)
    expected = reference.bounded_sums(rows, ["unit"], tree, lambda key: key[0])
    assert harness.all_named(tables, setup)["one"] == expected


@pytest.mark.parametrize("kind", ENDS)
def test_n5_usable_values_are_floats_and_finite(kind):
    values, usable = usable_values(ENDS[kind])
    assert values.dtype == np.float64
    assert usable.tolist() == [reference.usable(value) for value in ENDS[kind].to_pylist()]
    assert np.isfinite(values[usable]).all()


def test_n5_a_full_batch_at_the_clip_in_one_key(tmp_path):
    rows = 1 << 20
    zeros, values = np.zeros(rows, np.int64), np.full(rows, 2**63 - 1)
    columns = {"unit": zeros, "key": zeros, "value": values, "same": values}
    free = RELEASE.replace("CLIP", "[-10, 10]").replace("rows_per_key: 3", f"rows_per_key: {10**6}")
    setup = harness.set_up(world.simple(tmp_path, pa.table(columns), free))
    tables = harness.run_twins(setup, harness.read_all(setup).to_batches())
    sums = harness.all_named(tables, setup)["one"][(0,)]
    purchases, total = (setup.plan.releases[0].vectors[number] for number in (0, 2))
    assert sums[1] * purchases.grid.step == pytest.approx(rows)
    assert sums[3] * total.grid.step == pytest.approx(10 * rows)


@pytest.fixture
def simple_setup(tmp_path):
    return harness.set_up(world.simple(tmp_path, events_of(ENDS["int64"]), RELEASE.replace("CLIP", "[-3, 11]")))


def ids(count, domain):
    """So many distinct ids, ascending."""
    made = make_ids([pa.array(np.arange(count))], new_secret(), domain)
    return made.take(np.lexsort([made.low, made.high]))


def test_n5_bounding_sums_as_large_as_the_most_events_allow(tmp_path):
    """Two units with 1 and 3 keys, whose 2^32 events arrive in 64 tables, each event as large as its grid allows."""
    tight = RELEASE.replace("CLIP", "[-3, 11]").replace("keys_per_unit: 4, rows_per_key: 3", "keys_per_unit: 1, rows_per_key: 1")
    plan = harness.set_up(world.simple(tmp_path, events_of(ENDS["int64"]), tight)).plan.releases[0]
    tallies, vectors = plan.tallies, {stage.name: stage for stage in plan.vectors}
    kinds = ["Events", "Amounts", "Amounts", "Values", "Squares", "Squares", "Amounts"]
    assert [type(tally).__name__ for tally in tallies] == kinds
    each = [1, tallies[1].largest, -tallies[2].largest, 1, tallies[4].largest, -tallies[5].largest, tallies[6].largest]
    assert min(abs(each[number]) for number in (1, 2, 4, 5, 6)) >= 2**29
    units, keys = ids(2, 0).take(np.array([0, 1, 1, 1])), ids(3, 1).take(np.array([0, 0, 1, 2]))
    columns = {f"tally_{number}": np.full(4, MOST_EVENTS // 256 * size) for number, size in enumerate(each)}
    table = named_batch("sums:0", id_columns(units, "unit") | id_columns(keys, "key") | columns)
    bounded = bound_contributions([table] * 64, plan)
    found = {name: bounded[f"stage_{number + 1}"].to_pylist() for number, name in enumerate(vectors)}

    def expected(size, norm):
        one, three = (reference.scaled(dict.fromkeys(range(keys), MOST_EVENTS // 4 * size), norm) for keys in (1, 3))
        return [one[0] + three[0], three[1], three[2]]

    one = 1 << -vectors["purchases"].grid.exponent
    counts = expected(one, vectors["purchases"].norm)
    assert found["purchases"] == found["average.count+spread.count+root.count+shared.count"] == counts
    assert found["total"] == expected(each[1], vectors["total"].norm)
    for name, number in (("average.sum+spread.sum+shared.sum", 2), ("spread.squares", 4), ("root.squares", 5), ("root.sum", 6)):
        sign = 1 if each[number] > 0 else -1
        alone = sign * vectors[name].norm  # a unit with one key uses its norm, up to a step
        assert found[name][0] - alone == pytest.approx(found[name][1], abs=2)
        assert found[name][1:] == [sign * (abs(each[number]) * count // one) for count in counts[1:]]


def test_n5_adding_up_as_many_units_as_the_most_events_allow(simple_setup):
    """2^32 units that each add 2^30 steps to one key: 2^62, exactly."""
    plan = simple_setup.plan.releases[0]
    key, shards = ids(1, 1), 1024
    for sign in (1, -1):
        columns = {f"stage_{number}": np.full(1, sign * (MOST_EVENTS // shards << 30)) for number in range(len(plan.stages))}
        table = named_batch("sums:0", id_columns(key, "key") | columns)
        total = sum_by_key([table] * shards, plan)
        assert total.num_rows == 1
        assert [total[f"stage_{number}"][0].as_py() for number in range(len(plan.stages))] == [sign * 2**62] * len(plan.stages)


def test_n5_n6_noise_on_the_largest_sums_neither_wraps_nor_fails(simple_setup):
    release = simple_setup.releases[0]
    sums = np.array([2**62, -(2**62), 0, 2**63 - 1, -(2**63) + 1])
    listed = ids(5, 1)
    names = named_batch("names:0", id_columns(listed, "key") | {"column_0": np.arange(5)})
    stages = {f"stage_{number}": sums for number in range(1, len(release.plan.stages))}
    table = named_batch("sums:0", id_columns(listed, "key") | {"stage_0": np.full(5, 2**62)} | stages)
    for _ in range(20):
        released = release_keys(table, names, release, simple_setup.inputs.value_types)
        assert released["key"].to_pylist() == [0, 1, 2, 3, 4]
        for name in released.schema.names:
            column = released[name]
            assert column.null_count == 0
            assert np.isfinite(column.to_numpy().astype(np.float64)).all(), name
        for name in ("spread", "root"):
            assert (released[f"{name}_low"].to_numpy() <= released[name].to_numpy()).all()
            assert (released[name].to_numpy() <= released[f"{name}_high"].to_numpy()).all()
        for name in ("purchases", "people", "total", "shared"):
            signs = np.sign(released[name].to_numpy())
            assert signs.tolist()[:2] == [1, -1], name
            assert signs.tolist()[3:] == [1, -1], name
            assert (released[f"{name}_low"].to_numpy() <= released[name].to_numpy()).all()
            assert (released[name].to_numpy() <= released[f"{name}_high"].to_numpy()).all()


@pytest.mark.parametrize(("largest", "other"), [(2**30 + 2**26, 2**28), (2**30, 2**29), (2**62, 2**62), (2**30 + 2**20, 0)])
def test_n5_the_norm_holds_at_the_largest_bounds(tmp_path, largest, other):
    """With bounds this large a value has few steps, and rounding the clip to them can lift the norm above 2^30."""
    wide = RELEASE.replace("CLIP", "[0, 1.162907]").replace(
        "keys_per_unit: 4, rows_per_key: 3", "keys_per_unit: 65536, rows_per_key: 900000"
    )
    plan = harness.set_up(world.simple(tmp_path, events_of(ENDS["int64"]), wide)).plan.releases[0]
    stages = [stage.name for stage in plan.stages]
    norm = plan.stages[stages.index("total")].norm
    assert 2**28 < norm <= 2**30
    amounts = [largest, other]
    columns = {"tally_0": [2**31] * 2, "tally_1": amounts, "tally_2": [0, 0], "tally_3": [2**31] * 2}
    columns |= {f"tally_{number}": [0, 0] for number in range(4, len(plan.tallies))}
    unit = ids(1, 0).take(np.array([0, 0]))
    table = named_batch(
        "sums:0", id_columns(unit, "unit") | id_columns(ids(2, 1), "key") | {n: np.array(c) for n, c in columns.items()}
    )
    found = bound_contributions([table], plan)[f"stage_{stages.index('total')}"].to_pylist()
    assert harness.squared(found) <= norm**2
    if harness.squared(amounts) <= norm**2:
        assert found == amounts
