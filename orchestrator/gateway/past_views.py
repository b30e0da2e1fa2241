"""Views of a customer's past: the timeline, explanations and the export. Moments are RFC 3339 in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, ConfigDict, Field

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.core.moment import aware_moment
from orchestrator.core.state import CustomerState
from orchestrator.gateway.page import Filling, unknown_place
from orchestrator.gateway.views import ActionView, CustomerView, View, customer_view
from orchestrator.runtime.explain import is_whole
from orchestrator.runtime.explanation import Standing
from orchestrator.runtime.timeline import History
from orchestrator.runtime.wording import event_text, reason_text


class EventEntry(View):
    """An event of the customer."""

    id: str = Field(description="Id of the event.")
    type: str = Field(description="What happened.")
    occurred_at: datetime = Field(description="When it happened, by its producer.")
    properties: dict[str, Any] = Field(description="Facts of the event.")
    source: str = Field(description="Who sent it; empty when unknown.")


class DecisionEntry(View):
    """A line of the ledger."""

    rule: str = Field(description="Id of the rule.")
    outcome: str = Field(description="sent, blocked, deferred, waiting, lost, ended, withdrawn or noted.")
    reason: str = Field(description="The one cause, in the closed list of reasons.")
    text: str = Field(description="The reason in words.")
    journey: str = Field(description="Id of the journey.")
    run: str = Field(description="The run it concerned.")
    stage: str = Field(description="Stage of the run at the decision.")
    cause: str = Field(description="Id of the event or timer behind it.")
    action_id: str = Field(description="Id of the action it concerns; empty without one.")
    variant: str = Field(description="Arm of the split; empty without one.")
    rulebook_version: str = Field(description="The version that decided.")
    detail: dict[str, Any] = Field(description="The figures that settled it; moments and spans in milliseconds.")


class TimelineEntry(View):
    """One entry of a timeline: an event or a decision."""

    at: datetime = Field(description="When the log took the event, or the decision was made.")
    text: str = Field(description="The entry in one line.")
    event: EventEntry | None = Field(None, description="The event, when it is one.")
    decision: DecisionEntry | None = Field(None, description="The ledger line, when it is one.")


class TimelineView(View):
    """A customer's recent events and decisions."""

    customer_id: str = Field(description="Id of the customer.")
    whole: bool = Field(description="True when it reaches back to the customer's first event.")
    entries: list[TimelineEntry] = Field(description="Newest first.")


class Explaining(View):
    """The root of explanations, which are read from the runtime's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


# By itself pydantic takes small numbers for seconds, and refuses large ones.
Moment = Annotated[datetime, BeforeValidator(lambda at_ms: aware_moment(at_ms) if isinstance(at_ms, int) else at_ms)]


class ConditionView(Explaining):
    """One node of a rule's conditions."""

    text: str = Field(description="The condition as its author writes it.")
    truth: str = Field(description="true, false or unknown; only true lets a rule fire.")
    reading: str = Field(description="What was read; empty for a node that only combines others.")
    because: str = Field(description="Why it is unknown; empty otherwise.")
    parts: list[ConditionView] = Field(description="The nodes below.")


class LimitView(Explaining):
    """What one limit said."""

    kind: str = Field(description="in_play, cooldown, experiment, channel, consent, cap or quiet_hours.")
    text: str = Field(description="What it said, in words.")
    blocks: bool = Field(description="True when it alone held the action back.")
    detail: dict[str, Any] = Field(description="Its figures; moments and spans in milliseconds.")


class TriggerView(Explaining):
    """What sets a rule off."""

    text: str = Field(description="The trigger.")
    state: str = Field(description="How far it has come for this customer.")
    due_at: Moment | None = Field(None, validation_alias="due_at_ms", description="When it is due, if it is armed.")


class RivalView(Explaining):
    """A rule that competed for the same slot."""

    rule: str = Field(description="Id of the rule.")
    score: float | None = Field(description="Its score.")
    factors: dict[str, float] = Field(description="Its four factors, where the ledger has them.")
    won: bool = Field(description="True for the winner.")


class ArbitrationView(Explaining):
    """How a slot was settled."""

    slot: str = Field(description="What was competed for.")
    score: float = Field(description="The rule's own score, the product of its factors.")
    factors: dict[str, float] = Field(description="propensity, context, value and weight.")
    rivals: list[RivalView] = Field(description="The other candidates.")


class LedgerLineView(Explaining):
    """A ledger line of the decision."""

    at: Moment = Field(validation_alias="at_ms", description="When it was decided.")
    outcome: str = Field(description="What it came to.")
    reason: str = Field(description="The one cause.")
    text: str = Field(description="The reason in words.")
    step: str = Field(description="Step of the rule's program.")
    action_id: str = Field(description="Id of the action; empty without one.")
    variant: str = Field(description="Arm of the split; empty without one.")
    rulebook_version: str = Field(description="The version that decided.")
    detail: dict[str, Any] = Field(description="The figures that settled it.")
    recorded: bool = Field(description="False for a line that only the replay has.")


