"""Whole runs about declared days: retain, window, and privacy units of a user and a day, against datetime and zoneinfo."""

import datetime as dt
import random
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from tests.pipelines.published import ask, per_user, published, refused, write_csv

EVERYONE = {"all": ["x"]}
DAY, HALF_HOUR = dt.timedelta(days=1), dt.timedelta(minutes=30)
MIDNIGHTS = [
    # zone, the first day that is in; the clock changes on that day, or at its midnight
    ("Europe/Berlin", dt.date(2024, 3, 31)),
    ("Europe/Berlin", dt.date(2024, 10, 27)),
    ("Europe/Berlin", dt.date(2024, 10, 28)),
    ("America/New_York", dt.date(2024, 3, 10)),
    ("America/New_York", dt.date(2024, 11, 4)),
    ("America/Sao_Paulo", dt.date(2018, 11, 4)),  # has no midnight: 23:59 is followed by 1:00
    ("America/Sao_Paulo", dt.date(2018, 2, 18)),  # the last hour of the day before comes twice
    ("America/Havana", dt.date(2018, 11, 4)),  # midnight comes twice
    ("Asia/Kathmandu", dt.date(2024, 1, 1)),
    ("UTC", dt.date(2024, 2, 29)),
]


def around(day, zone):
    """Moments every half hour around the day's first, and a microsecond before and after each."""
    first = dt.datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(dt.UTC)
    return [first + step * HALF_HOUR + dt.timedelta(microseconds=by) for step in range(-8, 9) for by in (-1, 0, 1)]


def of_each(project, name, values, kind):
    """Writes one event for each value of a column, by a user of its own and in a key of its own; asks which of them count."""
    keys = [f"e{number}" for number in range(len(values))]
    project.write_events(per_user(list(range(len(values))), key=keys, **{name: pa.array(values, kind)}))
    ask(project, "key", {"key": keys}, [{"name": "events", "count": "events"}])


def kept(project, run_id="one"):
    """The numbers of the events that counted."""
    found = published(project, run_id)
    assert set(found.values()) <= {0, 1}
    return {number for number in range(len(found)) if found[f"e{number}"]}


@pytest.mark.parametrize(("zone", "day"), MIDNIGHTS)
@pytest.mark.parametrize("unit", ["us", "ns"])
def test_b8_retain_begins_at_the_first_moment_of_a_day_of_its_zone(project, zone, day, unit):
    """As zoneinfo has it: an event is as old as its day there, to the microsecond."""
    moments = around(day, ZoneInfo(zone))
    of_each(project, "at", moments, pa.timestamp(unit, "UTC"))
    project.config["events"]["retain"] = {"column": "at", "days": 30, "as_of": str(day + 30 * DAY), "timezone": zone}
    expected = {number for number, moment in enumerate(moments) if moment.astimezone(ZoneInfo(zone)).date() >= day}
    assert 20 < len(expected) < len(moments) - 20
    assert kept(project) == expected


def test_b8_the_zone_of_the_column_does_not_matter_for_retain(project):
    """A column in Tokyo's time, days of New York."""
    zone, day = ZoneInfo("America/New_York"), dt.date(2024, 3, 10)
    moments = around(day, zone)
    of_each(project, "at", moments, pa.timestamp("ms", "Asia/Tokyo"))
    retain = {"column": "at", "days": 1, "as_of": str(day + DAY)}
    project.config["events"]["retain"] = retain | {"timezone": "America/New_York"}
    cut = [moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in moments]
    new_york = {number for number, moment in enumerate(cut) if moment.astimezone(zone).date() >= day}
    assert kept(project, "new-york") == new_york
    project.config["events"]["retain"] = retain
    assert kept(project, "utc") == {number for number, moment in enumerate(cut) if moment.date() >= day} > new_york


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_b8_retain_takes_timestamps_without_a_zone_as_they_are(project, unit, timezone):
    """Midnight is 0:00 on the column's own clock, whatever zone is declared. Nulls are no day."""
    midnight = dt.datetime(2024, 3, 31)
    tick = {"s": dt.timedelta(seconds=1), "ms": dt.timedelta(milliseconds=1)}.get(unit, dt.timedelta(microseconds=1))
    moments = [midnight - DAY, midnight - tick, midnight, midnight + tick, midnight + 5000 * DAY, None]
    of_each(project, "at", moments, pa.timestamp(unit))
    project.config["events"]["retain"] = {"column": "at", "days": 7, "as_of": "2024-04-07", "timezone": timezone}
    assert kept(project) == {2, 3, 4}


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_retain_takes_dates_as_they_are(project, kind, timezone):
    """One day before as_of is in, two days before are not; days after it are."""
    days = [dt.date(2024, 2, 27), dt.date(2024, 2, 28), dt.date(2024, 2, 29), dt.date(2024, 3, 1), dt.date(2030, 1, 1), None]
    of_each(project, "on", days, kind)
    project.config["events"]["retain"] = {"column": "on", "days": 1, "as_of": "2024-02-29", "timezone": timezone}
    assert kept(project, "one") == {1, 2, 3, 4}
    project.config["events"]["retain"]["days"] = 2
    assert kept(project, "two") == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_window_includes_both_ends(project, kind):
    """Of one day as well; and nothing is left of none, also of nulls."""
    days = [dt.date(2024, 2, 28) + number * DAY for number in range(5)]
    of_each(project, "on", [*days, None], kind)
    project.config["events"]["window"] = {"column": "on", "from": "2024-02-29", "to": "2024-03-02"}
    assert kept(project, "three") == {1, 2, 3}
    project.config["events"]["window"] = {"column": "on", "from": "2024-02-29", "to": "2024-02-29"}
    assert kept(project, "one") == {1}
    project.config["events"]["window"] = {"column": "on", "from": "2025-01-01", "to": "2025-12-31"}
    assert kept(project, "none") == set()


