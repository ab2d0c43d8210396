"""Whole runs with lookups by several columns, of one file twice, by what another found, by the privacy unit."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipelines.published import ask, published, refused


@pytest.fixture
def parcels(project):
    """Events with a town and a street number; some unknown to the table, some null."""
    rows = [("Bonn", 1), ("Bonn", 2), ("Köln", 1), ("Köln", 2), ("Trier", 1), ("Bonn", None), (None, 1), (None, None)] * 15
    kind = pa.int16()
    table = {"user": range(120), "town": [town for town, _ in rows], "number": pa.array([number for _, number in rows], kind)}
    project.write_events(pa.table(table))
    streets = {"town": ["Bonn", "Bonn", "Köln", "Köln", None, "Bonn", "Aachen"], "number": [1, 2, 1, None, 1, None, 2]}
    write_lookup(streets | {"area": [f"area {row}" for row in range(7)], "zone": ["z", None, "z", "z", "z", "z", "z"]})
    project.config["events"]["lookups"] = [{"file": "streets.parquet", "by": ["town", "number"], "columns": ["area"]}]
    project.config["events"]["nulls"] = {"key": "keep"}
    ask(project, "area")
    return project


def write_lookup(columns, name="streets.parquet"):
    pq.write_table(pa.table(columns), name)


MATCHED = {"area 0": (15, 15), "area 1": (15, 15), "area 2": (15, 15), None: (75, 75)}


def test_a_lookup_by_two_columns_needs_both(parcels):
    """(Köln, 2) has no match although both parts are there; nulls match nothing, not even nulls."""
    assert published(parcels) == MATCHED


@pytest.mark.parametrize("order", [["town", "number"], ["number", "town"]])
@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint16(), pa.uint64()], ids=str)
def test_b4_integers_of_a_lookup_are_compared_as_numbers_whatever_their_width(parcels, order, kind):
    """The events have int16; the order of the columns does not matter."""
    table = pq.read_table("streets.parquet")
    write_lookup({name: table[name].cast(kind) if name == "number" else table[name] for name in table.column_names})
    parcels.config["events"]["lookups"][0]["by"] = order
    assert published(parcels) == MATCHED


def test_a_lookup_by_two_columns_with_a_pair_in_two_rows_is_refused(parcels):
    """Each column may repeat values, together they may not; rows with a null match nothing and may."""
    table = pq.read_table("streets.parquet").slice(0, 4)
    write_lookup({name: [*table[name].to_pylist(), table[name][2].as_py()] for name in table.column_names})
    assert "streets.parquet: columns town, number have a value in two rows; a lookup needs each once" in refused(parcels)
    write_lookup({name: [*table[name].to_pylist(), table[name][3].as_py()] for name in table.column_names})
    assert published(parcels) == MATCHED


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"town": ["Bonn"], "area": ["a"]}, "'number'"),
        ({"town": ["Bonn"], "number": ["1"], "area": ["a"]}, "column 'number' is string, but int16 in the events"),
        ({"town": [1], "number": [1], "area": ["a"]}, "column 'town' is int64, but string in the events"),
    ],
)
def test_a_lookup_by_two_columns_with_one_missing_or_of_another_type_is_refused(parcels, columns, said):
    write_lookup(columns)
    complaint = refused(parcels)
    assert "streets.parquet: " in complaint
    assert said in complaint


def test_two_lookups_of_one_file(parcels):
    """Each has its own columns, and may have its own keys."""
    write_lookup({"town": ["Bonn", "Köln"], "number": [1, 2], "area": ["a", "b"], "zone": ["y", "z"]})
    by_both = {"file": "streets.parquet", "by": ["town", "number"], "columns": ["area"]}
    parcels.config["events"]["lookups"] = [by_both, {"file": "streets.parquet", "by": "town", "columns": ["zone"]}]
    ask(parcels, ["area", "zone"])
    expected = {("a", "y"): 15, ("b", "z"): 15, (None, "y"): 30, (None, "z"): 15, (None, None): 45}
    assert published(parcels) == {key: (count, count) for key, count in expected.items()}


def test_a_lookup_by_what_a_lookup_before_has_found(parcels):
    write_lookup({"area": ["area 0", "area 1"], "number": pa.array([1, 2], pa.int64()), "land": ["NRW", "HE"]}, "lands.parquet")
    parcels.config["events"]["lookups"].append({"file": "lands.parquet", "by": ["area", "number"], "columns": ["land"]})
    ask(parcels, "land")
    assert published(parcels) == {"NRW": (15, 15), "HE": (15, 15), None: (90, 90)}


def test_a_lookup_by_the_privacy_unit(project):
    """A public table about units gives their events a column; who is not in it has null, and is protected all the same."""
    write_lookup({"user": list(range(40)), "segment": ["gold"] * 15 + ["blue"] * 25}, "segments.parquet")
    project.config["events"] |= {
        "lookups": [{"file": "segments.parquet", "by": "user", "columns": ["segment"]}],
        "nulls": {"key": "keep"},
    }
    ask(project, "segment", bounds={"keys_per_unit": 1, "rows_per_key": 12})
    assert published(project) == {"gold": (180, 15), "blue": (300, 25), None: (240, 20)}
