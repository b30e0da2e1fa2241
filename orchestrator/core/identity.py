"""Identity: one person known by several ids becomes one customer, through the log, since ids live on many partitions.

Every id is a node of a forest. An id that has joined another keeps a tombstone that forwards whatever comes to it; the
id at the end of the forwarding is the customer. Each step is decided by one id from its own state and one event:

1. An id that an ``alias``, or an ``identify`` with an anonymous id, names as the customer's asks the other:
   ``merge_requested``, which tombstones forward to whom that one is now.
2. Who is asked compares ranks. The lower joins the higher: its whole state travels in ``profile_merged``, a tombstone
   stays. If the lower is who asked, it is asked in turn.
3. The higher takes the state in (see ``union``).

A rank never falls and ids only join higher ones, so no chain of tombstones closes to a ring, however requests meet; and
every request ends with both ids in one tree. The rank of an id: known by itself before anonymous; then by the latest
``alias`` to it; then the lesser id. (The order is what makes concurrent unions safe without locks: Jayanti and Tarjan,
"Concurrent disjoint set union", 2021.)

An id is *known by itself* from the first event on that names it as a person's own: an ``alias`` to it, an
``identify`` of it, any event that names an anonymous id beside it, or one whose ``context.user_id`` it is (Segment's
``userId``). An event whose ``context.anonymous_id`` is its own customer says nothing of that kind. An id that is known
by itself joins another only by an ``alias`` that somebody vouches for (``Event.granted``), so that whoever may send
events cannot take people over.

Every request is answered, by the profile or by ``merge_refused`` with the reason, and the ledgers of both ids have the
line. All events of a merge are dated by the log's moment of the first request, so that an erasure after it holds for
them wherever they are. Each id's follows from what brought it about, so a step that is repeated changes nothing.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import blake2b
from typing import Any

import msgspec

from orchestrator.core import union
from orchestrator.core.decision import Decision, DecisionRecord
from orchestrator.core.event import (
    ALIAS,
    CUSTOMER_ERASED,
    IDENTIFY,
    MERGE_REFUSED,
    MERGE_REQUESTED,
    PROFILE_MERGED,
    Event,
)
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw_refused
from orchestrator.core.state import ALIASES_MAX, CustomerState, decode_state, encode_state
from orchestrator.core.turn import Turn

#: The largest state that is handed over. In Base64, with its envelope, it makes a record that every log takes.
CARRIED_BYTES_MAX = 660_000

#: Events that one moment goes with, from the first request or erasure on.
_DATED_BY_REQUEST = frozenset({MERGE_REQUESTED, PROFILE_MERGED, MERGE_REFUSED, CUSTOMER_ERASED})

#: An ``identify`` never takes over who is known by themselves, whoever sends it: browsers send it without being asked.
_VOUCHED_FOR = frozenset({ALIAS, MERGE_REQUESTED})

#: Why two ids stay two customers.
KNOWN = "known"  # who was asked is known by itself, and nobody vouches
TOO_LARGE = "too_large"  # the state that would have to travel
TOO_MANY = "too_many"  # ids of one customer
FORGOTTEN = "erased"  # who was asked has been erased since


# ------------------------------------------------------------------------------------------------- who is known


def note_standing(state: CustomerState, event: Event) -> None:
    """Note whether an id is known by itself, as far as its event tells. Comes before anything else of the event."""
    if state.known is None:
        # A state from before this was noted: whoever was identified, or has asked for others, counts as known.
        state.known = bool(state.first_seen_ms and (state.traits or state.aliases))
    state.known = state.known or _names_itself(event)


def _names_itself(event: Event) -> bool:
    if event.type == ALIAS:
        return True
    anonymous_id = event.context.get("anonymous_id")
    if anonymous_id == event.customer_id:
        return False
    return event.type == IDENTIFY or bool(anonymous_id) or event.context.get("user_id") == event.customer_id


# --------------------------------------------------------------------------------------------------- who asks


def ask(turn: Turn, event: Event) -> list[Event]:
    """Return the request that an event makes for another id of the same customer, unless that one has joined already.

    An ``identify`` does not ask again while it waits for the answer.
    """
    state, other = turn.state, named_by(event)
    if event.type == ALIAS:
        state.named_at_ms = turn.now_ms
    if not other or other == turn.customer_id or other in state.aliases:
        return []
    if other in state.asked:
        if event.type == IDENTIFY:
            return []
    elif not _has_room(state):
        turn.records.append(_line(turn, Reason.MERGE_REFUSED, previous_id=other, why=TOO_MANY))
        return []
    else:
        state.asked = [*state.asked, other]
    return [_request(turn, other, event, turn.now_ms, in_turn=False)]


def named_by(event: Event) -> str:
    """Return the other id of the customer that an event names, '' when it names none."""
    if event.type == ALIAS:
        other = event.properties.get("previous_id")
    elif event.type == IDENTIFY:
        other = event.context.get("anonymous_id")
    else:
        return ""
    return other if isinstance(other, str) else ""


def _has_room(state: CustomerState) -> bool:
    return len(state.aliases) + len(state.asked) < ALIASES_MAX


def _request(turn: Turn, other: str, cause: Event, asked_at_ms: int, *, in_turn: bool) -> Event:
    """Return the request of the turn's customer to ``other``, with the rank that it has now."""
    properties = {
        "into": turn.customer_id,
        "asked": other,
        "in_turn": in_turn,
        "known": bool(turn.state.known),
        "named_at": turn.state.named_at_ms,
    }
    return _event(MERGE_REQUESTED, other, turn, cause, asked_at_ms, properties)