class ExplanationView(Explaining):
    """Why one rule did or did not act, at its latest decision point."""

    rule: str = Field(description="Id of the rule.")
    title: str = Field(description="What it is for.")
    journey: str = Field(description="Id of the journey.")
    standing: Standing = Field(description="Where the rule stands with the customer.")
    sentence: str = Field(description="The answer in one sentence.")
    at: Moment | None = Field(validation_alias="at_ms", description="The decision point; absent without one.")
    cause: str = Field(description="Id of the event or timer behind it.")
    run: str = Field(description="The run it concerned.")
    stage: str = Field(description="Stage of the run.")
    rulebook_version: str = Field(description="The version that decided.")
    trigger: TriggerView = Field(description="What sets it off.")
    conditions: ConditionView | None = Field(description="Its conditions, one by one; absent when none was read.")
    limits: list[LimitView] = Field(description="Its limits, one by one.")
    arbitration: ArbitrationView | None = Field(description="The competition for its slot.")
    ledger: list[LedgerLineView] = Field(description="The ledger's lines of this decision.")
    notes: list[str] = Field(description="What to know when reading this.")


class ExplainedView(Explaining):
    """Why rules did or did not act for a customer."""

    customer_id: str = Field(description="Id of the customer.")
    at: Moment = Field(validation_alias="at_ms", description="The moment asked about.")
    rulebook_version: str = Field(description="The version in force, with which the past was read.")
    whole_history: bool = Field(description="False when the timeline begins after the customer's first event.")
    explanations: list[ExplanationView] = Field(description="One per rule asked about.")
    notes: list[str] = Field(description="What to know when reading this.")
    stimuli: int = Field(description="Events and timers decided to find the answer.")


class ExportView(View):
    """Everything that is known about a customer."""

    customer: CustomerView = Field(description="Profile, consent, runs and plays.")
    state: dict[str, Any] = Field(description="The engine's own record, in full; moments are epoch milliseconds.")
    timeline: TimelineView = Field(description="Recent events and decisions.")
    actions: list[ActionView] = Field(description="Latest actions and what became of them.")


def export_view(history: History, state: CustomerState, actions: Sequence[ActionView], limit: int) -> ExportView:
    """Return all that is known about a customer."""
    return ExportView(
        customer=customer_view(history.customer_id, state),
        state=_plain(state),
        timeline=timeline_view(history, state, limit),
        actions=list(actions),
    )


def timeline_view(history: History, state: CustomerState | None, limit: int) -> TimelineView:
    """Return events and decisions as one list, newest first; a decision stands after the event behind it."""
    entries = [entry for _, _, entry in _newest_first(history)]
    return TimelineView(customer_id=history.customer_id, whole=is_whole(history, state), entries=entries[:limit])


def timeline_page(
    history: History, state: CustomerState | None, limit: int, before: str | None
) -> tuple[TimelineView, str | None]:
    """Return a page of a timeline, and where it goes on: at the moment of the last entry, and its number in that."""
    filling: Filling[TimelineEntry] = Filling(limit)
    after_ms, after = _place(before)
    last, going_on = "", None
    for at_ms, number, entry in _newest_first(history):
        if after_ms is not None and (at_ms > after_ms or (at_ms == after_ms and number <= after)):
            continue
        if not filling.takes(entry):
            going_on = last
            break
        last = f"{at_ms}-{number}"
    whole = is_whole(history, state)
    return TimelineView(customer_id=history.customer_id, whole=whole, entries=filling.items), going_on


def _place(before: str | None) -> tuple[int | None, int]:
    if before is None:
        return None, 0
    at_ms, _, number = before.partition("-")
    if not (at_ms.isdecimal() and number.isdecimal() and len(before) < 40):
        raise unknown_place(before)
    return int(at_ms), int(number)


def _newest_first(history: History) -> Iterator[tuple[int, int, TimelineEntry]]:
    """Yield the moment of each entry, its number among the entries of that moment, and the entry."""
    entries: list[tuple[int, int, Event | DecisionRecord]] = [(one.received_at_ms, 0, one) for one in history.events]
    entries += [(record.at, 1, record) for record in history.decisions]
    entries.sort(key=lambda entry: entry[:2])
    for at_ms, of_moment in groupby(reversed(entries), key=lambda entry: entry[0]):
        for number, (_, _, one) in enumerate(of_moment, start=1):
            yield at_ms, number, _event_entry(one) if isinstance(one, Event) else _decision_entry(one)


def _event_entry(event: Event) -> TimelineEntry:
    shown = EventEntry(
        id=event.id,
        type=event.type,
        occurred_at=aware_moment(event.occurred_at_ms),
        properties=event.properties,
        source=event.source,
    )
    return TimelineEntry(at=aware_moment(event.received_at_ms), text=event_text(event), event=shown)


def _decision_entry(record: DecisionRecord) -> TimelineEntry:
    text = reason_text(record.reason, record.detail)
    shown = DecisionEntry(
        rule=record.rule,
        outcome=record.outcome.value,
        reason=record.reason.value,
        text=text,
        journey=record.journey,
        run=record.run,
        stage=record.stage,
        cause=record.cause,
        action_id=record.action_id,
        variant=record.variant,
        rulebook_version=record.rulebook_version,
        detail=record.detail,
    )
    return TimelineEntry(
        at=aware_moment(record.at), text=f"{record.rule} {record.outcome.value}: {text}", decision=shown
    )


def _plain(value: Any) -> Any:
    """Return structs as objects with named fields and bytes as hexadecimal, whatever form they are stored in."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
