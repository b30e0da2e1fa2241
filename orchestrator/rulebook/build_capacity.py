"""Capacities built from what authors wrote; ``lint_capacity`` says what does not fit together."""

from __future__ import annotations

from orchestrator.core.opening import OpeningHours, Window
from orchestrator.rulebook.capacity import Capacity, LineGroup
from orchestrator.rulebook.models.capacity import CapacityPart, OpeningHoursPart
from orchestrator.rulebook.span import WEEKDAYS


def built_capacity(part: CapacityPart | None) -> Capacity | None:
    """Return the capacity of a connector, None when it has none."""
    if part is None:
        return None
    hold_ms = part.line_hold or 0
    return Capacity(
        lines=part.lines,
        hold_ms=hold_ms,
        call_min_ms=hold_ms if part.call_min is None else part.call_min,
        group_by=part.group_by,
        groups={
            name: LineGroup(lines=group.lines, hours=built_hours(group.opening_hours))
            for name, group in part.groups.items()
        },
        hours=built_hours(part.opening_hours),
        slot_ms=part.slot,
    )


def built_hours(part: OpeningHoursPart | None) -> OpeningHours | None:
    """Return opening hours, None when there are none to keep."""
    if part is None:
        return None
    windows = tuple(
        Window(frozenset(WEEKDAYS.index(day) for day in one.days), one.from_, one.to) for one in part.windows
    )
    return OpeningHours(windows, part.zone, frozenset(part.closed))
