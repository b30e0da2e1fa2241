"""Moments as text: RFC 3339 in and out of epoch milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def parse_moment(value: Any) -> int | None:
    """Return epoch milliseconds of an RFC 3339 text with offset or of an epoch-ms number; None when neither."""
    if value.__class__ is int:
        return int(value)
    if value.__class__ is not str:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if moment.tzinfo is None else round(moment.timestamp() * 1000)


def format_moment(moment_ms: int) -> str:
    """Return the RFC 3339 text of a moment, in UTC with milliseconds."""
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
