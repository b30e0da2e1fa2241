"""Spans, times of day and weekdays, as authors write them: ``30m``, ``1d12h``, ``500ms``; ``21:00``; ``mon``."""

from __future__ import annotations

import re

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

UNITS_MS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_SPAN = re.compile(r"(?:\d{1,9}(?:ms|[wdhms]))+")
_PART = re.compile(r"(\d{1,9})(ms|[wdhms])")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")

#: No span is longer than ten years.
SPAN_MAX_MS = 10 * 366 * UNITS_MS["d"]

SPAN_PATTERN = r"^(\d{1,9}(ms|[wdhms]))+$"
SIGNED_SPAN_PATTERN = r"^[+-]?(\d{1,9}(ms|[wdhms]))+$"
CLOCK_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d$"


def parsed_span_ms(text: object) -> int | None:
    """Return the milliseconds of a span such as ``1d12h``, or None when the text is none (or over ten years)."""
    if not isinstance(text, str) or not _SPAN.fullmatch(text):
        return None
    total = sum(int(number) * UNITS_MS[unit] for number, unit in _PART.findall(text))
    return total if total <= SPAN_MAX_MS else None


def parsed_signed_span_ms(text: object) -> int | None:
    """Return the milliseconds of a span that may begin with ``+`` or ``-``, or None when the text is none."""
    if not isinstance(text, str):
        return None
    span = parsed_span_ms(text.lstrip("+-")) if text[:2] not in ("++", "--", "+-", "-+") else None
    return None if span is None else -span if text.startswith("-") else span


def parsed_clock_min(text: object) -> int | None:
    """Return the minute of the day of a time such as ``21:00``, or None when the text is none."""
    match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) * 60 + int(match[2]) if match else None


def shown_span(span_ms: int) -> str:
    """Return the shortest way to write a span."""
    parts, rest = [], span_ms
    for unit in ("d", "h", "m", "s", "ms"):
        number, rest = divmod(rest, UNITS_MS[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def shown_clock(minute: int) -> str:
    """Return a minute of the day as ``21:00``."""
    return f"{minute // 60:02d}:{minute % 60:02d}"
