"""The worker: the partitions that this process owns, and the four verbs that a log's consumer calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from orchestrator import metrics
from orchestrator.errors import Fenced
from orchestrator.runtime.partition import Partition
from orchestrator.runtime.ports import Record
from orchestrator.runtime.surroundings import Surroundings


class Worker:
    """The partitions that this process owns; the four verbs that a log's consumer calls."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._partitions: dict[int, Partition] = {}
        self._turns: dict[int, asyncio.Lock] = {}

    async def assigned(self, partition: int) -> int:
        """Take ownership of a partition and return the offset from which its records are wanted."""
        async with self._turn(partition):
            owned = Partition(partition, self._surroundings)
            offset = await owned.acquire()
            self._partitions[partition] = owned
            metrics.PARTITIONS_OWNED.set(len(self._partitions))
            return offset

    async def revoked(self, partition: int) -> None:
        """Give a partition up: what is under way is finished, and its memory is dropped."""
        async with self._turn(partition):
            self._drop(partition)

    async def process(self, partition: int, records: Sequence[Record]) -> None:
        """Apply records of an owned partition, in order; records of one that was given up are left to its owner."""
        async with self._turn(partition):
            owned = self._partitions.get(partition)
            if owned is not None:
                await self._guarded(partition, owned.process(records))

    async def advance(self, partition: int, caught_up_at_ms: int | None) -> None:
        """Fire the timers of an owned partition that are due.

        ``caught_up_at_ms`` is when the log was last seen to hold nothing unread: a fact of that moment, so that a
        process that was paused does not take an old observation for the present. None: there is a backlog.
        """
        async with self._turn(partition):
            owned = self._partitions.get(partition)
            if owned is not None:
                await self._guarded(partition, owned.advance(caught_up_at_ms))

    def position(self, partition: int) -> int | None:
        """Return the offset that an owned partition wants next; None for one that is not owned."""
        owned = self._partitions.get(partition)
        return None if owned is None else owned.next_offset

    def _turn(self, partition: int) -> asyncio.Lock:
        return self._turns.setdefault(partition, asyncio.Lock())

    async def _guarded(self, partition: int, work: Awaitable[None]) -> None:
        """Whatever interrupts a batch leaves memory ahead of the store: the partition must be acquired anew."""
        try:
            await work
        except BaseException as error:
            if isinstance(error, Fenced):
                metrics.FENCED.inc()
            self._drop(partition)
            raise

    def _drop(self, partition: int) -> None:
        if self._partitions.pop(partition, None) is not None:
            # A gauge that stayed would go on telling the last lag of a partition that another worker has now.
            metrics.PARTITION_LAG.remove(str(partition))
            metrics.PARTITION_CLOCK_LAG.remove(str(partition))
            if not self._partitions:
                # Without partitions nothing ticks here, and an episode would never end.
                self._surroundings.producers.forget()
        metrics.PARTITIONS_OWNED.set(len(self._partitions))
