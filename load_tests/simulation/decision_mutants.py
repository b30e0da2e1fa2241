"""Mutants of intake, partition and core: what is decided, and that it is decided for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from load_tests.simulation.mutant import Mutant, replaced
from orchestrator.adapters import memory_state_store
from orchestrator.core import absence, play, run
from orchestrator.core import decide as decide_module
from orchestrator.core.decide import Stimulus, decide
from orchestrator.core.decision import Decision
from orchestrator.core.definition import Wait
from orchestrator.core.event import CUSTOMER_ERASED, Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.core.turn import Turn
from orchestrator.errors import Unavailable
from orchestrator.runtime import sequencer as sequencer_module
from orchestrator.runtime import worker as worker_module
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.partition import Partition, States
from orchestrator.runtime.ports import OutboxEntry, Outgoing, Record
from orchestrator.runtime.sequencer import Outcome, Sequencer

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
        with replaced(worker_module, "Partition", self.partition):
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
    caught_by = frozenset({"owner", "published", "sequence"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Leave the check out."""
        with replaced(memory_state_store, "check_epoch", lambda partition, epoch, latest: None):
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

        with replaced(sequencer_module, "decide", forgetful):
            yield


# ----------------------------------------------------------------------------------- intake and the core


class LosesTheSecond(Mutant):
    """Of a record with several events only the first is read."""

    name = "second of a list lost"
    caught_by = frozenset({"oracle"})

    def in_place(self) -> AbstractContextManager[None]:
        """Read one event."""
        whole = Intake.events_from_record

        def first(self: Intake, record: Record) -> Sequence[Event]:
            return whole(self, record)[:1]

        return replaced(Intake, "events_from_record", first)


class KeepsTheErased(Mutant):
    """Who is forgotten is marked so, and their plays go on."""

    name = "erased and kept"
    caught_by = frozenset({"erased"})

    def in_place(self) -> AbstractContextManager[None]:
        """Mark only."""

        def mark(turn: Turn, event: Event) -> Decision:
            return Decision(msgspec.structs.replace(turn.state, erased_at_ms=turn.now_ms), [], [])

        answers = {**decide_module._ANSWERS, CUSTOMER_ERASED: mark}
        return replaced(decide_module, "_ANSWERS", answers)


class NeverExits(Mutant):
    """A play does not end with its ``exit_when``."""

    name = "exit_when ignored"
    caught_by = frozenset({"oracle"})

    def in_place(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return replaced(decide_module, "_exit", lambda turn, rule, view: None)


class ActsOutside(Mutant):
    """A rule acts whether its run is open or not."""

    name = "acts outside its run"
    caught_by = frozenset({"oracle"})

    def in_place(self) -> AbstractContextManager[None]:
        """Take every run for open."""
        return replaced(run, "is_open_for", lambda turn, rule, key, since_ms=0: True)


class WaitsTooLong(Mutant):
    """A wait takes ten times as long as the rule says."""

    name = "waits ten times as long"
    caught_by = frozenset({"oracle"})

    def in_place(self) -> AbstractContextManager[None]:
        """Multiply."""
        until = play._wait_until

        def long(turn: Turn, progress: play.Progress, step: Wait) -> Any:
            return until(turn, progress, replace(step, for_ms=step.for_ms * 10))

        return replaced(play, "_wait_until", long)


class TakesNothingBack(Mutant):
    """An absence that has fired is not undone by the late event that would have prevented it."""

    name = "late event undoes nothing"
    caught_by = frozenset({"oracle"})

    def in_place(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return replaced(absence, "_take_back", lambda turn, watch, firing: None)


class EventBeforeTimer(Mutant):
    """A timer that is due at the very stamp of an event fires after it."""

    name = "event before its timer"
    caught_by = frozenset({"oracle"})

    def in_place(self) -> AbstractContextManager[None]:
        """Fire what is due before the stamp only."""
        apply = Sequencer.apply

        def late(self: Sequencer, event: Event, stamp_ms: int) -> None:
            self.advance(stamp_ms - 1)
            kept, self._wakes = self._wakes, []
            apply(self, event, stamp_ms)
            self.expect([*kept, *self._wakes], self._end)

        return replaced(Sequencer, "apply", late)


class _TakesSilenceForYes(Partition):
    async def _persist(self, port: str, call: Callable[[], Any]) -> Any:
        try:
            return await call()
        except Unavailable:
            if port == "store" and call.__qualname__.startswith("Partition._commit"):
                return None
        return await super()._persist(port, call)


class TakesSilenceForYes(_PartitionMutant):
    """A commit that was not answered is taken to have been applied."""

    name = "unanswered commit believed"
    caught_by = frozenset({"published", "errors"})
    partition = _TakesSilenceForYes
