"""Everything the engine remembers about one customer: one value, loaded and written as a whole.

Encoded as positional msgpack, so fields are only ever appended. Timers live here and nowhere else; a
store keeps only the earliest one per customer as an index. Every collection has a ceiling.

Nothing here can be part of a cycle, so Python's collector of cycles need not know of it: with thousands of states in
memory it would take a third of the worker's time.
"""

from __future__ import annotations

from typing import Any

import msgspec

from orchestrator.errors import StateUnreadable

RUNS_PER_JOURNEY_MAX = 32
INSTANCES_MAX = 64
FIRINGS_MAX = 4
PENDING_MAX = 32
STAMPS_MAX = 1_000
TRIALS_MAX = 32
BIDS_MAX = 32
ALIASES_MAX = 500


class Run(msgspec.Struct, array_like=True, gc=False):
    """One customer's passage through one journey."""

    stage: str
    started_at: int  # event time
    entered_at: int  # event time of the current stage
    ended_at: int = 0  # 0 while open
    visited: list[str] = []
    since: int = 0  # event time from which on it may have begun; what happened before is of the run before it
    placed: bool = False  # a clock or a play put it into its stage, so that no late event tells of an earlier entry


class Firing(msgspec.Struct, array_like=True, gc=False):
    """An absence that has fired, as long as a late event may take it back."""

    armed_at: int  # event time of the arming event
    timer: str  # id of the timer that fired
    actions: list[str]  # actions that it emitted


class Arm(msgspec.Struct, array_like=True, gc=False):
    """An absence that is being watched: armed by one event, prevented by another."""

    armed_at: int  # event time of the arming event; 0 when only a preventing event is known
    cause: str  # id of the arming event
    prevented_at: int = 0  # latest event time of the preventing event
    due_at: int = 0
    facts: dict[str, Any] = {}  # captured properties of the arming event
    actions: list[str] = []  # actions that its firing emitted and that may still be withdrawn
    run: str = ""
    fired_by: str = ""  # id of the timer that fired; '' while armed
    earlier: list[Firing] = []  # firings before the latest arming, oldest first


class Play(msgspec.Struct, array_like=True, gc=False):
    """A rule's program that has not ended: waiting for a moment, an event, or the end of quiet hours."""

    rule: str
    version: str
    run: str
    pc: int
    cause: str  # id of the event or timer that started it
    started_at: int
    facts: dict[str, Any] = {}  # captured properties of the starting event
    variant: str = ""
    deferred: bool = False  # an action is held back at ``pc`` and will be re-validated
    visits: int = 0
    step: str = ""  # id of the step at ``pc``, by which a play finds its place in another version
    triggered_at: int = 0  # event time of what started it; 0 of plays that an earlier release started


class Standby(msgspec.Struct, array_like=True, gc=False):
    """A fallback that the dispatcher sends in place of an action when that one cannot be delivered."""

    id: str
    kind: str
    counted: list[str]  # limit counters that it will count against
    consent: list[str] = []
    withdrawn: bool = False  # taken back before it was needed
    on_unknown: bool = False  # sent also when nobody knows whether the action arrived


class Pending(msgspec.Struct, array_like=True, gc=False):
    """An action that was emitted and has no final receipt yet, or was delivered and a late event may tell of it."""

    rule: str
    run: str
    decided_at: int
    until: int  # forget it after this moment
    counted: list[str]  # limit counters that hold a reservation for it
    consent: list[str] = []
    delivered: bool = False
    withdrawn: bool = False  # taken back; the receipt decides whether in time
    kind: str = ""
    standbys: list[Standby] = []  # in the order in which they are tried
    instead_of: list[str] = []  # the actions that it is sent in place of, the first one first


class Trial(msgspec.Struct, array_like=True, gc=False):
    """An action whose success is still open (see ``trial``)."""

    rule: str
    run: str
    action: str
    segment: str


class Bid(msgspec.Struct, array_like=True, gc=False):
    """A candidate that waits for the decision window of its slot to close."""

    rule: str
    run: str
    cause: str
    facts: dict[str, Any]


class CustomerState(msgspec.Struct, array_like=True, gc=False):
    """The state machine of one customer. ``clock_ms`` is log time, ``frontier_ms`` the newest event time."""

    clock_ms: int = 0
    frontier_ms: int = 0
    first_seen_ms: int = 0
    seen: bytes = b""  # marks of the latest event ids (see ``seen``)
    traits: dict[str, tuple[Any, int]] = {}  # value and the event time that set it
    consents: dict[str, tuple[bool, int]] = {}
    runs: dict[str, Run] = {}  # "journey/key"
    aggregates: dict[str, list[Any]] = {}
    arms: dict[str, Arm] = {}  # "absence/key"
    plays: dict[str, Play] = {}  # "rule/run"
    timers: dict[str, int] = {}  # timer id -> due
    sent: dict[str, list[int]] = {}  # limit counter -> stamps
    pending: dict[str, Pending] = {}  # action id
    trials: dict[str, Trial] = {}  # "rule|run"
    bids: dict[str, list[Bid]] = {}  # slot
    erased_at_ms: int = 0  # log time of the latest erasure; what happened until then is forgotten
    merged_into: str = ""  # the id that the customer goes by now; '' unless this one is only a tombstone
    aliases: list[str] = []  # other ids of the customer that are one with this one, also of a tombstone
    edition: int = 0  # of the rulebook that runs and their clocks were last brought up to
    known: bool | None = None  # by itself, not only as anonymous; None: nothing has said yet (see ``identity``)
    named_at_ms: int = 0  # log time of the latest ``alias`` to this id
    asked: list[str] = []  # ids that were asked to join this one
    seen_days: list[int] = []  # how old the marks in ``seen`` are (see ``seen``)

    def next_wake_ms(self) -> int | None:
        """Return when the earliest timer is due, or None."""
        return min(self.timers.values()) if self.timers else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CustomerState)


def encode_state(state: CustomerState) -> bytes:
    """Return the stored form of a state."""
    return _encoder.encode(state)


def decode_state(stored: bytes | None) -> CustomerState:
    """Return the state in ``stored``; a customer never seen has the empty state. Raises ``StateUnreadable``."""
    if stored is None:
        return CustomerState()
    try:
        return _decoder.decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateUnreadable(
            f"A stored state cannot be read ({error}): another version of the engine wrote it. "
            "Start that one, or start with an empty store."
        ) from error
