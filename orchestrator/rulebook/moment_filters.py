"""The filter ``date``: days and moments as a customer reads them, never as the machine's zone would have them.

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
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from datetime import date as Day
from typing import Any

from liquid import RenderContext
from liquid.exceptions import FilterArgumentError
from liquid.filter import with_context

from orchestrator.core.limit import PHONE, ZONE_TRAIT
from orchestrator.core.localtime import zone_named, zones_told

#: What to give as the zone for the clock where the moment was written.
AS_WRITTEN = "as_written"
FORMAT_CHARS_MAX = 500

_DIRECTIVE = re.compile(r"%([-_0^#]?)(.?)", re.DOTALL)
_DIRECTIVES = frozenset("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZf%")


@with_context
def date(value: Any, form: Any = "%Y-%m-%d", zone: Any = None, *, context: RenderContext) -> str:
    """Return a day or a moment in a format of ``strftime``."""
    shown = shown_moment("date", value, zone, context.globals)
    if fault := format_fault(str(form)):
        raise FilterArgumentError(f"date: {fault}", token=None)
    return written(shown, str(form))


def shown_moment(name: str, value: Any, zone: Any, facts: Mapping[str, object]) -> Day | datetime:
    """Return the day, or the moment in the zone that it is shown in. Raise ``FilterArgumentError``."""
    try:
        moment = _parsed(value)
        return _in_zone(moment, zone, facts) if isinstance(moment, datetime) else moment
    except (ValueError, OverflowError, OSError) as fault:
        raise FilterArgumentError(f"{name}: {fault}", token=None) from None


def format_fault(form: str) -> str:
    """Return what is wrong with a format of ``strftime``, or nothing."""
    if len(form) > FORMAT_CHARS_MAX:
        return f"the format has {len(form)} characters; at most {FORMAT_CHARS_MAX} are allowed"
    for directive in _DIRECTIVE.finditer(form):
        if directive[2] not in _DIRECTIVES or not directive[2]:
            return f'the format "{form}" has "{directive[0]}", which means nothing. Write %% for a percent sign.'
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
    named = zone_named(str(zone))
    if named is None:
        raise ValueError(f'no zone is called "{zone}". Write an IANA name such as Asia/Kolkata, or {AS_WRITTEN}.')
    return moment.astimezone(named)


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
