"""Retries: a step below the noise repeats its bytes, and the step that draws noise keeps its first draw."""

import io
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.run import RunCall, start
from privacy.plan import ReleasePlan
from tests.transforms import harness, world
from transforms import release_keys as step
from transforms.exchange import decode, encode
from transforms.release_keys import ReleaseKeys
from transforms.sum_by_unit import public_names
from transforms.work_folder import WorkFolder, create_if_absent

METRICS = """metrics: [{name: people, count: units}, {name: total, sum: value, clip: [0, 10]},
    {name: average, mean: value, clip: [0, 12]}]}"""
PRIVATE = "{name: private, keys: {columns: [key]}, bounds: {keys_per_unit: 2, rows_per_key: 1}, " + METRICS
PUBLIC = (
    "{name: public, keys: {columns: [key], values: {key: [0, 1, 2, 99]}}, bounds: {keys_per_unit: 2, rows_per_key: 1}, " + METRICS
)


def events():
    """3,000 units with 2 events each in 10 keys."""
    draw = np.random.default_rng(0)
    columns = {"unit": np.arange(6000) // 2, "key": draw.integers(0, 10, 6000), "value": draw.uniform(0, 10, 6000)}
    return pa.table(columns)


@pytest.fixture
def setup(tmp_path):
    return harness.set_up(world.simple(tmp_path / "in", events(), PRIVATE, PUBLIC))


@pytest.fixture
def attempts(monkeypatch):
    """Every try to stage a file: its name, its bytes, and whether it was the first."""
    seen = []

    def create(path, data, *more):
        first = create_if_absent(path, data, *more)
        if path.stem.isdecimal():  # a shard's draw, not the empty tables that go with them
            seen.append((path.name, data, first))
        return first

    monkeypatch.setattr(step, "create_if_absent", create)
    return seen


def element(setup):
    """A shard's element, with sums and without."""
    names = public_names(setup.releases[1], setup.secret)
    everything = harness.read_all(setup)
    tables = harness.run_twins(setup, harness.split(everything, np.arange(everything.num_rows), 2), 2, 1)
    return 3, encode([tables["sums:0"][0], tables["names:0"][0], names])


def test_r1_staging_again_keeps_the_first_draw(setup, tmp_path, attempts):
    folder = WorkFolder(tmp_path / "attempt")
    folder.create()
    releases = ReleaseKeys(releases=setup.releases, value_types=setup.inputs.value_types, folder=folder)
    stage = step._Stage(releases)
    for _ in range(4):
        assert list(stage.process(element(setup))) == [3]
    draws = [data for _, data, _ in attempts]
    assert [first for _, _, first in attempts] == [True, False, False, False]
    assert len(set(draws)) == 4
    (path,) = folder.staged.iterdir()
    assert path.name == "0003.arrow"
    assert path.read_bytes() == draws[0]
    assert {name: batches[0].num_rows for name, batches in decode(draws[0]).items()} == {"private": 10, "public": 4}


def test_create_if_absent_lets_one_of_many_win_and_leaves_nothing_else(tmp_path):
    path, won = tmp_path / "file", []
    barrier = threading.Barrier(16)

    def run(number):
        barrier.wait()
        if create_if_absent(path, bytes([number]) * 100_000):
            won.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == bytes(won) * 100_000
    assert list(tmp_path.iterdir()) == [path]


def run_all(setup, run, *arguments):
    """Publishes the setup's config and returns each release's table."""
    path = str(Path(setup.config.output.path).parent / "config.yaml")
    call = RunCall(config=setup.config, config_path=path, plan=setup.plan, run=run, beam_arguments=list(arguments))
    outcome = start(call, Console(file=io.StringIO()))
    assert outcome["drawn"]
    return {name: pq.read_table(release["path"]).to_pandas() for name, release in outcome["releases"].items()}


def test_r1_a_run_whose_bundles_are_all_repeated_publishes_each_key_once(setup, attempts):
    tables = run_all(setup, "repeated", "--direct_num_workers=1", "--direct_runner_bundle_repeat=1")
    first = {name for name, _, first in attempts if first}
    again = {name for name, _, first in attempts if not first}
    assert first
    assert again == first  # every shard was drawn twice
    assert tables["private"]["key"].tolist() == list(range(10))
    assert tables["public"]["key"].tolist() == [0, 1, 2, 99]
    kept = {}
    for _, data, was_first in attempts:
        for name, batches in decode(data).items() if was_first else ():
            for batch in batches:
                kept.setdefault(name, []).extend(zip(batch["key"].to_pylist(), batch["total"].to_pylist(), strict=True))
    for name, table in tables.items():
        assert sorted(kept[name]) == list(zip(table["key"], table["total"], strict=True))


def deviation(plan: ReleasePlan, name: str) -> float:
    """The noise's standard deviation of a stage, in units of the value."""
    return next(stage.deviation for stage in plan.vectors if stage.name == name)


def test_a_repeated_run_has_the_sums_of_one_run(setup):
    """Repeated bundles do not count twice: values agree with the truth within 8 standard deviations.

    54 normal values leave that range with probability below 1e-13.
    """
    tables = run_all(setup, "sums", "--direct_num_workers=1", "--direct_runner_bundle_repeat=2")
    truth = events().to_pandas().groupby(["unit", "key"])["value"].sum().groupby("key").agg(["count", "sum"])
    for release, plan in zip(("private", "public"), setup.plan.releases, strict=True):
        for row in tables[release].itertuples():
            count, total = truth.loc[row.key] if row.key in truth.index else (0, 0.0)
            assert abs(row.people - count) < 8 * deviation(plan, "people") + 1
            # Units with two events in one key keep 10 * sqrt(2) of up to 20.
            assert total * 0.7 - 8 * deviation(plan, "total") < row.total < total + 8 * deviation(plan, "total")


def test_public_keys_without_any_event_are_published_once_by_a_whole_run(tmp_path):
    setup = harness.set_up(world.simple(tmp_path / "in", events().slice(0, 0), PUBLIC, PRIVATE))
    tables = run_all(setup, "empty", "--direct_num_workers=2")
    assert tables["public"]["key"].tolist() == [0, 1, 2, 99]
    assert tables["private"].empty
    assert not tables["public"].isna().any().any()
    assert tables["public"]["total"].nunique() == 4
