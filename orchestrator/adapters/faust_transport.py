"""Faust's Kafka transport, bent where a worker whose offsets of record live in a store needs it otherwise.

- Every poll delivers one message per partition, whose value is the list of that partition's records: Faust's
  cost per message is then paid once a batch (some fifty times the throughput).
- On assignment it seeks to the worker's own positions, never to the group's committed offsets, and those
  are committed for lag monitors only: a commit that fails is forgotten.
- What brokers answer to fetches is noted with the moment of asking, so that "caught up" is a fact about the log
  and not about our buffers. Fetches wait briefly at the broker, so that the fact stays fresh.

It leans on inner parts of faust-streaming 0.15.3 and aiokafka 0.14.0, which the project pins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import SchedulingStrategyT
from mode.threads import WorkerThread

from orchestrator.adapters.kafka_client import paced

#: How long a fetch waits at the broker for a first record. It bounds how old "caught up" can be, and how long a
#: partition that was just read to its end waits to be part of the next fetch.
_FETCH_WAIT_MS = 10

_STOP_TIMEOUT_S = 3.0


class Batch:
    """What Faust takes for one record: all records of one partition that one poll has fetched."""

    __slots__ = ("offset", "partition", "timestamp", "timestamp_type", "topic", "value")

    key = None
    checksum = None
    headers = ()
    serialized_key_size = 0
    serialized_value_size = 0

    def __init__(self, records: list[Any]) -> None:
        last = records[-1]
        self.topic = last.topic
        self.partition = last.partition
        self.offset = last.offset
        self.timestamp = last.timestamp
        self.timestamp_type = last.timestamp_type
        self.value = records


class BatchScheduler(SchedulingStrategyT):  # type: ignore[misc]
    """Yields one batch per partition and poll."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Batch]]:
        """Return the batches of a poll."""
        return ((where, Batch(taken)) for where, taken in records.items() if taken)


class LogEnds:
    """What brokers said about the ends of partitions, and when they were asked. Written and read across threads."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, int], tuple[float, int]] = {}

    def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Note every answer to the consumer's fetches from now on."""
        send = consumer._client.send

        async def watched(node_id: int, request: Any, **options: Any) -> Any:
            asked_at = time.monotonic()
            answer = await send(node_id, request, **options)
            if isinstance(request, FetchRequest):
                self._note(asked_at, answer)
            return answer

        consumer._client.send = watched

    def _note(self, asked_at: float, answer: Any) -> None:
        for topic, partitions in answer.topics:
            for partition, error_code, end, *_ in partitions:
                if error_code == 0:
                    self._said[topic, partition] = (asked_at, end)

    def end_of(self, topic: str, partition: int) -> int | None:
        """Return where a broker last said that the partition ends, or None before it said anything."""
        said = self._said.get((topic, partition))
        return None if said is None else said[1]

    def ends_at(self, topic: str, partition: int, position: int, within_s: float) -> bool:
        """Return whether a broker, asked at most ``within_s`` ago, said that the partition ends at ``position``."""
        asked_at, end = self._said.get((topic, partition), (0.0, -1))
        return end == position and time.monotonic() - asked_at <= within_s


class _Thread(WorkerThread):  # type: ignore[misc]
    """A thread that never keeps a process alive whose work has ended, whatever its consumer waits for."""

    def __init__(self, service: Any, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True

    def run(self) -> None:
        # A consumer that is stopped while it waits for a dead broker ends by its own cancellation.
        with suppress(asyncio.CancelledError):
            super().run()

    def stop(self) -> None:
        self.is_stopped.wait(_STOP_TIMEOUT_S)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread of aiokafka's consumer, whose heartbeats no work of ours can hold up."""

    Worker = _Thread
    consumer: StoredPositionConsumer

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        self.consumer.log_ends.watch(consumer)
        paced(consumer._client)
        return consumer

    async def commit_for_monitors(self, offsets: Mapping[TP, int]) -> None:
        """Commit positions, on the consumer's own loop."""
        await self.call_thread(self._commit_for_monitors, offsets)

    async def _commit_for_monitors(self, offsets: Mapping[TP, int]) -> None:
        owned = self.assignment()
        try:
            await self._ensure_consumer().commit(
                {
                    TopicPartition(*where): OffsetAndMetadata(offset, "")
                    for where, offset in offsets.items()
                    if where in owned
                }
            )
        except Exception as error:
            self.log.debug("The group's offsets were not committed: %r", error)


class StoredPositionConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer with positions of our own; ``app.positions`` tells them."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        self.log_ends = LogEnds()
        self._monitored: dict[TP, int] = {}
        super().__init__(*args, **options)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every partition that the worker has taken to the worker's position."""
        owned = self.assignment()
        positions = {where: offset for where, offset in self.app.positions().items() if where in owned}
        await self.seek_wait(positions)
        return positions

    async def force_commit(self, topics: object = None, start_new_transaction: bool = True) -> bool:
        """Commit the worker's positions, where they have changed."""
        changed = {
            where: offset for where, offset in self.app.positions().items() if self._monitored.get(where) != offset
        }
        if changed:
            await self.commit_for_monitors(changed)
        return bool(changed)

    async def commit_for_monitors(self, offsets: Mapping[TP, int]) -> None:
        """Commit positions to the group. A failure is forgotten: the next commit says more than a repetition."""
        await self._thread.commit_for_monitors(offsets)
        self._monitored.update(offsets)

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: the conductor waits for room by itself, and pausing would cost a second each time."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing, as nothing was paused."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's watch looks at acknowledgements, which positions of record replace."""


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's transport with this module's consumer."""

    Consumer: ClassVar[type[StoredPositionConsumer]] = StoredPositionConsumer
