"""Receipts: what became of an emitted action, and taking one back that is no longer wanted."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.event import ACTION_CANCEL_TOO_LATE, ACTION_CANCELLED, ACTION_DELIVERED, RECEIPTS, Event
from orchestrator.core.limit import release
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.state import PENDING_MAX, Pending
from orchestrator.core.turn import Turn

#: How long an action without a deadline is watched for its receipt.
PENDING_MS = 7 * 86_400_000


def expect(turn: Turn, action: Action, counted: list[str], consent: tuple[str, ...]) -> None:
    """Remember an emitted action until its receipt; the oldest is forgotten beyond the ceiling."""
    pending = turn.state.pending
    for done in [one for one, entry in pending.items() if entry.until <= turn.now_ms]:
        del pending[done]
    while len(pending) >= PENDING_MAX:
        del pending[next(iter(pending))]
    until = max(action.deadline_at or 0, turn.now_ms) + PENDING_MS
    pending[action.id] = Pending(action.rule, action.run, action.decided_at, until, counted, list(consent))


def settle(turn: Turn, event: Event) -> None:
    """Apply a receipt: a delivery is noted, a failure releases what the action had reserved."""
    if event.type not in RECEIPTS:
        return
    action_id = event.properties.get("action_id")
    entry = turn.state.pending.get(action_id) if isinstance(action_id, str) else None
    if entry is None or not isinstance(action_id, str):
        return
    rule = turn.rulebook.rules.get(entry.rule)
    if event.type in _REACHED:
        watched = turn.now_ms + (rule.lateness_ms if rule else 0)
        turn.state.pending[action_id] = msgspec.structs.replace(entry, delivered=True, until=watched)
        if rule and event.type == ACTION_CANCEL_TOO_LATE:
            turn.record(rule, entry.run, Outcome.NOTED, Reason.TOO_LATE, action_id=action_id)
        return
    release(turn.state, entry.counted, entry.decided_at)
    del turn.state.pending[action_id]
    if rule and event.type != ACTION_CANCELLED:
        turn.record(rule, entry.run, Outcome.NOTED, Reason.EXECUTION_FAILED, action_id=action_id, receipt=event.type)


_REACHED = frozenset({ACTION_DELIVERED, ACTION_CANCEL_TOO_LATE})


def withdraw(turn: Turn, wanted: Callable[[str, Pending], bool], reason: Reason) -> None:
    """Take back every pending action that ``wanted`` picks.

    Its reservations stay until the dispatcher's receipt says that it was in time. For a late event, an action
    that is known to be delivered is recorded as too late.
    """
    for action_id, entry in list(turn.state.pending.items()):
        if entry.withdrawn or not wanted(action_id, entry):
            continue
        rule = turn.rulebook.rules.get(entry.rule)
        if entry.delivered:
            if rule and reason is Reason.LATE_EVENT:
                turn.record(rule, entry.run, Outcome.NOTED, Reason.TOO_LATE, action_id=action_id)
            continue
        turn.state.pending[action_id] = msgspec.structs.replace(entry, withdrawn=True)
        turn.actions.append(_cancellation(turn, action_id, entry, reason))
        if rule:
            turn.record(rule, entry.run, Outcome.WITHDRAWN, reason, action_id=action_id)


def _cancellation(turn: Turn, action_id: str, entry: Pending, reason: Reason) -> Action:
    return Action(
        id=action_id,
        customer_id=turn.customer_id,
        rule=entry.rule,
        run=entry.run,
        decided_at=turn.now_ms,
        rulebook_version=turn.rulebook.version,
        reason=reason.value,
        workspace=turn.rulebook.workspace,
        cancel=True,
    )
