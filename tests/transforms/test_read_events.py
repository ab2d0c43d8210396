"""Reading: lookups, the order of steps, types of columns, files that change or cannot be read."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.graph import Sharding
from tests.transforms import harness, world
from transforms.conditions import Condition
from transforms.errors import DiscreetError, InputError
from transforms.file_state import FileState
from transforms.read_events import EventsPlan, FilePart, Lookup, Period, plain_type, prepare_events, read_lookup, read_part

RELEASE = "{name: one, keys: {columns: [key]}, bounds: {keys_per_unit: 1, rows_per_key: 1}, metrics: [{name: n, count: events}]}"


def written(path, table, **options):
    """A file, and the part that is all of it."""
    pq.write_table(table, path, **options)
    groups = range(pq.read_metadata(path).num_row_groups)
    return FilePart(str(path), FileState.of(str(path)), groups, table.num_rows)


def lookup_of(tmp_path, table, columns=("c",)):
    """A lookup by column p."""
    pq.write_table(table, tmp_path / "lookup.parquet")
    return Lookup(str(tmp_path / "lookup.parquet"), ("p",), columns)


def looked_up(lookup, by):
    """What a column of the events finds."""
    plan = EventsPlan(pa.schema([("p", by.type)]), (lookup,), (), (), ("p", *lookup.columns))
    return prepare_events(pa.record_batch([by], ["p"]), plan, [read_lookup(lookup)])


def test_a_lookup_is_a_left_join_that_keeps_the_order(tmp_path):
    table = pa.table({"p": [3, 1, None, 2], "c": ["three", "one", "null", None], "d": [3.5, 1.5, 0.0, 2.5]})
    found = looked_up(lookup_of(tmp_path, table, ("d", "c")), pa.array([1, 2, 3, 4, None, 1], pa.int64()))
    assert found.to_pydict() == {
        "p": [1, 2, 3, 4, None, 1],
        "d": [1.5, 2.5, 3.5, None, None, 1.5],
        "c": ["one", None, "three", None, None, "one"],
    }


BY = {
    "smaller integers": pa.array([1, 2, 9], pa.int8()),
    "larger integers": pa.array([1, 2, 9], pa.uint64()),
}


@pytest.mark.parametrize("kind", BY)
def test_a_lookup_by_integers_of_another_size(tmp_path, kind):
    lookup = lookup_of(tmp_path, pa.table({"p": pa.array([1, 2, 3], pa.int32()), "c": ["x", "y", "z"]}))
    assert looked_up(lookup, BY[kind])["c"].to_pylist() == ["x", "y", None]


def test_a_lookup_may_know_numbers_that_the_events_type_cannot_hold(tmp_path):
    lookup = lookup_of(tmp_path, pa.table({"p": [1, 3_000_000_000, -1], "c": ["x", "y", "z"]}))
    for kind, expected in ((pa.int32(), ["x", "z"]), (pa.int8(), ["x", "z"])):
        assert looked_up(lookup, pa.array([1, -1], kind))["c"].to_pylist() == expected
    assert looked_up(lookup, pa.array([1, 2**64 - 1], pa.uint64()))["c"].to_pylist() == ["x", None]


TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize("of_lookup", TEXTS)
@pytest.mark.parametrize("of_events", TEXTS)
def test_a_lookup_by_text_of_any_encoding(tmp_path, of_lookup, of_events):
    words = pa.array(["a", "é", None, ""]).cast(TEXTS[of_lookup])
    lookup = lookup_of(tmp_path, pa.table({"p": words, "c": pa.array(["x", "y", "z", "x"]).cast(TEXTS[of_lookup])}))
    found = looked_up(lookup, pa.array(["é", "a", "b", None, ""]).cast(TEXTS[of_events]))
    assert found["c"].type == pa.string()
    assert found["c"].to_pylist() == ["y", "x", None, None, "x"]


def test_a_lookup_without_rows_finds_nothing(tmp_path):
    lookup = lookup_of(tmp_path, pa.table({"p": pa.array([], pa.int64()), "c": pa.array([], pa.string())}))
    assert looked_up(lookup, pa.array([1, None], pa.int64()))["c"].to_pylist() == [None, None]


BAD_LOOKUPS = {
    "twice": pa.table({"p": [1, 2, 1], "c": ["x", "y", "x"]}),
    "twice as a dictionary": pa.table({"p": pa.array(["a", "b", "a"]).dictionary_encode(), "c": ["x", "y", "x"]}),
    "no column": pa.table({"p": [1, 2]}),
    "no key": pa.table({"c": ["x"]}),
}


@pytest.mark.parametrize("fault", BAD_LOOKUPS)
def test_a_bad_lookup_is_refused_without_its_values(tmp_path, fault):
    with pytest.raises(InputError, match=r"lookup\.parquet: ") as refused:
        read_lookup(lookup_of(tmp_path, BAD_LOOKUPS[fault]))
    assert "'x'" not in str(refused.value)


def test_lookups_then_periods_then_conditions(tmp_path):
    """A period of a column from a lookup, and a condition on the period."""
    table = pa.table({"p": [1, 2], "since": pa.array([0, 40 * 86400], pa.timestamp("s"))})
    lookup = lookup_of(tmp_path, table, ("since",))
    plan = EventsPlan(
        schema=pa.schema([("p", pa.int64()), ("extra", pa.int64())]),
        lookups=(lookup,),
        periods=(Period("month", "since", "month", "UTC"),),
        conditions=(
            Condition("month", ">", pa.array(["1970-01-15"]).cast(pa.date32())),
            Condition("extra", "!=", pa.array([7])),
        ),
        keep=("month", "p"),
    )
    batch = pa.record_batch({"p": [1, 2, 2, 2, 3], "extra": pa.array([0, 7, 0, None, 0], pa.int64())})
    found = prepare_events(batch, plan, [read_lookup(lookup)])
    assert found.schema.names == ["month", "p"]
    assert [(str(row["month"]), row["p"]) for row in found.to_pylist()] == [("1970-02-01", 2)]


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_of_any_encoding_are_the_same_units_and_keys(tmp_path, kind):
    texts = pa.array(["a", "b", "", None, "é", "a"])
    reference = pa.table({"unit": texts, "key": texts.take(pa.array([1, 1, 1, 1, 1, 4]))})
    encoded = pa.table({name: reference[name].cast(TEXTS[kind]) for name in reference.schema.names})
    sums = []
    for number, table in enumerate((reference, encoded)):
        setup = harness.set_up(world.simple(tmp_path / str(number), table, RELEASE))
        assert plain_type(table["key"].type) == pa.string()
        events = harness.read_all(setup)
        sums.append(harness.all_named(harness.run_twins(setup, events.to_batches()), setup)["one"])
    assert sums[0] == sums[1]
    assert set(sums[0]) == {("b",), ("é",)}


def test_a_part_is_read_in_batches_that_hold_all_rows_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("transforms.read_events.BATCH_ROWS", 100)
    part = written(tmp_path / "e.parquet", pa.table({"other": range(950), "x": range(950)}), row_group_size=130)
    batches = list(read_part(part, pa.schema([("x", pa.int64())])))
    assert len(batches) > 5
    assert all(batch.schema.names == ["x"] and batch.num_rows <= 130 for batch in batches)
    assert [x for batch in batches for x in batch["x"].to_pylist()] == list(range(950))


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("change", ["replaced", "removed", "appended"])
def test_f2_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, monkeypatch, when, change):
    monkeypatch.setattr("transforms.read_events.BATCH_ROWS", 100)
    path = tmp_path / "e.parquet"
    part = written(path, pa.table({"x": range(950)}), row_group_size=100)

    def spoil():
        if change == "removed":
            path.unlink()
        elif change == "appended":
            with open(path, "ab") as file:
                file.write(b"more")
        else:
            pq.write_table(pa.table({"x": range(949)}), path)

    if when == "before":
        spoil()
    batches = read_part(part, pa.schema([("x", pa.int64())]))
    if when == "meanwhile":
        assert next(batches).num_rows > 0
        spoil()
    with pytest.raises(InputError, match=r"e\.parquet: (changed|went away|cannot be read)"):
        list(batches)


def test_f2_a_truncated_file_is_an_error(tmp_path):
    path = tmp_path / "e.parquet"
    part = written(path, pa.table({"x": range(50_000)}))
    damaged = bytearray(path.read_bytes())
    damaged[100:20_000] = bytes(19_900)
    path.write_bytes(damaged)
    os.utime(path, ns=(part.state.modified_ns, part.state.modified_ns))
    with pytest.raises(InputError, match=r"e\.parquet: cannot be read"):
        list(read_part(part, pa.schema([("x", pa.int64())])))


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.binary(), pa.list_(pa.int64()), pa.decimal256(50, 0)])
@pytest.mark.parametrize("place", ["unit", "key"])
def test_b4_b5_ids_and_keys_without_one_exact_form_are_refused(tmp_path, kind, place):
    """A float has NaN and -0.0; two files could not agree on what is equal."""
    columns = {"unit": pa.array([1, 2]), "key": pa.array([1, 2])} | {place: pa.nulls(2, kind)}
    with pytest.raises(DiscreetError, match="no exact values"):
        harness.set_up(world.simple(tmp_path, pa.table(columns), RELEASE))


@pytest.mark.parametrize("row_groups", [0, 1])
def test_empty_files_and_empty_row_groups_give_no_events(tmp_path, row_groups):
    table = pa.table({"unit": pa.array([], pa.int64()), "key": pa.array([], pa.string())})
    text = world.simple(tmp_path, table, RELEASE)
    with pq.ParquetWriter(tmp_path / "simple.parquet", table.schema) as writer:
        if row_groups:
            writer.write_table(table)
    setup = harness.set_up(text)
    assert pq.read_metadata(tmp_path / "simple.parquet").num_row_groups == row_groups
    assert (len(setup.inputs.parts), setup.inputs.rows) == (1, 0)
    tables, _ = harness.run_beam(setup, tmp_path, Sharding(unit_shards=2, key_shards=2, by_reference=True), 2)
    assert tables == {}
