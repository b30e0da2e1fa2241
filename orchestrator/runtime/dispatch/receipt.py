"""Receipts and dead letters: how the outcome of an action goes back into the log."""

from __future__ import annotations

from typing import Any

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.event import (
    ACTION_CANCELLED,
    ACTION_DELIVERED,
    ACTION_EXPIRED,
    ACTION_FAILED,
)
from orchestrator.runtime.dispatch.attempt import MARKS, attempts_of
from orchestrator.runtime.dispatch.step import Outcome, Settle
from orchestrator.runtime.ports import DEAD_LETTERS, EVENTS, LedgerEntry, Outgoing, Queued

#: ``origin`` of dead letters and ``source`` of receipts.
DISPATCHER = "dispatcher"

EVENT_TYPES = {
    Outcome.DELIVERED: ACTION_DELIVERED,
    Outcome.FAILED: ACTION_FAILED,
    Outcome.EXPIRED: ACTION_EXPIRED,
    Outcome.CANCELLED: ACTION_CANCELLED,
    Outcome.DROPPED: ACTION_FAILED,  # To a rule both mean: do not count on it having arrived.
}


def record_key(workspace: str, customer_id: str) -> bytes:
    """Return the record key of a customer: the bare id in the workspace ``default``, else prefixed with it."""
    return (customer_id if workspace == "default" else f"{workspace}:{customer_id}").encode()


def receipt_event(
    action: Action,
    *,
    event_type: str,
    at_ms: int,
    detail: str = "",
    reference: str = "",
    attempts: int = 0,
) -> Outgoing:
    """Return the event that tells the customer's journeys about an action.

    Its id is made of the action's id and the type, so a receipt that is written twice is applied once.
    """
    event = {
        "id": f"{action.id}:{event_type}",
        "type": event_type,
        "customer_id": action.customer_id,
        "occurred_at": at_ms,
        "properties": {
            "action_id": action.id,
            "connector": action.connector,
            "kind": action.kind,
            "rule": action.rule,
            "journey": action.journey,
            "detail": detail,
            "reference": reference,
            "attempts": attempts,
        },
        "source": DISPATCHER,
    }
    key = record_key(action.workspace, action.customer_id)
    return Outgoing(topic=EVENTS, key=key, value=msgspec.json.encode(event))


def settled_event(action: Action, queued: Queued, word: Settle, at_ms: int) -> Outgoing:
    """Return the receipt of a settlement."""
    return receipt_event(
        action,
        event_type=EVENT_TYPES[word.outcome],
        at_ms=at_ms,
        detail=": ".join(filter(None, (word.cause.value, word.detail))),
        reference=word.reference,
        attempts=queued.attempts,
    )


def dead_letter(action: Action, queued: Queued, word: Settle, at_ms: int) -> Outgoing:
    """Return the dead letter of an action that was given up, with everything that was tried."""
    letter = {
        "origin": DISPATCHER,
        "reason": word.cause.value,
        "detail": word.detail,
        "action": msgspec.to_builtins(action),
        "history": _readable(queued.history),
        "at": at_ms,
    }
    key = record_key(action.workspace, action.customer_id)
    return Outgoing(topic=DEAD_LETTERS, key=key, value=msgspec.json.encode(letter))


def ledger_entry(action: Action, queued: Queued, word: Settle, at_ms: int) -> LedgerEntry:
    """Return the ledger's entry of a settlement.

    A failed or dropped action is kept whole, so that it can be sent again; one that gave way to its fallback
    names it, so that withdrawing the one withdraws the other.
    """
    detail: dict[str, Any] = {"cause": word.cause.value, "attempts": queued.attempts}
    if word.detail:
        detail["detail"] = word.detail
    if word.reference:
        detail["reference"] = word.reference
    if word.falls_back and action.fallback:
        detail["fallback"] = action.fallback[0].id
    if word.outcome in {Outcome.FAILED, Outcome.DROPPED}:
        detail["action"] = msgspec.to_builtins(action)
    return LedgerEntry(id=action.id, connector=action.connector, outcome=word.outcome.value, at_ms=at_ms, detail=detail)


def _readable(history: tuple[str, ...]) -> list[Any]:
    return [line if line in MARKS else msgspec.to_builtins(attempts_of([line])[0]) for line in history]
