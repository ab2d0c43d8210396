"""Pairs of items in one basket: equal to a plain reference, to the integer; what one unit adds is within the norm."""

import datetime as dt
import itertools
from collections import defaultdict
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.graph import Sharding
from privacy.ids import make_ids, new_secret
from tests.transforms import harness, reference, world
from transforms import form_pairs
from transforms.exchange import ids_of
from transforms.sum_by_unit import BASKET_DOMAINS, ITEM_DOMAINS, UNIT_DOMAIN, public_names, sum_by_unit

METRICS = "metrics: [{name: baskets, count: events}, {name: people, count: units}]}"
PRIVATE = (
    "{name: private, pairs: {of: item, within: basket}, keys: {columns: [item_1, item_2]}, select: {cap: 8}, "
    "bounds: {keys_per_unit: 5, rows_per_key: 2}, " + METRICS
)
WHOLE = PRIVATE.replace("private", "whole").replace("cap: 8", "cap: 65536")
PUBLIC = (
    "{name: public, pairs: {of: item, within: [basket, day]}, keys: {columns: [item_1, item_2], values: "
    "{item_1: [item 1, item 2, item 3, nowhere], item_2: [item 0, item 2, item 3, item 1]}}, "
    "bounds: {keys_per_unit: 2, rows_per_key: 3}, " + METRICS
)
PLAIN = "{name: plain, keys: {columns: [item]}, bounds: {keys_per_unit: 5, rows_per_key: 2}, " + METRICS
RELEASES = (PRIVATE, WHOLE, PUBLIC, PLAIN)


def purchases(rows, seed=0):
    """Some units of many baskets, items twice in a basket, baskets shared by units, nulls and empty texts everywhere."""
    draw = np.random.default_rng(seed)
    unit = (draw.pareto(0.7, rows) * 2).astype(int) % 60
    item = draw.zipf(1.4, rows) % 40
    basket = np.where(draw.random(rows) < 0.1, 0, draw.integers(0, 12, rows))
    return pa.table(
        {
            "unit": pa.array([f"unit {number}" if number % 13 else "" for number in unit], mask=draw.random(rows) < 0.03),
            "item": pa.array([f"item {number}" if number else "" for number in item], mask=draw.random(rows) < 0.03),
            "basket": pa.array([f"basket {number}" if number % 7 else "" for number in basket], mask=draw.random(rows) < 0.03),
            "day": pa.array(draw.integers(0, 3, rows), mask=draw.random(rows) < 0.03),
        }
    )


