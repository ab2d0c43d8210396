"""Sampling: which events of a unit are kept where it has more than its bounds allow."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.bins import NO_BIN
from privacy.bounds import UnitBounds
from privacy.grid import Ints
from privacy.ids import Ids, Words
from privacy.plan import ReleasePlan
from transforms.exchange import joined, joined_ids, joined_keys, unit_tables
from transforms.grouping import RowKeys, UnitGroups, cap_keys, group_pairs, split_pairs


def sample(batches: Sequence[pa.RecordBatch], plan: ReleasePlan, number: int) -> list[pa.RecordBatch]:
    """The tables of `sum_by_unit` that the sampled events alone would make. Keys of which none is sampled stay, with zeros.

    Args:
        batches: tables `events:<number>` of `sum_by_unit`, which together hold all events of their units.
    """
    units, keys = joined_ids(batches, "unit"), joined_keys(batches)
    groups, _ = split_pairs(cap_keys(group_pairs(units, keys.ids), plan.cap), keys.public)
    tallies = [joined(batches, f"tally_{place}") for place in range(len(plan.tallies))]
    bins = [joined(batches, f"bin_{place}") for place in range(len(plan.bins))]
    kept = sampled(groups, units, keys, [*tallies, *bins], plan.bounds)
    return unit_tables(
        number,
        units,
        keys,
        groups.pairs,
        [np.where(kept, steps, 0) for steps in tallies],
        [np.where(kept, found, NO_BIN) for found in bins],
    )


def sampled(groups: UnitGroups, units: Ids, keys: RowKeys, contents: Sequence[Ints], bounds: UnitBounds) -> NDArray[np.bool_]:
    """Which events are kept: at random, but always the same ones, by a hash of unit, key, content and occurrence.

    Args:
        groups: of the events by unit and key.
        contents: int64, shape (n,) each: all that matters of an event. Which of several equal ones are kept does not.

    Returns:
        bool, shape (n,). At most `rows_per_key` events of a unit in each key, in at most `keys_per_unit` keys, and at most
        `rows_per_unit` in all; a function of the unit's own events and of the ids alone.

    Source: docs/guarantee.md, "Sampling".
    """
    pairs = groups.pairs
    pair = np.repeat(np.arange(len(pairs.starts)), np.diff(pairs.starts, append=len(pairs.order)))
    unit = np.repeat(np.arange(len(groups.units)), np.diff(groups.units, append=len(pairs.starts)))
    rows = pairs.order[np.lexsort([*(content[pairs.order] for content in contents), pair])]
    unlike = np.diff(pair, prepend=-1) != 0
    for content in contents:
        unlike |= content[rows] != content[np.roll(rows, 1)]
    starts = np.flatnonzero(unlike)
    occurrences = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    words = _hash(units.low[rows], *keys.take(rows).words, *(content[rows] for content in contents), occurrences)
    kept = _smallest(words, pair, bounds.rows_per_key)
    kept &= _smallest(_hash(units.low[pairs.firsts], *keys.take(pairs.firsts).words), unit, bounds.keys_per_unit)[pair]
    if bounds.rows_per_unit is not None:
        left = np.flatnonzero(kept)
        kept[left] = _smallest(words[left], unit[pair[left]], bounds.rows_per_unit)
    mask = np.zeros(len(units.high), np.bool_)
    mask[rows[kept]] = True
    return mask


def _smallest(words: Words, groups: Ints, most: int) -> NDArray[np.bool_]:
    """Which rows are among the `most` with the smallest words of their group. `groups` ascends."""
    order = np.lexsort((words, groups))
    kept = np.zeros(len(words), np.bool_)
    kept[order] = np.arange(len(words)) - np.searchsorted(groups, groups) < most
    return kept


def _hash(*columns: NDArray[np.int64] | Words) -> Words:
    """64 bits from each row of columns. The ids in them are keyed, so nobody can aim.

    Source: Steele, Lea and Flood 2014, Fast Splittable Pseudorandom Number Generators, the finalizer of SplitMix.
    """
    words = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        words = (words ^ column.view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        words ^= words >> np.uint64(31)
    return words
