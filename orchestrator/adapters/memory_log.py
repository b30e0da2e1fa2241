"""The event log in memory: for simulation and tests. It outlives the runtime, as long as the object is kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.adapters.log_partitions import Arrivals, Partitions, check_position
from orchestrator.runtime.ports import Clock, Outgoing, Record

#: Records that a reader is given at once.
READ_MAX = 500


@dataclass(slots=True)
class _Partition:
    """The records that are kept; the first of them has offset ``first``."""

    first: int = 0
    stamp_ms: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.records)


class MemoryEventLog:
    """A log that acknowledges at once; ``EventLog`` and ``LogReader`` with the same promises as ``SqliteEventLog``.

    Deterministic: nothing is awaited within a call, offsets and stamps follow from the calls and the clock alone.
    """

    def __init__(self, clock: Clock, partitions: Mapping[str, int] | int = 1, identity: str = "memory") -> None:
        """``partitions`` is a number for all topics, or numbers by topic (1 for a topic that is not named).

        Give a log that replaces another one its own ``identity``.
        """
        self._clock = clock
        self._partitions = Partitions(partitions)
        self._arrivals = Arrivals()
        self._kept: dict[tuple[str, int], _Partition] = {}
        self._identity = identity

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Take all records, in order; each gets the next offset of its key's partition and the present as stamp."""
        now_ms = self._clock.now_ms()
        touched: dict[tuple[str, int], None] = {}
        for outgoing in records:
            partition = self._partitions.of_key(outgoing.topic, outgoing.key)
            kept = self._kept.setdefault((outgoing.topic, partition), _Partition())
            kept.stamp_ms = max(kept.stamp_ms, now_ms)
            kept.records.append(
                Record(partition, kept.end, kept.stamp_ms, outgoing.key, outgoing.value, producer=outgoing.producer)
            )
            touched[(outgoing.topic, partition)] = None
        for topic, partition in touched:
            self._arrivals.announce(topic, partition)

    async def read(self, topic: str, partition: int, offset: int) -> AsyncIterator[list[Record]]:
        """Yield batches from ``offset`` on, for ever. Raise ``PositionLost`` for an offset the log does not have."""
        while True:
            arrival = self._arrivals.expect(topic, partition)
            batch = await self.read_range(topic, partition, offset, READ_MAX)
            if batch:
                offset = batch[-1].offset + 1
                yield batch
            else:
                await arrival.wait()

    async def read_range(self, topic: str, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records from ``from_offset`` on; none at the end of the log.

        Raises ``PositionLost`` for an offset that was trimmed or lies beyond the end.
        """
        kept = self._of(topic, partition)
        check_position(topic, partition, from_offset, first=kept.first, end=kept.end)
        start = from_offset - kept.first
        return kept.records[start : start + limit]

    async def start_offset(self, topic: str, partition: int) -> int:
        """Return the offset of the earliest record that is kept, or the end when there is none."""
        return self._of(topic, partition).first

    async def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        return self._of(topic, partition).end

    async def last_stamp_ms(self, topic: str, partition: int) -> int:
        """Return the stamp of the last record ever taken, 0 before the first."""
        return self._of(topic, partition).stamp_ms

    async def log_id(self, topic: str) -> str:
        """Return the identity of the topic's log: another one after the log was created anew."""
        return f"{self._identity}:{topic}"

    async def trim(self, topic: str, before_ms: int) -> int:
        """Forget records stamped before ``before_ms``; return how many. Offsets go on as if they were there."""
        forgotten = 0
        for partition in range(self._partitions.count(topic)):
            kept = self._of(topic, partition)
            number = bisect_left(kept.records, before_ms, key=lambda record: record.stamp_ms)
            del kept.records[:number]
            kept.first += number
            forgotten += number
        return forgotten

    def _of(self, topic: str, partition: int) -> _Partition:
        self._partitions.check(topic, partition)
        return self._kept.get((topic, partition)) or _Partition()
