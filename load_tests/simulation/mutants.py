"""Mutants: the engine with one known defect each. The simulation is worth as much as it notices of them.

Each says in its docstring what it does wrong, and ``caught_by`` which invariants may notice it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from load_tests.simulation.network import Link
from load_tests.simulation.world import Make
from orchestrator.adapters import memory_state_store
from orchestrator.core.action import Action
from orchestrator.core.decide import Stimulus, decide
from orchestrator.core.decision import Decision
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.runtime import sequencer as sequencer_module
from orchestrator.runtime import worker as worker_module
from orchestrator.runtime.dispatch import Dispatcher
from orchestrator.runtime.dispatch.meter import Meter
from orchestrator.runtime.dispatch.patience import patiently
from orchestrator.runtime.dispatch.rate import Bucket, Rate
from orchestrator.runtime.dispatch.receipt import ledger_entry
from orchestrator.runtime.dispatch.settlement import Settlement, successor
from orchestrator.runtime.dispatch.step import Settle
from orchestrator.runtime.partition import Partition, States
from orchestrator.runtime.ports import OutboxEntry, Outgoing, Queued, Quota, Record
from orchestrator.runtime.sequencer import Outcome


class Mutant(Make):
    """A variant of the engine with a defect; ``caught_by`` are the invariants that notice it."""

    name: ClassVar[str]
    caught_by: ClassVar[frozenset[str]]


@contextmanager
def _replaced(owner: object, name: str, mutant: object) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, mutant)
    try:
        yield
    finally:
        setattr(owner, name, original)


# ------------------------------------------------------------------------------------------ the partition


class _NothingLeft:
    """A store whose outbox is always found empty."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def outbox(self, partition: int) -> list[OutboxEntry]:
        return []


class _ForgetsTheOutbox(Partition):
    async def acquire(self) -> int:
        whole = self._in
        self._in = replace(whole, store=_NothingLeft(whole.store))
        try:
            return await super().acquire()
        finally:
            self._in = whole


class _PublishesFirst(Partition):
    async def _commit(
        self, outcome: Outcome, states: States, clock_ms: int, next_offset: int, letters: Sequence[Outgoing]
    ) -> None:
        await self._publish([*self._outgoing(outcome), *letters])
        await super()._commit(outcome, states, clock_ms, next_offset, letters)


class _OffsetFirst(Partition):
    async def _commit(
        self, outcome: Outcome, states: States, clock_ms: int, next_offset: int, letters: Sequence[Outgoing]
    ) -> None:
        await super()._commit(Outcome(), states, clock_ms, next_offset, [])
        await super()._commit(outcome, states, clock_ms, next_offset, letters)


class _TrimsFirst(Partition):
    async def _deliver(self, outbox: Sequence[Outgoing]) -> None:
        await self._persist("store", lambda: self._in.store.trim(self.number, self._epoch, self._outbox_end))
        await self._publish(outbox)


class _TimersFirst(Partition):
    async def process(self, records: Sequence[Record]) -> None:
        await self.advance(self._in.clock.now_ms())
        await super().process(records)


class _PartitionMutant(Mutant):
    partition: ClassVar[type[Partition]]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        with _replaced(worker_module, "Partition", self.partition):
            yield


class ForgetsTheOutbox(_PartitionMutant):
    """A new owner does not publish what its predecessor left in the outbox."""

    name = "replay without outbox"
    caught_by = frozenset({"published", "rest"})
    partition = _ForgetsTheOutbox


class PublishesFirst(_PartitionMutant):
    """Actions are published before the state that they follow from is stored."""

    name = "actions before state"
    caught_by = frozenset({"published"})
    partition = _PublishesFirst


class OffsetFirst(_PartitionMutant):
    """The offset is stored before the states."""

    name = "offset committed first"
    caught_by = frozenset({"states", "decided", "letters", "oracle"})
    partition = _OffsetFirst


class TrimsFirst(_PartitionMutant):
    """The outbox is trimmed before it has been published."""

    name = "outbox trimmed first"
    caught_by = frozenset({"published"})
    partition = _TrimsFirst


class TimersFirst(_PartitionMutant):
    """Timers fire by the machine's time before the backlog has been read."""

    name = "timers before backlog"
    caught_by = frozenset({"clock", "decided"})
    partition = _TimersFirst


