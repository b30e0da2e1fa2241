"""Ports: what the runtime needs from the world, and what it may rely on.

Every adapter of a port passes the same contract suite (``tests/contract``). All methods may block on I/O, all
raise ``StoreUnavailable`` or ``LogUnavailable`` (retriable) when a dependency does not answer, and all may be
repeated after such an error: a repeated call has the effect of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

# ------------------------------------------------------------------------------------------------- topics

EVENTS = "journey.events"
ACTIONS = "journey.actions"
DECISIONS = "journey.decisions"
RULEBOOKS = "journey.rulebooks"
DEAD_LETTERS = "journey.dead-letters"


#: Who a record is from, where that is no key of the gateway: no key's name begins with a bracket.
ENGINE = "(engine)"
ANONYMOUS = "(anonymous)"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of a log. ``stamp_ms`` was given by the log when it took the record.

    ``producer`` is whom the record is from, as ``Outgoing`` says it, '' where nobody said it.
    """

    partition: int
    offset: int
    stamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    producer: str = ""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One record to publish. Records of one key keep their order.

    ``producer`` says whom an event is from: the name of the key that it was sent with, ``ANONYMOUS`` at a gateway
    without keys, ``ENGINE`` for what this software has to say. Whoever sends an event cannot choose it.
    """

    topic: str
    key: bytes
    value: bytes
    producer: str = ""


class EventLog(Protocol):
    """Takes records durably: the gateway appends events, the runtime actions, decisions and dead letters."""

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return only after the log has acknowledged every record durably (all in-sync replicas, or fsync).

        Whoever reads a record finds its ``producer`` in it.
        After ``LogUnavailable`` some of the records may be in the log: appending again may repeat them.
        """
        ...


# -------------------------------------------------------------------------------------------------- state


class Ownership(msgspec.Struct, frozen=True):
    """What a new owner of a partition finds.

    ``next_offset`` is the offset of record (None: the partition has never been processed), ``sequence`` the number
    of the last commit, ``clock_ms`` the partition's clock, ``log_id`` the identity of the log that the offset
    belongs to ('' when never set), ``outbox_end`` the number of the last outbox entry ever written.
    """

    epoch: int
    next_offset: int | None
    sequence: int
    clock_ms: int
    log_id: str
    outbox_end: int = 0


class Wake(msgspec.Struct, frozen=True):
    """A customer whose earliest timer is due at ``due_ms``."""

    due_ms: int
    customer_id: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One atomic write (P1). ``states`` with None deletes; ``wakes`` with None removes from the index.

    ``sequence`` is the previous commit's plus one: a store that has already applied it answers success
    and changes nothing, so a commit whose answer was lost may be repeated. Stores keep topic, key and value of an
    outbox record; its ``producer`` is the engine, and whoever publishes it says so.
    """

    epoch: int
    sequence: int
    next_offset: int
    clock_ms: int
    log_id: str = ""
    states: Mapping[str, bytes | None]
    wakes: Mapping[str, int | None]
    outbox: Sequence[Outgoing]


class OutboxEntry(msgspec.Struct, frozen=True):
    """A record that was decided and may not have been published yet; numbered without gaps per partition."""

    number: int
    record: Outgoing


class StateStore(Protocol):
    """Keeps customer states, wake index, outbox and offset of record, per partition of ``journey.events``."""

    async def acquire(self, partition: int) -> Ownership:
        """Take the partition: from now on writes under any earlier epoch raise ``Fenced``."""
        ...

    async def load(self, partition: int, customer_ids: Sequence[str]) -> list[bytes | None]:
        """Return the stored states in the order asked, None for customers never seen. Any epoch may read."""
        ...

    def scan(self, partition: int) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Yield all customers of the partition with their stored states, some at a time, in no order.

        Customers that are written meanwhile come in some state of theirs, those that come to be or go may be missing,
        and one may come twice. For counting, not for deciding.
        """
        ...

    async def due(self, partition: int, until_ms: int, limit: int) -> list[Wake]:
        """Return the earliest wakes with ``due_ms <= until_ms``, ordered by (due_ms, customer_id)."""
        ...

    async def next_wake_ms(self, partition: int) -> int | None:
        """Return the earliest wake of the partition, or None."""
        ...

    async def commit(self, partition: int, commit: Commit) -> None:
        """Write everything or nothing. Raise ``Fenced`` when a later epoch exists or an earlier commit is missing."""
        ...

    async def outbox(self, partition: int) -> list[OutboxEntry]:
        """Return what has not been trimmed, in order."""
        ...

    async def trim(self, partition: int, epoch: int, through: int) -> None:
        """Forget outbox entries up to number ``through`` (P3). Raise ``Fenced`` when a later epoch exists."""
        ...