def most_items(tree):
    """How many items of a basket may make pairs: the fewest that make as many as a unit may have."""
    cap = tree["select"]["cap"] if "select" in tree else 65536
    return next(items for items in itertools.count(2) if items * (items - 1) // 2 >= cap)


def listed_pairs(tree):
    """The public keys: each pair of two different values once, the smaller one first; None where keys are private."""
    if "select" in tree:
        return None
    if "from" in tree["keys"]:
        rows = zip(*pq.read_table(tree["keys"]["from"]).to_pydict().values(), strict=True)
    else:
        rows = itertools.product(*tree["keys"]["values"].values())
    return {tuple(sorted(pair)) for pair in rows if pair[0] != pair[1]}


def pairs_of(rows, unit, tree, rank):
    """The pairs of each unit's baskets as rows, each with its unit."""
    listed = listed_pairs(tree)
    of, within = tree["pairs"]["of"], tree["pairs"]["within"]
    within = [within] if isinstance(within, str) else within
    baskets = defaultdict(set)
    for row in rows:
        person, basket = tuple(row[column] for column in unit), tuple(row[column] for column in within)
        if None in person + basket or "" in person + basket or row[of] is None:
            continue
        if listed is None or any(row[of] in pair for pair in listed):
            baskets[person, basket].add(row[of])
    for (person, _), items in baskets.items():
        kept = sorted(items, key=rank.__getitem__)[: most_items(tree)]
        for first, second in itertools.combinations(sorted(kept), 2):
            yield dict(zip(unit, person, strict=True)) | {f"{of}_1": first, f"{of}_2": second}


def expected(setup, events, unit=("unit",)):
    """The reference's sums of each release of pairs."""
    rows, found = events.to_pylist(), {}
    for item, tree in zip(setup.releases, world.tree_of(setup.text)["releases"], strict=True):
        if "pairs" not in tree:
            continue
        values = sorted({row[tree["pairs"]["of"]] for row in rows} - {None})
        ids = item.item_ids(pa.array(values, item.key_types[0]), setup.secret)
        pairs = list(pairs_of(rows, unit, tree, dict(zip(values, harness.numbers(ids), strict=True))))
        keys = sorted({(pair[f"{tree['pairs']['of']}_1"], pair[f"{tree['pairs']['of']}_2"]) for pair in pairs})
        rank = harness.ranks(item, setup.secret, keys) if keys else {}
        found[tree["name"]] = reference.bounded_sums(pairs, unit, tree, rank.__getitem__, listed_pairs(tree))
    return found


class Setup(harness.Setup):
    """A setup that knows its config as written."""

    text: str


def set_up(root, events, *releases, **options):
    text = world.simple(root, events, *releases, **options)
    made = harness.set_up(text)
    found = Setup(made.config, made.plan, made.inputs, made.secret)
    object.__setattr__(found, "text", text)
    return found


def sums_of(setup, events, batches=3, order=None, **options):
    """The named sums of each release of pairs."""
    parts = harness.split(events, np.arange(events.num_rows) if order is None else order, batches)
    found = harness.all_named(harness.run_twins(setup, parts, **options), setup)
    return {name: sums for name, sums in found.items() if name != "plain"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A setup, its events, and what the reference makes of them."""
    events = purchases(4000)
    setup = set_up(tmp_path_factory.mktemp("pairs"), events, *RELEASES)
    return setup, harness.read_all(setup), expected(setup, events)


def test_the_fixture_goes_over_every_bound(shop):
    """Baskets with more items than are paired, units with more pairs than the cap, baskets of several units, items twice."""
    setup, events, _ = shop
    rows = [row for row in events.to_pylist() if None not in row.values() and "" not in (row["unit"], row["basket"])]
    baskets, owners, seen = defaultdict(set), defaultdict(set), set()
    for row in rows:
        baskets[row["unit"], row["basket"]].add(row["item"])
        owners[row["basket"]].add(row["unit"])
        seen.add((row["unit"], row["basket"], row["item"]))
    assert max(len(items) for items in baskets.values()) > 5 > 2
    assert [release.plan.release.most_items for release in setup.releases[:3]] == [5, 363, 363]
    assert sum(len(items) == 1 for items in baskets.values()) > 10
    assert min(len(units) for units in owners.values()) > 5
    assert len(seen) < 0.8 * len(rows)


def test_sums_equal_the_reference(shop):
    setup, events, wanted = shop
    found = sums_of(setup, events)
    assert found == wanted
    assert len(wanted["whole"]) > 200
    assert set(wanted["private"]) < set(wanted["whole"])
    assert wanted["private"] != wanted["whole"]
    assert all(first < second for first, second in wanted["whole"])
    assert {"item 0", "nowhere"}.isdisjoint(itertools.chain.from_iterable(wanted["public"]))
    assert set(wanted["public"]) == {("item 1", "item 2"), ("item 1", "item 3"), ("item 2", "item 3")}


def test_public_pairs_are_listed_once_in_order(shop):
    """Every listed pair has a name, in both orders only one, and none of a value with itself."""
    setup, events, _ = shop
    tables = harness.run_twins(setup, harness.split(events, np.arange(events.num_rows), 3))
    names = sorted(harness.names_of(tables, setup.releases[2]).values())
    assert names == sorted(listed_pairs(world.tree_of(setup.text)["releases"][2]))
    assert len(names) == sum(table.num_rows for table in tables["names:2"])


@pytest.mark.parametrize("seed", range(4))
def test_n4_order_batches_shards_and_blocks_change_nothing(shop, monkeypatch, tmp_path, seed):
    """Baskets are split over batches, units over blocks."""
    setup, events, wanted = shop
    monkeypatch.setattr(form_pairs, "BLOCK_PAIRS", (1 << 20, 1, 50, 700)[seed])
    order = np.random.default_rng(seed).permutation(events.num_rows)
    folder = tmp_path if seed % 2 else None
    assert sums_of(setup, events, (1, 8, 64, 5)[seed], order, unit_shards=1 + seed, key_shards=3, folder=folder) == wanted


@pytest.mark.parametrize("grouped", [True, False])
def test_n4_batches_that_are_not_grouped_give_the_same_integers(shop, monkeypatch, grouped):
    setup, events, wanted = shop
    monkeypatch.setattr("transforms.sum_by_unit.worth_grouping", lambda *_: grouped)
    assert sums_of(setup, events) == wanted


@pytest.fixture(scope="module")
def sent(shop):
    """What a batch sends of one basket of 3,000 items, each three times; and its items."""
    setup, _, _ = shop
    items = [f"item {number}" for number in range(3000)] * 3
    batch = pa.table({"unit": ["a"] * 9000, "item": items, "basket": ["b"] * 9000, "day": [1] * 9000}).to_batches()[0]
    public = {2: public_names(setup.releases[2], setup.secret)}
    tables = sum_by_unit(batch, setup.inputs.unit, setup.releases, setup.secret, public)
    return {table.schema.metadata[b"table"].decode(): table for table in tables}, items


def test_a_batch_sends_each_item_of_a_basket_once_and_at_most_the_smallest(shop, sent):
    """A basket of repeated items costs little, and one of many no more than those that may make pairs, or are listed."""
    setup, (tables, items) = shop[0], sent
    rank = dict(zip(items, harness.numbers(setup.releases[0].item_ids(pa.array(items), setup.secret)), strict=True))
    assert sorted(tables["items:0"]["item"].to_pylist()) == sorted(sorted(rank, key=rank.__getitem__)[:5])
    assert tables["items:1"].num_rows == 363
    assert sorted(tables["items:2"]["item"].to_pylist()) == ["item 0", "item 1", "item 2", "item 3"]


def test_ids_of_units_items_baskets_and_pairs_have_domains_of_their_own(shop, sent):
    """Of each release; and a basket's id is that of its unit and its columns."""
    setup, (tables, _) = shop[0], sent
    domains = [UNIT_DOMAIN, *(release.key_domain for release in setup.releases)]
    domains += [first + release.number for first in (ITEM_DOMAINS, BASKET_DOMAINS) for release in setup.releases]
    assert len(set(domains)) == 1 + 3 * len(setup.releases)
    for number, basket in ((0, [pa.array(["b"])]), (2, [pa.array(["b"]), pa.array([1])])):
        table = tables[f"items:{number}"]
        made = {
            "unit": make_ids([pa.array(["a"])], setup.secret, UNIT_DOMAIN),
            "basket": make_ids([pa.array(["a"]), *basket], setup.secret, BASKET_DOMAINS + number),
            "item": make_ids([table["item"]], setup.secret, ITEM_DOMAINS + number),
        }
        for prefix, ids in made.items():
            assert set(harness.numbers(ids_of(table, prefix))) == set(harness.numbers(ids)), prefix


def test_b3_repeated_work_gives_the_same_bytes(shop):
    setup, events, _ = shop
    parts = harness.split(events, np.arange(events.num_rows), 4)
    assert harness.run_twins(setup, parts) == harness.run_twins(setup, parts)


def test_b2_through_beam_nothing_rewrites_a_unit_or_a_key(shop, tmp_path, monkeypatch):
    """What the graph makes of many bundles is what the reference makes."""
    setup, events, wanted = shop
    path = setup.inputs.parts[0].path
    pq.write_table(events, path, row_group_size=300)
    monkeypatch.setattr("pipelines.files.BATCH_ROWS", 300)
    monkeypatch.setattr("transforms.read_events.BATCH_ROWS", 300)
    monkeypatch.setattr(form_pairs, "BLOCK_PAIRS", 500)
    again = harness.set_up(setup.text, setup.secret)
    assert len(again.inputs.parts) > 10
    for sharding, workers in ((Sharding(3, 2, True), 2), (Sharding(2, 2, False), 1)):
        tables, _ = harness.run_beam(again, tmp_path, sharding, workers)
        found = harness.all_named(tables, again)
        assert {name: found[name] for name in wanted} == wanted


def check_unit(setup, events, unit="adversary"):
    """Taking one unit away changes each stage by at most its norm. Returns how much of it the unit used."""
    mine = pc.fill_null(pc.equal(events["unit"], unit), False)
    with_unit, without = sums_of(setup, events), sums_of(setup, events.filter(pc.invert(mine)))
    alone, used = sums_of(setup, events.filter(mine), 2), {}
    for item in setup.releases:
        name, stages = item.plan.name, item.plan.stages
        changes = harness.squared_changes(without[name], with_unit[name], len(stages))
        assert changes == harness.squared_changes({}, alone[name], len(stages))
        for number, (stage, change) in enumerate(zip(stages, changes, strict=True)):
            if stage.noise.order == 1:
                change = sum(sums[number] for sums in alone[name].values()) ** 2
            assert change <= stage.norm**2, (name, stage.name)
            used[name, stage.name] = change / stage.norm**2
    return used


UNIT_ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, "", *(f"item {number}" for number in range(12))]),
        st.sampled_from([None, "", *(f"basket {number}" for number in range(4))]),
        st.sampled_from([None, 0, 1]),
    ),
    max_size=60,
)


