"""Capacity as authors write it: lines, groups of agents, and the hours in which somebody is there."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from orchestrator.rulebook.models.part import OneOrMore, Part, expected
from orchestrator.rulebook.models.scalars import ClockTime, Name, Span

DAY_PATTERN = r"^\d{4}-\d{2}-\d{2}$"


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise expected("a day such as 2026-12-25", value) from None


Day = Annotated[
    date, PlainValidator(_day), WithJsonSchema({"type": "string", "pattern": DAY_PATTERN, "examples": ["2026-12-25"]})
]


class WindowPart(Part):
    """Hours of a weekday."""

    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        min_length=1,
        description="The weekdays on which it begins; every day by default.",
    )
    from_: ClockTime = Field(alias="from", description='Begin, for example "09:00".')
    to: ClockTime = Field(
        description='End, for example "18:00"; an end not after the begin lies on the next day ("00:00": midnight).'
    )


class OpeningHoursPart(Part):
    """When somebody is there. Outside of these hours nothing is sent."""

    zone: str = Field(description="The IANA zone of the place, such as Asia/Kolkata; days of changed clocks are kept.")
    windows: Annotated[list[WindowPart], OneOrMore()] = Field(
        min_length=1, description="One window or a list of them; those that touch are one opening."
    )
    closed: list[Day] = Field(default_factory=list, description="Days on which it does not open.")


class LineGroupPart(Part):
    """A group of agents with lines or hours of its own."""

    lines: int | None = Field(
        None, ge=1, le=1_000, description="Calls of the group at once, within those of the connector."
    )
    opening_hours: OpeningHoursPart | None = Field(
        None, description="When the group is there; those of the connector when left out."
    )


class CapacityPart(Part):
    """What the other side of a connector can take: calls at once, for how long, and when."""

    lines: int = Field(
        ge=1,
        le=1_000,
        description="Calls at once, over all dispatchers; takes the place of the delivery's concurrency.",
    )
    line_hold: Span | None = Field(
        None,
        description="A line stays busy so long after a call was accepted, or until the call's outcome comes back. When "
        "left out, it is free as soon as the request returns.",
    )
    call_min: Span | None = Field(
        None,
        description="No call keeps its line for less. Promises are judged by it: a deadline that cannot be met behind "
        "those who wait is given up at once. line_hold when left out; write a shorter span where outcomes come back.",
    )
    group_by: Name = Field("agent", description="The param of an action that names its group.")
    groups: dict[str, LineGroupPart] = Field(
        default_factory=dict,
        description="Groups of agents by that param; actions of other groups share the connector's lines and hours.",
    )
    opening_hours: OpeningHoursPart | None = Field(
        None, description="When somebody is there; always when left out. Actions that come outside are given a slot."
    )
    slot: Span = Field(
        900_000,
        description="The length of the slots that actions are given. A slot takes as many as lines, line_hold and rate "
        "can carry in it.",
    )
