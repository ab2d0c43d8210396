"""B1, B3, N4: scaled or sampled, with Gaussian or Laplace noise: all kinds of metrics have the integers of the plain reference.

A config has a release for each of sampling or scaling, with and without `rows_per_unit` and `down_weight`.
"""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.graph import Sharding
from privacy.bounds import UnitBounds
from privacy.vectors import TreeVector
from tests.transforms import harness, reference, world
from transforms.grouping import RowKeys, group_pairs
from transforms.release_keys import release_keys
from transforms.sampling import sampled

METRICS = """metrics: [
    {name: purchases, count: events}, {name: people, count: units}, {name: some, count: events, norm: 2.5},
    {name: revenue, sum: amount, clip: [-5, 20]}, {name: net, sum: amount, clip: [-5, 20], clip_total: [-7, 23]},
    {name: wide, sum: amount, clip: [-5, 20], clip_total: [-300, 5000]}, {name: short, sum: amount, clip: [-5, 20], norm: 37.5},
    {name: price, mean: fee, clip: [0, 7.35]}, {name: fees, sum: fee, clip: [0, 7.35]},
    {name: spread, variance: quantity, clip: [-3, 1000]},
EVEN
    {name: both, vector_sum: [amount, quantity], norm: 55.5}, {name: alone, vector_sum: [fee], norm: 4},
    {name: pieces, histogram: {of: quantity, bins: [-5, 0, 100, 750, 1000]}},
    {name: ways, frequency: {of: channel, values: [app, web, test]}},
    {name: half, quantiles: {of: fee, at: [0.25, 0.5], clip: [0, 8]}}]"""
EVEN = "    {name: even, mean: amount, clip: [-4, 4]}, {name: evened, sum: amount, clip: [-4, 4]},"
"""A sum that the mean's centred sum is, where it has Gaussian noise."""
FEW = "metrics: [{name: purchases, count: events}, {name: people, count: units}]"
"""Whose events are all alike: only their occurrence tells them apart."""
PUBLIC = ", values: {shop: [north, south, '', nowhere], level: ['127', '0']}"
KEYS_PER_UNIT, ROWS_PER_KEY = 4, 3
CASES = {
    f"{by}_{'all' if most is None else most}_{'light' if down else 'full'}": (by, "private", most, down)
    for by, most, down in itertools.product(("scaling", "sampling"), (None, 7), (False, True))
}
CASES |= {f"{by}_public": (by, "public", 2, True) for by in ("scaling", "sampling")}
CASES["sampling_capped"] = ("sampling", "capped", 5, False)
NOISES = ("gaussian", "laplace")


def release(name: str, noise: str, by: str, keys: str, most: int | None, down: bool, metrics: str) -> str:
    """A release in YAML."""
    per_unit = "" if most is None else f", rows_per_unit: {most}"
    bounds = f"by: {by}, noise: {noise}, keys_per_unit: {KEYS_PER_UNIT}, rows_per_key: {ROWS_PER_KEY}{per_unit}"
    listed, select = PUBLIC if keys == "public" else "", "select: {cap: 9}, " if keys == "capped" else ""
    return (
        f"{{name: {name}, keys: {{columns: [shop, level]{listed}}}, {select}"
        f"bounds: {{{bounds}, down_weight: {str(down).lower()}}}, {metrics}}}"
    )


def releases(noise: str) -> list[str]:
    """One of each case, and two of events that are alike."""
    metrics = METRICS.replace("EVEN\n", f"{EVEN}\n" if noise == "gaussian" else "")
    few = [release(f"few_{by}", noise, by, "private", 7, False, FEW) for by in ("scaling", "sampling")]
    return [release(name, noise, *case, metrics) for name, case in CASES.items()] + few


NAMES = [*CASES, "few_scaling", "few_sampling"]


def events() -> pa.Table:
    """Events of the shared world, every tenth of them three times; `quantity` is null in some."""
    table = world.events(900, 11)
    return pa.concat_tables([table, *[table.take(pa.array(np.arange(0, 900, 10)))] * 2])


