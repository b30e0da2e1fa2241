"""Receipts: what became of an emitted action, and taking one back that is no longer wanted.

A receipt that names a ``fallback`` says that the dispatcher sends that action in the first one's place. The fallback is
then what is pending: the first one's reservations are released and the fallback counts against the limits of its own
kind, as of the receipt, since it is the one that reaches the customer. A cap that is used up does not stop it; the
dispatcher has it already.

A receipt that is not ``certain`` says that the action may have arrived. What it had reserved stays reserved, so that
nobody is contacted more often than the limits say. When it turns out later that the action has arrived, because its
delivery is told of after all or its provider reports of it, what has not left yet is taken back: its repetition, and a
fallback that took its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from orchestrator.core import channel
from orchestrator.core.action import Action
from orchestrator.core.event import (
    ACTION_CANCEL_TOO_LATE,
    ACTION_CANCELLED,
    ACTION_DELIVERED,
    ARRIVALS,
    RECEIPTS,
    Event,
)
from orchestrator.core.limit import release, reserve
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.state import PENDING_MAX, CustomerState, Pending, Standby
from orchestrator.core.turn import Turn
from orchestrator.core.view import Properties

#: How long an action without a deadline is watched for its receipt.
PENDING_MS = 7 * 86_400_000
#: How long an action that arrived is remembered, so that what comes of it finds the run that sent it.
OUTCOME_MS = 7 * 86_400_000


def expect(
    turn: Turn, action: Action, counted: list[str], consent: tuple[str, ...], standbys: Sequence[Standby] = ()
) -> None:
    """Remember an emitted action; beyond the ceiling the oldest that has arrived is forgotten, else the oldest."""
    pending = turn.state.pending
    for done in [one for one, entry in pending.items() if entry.until <= turn.now_ms]:
        del pending[done]
    while len(pending) >= PENDING_MAX:
        del pending[next((one for one, entry in pending.items() if entry.delivered), next(iter(pending)))]
    until = max(action.deadline_at or 0, turn.now_ms) + PENDING_MS
    pending[action.id] = Pending(
        action.rule,
        action.run,
        action.decided_at,
        until,
        counted,
        list(consent),
        kind=action.kind,
        standbys=list(standbys),
    )


def receipt_properties(action: Action, detail: str = "") -> dict[str, Any]:
    """Return the properties that every receipt of an action has; ``detail`` says for people what came of it."""
    return {
        "action_id": action.id,
        "connector": action.connector,
        "kind": action.kind,
        "rule": action.rule,
        "journey": action.journey,
        "detail": detail,
        "reference": "",
        "attempts": 0,
    }


def settle(turn: Turn, event: Event) -> None:
    """Apply a receipt, or a provider's report that an action has arrived.

    A delivery is noted, a failure releases what was reserved or hands on to the fallback.
    """
    action_id = event.properties.get("action_id") if event.type in _TELLING else None
    if not isinstance(action_id, str):
        return
    if event.type in ARRIVALS:
        _take_back_substitutes(turn, action_id)
    if event.type in RECEIPTS:
        _apply(turn, event, action_id)
    else:
        _take_back_repetition(turn, action_id)


_TELLING = RECEIPTS | ARRIVALS


def _apply(turn: Turn, event: Event, action_id: str) -> None:
    entry = _pending(turn, action_id)
    if entry is None:
        return
    rule = turn.rulebook.rules.get(entry.rule)
    if event.type in _REACHED:
        watched = turn.now_ms + max(rule.lateness_ms if rule else 0, OUTCOME_MS)
        turn.state.pending[action_id] = _reached(entry, watched)
        asked_for = entry.withdrawn or not entry.delivered  # Its repetition alone was taken back otherwise.
        if rule and event.type == ACTION_CANCEL_TOO_LATE and asked_for:
            turn.record(rule, entry.run, Outcome.NOTED, Reason.TOO_LATE, action_id=action_id)
        return
    fallback = event.properties.get("fallback")
    # Receipts of before that say nothing of it were taken for certain when they were written.
    certain = event.properties.get("certain") is not False
    if isinstance(fallback, str) and fallback:
        _hand_on(turn, action_id, entry, fallback, certain=certain)
    else:
        _forget(turn, action_id, entry, certain=certain)
    if rule and event.type != ACTION_CANCELLED:
        told: dict[str, Any] = {"receipt": event.type} if certain else {"receipt": event.type, "certain": False}
        turn.record(rule, entry.run, Outcome.NOTED, Reason.EXECUTION_FAILED, action_id=action_id, **told)


def _reached(entry: Pending, until: int) -> Pending:
    """Return what is kept of an action that arrived: as much as a late event or an outcome may ask for."""
    return Pending(
        entry.rule, entry.run, decided_at=0, until=until, counted=[], delivered=True, withdrawn=entry.withdrawn
    )


_REACHED = frozenset({ACTION_DELIVERED, ACTION_CANCEL_TOO_LATE})


def _pending(turn: Turn, action_id: str) -> Pending | None:
    """Return what is pending under an id; a fallback's own receipt may precede the one that hands on to it."""
    for first, entry in list(turn.state.pending.items()) if action_id not in turn.state.pending else ():
        standby = next((one for one in entry.standbys if one.id == action_id), None)
        if standby is not None:
            _hand_on(turn, first, entry, action_id, certain=not standby.on_unknown)
    return turn.state.pending.get(action_id)


