"""Capacity: how much a connector can carry when, and what that means for an action that arrives now.

Everything here is arithmetic over facts that the queue reports; nothing is remembered.

**When a promise is given up.** An action with a deadline is given up at once when even the shortest possible wait is
too long, so that its fallback comes while it is of use. The shortest wait counts only what is certain. Of the rate:
so many tokens at once, then one an interval, for those ahead in the same group. Of the lines: all of them are taken
to be free at this moment, and each call to keep its line for ``call_min_ms`` only. Other groups, other dispatchers,
retries and calls that last longer make the true wait longer, never shorter; those ahead that are withdrawn make it
shorter, which is why only actions that are ready now count as ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.action import Action, QuietWindow
from orchestrator.core.localtime import quiet_until, zone_named
from orchestrator.core.opening import Opening, openings
from orchestrator.rulebook.capacity import Capacity
from orchestrator.runtime.dispatch.rate import Rate

#: How many slots are offered at once for one action; with slots of a quarter of an hour some three weeks.
STARTS_MAX = 600

#: The room of a slot where neither lines nor a rate bound it.
ROOM_MAX = 1_000_000


def room(capacity: Capacity, group: str, rate: Rate | None) -> int:
    """Return how many calls a slot of the group is booked with, at least one.

    A line is reckoned with its longest hold, and a group with its share of the rate by its lines.
    """
    rooms = [ROOM_MAX]
    if capacity.hold_ms:
        rooms.append(capacity.lines_of(group) * capacity.slot_ms // capacity.hold_ms)
    if rate is not None:
        rooms.append(capacity.slot_ms * 1000 // rate.interval_us * capacity.lines_of(group) // capacity.lines)
    return max(1, min(rooms))


def shortest_wait_ms(capacity: Capacity, group: str, rate: Rate | None, ahead: int) -> int:
    """Return the least time that an action waits behind ``ahead`` others of its group that are ready."""
    wait_ms = ahead // capacity.lines_of(group) * capacity.call_min_ms
    if rate is not None:
        wait_ms = max(wait_ms, (ahead + 1 - rate.burst) * rate.interval_us // 1000)
    return wait_ms


@dataclass(frozen=True, slots=True)
class Reachable:
    """The action can be sent at its own moment, as far as anybody knows."""


@dataclass(frozen=True, slots=True)
class Booked:
    """The action needs a place in one of the slots that start at ``starts``, which are never empty."""

    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unkeepable:
    """The action cannot be sent before its deadline; ``why`` is for people."""

    why: str


Outlook = Reachable | Booked | Unkeepable


def outlook(
    capacity: Capacity, group: str, action: Action, *, due_ms: int, deadline_ms: int | None, wait_ms: int
) -> Outlook:
    """Return what can become of an action that may be sent from ``due_ms`` on and waits ``wait_ms`` at least.

    ``due_ms`` lies outside of the customer's quiet hours.
    """
    reached_ms = due_ms + wait_ms
    hours = capacity.hours_of(group)
    if hours is not None:
        ahead = openings(hours, due_ms)
        if not ahead or not (ahead[0].holds(due_ms) and ahead[0].holds(reached_ms)):
            closed_ms = ahead[0].end_ms if ahead and ahead[0].holds(due_ms) else due_ms
            starts = slot_starts(ahead, capacity.slot_ms, closed_ms, deadline_ms, action.quiet_hours)
            return Booked(starts) if starts else Unkeepable("nobody is there before the deadline")
    if deadline_ms is not None and reached_ms >= deadline_ms:
        return Unkeepable(f"a wait of {wait_ms // 1000} s at least")
    return Reachable()


def slot_starts(
    ahead: list[Opening], slot_ms: int, from_ms: int, deadline_ms: int | None, quiet: QuietWindow | None
) -> tuple[int, ...]:
    """Return the starts of the whole slots from ``from_ms`` on, before the deadline and outside of quiet hours."""
    starts: list[int] = []
    zone = zone_named(quiet.zone) if quiet else None
    for opening in ahead:
        for start_ms in range(opening.start_ms, opening.end_ms - slot_ms + 1, slot_ms):
            if (deadline_ms is not None and start_ms >= deadline_ms) or len(starts) == STARTS_MAX:
                return tuple(starts)
            if start_ms < from_ms or (
                quiet and zone and quiet_until(start_ms, quiet.start_min, quiet.end_min, [zone]) is not None
            ):
                continue
            starts.append(start_ms)
    return tuple(starts)
