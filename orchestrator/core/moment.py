"""Moments as text: RFC 3339 in and out of epoch milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

#: The last moment that is taken from anybody: the end of the year 9988. The longest span of a rule, ten years, and the
#: days until a local clock shows its time lead from here to a moment that ``datetime`` still has in every zone.
MOMENT_MAX_MS = 253_055_231_999_999
#: The first and the last moment that RFC 3339 can write.
_WRITTEN_MIN_MS, _WRITTEN_MAX_MS = -62_135_596_800_000, 253_402_300_799_999
#: No number of more digits is a moment.
_DIGITS_MAX = 18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(value: Any) -> int | None:
    """Return epoch milliseconds of an RFC 3339 text with offset or of an epoch-ms number, whole.

    None when it is neither, or lies outside 0 to ``MOMENT_MAX_MS``: the years 1970 to 9988.
    """
    if value.__class__ is int or (value.__class__ is float and value.is_integer()):
        moment_ms = int(value)
    elif value.__class__ is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        moment_ms = round(moment.timestamp() * 1000)
    else:
        return None
    return moment_ms if 0 <= moment_ms <= MOMENT_MAX_MS else None


def number_or_text(text: str) -> int | str:
    """Return what a text of digits counts, so that it reads as epoch milliseconds; any other text as it is."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX else text


def aware_moment(moment_ms: int) -> datetime:
    """Return a moment in UTC; for one outside the years 1 to 9999, which older states may hold, the nearest in them."""
    return _EPOCH + timedelta(milliseconds=min(max(moment_ms, _WRITTEN_MIN_MS), _WRITTEN_MAX_MS))


def format_moment(moment_ms: int) -> str:
    """Return the RFC 3339 text of a moment, in UTC with milliseconds; bounded as ``aware_moment`` is."""
    return aware_moment(moment_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