def sender_of(state: CustomerState, properties: Properties) -> str:
    """Return the run that sent the action which an event names by its id; '' when it names none that is known."""
    action_id = properties.get("action_id")
    if action_id.__class__ is not str:
        return ""
    entry = state.pending.get(action_id)
    if entry is None:
        entry = next((one for one in state.pending.values() if any(action_id == own.id for own in one.standbys)), None)
    return "" if entry is None else entry.run


def _take_back_repetition(turn: Turn, action_id: str) -> None:
    """Take back a pending action that its provider reports of: the dispatcher may be about to try it again.

    Its fallbacks stay known, for the dispatcher may have given it up already.
    """
    entry = turn.state.pending.get(action_id)
    if entry is None or entry.delivered:
        return
    turn.state.pending[action_id] = msgspec.structs.replace(entry, delivered=True, counted=[])
    if not entry.withdrawn:
        turn.actions.append(_cancellation(turn, action_id, entry, Reason.ARRIVED_LATE))


def _take_back_substitutes(turn: Turn, action_id: str) -> None:
    """Take back what is sent in place of an action that has arrived."""
    for substitute, entry in list(turn.state.pending.items()):
        if action_id not in entry.instead_of or entry.delivered or entry.withdrawn:
            continue
        turn.state.pending[substitute] = msgspec.structs.replace(entry, withdrawn=True)
        turn.actions.append(_cancellation(turn, substitute, entry, Reason.ARRIVED_LATE))
        if rule := turn.rulebook.rules.get(entry.rule):
            turn.record(rule, entry.run, Outcome.WITHDRAWN, Reason.ARRIVED_LATE, action_id=substitute)


def _forget(turn: Turn, action_id: str, entry: Pending, *, certain: bool) -> None:
    if certain:
        release(turn.state, entry.counted, entry.decided_at)
    del turn.state.pending[action_id]


def _hand_on(turn: Turn, action_id: str, entry: Pending, fallback: str, *, certain: bool) -> None:
    """Let the fallback take the place of an action that could not be delivered, or of which that is not ``certain``."""
    _forget(turn, action_id, entry, certain=certain)
    place = next((place for place, one in enumerate(entry.standbys) if one.id == fallback), None)
    # Of an action that an earlier release emitted it is only known that something takes its place.
    standby = Standby(fallback, "", entry.counted, entry.consent) if place is None else entry.standbys[place]
    if standby.withdrawn:
        return
    reserve(turn, standby.counted)
    turn.state.pending[fallback] = msgspec.structs.replace(
        entry,
        decided_at=turn.now_ms,
        counted=standby.counted,
        consent=standby.consent,
        delivered=False,
        withdrawn=entry.withdrawn or entry.delivered,
        kind=standby.kind,
        standbys=[] if place is None else entry.standbys[place + 1 :],
        instead_of=[*entry.instead_of, action_id],
    )
    if entry.withdrawn:
        # The withdrawal came after the dispatcher had given the action up, and found nothing to take the fallback by.
        turn.actions.append(_cancellation(turn, fallback, entry, Reason.FALLBACK))
    elif entry.delivered:
        turn.actions.append(_cancellation(turn, fallback, entry, Reason.ARRIVED_LATE))


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


def withdraw_refused(turn: Turn, refused: Collection[str]) -> None:
    """Take back every pending action that needs one of the consents in ``refused``, and fallbacks that do.

    The dispatcher keeps in mind that a fallback was withdrawn before it was queued, and never sends it.
    """
    withdraw(turn, lambda _, entry: channel.needed(entry.kind, entry.consent, refused), Reason.CONSENT_WITHDRAWN)
    for action_id, entry in list(turn.state.pending.items()):
        unwanted = [
            one for one in entry.standbys if not one.withdrawn and channel.needed(one.kind, one.consent, refused)
        ]
        if entry.withdrawn or not unwanted:
            continue
        turn.state.pending[action_id] = msgspec.structs.replace(
            entry,
            standbys=[
                msgspec.structs.replace(one, withdrawn=True) if one in unwanted else one for one in entry.standbys
            ],
        )
        for one in unwanted:
            turn.actions.append(_cancellation(turn, one.id, entry, Reason.CONSENT_WITHDRAWN))
            if rule := turn.rulebook.rules.get(entry.rule):
                turn.record(rule, entry.run, Outcome.WITHDRAWN, Reason.CONSENT_WITHDRAWN, action_id=one.id)


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
