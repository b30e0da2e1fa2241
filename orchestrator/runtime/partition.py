"""A partition: its owner, its clock and the commit protocol (see "Delivery" in the README).

    decide  ->  P1 one atomic write: states, wakes, outbox, next offset, guarded by the epoch
            ->  P2 publish the outbox, every acknowledgement awaited
            ->  P3 trim the outbox

A crash between any two of these repeats at most a publication, under the same ids. Whatever is unavailable is
waited for; nothing is skipped.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import msgspec

from orchestrator import metrics
from orchestrator.core.event import Event
from orchestrator.core.propensity import Arm, BetaBernoulli
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.errors import EventRefused, Unavailable
from orchestrator.runtime.intake import DeadLetter, encode_dead_letter, encode_event
from orchestrator.runtime.intake.admission import UNKNOWN_CUSTOMER
from orchestrator.runtime.ports import (
    ACTIONS,
    DEAD_LETTERS,
    DECISIONS,
    ENGINE,
    EVENTS,
    Commit,
    Outgoing,
    Record,
    Wake,
)
from orchestrator.runtime.producers import Refused
from orchestrator.runtime.sequencer import Failure, Sequencer
from orchestrator.runtime.sequencer import Outcome as Decided
from orchestrator.runtime.surroundings import Surroundings, check_position

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Customers' states by id.
States = Mapping[str, CustomerState]

#: Timers that are fetched, and at least fired, per commit.
WAKES_MAX = 1_000
#: After so long without a commit an empty one asks the store whether it still holds the last: one that lost power may
#: have stepped back behind it, and with nothing to do nobody else would notice.
_IDLE_COMMIT_MS = 10_000
_RETRY_FIRST_S = 0.05
_RETRY_MAX_S = 2.0

#: Where a partition's learned propensities are kept among its states; no customer's id begins with NUL.
MODEL = "\x00propensity"

_encode_action = msgspec.json.Encoder().encode
_encode_arms = msgspec.msgpack.Encoder().encode
_decode_arms = msgspec.msgpack.Decoder(dict[str, Arm]).decode


class Partition:
    """One owned partition. Its methods must not run at the same time; ``worker.Worker`` sees to that."""

    def __init__(self, number: int, surroundings: Surroundings) -> None:
        self.number = number
        self._in = surroundings
        # Encoded: objects that lie all over memory take longer to reach than to decode, and ten times the room.
        self._warm: dict[str, bytes] = {}
        self._model = BetaBernoulli()
        self._epoch = 0
        self._sequence = 0
        self._committed_at_ms = 0
        self._outbox_end = 0
        self._next_offset = 0
        self._clock_ms = 0
        self._log_id = ""
        self._next_wake_ms: int | None = None

    @property
    def next_offset(self) -> int:
        """The offset of the first record that has not been applied."""
        return self._next_offset

    # ------------------------------------------------------------------------------------- ownership

    async def acquire(self) -> int:
        """Take ownership; publish what a predecessor left in the outbox; return the offset to read from.

        Raises ``PositionLost`` when the log is not the one that the stored offset belongs to.
        """
        store = self._in.store
        own = await self._persist("store", lambda: store.acquire(self.number))
        extent = await self._persist("log", lambda: self._in.extents.extent(self.number))
        check_position(self.number, own.next_offset, own.log_id, extent)
        self._epoch, self._sequence, self._clock_ms = own.epoch, own.sequence, own.clock_ms
        self._outbox_end = own.outbox_end
        self._next_offset = extent.first if own.next_offset is None else own.next_offset
        self._log_id = extent.log_id
        left = await self._persist("store", lambda: store.outbox(self.number))
        if left:
            await self._publish([entry.record for entry in left])
            await self._persist("store", lambda: store.trim(self.number, self._epoch, left[-1].number))
        self._next_wake_ms = await self._persist("store", lambda: store.next_wake_ms(self.number))
        self._committed_at_ms = self._in.clock.now_ms()
        stored = await self._persist("store", lambda: store.load(self.number, [MODEL]))
        self._model = BetaBernoulli({} if stored[0] is None else _decode_arms(stored[0]))
        log.info(
            "partition %d: epoch %d, from offset %d, %d records published from the outbox",
            self.number,
            self._epoch,
            self._next_offset,
            len(left),
        )
        return self._next_offset

    # ------------------------------------------------------------------------------------ processing

    async def process(self, records: Sequence[Record]) -> None:
        """Apply records; return when everything they brought about is durable and published.

        Records below the offset of record are skipped: they have been applied. Those that are refused become dead
        letters, however many there are: what one producer sends never stops another's. Raises ``Fenced`` when another
        process owns the partition.
        """
        fresh = [record for record in records if record.offset >= self._next_offset]
        if not fresh:
            return
        batch = _Batch(next_offset=fresh[-1].offset + 1)
        keys = self._in.intake.keys
        senders: list[str] = []
        refusals: list[Refused] = []
        for record in fresh:
            if keys.shared and keys.foreign(record.key):
                metrics.RECORDS_FOREIGN.inc()
                continue
            senders.append(record.producer)
            try:
                events = self._in.intake.events_from_record(record)
                batch.stimuli += [(record.stamp_ms, record.offset, event) for event in events]
            except EventRefused as refused:
                batch.letters.append((record.offset, _letter(refused, record, offset=record.offset)))
                refusals.append(Refused(record.producer, self.number, record.offset, refused))
        self._in.producers.note(self._in.clock.now_ms(), senders, refusals)
        metrics.BATCH_EVENTS.observe(len(fresh))
        await self._run(batch, max(record.stamp_ms for record in fresh))

    async def advance(self, caught_up_at_ms: int | None) -> None:
        """Fire what is due by the partition's clock.

        ``caught_up_at_ms`` is the latest moment at which the log is known to have been read to its end; it moves the
        clock, less a grace for records in flight. None leaves the clock at the last record's stamp.
        """
        now_ms = self._in.clock.now_ms()
        if caught_up_at_ms is not None:
            self._clock_ms = max(self._clock_ms, caught_up_at_ms - self._in.grace_ms)
        metrics.PARTITION_CLOCK_LAG.labels(str(self.number)).set(max(0, now_ms - self._clock_ms) / 1000)
        self._in.producers.settle(now_ms)
        due = self._next_wake_ms is not None and self._next_wake_ms <= self._clock_ms
        # A clock that was set back has passed the last commit already, for hours perhaps.
        idle = not 0 <= now_ms - self._committed_at_ms < _IDLE_COMMIT_MS
        if due or idle:
            await self._run(_Batch(self._next_offset), self._clock_ms)

    async def _run(self, batch: _Batch, until_ms: int) -> None:
        """Decide a batch and the timers up to ``until_ms`` in log order, in as many commits as the timers need.

        Every commit's offset is the first that is not wholly in it, so that a crash between two repeats nothing.
        """
        until_ms = max(until_ms, self._clock_ms)
        while True:
            wakes = await self._due(until_ms)
            partial = len(wakes) == WAKES_MAX
            clock_ms = wakes[-1].due_ms if partial else until_ms
            chunk = batch.taken(clock_ms if partial else None)
            outcome, states = await self._decide(chunk, wakes, wakes[-1] if partial else None, clock_ms)
            await self._commit(outcome, states, clock_ms, batch.reached, batch.letters_taken())
            if not partial:
                return

    async def _due(self, until_ms: int) -> list[Wake]:
        if self._next_wake_ms is None or self._next_wake_ms > until_ms:
            return []
        return await self._persist("store", lambda: self._in.store.due(self.number, until_ms, WAKES_MAX))

    async def _decide(
        self, chunk: Sequence[tuple[int, Event]], wakes: Sequence[Wake], last: Wake | None, clock_ms: int
    ) -> tuple[Decided, dict[str, CustomerState]]:
        """Decide the chunk, and the timers up to the wake ``last`` (None: all that are due by ``clock_ms``).

        Returns what was decided and the states of all customers concerned.
        """
        needed = dict.fromkeys([event.customer_id for _, event in chunk])
        needed.update(dict.fromkeys(wake.customer_id for wake in wakes))
        states = await self._load(list(needed))
        sequencer = Sequencer(self._in.rulebooks.current, states, lambda customer_id: self._model)
        # What follows the last wake in (due, customer) order is not in memory; NUL makes the least text after it.
        end = (clock_ms + 1, "") if last is None else (last.due_ms, last.customer_id + "\0")
        sequencer.expect(((wake.due_ms, wake.customer_id) for wake in wakes), end)
        for stamp_ms, event in chunk:
            sequencer.apply(event, stamp_ms)
        sequencer.advance(clock_ms)
        return sequencer.outcome, states

    async def _load(self, customer_ids: list[str]) -> dict[str, CustomerState]:
        """Return the customers' states, from memory where they are warm."""
        warm = self._warm
        states = {one: decode_state(warm[one]) for one in customer_ids if one in warm}
        if len(states) < len(customer_ids):
            cold = [one for one in customer_ids if one not in warm]
            stored = await self._persist("store", lambda: self._in.store.load(self.number, cold))
            states.update((one, decode_state(value)) for one, value in zip(cold, stored, strict=True))
        return states

    # --------------------------------------------------------------------------------- the protocol

    async def _commit(
        self,
        outcome: Decided,
        states: States,
        clock_ms: int,
        next_offset: int,
        letters: Sequence[Outgoing],
    ) -> None:
        """P1, P2, P3."""
        outbox = [*self._outgoing(outcome), *letters]
        encoded = {customer_id: encode_state(states[customer_id]) for customer_id in outcome.touched}
        wakes = {
            customer_id: wake
            for customer_id, before in outcome.touched.items()
            if (wake := states[customer_id].next_wake_ms()) != before
        }
        commit = Commit(
            epoch=self._epoch,
            sequence=self._sequence + 1,
            next_offset=next_offset,
            clock_ms=clock_ms,
            log_id=self._log_id,
            states={**encoded, MODEL: _encode_arms(self._model.arms)} if outcome.lessons else encoded,
            wakes=wakes,
            outbox=outbox,
        )
        with metrics.COMMIT_SECONDS.time():
            await self._persist("store", lambda: self._in.store.commit(self.number, commit))
        self._sequence += 1
        self._committed_at_ms = self._in.clock.now_ms()
        self._outbox_end += len(outbox)
        self._next_offset = next_offset
        self._clock_ms = max(self._clock_ms, clock_ms)
        if outbox:
            await self._deliver(outbox)
        await self._note_wakes(wakes)
        self._count(outcome)
        self._keep_warm(encoded)

    async def _deliver(self, outbox: Sequence[Outgoing]) -> None:
        with metrics.PUBLISH_SECONDS.time():
            await self._publish(outbox)
        through = self._outbox_end
        await self._persist("store", lambda: self._in.store.trim(self.number, self._epoch, through))

    async def _publish(self, records: Sequence[Outgoing]) -> None:
        own = [_own(record) if record.topic == EVENTS else record for record in records]
        await self._persist("log", lambda: self._in.log.append(own))

    async def _note_wakes(self, wakes: dict[str, int | None]) -> None:
        """Keep the earliest wake in memory; ask the store once the known one has passed."""
        earliest = min((one for one in wakes.values() if one is not None), default=None)
        if self._next_wake_ms is not None and self._next_wake_ms <= self._clock_ms:
            self._next_wake_ms = await self._persist("store", lambda: self._in.store.next_wake_ms(self.number))
        elif earliest is not None:
            self._next_wake_ms = earliest if self._next_wake_ms is None else min(self._next_wake_ms, earliest)

    async def _persist(self, port: str, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until the dependency answers; every port's calls may be repeated."""
        pause_s = _RETRY_FIRST_S
        while True:
            try:
                return await call()
            except Unavailable as error:
                metrics.STORE_RETRIES.labels(port).inc()
                log.warning("partition %d waits for the %s: %s", self.number, port, error)
            await self._in.clock.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_MAX_S)

    # ------------------------------------------------------------------------------------- the world

    def _outgoing(self, outcome: Decided) -> list[Outgoing]:
        key = self._in.intake.key
        actions = [Outgoing(ACTIONS, key(one.customer_id), _encode_action(one)) for one in outcome.actions]
        records = [Outgoing(DECISIONS, key(one.customer_id), _encode_action(one)) for one in outcome.records]
        events = [self._emitted(one) for one in outcome.events]
        return [*actions, *records, *events, *(self._failed(failure) for failure in outcome.failures)]

    def _emitted(self, event: Event) -> Outgoing:
        """Return the record of an event that was decided.

        An older release may have kept an id that no customer of this workspace can have: its event becomes a dead
        letter here, and never a record that another workspace would have to refuse.
        """
        intake = self._in.intake
        try:
            customer_id = intake.check_customer("customer_id", event.customer_id)
        except EventRefused as refused:
            metrics.OWN_RECORDS_REFUSED.inc()
            unknown, value = intake.key(UNKNOWN_CUSTOMER.decode()), encode_event(event)
            unsent = Record(self.number, 0, event.received_at_ms, unknown, value, producer=ENGINE)
            return _letter(refused, unsent, offset=None)
        return Outgoing(EVENTS, intake.key(customer_id), encode_event(event))

    def _failed(self, failure: Failure) -> Outgoing:
        metrics.DEAD_LETTERS.labels("worker").inc()
        stimulus = failure.stimulus
        letter = DeadLetter(
            origin="worker",
            code="rule_failed",
            field="",
            message=failure.message if isinstance(stimulus, Event) else f"timer {stimulus.timer}: {failure.message}",
            remedy="Mend the rule or report the fault, then redrive the event.",
            refused_at_ms=stimulus.received_at_ms if isinstance(stimulus, Event) else stimulus.due_ms,
            key=self._in.intake.key(stimulus.customer_id),
            value=encode_event(stimulus) if isinstance(stimulus, Event) else None,
            topic=EVENTS,
            partition=self.number,
        )
        return Outgoing(DEAD_LETTERS, self._in.intake.key(stimulus.customer_id), encode_dead_letter(letter))

    def _count(self, outcome: Decided) -> None:
        metrics.EVENTS_PROCESSED.inc(outcome.events_applied - outcome.duplicates)
        metrics.EVENTS_DUPLICATE.inc(outcome.duplicates)
        metrics.EVENTS_CROWDED.inc(outcome.crowded)
        now_ms = self._in.clock.now_ms()
        for due in outcome.fired:
            metrics.TIMER_ERROR_SECONDS.observe(max(0, now_ms - due.due_ms) / 1000)
        metrics.TIMERS_FIRED.inc(len(outcome.fired))
        for action, stamp_ms in zip(outcome.actions, outcome.stamps, strict=True):
            metrics.EVENT_TO_ACTION_SECONDS.observe(max(0, now_ms - stamp_ms) / 1000)
            if not action.cancel:
                metrics.ACTIONS_EMITTED.labels(action.connector, action.kind).inc()
        settled = Counter((one.rule, one.outcome.value, one.reason.value) for one in outcome.records)
        for labels, number in settled.items():
            metrics.DECISIONS.labels(*labels).inc(number)

    def _keep_warm(self, encoded: Mapping[str, bytes]) -> None:
        """Remember the latest states, and forget those that were used longest ago; the store has them."""
        warm = self._warm
        for customer_id, state in encoded.items():
            warm.pop(customer_id, None)
            warm[customer_id] = state
        surplus = len(warm) - self._in.customers_cached_max
        for customer_id in list(islice(warm, max(0, surplus))):
            del warm[customer_id]


