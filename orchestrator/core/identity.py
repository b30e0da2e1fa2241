"""Identity: one customer known by two ids becomes one, through the log, since the two may live on different partitions.

1. The known customer, on ``alias`` or on ``identify`` with an anonymous id, asks: ``merge_requested``, an event of
   the anonymous id.
2. The anonymous customer hands over: its whole state travels in ``profile_merged``, an event of the known id. What
   stays is a tombstone that forwards whatever comes later under the same event id.
3. The known customer absorbs the state.

Every event's id follows from what brought it about, so a step that is repeated is known by its id and changes nothing.
A state is absorbed only from an id that was asked for, so that what was erased meanwhile does not come back. Two that
ask for each other agree without talking: the lesser id stays.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import blake2b
from typing import Any

import msgspec

from orchestrator.core import union
from orchestrator.core.decision import Decision, DecisionRecord
from orchestrator.core.event import ALIAS, CUSTOMER_ERASED, IDENTIFY, MERGE_REQUESTED, PROFILE_MERGED, Event
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw_refused
from orchestrator.core.seen import with_mark
from orchestrator.core.state import ALIASES_MAX, CustomerState, decode_state, encode_state
from orchestrator.core.turn import Turn, forked


def ask(turn: Turn, event: Event) -> list[Event]:
    """Return the request that an event makes for another id of the same customer, if it makes one for the first time.

    Remembers the other id among the customer's aliases; of more than ``ALIASES_MAX`` the oldest is forgotten.
    """
    other = _other_id(event)
    if not other or other == turn.customer_id or other in turn.state.aliases:
        return []
    turn.state.aliases = [*turn.state.aliases[-ALIASES_MAX + 1 :], other]
    return [_event(MERGE_REQUESTED, other, turn, event.id, {"into": turn.customer_id})]


def _other_id(event: Event) -> str:
    if event.type == ALIAS:
        other = event.properties.get("previous_id")
    elif event.type == IDENTIFY:
        other = event.context.get("anonymous_id")
    else:
        return ""
    return other if isinstance(other, str) else ""


def hand_over(turn: Turn, event: Event) -> Decision:
    """Answer a request: the state goes to the id that asked, a tombstone stays."""
    state, into = turn.state, event.properties.get("into")
    if not isinstance(into, str) or into in {"", turn.customer_id}:
        return Decision(state, [], [])
    if into in state.aliases and turn.customer_id < into:
        return Decision(state, [], [])
    tombstone = CustomerState(
        clock_ms=state.clock_ms, seen=state.seen, erased_at_ms=state.erased_at_ms, merged_into=into
    )
    if not state.first_seen_ms:
        return Decision(tombstone, [], [_line(turn, into=into)])
    carried = b64encode(encode_state(state)).decode()
    merged = _event(PROFILE_MERGED, into, turn, event.id, {"previous_id": turn.customer_id, "state": carried})
    return Decision(tombstone, [], [_line(turn, into=into)], events=[merged])


def absorb(turn: Turn, event: Event) -> Decision:
    """Unite the customer with a state that was asked for (see ``union``); of one that was not, nothing is taken."""
    previous_id, carried = event.properties.get("previous_id"), event.properties.get("state")
    if previous_id not in turn.state.aliases or not isinstance(carried, str):
        return Decision(turn.state, [], [])
    refused = union.unite(turn, decode_state(b64decode(carried)))
    if refused:
        withdraw_refused(turn, refused)
    turn.records.append(_line(turn, previous_id=previous_id))
    turn.traits_changed = True
    return Decision(turn.state, turn.actions, turn.records)


def forward(state: CustomerState, event: Event, customer_id: str, mark: bytes) -> Decision:
    """Answer for a customer who has been merged: whatever is about them is about the customer they are now.

    A profile that comes after all changes hands once more: the next one has asked for this id, not for the first.
    """
    fork = forked(state)
    fork.seen = with_mark(fork.seen, mark)
    if event.type == MERGE_REQUESTED:
        return Decision(fork, [], [])
    properties = event.properties
    if event.type == PROFILE_MERGED:
        properties = {**properties, "previous_id": customer_id}
    onward = msgspec.structs.replace(event, customer_id=state.merged_into, properties=properties)
    return Decision(fork, [], [], events=[onward])


def erasures(turn: Turn, event: Event) -> list[Event]:
    """Return the erasures that an erasure entails: of every id the customer was known by, and of whom they are now.

    ``of`` names the ids that an erasure comes from, so that it goes to each of them once.
    """
    named = event.properties.get("of")
    known = [*(named if isinstance(named, list) else ()), turn.customer_id]
    others = [other for other in (*turn.state.aliases, turn.state.merged_into) if other and other not in known]
    return [_event(CUSTOMER_ERASED, other, turn, event.id, {"of": [*known, *others]}) for other in others]


def _event(event_type: str, customer_id: str, turn: Turn, cause: str, properties: dict[str, Any]) -> Event:
    identity = "\x1f".join((turn.rulebook.workspace, event_type, turn.customer_id, customer_id, cause))
    return Event(
        id=f"{event_type}:{blake2b(identity.encode(), digest_size=16).hexdigest()}",
        type=event_type,
        customer_id=customer_id,
        occurred_at_ms=turn.now_ms,
        received_at_ms=turn.now_ms,
        properties=properties,
        source="identity",
    )


def _line(turn: Turn, **detail: Any) -> DecisionRecord:
    return DecisionRecord(
        customer_id=turn.customer_id,
        at=turn.now_ms,
        rule="",
        outcome=Outcome.NOTED,
        reason=Reason.MERGED,
        cause=turn.cause,
        rulebook_version=turn.rulebook.version,
        detail=detail,
    )
