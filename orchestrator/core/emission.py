"""Emission: from a ``send`` step to an action, a deferral or a reason why not.

What an action is made of is settled here once: its id, its rendered params, its deadline, its fallbacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.core.action import Action, QuietWindow, action_id
from orchestrator.core.definition import MissingTemplateValue, QuietThen, Rule, Send
from orchestrator.core.limit import (
    Verdict,
    counters_of,
    customer_facts,
    judge,
    judge_consent,
    purposes,
    reserve,
    zones_of,
)
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import expect
from orchestrator.core.state import Standby
from orchestrator.core.turn import Turn
from orchestrator.core.view import Properties


class Sender(Protocol):
    """What emission needs to know of the play that sends."""

    run: str
    cause: str
    facts: Properties
    variant: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would become of an action if it were sent now."""

    send: Send
    verdict: Verdict
    fallback: Send | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def blocked(self) -> bool:
        """Return whether neither the action nor a fallback of it can be sent, now or later."""
        return self.verdict.reason is not None and self.verdict.until_ms is None and self.fallback is None


def outlook_of(turn: Turn, rule: Rule, send: Send, facts: Properties) -> Outlook:
    """Return what the limits make of a ``send``, and the first fallback they would let through instead."""
    verdict = judge(turn, rule, send, facts)
    if verdict.reason is None or not _falls_back(rule, verdict):
        return Outlook(send, verdict)
    passing = (one for one in send.fallback if judge(turn, rule, one, facts).reason is None)
    return Outlook(send, verdict, next(passing, None))


def _falls_back(rule: Rule, verdict: Verdict) -> bool:
    """A dropped action takes no fallback with it; every other obstacle leaves the fallback its chance."""
    quiet = rule.limits.quiet_hours
    dropped = verdict.reason in {Reason.QUIET_HOURS, Reason.ZONE_UNKNOWN} and quiet is not None
    return not (dropped and quiet is not None and quiet.then is QuietThen.DROP)


def deliver(turn: Turn, rule: Rule, send: Send, sender: Sender, reason: Reason) -> int | None:
    """Emit the action, its fallback, or nothing; return until when it is deferred, or None when it is settled."""
    outlook = outlook_of(turn, rule, send, sender.facts)
    verdict = outlook.verdict
    if verdict.reason is None:
        _emit(turn, rule, send, sender, reason)
        return None
    outcome = Outcome.BLOCKED if verdict.until_ms is None else Outcome.DEFERRED
    turn.record(
        rule,
        sender.run,
        outcome,
        verdict.reason,
        step=send.step,
        cause=sender.cause,
        variant=sender.variant,
        action_id=_id_of(turn, rule, send, sender),
        **verdict.detail,
    )
    if outlook.fallback is not None:
        _emit(turn, rule, outlook.fallback, sender, Reason.FALLBACK)
    return verdict.until_ms


def _id_of(turn: Turn, rule: Rule, send: Send, sender: Sender) -> str:
    return action_id(turn.rulebook.workspace, turn.customer_id, sender.run, rule.id, send.step, sender.cause)


def record_missing(
    turn: Turn, rule: Rule, sender: Sender, step: str, template: str, missing: MissingTemplateValue
) -> None:
    """Record that a step came to nothing because its text needs a value that is not there."""
    turn.record(
        rule,
        sender.run,
        Outcome.BLOCKED,
        Reason.TEMPLATE_VALUE_MISSING,
        step=step,
        cause=sender.cause,
        variant=sender.variant,
        template=template,
        variable=str(missing),
    )


