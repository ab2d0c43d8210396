"""N4: the sums are the same integers in every order, for every split, sharding, exchange and secret."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.graph import Sharding
from privacy.ids import new_secret
from tests.transforms import harness, world

BATCHES = (1, 8, 64)


@pytest.fixture(scope="module")
def expected(world_setup):
    """The sums of the rows as they come, in one batch and one shard."""
    setup, events = world_setup
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 1), 1, 1)
    return harness.all_named(tables, setup)


@pytest.mark.parametrize("seed", range(20))
def test_n4_every_permutation_gives_the_same_integers(world_setup, expected, tmp_path, seed):
    setup, events = world_setup
    order = np.random.default_rng(seed).permutation(events.num_rows)
    assert len(expected["departments"]) > 30
    assert not np.array_equal(order, np.arange(events.num_rows))
    for batches in BATCHES:
        parts = harness.split(events, order, batches)
        assert len(parts) == batches
        assert sum(part.num_rows for part in parts) == events.num_rows
        folder = tmp_path if seed % 2 else None
        tables = harness.run_twins(setup, parts, unit_shards=1 + seed % 7, key_shards=1 + seed % 4, folder=folder)
        assert harness.all_named(tables, setup) == expected


@pytest.mark.parametrize("grouped", [True, False])
def test_n4_batches_that_are_not_grouped_give_the_same_integers(world_setup, expected, monkeypatch, grouped):
    """Whether a batch is summed per unit and key before the shuffle is a matter of speed."""
    setup, events = world_setup
    seen = []
    monkeypatch.setattr("transforms.sum_by_unit.worth_grouping", lambda *_: seen.append(grouped) or grouped)
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 3))
    assert len(seen) == 3 * len(setup.releases)
    assert harness.all_named(tables, setup) == expected


def test_n4_by_value_and_by_reference_give_the_same_tables(world_setup, tmp_path):
    setup, events = world_setup
    parts = harness.split(events, np.arange(events.num_rows), 8)
    by_value = harness.run_twins(setup, parts, 5, 3, folder=None)
    by_reference = harness.run_twins(setup, parts, 5, 3, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 8 + 5
    assert by_value == by_reference


def test_n4_another_secret_gives_other_ids_and_the_same_sums_by_name(world_setup, expected):
    """Releases whose units stay below the cap do not depend on the secret; which keys a cap keeps does."""
    setup, events = world_setup
    other = harness.Setup(setup.config, setup.plan, setup.inputs, new_secret())
    tables = harness.run_twins(other, harness.split(events, np.arange(events.num_rows), 4))
    found = harness.all_named(tables, other)
    assert found["sizes"] == expected["sizes"]
    assert found["shops"] == expected["shops"]
    assert found["departments"] != expected["departments"]
    names = [set(harness.names_of(tables, release)) for release in setup.releases]
    before = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 4))
    for release, ids in zip(setup.releases, names, strict=True):
        assert not ids & set(harness.names_of(before, release))


@pytest.mark.parametrize(
    ("row_groups", "sharding", "workers"),
    [
        (8, Sharding(unit_shards=2, key_shards=1, by_reference=True), 2),
        (64, Sharding(9, 5, True), 2),
        (1, Sharding(3, 2, False), 1),
    ],
)
def test_n4_permutations_through_beam_give_the_same_integers(
    world_setup, expected, tmp_path, monkeypatch, row_groups, sharding, workers
):
    setup, _ = world_setup
    paths = sorted({part.path for part in setup.inputs.parts})
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    order = np.random.default_rng(row_groups).permutation(len(rows))
    table = world.pa.Table.from_pylist([rows[number] for number in order], world.SCHEMA)
    size = -(-len(rows) // row_groups)
    pq.write_table(table, tmp_path / "permuted.parquet", row_group_size=size)
    monkeypatch.setattr("pipelines.files.BATCH_ROWS", size)
    monkeypatch.setattr("transforms.read_events.BATCH_ROWS", size)
    text = world.CONFIG.replace("ROOT/events/*.parquet", str(tmp_path / "permuted.parquet"))
    permuted = harness.set_up(text.replace("ROOT", str(world_root(paths))), setup.secret)
    assert len(permuted.inputs.parts) == row_groups
    tables, _ = harness.run_beam(permuted, tmp_path, sharding, workers)
    assert harness.all_named(tables, permuted) == expected


def world_root(paths):
    """The folder of the world, from the paths of its events."""
    return paths[0].rsplit("/", 2)[0]
