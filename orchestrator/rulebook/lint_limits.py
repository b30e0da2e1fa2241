"""Lint of quiet hours and fallbacks: what holds an action back by day, and what stands in for it and cannot."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.action import Kind
from orchestrator.rulebook.lint_connectors import sends_of
from orchestrator.rulebook.models.limit import LimitsPart, QuietPart
from orchestrator.rulebook.models.play import SendPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.span import shown_clock

_DAY_MIN = 1_440
#: Hours in which people are up everywhere: who keeps quiet through all of them has begin and end the wrong way round.
_DAYTIME = (11 * 60, 16 * 60)


def lint_limits(names: Names) -> None:
    """Check the quiet hours of every rule and shared set, and the fallbacks of every send."""
    for part in _limits(names):
        if part.quiet_hours is not None and _covers_day(part.quiet_hours):
            begin, end = shown_clock(part.quiet_hours.from_), shown_clock(part.quiet_hours.to)
            message = f"these are the hours of the day, in which nothing is sent: did you mean {end} to {begin}?"
            names.report.warning(part.quiet_hours.origin, "from", message)
    for source in names.journeys.values():
        for rule in source.rules:
            for send in sends_of(rule.do):
                _fallbacks(names, send)


def _limits(names: Names) -> Iterator[LimitsPart]:
    yield from names.limit_sets.values()
    for source in names.journeys.values():
        yield from (rule.limits for rule in source.rules if rule.limits is not None)


def _covers_day(quiet: QuietPart) -> bool:
    begin, end = _DAYTIME
    length = (quiet.to - quiet.from_) % _DAY_MIN
    return (begin - quiet.from_) % _DAY_MIN + (end - begin) <= length


def _fallbacks(names: Names, send: SendPart) -> None:
    """What keeps a connector from sending keeps it from sending in its own place as well.

    Other words may be let through where the first were refused: WhatsApp takes an approved template at any time.
    """
    tried = [send]
    for one in send.fallback:
        alike = [other for other in tried if other.connector == one.connector]
        tried.append(one)
        if not alike:
            continue
        own = "its own connector" if alike[0] is send else "the connector of an earlier one"
        same = any((other.template, other.consent) == (one.template, one.consent) for other in alike)
        message = f'a fallback on {own} cannot help when "{one.connector}" does not send; name another connector'
        if same:
            names.report.error(one.origin, "connector", message)
        elif one.connector in names.connectors and names.connectors[one.connector].kind != Kind.WHATSAPP.value:
            names.report.warning(one.origin, "connector", message)
