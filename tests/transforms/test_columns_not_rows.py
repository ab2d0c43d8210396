"""No Python code runs per event, per unit or per key: what Python executes does not grow with the rows."""

import gc
import sys

import numpy as np
import pyarrow as pa
import pytest

from tests.transforms import harness, world
from transforms.bound_contributions import bound_contributions, bound_pairs
from transforms.sum_by_key import sum_by_key
from transforms.sum_by_unit import public_names, sum_by_unit

METRICS = """metrics: [{name: n, count: events}, {name: u, count: units}, {name: s, sum: value, clip: [-1, 5]},
    {name: m, mean: value, clip: [0, 5]}]}"""
BOUNDS = "bounds: {keys_per_unit: 3, rows_per_key: 2}, "
RELEASES = (
    "{name: one, keys: {columns: [key, text]}, select: {cap: 8}, " + BOUNDS + METRICS,
    "{name: two, keys: {columns: [text], values: {text: [text 1, text 2, other]}}, " + BOUNDS + METRICS,
    "{name: three, keys: {columns: [key, text], values: {text: [text 1, text 2, other]}}, select: {cap: 8}, " + BOUNDS + METRICS,
)
PAIRS = (
    "{name: pairs, pairs: {of: key, within: text}, keys: {columns: [key_1, key_2]}, select: {cap: 8}, "
    + BOUNDS
    + "metrics: [{name: n, count: events}]}"
)
SMALL, LARGE = 1_000, 100_000


def instructions(run) -> int:
    """How many instructions of Python a run executes: a loop over rows shows, whatever it calls."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return note

    before = sys.gettrace()
    gc.disable()  # a collection in between calls what libraries hang onto it, here and there
    sys.settrace(note)
    try:
        run()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return harness.set_up(world.simple(tmp_path_factory.mktemp("rows"), events(10), *RELEASES))


def events(rows):
    """Units with several rows a key and up to 20 keys, nulls and unusable values among them."""
    draw = np.random.default_rng(0)
    value = draw.choice([1.0, 2.5, np.nan, np.inf], rows)
    return pa.table(
        {
            "unit": pa.array(draw.integers(0, max(rows // 30, 1), rows), mask=np.arange(rows) % 17 == 3),
            "key": pa.array(draw.integers(0, 20, rows)),
            "text": pa.array([None if number % 19 == 1 else f"text {number % 4}" for number in range(rows)], pa.string()),
            "value": pa.array(value, mask=np.arange(rows) % 13 == 5),
        }
    )


def summed(setup, rows):
    """What `sum_by_unit` makes of so many rows."""
    public = {1: public_names(setup.releases[1], setup.secret)}
    return sum_by_unit(events(rows).to_batches()[0], setup.inputs.unit, setup.releases, setup.secret, public)


def counted(setup, rows):
    """The instructions of each step for so many rows."""
    public = {1: public_names(setup.releases[1], setup.secret)}
    batch = events(rows).to_batches()[0]
    tables = summed(setup, rows)
    sums = {number: table for table in tables for number in range(3) if table.schema.metadata[b"table"] == b"sums:%d" % number}
    plans = {number: setup.plan.releases[number] for number in sums}
    bounded = {number: bound_contributions([sums[number]], plans[number]) for number in sums}
    return {
        "sum_by_unit": instructions(lambda: sum_by_unit(batch, setup.inputs.unit, setup.releases, setup.secret, public)),
        "bound_contributions": instructions(lambda: [bound_contributions([sums[number]], plans[number]) for number in sums]),
        "sum_by_key": instructions(lambda: [sum_by_key([bounded[number]], plans[number]) for number in sums]),
    }


def test_the_larger_batch_has_more_units_and_pairs(setup):
    sizes = {rows: [table.num_rows for table in summed(setup, rows)] for rows in (SMALL, LARGE)}
    assert sizes[LARGE][0] > 50 * sizes[SMALL][0] > 1000


def test_the_counter_sees_a_loop_over_rows():
    assert instructions(lambda: [int(number) for number in range(LARGE)]) > 3 * LARGE


def test_python_does_not_grow_with_rows(setup):
    counted(setup, SMALL)  # imports and caches
    small, large = counted(setup, SMALL), counted(setup, LARGE)
    for step, count in small.items():
        assert count > 1000
        # Ties and caps take other branches; a loop over the 3,000 further units would be at least 10,000.
        assert abs(large[step] - count) < 3000, (step, count, large[step])


def test_python_does_not_grow_with_pairs(tmp_path):
    """Of more units, as long as they fit into one block."""
    setup = harness.set_up(world.simple(tmp_path, events(10), PAIRS))
    counts, sizes = [], []
    for rows in (SMALL, SMALL, LARGE):
        batch, tables = events(rows).to_batches()[0], []

        def run(batch=batch, tables=tables):
            tables += sum_by_unit(batch, setup.inputs.unit, setup.releases, setup.secret, {})
            formed = bound_pairs(tables, setup.releases[0], setup.secret, None)
            sizes.append([made.num_rows for block in formed for made in block])

        counts.append(instructions(run))
    assert len(sizes[0]) == len(sizes[2]) == 2
    assert sizes[2][0] > 100
    assert abs(counts[2] - counts[1]) < 3000, counts
