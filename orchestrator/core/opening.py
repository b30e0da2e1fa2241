"""Opening hours: when somebody is there to take a connector's actions, as spans of real time.

Hours are written in the local time of one place and mean what its clocks show. A window opens when they first show
its begin and closes when they next show its end, so on the days on which clocks change it may be an hour shorter or
longer, and one that lies wholly within the hour that is left out does not open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from orchestrator.core.localtime import local_date, local_instant_ms

#: How many days are looked ahead; a place that is closed for longer has no next opening.
DAYS_AHEAD = 62


@dataclass(frozen=True, slots=True)
class Window:
    """From ``from_min`` to ``to_min`` (minutes of the day) on some weekdays, 0 for Monday.

    An end that is not after the begin lies on the next day, so 18:00 to 00:00 ends at midnight.
    """

    days: frozenset[int]
    from_min: int
    to_min: int


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """The windows of a week in the zone ``zone`` (an IANA name), and the days on which nothing opens.

    A window that would begin on a closed day does not open; one that reaches into it ends at midnight.
    """

    windows: tuple[Window, ...]
    zone: str
    closed: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Opening:
    """A span of epoch milliseconds in which the place is open: from ``start_ms`` until before ``end_ms``."""

    start_ms: int
    end_ms: int

    def holds(self, moment_ms: int) -> bool:
        """Return whether the moment lies within."""
        return self.start_ms <= moment_ms < self.end_ms


def openings(hours: OpeningHours, from_ms: int) -> list[Opening]:
    """Return the openings that end after ``from_ms``, in order, apart from one another, two months ahead.

    Windows that touch are one opening. An opening that lasts longer than is looked ahead ends where the look ends.
    """
    day = local_date(from_ms, ZoneInfo(hours.zone))
    return [opening for opening in _openings_from(hours, day) if opening.end_ms > from_ms]


@lru_cache(maxsize=256)
def _openings_from(hours: OpeningHours, day: date) -> tuple[Opening, ...]:
    merged: list[Opening] = []
    # The day before counts as well: its last window may pass midnight.
    for offset in range(-1, DAYS_AHEAD):
        for opening in sorted(_openings_of(hours, day + timedelta(offset)), key=lambda one: one.start_ms):
            if merged and opening.start_ms <= merged[-1].end_ms:
                merged[-1] = Opening(merged[-1].start_ms, max(merged[-1].end_ms, opening.end_ms))
            else:
                merged.append(opening)
    return tuple(merged)


def _openings_of(hours: OpeningHours, day: date) -> Iterator[Opening]:
    if day in hours.closed:
        return
    zone, next_day = ZoneInfo(hours.zone), day + timedelta(1)
    for window in hours.windows:
        if day.weekday() not in window.days:
            continue
        passes_midnight = window.to_min <= window.from_min
        start_ms = local_instant_ms(day, window.from_min, zone)
        end_ms = local_instant_ms(next_day if passes_midnight else day, window.to_min, zone)
        if passes_midnight and next_day in hours.closed:
            end_ms = local_instant_ms(next_day, 0, zone)
        if start_ms < end_ms:
            yield Opening(start_ms, end_ms)
