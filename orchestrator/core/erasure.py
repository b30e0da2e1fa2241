"""Erasure: forgetting a customer so that nothing that happened before brings them back.

It is an event like any other, ``customer_erased``, so it has its place in the log: whatever was accepted before it is
forgotten, whatever happens after it begins a new, empty customer. What stays of the old one is a tombstone, the log
time of the erasure. Events that happened at or before that moment change nothing, however late they arrive, and
neither do receipts of actions that were decided before it. What a provider reports of a delivery begins no customer
either, unless it is that they no longer want to be written to.
"""

from __future__ import annotations

from orchestrator.core import identity
from orchestrator.core.decision import Decision, DecisionRecord
from orchestrator.core.event import (
    ACTION_SCHEDULED,
    CUSTOMER_ERASED,
    MERGE_REQUESTED,
    OUTCOMES,
    RECEIPTS,
    UNSUBSCRIBED,
    Event,
)
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw
from orchestrator.core.seen import latest
from orchestrator.core.state import CustomerState
from orchestrator.core.turn import Turn


def is_forgotten(state: CustomerState, event: Event) -> bool:
    """Return whether an event belongs to the past that was erased.

    An erasure itself never does, and a request of another id is answered in any case.
    """
    if not state.erased_at_ms or event.type in _ANSWERED:
        return False
    if event.occurred_at_ms <= state.erased_at_ms:
        return True
    if state.merged_into:
        return False
    if begins_nobody(event) and not state.first_seen_ms:
        return True
    return event.type in RECEIPTS and event.properties.get("action_id") not in state.pending


_ANSWERED = frozenset({CUSTOMER_ERASED, MERGE_REQUESTED})
_REPORTS = (OUTCOMES | {ACTION_SCHEDULED}) - {UNSUBSCRIBED}


def begins_nobody(event: Event) -> bool:
    """Return whether an event only reports what became of an action, so that nobody is known by it alone."""
    return event.type in _REPORTS and "action_id" in event.properties


def erase(turn: Turn, event: Event) -> Decision:
    """Take back what is under way and leave a tombstone; the customer's other ids are erased as well.

    An erasure that comes from another id is passed on unless the two are one. Actions that were not delivered are
    withdrawn; everything else ends without a word. The ledger gets one line, which names nothing but the customer and
    the moment.
    """
    if not identity.concerns(turn.state, event):
        return identity.pass_on(turn, event)
    withdraw(turn, lambda _action, _entry: True, Reason.ERASED)
    turn.records = [
        DecisionRecord(
            customer_id=turn.customer_id,
            at=turn.now_ms,
            rule="",
            outcome=Outcome.NOTED,
            reason=Reason.ERASED,
            cause=turn.cause,
            rulebook_version=turn.rulebook.version,
        )
    ]
    # What one erasure entails is of one moment, wherever it arrives and however slow the clock there is.
    erased_at_ms = max(turn.now_ms, event.occurred_at_ms) if "by" in event.properties else turn.now_ms
    tombstone = CustomerState(clock_ms=turn.now_ms, seen=latest(turn.state.seen), erased_at_ms=erased_at_ms)
    return Decision(tombstone, turn.actions, turn.records, events=identity.erasures(turn, event, erased_at_ms))
