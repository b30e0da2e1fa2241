"""Capacity: how many calls a connector can carry, for whom and when, as its entry in connectors.yaml says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.core.action import Action
from orchestrator.core.opening import OpeningHours, openings


@dataclass(frozen=True, slots=True, kw_only=True)
class LineGroup:
    """A group of agents: lines of its own and hours of its own, or None for those of the connector."""

    lines: int | None = None
    hours: OpeningHours | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many calls there may be at once, over all dispatchers; spans are milliseconds.

    A line stays busy for ``hold_ms`` after its call was taken unless the outcome comes first, and never for less than
    ``call_min_ms``. ``group_by`` names the param of an action that tells its group; actions of other groups than
    those named share the connector's lines. ``hours`` None: always open. Actions that arrive while it is closed are
    booked into slots of ``slot_ms``.
    """

    lines: int
    hold_ms: int = 0
    call_min_ms: int = 0
    group_by: str = "agent"
    groups: Mapping[str, LineGroup] = field(default_factory=dict)
    hours: OpeningHours | None = None
    slot_ms: int = 900_000

    def group_of(self, action: Action) -> str:
        """Return the group that an action belongs to, '' when it belongs to none that is named."""
        name = action.params.get(self.group_by)
        return name if isinstance(name, str) and name in self.groups else ""

    def lines_of(self, group: str) -> int:
        """Return how many calls of the group there may be at once."""
        own = self.groups[group].lines if group in self.groups else None
        return self.lines if own is None else min(own, self.lines)

    def hours_of(self, group: str) -> OpeningHours | None:
        """Return the hours of a group, None when it is always open."""
        own = self.groups[group].hours if group in self.groups else None
        return own or self.hours

    def closed_at(self, group: str, moment_ms: int) -> bool:
        """Return whether nobody of the group is there at the moment."""
        hours = self.hours_of(group)
        return hours is not None and not any(one.holds(moment_ms) for one in openings(hours, moment_ms)[:1])