class Unfenced(Mutant):
    """The store takes writes of an owner that is none any more."""

    name = "unfenced owner"
    caught_by = frozenset({"owner", "sequence"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Leave the check out."""
        with _replaced(memory_state_store, "check_epoch", lambda partition, epoch, latest: None):
            yield


class ForgetsWhatItSaw(Mutant):
    """The ring of recent event ids is dropped: an event that is sent twice counts twice."""

    name = "dedupe ring dropped"
    caught_by = frozenset({"oracle"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Decide with an empty ring."""

        def forgetful(
            rulebook: Rulebook, state: CustomerState, stimulus: Stimulus, now_ms: int, *more: Any
        ) -> Decision:
            fresh = msgspec.structs.replace(state, seen=type(state.seen)())
            return decide(rulebook, fresh, stimulus, now_ms, *more)

        with _replaced(sequencer_module, "decide", forgetful):
            yield


# ---------------------------------------------------------------------------------------- the dispatcher


class LedgerFirst(Mutant):
    """The ledger is written before the receipt: a crash between the two leaves a last word that nobody hears."""

    name = "ledger before receipt"
    caught_by = frozenset({"receipts"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Settle the other way round."""

        async def ledger_first(
            self: Settlement, action: Action, queued: Queued, word: Settle, meter: Meter, **more: Any
        ) -> None:
            if word.falls_back and action.fallback:
                await patiently(self.clock, "dispatch_queue", lambda: self._enqueue([successor(action)]))
            entry = ledger_entry(action, queued, word, self.clock.now_ms())
            await patiently(self.clock, "dispatch_queue", lambda: self._queue.settle(entry, **more))
            await patiently(self.clock, "event_log", lambda: self._report(action, queued, word))

        with _replaced(Settlement, "conclude", ledger_first):
            yield


class AcknowledgesFirst(Mutant):
    """Records of actions are acknowledged before they are queued."""

    name = "acknowledged before queued"
    caught_by = frozenset({"delivered"})

    async def taken(
        self, dispatcher: Dispatcher, records: Sequence[Record], acknowledge: Callable[[int], None]
    ) -> None:
        """Acknowledge, then take."""
        acknowledge(records[-1].offset + 1)
        await asyncio.sleep(0.01)
        await dispatcher.accept(records)


class ClaimsWithoutLease(Mutant):
    """A claimed action stays where it is, for anybody to claim."""

    name = "claim without lease"
    caught_by = frozenset({"lease", "slots"})

    def queue(self, link: Link, queue: Any) -> Any:
        """Claim for no time at all."""

        class Leaseless:
            def __getattr__(self, name: str) -> Any:
                return getattr(queue, name)

            async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Any:
                return await queue.claim(connector, quota, limit, now_ms, 1)

        return Leaseless()


class RateOfItsOwn(Mutant):
    """Every dispatcher keeps to the rate by itself, and all of them together do not."""

    name = "rate token not shared"
    caught_by = frozenset({"rate"})

    def queue(self, link: Link, queue: Any) -> Any:
        """Claim by a bucket of this process."""
        buckets: dict[str, Bucket] = {}

        class Selfish:
            def __getattr__(self, name: str) -> Any:
                return getattr(queue, name)

            async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Any:
                rate = Rate.of(quota)
                if rate is None:
                    return await queue.claim(connector, quota, limit, now_ms, lease_ms)
                bucket = buckets.setdefault(connector, Bucket.fresh(rate, now_ms))
                limit = min(limit, bucket.room(rate, now_ms))
                free = msgspec.structs.replace(quota, rate_max=None)
                claim = await queue.claim(connector, free, limit, now_ms, lease_ms)
                for _ in claim.actions:
                    bucket.take(rate, now_ms)
                again_ms = max(bucket.next_at_ms(rate, now_ms), claim.again_at_ms or 0)
                return msgspec.structs.replace(claim, again_at_ms=again_ms)

        return Selfish()


MUTANTS: tuple[type[Mutant], ...] = (
    ForgetsTheOutbox,
    PublishesFirst,
    OffsetFirst,
    TrimsFirst,
    TimersFirst,
    Unfenced,
    ForgetsWhatItSaw,
    LedgerFirst,
    AcknowledgesFirst,
    ClaimsWithoutLease,
    RateOfItsOwn,
)