@settings(max_examples=15)
@given(rows=UNIT_ROWS, repeats=st.integers(1, 3))
def test_n4_one_unit_changes_each_stage_by_at_most_its_norm(shop, rows, repeats):
    """Whatever it brings; the other units share its items and baskets."""
    setup, events, _ = shop
    setup = harness.Setup(setup.config, setup.plan, replaced(setup.inputs, setup.releases[:3]), setup.secret)
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    mine = {"unit": ["adversary"] * len(rows)} | dict(zip(("item", "basket", "day"), columns, strict=True))
    table = pa.table({name: pa.array(list(values), events.schema.field(name).type) for name, values in mine.items()})
    check_unit(setup, pa.concat_tables([events.slice(0, 300), *[table] * repeats]).combine_chunks())


def replaced(inputs, releases):
    """Inputs with these releases only."""
    return type(inputs)(**{**vars(inputs), "releases": releases})


@pytest.mark.parametrize("blocks", [1 << 20, 2000])
def test_b1_a_unit_with_enormous_baskets_stays_within_the_norm(tmp_path, monkeypatch, blocks):
    """Ten baskets of 10,000 items, and 400 of 20 each: the norm is used up, and not more."""
    monkeypatch.setattr(form_pairs, "BLOCK_PAIRS", blocks)
    items = [f"item {number}" for number in range(10_000)] * 10 + [f"item {number % 30}" for number in range(8000)]
    baskets = [f"basket {number // 10_000}" for number in range(100_000)] + [f"more {number // 20}" for number in range(8000)]
    mine = pa.table({"unit": ["adversary"] * len(items), "item": items, "basket": baskets, "day": [0] * len(items)})
    events = pa.concat_tables([purchases(500), mine])
    usual = PRIVATE.replace("private", "usual").replace("cap: 8", "cap: 1024")
    laplace = PUBLIC.replace("public", "laplace").replace("rows_per_key: 3", "rows_per_key: 3, noise: laplace, down_weight: true")
    releases = (PRIVATE, usual, PUBLIC, laplace)
    setup = set_up(tmp_path, events, *releases)
    used = check_unit(setup, harness.read_all(setup))
    assert min(used[name, stage] for name in ("usual", "public", "laplace") for stage in ("baskets", "people")) > 0.99
    assert min(used[name, "select"] for name in ("private", "usual")) > 0.99