def _emit(turn: Turn, rule: Rule, send: Send, sender: Sender, reason: Reason) -> None:
    try:
        action = _action(turn, rule, send, sender, reason)
    except MissingTemplateValue as missing:
        record_missing(turn, rule, sender, send.step, send.template.name, missing)
        return
    counters = counters_of(turn, rule, send)
    reserve(turn, counters)
    expect(turn, action, counters, purposes(rule, send), _standbys(turn, rule, send, action))
    turn.actions.append(action)
    turn.record(
        rule,
        sender.run,
        Outcome.SENT,
        reason,
        step=send.step,
        action_id=action.id,
        variant=sender.variant,
        cause=sender.cause,
        connector=send.connector,
    )


def _action(turn: Turn, rule: Rule, send: Send, sender: Sender, reason: Reason) -> Action:
    """Return the action of a ``send``; raises ``MissingTemplateValue``."""
    view = turn.view(sender.facts, sender.run)
    run = turn.state.runs.get(sender.run)
    seen = view.template_facts(rule.journey)
    seen["customer"] = customer_facts(turn.state, sender.facts, turn.now_ms)
    return Action(
        id=_id_of(turn, rule, send, sender),
        customer_id=turn.customer_id,
        connector=send.connector,
        kind=send.kind,
        params=send.template.render(seen),
        rule=rule.id,
        rulebook_version=turn.rulebook.version,
        journey=rule.journey,
        run=sender.run,
        stage="" if run is None else run.stage,
        step=send.step,
        variant=sender.variant,
        priority=send.priority,
        decided_at=turn.now_ms,
        not_before=turn.now_ms,
        deadline_at=None if send.deadline_ms is None else turn.now_ms + send.deadline_ms,
        fallback=tuple(_fallbacks(turn, rule, send, sender)),
        reason=reason.value,
        quiet_hours=_quiet_window(turn, rule, send, sender.facts),
        workspace=turn.rulebook.workspace,
        fallback_on_unknown=send.fallback_on_unknown,
    )


def _fallbacks(turn: Turn, rule: Rule, send: Send, sender: Sender) -> list[Action]:
    """Return what the dispatcher may send instead when the action cannot be delivered: whatever has consent."""
    actions: list[Action] = []
    for one in send.fallback:
        if judge_consent(turn.state, rule, one) is not None:
            continue
        try:
            actions.append(_action(turn, rule, one, sender, Reason.FALLBACK))
        except MissingTemplateValue:
            # A fallback that cannot be rendered is no fallback; the next one may be.
            continue
    return actions


def _standbys(turn: Turn, rule: Rule, send: Send, action: Action) -> list[Standby]:
    """Return the fallbacks that went out with an action, each before those that stand behind it."""
    sends = {one.step: one for one in send.fallback}
    standbys: list[Standby] = []
    on_unknown = send.fallback_on_unknown
    for one in action.fallback:
        own = sends[one.step]
        counted = counters_of(turn, rule, own)
        consent = list(purposes(rule, own))
        standbys.append(Standby(one.id, one.kind, counted, consent, on_unknown=on_unknown))
        on_unknown = on_unknown or own.fallback_on_unknown
        standbys += _standbys(turn, rule, own, one)
    return standbys


def emitted_by(turn: Turn, rule: Rule, run: str, cause: str) -> set[str]:
    """Return the ids of all actions that a play of ``rule`` can have emitted, fallbacks included.

    A play that was brought along from another id of the customer emitted under that id.
    """
    sends = [step for step in rule.program if isinstance(step, Send)]
    for send in sends:
        sends += send.fallback  # The list grows while it is read, so fallbacks of fallbacks are found as well.
    return {
        action_id(turn.rulebook.workspace, customer, run, rule.id, send.step, cause)
        for send in sends
        for customer in (turn.customer_id, *turn.state.aliases)
    }


def _quiet_window(turn: Turn, rule: Rule, send: Send, facts: Properties) -> QuietWindow | None:
    quiet = rule.limits.quiet_hours
    if quiet is None or not quiet.holds_for(send.kind):
        return None
    zones = zones_of(turn.state, quiet.zone, facts)
    return QuietWindow(quiet.start_min, quiet.end_min, zones[0].key) if zones else None
