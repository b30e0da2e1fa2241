"""The filters ``date`` and ``time``: days and moments as a customer reads them, whatever the zone of the machine.

========================  ====================================  ==================================================
value                     example                               is shown
========================  ====================================  ==================================================
a day                     ``2026-03-14``                        as that day, everywhere
a moment without offset   ``2026-03-14T10:00:00``               as it stands: it is of the customer's clock
a moment with an offset   ``2026-03-14T10:00:00+05:30``         by the customer's clock
epoch milliseconds        ``1773464400000``                     by the customer's clock
========================  ====================================  ==================================================

The customer's clock is found as quiet hours find it: the ``timezone`` of the profile or the event, else the prefix of
the ``phone``. Where that leaves none, or several that differ at the moment, a moment stays as it was written and
epoch milliseconds are UTC. A zone that is given takes the customer's place, and ``as_written`` keeps the offset of the
text: what takes place somewhere (an appointment, a visit) goes by the clock on the wall there.

A format is one of ``strftime``, in English, or the name of one that the reader's locale has: ``date: "long"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from datetime import date as Day
from typing import Any, Literal

from babel.dates import format_date, format_time
from liquid import RenderContext
from liquid.exceptions import FilterArgumentError
from liquid.filter import with_context

from orchestrator.core.limit import PHONE, ZONE_TRAIT
from orchestrator.core.localtime import zone_named, zones_told
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.reader_locale import locale_of

#: Those of here; what uses them asks for the customer's zone.
MOMENT_FILTERS = frozenset({"date", "time"})
#: The formats that a locale has of its own.
FORMATS: tuple[Literal["short", "medium", "long", "full"], ...] = ("short", "medium", "long", "full")
#: What to give as the zone for the clock where the moment was written.
AS_WRITTEN = "as_written"
FORMAT_CHARS_MAX = 500

_DIRECTIVE = re.compile(r"%([-_0^#]?)(.?)", re.DOTALL)
_DIRECTIVES = frozenset("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZf%")


@with_context
def date(value: Any, form: Any = "%Y-%m-%d", zone: Any = None, locale: Any = None, *, context: RenderContext) -> str:
    """Return the day, in a format of the locale or of ``strftime``."""
    shown = _shown("date", value, zone, context.globals)
    return _formatted("date", shown, str(form), locale, context.globals)


@with_context
def time(value: Any, form: Any = "short", zone: Any = None, locale: Any = None, *, context: RenderContext) -> str:
    """Return the time of day, in a format of the locale or of ``strftime``."""
    shown = _shown("time", value, zone, context.globals)
    if not isinstance(shown, datetime):
        raise FilterArgumentError(f"time: {shown} is a day and has no time", token=None)
    return _formatted("time", shown, str(form), locale, context.globals)


def _formatted(name: str, shown: Day | datetime, form: str, given: Any, facts: Mapping[str, object]) -> str:
    if fault := format_fault(form) or (locale_unused(form) if given is not None else ""):
        raise FilterArgumentError(f"{name}: {fault}", token=None)
    if form not in FORMATS:
        return written(shown, form)
    try:
        locale = locale_of(given, facts)
    except ValueError as fault:
        raise FilterArgumentError(f"{name}: {fault}", token=None) from None
    if not isinstance(shown, datetime):
        return format_date(shown, form, locale)
    return format_time(shown, form, locale=locale) if name == "time" else format_date(shown.date(), form, locale)


def _shown(name: str, value: Any, zone: Any, facts: Mapping[str, object]) -> Day | datetime:
    """Return the day, or the moment in the zone that it is shown in. Raise ``FilterArgumentError``."""
    try:
        moment = _parsed(value)
        return _in_zone(moment, zone, facts) if isinstance(moment, datetime) else moment
    except (ValueError, OverflowError, OSError) as fault:
        raise FilterArgumentError(f"{name}: {fault}", token=None) from None


def format_fault(form: str) -> str:
    """Return what is wrong with a format, or nothing."""
    if form in FORMATS:
        return ""
    if "%" not in form:
        return f'{unknown("format", form, FORMATS)} Or write one with %, such as "%d %b".'
    if len(form) > FORMAT_CHARS_MAX:
        return f"the format has {len(form)} characters; at most {FORMAT_CHARS_MAX} are allowed"
    for directive in _DIRECTIVE.finditer(form):
        if directive[2] not in _DIRECTIVES or not directive[2]:
            return f'the format "{form}" has "{directive[0]}", which means nothing. Write %% for a percent sign.'
    return ""


def locale_unused(form: str) -> str:
    """Return why a locale may not be given with a format, or nothing."""
    return "" if form in FORMATS else f'"{form}" is in English whatever the locale; name one of {", ".join(FORMATS)}'


def zone_fault(zone: str) -> str:
    """Return why a name is no zone, or nothing."""
    if zone != AS_WRITTEN and zone_named(zone) is None:
        return f'no zone is called "{zone}". Write an IANA name such as Asia/Kolkata, or {AS_WRITTEN}.'
    return ""


def written(shown: Day | datetime, form: str) -> str:
    """Return a moment by ``strftime``, whose %s alone would go by the zone of the machine."""
    at = shown if isinstance(shown, datetime) else datetime(shown.year, shown.month, shown.day)
    seconds = str(int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()))
    return at.strftime(_DIRECTIVE.sub(lambda found: seconds if found[2] == "s" else found[0], form))


def _parsed(value: Any) -> Day | datetime:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC)
    text = str(value)
    try:
        return Day.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(text)


def _in_zone(moment: datetime, zone: Any, facts: Mapping[str, object]) -> datetime:
    own = None if zone == AS_WRITTEN else _customers_zone(moment, facts)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=own or UTC)
    if zone is None or zone == AS_WRITTEN:
        return moment if own is None else moment.astimezone(own)
    if fault := zone_fault(str(zone)):
        raise ValueError(fault)
    return moment.astimezone(zone_named(str(zone)))


def _customers_zone(moment: datetime, facts: Mapping[str, object]) -> tzinfo | None:
    """Return the customer's zone, or None when nobody knows it or a phone's zones differ at the moment."""
    zones = zones_told(_fact(facts, ZONE_TRAIT), _fact(facts, PHONE))
    at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return zones[0] if len({at.astimezone(zone).utcoffset() for zone in zones}) == 1 else None


def _fact(facts: Mapping[str, object], name: str) -> Any:
    """Return a trait of the profile, else a property of the event."""
    for root in ("profile", "event"):
        held = facts.get(root)
        if isinstance(held, Mapping) and held.get(name) is not None:
            return held[name]
    return None
