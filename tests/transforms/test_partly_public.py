"""Keys that are partly public: who counts where, which private parts are selected by which weight, and every combination of them.

In the tests a product is the private part of a key, and a department, or a floor and a size, the public one.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.graph import Sharding
from privacy.ids import make_ids
from privacy.noise import Noise
from tests.transforms import harness, reference, test_bins, world
from transforms.columns import as_id_words
from transforms.exchange import id_columns, ids_of, keys_of, named_batch
from transforms.release_keys import published_schema, release_keys
from transforms.sum_by_unit import ReleaseInput

Key = tuple[Any, ...]
Cells = dict[str, dict[Key, int]]

METRICS = """metrics: [{name: purchases, count: events}, {name: people, count: units}, {name: total, sum: value, clip: [-2, 9]},
    {name: average, mean: value, clip: [0.1, 7.3]}, {name: spread, variance: value, clip: [0.1, 7.3]},
    {name: prices, histogram: {of: value, bins: [0, 2, 5, 9]}}, {name: ways, frequency: {of: way, values: [web, shop]}}]}"""
RELEASES = (
    """{name: departments, keys: {columns: [product, department], values: {department: [deli, grocery, nowhere]}},
        bounds: {keys_per_unit: 3, rows_per_key: 2}, select: {cap: 4}, """ + METRICS,
    # Two values are one of the column's type; null is a product; the columns are in an order of their own.
    """{name: floors, keys: {columns: [floor, product, size], values: {size: ["0.5", "2"], floor: [1, "01", 3, -2]}, nulls: keep},
        bounds: {keys_per_unit: 2, rows_per_key: 3}, """ + METRICS,
    """{name: ways, keys: {columns: [way, department, product], values: {department: [grocery]}},
        bounds: {keys_per_unit: 1, rows_per_key: 1}, select: {cap: 1}, """ + METRICS,
)  # fmt: skip
PUBLIC = {
    "departments": [("deli",), ("grocery",), ("nowhere",)],
    "floors": [(floor, Decimal(size)) for floor in (1, 3, -2) for size in ("0.50", "2.00")],
    "ways": [("grocery",)],
}
"""The listed values, in their published types, in the order of the columns."""


def some_events(rows=3000, seed=0):
    """Units of very different size; a fifth of the departments and floors is not listed, some of everything is null."""
    draw = np.random.default_rng(seed)

    def mask(part=0.04):
        return draw.random(rows) < part

    return pa.table(
        {
            "unit": pa.array((draw.pareto(0.6, rows) * 4).astype(np.int64) % 300, mask=mask()),
            "product": pa.array(draw.integers(0, 12, rows), mask=mask()),
            "department": pa.array(draw.choice(["deli", "grocery", "fuel", "Deli"], rows, p=[0.5, 0.3, 0.1, 0.1]), mask=mask()),
            "floor": pa.array(draw.choice([1, 3, 4], rows, p=[0.5, 0.3, 0.2]), pa.int16(), mask=mask()),
            "size": pa.array([Decimal(int(number)) / 2 for number in draw.integers(1, 5, rows)], pa.decimal128(5, 2)),
            "way": pa.array(draw.choice(["web", "shop", "app"], rows), mask=mask()),
            "value": pa.array(draw.choice([1.5, 2.25, 4.0, 8.75, 20.0, -3.0, np.nan], rows), mask=mask()),
        }
    )


# The reference: plain Python, one row at a time.


def parts_of(tree: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The public and the private columns of a release as the config writes it."""
    columns = tree["keys"]["columns"]
    return [c for c in columns if c in tree["keys"]["values"]], [c for c in columns if c not in tree["keys"]["values"]]


def counted(rows: Iterable[Mapping[str, Any]], tree: Mapping[str, Any]) -> dict[Any, dict[Key, dict[Key, list[Any]]]]:
    """The rows that count, by unit, private part and key."""
    public, private = parts_of(tree)
    found: dict[Any, dict[Key, dict[Key, list[Any]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        key, part = tuple(row[name] for name in tree["keys"]["columns"]), tuple(row[name] for name in private)
        if row["unit"] is None or tuple(row[name] for name in public) not in PUBLIC[tree["name"]]:
            continue
        if None in key and tree["keys"].get("nulls") != "keep":
            continue
        found[row["unit"]][part][key].append(row)
    return found


def ranks(release: ReleaseInput, secret: bytes, parts: Iterable[Key]) -> dict[Key, int]:
    """The ids of private parts, by which the cap chooses."""
    kinds = dict(zip(release.key_columns, release.key_types, strict=True))
    listed = list(parts)
    columns = [
        pa.array(column, kinds[name]) for column, name in zip(zip(*listed, strict=True), release.named_columns, strict=True)
    ]
    ids = make_ids([as_id_words(column) for column in columns], secret, release.key_domain)
    return dict(zip(listed, harness.numbers(ids), strict=True))


def stages_of(tree: Mapping[str, Any]) -> list[reference.Stage]:
    """Those of private keys: first the selection's."""
    return test_bins.stages_of({**tree, "keys": {"columns": tree["keys"]["columns"]}}, zero=False)


def expected(setup: harness.Setup, tree: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Cells:
    """The sums of each stage: of the selection by private part, of the others by key, and by bin where there are bins."""
    release, units = test_bins.release_of(setup, tree["name"]), counted(rows, tree)
    rank = ranks(release, setup.secret, {part for parts in units.values() for part in parts})
    cap = tree.get("select", {}).get("cap", 1024)
    select, *others = stages_of(tree)
    sums: dict[str, Counter[Key]] = {stage.name: Counter() for stage in (select, *others)}
    for parts in units.values():
        kept = {part: parts[part] for part in sorted(parts, key=rank.__getitem__)[:cap]}
        assert set(select.of(kept).values()) == {math.isqrt(2**58 // len(kept))}
        sums["select"].update(select.of(kept))
        keys = {key: found for part in kept.values() for key, found in part.items()}
        for stage in others:
            sums[stage.name].update(stage.of(keys))
    return {name: {cell: total for cell, total in counter.items() if total} for name, counter in sums.items()}


# The product.


def cells_of(tables: harness.Tables, release: ReleaseInput) -> Cells:
    """The sums of each stage, in the form of the reference. A cell that comes twice is an error."""
    plan, names = release.plan, harness.names_of(tables, release)
    found: Cells = {stage.name: {} for stage in plan.stages}
    totals = [stage.name for stage in plan.stages if getattr(stage, "vector", None) not in plan.bins]
    weights: Counter[Key] = Counter()
    for table in tables.get(f"sums:{release.number}", []):
        keys, parts = named(table, release, names)
        for part, weight in zip(parts, table["stage_0"].to_pylist(), strict=True):
            weights[part] += weight
        for number, stage in enumerate(totals[1:], start=1):
            put(found[stage], keys, table[f"stage_{number}"])
    found["select"] = dict(weights)
    for number, vector in enumerate(plan.bins):
        (stage,) = (stage.name for stage in plan.vectors if stage.vector == vector)
        for table in tables.get(f"bins:{release.number}:{number}", []):
            keys, _ = named(table, release, names)
            put(found[stage], [(*key, cell) for key, cell in zip(keys, table["bin"].to_pylist(), strict=True)], table["steps"])
    return {stage: {cell: total for cell, total in cells.items() if total} for stage, cells in found.items()}


def named(table: pa.RecordBatch, release: ReleaseInput, names: Mapping[int, Key]) -> tuple[list[Key], list[Key]]:
    """The key and the private part of each row."""
    keys = keys_of(table)
    parts = [names[number] for number in harness.numbers(keys.ids)]
    public = zip(*(column.to_pylist() for column in release.listed.take(keys.public)), strict=True)
    whole = []
    for values, part in zip(public, parts, strict=True):
        row = dict(zip((*release.listed.columns, *release.named_columns), (*values, *part), strict=True))
        whole.append(tuple(row[name] for name in release.key_columns))
    return whole, parts


def put(cells: dict[Key, int], keys: Iterable[Key], amounts: pa.Array) -> None:
    for key, amount in zip(keys, amounts.to_pylist(), strict=True):
        assert key not in cells, "a cell is there twice"
        cells[key] = amount


def twins(setup: harness.Setup, events: pa.Table, batches: int = 3) -> dict[str, Cells]:
    """The sums of each release over these events, in their order."""
    tables = test_bins.run_twins(setup, harness.split(events, np.arange(events.num_rows), batches))
    return {release.plan.name: cells_of(tables, release) for release in setup.releases}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    root = tmp_path_factory.mktemp("partly")
    return harness.set_up(world.simple(root, some_events(), *RELEASES))


@pytest.fixture(scope="module")
def trees(setup):
    return {tree["name"]: tree for tree in world.tree_of("releases: [" + ", ".join(RELEASES) + "]")["releases"]}


@pytest.fixture(scope="module")
def reference_sums(setup, trees):
    rows = some_events().to_pylist()
    return {name: expected(setup, tree, rows) for name, tree in trees.items()}


def test_the_events_are_awkward_enough(trees):
    """Units over the cap, with many keys of one private part, and with unlisted public parts only."""
    rows = some_events().to_pylist()
    units = counted(rows, trees["departments"])
    assert len({row["unit"] for row in rows} - {None}) > len(units) + 5
    assert sum(len(parts) > 4 for parts in units.values()) > 20
    assert sum(1 < len(parts) <= 4 for parts in units.values()) > 20
    assert sum(any(len(keys) > 1 for keys in parts.values()) for parts in units.values()) > 20
    assert (None,) in {part for parts in counted(rows, trees["floors"]).values() for part in parts}


@pytest.mark.parametrize(("batches", "shards", "by_reference"), [(1, (1, 1), False), (7, (4, 3), True), (60, (3, 5), False)])
def test_n4_the_sums_are_those_of_the_reference(setup, reference_sums, tmp_path, batches, shards, by_reference):
    """Whatever the order, batches and shards: weights by private part, metrics by key."""
    order = np.random.default_rng(batches).permutation(some_events().num_rows)
    parts = harness.split(harness.read_all(setup), order, batches)
    tables = test_bins.run_twins(setup, parts, *shards, tmp_path if by_reference else None)
    assert {release.plan.name: cells_of(tables, release) for release in setup.releases} == reference_sums
    assert all(len(cells) > 3 for stages in reference_sums.values() for cells in stages.values())


@pytest.mark.parametrize("grouped", [True, False])
def test_n4_whether_batches_are_grouped_does_not_matter(setup, reference_sums, monkeypatch, grouped):
    monkeypatch.setattr("transforms.sum_by_unit.worth_grouping", lambda *_: grouped)
    assert twins(setup, harness.read_all(setup), 5) == reference_sums


def test_n4_through_beam(setup, reference_sums, tmp_path):
    """Both shuffles of the real graph."""
    tables, _ = harness.run_beam(setup, tmp_path, Sharding(3, 2, True), 1)
    assert {release.plan.name: cells_of(tables, release) for release in setup.releases} == reference_sums


def test_s2_events_of_unlisted_public_parts_change_nothing(setup, reference_sums):
    """They are left out before anything is bounded: without them every sum is the same."""
    events = harness.read_all(setup)
    listed = [row["department"] in ("deli", "grocery") for row in events.to_pylist()]
    assert 0.5 < np.mean(listed) < 0.9
    found = twins(setup, events.filter(pa.array(listed)))
    assert found["departments"] == reference_sums["departments"]
    assert found["floors"] != reference_sums["floors"]


# One unit.


def changes(before: Cells, after: Cells, order: int = 2) -> dict[str, int]:
    """For each stage, the squared L2 distance of two vectors, exactly; or their L1 distance."""
    cells = {stage: before[stage] | after[stage] for stage in before}
    moved = {stage: [after[stage].get(cell, 0) - before[stage].get(cell, 0) for cell in cells[stage]] for stage in before}
    return {stage: sum(abs(steps) ** order for steps in found) for stage, found in moved.items()}


TREE = RELEASES[0].replace("metrics: [", "metrics: [{name: q, quantiles: {of: value, at: [0.5], clip: [0, 9]}}, ")


SAMPLED = RELEASES[0].replace("departments", "sampled").replace("rows_per_key: 2", "rows_per_key: 2, by: sampling")
LAPLACE = RELEASES[0].replace("departments", "laplace").replace("rows_per_key: 2", "rows_per_key: 2, noise: laplace")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A setup with a tree as well, its events, and their sums."""
    events = some_events(400, 1)
    made = harness.set_up(world.simple(tmp_path_factory.mktemp("crowd"), events, TREE, *RELEASES[1:], SAMPLED, LAPLACE))
    return made, events, twins(made, events, 2)


ROW = st.tuples(
    st.integers(0, 9) | st.none(),
    st.sampled_from(["deli", "grocery", "nowhere", "fuel", None]),
    st.sampled_from([1, 3, -2, 4]),
    st.sampled_from([Decimal("0.50"), Decimal("2.00")]),
    st.sampled_from([1e308, -1e308, 9.0, 0.0, float("nan"), None]),
    st.sampled_from([1, 1, 2, 50, 3000]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=24))
def test_n4_one_unit_changes_each_stage_by_at_most_its_norm_exactly(crowd, rows):
    """Whatever it brings, and by the same as it adds alone: the selection's weights and every metric."""
    setup, events, before = crowd
    rows = [row for *row, times in rows for _ in range(times)]
    columns = dict(zip(("product", "department", "floor", "size", "value"), map(list, zip(*rows, strict=True)), strict=True))
    columns |= {"unit": [-1] * len(rows), "way": ["web"] * len(rows)}
    mine = pa.Table.from_pydict({name: columns[name] for name in events.schema.names}, events.schema)
    after, alone = twins(setup, pa.concat_tables([events.slice(0, 99), mine, events.slice(99)]), 4), twins(setup, mine, 2)
    for release in setup.releases:
        name = release.plan.name
        for stage in release.plan.stages:
            order = stage.noise.order
            found = changes(before[name], after[name], order)[stage.name]
            own = changes({stage: {} for stage in before[name]}, alone[name], order)[stage.name]
            assert found == own <= stage.norm**order, (name, stage.name)


def test_b1_the_norms_are_used_and_the_cap_is_about_private_parts(crowd):
    """A unit with 300 products in 3 departments: 4 products are kept with all of their keys, each with half of the weight."""
    setup, events, before = crowd
    rows = [(product, department) for product in range(1000, 1300) for department in ("deli", "grocery", "nowhere")] * 9
    columns = {"product": [product for product, _ in rows], "department": [department for _, department in rows]}
    columns |= {"unit": [-1] * len(rows), "way": ["web"] * len(rows), "value": [8.0] * len(rows)}
    columns |= {"floor": [4] * len(rows), "size": [Decimal("0.50")] * len(rows)}
    mine = pa.Table.from_pydict({name: columns[name] for name in events.schema.names}, events.schema)
    after = twins(setup, pa.concat_tables([events, mine]), 40)["departments"]
    release = setup.releases[0]
    rank = ranks(release, setup.secret, [(product,) for product in range(1000, 1300)])
    smallest = set(sorted(rank, key=rank.__getitem__)[:4])
    assert {part: weight for part, weight in after["select"].items() if part[0] >= 1000} == dict.fromkeys(smallest, 2**28)
    whole = {(*part, *department) for part in smallest for department in PUBLIC["departments"]}
    assert {key for key in after["purchases"] if key[0] >= 1000} == whole
    found = changes(before["departments"], after)
    used = {stage.name: found[stage.name] / stage.norm**2 for stage in release.plan.stages}
    assert min(used[name] for name in ("select", "purchases", "people")) > 0.99
    assert max(used.values()) <= 1


def test_n4_sampling_chooses_among_whole_keys_and_the_selection_is_as_without(crowd):
    """The same weights; of a unit at most 3 keys with at most 2 events each are left, whatever batches they come in."""
    setup, events, _ = crowd
    one = events.filter(pc.equal(events["unit"], 0))
    found = [twins(setup, one, batches) for batches in (1, 9)]
    assert found[0]["sampled"] == found[1]["sampled"]
    sampled, scaled = found[0]["sampled"], found[0]["departments"]
    assert sorted(sampled["select"].values()) == sorted(scaled["select"].values())
    assert len(scaled["purchases"]) > 3
    assert sampled["people"].keys() == sampled["purchases"].keys()
    grid = next(stage.grid for stage in setup.plan.releases[0].vectors if stage.name == "purchases")
    assert sorted(steps * grid.step for steps in sampled["purchases"].values()) in ([1, 1, 2], [1, 2, 2], [2, 2, 2], [1, 1, 1])


def test_sampling_tells_keys_of_one_private_part_apart(crowd):
    """Of 2 products in 3 departments each, 3 keys are sampled: were all keys of a product alike, they would be of one product.

    A choice of 3 among 6 is of one product with probability 1/10; 20 units all are so in one of 1e20 runs.
    """
    setup, events, _ = crowd
    chosen = []
    for unit in range(1000, 1020):
        keys = [(product, department) for product in (1, 2) for department in ("deli", "grocery", "nowhere")]
        rows = [{"unit": unit, "product": product, "department": department} for product, department in keys]
        found = twins(setup, pa.Table.from_pylist(rows, events.schema), 1)["sampled"]
        assert (len(found["select"]), len(found["purchases"])) == (2, 3)
        chosen.append({product for product, _ in found["purchases"]})
    assert {1, 2} in chosen


@pytest.mark.parametrize("k", [1, 5])
def test_n4_any_k_rows_change_each_stage_by_at_most_its_norm(tmp_path, k):
    """Where rows are the unit, each adds its weight to its one private part."""
    text = RELEASES[0].replace("bounds: {keys_per_unit: 3, rows_per_key: 2}, select: {cap: 4}, ", "")
    text = text.replace(" {name: people, count: units},", "")
    events = some_events(500)
    setup = harness.set_up(world.simple(tmp_path, events, text, unit=f"{{rows: {k}}}"))
    (release,) = setup.releases
    after = twins(setup, events, 1)["departments"]
    listed = Counter(
        (row["product"],) for row in events.to_pylist() if row["department"] in ("deli", "grocery") and row["product"] is not None
    )
    assert after["select"] == {part: count * (2**29 // k) for part, count in listed.items()}
    for seed in range(5):
        kept = np.sort(np.random.default_rng(seed).permutation(500)[k:])
        found = changes(twins(setup, events.take(pa.array(kept)), 1)["departments"], after)
        assert all(found[stage.name] <= stage.norm**2 for stage in release.plan.stages)


# What is published.


def with_threshold(release, threshold):
    """The release with another threshold."""
    return replace(release, plan=replace(release.plan, selection=replace(release.plan.selection, threshold=threshold)))


def draw(setup, release, tables):
    """One draw of a release from the tables of a single key shard."""
    (sums,), (names,) = tables[f"sums:{release.number}"], tables[f"names:{release.number}"]
    bins = [tables.get(f"bins:{release.number}:{number}", [None])[0] for number in range(len(release.plan.bins))]
    return release_keys(sums, names, release, setup.inputs.value_types, bins)


@pytest.fixture(scope="module")
def one_shard(setup):
    events = harness.read_all(setup)
    return test_bins.run_twins(setup, harness.split(events, np.arange(events.num_rows), 4), 3, 1)


@pytest.mark.parametrize("name", PUBLIC)
def test_s2_every_combination_of_what_is_selected_is_published_once_and_no_other(setup, trees, one_shard, name, monkeypatch):
    """Without noise, and with a threshold that half of the private parts reach."""
    monkeypatch.setattr(Noise, "add", lambda noise, values: values.copy())
    release, exact = test_bins.release_of(setup, name), expected(setup, trees[name], some_events().to_pylist())
    middle = sorted(exact["select"].values())[len(exact["select"]) // 2]
    selected = {part for part, weight in exact["select"].items() if weight >= middle}
    assert 0 < len(selected) < len(exact["select"])
    released = draw(setup, with_threshold(release, middle), one_shard)
    assert released.schema.remove_metadata().equals(published_schema(release, setup.inputs.value_types))
    public, private = parts_of(trees[name])
    whole = [dict(zip((*public, *private), (*values, *part), strict=True)) for values in PUBLIC[name] for part in selected]
    keys = [tuple(row[column] for column in release.key_columns) for row in whole]
    rows = {tuple(row[column] for column in release.key_columns): row for row in released.to_pylist()}
    assert (len(rows), set(rows)) == (released.num_rows, set(keys))
    grid = {stage.name: stage.grid.step for stage in release.plan.stages}
    for key, row in rows.items():
        assert row["purchases"] == round(exact["purchases"].get(key, 0) * grid["purchases"])
        assert row["people"] == round(exact["people"].get(key, 0) * grid["people"])
        assert row["total"] == pytest.approx(exact["total"].get(key, 0) * grid["total"])
        for number in range(3):
            assert row[f"prices_{number + 1}"] == round(exact["prices"].get((*key, number), 0) * grid["prices"])
    assert name == "ways" or any(key not in exact["purchases"] for key in keys)


def test_s2_every_cell_of_every_combination_has_noise_of_its_own(setup, one_shard):
    """Half of the combinations hold no event. No cell is constant over 60 draws, and none is the copy of another.

    A noise of a few events is rounded to the same integer in 60 draws with probability below 1e-20.
    """
    release = with_threshold(setup.releases[0], -(2**62))
    draws = [draw(setup, release, one_shard) for _ in range(60)]
    assert len({str(draw["department"].to_pylist() + draw["product"].to_pylist()) for draw in draws}) == 1
    columns = ["purchases", "people", "total", "average", "prices_1", "ways_web"]
    values = np.array([[drawn[name].to_numpy() for name in columns] for drawn in draws])
    assert values.shape == (60, 6, 36)
    assert (np.ptp(values, axis=0) > 0).all()
    empty = np.array(draws[0]["department"].to_pylist()) == "nowhere"
    assert empty.sum() == 12
    cells = values[:, :, empty].reshape(60, -1)
    assert len(np.unique(cells, axis=1).T) == cells.shape[1]
    for place, stage in enumerate(("purchases", "people", "total")):
        (planned,) = (found for found in release.plan.vectors if found.name == stage)
        # The variance of 720 draws is off by as much with probability below 1e-9.
        assert 0.65 < np.mean(values[:, place, empty] ** 2.0) / planned.deviation**2 < 1.45, stage


def test_s1_s2_only_the_sum_of_the_weights_selects(setup):
    """Many keys without weight beside one that has it; parts without weight are never shown, whatever their keys hold."""
    release = with_threshold(setup.releases[0], 2**40)
    made = make_ids([pa.array(np.arange(300))], setup.secret, release.key_domain)
    order = np.lexsort([made.low, made.high])
    names = named_batch("names:0", id_columns(made.take(order), "key") | {"column_0": order})
    # Product n has a third of its weight in each of three rows if n is even, else none.
    rows = np.repeat(np.arange(300), 3)
    weights = np.where(order[rows] % 2 == 0, 2**45 // 3, 0)
    columns = {f"stage_{number}": np.full(900, 2**60) for number in range(1, len(release.plan.totals) + 1)}
    keys = id_columns(ids_of(names, "key").take(rows), "key") | {"public": np.tile(np.arange(3, dtype=np.uint8), 300)}
    sums = named_batch("sums:0", keys | {"stage_0": weights} | columns)
    released = release_keys(sums, names, release, setup.inputs.value_types, [None, None])
    assert sorted(released["product"].to_pylist()) == sorted([*range(0, 300, 2)] * 3)
    none = release_keys(None, names, release, setup.inputs.value_types, [None, None])
    assert none.num_rows == 0


def test_s1_a_private_part_of_one_unit_is_as_hidden_as_a_key(tmp_path):
    """The threshold, the scale and the weights are those of the release whose keys are the private parts."""
    whole = RELEASES[0]
    alone = whole.replace("[product, department], values: {department: [deli, grocery, nowhere]}", "[product]")
    plans = [
        harness.set_up(world.simple(tmp_path / str(number), some_events(50), text)).plan
        for number, text in enumerate((whole, alone))
    ]
    mine, other = (plan.releases[0].selection for plan in plans)
    assert mine == other
    assert mine.weights.tolist() == other.weights.tolist()