# ------------------------------------------------------------------------------------------ dispatch queue


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """An action in a connector's queue. ``body`` is the encoded Action; moments are epoch milliseconds.

    ``group`` is the part of the connector's capacity that it needs (a voice connector's agent group), '' when it
    has no parts.
    """

    id: str
    connector: str
    priority: int
    not_before: int
    deadline_at: int | None
    body: bytes
    attempts: int = 0
    history: tuple[str, ...] = ()
    group: str = ""


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a ``put``: ids already known (ledger or queue) are not queued again."""

    queued: int
    known: int


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What all dispatchers together may have under way for one connector, and how fast they may begin.

    ``slots`` bounds what is claimed or held at once over the whole connector, ``group_slots`` the same per group; a
    group that is not named has only ``slots``. At most ``rate_max`` claims begin in any ``rate_per_s`` seconds (None:
    no such limit): a tenth of it may begin at once, the rest flows evenly, and a queue that has never been
    claimed from starts with room for one and earns the rest (``dispatch/rate.py``).
    """

    slots: int
    group_slots: Mapping[str, int] = {}
    rate_max: int | None = None
    rate_per_s: float = 1.0


class Noted(Enum):
    """What became of a ``note``: it was written, or the action was withdrawn while it was claimed, or is gone."""

    WRITTEN = "written"
    WITHDRAWN = "withdrawn"
    GONE = "gone"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim brought, and when another one may bring something.

    ``again_at_ms`` is the first moment at which it could, if nobody puts, settles, gives back or releases anything
    until then: now when only ``limit`` ended this claim, else the next readiness, end of a lease or of a hold, or
    token of the rate. None when time alone brings nothing, as with an empty queue.
    """

    actions: list[Queued]
    again_at_ms: int | None


class GroupLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The load of one group: ``queued`` counts the unclaimed (waiting and ready), ``busy`` the claimed and held.

    ``oldest_ready_at_ms`` is since when the longest waiting of the ready ones has been ready, None without any.
    """

    queued: int = 0
    ready: int = 0
    busy: int = 0
    oldest_ready_at_ms: int | None = None