def test_b8_window_on_a_derived_month(project):
    """From February to March of New York, where its months begin."""
    zone = ZoneInfo("America/New_York")
    moments = [moment for day in (dt.date(2024, 2, 1), dt.date(2024, 4, 1)) for moment in around(day, zone)]
    of_each(project, "at", moments, pa.timestamp("us", "UTC"))
    project.config["events"] |= {
        "derive": {"month": {"truncate": "at", "to": "month", "timezone": "America/New_York"}},
        "window": {"column": "month", "from": "2024-02-01", "to": "2024-03-01"},
    }
    expected = {number for number, moment in enumerate(moments) if moment.astimezone(zone).month in (2, 3)}
    assert expected != {number for number, moment in enumerate(moments) if moment.month in (2, 3)}
    assert 40 < len(expected) < len(moments) - 40
    assert kept(project) == expected


def test_window_retain_and_where_must_all_hold(project):
    days = [dt.date(2024, 1, 1) + number * DAY for number in range(31)]
    of_each(project, "on", days, pa.date32())
    project.config["events"] |= {
        "window": {"column": "on", "from": "2024-01-05", "to": "2024-01-25"},
        "retain": {"column": "on", "days": 21, "as_of": "2024-01-31"},
        "where": [{"column": "on", "op": "not_in", "value": ["2024-01-12", "2024-01-02"]}],
    }
    assert kept(project) == set(range(9, 25)) - {11}


def test_days_of_text_files(project):
    """As declared: a date, and a timestamp in the files' own form. A value that is none goes to the quarantine."""
    lines = [f"{number},e{number},{day:02}/02/2024" for number, day in enumerate((26, 27, 28, 29, 30))]
    write_csv(project, "user,key,on", *lines)
    ask(project, "key", {"key": [f"e{number}" for number in range(5)]}, [{"name": "events", "count": "events"}])
    project.config["events"] |= {"csv": {"timestamps": "%d/%m/%Y"}, "types": {"on": "date32"}}
    project.config["events"]["window"] = {"column": "on", "from": "2024-02-27", "to": "2024-03-31"}
    assert kept(project, "date") == {1, 2, 3}
    project.config["events"]["types"] = {"on": "timestamp"}
    del project.config["events"]["window"]
    project.config["events"]["retain"] = {"column": "on", "days": 1, "as_of": "2024-02-28"}
    assert kept(project, "timestamp") == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("window", pa.timestamp("us"), "is timestamp[us], not a date; derive its day and name that"),
        ("window", pa.timestamp("us", "UTC"), "is timestamp[us, tz=UTC], not a date; derive its day and name that"),
        ("window", pa.string(), "is string, not a date; name a column of dates"),
        ("window", pa.int64(), "is int64, not a date; name a column of dates"),
        ("retain", pa.string(), "is string, not a timestamp; name a column of timestamps"),
        ("retain", pa.int64(), "is int64, not a timestamp; name a column of timestamps"),
        ("retain", pa.time64("us"), "is time64[us], not a timestamp; name a column of timestamps"),
    ],
)
def test_columns_of_other_types_are_refused(project, name, kind, said):
    of_each(project, "on", [None], kind)
    spans = {"window": {"from": "2024-01-01", "to": "2024-12-31"}, "retain": {"days": 1, "as_of": "2024-01-01"}}
    project.config["events"][name] = {"column": "on"} | spans[name]
    assert f"events.{name}: column 'on' {said}" in refused(project)


