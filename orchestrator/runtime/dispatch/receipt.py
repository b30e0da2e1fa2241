"""Receipts and dead letters: how the outcome of an action goes back into the log."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from connectors.protocol import Finding
from orchestrator.core.action import Action
from orchestrator.core.event import (
    ACTION_CANCELLED,
    ACTION_DELIVERED,
    ACTION_EXPIRED,
    ACTION_FAILED,
    ACTION_SCHEDULED,
)
from orchestrator.core.receipt import receipt_properties
from orchestrator.runtime.dispatch.attempt import attempts_of, in_doubt, is_mark
from orchestrator.runtime.dispatch.queue import GIVEN_UP
from orchestrator.runtime.dispatch.step import Outcome, Settle, gives_way
from orchestrator.runtime.ports import DEAD_LETTERS, ENGINE, EVENTS, LedgerEntry, Outgoing, Queued

_encoder = msgspec.json.Encoder()
_NO_MORE: Mapping[str, Any] = MappingProxyType({})

#: ``origin`` of dead letters and ``source`` of receipts.
DISPATCHER = "dispatcher"

#: As much of what the other side said as goes into an event.
SAID_CHARS_MAX = 1_000

_EVENT_TYPES = {
    Outcome.DELIVERED.value: ACTION_DELIVERED,
    Outcome.FAILED.value: ACTION_FAILED,
    Outcome.EXPIRED.value: ACTION_EXPIRED,
    Outcome.CANCELLED.value: ACTION_CANCELLED,
    Outcome.DROPPED.value: ACTION_FAILED,  # To a rule both mean: do not count on it having arrived.
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
    more: Mapping[str, Any] = _NO_MORE,
) -> Outgoing:
    """Return the event that tells the customer's journeys about an action.

    Its id is made of the action's id and the type, so a receipt that is written twice is applied once. ``more`` adds
    to the properties or replaces them.
    """
    event = {
        "id": f"{action.id}:{event_type}",
        "type": event_type,
        "customer_id": action.customer_id,
        "occurred_at": at_ms,
        "properties": receipt_properties(action, _said(detail)) | dict(more),
        "source": DISPATCHER,
    }
    return _event(action, event)


def scheduled_event(action: Action, *, slot_at_ms: int, at_ms: int) -> Outgoing:
    """Return the event that tells the customer's journeys when an action will be carried out.

    Its id names the slot as well: an action that has to move to another slot tells of it again.
    """
    event = {
        "id": f"{action.id}:{ACTION_SCHEDULED}:{slot_at_ms}",
        "type": ACTION_SCHEDULED,
        "customer_id": action.customer_id,
        "occurred_at": at_ms,
        "properties": {
            "action_id": action.id,
            "slot_at": slot_at_ms,
            "connector": action.connector,
            "kind": action.kind,
            "rule": action.rule,
            "journey": action.journey,
        },
        "source": DISPATCHER,
    }
    return _event(action, event)


def _said(text: str) -> str:
    """Return what the other side said, so that it makes a receipt that is taken in whatever it was."""
    return text[:SAID_CHARS_MAX].encode("utf-8", "replace").decode()


def _event(action: Action, event: dict[str, Any]) -> Outgoing:
    key = record_key(action.workspace, action.customer_id)
    return Outgoing(topic=EVENTS, key=key, value=_encoder.encode(event), producer=ENGINE)


def settled_event(action: Action, queued: Queued, word: Settle, at_ms: int) -> Outgoing:
    """Return the receipt of a settlement; ``fallback`` names the action that takes the place of this one.

    ``certain`` of one that was not delivered says whether that is certain, or an attempt may have arrived.
    """
    more: dict[str, Any] = {"reference": _said(word.reference), "attempts": queued.attempts}
    if word.outcome is not Outcome.DELIVERED:
        more["certain"] = not in_doubt(queued.history)
    if gives_way(action, queued.history, word):
        more["fallback"] = action.fallback[0].id
    return receipt_event(
        action,
        event_type=_EVENT_TYPES[word.outcome.value],
        at_ms=at_ms,
        detail=f"{word.cause.value}: {word.detail}" if word.detail else word.cause.value,
        more=more,
    )


def finding_event(action: Action, finding: Finding, at_ms: int) -> Outgoing:
    """Return the event that closes the channel for the customer: what a callback would report, learned at the send.

    Its id is made of the action's id and the type, so one that is written twice is applied once.
    """
    properties: dict[str, Any] = {"action_id": action.id, "connector": action.connector, "kind": action.kind}
    found = {"reason": finding.reason, "error_code": finding.error_code, "purposes": list(finding.purposes)}
    event = {
        "id": f"{action.id}:{finding.type.value}",
        "type": finding.type.value,
        "customer_id": action.customer_id,
        "occurred_at": at_ms,
        "properties": properties | {name: value for name, value in found.items() if value},
        "source": f"connector:{action.connector}",
    }
    return _event(action, event)


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
    names it, so that withdrawing the one withdraws the other. ``group`` is kept for sending again. ``certain`` is
    there, and false, when the action may have arrived all the same.
    """
    detail: dict[str, Any] = {"cause": word.cause.value, "attempts": queued.attempts}
    if word.detail:
        detail["detail"] = word.detail
    if word.reference:
        detail["reference"] = word.reference
    if word.outcome is not Outcome.DELIVERED and in_doubt(queued.history):
        detail["certain"] = False
    if gives_way(action, queued.history, word):
        detail["fallback"] = action.fallback[0].id
    if word.outcome is Outcome.FAILED or word.outcome is Outcome.DROPPED:
        if queued.group:
            detail["group"] = queued.group
        detail["action"] = msgspec.to_builtins(action)
    return LedgerEntry(id=action.id, connector=action.connector, outcome=word.outcome.value, at_ms=at_ms, detail=detail)


def _readable(history: tuple[str, ...]) -> list[Any]:
    lines = [line for line in history if not line.startswith(GIVEN_UP)]  # It says what the letter says.
    return [line if is_mark(line) else msgspec.to_builtins(attempts_of([line])[0]) for line in lines]
