"""Triggers as authors write them: what sets a rule off. Exactly one key tells them apart."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from orchestrator.rulebook.meant_value import meant_clock, named
from orchestrator.rulebook.models.condition import Condition
from orchestrator.rulebook.models.part import ByKey, OneOrMore, Part, expected
from orchestrator.rulebook.models.scalars import ClockTime, Name, PropertyPath, Span
from orchestrator.rulebook.span import parsed_clock_min


class EventTrigger(Part):
    """Fires on each event of a type."""

    event: Name = Field(description="The event type.")
    where: Condition | None = Field(None, description="Only events for which this holds.")


class EnterTrigger(Part):
    """Fires when the run enters a stage."""

    enter: Name = Field(description="A stage of this journey.")


class LeaveTrigger(Part):
    """Fires when the run leaves a stage."""

    leave: Name = Field(description="A stage of this journey.")


class Dwell(Part):
    """A stage and how long a run has stayed in it."""

    short_form: ClassVar[str] = "{stage: …, for: 1d}"

    stage: Name = Field(description="A stage of this journey.")
    for_: Span = Field(alias="for", description="How long the run has stayed there.")


class DwellTrigger(Part):
    """Fires when the run has stayed in a stage for a span."""

    dwell: Dwell = Field(description="The stage and the span.")


class Absence(Part):
    """An event that was expected and did not come."""

    short_form: ClassVar[str] = "{after: EVENT, of: …, for: 30m}"

    after: Name = Field(description="The event that starts the clock.")
    of: Name = Field(description="The event that would stop it.")
    for_: Span = Field(alias="for", description="How long to wait for it.")
    rearm: Literal["latest", "first"] = Field(
        "latest", description="Which of several starting events counts: the latest or the first."
    )
    same: PropertyPath | None = Field(
        None, description="The property that ties the two events together; by default the journey's key."
    )
    after_where: Condition | None = Field(None, description="Only starting events for which this holds.")
    of_where: Condition | None = Field(None, description="Only stopping events for which this holds.")


class AbsenceTrigger(Part):
    """Fires when one event happened and another did not follow in time."""

    absence: Absence = Field(description="What was expected, and for how long.")


class SequenceEvent(Part):
    """An event of a sequence."""

    event: Name = Field(description="The event type.")
    where: Condition | None = Field(None, description="Only events for which this holds.")


def _types(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return list(names)
    raise expected("an event type or a list of event types", value)


class SequenceGap(Part):
    """Events that must not happen between the step before and the step after."""

    not_: Annotated[
        list[str],
        PlainValidator(_types),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(alias="not", description="An event type, or a list of them.")


SequencePart = Annotated[
    SequenceEvent | SequenceGap,
    ByKey("a step of a sequence", named("{event: …}"), event=SequenceEvent, not_=SequenceGap),
]


class Sequence(Part):
    """Events in order."""

    steps: list[SequencePart] = Field(min_length=2, max_length=16, description="Events, and gaps between them.")
    within: Span = Field(description="The span from the first event to the last.")
    same: PropertyPath | None = Field(None, description="The property that all the events share.")


class SequenceTrigger(Part):
    """Fires when events happened in this order within a span."""

    sequence: Sequence = Field(description="The events and the span.")


class Schedule(Part):
    """A local time of the customer."""

    at: ClockTime = Field(description='The time of day, for example "09:30".')
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        min_length=1,
        description="The weekdays; every day by default.",
    )
    zone: str = Field("profile", description="profile for the customer's own zone, or an IANA name.")

    @classmethod
    def meant(cls, value: Any) -> str:
        """Return a time of day under ``at``."""
        clock = f'"{value}"' if parsed_clock_min(value) is not None else meant_clock(value)
        return f"{{at: {clock}}}" if clock else ""


class ScheduleTrigger(Part):
    """Fires at a local time while a run is open."""

    schedule: Schedule = Field(description="The time and the days.")


class Friction(Part):
    """The friction score of a stage, from 0 to 100."""

    short_form: ClassVar[str] = "{stage: …, over: 70}"

    stage: Name = Field(description="A stage of this journey.")
    over: int = Field(ge=1, le=100, description="Fires when the customer's score reaches this from below.")


class FrictionTrigger(Part):
    """Fires when a customer's friction in a stage crosses a threshold."""

    friction: Friction = Field(description="The stage and the threshold.")


Trigger = Annotated[
    EventTrigger
    | EnterTrigger
    | LeaveTrigger
    | DwellTrigger
    | AbsenceTrigger
    | SequenceTrigger
    | ScheduleTrigger
    | FrictionTrigger,
    ByKey(
        "a trigger",
        named("{event: …}"),
        event=EventTrigger,
        enter=EnterTrigger,
        leave=LeaveTrigger,
        dwell=DwellTrigger,
        absence=AbsenceTrigger,
        sequence=SequenceTrigger,
        schedule=ScheduleTrigger,
        friction=FrictionTrigger,
    ),
]


class ExitEvent(Part):
    """An event that ends a play at once."""

    short_form: ClassVar[str] = "{event: …}"

    event: Name = Field(description="The event type.")
    where: Condition | None = Field(None, description="Only events for which this holds.")


Exits = Annotated[list[ExitEvent], OneOrMore()]