@pytest.fixture(scope="module", params=NOISES)
def noise(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def setup(noise, tmp_path_factory):
    """A config with all releases of one kind of noise."""
    root: Path = tmp_path_factory.mktemp(noise)
    return harness.set_up(world.simple(root, events(), *releases(noise), unit="[person, tenant]"))


@pytest.fixture(scope="module")
def table(setup):
    return harness.read_all(setup)


@pytest.fixture(scope="module")
def trees(noise):
    return {tree["name"]: tree for tree in map(world.tree_of, releases(noise))}


def listed(tree) -> set | None:
    """The public keys of a release."""
    values = tree["keys"].get("values")
    return None if values is None else set(itertools.product(values["shop"], map(int, values["level"])))


@pytest.fixture(scope="module")
def rows(table):
    return table.to_pylist()


@pytest.fixture(scope="module")
def expected(setup, rows, trees):
    """The reference's sums of each release and stage."""
    units = {tuple(row[column] for column in world.UNIT) for row in rows}
    unit_ids = harness.unit_ids(setup, sorted(unit for unit in units if unit[0] and unit[1]))
    found = {}
    for item in setup.releases:
        tree = trees[item.plan.name]
        keys = {tuple(row[column] for column in tree["keys"]["columns"]) for row in rows}
        key_ids = harness.ranks(item, setup.secret, [key for key in keys if None not in key])
        found[item.plan.name] = reference.bounded_cells(
            rows, world.UNIT, tree, key_ids.__getitem__, unit_ids.__getitem__, listed(tree)
        )
    return found


def cells_of(setup, tables) -> dict[str, harness.Cells]:
    """The sums of each release."""
    return {item.plan.name: harness.named_cells(tables, item) for item in setup.releases}


def test_the_events_have_units_over_every_bound(rows, trees):
    """Over keys, over rows in a key, over rows in all, over the cap; and many within all of them."""
    units = reference.rows_by_unit(rows, world.UNIT, trees["few_scaling"])
    sizes = {person: [len(found) for found in keys.values()] for person, keys in units.items()}
    within = [max(x) <= ROWS_PER_KEY and len(x) <= KEYS_PER_UNIT and sum(x) <= 5 for x in sizes.values()]
    assert min(Counter(within)[True], Counter(within)[False]) >= 10
    assert sum(len(x) > 9 for x in sizes.values()) >= 2
    assert sum(max(x) > ROWS_PER_KEY for x in sizes.values()) >= 3
    assert sum(sum(x) > 7 for x in sizes.values()) >= 5
    assert len(set(map(repr, rows))) < len(rows) - 100


def test_n8_the_reference_has_the_stages_and_the_norms_of_the_plan(setup, trees):
    """Of all vectors: their names in order, their norms in steps, and their order."""
    for item in setup.releases:
        stages = reference.stages_of(trees[item.plan.name])
        assert [(s.name, s.norm, s.order) for s in stages] == [(s.name, s.norm, s.noise.order) for s in item.plan.stages]


def test_a_vector_sum_has_a_column_for_each_of_its_own(setup):
    """Consecutive ones, after those before and before those after it."""
    for item in setup.releases[: len(CASES)]:
        widths = [vector.width for vector in item.plan.totals]
        assert sorted(widths)[-2:] == [1, 2]
        names = [stage.name for stage in item.plan.vectors if stage.vector in item.plan.totals]
        assert widths[names.index("both")] == 2


def test_b1_the_sums_equal_the_reference(setup, table, expected):
    """Every stage of every release, to the integer; and none of them is empty."""
    found = cells_of(setup, harness.run_twins(setup, harness.split(table, np.arange(table.num_rows), 3)))
    assert list(found) == NAMES
    for name, stages in expected.items():
        assert list(found[name]) == list(stages)
        for stage, cells in stages.items():
            assert len(cells) >= (3 if "public" in name else 10), (name, stage)
            assert found[name][stage] == cells, (name, stage)


def test_scaling_differs_where_the_bounds_do(noise, expected):
    """A limit on all rows and lighter keys each change the sums of the same metric; those of the selection stay."""
    names = [name for name, case in CASES.items() if case[:2] == ("scaling", "private")]
    price = "price.sum+fees.sum" if noise == "gaussian" else "price.sum"
    for stage in ("purchases", "revenue", price, "pieces", "half"):
        assert len({repr(sorted(expected[name][stage].items())) for name in names}) == len(names) == 4, stage
    assert all(expected[name]["select"] == expected["sampling_7_light"]["select"] for name in names)


@pytest.mark.parametrize("seed", range(3))
def test_b3_other_splits_and_orders_give_the_same_integers(setup, table, expected, tmp_path, seed):
    """Also of samples: they depend on what the events are, not on where they stand, nor on other events of their batch."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    batches = harness.split(table, order, (1, 5, 15)[seed])
    tables = harness.run_twins(setup, batches, 1 + 3 * seed, 1 + seed, tmp_path if seed == 1 else None)
    assert cells_of(setup, tables) == expected


def test_n4_the_graph_gives_the_same_integers(setup, expected, tmp_path):
    """As Beam runs it, with shards of units and of keys."""
    tables, files = harness.run_beam(setup, tmp_path, Sharding(unit_shards=3, key_shards=2, by_reference=True), 1)
    assert files > 3
    assert cells_of(setup, tables) == expected


def test_n4_one_unit_alone_adds_what_it_adds_among_others(setup, table, rows, expected):
    """Without the unit with the most rows the sums are less by what the unit has by itself: at most its norm, exactly."""
    whale = Counter(person for row in rows if all(person := tuple(row[column] for column in world.UNIT))).most_common(1)[0][0]
    mine = np.array([tuple(row[column] for column in world.UNIT) == whale for row in rows])
    assert mine.sum() > 50
    alone, others = (
        cells_of(setup, harness.run_twins(setup, harness.split(table, np.flatnonzero(which), 2))) for which in (mine, ~mine)
    )
    for item in setup.releases:
        for stage in item.plan.stages:
            name = item.plan.name, stage.name
            own, rest, both = (found[name[0]].get(name[1], {}) for found in (alone, others, expected))
            assert {cell: both.get(cell, 0) - rest.get(cell, 0) for cell in own} == own, name
            levels = 2 if isinstance(getattr(stage, "vector", None), TreeVector) else 1
            length = levels * sum(abs(x) ** stage.noise.order for x in own.values())
            assert length <= stage.norm**stage.noise.order, name


def without_noise(item, names: pa.RecordBatch, tables: harness.Tables, value_types) -> dict[tuple[Any, ...], dict[str, float]]:
    """What would be published of all keys, with noise of less than a step, by key."""
    stages = tuple(replace(stage, noise=type(stage.noise)(0.02)) for stage in item.plan.vectors)
    selection = item.plan.selection and replace(item.plan.selection, threshold=-(2**62))
    item = replace(item, plan=replace(item.plan, vectors=stages, selection=selection))
    bins = [tables[f"bins:{item.number}:{number}"][0] for number in range(len(item.plan.bins))]
    released = release_keys(tables[f"sums:{item.number}"][0], names, item, value_types, bins)
    return {(row["shop"], row["level"]): row for row in released.to_pylist()}


def test_what_is_published_is_made_from_each_metrics_own_stages(noise, setup, table, expected):
    """Without noise the columns are the reference's sums: of a vector sum's columns, of those after it, and of bins.

    With Gaussian noise the sums next to a mean are made from its stages, with Laplace noise they have one of their own.

    Noise of 0.02 steps is none: another integer has a probability below 1e-21.
    """
    tables = harness.run_twins(setup, harness.split(table, np.arange(table.num_rows), 2), 2, 1)
    for item in setup.releases[: len(CASES)]:
        steps = {stage.name: stage.grid.step for stage in item.plan.vectors}
        cells = expected[item.plan.name]
        rows = without_noise(item, tables[f"names:{item.number}"][0], tables, setup.inputs.value_types)
        assert len(rows) >= 8
        for key, row in rows.items():
            exact = {name: cells[name].get(key, 0) * step for name, step in steps.items()}
            both, pieces = (
                {place: cells[name].get((*key, place), 0) * steps[name] for place in range(4)} for name in ("both", "pieces")
            )
            published = {name: exact[name] for name in ("revenue", "net", "wide", "short")} | {
                "purchases": round(exact["purchases"]),
                "people": round(exact["people"]),
                "both_amount": both[0],
                "both_quantity": both[1],
                "alone_fee": exact["alone"],
                "pieces_1": round(pieces[0]),
                "pieces_4": round(pieces[3]),
            }
            if noise == "gaussian":
                published["fees"] = exact["price.sum+fees.sum"] + 7.35 / 2 * exact["price.count+fees.count"]
                published["evened"] = exact["even.sum+evened.sum"]
            else:
                published["fees"] = exact["fees"]
            assert {name: row[name] for name in published} == pytest.approx(published, rel=1e-12), key


def ids(numbers: list[int]) -> Any:
    """Ids whose low words are these, and whose high words ascend with them."""
    words = np.array(numbers, np.uint64)
    return harness.Ids(words, words)


@pytest.mark.parametrize("most", [None, 1, 30, 10**6])
def test_b3_samples_are_uniform_enough_and_as_large_as_allowed(most):
    """1,000 units with 8 keys of 6 equal events each: exactly k keys of r events are kept, less where a unit may have less.

    Each key is kept by about k / 8 of the units; 8 binomials of 1,000 units, outside of 5.5 deviations with chance 3e-7.
    """
    draw = np.random.default_rng(7)
    people, keys = draw.integers(0, 2**64, 1000, np.uint64), draw.integers(0, 2**64, 8, np.uint64)
    units, of_keys = (np.repeat(people, 48), np.tile(np.repeat(keys, 6), 1000))
    bounds = UnitBounds(keys_per_unit=3, rows_per_key=2, rows_per_unit=most, sampling=True)
    groups = group_pairs(ids(units.tolist()), ids(of_keys.tolist()))
    kept = sampled(groups, ids(units.tolist()), RowKeys(ids(of_keys.tolist())), [np.ones(len(units), np.int64)], bounds)
    by_unit = kept.reshape(1000, 8, 6).sum(axis=2)
    assert set(by_unit.sum(axis=1).tolist()) == {min(6, most or 6)}
    assert by_unit.max() <= 2
    if most is None:
        assert set((by_unit > 0).sum(axis=1).tolist()) == {3}
        shares = (by_unit > 0).mean(axis=0)
        assert (abs(shares - 3 / 8) < 5.5 * (3 / 8 * 5 / 8 / 1000) ** 0.5).all()
