"""The newer keys of `events`: what is refused, before any data is read, and what is meant."""

import copy
import datetime as dt
import json

import pytest

from pipelines.config import parse_config
from transforms.errors import ConfigError

WINDOW = {"column": "day", "from": "2024-01-01", "to": "2024-01-31"}
RETAIN = {"column": "at", "days": 30, "as_of": "2024-01-31"}
DAY = {"truncate": "at", "to": "day", "timezone": "UTC"}
LOOKUP = {"file": "towns.parquet", "columns": ["area"]}
DATE = "write one as 2024-12-31"

MALFORMED = [
    # where in events, what is put there, what the message must say
    ("window", WINDOW | {"from": "2024-02-01"}, ["events.window", "from 2024-02-01 is after to 2024-01-31", "write the first"]),
    ("window", WINDOW | {"from": "2023-02-29"}, ["events.window.from", "'2023-02-29' is no date", DATE]),
    ("window", WINDOW | {"to": "31.1.2024"}, ["events.window.to", "'31.1.2024' is no date", DATE]),
    ("window", WINDOW | {"to": "2024-01-31T00:00:00"}, ["events.window.to", "is no date", DATE]),
    ("window", WINDOW | {"to": ["2024-01-31"]}, ["events.window.to", "is no date", "write 2024-12-31"]),
    ("window", WINDOW | {"until": "2024-01-31"}, ["events.window.until", "is not a key"]),
    ("window", {"column": "day", "from": "2024-01-01"}, ["events.window.to", "is missing", "add it"]),
    ("window", WINDOW | {"column": ""}, ["events.window.column", "''", "is empty", "write a value"]),
    ("window", "2024", ["events.window", "'2024'", "no mapping", "write"]),
    ("retain", RETAIN | {"as_of": "today"}, ["events.retain.as_of", "'today' is no date", DATE]),
    ("retain", RETAIN | {"as_of": "20240131"}, ["events.retain.as_of", "'20240131' is no date", DATE]),
    ("retain", RETAIN | {"days": 0}, ["events.retain.days", "'0'", "at least 1", "write"]),
    ("retain", RETAIN | {"days": -1}, ["events.retain.days", "'-1'", "at least 1", "write"]),
    ("retain", RETAIN | {"days": 36501}, ["events.retain.days", "'36501'", "at most 36500", "write"]),
    ("retain", RETAIN | {"days": "30d"}, ["events.retain.days", "'30d'", "whole number", "write"]),
    ("retain", RETAIN | {"days": 1.5}, ["events.retain.days", "'1.5'", "whole number", "write"]),
    ("retain", RETAIN | {"timezone": "Mars"}, ["events.retain.timezone", "'Mars'", "no time zone", "write one as Europe/Berlin"]),
    ("retain", {"column": "at", "days": 3, "as_of": "0001-01-03"}, ["events.retain", "3 days before 0001-01-03", "write fewer"]),
    ("retain", {"column": "at", "as_of": "2024-01-31"}, ["events.retain.days", "is missing", "add it"]),
    ("retain", {"column": "at", "days": 30}, ["events.retain.as_of", "is missing", "add it"]),
    ("nulls", {"unit": "keep"}, ["events.nulls.unit", "'keep' is not known", "write 'drop'"]),
    ("nulls", {"key": "zero"}, ["events.nulls.key", "'zero' is not known", "write 'drop' or 'keep'"]),
    ("nulls", {"value": "drop"}, ["events.nulls.value", "'drop' is not known", "write 'skip' or 'zero'"]),
    ("nulls", {"keys": "keep"}, ["events.nulls.keys", "is not a key here", "remove it"]),
    ("nulls", "drop", ["events.nulls", "'drop'", "no mapping", "write"]),
    ("normalise", {"user": ["trim", "casefold", "trim"]}, ["normalise.user", "repeats a step", "write each once"]),
    (
        "normalise",
        {"user": ["trim", "nfd"]},
        ["events.normalise.user[1]", "'nfd' is not known", "write 'trim'"],
    ),
    ("normalise", {"user": "lower"}, ["events.normalise.user", "'lower' is not known", "write 'trim'"]),
    ("normalise", {"user": []}, ["events.normalise.user", "is empty", "list at least one"]),
    ("normalise", ["user"], ["events.normalise", "no mapping", "write"]),
    ("normalize", {"user": ["trim"]}, ["events.normalize", "not a key", "did you mean normalise?"]),
    ("lookups", [LOOKUP | {"by": []}], ["events.lookups[0].by", "is empty", "list at least one"]),
    ("lookups", [LOOKUP], ["events.lookups[0].by", "is missing", "add it"]),
    ("lookups", [LOOKUP | {"by": ["shop", "area"]}], ["lookups[0].by 'area'", "made later", "name a column of the files"]),
    ("lookups", [LOOKUP | {"by": ["shop", "day"]}], ["lookups[0].by 'day'", "made later", "name a column of the files"]),
    (
        "derive",
        {"day": DAY, "month": DAY | {"truncate": "day"}},
        ["derive.month", "'day'", "itself derived", "truncate its"],
    ),
    ("privacy_unit", {"rows": 0}, ["events.privacy_unit.rows", "'0'", "at least 1", "write"]),
    ("privacy_unit", {"rows": 65_537}, ["events.privacy_unit.rows", "'65537'", "at most 65536", "write"]),
    ("privacy_unit", {"rows": "all"}, ["events.privacy_unit.rows", "'all'", "whole number", "write"]),
    ("privacy_unit", {"row": 3}, ["events.privacy_unit.row", "not a key"]),
    ("privacy_unit", {}, ["events.privacy_unit", "is empty", "list at least one column, or write {rows: 10}"]),
    ("privacy_unit", [], ["events.privacy_unit", "is empty", "list at least one column, or write {rows: 10}"]),
    ("privacy_unit", {"rows": 3, "columns": ["user"]}, ["events.privacy_unit", "both", "write"]),
    ("privacy_unit", ["user", "day", "user"], ["events.privacy_unit", "repeats a column", "name each once"]),
    ("privacy_unit", ["user", ""], ["events.privacy_unit", "''", "is empty", "write a value"]),
]


