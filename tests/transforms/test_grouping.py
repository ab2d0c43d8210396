"""Grouping by 128-bit ids against plain Python, with ids that agree in their first bits, their first word, or altogether."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ids import Ids
from tests.transforms.harness import numbers
from transforms.grouping import cap_keys, cut, group_ids, group_pairs, locate, ungrouped, worth_grouping

# Few distinct words, equal in their high bits, in their low bits, or next to each other: ties at every step of the sort.
WORDS = (0, 1, 2, 2**63, 2**63 + 1, 2**64 - 1, 2**64 - 2, 0xABCD << 40, (0xABCD << 40) + 1, (0xABCD << 40) + (1 << 21))
WORD = st.sampled_from(WORDS) | st.integers(0, 2**64 - 1)
ID = st.tuples(WORD, st.sampled_from(WORDS[:4]) | WORD)
IDS = st.lists(ID, max_size=60)
PAIRS = st.lists(st.tuples(ID, ID), max_size=60)
WHALE = (2**63, 7)


def as_ids(pairs) -> Ids:
    """Pairs of Python integers as ids."""
    return Ids(np.array([high for high, _ in pairs], np.uint64), np.array([low for _, low in pairs], np.uint64))


def as_number(pair) -> int:
    """An id as one integer."""
    return pair[0] << 64 | pair[1]


def members(groups) -> list[list[int]]:
    """The rows of each group."""
    edges = [*groups.starts.tolist(), len(groups.order)]
    return [groups.order[start:end].tolist() for start, end in itertools.pairwise(edges)]


@given(IDS)
def test_group_ids_ascend_and_hold_exactly_the_equal_rows(pairs):
    groups = group_ids(as_ids(pairs))
    expected = {}
    for row, pair in enumerate(pairs):
        expected.setdefault(as_number(pair), []).append(row)
    found = members(groups) if pairs else []
    assert [sorted(rows) for rows in found] == [expected[number] for number in sorted(expected)]
    assert [as_number(pairs[row]) for row in groups.firsts] == sorted(expected)


@given(IDS, st.integers(-(2**62) // 64, 2**62 // 64))
def test_add_up_is_the_sum_of_each_group(pairs, value):
    groups = group_ids(as_ids(pairs))
    values = np.arange(len(pairs)) + value
    expected = {}
    for row, pair in enumerate(pairs):
        expected[as_number(pair)] = expected.get(as_number(pair), 0) + int(values[row])
    assert groups.add_up(values).tolist() == [expected[number] for number in sorted(expected)]
    assert groups.add_up(values).dtype == np.int64


def plain_pairs(rows):
    """Rows by unit and key, in the order of their ids."""
    expected = {}
    for row, (unit, key) in enumerate(rows):
        expected.setdefault(as_number(unit), {}).setdefault(as_number(key), []).append(row)
    return [(unit, sorted(expected[unit].items())) for unit in sorted(expected)]


def found_pairs(groups, rows):
    """What `group_pairs` made of the rows, in the form of `plain_pairs`."""
    pairs = members(groups.pairs) if len(groups.pairs.starts) else []
    edges = [*groups.units.tolist(), len(pairs)]
    found = []
    for start, end in itertools.pairwise(edges):
        unit = as_number(rows[pairs[start][0]][0])
        assert {as_number(rows[row][0]) for pair in pairs[start:end] for row in pair} == {unit}
        found.append((unit, [(as_number(rows[pair[0]][1]), sorted(pair)) for pair in pairs[start:end]]))
    return found


@given(PAIRS)
def test_group_pairs_are_ordered_by_unit_then_key(rows):
    groups = group_pairs(as_ids([unit for unit, _ in rows]), as_ids([key for _, key in rows]))
    assert found_pairs(groups, rows) == plain_pairs(rows)


@given(PAIRS, st.integers(1, 6))
def test_b1_cap_keys_keeps_the_smallest_keys_of_each_unit(rows, cap):
    groups = cap_keys(group_pairs(as_ids([unit for unit, _ in rows]), as_ids([key for _, key in rows])), cap)
    assert found_pairs(groups, rows) == [(unit, keys[:cap]) for unit, keys in plain_pairs(rows)]


@given(st.lists(st.tuples(st.sampled_from([(1, 1), WHALE]), ID), max_size=80), st.integers(1, 6), st.integers(1, 79))
def test_b1_capping_parts_first_changes_nothing(rows, cap, at):
    """Cap merges exactly: the keys kept of two parts, capped again, are those kept of the whole."""

    def kept(some):
        groups = cap_keys(group_pairs(as_ids([unit for unit, _ in some]), as_ids([key for _, key in some])), cap)
        return [some[row] for row in groups.pairs.order]

    whole = kept(rows)
    in_parts = kept(kept(rows[:at]) + kept(rows[at:]))
    assert sorted(whole) == sorted(in_parts)


@given(IDS, IDS)
def test_locate_finds_exactly_what_is_there(among, wanted):
    listed = sorted(set(among))
    places = locate(as_ids(wanted + listed), as_ids(listed)).tolist()
    position = {pair: place for place, pair in enumerate(listed)}
    assert places == [position.get(pair, -1) for pair in wanted + listed]


@given(IDS, IDS, st.integers(1, 1024))
def test_cut_depends_on_the_word_alone(some, others, shards):
    """Tables are cut apart from each other: rows with the same id must meet, whatever else is in their table."""

    def shard_of(pairs):
        words = sorted(high for high, _ in pairs)
        edges = cut(np.array(words, np.uint64), shards).tolist()
        assert edges == sorted(edges)
        assert len(edges) == shards + 1
        assert (edges[0], edges[-1]) == (0, len(words))
        return {words[row]: shard for shard in range(shards) for row in range(edges[shard], edges[shard + 1])}

    assert shard_of(some + others) == shard_of(some) | shard_of(others)


@pytest.mark.parametrize("shards", [1, 2, 7, 64, 1024])
def test_cut_makes_shards_of_about_the_same_size(shards):
    sizes = np.diff(cut(np.linspace(0, 2**64 - 2**12, 2**18).astype(np.uint64), shards))
    assert len(sizes) == shards
    assert max(sizes) <= 1.1 * 2**18 / shards


@given(PAIRS, st.integers(1, 8))
def test_b1_a_unit_with_more_rows_than_the_cap_is_always_grouped(rows, cap):
    units = [unit for unit, _ in rows]
    over = any(units.count(unit) > cap for unit in units)
    assert worth_grouping(as_ids(units), as_ids([key for _, key in rows]), cap) or not over


@given(IDS)
def test_ungrouped_rows_are_each_there_once_and_can_be_cut(pairs):
    groups = ungrouped(as_ids(pairs))
    assert sorted(groups.order.tolist()) == groups.starts.tolist() == list(range(len(pairs)))
    words = [pairs[row][0] >> 48 for row in groups.order]
    assert words == sorted(words)


def test_worth_grouping_tells_many_rows_per_pair_from_few():
    draw = np.random.default_rng(0)
    ids = Ids(*draw.integers(0, 2**64, (2, 10_000), np.uint64))
    assert not worth_grouping(ids, ids, None)
    assert worth_grouping(ids.take(np.arange(10_000) // 10), ids.take(np.arange(10_000) // 10), None)


def test_nothing_groups_into_nothing():
    none = as_ids([])
    assert members_or_empty(group_ids(none)) == []
    pairs = group_pairs(none, none)
    assert len(pairs.units) == 0
    assert len(cap_keys(pairs, 1).pairs.order) == 0
    assert group_ids(none).add_up(np.zeros(0, np.int64)).tolist() == []
    assert locate(none, none).tolist() == []
    assert locate(as_ids([(1, 1)]), none).tolist() == [-1]
    assert cut(none.high, 5).tolist() == [0] * 6


def members_or_empty(groups):
    """The rows of each group, also where there is none."""
    return members(groups) if len(groups.starts) else []


@pytest.mark.parametrize("row", [(0, 0), (2**64 - 1, 2**64 - 1)])
def test_one_row_is_one_group(row):
    groups = group_pairs(as_ids([row]), as_ids([row]))
    assert groups.units.tolist() == groups.pairs.starts.tolist() == groups.pairs.order.tolist() == [0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3))
def test_many_rows_with_few_distinct_high_words(seed, unit_words, key_words):
    """Thousands of rows, half of them of one unit, whose ids differ only in bits that no packed word holds."""
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(1000, 5000))
    unit_high = draw.choice(np.array(WORDS, np.uint64), unit_words)
    units = Ids(draw.choice(unit_high, rows), draw.integers(0, 40, rows).astype(np.uint64))
    units.high[: rows // 2], units.low[: rows // 2] = WHALE
    keys = Ids(draw.choice(np.array(WORDS[-key_words:], np.uint64), rows), draw.integers(0, 9, rows).astype(np.uint64))
    unit_numbers, key_numbers = numbers(units), numbers(keys)
    groups = group_pairs(units, keys)
    counts = {}
    for pair in zip(unit_numbers, key_numbers, strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    firsts = groups.pairs.firsts
    assert [(unit_numbers[row], key_numbers[row]) for row in firsts] == sorted(counts)
    assert groups.pairs.add_up(np.ones(rows, np.int64)).tolist() == [counts[pair] for pair in sorted(counts)]
    assert len(groups.units) == len(set(unit_numbers))
