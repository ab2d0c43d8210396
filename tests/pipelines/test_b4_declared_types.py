"""B4: one declared type, one canonical form. Which spellings in text files are one unit, and which lines are set aside."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipelines.published import ask, per_user, published, refused, write_csv

# What each type makes of CSV values: which are one unit, which lines go to the quarantine, which have no unit.
CSV = {
    "string": (
        [["1", '"1"'], ["01"], ["1.0"], [" 1"], ["1 "], ["+1"], ["0"], ["-0"], ["True"], ["true"], ["1e0"], ["9007199254740993"]],
        [],
        ["NA", "", '""', "null", " NA "],
    ),
    "int64": (
        [["1", "01", " 1", "1 ", "+1", '"1"', "0001"], ["0", "-0", "00"], ["-1"], ["9007199254740993"], ["9007199254740992"]],
        ["1.0", "True", "true", "1e0", "1_0", "9223372036854775808", "0x1", "one"],
        ["NA", "", '""', "null"],
    ),
    "bool": (
        [["1", "True", "true", " 1", '"1"', "TRUE"], ["0", "False", "false"]],
        ["01", "1.0", "-0", "+1", "yes", "t", "2"],
        ["NA", ""],
    ),
    '"decimal(10,2)"': (
        [["1", "01", "1.0", "1.00", " 1", "+1", "1.000", '"1"', "1."], ["0", "-0", "0.0", "-0.00", ".0"], ["0.01"], ["-1"]],
        ["1.001", "True", "1e0", "123456789.00", "1,0"],
        ["NA", "", "NaN"],
    ),
    "date32": (
        [["2024-02-29", " 2024-02-29", '"2024-02-29"'], ["2024-03-01"]],
        ["2023-02-29", "2024-2-29", "29.02.2024", "2024-02-29 00:00", "20240229", "1"],
        ["NA", ""],
    ),
    "timestamp": (
        [["2024-01-01", "2024-01-01 00:00", "2024-01-01T00:00:00", "2024-01-01 00:00:00.000"], ["2024-01-01 00:00:00.000001"]],
        ["2024-01-01T00:00:00Z", "2024-01-01 24:00:01", "2024-01"],
        ["NA", ""],
    ),
    "timestamp(UTC)": (
        [["2024-01-01T00:00:00Z", "2024-01-01 01:00+01:00", "2023-12-31T19:00:00-05:00"], ["2024-01-01T00:00:00+01"]],
        ["2024-01-01", "2024-01-01T00:00:00"],
        ["NA", ""],
    ),
}


def check(project, values, line):
    """Each group is one unit, all groups are as many, no other line has one, and exactly these lines were set aside."""
    groups, bad, _ = values
    ask(project, "group", {"group": [str(number) for number in range(len(groups) + 2)]})
    by_group = published(project, "groups")
    assert [by_group[str(number)] for number in range(len(groups))] == [(len(group), 1) for group in groups]
    assert by_group[str(len(groups))] == by_group[str(len(groups) + 1)] == (0, 0)
    ask(project, "all", {"all": ["x"]}, bounds={"keys_per_unit": 1, "rows_per_key": 20})
    assert published(project, "all") == {"x": (sum(map(len, groups)), len(groups))}
    folder = project.root / "out.private/_quarantine/all"
    aside = pq.read_table(folder)["text"].to_pylist() if folder.exists() else []
    assert aside == [line(value, len(groups)) for value in bad]


def events(values, line):
    """A line for each value: its group, then those that are bad, then those without a unit."""
    groups, bad, none = values
    assert len({value for group in [*groups, bad, none] for value in group}) == sum(map(len, [*groups, bad, none]))
    lines = [line(value, number) for number, group in enumerate(groups) for value in group]
    return lines + [line(value, len(groups)) for value in bad] + [line(value, len(groups) + 1) for value in none]


@pytest.mark.parametrize("kind", CSV)
def test_b4_b5_csv_values_are_one_unit_where_the_declared_type_has_one_value(project, kind):
    def line(value, group):
        return f'"{value}",{group},x' if "," in value else f"{value},{group},x"

    write_csv(project, "user,group,all", *events(CSV[kind], line))
    project.config["events"]["types"] = {"user": kind.strip('"')}
    check(project, CSV[kind], line)


JSON = {
    "string": (
        [["1", '"1"', '"\\u0031"'], ["1.0", '"1.0"'], ['"01"'], ['" 1"'], ["true", '"true"'], ['"True"'], ['"null"'], ['"NA"']],
        ["01", "nul", "'1'"],
        ["null", '""'],
    ),
    "int64": (
        [["1", '"1"', '" 1"', '"01"', '"+1"'], ["0", "-0", '"-0"'], ["9007199254740993"], ["9007199254740992"]],
        ["1.0", '"1.0"', "true", '"true"', '"null"', "1e0", "[1]", '{"a": 1}', "9223372036854775808"],
        ["null"],
    ),
    "bool": ([["true", "1", '"1"', '"True"', '"true"'], ["false", "0"]], ["1.0", '"yes"', "2"], ["null"]),
    "decimal(10,2)": ([["1", "1.0", '"1.00"', "1.000"], ["0", "-0.0", '"-0"'], ["0.01"]], ["1.001", "true"], ["null"]),
}


@pytest.mark.parametrize("kind", JSON)
def test_b4_b5_json_values_are_one_unit_where_the_declared_type_has_one_value(project, kind):
    """A number and the text of it are one; whether 1 and 1.0 are depends on the type. A key that is not there is null."""

    def line(value, group):
        return f'{{"user": {value}, "group": "{group}", "all": "x"}}'

    path = project.root / "events/a.jsonl"
    absent = json.dumps({"group": str(len(JSON[kind][0]) + 1), "all": "x"})
    path.write_text("".join(text + "\n" for text in [*events(JSON[kind], line), absent]))
    project.config["events"] |= {"files": "events/a.jsonl", "types": {"user": kind}}
    check(project, JSON[kind], line)


def test_b4_a_type_without_exact_values_is_refused(project):
    """0.1 + 0.2 is not 0.3, and -0.0 is 0.0."""
    write_csv(project, "user,all", "1,x")
    project.config["events"]["types"] = {"user": "float64"}
    ask(project, "all", {"all": ["x"]})
    assert "events.privacy_unit: column 'user' is double, which has no exact values; write it as text or" in refused(project)


def test_b4_text_and_number_are_different_columns(project):
    """In Parquet the type is in the file: '1', '01' and '1.0' as text are three units, 1 as a number is one, True is one."""
    for number, (users, units) in enumerate(
        [
            (["1", "01", "1.0", "1"], 3),
            (pa.array([1, 1, 1, 2], pa.int8()), 2),
            (pa.array([True, True, False, False]), 2),
            (pa.array(["1.00", "1.0", "1", "0"]).cast(pa.decimal128(5, 2)), 2),
            (pa.array([2**53, 2**53 + 1, 2**53 + 1, 0], pa.uint64()), 3),
        ]
    ):
        project.write_events(per_user(users))
        ask(project, "all", {"all": ["x"]})
        assert published(project, f"run{number}") == {"x": (4, units)}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_b4_moments_are_one_unit_to_the_microsecond(project, unit):
    """The canonical form of timestamps; of nanoseconds, those of one microsecond are not told apart."""
    ticks = [-1, 0, 999, 1000] if unit == "ns" else [-1, 0, 0, 1]
    project.write_events(per_user(pa.array(ticks, pa.timestamp(unit, "UTC"))))
    ask(project, "all", {"all": ["x"]})
    assert published(project) == {"x": (4, 3)}
