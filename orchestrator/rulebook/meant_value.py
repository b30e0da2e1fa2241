"""Values that are meant: spans, times of day, weekdays and numbers as people write them, put as this language has it.

"2 weeks" is ``2w``, 9am is ``"09:00"``, "mon-fri" is a list of five. Every function returns what to write, or nothing
where it cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from orchestrator.rulebook.span import SPAN_MAX_MS, UNITS_MS, WEEKDAYS, parsed_clock_min, shown_clock, shown_span

_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def hint(written: str, *, lead: str = "; write ") -> str:
    """Return what to add to a message: nothing where nobody can tell what was meant."""
    return f"{lead}{written}" if written else ""


def is_bare(value: object) -> bool:
    """Return whether a value is a name that stands alone."""
    return isinstance(value, str) and _BARE.fullmatch(value) is not None


def named(form: str) -> Callable[[object], str]:
    """Return what fills a form such as ``{event: …}`` in with a name that stands alone."""

    def filled(value: object) -> str:
        return form.replace("…", str(value)) if is_bare(value) else ""

    return filled


def plain_word(word: str) -> str:
    """Return a word as people say it: without case, apostrophes, and the marks between its parts."""
    spaced = (
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word.strip())
        .replace("'", "")
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "")
    )
    return re.sub(r"[\s_-]+", " ", spaced).strip().lower()


# ------------------------------------------------------------------------------------------------------ weekdays

_DAY_SETS = {
    **dict.fromkeys(("weekday", "weekdays", "workdays", "working days", "business days"), WEEKDAYS[:5]),
    **dict.fromkeys(("weekend", "weekends"), WEEKDAYS[5:]),
    **dict.fromkeys(("daily", "every day", "everyday", "all", "all days", "any", "always"), WEEKDAYS),
}


def meant_days(text: object) -> str:
    """Return how to write weekdays such as "Monday", "mon-fri" or "weekends"."""
    if not isinstance(text, str):
        return ""
    word = plain_word(text.replace("\N{EN DASH}", "-"))
    if word in _DAY_SETS:
        return f"[{', '.join(_DAY_SETS[word])}]"
    if span := re.fullmatch(r"(\w+?)\.?(?: to | through | until | till | )(\w+?)\.?", word):
        first, last = _day(span[1]), _day(span[2])
        if first is not None and last is not None:
            days = WEEKDAYS[first : last + 1] if first <= last else WEEKDAYS[first:] + WEEKDAYS[: last + 1]
            return f"[{', '.join(days)}]"
    found = [_day(part) for part in re.split(r"\s*(?:,|;|/|&|\band\b)\s*", word)]
    named = [WEEKDAYS[day] for day in found if day is not None]
    if not named or len(named) < len(found):
        return ""
    return named[0] if len(named) == 1 else f"[{', '.join(named)}]"


def _day(word: str) -> int | None:
    name = word.strip().rstrip(".")
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return next(
        (at for at, day in enumerate(full) if len(name) >= 3 and (day.startswith(name) or name == f"{day}s")), None
    )


# --------------------------------------------------------------------------------------------- spans and times

_UNITS = {
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), ("w", 1)),
    **dict.fromkeys(("d", "day", "days"), ("d", 1)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), ("h", 1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), ("m", 1)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("s", 1)),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), ("ms", 1)),
    **dict.fromkeys(("fortnight", "fortnights"), ("d", 14)),
    **dict.fromkeys(("mo", "mos", "month", "months"), ("d", 30)),
    **dict.fromkeys(("q", "quarter", "quarters"), ("d", 90)),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), ("d", 365)),
}
_NUMBERS = {
    **{"a": 1.0, "an": 1.0, "one": 1.0, "half a": 0.5, "half an": 0.5, "two": 2.0, "three": 3.0, "four": 4.0},
    **{"five": 5.0, "six": 6.0, "seven": 7.0, "ten": 10.0, "twelve": 12.0, "fourteen": 14.0, "thirty": 30.0},
}
_AMOUNT = rf"(\d{{1,9}}(?:[.,]\d{{1,3}})?|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_PIECE = re.compile(rf"{_AMOUNT}\s*({'|'.join(sorted(_UNITS, key=len, reverse=True))})\b\.?")
_JOINT = re.compile(r"[\s,]*(?:and\b|&)?\s*")
_ISO = re.compile(r"p(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?(?:t(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?)?")
_ISO_UNITS = ("y", "mo", "w", "d", "h", "m", "s")


def meant_span(value: object) -> str:
    """Return how to write a span such as "2 weeks", "30 min", "24hrs", "P1D" or a bare number."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return f"{value}d, {value}h or {value}m" if 0 < value < 1_000 else ""
    if not isinstance(value, str) or len(value) > 60:
        return ""
    text = re.sub(r"(?<=[a-z])(?=\d)", " ", re.sub(r"[_\s-]+", " ", value.strip().lower()))
    if text.isdigit():
        return meant_span(int(text))
    text = re.sub(r"^(?:(?:for|in|after|within|last|every|each)\s+)+", "", text)
    text = re.sub(r"\s+(?:ago|later|long)$", "", text)
    if text in _UNITS and len(text) > 2:
        text = f"one {text}"
    iso = _ISO.fullmatch(value.strip().lower())
    pieces = (
        [(float(number), unit) for number, unit in zip(iso.groups(), _ISO_UNITS, strict=True) if number]
        if iso
        else _pieces(text)
    )
    return _written(pieces)


