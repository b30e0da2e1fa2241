"""Event counts: what conditions say of how often an event has happened, in one form, so that they can be held together.

``count`` bounds the number in a window; ``first`` says that it is one, ever; ``since_last`` that a window is empty,
or not; a trigger that its event has just happened.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from orchestrator.core.condition import Op


class EventCount(NamedTuple):
    """At least ``least`` and at most ``most`` events of the type (those of ``where``) in the last ``within_ms``."""

    event: str
    where: str
    within_ms: float
    least: float = 0
    most: float = inf

    def excludes(self, other: EventCount) -> bool:
        """Return whether the two can never hold together."""
        return _too_many(self, other) or _too_many(other, self)


def _too_many(some: EventCount, few: EventCount) -> bool:
    """Return whether ``some`` needs more events than ``few`` allows in a window that has the other inside."""
    inside = some.within_ms <= few.within_ms and few.where in ("", some.where)
    return some.event == few.event and inside and some.least > few.most


def counted(event: str, where: str, within_ms: int, op: Op, value: int) -> EventCount | None:
    """Return what ``count`` says, or None for what bounds nothing."""
    match op:
        case Op.EQ:
            return EventCount(event, where, within_ms, value, value)
        case Op.GTE:
            return EventCount(event, where, within_ms, least=value)
        case Op.GT:
            return EventCount(event, where, within_ms, least=value + 1)
        case Op.LTE:
            return EventCount(event, where, within_ms, most=value)
        case Op.LT:
            return EventCount(event, where, within_ms, most=value - 1)
        case _:
            return None


def since_last(event: str, where: str, op: Op, span_ms: int, *, if_never: bool) -> list[EventCount]:
    """Return what ``since_last`` says; ``if_never`` tells whether it holds of an event that never happened."""
    if op in (Op.LT, Op.LTE):
        # In "at most a span ago" the end of the window is inside.
        window_ms = span_ms + (op is Op.LTE)
        return [] if if_never else [EventCount(event, where, window_ms, least=1)]
    empty = [EventCount(event, where, span_ms, most=0)] if span_ms else []
    return empty if if_never else [*empty, EventCount(event, where, inf, least=1)]
