"""Case files: examples beside the rules that say what a customer gets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.models.scalars import Name


class CustomerPart(Part):
    """The customer of a case."""

    id: str = Field("customer", description="The customer's id.")
    traits: dict[str, Any] = Field(default_factory=dict, description="Traits that are set before the first event.")
    consents: dict[str, bool] = Field(
        default_factory=dict, description="Consents that are given or refused before the first event."
    )


class CaseEventPart(Part):
    """An event of a case."""

    at: str = Field(description='A moment with its offset, or a span after the event before, such as "+29m".')
    received: str | None = Field(
        None, description="When the log took it, if later: a moment, or a span after it happened such as +5m."
    )
    type: Name = Field(description="The event type.")
    id: str | None = Field(
        None, min_length=1, description="Its id; two events with the same id are one event that was sent twice."
    )
    properties: dict[str, Any] = Field(default_factory=dict, description="What it carries.")
    context: dict[str, Any] = Field(default_factory=dict, description="Its context, for example consent.")


class ExpectedActionPart(Part):
    """What an action must look like; what is left out may be anything."""

    connector: Name | None = Field(None, description="The connector.")
    rule: Name | None = Field(None, description="The rule that decided it.")
    template: Name | None = Field(None, description="The template that it was rendered from.")
    kind: str | None = Field(None, description="The kind: call, sms, email …")
    at: str | None = Field(None, description="When it may be sent: a moment, or a span after the first event.")
    variant: str | None = Field(None, description="The arm of the split.")
    params: dict[str, Any] = Field(default_factory=dict, description="Params that it must have; it may have more.")
    cancel: bool = Field(
        False,
        description="true for an action that was withdrawn in time: before it was delivered, which takes a second.",
    )


class ExpectedDecisionPart(Part):
    """A line of the ledger that must be there; what is left out may be anything."""

    rule: Name | None = Field(None, description="The rule.")
    outcome: Literal["sent", "blocked", "deferred", "waiting", "lost", "ended", "withdrawn", "noted"] | None = Field(
        None, description="What it came to."
    )
    reason: str | None = Field(None, description="Why, in the closed words of the ledger.")


class ExpectPart(Part):
    """What must come of a case."""

    actions: list[ExpectedActionPart] | None = Field(
        None, description="All actions, in order; [] means none; left out, actions are not checked."
    )
    stage: dict[str, str] = Field(default_factory=dict, description="The stage of runs, as journey/key or journey.")
    decisions: list[ExpectedDecisionPart] = Field(
        default_factory=list, description="Lines of the ledger that must be there, in order."
    )


class CasePart(Part):
    """One example."""

    case: str = Field(min_length=1, description="A sentence that says what happens.")
    customer: CustomerPart | None = Field(None, description="The customer; by default one without traits or consents.")
    events: list[CaseEventPart] = Field(min_length=1, description="What happens, in order.")
    until: str | None = Field(
        None,
        description="How far the clock runs: a moment, or a span after the first event; by default the last event.",
    )
    expect: ExpectPart = Field(description="What must come of it.")


class CasesFile(Part):
    """A file of cases."""

    cases: list[CasePart] = Field(min_length=1, description="The cases.")
