"""One partition's path through a distributed worker: whatever is fetched, handled once, in order, from the
offset of record on.

What fetches records may repeat some, skip some or hand over what it fetched before a seek. A lane knows the one
offset that comes next. It passes on nothing below it, and nothing above it either until the log itself, asked
again from that offset, shows that there is nothing between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from orchestrator.adapters.kafka_log import record_of
from orchestrator.adapters.log_partitions import check_position
from orchestrator.runtime.ports import EVENTS, Record

#: How many times a batch's records may wait while one is being handled; more would only use memory.
_WAITING_BATCHES_MAX = 2


class PartitionHandler(Protocol):
    """What a worker does with the partitions that the group gives it. Calls for one partition never overlap."""

    async def assigned(self, partition: int) -> int | None:
        """Take ownership and return the offset to go on from (None: never processed, start at the earliest).

        May be cancelled while it waits, when the group moves on; ``revoked`` does not follow then. Raises
        ``PositionLost`` to end the worker.
        """
        ...

    async def revoked(self, partition: int) -> None:
        """Forget the partition; nothing of it is under way, and another worker may own it as soon as this returns."""
        ...

    async def process(self, partition: int, records: Sequence[Record]) -> None:
        """Handle records, consecutive with those before; return when their effects are durable.

        Raises ``Fenced`` to end the worker.
        """
        ...

    async def advance(self, partition: int, caught_up: Callable[[], bool]) -> None:
        """Fire what is due. ``caught_up()``: a moment before it is asked the log held nothing that was not processed.

        The clock is to be read before it is asked: a process that is paused in between would take an old answer
        for the present.
        """
        ...


class PartitionSource(Protocol):
    """Where a lane's batches come from, as far as the lane must steer it."""

    async def seek(self, partition: int, offset: int) -> None:
        """Fetch from ``offset`` next; batches fetched before may still arrive."""
        ...

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset that the log holds and the one after its last, as the broker says now."""
        ...

    def holds_nothing_after(self, partition: int, position: int) -> bool:
        """Return whether the broker said a moment ago that the log ends at ``position``."""
        ...


def _follows(batch: Sequence[Any], before: Sequence[Any]) -> bool:
    """Return whether a batch begins where the one before it ends."""
    return bool(batch[0].offset == before[-1].offset + 1)


def _behind() -> bool:
    """More records of the batch under way are waiting."""
    return False


class PartitionLane:
    """Hands one partition's records and ticks to its handler, one call at a time."""

    def __init__(
        self,
        partition: int,
        position: int,
        *,
        handler: PartitionHandler,
        source: PartitionSource,
        batch_events_max: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        """``position`` is the next offset to handle; ``failed`` hears the error that ended the lane."""
        self.partition = partition
        self.position = position
        self._handler = handler
        self._source = source
        self._batch_events_max = batch_events_max
        self._failed = failed
        self._waiting: deque[Sequence[Any]] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._wake = asyncio.Event()
        self._ticked = False
        self._closing = False
        #: The first offset of a batch that lies above ``position``, while the log is asked again.
        self._gap_end: int | None = None
        self._task = asyncio.create_task(self._run(), name=f"lane-{partition}")

    async def offer(self, batch: Sequence[Any]) -> None:
        """Queue fetched records, waiting while enough are queued. A lane that is closing drops them."""
        await self._room.wait()
        if self._closing:
            return
        self._waiting.append(batch)
        self._mind_room()
        self._wake.set()

    def tick(self) -> None:
        """Let the handler fire what is due, after the call that is under way."""
        self._ticked = True
        self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """Finish the call that is under way and no other; cut it off when it takes longer than ``timeout_s``.

        What is cut off in the middle of a write is left to the epoch: the next owner's refuses it, or finds it done.
        """
        self._closing = True
        self._wake.set()
        self._drain()
        await asyncio.wait([self._task], timeout=timeout_s)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._drain()

    # ---------------------------------------------------------------------------------------- details

    def _drain(self) -> None:
        """Drop what waits, which also lets go whoever waits to offer more."""
        self._waiting.clear()
        self._mind_room()

    def _mind_room(self) -> None:
        """Let more be offered, or keep it waiting, by how many records wait here."""
        if sum(map(len, self._waiting)) < _WAITING_BATCHES_MAX * self._batch_events_max:
            self._room.set()
        else:
            self._room.clear()

    def _taken(self) -> Sequence[Any]:
        """Take what waits, as far as a batch may hold it and nothing lies between: many cost hardly more than one."""
        taken = [*self._waiting.popleft()]
        while self._waiting and len(taken) < self._batch_events_max and _follows(self._waiting[0], taken):
            taken += self._waiting.popleft()
        self._mind_room()
        return taken

    async def _run(self) -> None:
        try:
            while not self._closing:
                await self._wake.wait()
                self._wake.clear()
                await self._work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._closing = True
            self._drain()
            self._failed(error)

    async def _work(self) -> None:
        while not self._closing:
            if self._ticked:
                self._ticked = False
                await self._handler.advance(self.partition, self._caught_up)
            elif self._waiting:
                await self._handle(self._taken())
            else:
                return

    def _caught_up(self) -> bool:
        return not self._waiting and self._source.holds_nothing_after(self.partition, self.position)

    async def _handle(self, batch: Sequence[Any]) -> None:
        if not await self._continues(batch):
            return
        start = next(index for index, taken in enumerate(batch) if taken.offset >= self.position)
        for at in range(start, len(batch), self._batch_events_max):
            if self._closing:
                return
            records = [record_of(taken) for taken in batch[at : at + self._batch_events_max]]
            await self._handler.process(self.partition, records)
            self.position = records[-1].offset + 1
            if self._ticked:
                self._ticked = False
                await self._handler.advance(self.partition, _behind)

    async def _continues(self, batch: Sequence[Any]) -> bool:
        """Return whether the batch holds the record at ``position``, or the first one after a true gap."""
        first, last = batch[0].offset, batch[-1].offset
        if last < self.position:
            await self._check_log()
            return False
        if first <= self.position or first == self._gap_end:
            if first > self.position:
                await self._check_log()
            self._gap_end = None
            return True
        if self._gap_end is None or first < self._gap_end:
            self._gap_end = first
            await self._source.seek(self.partition, self.position)
        return False

    async def _check_log(self) -> None:
        """Raise ``PositionLost`` when the log has lost what comes next, or ends before it."""
        first, end = await self._source.bounds(self.partition)
        check_position(EVENTS, self.partition, self.position, first=first, end=end)
