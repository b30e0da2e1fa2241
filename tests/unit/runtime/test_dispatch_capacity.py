"""What can become of an action: lines, groups, rooms of slots, waits, and the table of outlooks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.core.action import Action, QuietWindow
from orchestrator.core.opening import OpeningHours, Window
from orchestrator.rulebook.capacity import Capacity, LineGroup
from orchestrator.runtime.dispatch.capacity import (
    ROOM_MAX,
    STARTS_MAX,
    Booked,
    Outlook,
    Reachable,
    Unkeepable,
    outlook,
    room,
    shortest_wait_ms,
)
from orchestrator.runtime.dispatch.rate import Rate
from orchestrator.runtime.ports import Quota

MINUTE = 60_000
HOUR = 60 * MINUTE
DAILY = frozenset(range(7))
OFFICE = OpeningHours((Window(DAILY, 9 * 60, 10 * 60),), "UTC")
LATE = OpeningHours((Window(DAILY, 20 * 60, 21 * 60),), "UTC")
CAPACITY = Capacity(
    lines=10,
    hold_ms=5 * MINUTE,
    call_min_ms=MINUTE,
    groups={"sales": LineGroup(lines=4), "support": LineGroup(hours=LATE)},
    hours=OFFICE,
)
ALWAYS = Capacity(lines=10, hold_ms=5 * MINUTE, call_min_ms=MINUTE)
HOURLY = Rate.of(Quota(slots=1, rate_max=100, rate_per_s=3600))


def at(text: str, day: int = 2) -> int:
    hour, minute = text.split(":")
    return int(datetime(2026, 3, day, int(hour), int(minute), tzinfo=UTC).timestamp() * 1000)


def call(**params: object) -> Action:
    return Action(id="a", customer_id="c", connector="voice", kind="call", params=params)


@pytest.mark.parametrize(
    ("action", "group", "lines", "hours"),
    [
        (call(agent="sales"), "sales", 4, OFFICE),
        (call(agent="support"), "support", 10, LATE),
        (call(agent="nobody"), "", 10, OFFICE),
        (call(agent=7), "", 10, OFFICE),
        (call(), "", 10, OFFICE),
    ],
)
def test_the_param_tells_the_group_and_the_group_its_lines_and_hours(
    action: Action, group: str, lines: int, hours: OpeningHours
) -> None:
    assert CAPACITY.group_of(action) == group
    assert (CAPACITY.lines_of(group), CAPACITY.hours_of(group)) == (lines, hours)


def test_a_group_never_has_more_lines_than_its_connector() -> None:
    assert Capacity(lines=3, groups={"sales": LineGroup(lines=5)}).lines_of("sales") == 3


@pytest.mark.parametrize(
    ("capacity", "group", "rate", "expected"),
    [
        (CAPACITY, "", None, 30),  # Ten lines, three calls of five minutes each in a quarter of an hour.
        (CAPACITY, "sales", None, 12),
        (CAPACITY, "", HOURLY, 22),  # A quarter of an hour in parts of 39.6 s.
        (CAPACITY, "sales", HOURLY, 8),  # Four tenths of the rate.
        (Capacity(lines=2, hold_ms=HOUR), "", None, 1),
        (Capacity(lines=2), "", None, ROOM_MAX),
    ],
)
def test_a_slot_takes_what_lines_holds_and_rate_carry(
    capacity: Capacity, group: str, rate: Rate | None, expected: int
) -> None:
    assert room(capacity, group, rate) == expected


@pytest.mark.parametrize(
    ("capacity", "group", "rate", "ahead", "wait_ms"),
    [
        (ALWAYS, "", None, 0, 0),
        (ALWAYS, "", None, 9, 0),  # One of ten lines may come free at this moment.
        (ALWAYS, "", None, 10, MINUTE),
        (ALWAYS, "", None, 39, 3 * MINUTE),
        (CAPACITY, "sales", None, 39, 9 * MINUTE),
        (Capacity(lines=1), "", None, 1_000, 0),  # Nobody knows how long calls take.
        (ALWAYS, "", HOURLY, 9, 0),  # Ten may begin at once.
        (ALWAYS, "", HOURLY, 19, 395_604),
    ],
)
def test_the_shortest_wait_counts_only_what_is_certain(
    capacity: Capacity, group: str, rate: Rate | None, ahead: int, wait_ms: int
) -> None:
    assert shortest_wait_ms(capacity, group, rate, ahead) == wait_ms


def slots(day: int, *texts: str) -> Booked:
    return Booked(tuple(at(text, day) for text in texts))


QUARTERS = ("09:00", "09:15", "09:30", "09:45")
QUIET = QuietWindow(21 * 60, 9 * 60 + 20, "UTC")

# Each line: what it shows, the group, when it may be sent, its deadline, the wait, quiet hours, and the outlook.
TABLE: list[tuple[str, str, int, int | None, int, QuietWindow | None, Outlook]] = [
    ("open, nobody ahead", "", at("09:30"), at("09:31"), 0, None, Reachable()),
    ("open, a wait that the deadline allows", "", at("09:30"), at("09:36"), 5 * MINUTE, None, Reachable()),
    ("open, too long a wait", "", at("09:30"), at("09:35"), 5 * MINUTE, None, Unkeepable("a wait of 300 s at least")),
    ("the day before", "", at("22:00", 1), at("09:50"), 0, None, slots(2, *QUARTERS)),
    ("only slots before the deadline", "", at("22:00", 1), at("09:30"), 0, None, slots(2, "09:00", "09:15")),
    (
        "a deadline at the opening",
        "",
        at("22:00", 1),
        at("09:00"),
        0,
        None,
        Unkeepable("nobody is there before the deadline"),
    ),
    (
        "the wait lasts past the end: tomorrow",
        "",
        at("09:50"),
        at("09:20", 3),
        15 * MINUTE,
        None,
        slots(3, "09:00", "09:15"),
    ),
    (
        "the wait lasts past the end and the deadline is before",
        "",
        at("09:50"),
        at("10:30"),
        15 * MINUTE,
        None,
        Unkeepable("nobody is there before the deadline"),
    ),
    ("slots outside of the quiet hours", "", at("22:00", 1), at("10:00"), 0, QUIET, slots(2, "09:30", "09:45")),
    ("hours of the group", "support", at("09:30"), at("20:20"), 0, None, slots(2, "20:00", "20:15")),
]


@pytest.mark.parametrize(
    ("group", "due_ms", "deadline_ms", "wait_ms", "quiet", "expected"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_the_outlook_follows_its_table(
    group: str, due_ms: int, deadline_ms: int | None, wait_ms: int, quiet: QuietWindow | None, expected: Outlook
) -> None:
    action = Action(id="a", customer_id="c", quiet_hours=quiet)
    found = outlook(CAPACITY, group, action, due_ms=due_ms, deadline_ms=deadline_ms, wait_ms=wait_ms)
    assert found == expected


def test_where_it_is_always_open_only_the_wait_counts() -> None:
    seen = [
        outlook(ALWAYS, "", call(), due_ms=at("03:00"), deadline_ms=deadline_ms, wait_ms=MINUTE)
        for deadline_ms in (None, at("03:02"), at("03:01"))
    ]
    assert seen == [Reachable(), Reachable(), Unkeepable("a wait of 60 s at least")]


def test_an_action_without_a_deadline_is_offered_the_slots_of_weeks() -> None:
    found = outlook(CAPACITY, "", call(), due_ms=at("22:00"), deadline_ms=None, wait_ms=0)
    assert isinstance(found, Booked)
    assert len(found.starts) == min(STARTS_MAX, 4 * 61)