def test_memory_is_bounded_by_the_block_and_the_cap(shop, monkeypatch):
    """However many baskets a unit has: what is grouped at once is a block, a basket, and what is kept of the open unit."""
    setup, _, _ = shop
    release = setup.releases[0]
    baskets, sizes = 4000, []
    rows = {"unit": ["a"] * baskets * 5, "item": [f"item {n % 997}" for n in range(baskets * 5)]}
    batch = pa.table(rows | {"basket": [f"b {n // 5}" for n in range(baskets * 5)], "day": [0] * baskets * 5}).to_batches()[0]
    monkeypatch.setattr(form_pairs, "BLOCK_PAIRS", 1000)
    grouped = form_pairs.group_pairs
    monkeypatch.setattr(form_pairs, "group_pairs", lambda units, keys: sizes.append(len(units.high)) or grouped(units, keys))
    parts = [batch.slice(start, 5000) for start in range(0, batch.num_rows, 5000)]
    harness.run_twins(replace_releases(setup, [release]), parts, unit_shards=1)
    assert sizes[0] == baskets * 5
    assert len(sizes) > 35
    assert max(sizes[1:]) <= 1000 + 10 + 8


def replace_releases(setup, releases):
    return harness.Setup(setup.config, setup.plan, replaced(setup.inputs, tuple(releases)), setup.secret)


