"""Histograms and frequencies below the noise: the integers of a plain reference, the same however the events come, and the norm.

Events are counted per unit, key and bin. A cell of the sums is a key and a bin of it.
"""

import functools
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.graph import Sharding
from privacy.ids import Ids, make_ids, new_secret
from privacy.tallies import MOST_EVENTS
from tests.transforms import harness, reference, world
from transforms.bound_contributions import add_up_bins, bound_bins, bound_contributions, merge_names
from transforms.columns import as_id_words
from transforms.exchange import Exchange, id_columns, ids_of, named_batch, named_of
from transforms.grouping import Groups, RowKeys, group_bins, group_ids, ungrouped
from transforms.release_keys import published_schema, release_keys
from transforms.sampling import sample
from transforms.sum_by_key import sum_bins_by_key, sum_by_key
from transforms.sum_by_unit import all_public_names, public_names, sum_by_unit

Key = tuple[Any, ...]
Row = Mapping[str, Any]
Cells = dict[str, dict[Key, int]]
"""The sums of each stage, by key, and for bins by key and bin. Zero sums are left out."""

RELEASES = """
releases:
  - name: departments
    keys: {columns: [department, month]}
    bounds: {keys_per_unit: 3, rows_per_key: 2}
    select: {cap: 6}
    metrics:
      - {name: purchases, count: events}
      - {name: pieces, histogram: {of: quantity, bins: [-5, 0, 100, 750, 1000]}}
      - {name: revenue, sum: amount, clip: [-5, 20]}
      - {name: ways, frequency: {of: channel, values: [app, web, shop, test]}}
      - {name: price, mean: amount, clip: [0.1, 9.7]}
      - {name: people, count: units}
  - name: sizes
    keys: {columns: [size, level]}
    bounds: {keys_per_unit: 2, rows_per_key: 3}
    metrics:
      - {name: amounts, histogram: {of: amount, bins: [-1.5, -0.0, 0.005, 12.34, 20]}}
      - {name: days, frequency: {of: day, values: [1970-01-01]}}
      - {name: fees, histogram: {of: fee, bins: [0, 5]}}
      - {name: again, histogram: {of: amount, bins: [-1.5, 0, 0.005, 12.34, 20]}}
  - name: shops
    keys: {columns: [shop], values: {shop: [north, south, "", "österreich", nowhere]}}
    bounds: {keys_per_unit: 1, rows_per_key: 4}
    metrics:
      - {name: stock, histogram: {of: stock, bins: [0, 1, 1.0e+6, 1.8e+19, 1.9e+19]}}
      - {name: sizes, frequency: {of: size, values: ["-0.5", "0.25", "9.75"]}}
      - {name: purchases, count: events}
      - {name: levels, frequency: {of: level, values: ["127", "-128"]}}
      - {name: months, frequency: {of: month, values: [2023-03-01, 2023-04-01]}}
      - {name: parts, frequency: {of: department, values: [department 7, department 0]}}
output: {path: ROOT/out, files: 2}
"""
CONFIG = world.CONFIG[: world.CONFIG.index("releases:")] + RELEASES.lstrip()
NAMES = ("departments", "sizes", "shops")
UNUSED = {("departments", "ways"): {3}, ("shops", "sizes"): {2}}
"""Bins that no event is in."""


# The reference: plain Python, one row at a time.


def written_as(value: Any, text: str) -> bool:
    """Whether a category of the config means this value."""
    if isinstance(value, bool):
        return text == str(value).lower()
    return Decimal(text) == value if isinstance(value, Decimal) else text == str(value)


def bin_of(row: Row, metric: Mapping[str, Any], zero: bool) -> int | None:
    """The bin of a row, counted from 0; None where it is in none."""
    if "frequency" in metric:
        value = row[metric["frequency"]["of"]]
        texts = map(str, metric["frequency"]["values"])
        return next((number for number, text in enumerate(texts) if value is not None and written_as(value, text)), None)
    value, edges = row[metric["histogram"]["of"]], metric["histogram"]["bins"]
    if not reference.usable(value):
        if not zero:
            return None
        value = 0
    return sum(float(value) >= edge for edge in edges[1:-1])


def bin_stage(metric: Mapping[str, Any], k: int, r: int, zero: bool) -> reference.Stage:
    """Events of each key and bin: those of a key have, in all, what a count of them lets in."""
    exponent = reference.grid_exponent(r * r * k)
    norm = reference.root_up(r * r * k << -2 * exponent)

    def of(rows: Mapping[Key, list[Row]]) -> dict[Key, int]:
        cells: dict[Key, dict[int, int]] = {}
        for key, found in rows.items():
            bins = Counter(number for row in found if (number := bin_of(row, metric, zero)) is not None)
            if bins:
                cells[key] = bins
        counted = reference.scaled({key: bins.total() << -exponent for key, bins in cells.items()}, norm)
        return {
            (*key, number): count * counted[key] // bins.total() for key, bins in cells.items() for number, count in bins.items()
        }

    declared = metric.get("histogram") or metric["frequency"]
    return reference.Stage(
        metric["name"], norm, of, ("bins", declared["of"], *declared.get("bins", ()), *declared.get("values", ()))
    )


