"""Opening hours as spans of real time: weeks, nights, closed days, and the days on which clocks change."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from orchestrator.core.opening import DAYS_AHEAD, Opening, OpeningHours, Window, openings

WEEKDAYS = frozenset(range(5))
DAILY = frozenset(range(7))
OFFICE = (Window(WEEKDAYS, 9 * 60, 18 * 60), Window(frozenset({5}), 10 * 60, 14 * 60))
LUNCH = (Window(WEEKDAYS, 9 * 60, 13 * 60), Window(WEEKDAYS, 14 * 60, 18 * 60))
NIGHT = (Window(DAILY, 22 * 60, 6 * 60),)
EARLY = (Window(DAILY, 60 + 30, 2 * 60 + 30),)
GAP = (Window(DAILY, 2 * 60, 3 * 60),)
ALWAYS = (Window(DAILY, 0, 0),)
CHRISTMAS = frozenset({date(2026, 12, 25)})


def ms(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def utc(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, ZoneInfo("UTC")).strftime("%a %d %b %H:%M")


# Each line: what it shows, windows, zone, closed days, asked at (local), and the first openings in UTC.
TABLE: list[tuple[str, tuple[Window, ...], str, frozenset[date], str, list[str]]] = [
    ("open now", OFFICE, "Asia/Kolkata", frozenset(), "2026-03-02T12:00", ["Mon 02 Mar 03:30 - Mon 02 Mar 12:30"]),
    ("at the first moment", OFFICE, "UTC", frozenset(), "2026-03-02T09:00", ["Mon 02 Mar 09:00 - Mon 02 Mar 18:00"]),
    (
        "at the end it is closed",
        OFFICE,
        "UTC",
        frozenset(),
        "2026-03-02T18:00",
        ["Tue 03 Mar 09:00 - Tue 03 Mar 18:00"],
    ),
    (
        "a weekend",
        OFFICE,
        "UTC",
        frozenset(),
        "2026-03-06T20:00",
        ["Sat 07 Mar 10:00 - Sat 07 Mar 14:00", "Mon 09 Mar 09:00 - Mon 09 Mar 18:00"],
    ),
    (
        "a break at noon",
        LUNCH,
        "UTC",
        frozenset(),
        "2026-03-02T13:00",
        ["Mon 02 Mar 14:00 - Mon 02 Mar 18:00", "Tue 03 Mar 09:00 - Tue 03 Mar 13:00"],
    ),
    (
        "a night seen from after midnight",
        NIGHT,
        "UTC",
        frozenset(),
        "2026-03-02T03:00",
        ["Sun 01 Mar 22:00 - Mon 02 Mar 06:00"],
    ),
    ("a closed day", OFFICE, "UTC", CHRISTMAS, "2026-12-24T19:00", ["Sat 26 Dec 10:00 - Sat 26 Dec 14:00"]),
    (
        "a night into a closed day ends at midnight, and none begins on it",
        NIGHT,
        "UTC",
        CHRISTMAS,
        "2026-12-24T23:00",
        ["Thu 24 Dec 22:00 - Fri 25 Dec 00:00", "Sat 26 Dec 22:00 - Sun 27 Dec 06:00"],
    ),
    (
        "clocks go forward: an hour is missing",
        NIGHT,
        "Europe/Berlin",
        frozenset(),
        "2026-03-28T23:00",
        ["Sat 28 Mar 21:00 - Sun 29 Mar 04:00", "Sun 29 Mar 20:00 - Mon 30 Mar 04:00"],
    ),
    (
        "clocks go back: an hour comes twice",
        NIGHT,
        "Europe/Berlin",
        frozenset(),
        "2026-10-24T23:00",
        ["Sat 24 Oct 20:00 - Sun 25 Oct 05:00", "Sun 25 Oct 21:00 - Mon 26 Oct 05:00"],
    ),
    (
        "the end falls into the missing hour: closed when the clocks jump",
        EARLY,
        "Europe/Berlin",
        frozenset(),
        "2026-03-29T00:00",
        ["Sun 29 Mar 00:30 - Sun 29 Mar 01:00", "Sun 29 Mar 23:30 - Mon 30 Mar 00:30"],
    ),
    (
        "a window within the missing hour does not open",
        GAP,
        "Europe/Berlin",
        frozenset(),
        "2026-03-28T12:00",
        ["Mon 30 Mar 00:00 - Mon 30 Mar 01:00"],
    ),
    (
        "an end in the hour that comes twice is the first of the two",
        EARLY,
        "Europe/Berlin",
        frozenset(),
        "2026-10-25T00:00",
        ["Sat 24 Oct 23:30 - Sun 25 Oct 00:30"],
    ),
]


@pytest.mark.parametrize(("case", "windows", "zone", "closed", "at", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_the_openings_follow_their_table(
    case: str, windows: tuple[Window, ...], zone: str, closed: frozenset[date], at: str, expected: list[str]
) -> None:
    found = openings(OpeningHours(windows, zone, closed), ms(at, zone))
    assert [f"{utc(one.start_ms)} - {utc(one.end_ms)}" for one in found[: len(expected)]] == expected, case


def test_windows_that_touch_are_one_opening() -> None:
    halves = (Window(DAILY, 9 * 60, 12 * 60), Window(DAILY, 12 * 60, 15 * 60))
    (first, *_) = openings(OpeningHours(halves, "UTC"), ms("2026-03-02T10:00", "UTC"))
    assert (utc(first.start_ms), utc(first.end_ms)) == ("Mon 02 Mar 09:00", "Mon 02 Mar 15:00")


def test_a_place_that_never_closes_has_one_opening_as_far_as_is_looked() -> None:
    at = ms("2026-03-02T10:00", "UTC")
    (only,) = openings(OpeningHours(ALWAYS, "UTC"), at)
    assert only.holds(at)
    assert (only.end_ms - only.start_ms) // 86_400_000 == DAYS_AHEAD + 1


def test_a_place_that_is_closed_for_months_has_no_opening() -> None:
    days = frozenset(date.fromordinal(date(2026, 3, 1).toordinal() + offset) for offset in range(90))
    assert openings(OpeningHours(OFFICE, "UTC", days), ms("2026-03-02T10:00", "UTC")) == []


def test_openings_are_in_order_and_apart_all_year_round() -> None:
    hours = OpeningHours((*NIGHT, *OFFICE), "America/New_York", CHRISTMAS)
    for month in range(1, 13):
        found = openings(hours, ms(f"2026-{month:02d}-15T12:00", "America/New_York"))
        assert len(found) > 60
        assert all(one.start_ms < one.end_ms for one in found)
        assert all(one.end_ms < later.start_ms for one, later in pairwise(found))


def test_an_opening_holds_its_start_and_not_its_end() -> None:
    assert [Opening(10, 20).holds(moment) for moment in (9, 10, 19, 20)] == [False, True, True, False]
