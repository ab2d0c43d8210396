"""What a plan and a manifest say for each kind of privacy unit: who is protected, who is not, and what becomes of nulls."""

import json

import pytest

from pipelines.config import parse_config
from pipelines.statement import guarantee, neighbours, nulls, plan_json, protected, units_note
from privacy.plan import make_plan
from privacy.selection import NORM

BERLIN = {"truncate": "at", "to": "day", "timezone": "Europe/Berlin"}
HOUR = {"truncate": "at", "to": "hour", "timezone": "America/New_York"}


def set_up(project, unit, **events):
    """The project's config with this unit. Rows have bounds of their own, and units that are not counted."""
    project.config["events"] |= {"privacy_unit": unit} | events
    if isinstance(unit, dict):
        del project.release["bounds"]
        project.release["metrics"] = [metric for metric in project.release["metrics"] if metric.get("count") != "units"]
    return parse_config(json.dumps(project.config))


UNITS = [
    # unit, derived columns, protected, not protected, left out, neighbours
    (
        "user",
        {},
        "each value of user, with all of its events together.",
        "A person who stands behind several values is protected less.",
        "Events without user are left out.",
        "all events of one user",
    ),
    (
        ["user", "site"],
        {},
        "each combination of user and site, with all of its events together.",
        "A person who stands behind several values is protected less.",
        "Events without user or site are left out.",
        "all events of one user and site",
    ),
    (
        ["user", "day"],
        {"day": BERLIN},
        "each user in each day (Europe/Berlin), with all of its events in that day together.",
        "Not protected as a whole is a user with events in many: in n of them, n times less.",
        "Events without user or day are left out.",
        "all events of one user and day",
    ),
    (
        ["day", "user"],
        {"day": BERLIN},
        "each user in each day (Europe/Berlin), with all of its events in that day together.",
        "A person who stands behind several values of user is protected less.",
        "Events without day or user are left out.",
        "all events of one day and user",
    ),
    (
        ["user", "site", "hour"],
        {"hour": HOUR},
        "each user and site in each hour (America/New_York), with all of its events in that hour together.",
        "Not protected as a whole is a user and site with events in many: in n of them, n times less.",
        "Events without user or site or hour are left out.",
        "all events of one user and site and hour",
    ),
    (
        "day",
        {"day": BERLIN},
        "each value of day, with all of its events together.",
        "A person who stands behind several values is protected less.",
        "Events without day are left out.",
        "all events of one day",
    ),
]


@pytest.mark.parametrize(("unit", "derive", "who", "not_so", "left_out", "other"), UNITS)
def test_who_is_protected_and_who_is_not(project, unit, derive, who, not_so, left_out, other):
    """A period that is derived and only read for something else is no part of the unit."""
    derive = derive | {"month": BERLIN | {"to": "month"}}
    config = set_up(project, unit, derive=derive)
    said = protected(config)
    assert said.startswith(f"Protected is {who}")
    assert not_so in said
    assert left_out in said
    assert "month" not in said
    assert neighbours(config) == other
    assert guarantee(config) == (
        "Everything that this run publishes is, taken together, (50, 0.0001)-differentially private with respect to adding or "
        f"removing {other}."
    )


@pytest.mark.parametrize("rows", [3, 100])
def test_rows_protect_no_person(project, rows):
    """And it is said so: who has more rows is protected less. There is no unit whose events could be left out."""
    config = set_up(project, {"rows": rows})
    said = protected(config)
    assert said.startswith(f"Protected are any {rows} rows, whoever they are of.")
    assert "Not protected as a whole is somebody with more: with n times as many rows, n times less." in said
    assert "left out" not in said
    assert neighbours(config) == f"any {rows} rows"
    assert guarantee(config).endswith(f"(50, 0.0001)-differentially private with respect to adding or removing any {rows} rows.")
    assert "unit" not in nulls(config)


DROPPED = "An event is left out of a release where one of its key columns is null."
SKIPPED = "A value that is null, NaN or infinite is left out of the metrics of its column only."


@pytest.mark.parametrize("unit", ["user", {"rows": 3}])
@pytest.mark.parametrize("key", [None, "drop", "keep"])
@pytest.mark.parametrize("value", [None, "skip", "zero"])
def test_b5_what_becomes_of_nulls(project, unit, key, value):
    """One sentence each for unit, key and value; the defaults are those that are written out."""
    chosen = {name: choice for name, choice in (("key", key), ("value", value)) if choice is not None}
    said = nulls(set_up(project, unit, **({"nulls": chosen} if chosen else {})))
    kept, zero = "Null is a key like any other.", "A value that is null, NaN or infinite counts as 0, cut to the clip."
    expected = [] if unit != "user" else ["An event is left out where the privacy unit is null or empty."]
    expected += [kept if key == "keep" else DROPPED, zero if value == "zero" else SKIPPED]
    assert said == " ".join(expected)


@pytest.mark.parametrize("key", ["drop", "keep"])
def test_b5_what_becomes_of_nulls_in_releases_that_say_it_themselves(project, key):
    """Those that say what the config says anyway are not named."""
    project.config["releases"] = [
        project.release | {"name": name, "keys": {"columns": ["shop"]} | word}
        for name, word in (("a", {}), ("b", {"nulls": "keep"}), ("c", {"nulls": "drop"}), ("d", {"nulls": "keep"}))
    ]
    said = nulls(set_up(project, "user", nulls={"key": key}))
    if key == "keep":
        assert " Null is a key like any other, but not in c: an event without a key is left out there. A value" in said
    else:
        assert f" {DROPPED[:-1]}, but not of b and d: null is a key there. A value" in said


def test_the_plan_of_rows(project):
    """A key needs so many events, and which rows it must not show is told; there is no number of keys that they have."""
    config = set_up(project, {"rows": 3})
    config = config.model_copy(update={"budget": config.budget.model_copy(update={"epsilon": 1.0})})
    plan = make_plan(config.budget, config.releases, 3)
    stage = plan_json(plan)["releases"]["by_shop"][0]
    assert (stage["stage"], stage["keys_looked_at_per_unit"], stage["bound"]) == ("select", 1, 1.0)
    # A row weighs a third: the threshold is reached by three times as many.
    assert stage["units_to_appear_50"] == pytest.approx(stage["threshold"] * NORM / (NORM // 3), rel=1e-9)
    note = units_note(plan, plan.releases[0])
    assert note is not None
    assert f"where it has {stage['units_to_appear_50']:,.0f} events, with 95%" in note
    assert f"no key that only 3 rows have appears, but with probability {stage['delta']:.1g}." in note
    assert "keys each" not in note


@pytest.mark.parametrize("unit", [["user", "day"], {"rows": 3}])
def test_plan_run_manifest_and_files_say_the_same(project, unit):
    config = set_up(project, unit, derive={"day": BERLIN}, nulls={"key": "keep", "value": "zero"})
    ended = project.run()
    assert ended.status == 0, ended.complaint
    manifest = project.manifest()
    told = project.main("plan", "--json", "config.yaml").json
    assert told["protected"] == manifest["protected"] == protected(config)
    assert told["guarantee"] == manifest["guarantee"] == guarantee(config)
    assert manifest["neighbours"] == f"add or remove {neighbours(config)}"
    assert manifest["nulls"] == nulls(config)
    shown = " ".join(project.main("plan", "config.yaml").out.split())
    assert protected(config) in shown
    metadata = json.loads(project.table().schema.metadata[b"discreet"])
    assert (metadata["protected"], metadata["guarantee"]) == (manifest["protected"], manifest["guarantee"])
