"""The state store in memory: for simulation and tests. It outlives the runtime, as long as the object is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.adapters.ownership import check_epoch, follows
from orchestrator.runtime.ports import Commit, OutboxEntry, Ownership, Wake

Value = TypeVar("Value")


@dataclass(slots=True)
class _Partition:
    epoch: int = 0
    next_offset: int | None = None
    sequence: int = 0
    clock_ms: int = 0
    log_id: str = ""
    states: dict[str, bytes] = field(default_factory=dict)
    wakes: dict[str, int] = field(default_factory=dict)
    outbox: list[OutboxEntry] = field(default_factory=list)
    outbox_end: int = 0


class MemoryStateStore:
    """A ``StateStore`` that is never unavailable; a fake that keeps every promise of the real ones.

    Deterministic, and no call is interrupted half-way: nothing is awaited within one. Looking for due customers
    reads the whole wake index of the partition.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    async def acquire(self, partition: int) -> Ownership:
        """Take the partition under a new epoch, one above every epoch given before."""
        kept = self._of(partition)
        kept.epoch += 1
        return Ownership(kept.epoch, kept.next_offset, kept.sequence, kept.clock_ms, kept.log_id, kept.outbox_end)

    async def load(self, partition: int, customer_ids: Sequence[str]) -> list[bytes | None]:
        """Return the stored states in the order asked, None for customers never seen or deleted."""
        states = self._of(partition).states
        return [states.get(customer_id) for customer_id in customer_ids]

    async def scan(self, partition: int) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Yield the customers of the moment of the call, all at once."""
        if states := self._of(partition).states:
            yield list(states.items())

    async def due(self, partition: int, until_ms: int, limit: int) -> list[Wake]:
        """Return at most ``limit`` wakes with ``due_ms <= until_ms``, ordered by (due_ms, customer_id)."""
        wakes = self._of(partition).wakes
        found = sorted((due_ms, customer_id) for customer_id, due_ms in wakes.items() if due_ms <= until_ms)
        return [Wake(due_ms, customer_id) for due_ms, customer_id in found[:limit]]

    async def next_wake_ms(self, partition: int) -> int | None:
        """Return the earliest wake of the partition, or None."""
        return min(self._of(partition).wakes.values(), default=None)

    async def commit(self, partition: int, commit: Commit) -> None:
        """Write everything or nothing; a commit that was applied before changes nothing.

        Raises ``Fenced`` under any epoch but the latest, and when commits between are missing from the store.
        """
        kept = self._of(partition)
        check_epoch(partition, commit.epoch, kept.epoch)
        if not follows(partition, commit.sequence, kept.sequence):
            return
        # Whatever the caller's collections may raise, they raise before anything is changed.
        states, wakes, outbox = list(commit.states.items()), list(commit.wakes.items()), list(commit.outbox)
        _merge(kept.states, states)
        _merge(kept.wakes, wakes)
        kept.outbox += [OutboxEntry(number, record) for number, record in enumerate(outbox, start=kept.outbox_end + 1)]
        kept.outbox_end += len(outbox)
        kept.sequence, kept.next_offset = commit.sequence, commit.next_offset
        kept.clock_ms, kept.log_id = commit.clock_ms, commit.log_id

    async def outbox(self, partition: int) -> list[OutboxEntry]:
        """Return what has not been trimmed, in order; numbers start at 1."""
        return list(self._of(partition).outbox)

    async def trim(self, partition: int, epoch: int, through: int) -> None:
        """Forget outbox entries up to number ``through``. Raise ``Fenced`` under any epoch but the latest."""
        kept = self._of(partition)
        check_epoch(partition, epoch, kept.epoch)
        kept.outbox = [entry for entry in kept.outbox if entry.number > through]

    def _of(self, partition: int) -> _Partition:
        return self._partitions.setdefault(partition, _Partition())


def _merge(kept: dict[str, Value], changes: list[tuple[str, Value | None]]) -> None:
    for customer_id, value in changes:
        if value is None:
            kept.pop(customer_id, None)
        else:
            kept[customer_id] = value
