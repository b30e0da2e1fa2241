"""Moments as producers write them, turned into epoch milliseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from orchestrator.core.moment import MOMENT_MAX_MS
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import refusal

#: Ten digits are a present-day moment in seconds; as milliseconds they would lie in early 1970.
_SECONDS_MIN, _SECONDS_MAX = 1_000_000_000, 9_999_999_999
#: From here to ``MOMENT_MAX_MS`` a whole number needs no closer look.
MOMENT_PLAIN_MS = _SECONDS_MAX + 1

_REMEDY = 'Send a time such as "2026-03-02T10:00:00+05:30", or whole milliseconds such as 1772425800000.'


def moment_ms(field: str, value: Any) -> int:
    """Return an RFC 3339 time with an offset, or epoch milliseconds, as epoch milliseconds; else refuse it."""
    if type(value) is int and MOMENT_PLAIN_MS <= value <= MOMENT_MAX_MS:
        return value
    if isinstance(value, bool) or not isinstance(value, int | str | datetime):
        if isinstance(value, float):
            raise refusal.wrong_type(field, "a whole number of milliseconds or an RFC 3339 time", value, _REMEDY)
        raise refusal.wrong_type(field, "an RFC 3339 time or epoch milliseconds", value, _REMEDY)
    if isinstance(value, int):
        return _checked(field, value)
    at = value if isinstance(value, datetime) else _datetime(field, value)
    return _checked(field, round(at.timestamp() * 1000))


def _datetime(field: str, text: str) -> datetime:
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise _unreadable(field, text) from None
    if at.tzinfo is None:
        raise refusal.invalid(
            field, f"{field} {refusal.shown(text)} has no offset from UTC.", 'Append "Z" or an offset such as "+05:30".'
        )
    return at


def _unreadable(field: str, text: str) -> EventRefused:
    return refusal.invalid(field, f"{field} {refusal.shown(text)} is not an RFC 3339 time.", _REMEDY)


def _checked(field: str, at_ms: int) -> int:
    if _SECONDS_MIN <= at_ms <= _SECONDS_MAX:
        raise refusal.invalid(
            field, f"{field} {at_ms} looks like seconds; milliseconds are expected.", f"Send {at_ms * 1000}."
        )
    if not 0 <= at_ms <= MOMENT_MAX_MS:
        raise refusal.invalid(field, f"{field} lies outside the years 1970 to 9988.", _REMEDY)
    return at_ms