def _letter(refused: EventRefused, record: Record, *, offset: int | None) -> Outgoing:
    """Return the dead letter of a record that is refused, and count it; one that is in no log has no ``offset``."""
    metrics.EVENTS_REFUSED.labels("worker", refused.code).inc()
    metrics.DEAD_LETTERS.labels("worker").inc()
    letter = DeadLetter(
        origin="worker",
        code=refused.code,
        field=refused.field,
        message=str(refused),
        remedy=refused.remedy,
        refused_at_ms=record.stamp_ms,
        key=record.key,
        value=record.value,
        headers=record.headers,
        producer=record.producer,
        topic=EVENTS,
        partition=record.partition,
        offset=offset,
    )
    return Outgoing(DEAD_LETTERS, record.key or b"", encode_dead_letter(letter))


def _own(record: Outgoing) -> Outgoing:
    """Return an event of the outbox as the engine's: what a partition says, none of its producers has said."""
    return Outgoing(record.topic, record.key, record.value, ENGINE)


@dataclass(slots=True)
class _Batch:
    """Records on their way into the store, taken from the front in log order.

    ``stimuli`` are (stamp, offset, event), ``letters`` the dead letters of refused records with their offsets. A
    record's events share its stamp, so that no cut ever falls within a record.
    """

    next_offset: int
    stimuli: deque[tuple[int, int, Event]] = field(default_factory=deque)
    letters: deque[tuple[int, Outgoing]] = field(default_factory=deque)

    def taken(self, before_ms: int | None) -> list[tuple[int, Event]]:
        """Take the events stamped before a moment (None: all of them), as (stamp, event)."""
        taken = []
        while self.stimuli and (before_ms is None or self.stimuli[0][0] < before_ms):
            stamp_ms, _, event = self.stimuli.popleft()
            taken.append((stamp_ms, event))
        return taken

    @property
    def reached(self) -> int:
        """The offset of the first record that has not been taken."""
        return self.stimuli[0][1] if self.stimuli else self.next_offset

    def letters_taken(self) -> list[Outgoing]:
        """Take the dead letters of the records below ``reached``."""
        taken = []
        while self.letters and self.letters[0][0] < self.reached:
            taken.append(self.letters.popleft()[1])
        return taken
