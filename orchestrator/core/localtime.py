"""Local time: which zone a customer lives in, and what a wall clock there says.

The zone is the profile's ``timezone`` trait; else those of the phone number's prefix. A prefix may span
several zones: a moment is quiet when it is quiet in any of them. No zone at all means nobody knows, and
whoever asks must fail closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from phonenumbers import NumberParseException, parse
from phonenumbers.timezone import time_zones_for_number

#: A weekday comes once a week; a zone may leave one out, and the first may be past its minute.
_DAYS_AHEAD = 22
_HALF_YEAR_MS = 182 * 86_400_000


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo | None:
    """Return the IANA zone, or None when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


@lru_cache(maxsize=1024)
def zone_understood(text: str) -> ZoneInfo | None:
    """Return the zone that other systems mean: an IANA name in any case and with blanks, or one of Windows (CLDR)."""
    return zone_named(text) or zone_named(_zone_names().get(_folded(text), ""))


def _folded(name: str) -> str:
    return "_".join(name.split()).casefold()


@lru_cache(maxsize=1)
def _zone_names() -> dict[str, str]:
    from babel.core import get_global  # noqa: PLC0415 - most customers have a zone as IANA writes it.

    windows = {_folded(name): zone for name, zone in get_global("windows_zone_mapping").items()}
    return {**windows, **{_folded(name): name for name in available_timezones()}}


@lru_cache(maxsize=4096)
def zones_of_phone(phone: str) -> tuple[str, ...]:
    """Return the zones in which an E.164 number may ring; empty when the prefix tells nothing."""
    try:
        zones = time_zones_for_number(parse(phone, None))
    except NumberParseException:
        return ()
    return tuple(zone for zone in zones if zone_named(zone) is not None)


def zones_told(timezone: Any, phone: Any) -> tuple[ZoneInfo, ...]:
    """Return the zones of somebody with these values of ``timezone`` and ``phone``; empty when they tell nothing."""
    named = zone_understood(timezone) if isinstance(timezone, str) and timezone else None
    if named is not None:
        return (named,)
    if not isinstance(phone, str):
        return ()
    return tuple(one for name in zones_of_phone(phone) if (one := zone_named(name)) is not None)


def minute_of_day(moment_ms: int, zone: ZoneInfo) -> int:
    """Return the local wall clock's minute of the day."""
    local = datetime.fromtimestamp(moment_ms / 1000, zone)
    return local.hour * 60 + local.minute


def in_window(minute: int, start_min: int, end_min: int) -> bool:
    """Return whether a minute lies in [start, end); a window whose start is not before its end passes midnight."""
    if start_min < end_min:
        return start_min <= minute < end_min
    return minute >= start_min or minute < end_min


def next_local_minute(moment_ms: int, minute: int, zone: ZoneInfo) -> int:
    """Return the first moment after ``moment_ms`` at which the local clock shows ``minute`` of a day.

    On a day whose clocks jump over that minute it is the first instant after the jump; on a day that has it
    twice, the first of the two that is still to come.
    """
    local = datetime.fromtimestamp(moment_ms / 1000, zone)
    for days in range(3):
        day = (local + timedelta(days=days)).date()
        for fold in (0, 1):
            wall = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone, fold=fold)
            instant_ms = _instant_ms(wall)
            if instant_ms > moment_ms:
                return instant_ms
    raise AssertionError("every local minute comes within two days")


def local_instant_ms(day: date, minute: int, zone: ZoneInfo) -> int:
    """Return the first moment at which the local clock of ``day`` shows ``minute`` of the day.

    On a day whose clocks jump over that minute it is the first instant after the jump.
    """
    return _instant_ms(datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone))


def local_date(moment_ms: int, zone: ZoneInfo) -> date:
    """Return the local calendar's day."""
    return datetime.fromtimestamp(moment_ms / 1000, zone).date()


def _instant_ms(wall: datetime) -> int:
    """Return the instant of a wall-clock time, or of the end of the gap that swallows it."""
    instant = wall.astimezone(UTC)
    if instant.astimezone(wall.tzinfo).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return int(instant.timestamp() * 1000)
    # The wall time does not exist. The offset before the jump reads it too late by less than the jump's length;
    # walking back minute by minute finds the jump itself.
    late = wall.replace(fold=0).astimezone(UTC)
    offset_after = late.astimezone(wall.tzinfo).utcoffset()
    while (late - timedelta(minutes=1)).astimezone(wall.tzinfo).utcoffset() == offset_after:
        late -= timedelta(minutes=1)
    return int(late.timestamp() * 1000)


def period_start_ms(moment_ms: int, period: str, zone: ZoneInfo) -> int:
    """Return when the customer's current calendar ``day``, ``week`` (from Monday) or ``month`` began."""
    local = datetime.fromtimestamp(moment_ms / 1000, zone)
    day = local.date()
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    return _instant_ms(datetime(day.year, day.month, day.day, tzinfo=zone))


def shared_zone(zones: Sequence[ZoneInfo], moment_ms: int) -> ZoneInfo | None:
    """Return a zone whose clocks show what those of all ``zones`` show, in summer and in winter; None without one.

    A telephone prefix may span several zones. Those of one clock, such as London and Jersey, are as good as one; of
    others nobody can say what time it is for the customer.
    """
    if len(zones) < 2:
        return zones[0] if zones else None
    clocks = {
        tuple(
            datetime.fromtimestamp(at_ms / 1000, zone).utcoffset() for at_ms in (moment_ms, moment_ms + _HALF_YEAR_MS)
        )
        for zone in zones
    }
    return zones[0] if len(clocks) == 1 else None


def quiet_until(moment_ms: int, start_min: int, end_min: int, zones: Iterable[ZoneInfo]) -> int | None:
    """Return when a quiet window that holds now ends in every zone, or None when no zone is quiet.

    The result is a moment at which all of ``zones`` are outside the window, at most two days ahead.
    """
    zones = tuple(zones)
    release = moment_ms
    for _ in range(2 * len(zones) + 1):
        quiet = [zone for zone in zones if in_window(minute_of_day(release, zone), start_min, end_min)]
        if not quiet:
            return None if release == moment_ms else release
        release = max(next_local_minute(release, end_min, zone) for zone in quiet)
    return release


def weekday(moment_ms: int, zone: ZoneInfo) -> int:
    """Return the local weekday, 0 for Monday."""
    return datetime.fromtimestamp(moment_ms / 1000, zone).weekday()


def next_local_time(moment_ms: int, minute: int, days: tuple[int, ...], zone: ZoneInfo) -> int:
    """Return the next moment at which the local clock shows ``minute`` on one of the weekdays: once a local day.

    A day that has the minute twice has it the first time only. One whose clocks jump over it has it right after the
    jump, unless the jump leads into the next day: then, and where a zone leaves out the whole day, it has none.
    """
    today = local_date(moment_ms, zone)
    for ahead in range(_DAYS_AHEAD):
        day = today + timedelta(days=ahead)
        if day.weekday() not in days:
            continue
        instant_ms = local_instant_ms(day, minute, zone)
        if instant_ms > moment_ms and local_date(instant_ms, zone) == day:
            return instant_ms
    raise AssertionError("every weekday comes within a fortnight")
