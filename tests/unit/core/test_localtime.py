"""Local time: zones of customers, quiet windows, and days whose clocks change."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.localtime import (
    in_window,
    local_date,
    minute_of_day,
    next_local_minute,
    next_local_time,
    period_start_ms,
    quiet_until,
    shared_zone,
    weekday,
    zone_named,
    zones_of_phone,
    zones_told,
)

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")
NEW_YORK = ZoneInfo("America/New_York")
LOS_ANGELES = ZoneInfo("America/Los_Angeles")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


@pytest.mark.parametrize(
    ("zone", "now", "wall", "then"),
    [
        ("Asia/Kolkata", "2026-03-02T22:00:00+05:30", "08:00", "2026-03-03T08:00:00+05:30"),
        ("Asia/Kolkata", "2026-03-02T07:59:59+05:30", "08:00", "2026-03-02T08:00:00+05:30"),
        ("Asia/Kolkata", "2026-03-02T08:00:00+05:30", "08:00", "2026-03-03T08:00:00+05:30"),
        ("Europe/Berlin", "2026-03-28T22:00:00+01:00", "08:00", "2026-03-29T08:00:00+02:00"),
        ("Europe/Berlin", "2026-10-24T22:00:00+02:00", "08:00", "2026-10-25T08:00:00+01:00"),
        # 02:30 does not exist on the day the clocks go forward: the first instant after the jump.
        ("Europe/Berlin", "2026-03-29T00:00:00+01:00", "02:30", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "2026-03-29T03:00:00+02:00", "02:30", "2026-03-30T02:30:00+02:00"),
        ("America/New_York", "2026-03-08T01:00:00-05:00", "02:00", "2026-03-08T03:00:00-04:00"),
        # 02:30 comes twice on the day they go back: the first that is still to come.
        ("Europe/Berlin", "2026-10-25T02:00:00+02:00", "02:30", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00+02:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00+01:00", "02:30", "2026-10-26T02:30:00+01:00"),
        # Half an hour only, and a midnight that does not exist.
        ("Australia/Lord_Howe", "2026-10-04T01:00:00+10:30", "02:15", "2026-10-04T02:30:00+11:00"),
        ("Africa/Cairo", "2026-04-23T23:00:00+02:00", "00:00", "2026-04-24T01:00:00+03:00"),
        # A whole day that Samoa left out.
        ("Pacific/Apia", "2011-12-29T12:00:00-10:00", "09:00", "2011-12-31T00:00:00+14:00"),
    ],
)
def test_the_next_time_the_local_clock_shows_a_minute(zone, now, wall, then):
    assert next_local_minute(ms(now), minute(wall), ZoneInfo(zone)) == ms(then)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(ms("2020-01-01T00:00:00Z"), ms("2030-01-01T00:00:00Z")),
    st.integers(0, 1439),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]),
)
def test_the_next_time_is_ahead_within_two_days_and_on_the_minute_or_at_a_jump(now_ms, wall, zone):
    place = ZoneInfo(zone)
    then_ms = next_local_minute(now_ms, wall, place)
    assert now_ms < then_ms <= now_ms + 49 * 3_600_000
    shown = minute_of_day(then_ms, place)
    if shown != wall:
        before = minute_of_day(then_ms - 60_000, place)
        assert before < wall < shown, "neither the minute nor the jump that swallowed it"


@pytest.mark.parametrize(
    ("at", "start", "end", "inside"),
    [
        ("21:00", "21:00", "08:00", True),
        ("20:59", "21:00", "08:00", False),
        ("00:00", "21:00", "08:00", True),
        ("07:59", "21:00", "08:00", True),
        ("08:00", "21:00", "08:00", False),
        ("12:00", "12:00", "14:00", True),
        ("14:00", "12:00", "14:00", False),
        ("11:59", "12:00", "14:00", False),
    ],
)
def test_a_window_includes_its_start_and_excludes_its_end_and_may_pass_midnight(at, start, end, inside):
    assert in_window(minute(at), minute(start), minute(end)) is inside


@pytest.mark.parametrize(
    ("zones", "now", "until"),
    [
        ([KOLKATA], "2026-03-02T15:00:00+05:30", None),
        ([KOLKATA], "2026-03-02T22:00:00+05:30", "2026-03-03T08:00:00+05:30"),
        ([KOLKATA], "2026-03-03T02:00:00+05:30", "2026-03-03T08:00:00+05:30"),
        ([BERLIN], "2026-03-28T23:00:00+01:00", "2026-03-29T08:00:00+02:00"),
        ([BERLIN], "2026-10-24T23:00:00+02:00", "2026-10-25T08:00:00+01:00"),
        # 09:00 in New York is 06:00 in Los Angeles: quiet in one is quiet.
        ([NEW_YORK, LOS_ANGELES], "2026-03-02T09:00:00-05:00", "2026-03-02T08:00:00-08:00"),
        ([NEW_YORK, LOS_ANGELES], "2026-03-02T12:00:00-05:00", None),
        # Released in the west, it is 11:00 in the east: open in both.
        ([NEW_YORK, LOS_ANGELES], "2026-03-02T22:00:00-05:00", "2026-03-03T08:00:00-08:00"),
        ([], "2026-03-02T22:00:00+05:30", None),
    ],
)
def test_quiet_hours_end_when_no_zone_is_quiet_any_more(zones, now, until):
    ended = quiet_until(ms(now), minute("21:00"), minute("08:00"), zones)
    assert ended == (None if until is None else ms(until))


@pytest.mark.parametrize("phone", ["+14155550100", "+79161234567", "+442071838750", "+919812345678", "+18005550100"])
@pytest.mark.parametrize("hour", range(0, 24, 3))
def test_the_end_of_quiet_hours_is_quiet_in_none_of_a_prefixs_zones(phone, hour):
    zones = [ZoneInfo(name) for name in zones_of_phone(phone)]
    until = quiet_until(ms(f"2026-03-02T{hour:02}:00:00Z"), minute("21:00"), minute("08:00"), zones)
    if until is not None:
        assert not any(in_window(minute_of_day(until, zone), minute("21:00"), minute("08:00")) for zone in zones)


@pytest.mark.parametrize(
    ("phone", "contains", "several"),
    [
        ("+919812345678", "Asia/Calcutta", False),
        ("+14155550100", "America/Los_Angeles", False),
        ("+18005550100", "America/New_York", True),
        ("+79161234567", "Europe/Moscow", True),
        ("+442071838750", "Europe/London", False),
    ],
)
def test_a_phone_prefix_tells_one_zone_or_several(phone, contains, several):
    zones = zones_of_phone(phone)
    assert contains in zones
    assert (len(zones) > 1) is several


@pytest.mark.parametrize("phone", ["", "12345", "0151 23456789", "+999123456", "call me", "+"])
def test_a_number_that_tells_nothing_has_no_zone(phone):
    assert zones_of_phone(phone) == ()


@pytest.mark.parametrize(
    ("phone", "zone"),
    [
        ("+919812345678", "Asia/Calcutta"),
        ("+447911123456", "Europe/Guernsey"),  # as in London
        ("+18005550100", None),
        ("+79161234567", None),
        ("+999123456", None),
    ],
)
@pytest.mark.parametrize("at", ["2026-01-10T12:00:00Z", "2026-07-10T12:00:00Z"])
def test_the_zone_of_a_number_is_one_whose_clock_all_of_its_zones_share(phone, zone, at):
    shared = shared_zone([ZoneInfo(name) for name in zones_of_phone(phone)], ms(at))
    assert (None if shared is None else shared.key) == zone


def test_zones_that_share_a_clock_only_in_winter_share_none():
    """Phoenix has no summer time, Denver has."""
    zones = [ZoneInfo("America/Phoenix"), ZoneInfo("America/Denver")]
    assert shared_zone(zones, ms("2026-01-10T12:00:00Z")) is None


@pytest.mark.parametrize("name", ["", "Mars/Phobos", "../etc/passwd", "Europe", "Etc/Unknown"])
def test_a_zone_that_does_not_exist_is_none(name):
    assert zone_named(name) is None


@pytest.mark.parametrize(
    ("zone", "now", "period", "since"),
    [
        ("Asia/Kolkata", "2026-03-04T00:10:00+05:30", "day", "2026-03-04T00:00:00+05:30"),
        ("Asia/Kolkata", "2026-03-04T12:00:00+05:30", "week", "2026-03-02T00:00:00+05:30"),
        ("Asia/Kolkata", "2026-03-02T00:00:00+05:30", "week", "2026-03-02T00:00:00+05:30"),
        ("Asia/Kolkata", "2026-03-01T23:59:00+05:30", "week", "2026-02-23T00:00:00+05:30"),
        ("Asia/Kolkata", "2026-03-31T12:00:00+05:30", "month", "2026-03-01T00:00:00+05:30"),
        ("Europe/Berlin", "2026-03-29T12:00:00+02:00", "day", "2026-03-29T00:00:00+01:00"),
        ("Europe/Berlin", "2026-04-01T00:00:00+02:00", "month", "2026-04-01T00:00:00+02:00"),
        ("Europe/Berlin", "2026-10-25T12:00:00+01:00", "day", "2026-10-25T00:00:00+02:00"),
        ("Africa/Cairo", "2026-04-24T12:00:00+03:00", "day", "2026-04-24T01:00:00+03:00"),
    ],
)
def test_a_calendar_period_begins_at_local_midnight(zone, now, period, since):
    assert period_start_ms(ms(now), period, ZoneInfo(zone)) == ms(since)


@pytest.mark.parametrize(
    ("now", "days", "then"),
    [
        ("2026-03-02T10:00:00+05:30", (0, 1, 2, 3, 4, 5, 6), "2026-03-03T09:00:00+05:30"),
        ("2026-03-02T08:00:00+05:30", (0,), "2026-03-02T09:00:00+05:30"),
        ("2026-03-02T10:00:00+05:30", (0,), "2026-03-09T09:00:00+05:30"),
        ("2026-03-06T10:00:00+05:30", (0, 4), "2026-03-09T09:00:00+05:30"),
    ],
)
def test_the_next_local_time_falls_on_one_of_the_weekdays(now, days, then):
    then_ms = next_local_time(ms(now), minute("09:00"), days, KOLKATA)
    assert then_ms == ms(then)
    assert weekday(then_ms, KOLKATA) in days


ZONES_OF_SCHEDULES = [
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Los_Angeles",
    "America/Havana",
    "America/Santiago",
    "Asia/Kolkata",
    "Asia/Beirut",
    "Africa/Cairo",
    "Australia/Lord_Howe",
]


@pytest.mark.parametrize("zone", ZONES_OF_SCHEDULES)
@pytest.mark.parametrize("wall", ["00:00", "00:30", "01:30", "02:00", "02:30", "09:00", "23:59"])
def test_a_schedule_comes_once_on_every_local_day_of_a_year(zone, wall):
    place, came = ZoneInfo(zone), []
    moment_ms = round(datetime(2026, 1, 1, tzinfo=place).timestamp() * 1000) - 1
    while local_date(moment_ms := next_local_time(moment_ms, minute(wall), tuple(range(7)), place), place).year == 2026:
        came.append(local_date(moment_ms, place))
    assert came == [date(2026, 1, 1) + timedelta(days=day) for day in range(365)]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(ms("2024-01-01T00:00:00Z"), ms("2029-01-01T00:00:00Z")),
    st.integers(0, 1439),
    st.sets(st.integers(0, 6), min_size=1),
    st.sampled_from(ZONES_OF_SCHEDULES),
)
def test_the_next_time_of_a_schedule_is_the_same_whenever_it_is_asked_for_before(now_ms, wall, days, zone):
    place = ZoneInfo(zone)
    then_ms = next_local_time(now_ms, wall, tuple(days), place)
    assert then_ms > now_ms
    assert weekday(then_ms, place) in days
    assert next_local_time(then_ms - 1, wall, tuple(days), place) == then_ms
    after_ms = next_local_time(then_ms, wall, tuple(days), place)
    assert local_date(after_ms, place) > local_date(then_ms, place)


def test_a_schedule_leaves_out_the_day_that_samoa_left_out():
    samoa = ZoneInfo("Pacific/Apia")
    first_ms = next_local_time(ms("2011-12-29T12:00:00-10:00"), minute("09:00"), tuple(range(7)), samoa)
    assert first_ms == ms("2011-12-31T09:00:00+14:00")


@pytest.mark.parametrize(
    ("told", "zone"),
    [
        ("Asia/Kolkata", "Asia/Kolkata"),
        ("asia/kolkata ", "Asia/Kolkata"),
        ("AMERICA/NEW_YORK", "America/New_York"),
        ("America/New York", "America/New_York"),
        ("India Standard Time", "Asia/Calcutta"),
        ("w. europe standard time", "Europe/Berlin"),
        ("Atlantis/Harbour", None),
        ("", None),
    ],
)
def test_zones_are_understood_as_other_systems_write_them(told, zone):
    found = zones_told(told, None)
    assert [one.key for one in found] == ([] if zone is None else [zone])
