"""Lint of capacities: what of a connector's lines, groups and hours does not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import available_timezones

from orchestrator.core.localtime import zone_named
from orchestrator.rulebook.models.capacity import CapacityPart, OpeningHoursPart, WindowPart
from orchestrator.rulebook.models.companion import ConnectorPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import did_you_mean
from orchestrator.rulebook.span import shown_span

_DAY_MIN = 1_440


def lint_capacity(names: Names, connector: ConnectorPart) -> None:
    """Report what would keep a connector from working as its capacity promises."""
    part = connector.capacity
    if part is None:
        return
    report = names.report
    if connector.delivery is not None and "concurrency" in connector.delivery.model_fields_set:
        message = "the lines of the capacity take the place of concurrency; leave one of them out"
        report.error(connector.delivery.origin, "concurrency", message)
    for name, group in part.groups.items():
        if not name:
            message = f"a group is named by a value of the param {part.group_by}, not by nothing"
            report.error(group.origin, None, message)
        if group.lines is not None and group.lines > part.lines:
            message = f'the group "{name}" has {group.lines} lines, and the connector only {part.lines}'
            report.error(group.origin, "lines", message)
    if part.call_min is not None and part.line_hold is not None and part.call_min > part.line_hold:
        message = f"no call keeps its line longer than line_hold, {shown_span(part.line_hold)}"
        report.error(part.origin, "call_min", message)
    for hours in _hours(part):
        _lint_hours(names, part, hours)


def _hours(part: CapacityPart) -> Iterator[OpeningHoursPart]:
    if part.opening_hours is not None:
        yield part.opening_hours
    for group in part.groups.values():
        if group.opening_hours is not None:
            yield group.opening_hours


def _lint_hours(names: Names, part: CapacityPart, hours: OpeningHoursPart) -> None:
    if zone_named(hours.zone) is None:
        meant = did_you_mean(hours.zone, available_timezones())
        message = f'unknown zone "{hours.zone}"; write an IANA name such as Asia/Kolkata.{meant}'
        names.report.error(hours.origin, "zone", message)
    for window in hours.windows:
        if _length_ms(window) < part.slot:
            message = f"the window is shorter than a slot, {shown_span(part.slot)}: nothing could be booked into it"
            names.report.error(window.origin, "to", message)


def _length_ms(window: WindowPart) -> int:
    return ((window.to - window.from_ - 1) % _DAY_MIN + 1) * 60_000