def _pieces(text: str) -> list[tuple[float, str]]:
    pieces: list[tuple[float, str]] = []
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            return []
        number = _NUMBERS.get(piece[1])
        pieces.append((float(piece[1].replace(",", ".")) if number is None else number, piece[2]))
        joint = _JOINT.match(text, piece.end())
        at = piece.end() if joint is None else joint.end()
    return pieces


def _written(pieces: Iterable[tuple[float, str]]) -> str:
    words: list[str] = []
    total_ms = 0.0
    whole = True
    for number, name in pieces:
        unit, times = _UNITS[name]
        total_ms += number * times * UNITS_MS[unit]
        whole = whole and (number * times).is_integer()
        words.append(f"{int(number * times)}{unit}")
    if not 0 < total_ms <= SPAN_MAX_MS:
        return ""
    return "".join(words) if whole else shown_span(round(total_ms))


_PERIODS = {
    form: period
    for period, adverb in (("day", "daily"), ("week", "weekly"), ("month", "monthly"))
    for form in (adverb, f"{period}s", *(f"{one} {period}" for one in ("1", "one", "a", "calendar", "each", "every")))
}


def meant_period(value: object) -> str:
    """Return how to write the span of a cap: a calendar period such as "daily", or a span."""
    word = plain_word(value) if isinstance(value, str) else ""
    return _PERIODS.get(word, "") or meant_span(value)


_TIME = re.compile(r"(\d{1,2})(?:\s*[:.h]\s*(\d{2}))?(?::\d{2})?\s*(am|pm|h|uhr|oclock)?")
_TIMES = {"noon": "12:00", "midday": "12:00", "midnight": "00:00", "24:00": "00:00"}


def meant_clock(value: object) -> str:
    """Return how to write a time of day such as "9am", "9:30 pm", "noon", 9 or 2100, in its quotes."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    text = f"{value:.2f}" if isinstance(value, float) else str(value).strip().lower()
    text = re.sub(r"\bo'?\s?clock", "oclock", re.sub(r"([ap])\.?\s?m\.?$", r"\1m", text)).removeprefix("at ")
    if text in _TIMES:
        return f'"{_TIMES[text]}"'
    if re.fullmatch(r"\d{3,4}", text):
        text = f"{text[:-2]}:{text[-2:]}"
    time = _TIME.fullmatch(text)
    if time is None:
        return ""
    hour, minute, half = int(time[1]), int(time[2] or 0), time[3]
    if half in ("am", "pm"):
        if not 1 <= hour <= 12:
            return ""
        hour = hour % 12 + (12 if half == "pm" else 0)
    return f'"{shown_clock(hour * 60 + minute)}"' if hour < 24 and minute < 60 else ""


def meant_hours(value: object) -> str:
    """Return how to write hours such as "21:00-08:00" or "9pm to 8am" as a mapping with their begin and end."""
    parts = re.split(r"\s*(?:-|\u2013|\bto\b|\buntil\b)\s*", value.strip()) if isinstance(value, str) else []
    clocks = [f'"{part}"' if parsed_clock_min(part) is not None else meant_clock(part) for part in parts]
    return f"{{from: {clocks[0]}, to: {clocks[1]}}}" if len(clocks) == 2 and all(clocks) else ""


# ------------------------------------------------------------------------------------------------------ numbers

_NUMERAL = re.compile(r"[+-]?(?:\d{1,3}(?:[, _]\d{3})+|\d+)(?:\.\d+)?")


def meant_number(value: object) -> str:
    """Return how to write a number such as "80.00", "45%" or "$1,000"."""
    if not isinstance(value, str):
        return ""
    text = re.sub(r"^(?:[$€£₹]|[A-Z]{3}\s)\s*|\s*(?:[$€£₹%]|\s[A-Z]{3})$", "", value.strip())
    return re.sub(r"[, _]", "", text) if _NUMERAL.fullmatch(text) else ""