def stages_of(release: Mapping[str, Any], zero: bool) -> list[reference.Stage]:
    """The stages of a release by the config's tree; a run of rows has none but these."""
    k, r = release["bounds"]["keys_per_unit"], release["bounds"]["rows_per_key"]
    stages = reference.stages_of({**release, "metrics": []})
    for metric in release["metrics"]:
        if "histogram" in metric or "frequency" in metric:
            stages.append(bin_stage(metric, k, r, zero))
        else:
            stages += [stage for stage in reference.stages_of({**release, "metrics": [metric]}) if stage.name != "select"]
    return reference.joined(stages)


def release_of(setup: harness.Setup, name: str) -> Any:
    """A release as the steps see it."""
    return next(release for release in setup.releases if release.plan.name == name)


def rows_by_unit(
    setup: harness.Setup, tree: Mapping[str, Any], rows: Iterable[Row], unit: Sequence[str]
) -> dict[Key, dict[Key, list[Row]]]:
    """The rows of each unit and key that count, before the cap."""
    public, columns = release_of(setup, tree["name"]).public, tree["keys"]["columns"]
    listed = None if public is None else set(zip(*(column.to_pylist() for column in public.load()), strict=True))
    units: dict[Key, dict[Key, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        person, key = tuple(row[column] for column in unit), tuple(row[column] for column in columns)
        if any(part in (None, "") for part in person) or (None in key and setup.config.events.nulls.key == "drop"):
            continue
        if listed is None or key in listed:
            units[person][key].append(row)
    return units


def expected_cells(setup: harness.Setup, tree: Mapping[str, Any], rows: Iterable[Row], unit: Sequence[str]) -> Cells:
    """The sums of each stage of a release over all units, exactly.

    Of a unit with more keys than the cap, those with the smallest ids count. It is used where each key of such a unit has events
    in bins, for then it does not matter whether the others are looked at.
    """
    release, units = release_of(setup, tree["name"]), rows_by_unit(setup, tree, rows, unit)
    keys = list({key for found in units.values() for key in found})
    rank = harness.ranks(release, setup.secret, keys) if keys else {}
    sums: Cells = {}
    for stage in stages_of(tree, setup.config.events.nulls.value == "zero"):
        totals: Counter[Key] = Counter()
        for found in units.values():
            kept = found if release.plan.cap is None else reference.capped(found, release.plan.cap, rank.__getitem__)
            added = stage.of(kept)
            assert harness.squared(added.values()) <= stage.norm**2, f"the reference itself breaks the norm of {stage.name}"
            totals.update(added)
        sums[stage.name] = {cell: total for cell, total in totals.items() if total}
    return sums


# The product: what its graph or its pure functions make, by stage and by name.


def run_twins(
    setup: harness.Setup,
    batches: Sequence[pa.RecordBatch],
    unit_shards: int = 3,
    key_shards: int = 2,
    folder: Path | None = None,
) -> harness.Tables:
    """The tables that the pure functions make of these batches, sent through real exchanges."""
    exchange = Exchange(folder)
    public = all_public_names(setup.releases, setup.secret)
    sent = []
    for number, batch in enumerate(batches):
        tables = sum_by_unit(batch, setup.inputs.unit, setup.releases, setup.secret, public, (0, number))
        sent += exchange.send([*tables, *(public.values() if number == 0 else ())], unit_shards)
    sent = [payload for received in shards_of(exchange, sent) for payload in exchange.send(bounded(setup, received), key_shards)]
    result: harness.Tables = {}
    for received in shards_of(exchange, sent):
        for table in summed(setup, received):
            result.setdefault(table.schema.metadata[b"table"].decode(), []).append(table)
    return result


def shards_of(exchange: Exchange, sent: Iterable[tuple[int, bytes]]) -> list[harness.Tables]:
    """What each shard receives."""
    payloads: dict[int, list[bytes]] = {}
    for shard, payload in sent:
        payloads.setdefault(shard, []).append(payload)
    return [exchange.receive(found) for found in payloads.values()]


def bounded(setup: harness.Setup, received: harness.Tables) -> list[pa.RecordBatch]:
    """What a shard of units makes of its tables."""
    tables = []
    for name in [name for name in received if name.startswith("events:")]:
        number = int(name.partition(":")[2])
        received |= {named_of([t]): [t] for t in sample(received.pop(name), setup.releases[number].plan, number)}
    for name, batches in received.items():
        kind, release, *vector = name.split(":")
        plan = setup.releases[int(release)].plan
        if kind == "bins":
            tables.append(bound_bins(batches, received[f"sums:{release}"], plan.bins[int(vector[0])], plan.cap))
        else:
            tables.append(merge_names(batches) if kind == "names" else bound_contributions(batches, plan))
    return tables


def summed(setup: harness.Setup, received: harness.Tables) -> list[pa.RecordBatch]:
    """What a shard of keys makes of its tables."""
    reduce = {"names": merge_names, "bins": sum_bins_by_key}
    tables = []
    for name, batches in received.items():
        kind, release, *_ = name.split(":")
        tables.append(reduce[kind](batches) if kind in reduce else sum_by_key(batches, setup.releases[int(release)].plan))
    return tables


def cells_of(tables: harness.Tables, setup: harness.Setup) -> dict[str, Cells]:
    """The sums of each release and stage. A cell that comes twice is an error."""
    return {release.plan.name: _cells_of(tables, release) for release in setup.releases}


def _cells_of(tables: harness.Tables, release: Any) -> Cells:
    plan, names = release.plan, harness.names_of(tables, release)
    found: Cells = {stage.name: {} for stage in plan.stages}
    totals = [stage.name for stage in plan.stages if getattr(stage, "vector", None) not in plan.bins]
    for table in tables.get(f"sums:{release.number}", []):
        assert table.schema.names == ["key_high", "key_low", *(f"stage_{number}" for number in range(len(totals)))]
        for number, stage in enumerate(totals):
            _put(found[stage], [names[key] for key in harness.numbers(ids_of(table, "key"))], table[f"stage_{number}"])
    for number, vector in enumerate(plan.bins):
        (stage,) = (stage.name for stage in plan.vectors if stage.vector == vector)
        for table in tables.get(f"bins:{release.number}:{number}", []):
            assert table.schema.names == ["key_high", "key_low", "bin", "steps"]
            keys = [names[key] for key in harness.numbers(ids_of(table, "key"))]
            _put(found[stage], [(*key, cell) for key, cell in zip(keys, table["bin"].to_pylist(), strict=True)], table["steps"])
    return {stage: {cell: total for cell, total in cells.items() if total} for stage, cells in found.items()}


def _put(cells: dict[Key, int], names: Sequence[Key], amounts: pa.Array) -> None:
    for name, amount in zip(names, amounts.to_pylist(), strict=True):
        if name in cells:
            raise AssertionError("a cell is there twice")
        cells[name] = amount


def twins(setup: harness.Setup, events: pa.Table, batches: int = 3) -> dict[str, Cells]:
    """The sums of these events, in their order."""
    return cells_of(run_twins(setup, harness.split(events, np.arange(events.num_rows), batches)), setup)


# The shared world.


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bins")


@pytest.fixture(scope="module")
def setup(root):
    """The world in parts and batches of a few hundred rows, so that small files make many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.files.BATCH_ROWS", 500)
        patch.setattr("transforms.read_events.BATCH_ROWS", 500)
        world.write(root)
        yield harness.set_up(CONFIG.replace("ROOT", str(root)))


@pytest.fixture(scope="module")
def events(setup):
    return harness.read_all(setup)


@pytest.fixture(scope="module")
def trees():
    return {tree["name"]: tree for tree in world.tree_of(CONFIG)["releases"]}


@pytest.fixture(scope="module")
def rows(root):
    return world.reference_rows(root)


@pytest.fixture(scope="module")
def expected(setup, rows, trees):
    """The reference's sums of each release."""
    return {name: expected_cells(setup, tree, rows, world.UNIT) for name, tree in trees.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_world_has_units_over_every_bound_and_events_in_every_bin(setup, rows, trees, expected, name):
    """But for two bins, of a category that no event has."""
    units = rows_by_unit(setup, trees[name], rows, world.UNIT)
    assert len(units) > 100
    if name == "departments":
        assert Counter(len(keys) > 6 for keys in units.values())[True] >= 10
    stages = {stage.name: stage for stage in stages_of(trees[name], False)}
    for planned in plan_of(setup, name).vectors:
        if planned.vector in plan_of(setup, name).bins:
            stage, cells = stages[planned.name], expected[name][planned.name]
            bins = {cell[-1] for cell in cells}
            assert bins == set(range(planned.vector.bins.count)) - UNUSED.get((name, stage.name), set())
            lengths = [harness.squared(stage.of(keys).values()) for keys in units.values()]
            # What is over the bounds is cut to the norm of a count, and then spread over its bins.
            counts = Counter(length > (0.4 * stage.norm) ** 2 for length in lengths)
            assert min(counts[True], counts[False]) >= 5, stage.name


def test_the_world_is_awkward_enough(rows):
    """Categories that are null, values on edges, and none that are in no bin where a cap binds."""
    assert all(any(row[column] is None for row in rows) for column in ("day", "size", "level", "department", "month", "stock"))
    assert any(row["amount"] == 0 and str(row["amount"]) == "-0.0" for row in rows)
    assert any(row["quantity"] == 0 for row in rows)
    assert {row["channel"] for row in rows} == {"web", "shop", "app"}


def test_the_reference_has_the_norms_of_the_plan(setup, trees):
    for release, tree in zip(setup.releases, trees.values(), strict=True):
        planned = [(stage.name, stage.norm) for stage in release.plan.stages]
        assert planned == [(stage.name, stage.norm) for stage in stages_of(tree, False)]


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
    found = cells_of(tables, setup)
    for name, stages in expected.items():
        for stage, cells in stages.items():
            assert len(cells) > (3 if name == "shops" else 20), stage
            assert found[name][stage] == cells, (name, stage)


@functools.cache
def _order(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(rows)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batches", [1, 8, 64])
def test_n4_every_permutation_gives_the_references_integers(setup, events, expected, tmp_path, seed, batches):
    """In one batch or many, by value or by reference, over any number of shards."""
    order = _order(seed, events.num_rows)
    parts = harness.split(events, order, batches)
    assert (len(parts), sum(part.num_rows for part in parts)) == (batches, events.num_rows)
    tables = run_twins(setup, parts, 1 + seed % 7, 1 + seed % 4, tmp_path if seed % 2 else None)
    assert cells_of(tables, setup) == expected


@pytest.mark.parametrize("grouped", [True, False])
def test_n4_batches_that_are_not_grouped_give_the_same_integers(setup, events, expected, monkeypatch, grouped):
    """Whether a batch is summed per unit and key before the shuffle is a matter of speed."""
    seen = []
    monkeypatch.setattr("transforms.sum_by_unit.worth_grouping", lambda *_: seen.append(grouped) or grouped)
    assert twins(setup, events) == expected
    assert len(seen) == 3 * len(setup.releases)


def test_n4_another_secret_gives_the_same_sums_by_name(setup, events, expected):
    """Where no unit is above the cap."""
    other = harness.Setup(setup.config, setup.plan, setup.inputs, new_secret())
    found = twins(other, events, 5)
    assert found["sizes"] == expected["sizes"]
    assert found["shops"] == expected["shops"]
    assert found["departments"] != expected["departments"]


def test_bins_do_not_change_the_stages_beside_them(setup, events, expected, root):
    """The same release without them has the same sums of everything else."""
    tree = world.tree_of(CONFIG.replace("ROOT", str(root)))
    tree["releases"] = tree["releases"][:1]
    metrics = tree["releases"][0]["metrics"]
    tree["releases"][0]["metrics"] = [metric for metric in metrics if not {"histogram", "frequency"} & set(metric)]
    plain = harness.set_up(json.dumps(tree), setup.secret)
    assert plan_of(plain, "departments").bins == ()
    found = twins(plain, events)["departments"]
    assert len(found) == 6
    assert found == {stage: cells for stage, cells in expected["departments"].items() if stage not in ("pieces", "ways")}


def plan_of(setup: harness.Setup, name: str) -> Any:
    """The plan of a release."""
    return release_of(setup, name).plan


def people(events):
    """The units by how many rows they have, most first."""
    counts = events.group_by(list(world.UNIT)).aggregate([([], "count_all")])
    return [row for row in counts.sort_by([("count_all", "descending")]).to_pylist() if row["person"] and row["tenant"]]


def squared_changes(before: Cells, after: Cells) -> dict[str, int]:
    """For each stage, the squared L2 distance between two vectors over cells, exactly."""
    return {
        stage: harness.squared([cells.get(cell, 0) - old.get(cell, 0) for cell in cells.keys() | old.keys()])
        for stage, cells in after.items()
        for old in [before.get(stage, {})]
    }


def check_rows(setup, events, mine, batches=3):
    """Takes the rows of `mine` away. For each release and stage, how much of the squared norm they used, which is at most 1."""
    after, before = twins(setup, events, batches), twins(setup, events.filter(pc.invert(mine)), batches)
    used = {}
    for release in setup.releases:
        changes = squared_changes(before[release.plan.name], after[release.plan.name])
        for stage in release.plan.stages:
            assert changes[stage.name] <= stage.norm**2, (release.plan.name, stage.name)
            used[release.plan.name, stage.name] = changes[stage.name] / stage.norm**2
    return used


@pytest.mark.parametrize("place", [0, 1, 2, 10, 40, 100, -1])
def test_n4_n7_removing_one_unit_changes_each_stage_by_at_most_its_norm(setup, events, place):
    unit = people(events)[place]
    masks = [pc.fill_null(pc.equal(events[column], unit[column]), False) for column in world.UNIT]
    mine = pc.and_(*masks)
    assert pc.sum(mine).as_py() == unit["count_all"]
    used = check_rows(setup, events, mine)
    if place in (0, 1):  # whales: what they add to each key is spread over its bins, so only one bin can take all of the norm
        assert used["departments", "ways"] > 0.3
        assert used["sizes", "fees"] > 0.3
    alone = squared_changes({}, twins(setup, events.filter(mine))["shops"])
    for stage in plan_of(setup, "shops").stages:
        assert used["shops", stage.name] == alone[stage.name] / stage.norm**2


# Small inputs.

SMALL = """{name: NAME, keys: {columns: [key]KEYS}, bounds: {keys_per_unit: 4, rows_per_key: 3}, SELECT metrics: [
    {name: h, histogram: {of: value, bins: [-20, 0, 5, 10]}}, {name: f, frequency: {of: word, values: [x, y]}}EXTRA]}"""


def small(name="one", keys="", select="", extra=""):
    """A release with a histogram and a frequency."""
    return SMALL.replace("NAME", name).replace("KEYS", keys).replace("SELECT", select).replace("EXTRA", extra)


AWKWARD = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -0.0, 5.0, 10.0, -20.0]


def small_events(rows=3000, units=60, keys=40, seed=0):
    """Nulls in every column, values on edges and far beyond them, a few keys and units with most of the rows."""
    draw = np.random.default_rng(seed)
    values = np.where(draw.random(rows) < 0.3, draw.choice(AWKWARD, rows), draw.integers(-60, 60, rows) / 2)
    return pa.table(
        {
            "unit": pa.array(np.minimum(draw.zipf(1.3, rows), units), mask=draw.random(rows) < 0.02),
            "key": pa.array(np.minimum(draw.zipf(1.4, rows), keys), mask=draw.random(rows) < 0.05),
            "value": pa.array(values, mask=draw.random(rows) < 0.1),
            "word": pa.array([draw.choice(["x", "y", "z", "X", "", None]) for _ in range(rows)], pa.string()),
        }
    )


def set_up(root, table, *releases, options="", unit="unit"):
    """A setup of a table; options are further parts of `events`."""
    text = world.simple(root, table, *releases, unit=unit + options)
    return harness.set_up(text), world.tree_of(text)["releases"]


NULLS = {
    "left out": "",
    "values are 0": ", nulls: {value: zero}",
    "keys are kept": ", nulls: {key: keep}",
    "both": ", nulls: {key: keep, value: zero}",
}
COUNT = ", {name: n, count: events}, {name: total, sum: value, clip: [0, 10]}"


@pytest.mark.parametrize("nulls", NULLS)
def test_n6_nulls_and_values_that_are_none_as_declared(tmp_path, nulls):
    """A null category is never counted; a null value is in no bin, or in that of 0."""
    listed = ", values: {key: ['1', '2', '999']}"
    releases = (small("one"), small("two", listed), small("three", extra=COUNT.replace("sum: value, clip", "sum: other, clip")))
    table = small_events()
    table = table.append_column("other", pa.array(np.arange(table.num_rows) % 7, pa.int8()))
    setup, trees = set_up(tmp_path, table, *releases, options=NULLS[nulls])
    events = harness.read_all(setup)
    found = twins(setup, events)
    for tree in trees:
        assert found[tree["name"]] == expected_cells(setup, tree, table.to_pylist(), ["unit"]), tree["name"]
    kept = {cell for cell in found["one"]["h"] if cell[0] is None}
    assert bool(kept) == ("key: keep" in NULLS[nulls])
    assert {cell[0] for cell in found["two"]["h"]} == {1, 2}
    assert {cell[-1] for cell in found["one"]["h"]} == {0, 1, 2}
    unusable = [row for row in table.to_pylist() if not reference.usable(row["value"])]
    assert len(unusable) > 300


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_n4_rows_as_units_give_plain_counts(tmp_path, rows):
    """Each row is a unit with one key: nothing is scaled, and any k of them change a stage by at most its norm."""
    releases = [
        text.replace("bounds: {keys_per_unit: 4, rows_per_key: 3},", "")
        for text in (small("one"), small("two", ", values: {key: ['1', '2', '999']}", extra=COUNT))
    ]
    table = small_events()
    setup, trees = set_up(tmp_path, table, *releases, unit=f"{{rows: {rows}}}")
    events = harness.read_all(setup)
    numbered = [row | {"row": number} for number, row in enumerate(table.to_pylist())]
    found = twins(setup, events, 8)
    for tree in trees:
        bounds = {"bounds": {"keys_per_unit": 1, "rows_per_key": rows}}
        expected = expected_cells(setup, tree | bounds, numbered, ["row"])
        assert {stage: found[tree["name"]][stage] for stage in expected if stage != "select"} == {
            stage: cells for stage, cells in expected.items() if stage != "select"
        }
        one = 1 << -plan_of(setup, tree["name"]).bins[0].grid.exponent
        assert all(total % one == 0 for stage in ("h", "f") for total in found[tree["name"]][stage].values())
    order = np.random.default_rng(rows).permutation(table.num_rows)
    for batches, seed in ((1, 0), (64, 1)):
        parts = harness.split(events, np.random.default_rng(seed).permutation(table.num_rows), batches)
        assert cells_of(run_twins(setup, parts, 4, 3), setup) == found
    mine = np.zeros(table.num_rows, np.bool_)
    mine[order[:rows]] = True
    assert max(check_rows(setup, events, pa.array(mine)).values()) > 0


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_n7_k_rows_of_one_cell_reach_the_norm_and_not_more(tmp_path, rows):
    """The worst that k rows can bring: all in one bin of one key."""
    release = small("one", ", values: {key: ['1']}").replace("bounds: {keys_per_unit: 4, rows_per_key: 3},", "")
    table = pa.table(
        {"unit": [None] * (rows + 7), "key": [1] * (rows + 7), "value": [7.0] * (rows + 7), "word": ["x"] * (rows + 7)}
    )
    setup, _ = set_up(tmp_path, table, release, unit=f"{{rows: {rows}}}")
    mine = pa.array(np.arange(rows + 7) < rows)
    assert set(check_rows(setup, harness.read_all(setup), mine).values()) == {1.0}


def outlier(rows, **columns):
    """Ordinary units, and unit -1 with these rows."""
    table = small_events(500).set_column(0, "unit", pa.array(np.arange(500) // 5))
    mine = pa.table({"unit": np.full(rows, -1)} | columns).cast(table.schema)
    return pa.concat_tables([table.slice(0, 250), mine, table.slice(250)])


WHALES = {
    "a million rows in one cell": (10**6, np.zeros(10**6, np.int64), lambda n: np.full(n, 7.0), lambda n: np.zeros(n, np.int64)),
    "10,000 keys, one bin": (10_000, np.arange(10_000), lambda n: np.full(n, 7.0), lambda n: np.zeros(n, np.int64)),
    "10,000 keys, all bins": (
        90_000,
        np.arange(90_000) % 10_000,
        lambda n: np.arange(n) % 9 * 5.0 - 30,
        lambda n: np.arange(n) % 3,
    ),
    "values that are none": (900, np.arange(900) % 40, lambda n: np.resize(AWKWARD, n), lambda n: np.arange(n) % 6),
}


@pytest.mark.parametrize("cap", [16, 1024, 65_536])
@pytest.mark.parametrize("whale", WHALES)
def test_n6_n7_b1_a_whale_stays_within_the_norm(tmp_path, whale, cap):
    rows, keys, values, words = WHALES[whale]
    word = pa.array(["x", "y", "z", "X", "", None]).take(pa.array(words(rows)))
    table = outlier(rows, key=keys, value=values(rows), word=word)
    listed = ", values: {key: [" + ", ".join(f"'{key}'" for key in range(0, 400)) + "]}"
    setup, _ = set_up(tmp_path, table, small("one", select=f"select: {{cap: {cap}}},"), small("two", listed))
    events = harness.read_all(setup)
    mine = pc.fill_null(pc.equal(events["unit"], -1), False)
    assert pc.sum(mine).as_py() == rows
    assert events.num_rows == rows + 500
    used = check_rows(setup, events, mine)
    if "one" in whale.split() and (cap > 16 or "cell" in whale):  # all of a key is in one bin: the norm is used
        assert min(used[name, stage] for name in ("one", "two") for stage in ("h", "f")) > (0.2 if "cell" in whale else 0.99)
    alone = twins(setup, events.filter(mine))
    assert squared_changes(twins(setup, events.filter(pc.invert(mine)))["two"], twins(setup, events)["two"]) == squared_changes(
        {}, alone["two"]
    )


# The cap, where not every event of a unit is in a bin.


def sparse_events():
    """10 units in 60 keys, some of which have no event in any bin."""
    draw = np.random.default_rng(5)
    rows = 3000
    keys = draw.integers(0, 60, rows)
    return pa.table(
        {
            "unit": draw.integers(0, 10, rows),
            "key": keys,
            "value": pa.array(draw.uniform(-30, 30, rows), mask=keys % 3 != 0),
            "word": pa.array(["x", "z", "z"]).take(pa.array(keys % 3)),
        }
    )


@pytest.fixture
def sparse(tmp_path):
    """A cap of 30 keys, of a unit's 60; 20 have events in bins, of which none is among 30 in 1e-8 of draws."""
    setup, _ = set_up(tmp_path, sparse_events(), small(select="select: {cap: 30},", extra=COUNT))
    return setup, harness.read_all(setup)


@pytest.mark.parametrize("batches", [8, 64])
@pytest.mark.parametrize("seed", range(3))
def test_n4_the_cap_keeps_the_same_cells_for_every_split(sparse, seed, batches):
    """What a unit adds depends on its own events, not on which other rows its batch has."""
    setup, events = sparse
    expected = cells_of(run_twins(setup, harness.split(events, np.arange(events.num_rows), 1), 1, 1), setup)["one"]
    assert expected["h"]
    order = _order(seed, events.num_rows)
    found = cells_of(run_twins(setup, harness.split(events, order, batches)), setup)["one"]
    assert {stage: cells for stage, cells in found.items() if stage not in ("h", "f")} == {
        stage: cells for stage, cells in expected.items() if stage not in ("h", "f")
    }
    assert found == expected


@pytest.mark.parametrize("grouped", [True, False])
def test_n4_the_cap_keeps_the_same_cells_whether_batches_are_grouped(sparse, monkeypatch, grouped):
    setup, events = sparse
    expected = twins(setup, events)
    monkeypatch.setattr("transforms.sum_by_unit.worth_grouping", lambda *_: grouped)
    assert twins(setup, events) == expected


def test_n4_a_unit_may_not_change_which_cells_of_others_are_kept(sparse):
    """Its rows move those of all others into other batches; what changes is what the unit adds by itself."""
    setup, events = sparse
    events = events.sort_by("key")  # so that half of the rows are about half of the keys
    other = events.slice(0, 1500).set_column(0, "unit", pa.array(np.full(1500, 99), pa.int64()))

    def sums(table):
        batches = table.combine_chunks().to_batches(max_chunksize=events.num_rows)
        return cells_of(run_twins(setup, batches), setup)["one"]

    changes, own = squared_changes(sums(events), sums(pa.concat_tables([other, events]))), squared_changes({}, sums(other))
    for stage in plan_of(setup, "one").stages:
        assert own[stage.name] <= stage.norm**2
        assert changes[stage.name] <= stage.norm**2, stage.name
        assert changes[stage.name] == own[stage.name], stage.name


# Noise and tables.


def test_s2_every_bin_of_every_key_has_noise_also_where_there_is_no_event(tmp_path):
    """Public keys without data: each of 5 cells a key varies over 100 draws, none is the copy of another."""
    setup, _ = set_up(tmp_path, small_events(0), small("one", ", values: {key: ['1', '2', '999']}", extra=COUNT))
    release = setup.releases[0]
    names = public_names(release, setup.secret)
    draws = [release_keys(None, names, release, setup.inputs.value_types, [None, None]) for _ in range(100)]
    columns = ["h_1", "h_2", "h_3", "f_x", "f_y"]
    values = np.array([[draw[name].to_numpy() for name in columns] for draw in draws])
    assert values.shape == (100, 5, 3)
    # At epsilon 4 the noise of a bin is a few events: constant over 100 draws with probability below 1e-50.
    assert (np.ptp(values, axis=0) > 0).all()
    flat = values.reshape(100, 15)
    assert all(not np.array_equal(flat[:, i], flat[:, j]) for i, j in itertools.combinations(range(15), 2))
    for stage in plan_of(setup, "one").vectors[:2]:
        mine = values[:, [name.startswith(stage.name) for name in columns]]
        # The variance of 600 and more draws is off by as much with probability below 1e-12.
        assert 0.6 < np.mean(mine**2.0) / stage.deviation**2 < 1.5, stage.name
    assert draws[0].schema.equals(published_schema(release, setup.inputs.value_types))


def test_s1_s2_the_selection_does_not_look_at_bins(tmp_path):
    """Keys are published by their weight: one with all bins and none of the weight is not, one without any bin is."""
    setup, _ = set_up(tmp_path, small_events(0), small())
    release = setup.releases[0]
    release = replace(release, plan=replace(release.plan, selection=replace(release.plan.selection, threshold=1)))
    made = make_ids([pa.array(np.arange(200))], new_secret(), 1)
    order = np.lexsort([made.low, made.high])
    listed = made.take(order)
    names = named_batch("names:0", id_columns(listed, "key") | {"column_0": order})
    weights = np.where(order < 100, 2**60, 0)
    sums = named_batch("sums:0", id_columns(listed, "key") | {"stage_0": weights})
    full = np.flatnonzero(order >= 50)
    bins = named_batch("bins:0:0", id_columns(listed.take(full), "key") | {"bin": np.full(150, 1), "steps": np.full(150, 2**61)})
    released = release_keys(sums, names, release, setup.inputs.value_types, [bins, None]).to_pylist()
    assert sorted(row["key"] for row in released) == list(range(100))
    for row in released:
        assert (row["h_2"] > 10**6) == (row["key"] >= 50)
        assert abs(row["h_1"]) < 10**6
        assert abs(row["f_x"]) < 10**6


def test_n5_adding_up_as_many_units_as_the_most_events_allow():
    """2^32 units that each add 2^30 steps to one cell: 2^62, exactly."""
    key = make_ids([pa.array(np.arange(1))], new_secret(), 1).take(np.array([0, 0]))
    table = named_batch(
        "bins:0:0", id_columns(key, "key") | {"bin": np.array([0, 99]), "steps": np.full(2, MOST_EVENTS // 1024 << 30)}
    )
    total = sum_bins_by_key([table] * 1024)
    assert total.schema.metadata[b"table"] == b"bins:0:0"
    assert (total["bin"].to_pylist(), total["steps"].to_pylist()) == ([0, 99], [2**62] * 2)


def test_n5_noise_on_the_largest_sums_neither_wraps_nor_fails(tmp_path):
    setup, _ = set_up(tmp_path, small_events(0), small("one", ", values: {key: ['1']}"))
    release = setup.releases[0]
    names = public_names(release, setup.secret)
    bins = named_batch("bins:0:0", id_columns(ids_of(names, "key"), "key") | {"bin": np.array([2]), "steps": np.array([2**62])})
    for _ in range(20):
        (row,) = release_keys(None, names, release, setup.inputs.value_types, [bins, None]).to_pylist()
        assert row["h_3_low"] <= row["h_3"] <= row["h_3_high"]
        assert row["h_3"] > 2**32


# group_bins.

BINS = st.sampled_from([-1, -1, 0, 1, 2, 99, 2**16 - 1])


def plain_cells(groups: Sequence[Sequence[int]], bins: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """Group, bin and rows of each cell, in order."""
    found: dict[tuple[int, int], list[int]] = {}
    for number, members in enumerate(groups):
        for row in members:
            if bins[row] >= 0:
                found.setdefault((number, bins[row]), []).append(row)
    return [(group, cell, sorted(members)) for (group, cell), members in sorted(found.items())]


def found_cells(groups: Groups, bins: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """What `group_bins` makes of them, in the same form; and its sums are those of the rows."""
    cells = group_bins(groups, np.array(bins, np.int64))
    edges = [*cells.rows.starts.tolist(), len(cells.rows.order)]
    rows = [sorted(cells.rows.order[start:end].tolist()) for start, end in itertools.pairwise(edges)]
    values = np.arange(len(bins)) + 2**40
    assert cells.rows.add_up(values).tolist() == [sum(int(values[row]) for row in members) for members in rows]
    return list(zip(cells.groups.tolist(), cells.bins.tolist(), rows, strict=True))


@given(st.lists(st.tuples(st.integers(0, 5), BINS), max_size=60))
def test_group_bins_against_a_dictionary(pairs):
    ids, bins = [number for number, _ in pairs], [cell for _, cell in pairs]
    groups = group_ids(Ids(np.array(ids, np.uint64) << np.uint64(40), np.zeros(len(ids), np.uint64)))
    members = [[row for row, number in enumerate(ids) if number == name] for name in sorted(set(ids))]
    assert found_cells(groups, bins) == plain_cells(members, bins)


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), BINS), max_size=60))
def test_group_bins_of_rows_that_are_not_grouped(pairs):
    """Each row is a group of its own, in the order of its unit."""
    bins = [cell for _, cell in pairs]
    groups = ungrouped(Ids(np.array([unit << 48 for unit, _ in pairs], np.uint64), np.zeros(len(pairs), np.uint64)))
    assert found_cells(groups, bins) == plain_cells([[row] for row in groups.order.tolist()], bins)


@given(st.lists(st.tuples(st.integers(0, 5), BINS), min_size=1, max_size=60), st.integers(0, 5))
def test_group_bins_of_groups_of_which_some_rows_are_left_out(pairs, dropped):
    """As the cap leaves out rows: they are in no cell."""
    ids, bins = [number for number, _ in pairs], [cell for _, cell in pairs]
    groups = group_ids(Ids(np.array(ids, np.uint64), np.zeros(len(ids), np.uint64)))
    sizes = np.diff(groups.starts, append=len(groups.order))
    kept = np.arange(len(sizes)) != min(dropped, len(sizes) - 1)
    order = groups.order[np.repeat(kept, sizes)]
    starts = np.cumsum(sizes[kept]) - sizes[kept]
    edges = [*starts.tolist(), len(order)]
    members = [order[start:end].tolist() for start, end in itertools.pairwise(edges)] if len(starts) else []
    assert found_cells(Groups(order, starts), bins) == plain_cells(members, bins)


def test_add_up_bins_ascends_by_key_and_holds_each_cell_once():
    """The order that the shuffle cuts by."""
    draw = np.random.default_rng(1)
    names, cells, steps = draw.integers(0, 50, 2000), draw.integers(0, 100, 2000), draw.integers(0, 2**30, 2000)
    keys = make_ids([as_id_words(pa.array(names))], new_secret(), 1)
    table = add_up_bins("bins:3:1", RowKeys(keys), cells, steps)
    ids = harness.numbers(ids_of(table, "key"))
    found = list(zip(ids, table["bin"].to_pylist(), strict=True))
    assert found == sorted(set(found))
    expected: Counter[tuple[int, int]] = Counter()
    for key, cell, step in zip(harness.numbers(keys), cells.tolist(), steps.tolist(), strict=True):
        expected[key, cell] += step
    assert dict(zip(found, table["steps"].to_pylist(), strict=True)) == dict(expected)


def test_empty_input_has_no_cells(setup):
    """No rows at all, and batches without rows."""
    empty = harness.read_all(setup).slice(0, 0)
    for batches in (1, 3):
        found = cells_of(run_twins(setup, harness.split(empty, np.arange(0), batches)), setup)
        assert all(cells == {} for stages in found.values() for cells in stages.values())


def test_categories_of_every_type_are_found_in_the_files(tmp_path):
    """Dictionaries, long texts, zoned and fine timestamps, unsigned and small integers, decimals, booleans, dates."""
    pd_like = {
        "word": (pa.array(["a", "b", None, "a"]), ["b", "a"]),
        "large": (pa.array(["a", "b", None, "a"], pa.large_string()), ["b", "a"]),
        "view": (pa.array(["a", "b", None, "a"], pa.string_view()), ["b", "a"]),
        "dictionary": (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["b", "a"]),
        "tiny": (pa.array([-1, 7, None, -1], pa.int8()), ["7", "-1"]),
        "natural": (pa.array([2**64 - 1, 7, None, 2**64 - 1], pa.uint64()), ["7", str(2**64 - 1)]),
        "flag": (pa.array([True, False, None, True]), ["false", "true"]),
        "money": (pa.array([Decimal("1.50"), Decimal("-2.25"), None, Decimal("1.50")], pa.decimal128(9, 2)), ["-2.25", "1.5"]),
        "date": (pa.array([10, 11, None, 10], pa.int32()).cast(pa.date32()), ["1970-01-12", "1970-01-11"]),
        "seconds": (pa.array([0, 3600, None, 0], pa.timestamp("s")), ["1970-01-01 01:00:00", "1970-01-01 00:00:00"]),
        "nanos": (
            pa.array([999, 3_600_000_000_001, None, 0], pa.timestamp("ns")),
            ["1970-01-01 01:00:00", "1970-01-01T00:00:00"],
        ),
        "zoned": (
            pa.array([0, 3600, None, 0], pa.timestamp("s", "Europe/Berlin")),
            ["1970-01-01T01:00:00Z", "1970-01-01T01:00:00+01:00"],
        ),
    }
    table = pa.table({"unit": [1, 2, 3, 4], "key": [5] * 4} | {name: column for name, (column, _) in pd_like.items()})
    metrics = ", ".join(
        f"{{name: {name}, frequency: {{of: {name}, values: {values!r}}}}}".replace("'", '"')
        for name, (_, values) in pd_like.items()
    )
    setup, _ = set_up(
        tmp_path,
        table,
        f"{{name: one, keys: {{columns: [key]}}, bounds: {{keys_per_unit: 1, rows_per_key: 1}}, metrics: [{metrics}]}}",
    )
    found = twins(setup, harness.read_all(setup), 2)["one"]
    one = 1 << -setup.plan.releases[0].bins[0].grid.exponent
    for name in pd_like:
        assert found[name] == {(5, 0): one, (5, 1): 2 * one}, name