class Occupancy(msgspec.Struct, frozen=True):
    """The load of a connector's groups; a group that has none may be missing."""

    groups: Mapping[str, GroupLoad] = {}

    @property
    def queued(self) -> int:
        """How many actions nobody has claimed."""
        return sum(one.queued for one in self.groups.values())

    @property
    def busy(self) -> int:
        """How many slots are taken, by claims and holds."""
        return sum(one.busy for one in self.groups.values())


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The last word about an action id: ``delivered``, ``failed``, ``expired``, ``cancelled`` or ``dropped``."""

    id: str
    connector: str
    outcome: str
    at_ms: int
    detail: dict[str, Any] = {}


class DispatchQueue(Protocol):
    """A durable priority queue per connector with leases, its quota, and the idempotency ledger beside it.

    A claimed action is invisible until its lease ends; a dispatcher that dies gives it back by silence. The
    ledger remembers settled ids for at least seven days. Slots, rate and bookings are facts of the queue: they hold
    over all processes that claim, and outlive them.
    """

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled. Atomic per action."""
        ...

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Remove unclaimed actions from the queue, settle them as cancelled, free their bookings and return their ids.

        What is claimed, may have arrived, or has nothing but its receipt still to be written (``is_kept``) is marked
        and stays: whoever claims it next settles it by what its history says. An id that is not known yet is remembered
        as cancelled, so that a later ``put`` does not queue it.
        """
        ...

    async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Claim:
        """Lease up to ``limit`` actions whose ``not_before`` has come, as far as the quota allows, in one atomic step.

        Highest priority first, then the earliest deadline, then whoever has been ready longest; actions of a group
        whose slots are all taken are passed over. Each takes a slot until it is settled, given back or its lease
        ends, and a token of the rate. A lease of the connector that ends more than two spans from now is
        shortened to one: it was taken by a clock that ran ahead, and would keep its slot while that clock was wrong.
        """
        ...

    async def settle(self, entry: LedgerEntry, *, hold_until_ms: int | None = None, unspent: bool = False) -> None:
        """Take the action out of the queue, write its ledger entry and free its booking.

        With ``hold_until_ms`` a claimed action keeps its slot until then or until ``release``: a telephone line is
        busy for the call, not for the request. It does not when the release came first. ``unspent`` gives the
        token of the rate back, because nothing was sent.
        """
        ...

    async def retry(self, queued: Queued, at_ms: int, *, unspent: bool = False) -> None:
        """Give a claimed action back, with its new ``attempts``, ``history`` and ``group``, not before ``at_ms``.

        Its slot is free at once; ``unspent`` gives the token of the rate back as well, because nothing was sent.
        """
        ...

    async def note(self, queued: Queued) -> Noted:
        """Write the ``attempts`` and the ``history`` of a claimed action down, and leave it claimed.

        Nothing is written of one that was withdrawn while it was claimed, or settled by another.
        """
        ...

    async def release(self, action_id: str) -> bool:
        """Free the slot that a settled action holds; return whether there was one.

        For an action that is still claimed, it is remembered that its settlement is to hold nothing (True too).
        """
        ...

    async def book(
        self, connector: str, group: str, action_id: str, starts: Sequence[int], per_slot: int
    ) -> int | None:
        """Book the first of ``starts`` (epoch ms) that fewer than ``per_slot`` others of the group have booked.

        Returns it, or None when all are full. An id that has a booking gets the same answer again, whatever the
        starts. Withdrawing or settling the id frees the booking; a settled id is given the first start and books
        nothing, for a ``put`` will tell that it is known. A day after its start a booking is forgotten.
        """
        ...

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue actions again that the ledger holds as one of ``REDRIVABLE``, and return their ids.

        Their ledger entries are forgotten. Actions that are still queued, or whose last word is another by now (one
        may have been withdrawn since the caller looked), are left alone; unknown ones are queued, since they may have
        outlived the ledger.
        """
        ...

    async def ledger(self, action_ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the settled entries of the ids, in the order asked."""
        ...

    async def recent(self, limit: int) -> list[LedgerEntry]:
        """Return the latest settled entries, newest first."""
        ...

    async def occupancy(self, connector: str, now_ms: int) -> Occupancy:
        """Return the load of the connector per group. Its cost grows with the groups, not with the actions."""
        ...

    async def ahead(self, connector: str, group: str, priority: int, now_ms: int) -> int:
        """Return how many ready actions of the group a new one of ``priority`` would find before it.

        Those of the same priority count as before it, whatever their deadlines: for estimating a wait.
        """
        ...


# --------------------------------------------------------------------------------------------------- time


class Clock(Protocol):
    """The wall clock, in one place. Decisions never read it; the edges of the system do."""

    def now_ms(self) -> int:
        """Return the present as epoch milliseconds, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller for ``seconds``."""
        ...


class LogReader(Protocol):
    """Reads a topic from stored records, for dispatchers, backtests and look-ups."""

    def read(self, topic: str, partition: int, offset: int) -> AsyncIterator[list[Record]]:
        """Yield batches of records from ``offset`` on, waiting for new ones for ever."""
        ...