# ---------------------------------------------------------------------------------------------- who is asked


def hand_over(turn: Turn, event: Event) -> Decision:
    """Answer a request: join the id that asks, ask it to join this one, or refuse."""
    state, into = turn.state, event.properties.get("into")
    if not isinstance(into, str) or into in {"", turn.customer_id}:
        return Decision(state, [], [])
    if event.occurred_at_ms <= state.erased_at_ms:
        return _refuse(turn, event, into, FORGOTTEN)
    if into in state.aliases and not event.properties.get("in_turn"):
        return Decision(state, [], [])
    note_standing(state, event)
    if state.known and not event.granted:
        return _refuse(turn, event, into, KNOWN)
    if not _is_below(turn, event, into):
        return _ask_in_turn(turn, event, into)
    carried = encode_state(state)
    if len(carried) > CARRIED_BYTES_MAX:
        return _refuse(turn, event, into, TOO_LARGE)
    return _join(turn, event, into, carried)


def _is_below(turn: Turn, event: Event, into: str) -> bool:
    """Return whether the turn's customer ranks lower than who asks. A request of an older release has no rank in it."""
    own = (bool(turn.state.known), turn.state.named_at_ms)
    known, named_at = event.properties.get("known", True), event.properties.get("named_at", event.occurred_at_ms)
    return turn.customer_id > into if own == (known, named_at) else own < (known, named_at)


def _join(turn: Turn, event: Event, into: str, carried: bytes) -> Decision:
    state = turn.state
    tombstone = CustomerState(
        clock_ms=state.clock_ms,
        seen=state.seen,
        seen_days=state.seen_days,
        erased_at_ms=state.erased_at_ms,
        merged_into=into,
        aliases=state.aliases,
        asked=state.asked,
    )
    properties = {"previous_id": turn.customer_id, "state": b64encode(carried).decode()}
    merged = _event(PROFILE_MERGED, into, turn, event, event.occurred_at_ms, properties)
    return Decision(tombstone, [], [_merged_line(turn, event, state, into=into)], events=[merged])


def _ask_in_turn(turn: Turn, event: Event, into: str) -> Decision:
    state = turn.state
    if into not in state.aliases:
        if not _has_room(state):
            return _refuse(turn, event, into, TOO_MANY)
        # Both are one from here on: an erasure of either erases the other, although the profile is still to come.
        state.aliases = [*state.aliases, into]
    request = _request(turn, into, event, event.occurred_at_ms, in_turn=True)
    return Decision(state, [], [], events=[request])


def _refuse(turn: Turn, event: Event, into: str, why: str) -> Decision:
    asked, in_turn = event.properties.get("asked", turn.customer_id), event.properties.get("in_turn", False)
    properties = {"previous_id": asked, "in_turn": in_turn, "why": why}
    refused = _event(MERGE_REFUSED, into, turn, event, event.occurred_at_ms, properties)
    return Decision(turn.state, [], [_line(turn, Reason.MERGE_REFUSED, into=into, why=why)], events=[refused])


# --------------------------------------------------------------------------------------------- who is answered


def absorb(turn: Turn, event: Event) -> Decision:
    """Unite the customer with the state of an id that has joined it (see ``union``)."""
    state, previous_id = turn.state, event.properties["previous_id"]
    other = decode_state(b64decode(event.properties["state"]))
    refused = union.unite(turn, other)
    if refused:
        withdraw_refused(turn, refused)
    state.asked = [one for one in state.asked if one not in {previous_id, turn.customer_id}]
    state.aliases = [one for one in state.aliases if one != turn.customer_id]
    if not event.via and previous_id not in state.aliases:
        state.aliases = [*state.aliases, previous_id]
    else:
        state.aliases = union.with_room(state.aliases, [previous_id])
    turn.records.append(_merged_line(turn, event, other, previous_id=previous_id))
    turn.traits_changed = True
    return Decision(state, turn.actions, turn.records)