TYPES = {
    pa.int64(): [-5, 3, 20, 100, None],
    pa.int8(): [-128, 0, 127, 5, None],
    pa.uint64(): [2**64 - 1, 0, 2**63, 7, None],
    pa.bool_(): [True, False, None],
    pa.date32(): [dt.date(1969, 1, 1), dt.date(2024, 1, 1), None],
    pa.timestamp("us", "UTC"): [dt.datetime(2024, 1, n, tzinfo=dt.UTC) for n in (1, 2, 3)],
    pa.decimal128(7, 2): [Decimal("-1.5"), Decimal("1.5"), Decimal("10.25"), None],
    pa.string(): ["b", "ä", "B", "", "zz", "a" * 40, None],
}


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_type_of_key_can_be_paired_and_makes_baskets(tmp_path, kind):
    """The smaller value of a pair comes first, by value; also in listed pairs."""
    draw = np.random.default_rng(1)
    values = TYPES[kind]
    given_ = [value for value in values if value is not None]
    events = pa.table(
        {
            "unit": draw.integers(0, 20, 600),
            "item": pa.array([values[place] for place in draw.integers(0, len(values), 600)], kind),
            "basket": pa.array([values[place] for place in draw.integers(0, len(values), 600)], kind),
        }
    )
    file = tmp_path / "keys.parquet"
    pq.write_table(pa.table({"item_1": pa.array(given_, kind), "item_2": pa.array(given_[1:] + given_[:1], kind)}), file)
    listed = PUBLIC.split("values:")[0] + f"from: {file}}}, bounds: {{keys_per_unit: 2, rows_per_key: 3}}, " + METRICS
    releases = (PRIVATE.replace("cap: 8", "cap: 64"), listed.replace("[basket, day]", "basket"))
    setup = set_up(tmp_path / "in", events, *releases)
    events = harness.read_all(setup)
    found = sums_of(setup, events)
    assert found == expected(setup, events)
    pairs = list(itertools.combinations(sorted(given_), 2))
    assert set(found["private"]) == set(pairs)
    assert len(pairs) >= len(found["public"]) >= len(given_) - 1


def test_a_unit_with_more_listed_pairs_than_are_looked_at(tmp_path):
    """363 of 400 items are paired, and of their pairs the 65,536 with the smallest ids are left."""
    items = [f"item {number:03d}" for number in range(400)]
    pairs = list(itertools.combinations(items, 2))
    pq.write_table(pa.table({"item_1": [a for a, _ in pairs], "item_2": [b for _, b in pairs]}), tmp_path / "keys.parquet")
    events = pa.table({"unit": ["a"] * 400, "item": items, "basket": [1] * 400, "day": [1] * 400})
    listed = PUBLIC.split("values:")[0] + f"from: {tmp_path}/keys.parquet}}, bounds: {{keys_per_unit: 9, rows_per_key: 1}}, "
    setup = set_up(tmp_path / "in", events, listed + METRICS)
    (release,) = setup.releases
    rank = dict(zip(items, harness.numbers(release.item_ids(pa.array(items), setup.secret)), strict=True))
    kept = sorted(sorted(items, key=rank.__getitem__)[:363])
    ranks = harness.ranks(release, setup.secret, list(itertools.combinations(kept, 2)))
    found = sums_of(setup, harness.read_all(setup))["public"]
    assert len(ranks) == 65_703
    assert set(found) == set(sorted(ranks, key=ranks.__getitem__)[:65_536])


def test_another_secret_changes_only_what_caps_keep(shop):
    setup, events, wanted = shop
    other = harness.Setup(setup.config, setup.plan, setup.inputs, new_secret())
    found = sums_of(other, events)
    assert {name: found[name] for name in ("whole", "public")} == {name: wanted[name] for name in ("whole", "public")}
    assert found["private"] != wanted["private"]
