"""Periods against Python's datetime and zoneinfo: zones, daylight saving, naive timestamps, dates, old and extreme years."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from transforms.read_events import truncate

UTC = dt.UTC
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut")
DAYS = ("day", "week", "month", "quarter", "year")
START = {
    "day": lambda day: day,
    "week": lambda day: day - dt.timedelta(days=day.isoweekday() - 1),
    "month": lambda day: day.replace(day=1),
    "quarter": lambda day: day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
    "year": lambda day: day.replace(month=1, day=1),
}


def moments():
    """Every 7 hours and 13 minutes over 5 years, and every 10 minutes around every change to and from daylight saving."""
    rough = [dt.datetime(2017, 12, 20, tzinfo=UTC) + dt.timedelta(hours=7, minutes=13) * step for step in range(6100)]
    fine = []
    for zone in map(ZoneInfo, ZONES):
        for before, after in itertools.pairwise(rough):
            if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
                fine += [before + dt.timedelta(minutes=10) * step for step in range(45)]
    return rough + fine


MOMENTS = moments()


def test_the_moments_cross_many_changes_of_the_clock():
    for name in ZONES[1:3] + ZONES[4:]:
        zone = ZoneInfo(name)
        local = [moment.astimezone(zone) for moment in MOMENTS]
        assert len({moment.utcoffset() for moment in local}) == 2, name
        assert sum(moment.fold for moment in local) > 5 or name == "UTC", name
    years = {moment.astimezone(UTC).isocalendar()[:2] for moment in MOMENTS}
    assert {(2018, 1), (2020, 53), (2019, 1)} <= years


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ZONES)
def test_b8_days_and_longer_periods_are_those_of_the_zone(zone, unit):
    column = pa.array(MOMENTS, pa.timestamp(unit, "UTC"))
    local = [moment.astimezone(ZoneInfo(zone)).date() for moment in MOMENTS]
    for to in DAYS:
        found = truncate(column, to, zone)
        assert found.type == pa.date32()
        assert found.to_pylist() == [START[to](day) for day in local], to


def hour_of(moment: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """The moment at which the clock last showed a full hour, or was changed."""
    local = moment.astimezone(zone)
    return moment - dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "Australia/Lord_Howe"])
def test_b8_hours_are_those_of_the_zone_and_the_hour_that_comes_twice_is_two(zone):
    """No hour fails: which events there are near a change of the clock must not decide whether a run succeeds (S4)."""
    found = truncate(pa.array(MOMENTS, pa.timestamp("us", "UTC")), "hour", zone)
    assert found.type == pa.timestamp("us", zone)
    assert [hour.astimezone(UTC) for hour in found.to_pylist()] == [hour_of(moment, ZoneInfo(zone)) for moment in MOMENTS]


def test_b8_hours_where_the_clock_moves_by_half_an_hour():
    zone = "Australia/Lord_Howe"
    found = truncate(pa.array(MOMENTS, pa.timestamp("us", "UTC")), "hour", zone).to_pylist()
    late = [moment - hour.astimezone(UTC) for moment, hour in zip(MOMENTS, found, strict=True)]
    assert min(late) >= dt.timedelta(0)
    assert max(late) <= dt.timedelta(minutes=90)


@pytest.mark.parametrize("source", ["UTC", "Asia/Tokyo", "America/New_York", "+05:30"])
def test_the_zone_of_the_column_does_not_matter(source):
    column = pa.array(MOMENTS, pa.timestamp("us", "UTC"))
    other = column.cast(pa.timestamp("us", source))
    for to in DAYS:
        assert truncate(other, to, "Europe/London").equals(truncate(column, to, "Europe/London"))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_without_a_zone_count_as_in_the_zone(unit):
    naive = [moment.replace(tzinfo=None) for moment in MOMENTS]
    column = pa.array(naive, pa.timestamp(unit))
    for to in DAYS:
        assert truncate(column, to, "America/New_York").to_pylist() == [START[to](moment.date()) for moment in naive]
    hours = truncate(column, "hour", "America/New_York")
    assert hours.type == pa.timestamp("us")
    assert hours.to_pylist() == [moment.replace(minute=0) for moment in naive]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates_have_no_zone(kind):
    days = [dt.date(1899, 12, 25) + dt.timedelta(days=step) for step in range(0, 60_000, 11)] + [None]
    for to in DAYS:
        found = truncate(pa.array(days, kind), to, "America/New_York")
        assert found.type == pa.date32()
        assert found.to_pylist() == [day and START[to](day) for day in days]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_the_last_moment_before_1970_is_in_1969(unit, zone):
    column = pa.array([-1, 0], pa.timestamp(unit, zone))
    assert truncate(column, "year", "UTC").to_pylist() == [dt.date(1969, 1, 1), dt.date(1970, 1, 1)]
    assert truncate(column, "hour", "UTC").cast(pa.int64()).to_pylist() == [-3_600_000_000, 0]


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("to", ["hour", *DAYS])
def test_s4_no_timestamp_is_an_error(unit, zone, to):
    """Whatever a timestamp holds, the run goes on; a null stays null."""
    extremes = [2**63 - 1, -(2**63) + 1, 2**62, 2**53, -(2**53), None]
    found = truncate(pa.array(extremes, pa.timestamp(unit, zone)), to, "America/New_York")
    assert pc.is_null(found).to_pylist() == [False] * 5 + [True]
