"""S2: keys that nobody may see are never shown; public keys are always shown; every cell has noise."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.ids import make_ids, new_secret
from privacy.noise import GaussianNoise
from privacy.selection import select_keys
from tests.transforms import harness, world
from transforms.errors import InputError
from transforms.exchange import id_columns, named_batch
from transforms.public_keys import PublicKeys
from transforms.release_keys import published_schema, release_keys
from transforms.sum_by_unit import public_names

METRICS = """metrics: [{name: purchases, count: events}, {name: people, count: units},
    {name: total, sum: value, clip: [0, 10]}, {name: average, mean: value, clip: [0, 12]}]}"""
BOUNDS = "bounds: {keys_per_unit: 3, rows_per_key: 2}, "
PRIVATE = "{name: private, keys: {columns: [key]}, select: {cap: 4}, " + BOUNDS + METRICS
PUBLIC = "{name: public, keys: {columns: [key, area], values: {key: [7, 3, 500, 007], area: [b, a, '', é]}}, " + BOUNDS + METRICS
EVENTS = pa.table(
    {
        "unit": pa.array([1, 2, 3, 3], pa.int64()),
        "key": pa.array([3, 3, 3, 900], pa.int64()),
        "area": ["a", "a", "a", "a"],
        "value": [1.0, 2.0, 3.0, 4.0],
    }
)
LISTED = sorted((key, area) for key in (7, 3, 500) for area in ("b", "a", "", "é"))


def set_up(root, release, events=EVENTS):
    """A setup of one release."""
    return harness.set_up(world.simple(root, events, release))


def sums_and_names(release, weights, amounts):
    """Tables of sums and names for keys 0, 1, 2 and so on, whose weights and other sums are given."""
    keys = np.arange(len(weights))
    made = make_ids([pa.array(keys)], new_secret(), release.key_domain)
    order = np.lexsort([made.low, made.high])
    listed = made.take(order)
    stages = {f"stage_{number}": amounts[order] for number in range(1, len(release.plan.stages))}
    sums = named_batch("sums:0", id_columns(listed, "key") | {"stage_0": weights[order]} | stages)
    return sums, named_batch("names:0", id_columns(listed, "key") | {"column_0": keys[order]})


def with_threshold(release, threshold):
    """The release with another threshold."""
    return replace(release, plan=replace(release.plan, selection=replace(release.plan.selection, threshold=threshold)))


def test_s2_of_a_million_keys_without_weight_none_is_kept(tmp_path):
    """The threshold is set so low that noise alone reaches it half of the time; 100 keys among them have a unit."""
    setup = set_up(tmp_path, PRIVATE)
    release = with_threshold(setup.releases[0], 0)
    weights = np.zeros(1_000_100, np.int64)
    weights[::10_001] = 2**60
    assert (weights > 0).sum() == 100
    sums, names = sums_and_names(release, weights, np.zeros(len(weights), np.int64))
    released = release_keys(sums, names, release, setup.inputs.value_types)
    assert sorted(released["key"].to_pylist()) == np.flatnonzero(weights).tolist()


def test_s2_the_noise_would_lift_keys_without_weight():
    """The test above is not empty: with one step of weight, about half of the keys reach the same threshold."""
    # 2,000 draws around a threshold at their mean: outside 800..1200 with probability below 1e-17.
    assert 800 < len(select_keys(np.ones(2000, np.int64), GaussianNoise(2.0**31), 0)[0]) < 1200
    assert len(select_keys(np.zeros(2000, np.int64), GaussianNoise(2.0**31), 0)[0]) == 0


def test_s2_named_keys_without_sums_are_no_candidates(tmp_path):
    """A batch's names may hold keys that a later cap drops: without sums they do not appear."""
    setup = set_up(tmp_path, PRIVATE)
    release = with_threshold(setup.releases[0], -(2**62))
    sums, names = sums_and_names(release, np.full(100, 2**40), np.zeros(100, np.int64))
    released = release_keys(sums.slice(20, 30), names, release, setup.inputs.value_types)
    assert released["key"].to_pylist() == names["column_0"].slice(20, 30).to_pylist()
    assert release_keys(None, names, release, setup.inputs.value_types).num_rows == 0


def test_s2_keys_beyond_the_cap_of_every_unit_are_never_shown(tmp_path):
    """Units with 50 keys each and a cap of 4, through the whole path, with a threshold that everything reaches."""
    keys = np.tile(np.arange(50), 30)
    units = np.repeat(np.arange(30), 50)
    events = pa.table({"unit": units, "key": keys, "value": np.ones(1500)})
    setup = set_up(tmp_path, PRIVATE, events)
    tables = harness.run_twins(setup, harness.split(harness.read_all(setup), np.arange(1500), 5), 3, 1)
    sums = harness.all_named(tables, setup)["private"]
    assert len(sums) == 4
    release = with_threshold(setup.releases[0], -(2**62))
    released = release_keys(tables["sums:0"][0], tables["names:0"][0], release, setup.inputs.value_types)
    assert {(key,) for key in released["key"].to_pylist()} == set(sums)