@pytest.mark.parametrize(("key", "value", "said"), MALFORMED, ids=[f"{key}={json.dumps(value)}" for key, value, _ in MALFORMED])
def test_r11_malformed_options(project, key, value, said):
    """One sentence that names the place, the value, the rule and the cure; nothing is read (the files do not exist)."""
    project.config["events"] |= {"files": "nowhere/*.parquet", "derive": {"day": DAY}, key: value}
    for command in ("plan", "run"):
        ended = project.main(command, str(project.write_config()))
        assert (ended.status, ended.out) == (2, "")
        assert all(part in ended.complaint for part in said), ended.complaint
        assert ended.err == ended.complaint + "\n"
        assert len(ended.complaint.splitlines()) == 1
    assert not (project.root / "out").exists()


def test_well_formed_options_are_not_refused(project):
    """What the table above changes, unchanged: the refusals are about the change."""
    project.config["events"] |= {
        "derive": {"day": DAY},
        "window": WINDOW,
        "retain": RETAIN | {"timezone": "Europe/Berlin"},
        "nulls": {"unit": "drop", "key": "keep", "value": "zero"},
        "normalise": {"shop": ["nfc", "casefold", "trim"]},
        "lookups": [LOOKUP | {"by": ["shop", "user"]}],
        "privacy_unit": ["user", "day"],
    }
    config = parse_config(json.dumps(project.config))
    assert (config.events.window.first, config.events.window.last) == (dt.date(2024, 1, 1), dt.date(2024, 1, 31))
    assert config.events.retain.first == dt.date(2024, 1, 1)
    assert config.events.normalise == {"shop": ("nfc", "casefold", "trim")}


ROWS = [
    # where in the release, what is put there, what the message must say
    ("bounds", {"keys_per_unit": 3, "rows_per_key": 4}, ["releases[0].bounds", "not needed", "{rows: 3}", "remove it"]),
    ("select", {"cap": 5}, ["releases[0].select.cap", "not needed", "{rows: 3}", "remove it"]),
    ("select", {"share": 2, "cap": 1024}, ["releases[0].select.cap", "not needed", "{rows: 3}", "remove it"]),
    (
        "metrics",
        [{"name": "n", "count": "events"}, {"name": "u", "count": "units"}],
        ["releases[0].metrics[1].count", "units are rows", "{rows: 3}", "write count: events"],
    ),
]


@pytest.fixture
def by_rows(project):
    """A config that protects any three rows."""
    project.config["events"]["privacy_unit"] = {"rows": 3}
    del project.release["bounds"]
    project.release["metrics"] = [metric for metric in project.release["metrics"] if metric.get("count") != "units"]
    return project


@pytest.mark.parametrize(("key", "value", "said"), ROWS)
def test_r11_s7_what_follows_from_rows_is_not_written(by_rows, key, value, said):
    """Bounds, cap and the count of units: refused rather than passed over."""
    assert parse_config(json.dumps(by_rows.config)).events.privacy_unit.rows == 3
    by_rows.release[key] = value
    ended = by_rows.main("plan", str(by_rows.write_config()))
    assert (ended.status, ended.out) == (2, "")
    assert all(part in ended.complaint for part in said), ended.complaint


def test_a_share_of_the_selection_goes_with_rows(by_rows):
    by_rows.release["select"] = {"share": 2}
    assert by_rows.main("plan", "--json", str(by_rows.write_config())).json["plan"]["releases"]["by_shop"][0]["share"] > 0.3


def test_r11_s7_without_rows_bounds_are_needed(project):
    """Of each release."""
    project.config["releases"].append(copy.deepcopy(project.release) | {"name": "second"})
    del project.config["releases"][1]["bounds"]
    ended = project.main("plan", str(project.write_config()))
    assert (ended.status, ended.out) == (2, "")
    assert "releases[1].bounds: is missing; add bounds: {keys_per_unit: .., rows_per_key: ..}" in ended.complaint