def be_refused(turn: Turn, event: Event) -> Decision:
    """Take in that an id does not join this one: it may be asked again, and is none of this customer's until then."""
    state, previous_id = turn.state, event.properties.get("previous_id")
    if event.properties.get("in_turn"):
        state.aliases = [one for one in state.aliases if one != previous_id]
    else:
        state.asked = [one for one in state.asked if one != previous_id]
    line = _line(turn, Reason.MERGE_REFUSED, previous_id=previous_id, why=event.properties.get("why"))
    return Decision(state, [], [line])


# ------------------------------------------------------------------------------------------------- tombstones


def forward(turn: Turn, event: Event) -> Decision:
    """Answer for a customer who has been merged: whatever is about them is about the customer they are now."""
    state = turn.state
    if event.type == PROFILE_MERGED and event.properties["previous_id"] not in state.aliases:
        # Who joins this id is one with it, whoever the customer is by now.
        state.aliases = [*state.aliases, event.properties["previous_id"]]
    if event.type == MERGE_REQUESTED and event.occurred_at_ms <= state.erased_at_ms:
        return hand_over(turn, event)
    # An event that is dated ahead was accepted at this moment, and must be so by a log whose clock is behind.
    at_ms = event.occurred_at_ms if event.type in _DATED_BY_REQUEST else turn.at_ms
    via = event.via or turn.customer_id
    onward = msgspec.structs.replace(event, customer_id=state.merged_into, occurred_at_ms=at_ms, via=via)
    return Decision(state, [], [], events=[onward])


def pass_on(turn: Turn, event: Event) -> Decision:
    """Answer an erasure of another id that is not one with this one: it may be one with whom this one has joined."""
    if turn.state.merged_into and event.occurred_at_ms > turn.state.erased_at_ms:
        return forward(turn, event)
    return Decision(turn.state, [], [])


# --------------------------------------------------------------------------------------------------- erasure


def concerns(state: CustomerState, event: Event) -> bool:
    """Return whether an erasure is for this id: one that was asked for is, one of another id only if they are one.

    What was erased by it already is not erased again, since a new customer may have begun.
    """
    by = event.properties.get("by")
    if by is None:
        return True
    return event.occurred_at_ms > state.erased_at_ms and (by == state.merged_into or by in state.aliases)


def erasures(turn: Turn, event: Event, erased_at_ms: int) -> list[Event]:
    """Return the erasures that an erasure entails: of every id that is one with the customer, or was asked to be."""
    properties = {"by": turn.customer_id}
    state, known = turn.state, {turn.customer_id, event.properties.get("by"), ""}
    others = dict.fromkeys([state.merged_into, *state.aliases, *state.asked])
    moment_ms = event.occurred_at_ms if "by" in event.properties else erased_at_ms
    return [
        _event(CUSTOMER_ERASED, other, turn, event, moment_ms, properties) for other in others if other not in known
    ]


# ---------------------------------------------------------------------------------------------------- details


def _event(
    event_type: str, customer_id: str, turn: Turn, cause: Event, at_ms: int, properties: dict[str, Any]
) -> Event:
    """Return an event that ``cause`` brings about; of a merge, with whoever vouches for it."""
    identity = "\x1f".join((turn.rulebook.workspace, event_type, turn.customer_id, customer_id, cause.id))
    return Event(
        id=f"{event_type}:{blake2b(identity.encode(), digest_size=16).hexdigest()}",
        type=event_type,
        customer_id=customer_id,
        occurred_at_ms=at_ms,
        received_at_ms=turn.now_ms,
        properties=properties,
        source="identity",
        granted=cause.granted if cause.type in _VOUCHED_FOR else "",
    )


def _merged_line(turn: Turn, event: Event, joined: CustomerState, **detail: Any) -> DecisionRecord:
    """Return the line of a merge. Who vouched for it stands there when both were known by themselves."""
    if joined.known:
        detail["granted"] = event.granted
    return _line(turn, Reason.MERGED, **detail)


def _line(turn: Turn, reason: Reason, **detail: Any) -> DecisionRecord:
    return DecisionRecord(
        customer_id=turn.customer_id,
        at=turn.now_ms,
        rule="",
        outcome=Outcome.NOTED,
        reason=reason,
        cause=turn.cause,
        rulebook_version=turn.rulebook.version,
        detail=detail,
    )