def test_undeclared_days_of_text_files_are_refused_with_the_line_to_add(project):
    write_csv(project, "user,all,on", "1,x,2024-01-01")
    ask(project, "all", EVERYONE)
    project.config["events"]["retain"] = {"column": "on", "days": 1, "as_of": "2024-01-01"}
    assert "add events.types: {on: timestamp}" in refused(project)


def test_missing_columns_are_named_with_their_place(project):
    for name, span in (("window", {"from": "2024-01-01", "to": "2024-12-31"}), ("retain", {"days": 1, "as_of": "2024-01-01"})):
        project.config["events"] |= {"window": None, "retain": None, name: {"column": "absent"} | span}
        project.config["events"] = {key: value for key, value in project.config["events"].items() if value is not None}
        complaint = refused(project)
        assert f"events.{name}.column: " in complaint
        assert "no column 'absent'" in complaint


CHANGES = [("Europe/Berlin", dt.date(2024, 3, 31)), ("Europe/Berlin", dt.date(2024, 10, 27))]
CHANGES += [("America/New_York", dt.date(2024, 3, 10)), ("America/New_York", dt.date(2024, 11, 3))]


def visits(zone, day):
    """Who came when: 80 users, each at three quarters of hours near three midnights, between them a change of the clock."""
    draw = random.Random(f"{zone} {day}")
    midnights = [dt.datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) + number * DAY for number in (0, 1, 2)]
    quarters = [midnight.astimezone(dt.UTC) + step * HALF_HOUR / 2 for midnight in midnights for step in range(-24, 24)]
    return [(user, moment) for user in range(80) for moment in draw.sample(quarters, 3)]


def pairs_of(found, zone):
    """The pairs of user and day in a zone."""
    return {(user, moment.astimezone(zone).date()) for user, moment in found}


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_b8_a_user_and_day_is_charged_for_the_declared_zones_day(project, zone, day, unit):
    """Units are counted, and events within a bound of one event a unit: as many as zoneinfo finds pairs of user and day."""
    found, place = visits(zone, day), ZoneInfo(zone)
    winter, summer = (dt.timezone(place.utcoffset(dt.datetime(2024, month, 1))) for month in (1, 7))
    charged, days = pairs_of(found, place), sorted({date for _, date in pairs_of(found, place)})
    others = [pairs_of(found, other) for other in (dt.UTC, winter, summer)]
    assert all(charged != other for other in others)
    assert (len(charged) != len(others[0]), len(days)) == (True, 4)
    users, moments = zip(*found, strict=True)
    project.write_events(per_user(list(users), at=pa.array(moments, pa.timestamp(unit, "UTC"))))
    for number, name in enumerate((zone, "UTC")):
        derive = {"day": {"truncate": "at", "to": "day", "timezone": name}}
        project.config["events"] |= {"derive": derive, "privacy_unit": ["user", "day"]}
        ask(project, "all", EVERYONE, bounds={"keys_per_unit": 1, "rows_per_key": 1})
        assert published(project, f"all{number}") == {"x": (len(pairs_of(found, ZoneInfo(name))),) * 2}
    project.config["events"]["derive"]["day"]["timezone"] = zone
    ask(project, "day", {"day": [str(date) for date in days]}, bounds={"keys_per_unit": 1, "rows_per_key": 3})
    local = [moment.astimezone(place).date() for moment in moments]
    expected = {date: (local.count(date), sum(1 for _, other in charged if other == date)) for date in days}
    assert published(project, "by-day") == expected


def test_b5_b8_events_without_a_moment_have_no_day_and_are_left_out(project):
    """Rather than pooled into one unit of their user."""
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    project.write_events(per_user([1, 1, 1, 2], at=pa.array([moment, None, None, None], pa.timestamp("us", "UTC"))))
    project.config["events"] |= {
        "derive": {"day": {"truncate": "at", "to": "day", "timezone": "Europe/Berlin"}},
        "privacy_unit": ["user", "day"],
    }
    ask(project, "all", EVERYONE)
    assert published(project) == {"x": (1, 1)}
