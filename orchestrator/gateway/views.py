"""Views: what the gateway's look-ups answer. Moments are RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.action import Action
from orchestrator.core.definition import Journey
from orchestrator.core.moment import aware_moment
from orchestrator.core.state import CustomerState, Run
from orchestrator.runtime.intake import DeadLetter
from orchestrator.runtime.shelf import Published


class View(BaseModel):
    """The root of all views: closed and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunView(View):
    """A customer's passage through a journey."""

    journey: str = Field(description="Id of the journey.")
    key: str = Field(description="What names the run within its journey; empty for one run a customer.")
    stage: str = Field(description="The stage it is in, or ended in.")
    started_at: datetime = Field(description="When the first stage was entered.")
    entered_at: datetime = Field(description="When the current stage was entered.")
    ended_at: datetime | None = Field(None, description="When it ended; absent while open.")


class PlayView(View):
    """A rule's play that waits."""

    rule: str = Field(description="Id of the rule.")
    run: str = Field(description="The run it belongs to.")
    started_at: datetime = Field(description="When it began.")
    variant: str = Field(description="The arm of its split; empty without one.")
    deferred: bool = Field(description="True while an action is held back by quiet hours.")


class CustomerView(View):
    """What is known about a customer."""

    customer_id: str = Field(description="Id of the customer.")
    merged_into: str = Field(
        "", description="The id that the customer goes by now, where what was known here has gone; '' for no other."
    )
    aliases: list[str] = Field([], description="Other ids that are one with this one.")
    first_seen_at: datetime | None = Field(description="When the first event was received; null of who was merged.")
    last_event_at: datetime | None = Field(description="The newest event time; null of who was merged.")
    traits: dict[str, Any] = Field(description="Traits of the profile.")
    consents: dict[str, bool] = Field(description="Consent by purpose; a purpose that is absent was never given.")
    runs: list[RunView] = Field(description="Journeys' runs, open and ended.")
    plays: list[PlayView] = Field(description="Plays that wait for a moment or an event.")
    pending_actions: list[str] = Field(description="Ids of actions without a final receipt.")
    next_wake_at: datetime | None = Field(None, description="When the next timer is due.")


class StageView(View):
    """A stage of a journey."""

    name: str = Field(description="Name of the stage.")
    goal: bool = Field(description="True when entering it is the journey's goal.")
    final: bool = Field(description="True when entering it ends the run.")
    moment_of_truth: bool = Field(description="True when the experience here decides.")
    touchpoint: str = Field(description="Where the customer is met.")
    owner: str = Field(description="Who answers for the stage.")


class RuleSummary(View):
    """A rule, by name."""

    id: str = Field(description="Id of the rule.")
    title: str = Field(description="What it is for.")


class JourneyView(View):
    """A journey of the rulebook in force."""

    id: str = Field(description="Id of the journey.")
    title: str = Field(description="What it is for.")
    stages: list[StageView] = Field(description="Stages in order.")
    rules: list[RuleSummary] = Field(description="Rules that act along it.")


class ActionView(View):
    """An action and what became of it."""

    id: str = Field(description="Id of the action, its idempotency key.")
    customer_id: str = Field(description="Id of the customer.")
    connector: str = Field(description="The connector it goes to.")
    kind: str = Field(description="call, sms, email, push, webhook or publish.")
    rule: str = Field(description="The rule that decided it.")
    rulebook_version: str = Field(description="The version that decided it.")
    journey: str = Field(description="Id of the journey.")
    stage: str = Field(description="Stage of the run at the decision.")
    variant: str = Field(description="Arm of the split; empty without one.")
    priority: int = Field(description="0 to 100, the higher the sooner.")
    decided_at: datetime = Field(description="When it was decided.")
    not_before: datetime | None = Field(None, description="It may not be sent earlier.")
    deadline_at: datetime | None = Field(None, description="It may not be sent later.")
    reason: str = Field(description="Why it was decided.")
    params: dict[str, Any] = Field(description="What the connector receives.")
    outcome: str = Field(
        description="queued, or the ledger's last word: delivered, failed, expired, cancelled, dropped."
    )
    settled_at: datetime | None = Field(None, description="When it was settled; absent while queued.")


class DeadLetterView(View):
    """A refused record and why."""

    id: str = Field(description="Names the dead letter, for redrive.")
    origin: str = Field(description="gateway, worker or dispatcher.")
    producer: str = Field(
        "", description="Name of the key it was sent with; (anonymous) or (engine) without; '' where nobody says."
    )
    code: str = Field(description="Why, in the closed list of refusals.")
    field: str = Field(description="JSON path of the fault.")
    message: str = Field(description="What is wrong.")
    remedy: str = Field(description="What to do.")
    refused_at: datetime = Field(description="When it was refused.")
    value: str = Field(description="The record as text; bytes that are not UTF-8 are replaced.")