OPTIONS = {
    "window": WINDOW,
    "retain": RETAIN | {"timezone": "Europe/Berlin"},
    "nulls": {"key": "keep", "value": "zero"},
    "normalise": {"shop": ["trim", "nfc"]},
    "lookups": [LOOKUP | {"by": ["shop", "user"]}],
    "privacy_unit": ["user", "day"],
    "derive": {"day": DAY},
}


def parsed(tree, **variables):
    return parse_config(json.dumps(tree), variables)


def check_resolved(config):
    """What the manifest keeps of a config can be run again: the same digest, and nothing is left to be resolved."""
    resolved = json.loads(json.dumps(config.resolved()))
    assert parsed(resolved).digest() == config.digest()
    assert parsed(resolved).resolved() == resolved
    return resolved["events"]


def test_a_resolved_config_is_the_same_config(project):
    """Dates are text in it, and every default is written out."""
    assert check_resolved(parsed(project.config)).keys().isdisjoint({"window", "retain"})
    project.config["events"] |= OPTIONS
    events = check_resolved(parsed(project.config))
    assert (events["window"], events["retain"]) == (OPTIONS["window"], OPTIONS["retain"])
    assert events["retain"] | {"days": 30} == events["retain"]
    assert events["nulls"] == {"unit": "drop", "key": "keep", "value": "zero"}
    assert events["privacy_unit"] == ["user", "day"]


def test_a_resolved_config_of_rows_is_the_same_config(by_rows):
    by_rows.release["keys"]["values"] = {"shop": ["ash"]}
    assert check_resolved(parsed(by_rows.config))["privacy_unit"] == {"rows": 3}


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("nulls", {"unit": "drop", "key": "drop", "value": "skip"}),
        ("normalise", {}),
        ("privacy_unit", ["user"]),
        ("privacy_unit", {"columns": ["user"]}),
        ("csv", {}),
    ],
)
def test_a_default_that_is_written_out_changes_nothing(project, key, default):
    before = parsed(project.config).digest()
    project.config["events"][key] = default
    assert parsed(project.config).digest() == before


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_is_in_the_digest(project, key):
    """A run id stands for what was read and how."""
    project.config["events"] |= {"derive": {"day": DAY}}
    before = parsed(project.config).digest()
    changed = {"day": DAY | {"to": "week"}} if key == "derive" else OPTIONS[key]
    assert parsed(project.config | {"events": project.config["events"] | {key: changed}}).digest() != before


def test_one_form_and_one_column_need_no_list(project):
    project.config["events"] |= {"normalise": {"shop": "trim"}, "lookups": [LOOKUP | {"by": "shop"}]}
    config = parsed(project.config)
    assert config.events.normalise == {"shop": ("trim",)}
    assert config.events.lookups[0].by == ("shop",)


def test_days_may_come_from_variables(project):
    """So that one config serves every month. Which column is meant, how many days and which zone may not."""
    project.config["events"] |= {
        "derive": {"day": DAY},
        "window": {"column": "day", "from": "${from}", "to": "${to}"},
        "retain": RETAIN | {"as_of": "${to}"},
    }
    config = parsed(project.config, **{"from": "2024-02-01", "to": "2024-02-29"})
    assert (config.events.window.first, config.events.retain.as_of) == (dt.date(2024, 2, 1), dt.date(2024, 2, 29))
    with pytest.raises(ConfigError, match=r"events\.window\.to: '2024-02-30' is no date"):
        parsed(project.config, **{"from": "2024-02-01", "to": "2024-02-30"})
    for part, key in (("window", "column"), ("retain", "column"), ("retain", "days"), ("retain", "timezone")):
        tree = copy.deepcopy(project.config)
        tree["events"][part][key] = "${x}"
        with pytest.raises(ConfigError, match=rf"events\.{part}\.{key}: .*uses a variable"):
            parsed(tree, **{"from": "2024-02-01", "to": "2024-02-29", "x": "30"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("privacy_unit", {"rows": "${x}"}), ("normalise", {"shop": ["${x}"]}), ("nulls", {"key": "${x}"})],
)
def test_variables_are_refused_in_what_the_guarantee_depends_on(project, key, value):
    project.config["events"][key] = value
    with pytest.raises(ConfigError, match=rf"events\.{key}.*uses a variable"):
        parsed(project.config, x="3")


def test_dates_are_read_as_written(project):
    """YAML without quotes, which other readers make a date of."""
    text = json.dumps(project.config | {"events": project.config["events"] | {"window": "HERE", "derive": {"day": DAY}}})
    config = parse_config(text.replace('"HERE"', "{column: day, from: 2024-01-01, to: '2024-01-31'}"))
    assert (config.events.window.first, config.events.window.last) == (dt.date(2024, 1, 1), dt.date(2024, 1, 31))