def draws(setup, rounds, sums=None):
    """Public releases of the same sums, drawn again and again, sorted by key."""
    release = setup.releases[0]
    names = public_names(release, setup.secret)
    released = [release_keys(sums, names, release, setup.inputs.value_types) for _ in range(rounds)]
    return [pa.Table.from_batches([batch]).sort_by([("key", "ascending"), ("area", "ascending")]) for batch in released]


def test_s2_public_keys_are_all_shown_once_without_any_data(tmp_path):
    setup = set_up(tmp_path, PUBLIC, EVENTS.slice(0, 0))
    for released in draws(setup, 3):
        assert list(zip(released["key"].to_pylist(), released["area"].to_pylist(), strict=True)) == LISTED
        assert released.schema.equals(published_schema(setup.releases[0], setup.inputs.value_types))


def test_s2_every_cell_has_noise_also_where_the_sum_is_zero(tmp_path):
    """Every cell of every metric varies over 80 draws.

    Half of the means of empty cells are the clip's middle, the rest spread: constant with probability below
    4 * 2^-79 a cell, for 12 keys and 10 columns below 1e-20. Their intervals are mostly the whole clip.
    """
    setup = set_up(tmp_path, PUBLIC, EVENTS.slice(0, 0))
    released = draws(setup, 80)
    columns = [name for name in released[0].schema.names if name not in ("key", "area", "average_low", "average_high")]
    assert len(columns) == 10
    for name in columns:
        values = np.array([table[name].to_numpy() for table in released])
        assert values.shape == (80, 12)
        assert np.isfinite(values).all()
        assert (np.ptp(values, axis=0) > 0).all(), name
    # The noise is that of the plan: the variance of 960 values is off by a third with probability below 1e-9.
    for stage in setup.plan.releases[0].vectors[:3]:
        values = np.array([table[stage.name].to_numpy() for table in released])
        assert 0.7 < np.mean(values**2.0) / stage.deviation**2 < 1.35, stage.name
    totals = np.array([table["total"].to_numpy() for table in released])
    # 960 draws on a grid of more than 2^28 steps a standard deviation: a handful may coincide.
    assert len(np.unique(totals)) > 900
    # No cell is the copy of another: neighbouring cells are equal in fewer than a tenth of the draws.
    assert (np.diff(totals, axis=1) == 0).mean() < 0.1


def test_s2_only_public_keys_take_part(tmp_path):
    """A key that is not listed is dropped before the norms: the sums are those of the listed rows alone."""
    setup = set_up(tmp_path, PUBLIC)
    events = harness.read_all(setup)
    assert (900, "a") in zip(events["key"].to_pylist(), events["area"].to_pylist(), strict=True)
    everything = harness.all_named(harness.run_twins(setup, harness.split(events, np.arange(4), 2)), setup)["public"]
    listed = harness.all_named(harness.run_twins(setup, harness.split(events, np.arange(3), 2)), setup)["public"]
    assert everything == listed
    assert set(listed) == {(3, "a")}


def test_public_keys_of_a_file_are_shown_once_each(tmp_path):
    path = tmp_path / "keys.parquet"
    columns = {"area": pa.array(["x", "y", "x", "y", "x"]).dictionary_encode(), "key": pa.array([1, 1, 2, 1, 1], pa.int8())}
    pq.write_table(pa.table(columns), path)
    release = PUBLIC.replace("values: {key: [7, 3, 500, 007], area: [b, a, '', é]}", f"from: {path}")
    setup = set_up(tmp_path, release)
    (released,) = draws(setup, 1)
    shown = list(zip(released["key"].to_pylist(), released["area"].to_pylist(), strict=True))
    assert shown == [(1, "x"), (1, "y"), (2, "x")]


BAD_FILES = {
    "a null": pa.table({"key": [1, None]}),
    "no row": pa.table({"key": pa.array([], pa.int64())}),
    "no column": pa.table({"other": [1]}),
    "text for an integer": pa.table({"key": ["one", "two"]}),
    "a number beyond the column's type": pa.table({"key": [1, 300]}),
    "a fraction for an integer": pa.table({"key": [1.5]}),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_public_keys_of_a_bad_file_are_refused(tmp_path, fault):
    """A key that does not fit the column's type is refused: turned into another, it would be published under a false name."""
    path = tmp_path / "keys.parquet"
    pq.write_table(BAD_FILES[fault], path)
    with pytest.raises(InputError, match=r"keys\.parquet"):
        PublicKeys(("key",), (pa.int8(),), None, str(path)).load()


def test_public_keys_of_a_missing_or_broken_file_are_refused(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    for name in ("broken.parquet", "missing.parquet"):
        with pytest.raises(InputError, match=name):
            PublicKeys(("key",), (pa.int8(),), None, str(tmp_path / name)).load()