class RulebookVersion(View):
    """A published version of the rulebook."""

    version: str = Field(description="Hash of its files.")
    active: bool = Field(description="True for the version in force.")
    published_at: datetime = Field(description="When it was published.")
    journeys: list[str] = Field(description="Ids of its journeys.")
    author: str = Field("", description="Who published it; `folder` for one taken from the rules folder.")
    note: str = Field("", description="What its author says of it.")


class Redrive(View):
    """Which dead letters to send again."""

    ids: list[str] | None = Field(None, min_length=1, max_length=10_000, description="Their ids; leave out for all.")


class Redriven(View):
    """How many dead letters were sent again."""

    redriven: int = Field(ge=0, description="Records appended to their topic.")


def _moment_or_none(at_ms: int | None) -> datetime | None:
    return aware_moment(at_ms) if at_ms else None


def customer_view(customer_id: str, state: CustomerState, merged_into: str = "") -> CustomerView:
    """Return what a state says about its customer. ``merged_into`` is who they are now, if that is another id."""
    return CustomerView(
        customer_id=customer_id,
        merged_into=merged_into or state.merged_into,
        aliases=state.aliases,
        first_seen_at=_moment_or_none(state.first_seen_ms or None),
        last_event_at=_moment_or_none(state.frontier_ms or None),
        traits={name: value for name, (value, _) in state.traits.items()},
        consents={purpose: given for purpose, (given, _) in state.consents.items()},
        runs=[_run_view(name, run) for name, run in state.runs.items()],
        plays=[
            PlayView(
                rule=play.rule,
                run=play.run,
                started_at=aware_moment(play.started_at),
                variant=play.variant,
                deferred=play.deferred,
            )
            for play in state.plays.values()
        ],
        pending_actions=[one for one, entry in state.pending.items() if not entry.delivered],
        next_wake_at=_moment_or_none(state.next_wake_ms()),
    )


def _run_view(name: str, run: Run) -> RunView:
    journey, _, key = name.partition("/")
    return RunView(
        journey=journey,
        key=key,
        stage=run.stage,
        started_at=aware_moment(run.started_at),
        entered_at=aware_moment(run.entered_at),
        ended_at=_moment_or_none(run.ended_at),
    )


def journey_view(journey: Journey) -> JourneyView:
    """Return a journey as its readers see it."""
    return JourneyView(
        id=journey.id,
        title=journey.title,
        stages=[
            StageView(
                name=stage.name,
                goal=stage.goal,
                final=stage.final,
                moment_of_truth=stage.moment_of_truth,
                touchpoint=stage.touchpoint,
                owner=stage.owner,
            )
            for stage in journey.stages
        ],
        rules=[RuleSummary(id=rule.id, title=rule.title) for rule in journey.rules],
    )


def version_view(published: Published, *, active: bool) -> RulebookVersion:
    """Return a published version."""
    return RulebookVersion(
        version=published.version,
        active=active,
        published_at=aware_moment(published.published_at_ms),
        journeys=list(published.journeys),
        author=published.author,
        note=published.note,
    )


def action_view(action: Action, outcome: str = "queued", settled_at_ms: int | None = None) -> ActionView:
    """Return an action with its outcome."""
    return ActionView(
        id=action.id,
        customer_id=action.customer_id,
        connector=action.connector,
        kind=action.kind,
        rule=action.rule,
        rulebook_version=action.rulebook_version,
        journey=action.journey,
        stage=action.stage,
        variant=action.variant,
        priority=action.priority,
        decided_at=aware_moment(action.decided_at),
        not_before=_moment_or_none(action.not_before),
        deadline_at=_moment_or_none(action.deadline_at),
        reason=action.reason,
        params=action.params,
        outcome=outcome,
        settled_at=_moment_or_none(settled_at_ms),
    )


def dead_letter_view(letter_id: str, letter: DeadLetter) -> DeadLetterView:
    """Return a dead letter under the id that its keeper gives it."""
    return DeadLetterView(
        id=letter_id,
        origin=letter.origin,
        producer=letter.producer,
        code=letter.code,
        field=letter.field,
        message=letter.message,
        remedy=letter.remedy,
        refused_at=aware_moment(letter.refused_at_ms),
        value=(letter.value or b"").decode(errors="replace"),
    )
