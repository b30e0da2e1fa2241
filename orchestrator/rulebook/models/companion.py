"""Companion files: the tracking plan, connectors, templates, segments and shared limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from orchestrator.rulebook.models.capacity import CapacityPart
from orchestrator.rulebook.models.condition import Condition
from orchestrator.rulebook.models.limit import LimitsPart
from orchestrator.rulebook.models.part import Part, ShortForm
from orchestrator.rulebook.models.scalars import ConsentName, EventName, Name, Scalar, Span

PropertyType = Literal["string", "number", "integer", "boolean", "object", "array"]


class PropertyPart(Part):
    """A property of an event, or a trait of a customer."""

    type: PropertyType = Field(description="What values it has.")
    enum: list[Scalar] | None = Field(None, min_length=1, description="The only values it may have.")
    required: bool = Field(False, description="An event without it is refused.")
    description: str = Field("", description="What it means.")
    properties: dict[str, Annotated[PropertyPart, ShortForm("type", get_args(PropertyType))]] = Field(
        default_factory=dict, description="The properties of an object."
    )


Property = Annotated[PropertyPart, ShortForm("type", get_args(PropertyType))]


class EventPart(Part):
    """An event type."""

    description: str = Field("", description="When it happens.")
    properties: dict[str, Property] = Field(default_factory=dict, description="What it carries, by name.")
    closed: bool = Field(False, description="Properties that are not declared here are refused.")


class ConsentPart(Part):
    """A purpose that customers consent to."""

    description: str = Field("", description="What they consent to.")


class TrackingPlanFile(Part):
    """What may be tracked: event types with their properties, traits, and purposes of consent."""

    events: dict[EventName, EventPart] = Field(default_factory=dict, description="Event types by name.")
    traits: dict[str, Property] = Field(default_factory=dict, description="Traits of a customer by name.")
    consents: dict[ConsentName, str] = Field(
        default_factory=dict, description="Purposes of consent by name, with what they mean."
    )


class RatePart(Part):
    """At most so many sends in a span."""

    max: int = Field(ge=1, description="How many.")
    per: Span = Field(description="In which span.")


class BreakerPart(Part):
    """When a connector is left alone for a while."""

    failures: int = Field(5, ge=1, description="So many failures in a row open the breaker.")
    pause: Span = Field(30_000, description="How long it stays open before one attempt is made.")


class DeliveryPart(Part):
    """How the dispatcher treats a connector. Its limits hold over all dispatchers together."""

    concurrency: int = Field(10, ge=1, le=1_000, description="Sends under way at once.")
    rate: RatePart | None = Field(None, description="At most so many sends in a span.")
    attempts_max: int = Field(5, ge=1, le=100, description="Attempts before an action becomes a dead letter.")
    budget: Span = Field(3_600_000, description="No attempt begins later than this after the first.")
    backoff_first: Span = Field(1_000, description="The pause after the first failure; it doubles from there.")
    backoff_max: Span = Field(300_000, description="The longest pause between attempts.")
    lease: Span = Field(60_000, description="A send that does not end in this span is taken for lost.")
    breaker: BreakerPart | None = Field(None, description="When the connector is left alone for a while.")
    on_unknown: Literal["retry", "drop"] = Field(
        "retry",
        description="When no answer came after the request was written: send again, or give up. Either way a fallback "
        "follows only where the send says `fallback_on_unknown`.",
    )


class ConnectorPart(Part):
    """A system that carries out actions."""

    type: Name = Field(description="Which connector carries it: voice, webhook …")
    kind: Literal["call", "sms", "whatsapp", "email", "push", "chat", "crm", "webhook", "publish"] = Field(
        description="What its actions are; caps and reports speak of kinds."
    )
    description: str = Field("", description="For people.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the type; ${NAME:-default} reads the environment."
    )
    delivery: DeliveryPart | None = Field(None, description="How the dispatcher treats it.")
    capacity: CapacityPart | None = Field(
        None, description="What the other side can take: lines, groups of agents, opening hours."
    )


class ConnectorsFile(Part):
    """The connectors by name."""

    connectors: dict[Name, ConnectorPart] = Field(description="Connectors by name.")


class TemplatePart(Part):
    """What a connector receives, with {{ fields }} of the event, the profile and the run."""

    title: str = Field("", description="For people.")
    kind: Literal["call", "sms", "whatsapp", "email", "push", "chat", "crm", "webhook", "publish"] | None = Field(
        None, description="The kind of connector it is written for."
    )
    params: dict[str, Any] = Field(min_length=1, description="The params by name, with Liquid in their texts.")


class TemplatesFile(Part):
    """The templates by name."""

    templates: dict[Name, TemplatePart] = Field(description="Templates by name.")


class SegmentPart(Part):
    """A group of customers, by a condition."""

    title: str = Field("", description="For people.")
    when: Condition = Field(description="Who belongs to it.")


class SegmentsFile(Part):
    """The segments by name."""

    segments: dict[Name, SegmentPart] = Field(description="Segments by name.")


class LimitsFile(Part):
    """Shared sets of limits by name; a rule takes one with `limits: {use: NAME}`."""

    limits: dict[Name, LimitsPart] = Field(description="Sets of limits by name.")
