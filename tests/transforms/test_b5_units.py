"""B4, B5: who counts as one unit. Null and empty ids are dropped and never pooled; different ids are different units."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tests.transforms import harness, world

RELEASE = """{name: one, keys: {columns: [key]}, bounds: {keys_per_unit: 1, rows_per_key: 1}, metrics: [
    {name: people, count: units}, {name: purchases, count: events}]}"""


def people_per_key(root, events, unit="unit"):
    """How many units each key has below the noise, and how many purchases of theirs are let in."""
    setup = harness.set_up(world.simple(root, events, RELEASE, unit=unit))
    stages = setup.plan.releases[0].vectors
    read = harness.read_all(setup)
    tables = harness.run_twins(setup, harness.split(read, np.arange(read.num_rows), 2))
    sums = harness.all_named(tables, setup)["one"]
    return {key[0]: [row[number + 1] * stage.grid.step for number, stage in enumerate(stages)] for key, row in sums.items()}


def test_b5_null_and_empty_units_are_dropped_one_by_one(tmp_path):
    """90 events without a unit in key 1, and 10 units with one event each in key 1 and key 2: 10 units, not 11."""
    units = [None, "", None] * 30 + [f"unit {number}" for number in range(10)] + [f"other {number}" for number in range(10)]
    events = pa.table({"unit": units, "key": [1] * 100 + [2] * 10})
    assert people_per_key(tmp_path, events) == {1: [10, 10], 2: [10, 10]}


def test_b5_a_key_that_only_events_without_a_unit_have_leaves_nothing(tmp_path):
    events = pa.table({"unit": [None, "", "a"], "key": [1, 2, 3]})
    assert set(people_per_key(tmp_path, events)) == {3}


def test_b5_a_unit_of_two_columns_needs_both(tmp_path):
    rows = [("a", 1), ("a", None), (None, 1), ("", 1), (None, None), ("a", 2), ("b", 1)]
    events = pa.table({"unit": [unit for unit, _ in rows], "part": [part for _, part in rows], "key": [1] * len(rows)})
    assert people_per_key(tmp_path, events, "[unit, part]") == {1: [3, 3]}


def test_b5_only_events_without_a_unit_give_no_table_rows(tmp_path):
    events = pa.table({"unit": pa.array([None, None, ""], pa.string()), "key": [1, 2, 3]})
    assert people_per_key(tmp_path, events) == {}


def test_b5_null_keys_are_dropped_and_empty_keys_are_not(tmp_path):
    events = pa.table({"unit": [1, 2, 3, 4], "key": ["", None, " ", "a"]})
    assert people_per_key(tmp_path, events) == {"": [1, 1], " ": [1, 1], "a": [1, 1]}


DISTINCT = {
    "integers beyond 2^53": pa.array([2**53, 2**53 + 1, -(2**53) - 1, -(2**53), 2**63 - 1, -(2**63), 0]),
    "unsigned integers": pa.array([2**53, 2**53 + 1, 2**63, 2**64 - 1, 0], pa.uint64()),
    "small integers": pa.array([-128, -1, 0, 1, 127], pa.int8()),
    "bools": pa.array([True, False]),
    "texts": pa.array(
        ["1", "1.0", "True", "01", "\u00e9", "e\u0301", "A", "a", "a ", "a\0", "a" * 12, "a" * 13, "a" * 28, "a" * 29, " "]
    ),
    "decimals": pa.array([Decimal("1.00"), Decimal("-1.00"), Decimal("0.01"), Decimal("9" * 36 + ".99")], pa.decimal128(38, 2)),
    "dates": pa.array([dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(9999, 12, 31)]),
    "moments": pa.array([-1, 0, 1, 2**53, 2**53 + 1], pa.int64()).cast(pa.timestamp("us", "UTC")),
}


@pytest.mark.parametrize("kind", DISTINCT)
def test_b4_different_ids_are_different_units_and_equal_ones_the_same(tmp_path, kind):
    ids = DISTINCT[kind]
    events = pa.table({"unit": pa.concat_arrays([ids, ids, ids]), "key": np.ones(3 * len(ids), np.int64)})
    assert people_per_key(tmp_path, events) == {1: [len(ids), len(ids)]}


@pytest.mark.parametrize("kind", DISTINCT)
def test_b4_different_keys_are_different_and_keep_their_names(tmp_path, kind):
    ids = DISTINCT[kind]
    events = pa.table({"unit": np.arange(2 * len(ids)), "key": pa.concat_arrays([ids, ids])})
    assert people_per_key(tmp_path, events) == {name: [2, 2] for name in ids.to_pylist()}


def test_b4_the_order_and_the_borders_of_columns_matter(tmp_path):
    """("ab", "c"), ("a", "bc") and ("c", "ab") are three units."""
    events = pa.table({"unit": ["ab", "a", "c", "ab"], "part": ["c", "bc", "ab", "c"], "key": [1] * 4})
    assert people_per_key(tmp_path, events, "[unit, part]") == {1: [3, 3]}
