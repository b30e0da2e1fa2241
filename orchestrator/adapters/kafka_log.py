"""Kafka as the event log: records in, each acknowledged; records out, from any offset."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OffsetOutOfRangeError

from orchestrator.adapters.kafka_client import Where, brokers, translated
from orchestrator.adapters.kafka_topics import RECORD_BYTES_MAX, partition_of
from orchestrator.adapters.log_partitions import check_position
from orchestrator.errors import ConfigurationError
from orchestrator.runtime.ports import Outgoing, Record

#: Bytes that one request gathers per partition; throughput of small records grows up to about here.
_BATCH_BYTES = 128 * 1024
#: Fewer records than this share their requests with what others append at the same time.
_BATCHED_MIN = 8
#: Bytes that a record and its batch add to key and value, at most; the name of a key has 64.
_RECORD_OVERHEAD = 256
#: The header that says whom an event is from, and what it may say; what else stands there was not put there by us.
PRODUCER = "journey-producer"
_PRODUCER_BYTES_MAX = 64
_PRODUCER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}|\((?:engine|anonymous)\)")


class KafkaEventLog:
    """``EventLog`` over an idempotent producer that waits for all in-sync replicas.

    ``append`` may be called concurrently; what calls of one moment append shares requests. ``linger_ms`` is how long
    a record waits for company. An outage costs each call ``timeout_s`` at most, and memory stays bounded.
    """

    def __init__(self, bootstrap: Where, *, linger_ms: int = 2, timeout_s: float = 10) -> None:
        """Connect on first use, or by ``start``."""
        self._bootstrap = brokers(bootstrap)
        self._linger_ms = linger_ms
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect now. Raises ``LogUnavailable`` when no broker answers."""
        with translated(self._bootstrap):
            async with asyncio.timeout(self._timeout_s):
                await self._connected()

    async def close(self) -> None:
        """Release the connections; no ``append`` may be under way."""
        if self._producer is not None:
            self._discard(self._producer)
        await asyncio.gather(*self._closing)

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return once all in-sync replicas have every record. Records of one key keep their order.

        Raises ``LogUnavailable`` when that has not come about within ``timeout_s``: some of the records may be in
        the log or still get there, so appending them again may repeat them. Raises ``ConfigurationError`` for a
        record larger than any topic takes.
        """
        if not records:
            return
        with translated(self._bootstrap):
            async with asyncio.timeout(self._timeout_s):
                producer = await self._connected()
                await self._deliver(producer, records)

    # ---------------------------------------------------------------------------------------- details

    async def _deliver(self, producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> None:
        deliveries: list[asyncio.Future[Any]] = []
        try:
            if len(records) < _BATCHED_MIN:
                for record in records:
                    deliveries.append(
                        await producer.send(
                            record.topic, value=record.value, key=record.key, headers=_headers(record.producer)
                        )
                    )
            else:
                await _send_batches(producer, records, deliveries)
            done, _ = await asyncio.wait(deliveries, return_when=asyncio.FIRST_EXCEPTION)
            for delivery in done:
                delivery.result()
        except KafkaError as error:
            # A batch that has failed for good leaves a hole in the numbering by which brokers recognise repeats:
            # this producer can deliver nothing to that partition any more.
            self._discard(producer)
            if isinstance(error, MessageSizeTooLargeError):
                largest = max(records, key=lambda record: len(record.value))
                raise ConfigurationError(
                    f"A record of {len(largest.value)} bytes for {largest.topic} is larger than Kafka takes "
                    f"({RECORD_BYTES_MAX} bytes here, max.message.bytes there); let what produces it say less."
                ) from error
            raise
        finally:
            for delivery in deliveries:
                delivery.add_done_callback(_heard)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = self._bootstrap.producer(
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=self._linger_ms,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=RECORD_BYTES_MAX,
                    request_timeout_ms=round(self._timeout_s * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(self._stop(producer))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        """Stop a producer, giving what it still holds ``timeout_s`` to be delivered."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.stop()
        except (KafkaError, TimeoutError, OSError):
            await producer.client.close()


async def _send_batches(
    producer: AIOKafkaProducer, records: Sequence[Outgoing], deliveries: list[asyncio.Future[Any]]
) -> None:
    """Hand records over in batches of our own making, a tenth of the cost of one by one; note each batch's delivery."""
    shares: dict[tuple[str, int], list[Outgoing]] = {}
    partitions = {topic: len(await producer.partitions_for(topic)) for topic in {one.topic for one in records}}
    for record in records:
        shares.setdefault((record.topic, partition_of(record.key, partitions[record.topic])), []).append(record)
    for (topic, partition), share in shares.items():
        batch = producer.create_batch()
        for record in share:
            if _append(batch, record) is None:
                deliveries.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                _append(batch, record)
        # Left open, a batch would take in records of others and be sent later for it.
        batch.close()
        deliveries.append(await producer.send_batch(batch, topic, partition=partition))


def _append(batch: Any, record: Outgoing) -> Any:
    """Put a record into a batch; None when the batch is full. A batch always takes its first record."""
    if len(record.value) + len(record.key) > RECORD_BYTES_MAX - _RECORD_OVERHEAD:
        raise MessageSizeTooLargeError(f"{len(record.value)} bytes")
    return batch.append(timestamp=None, key=record.key, value=record.value, headers=_headers(record.producer))


@lru_cache(maxsize=1_024)
def _headers(producer: str) -> list[tuple[str, bytes]]:
    return [(PRODUCER, producer.encode())] if producer else []


def _producer(header: bytes | None) -> str:
    """Return the name in the header; '' for anything that is no name."""
    return _name(header) if header and len(header) <= _PRODUCER_BYTES_MAX else ""


@lru_cache(maxsize=1_024)
def _name(header: bytes) -> str:
    name = header.decode("latin-1")
    return name if _PRODUCER_NAME.fullmatch(name) else ""


def _heard(delivery: asyncio.Future[Any]) -> None:
    """Take note of a failed delivery whose caller was told already."""
    if not delivery.cancelled():
        delivery.exception()


class KafkaLogReader:
    """``LogReader`` without a consumer group: reading leaves no trace in Kafka and disturbs nobody."""

    def __init__(self, bootstrap: Where, *, timeout_s: float = 10) -> None:
        """Connect by each call; ``timeout_s`` bounds everything but waiting for new records."""
        self._bootstrap = brokers(bootstrap)
        self._timeout_s = timeout_s

    async def read(self, topic: str, partition: int, offset: int) -> AsyncIterator[list[Record]]:
        """Yield batches of records from ``offset`` on, waiting for new ones for ever.

        An outage that begins while it waits is waited out. Raises ``PositionLost`` when the log does not hold
        ``offset`` or loses it, ``LogUnavailable`` when no broker answers at the start.
        """
        async with self._consumer() as consumer:
            where = TopicPartition(topic, partition)
            first, end = await self._bounds(consumer, where)
            check_position(topic, partition, offset, first=first, end=end)
            consumer.assign([where])
            consumer.seek(where, offset)
            while True:
                try:
                    batches = await consumer.getmany(timeout_ms=1_000)
                except OffsetOutOfRangeError:
                    first, end = await self._bounds(consumer, where)
                    check_position(topic, partition, await consumer.position(where), first=first, end=end)
                    continue
                for records in batches.values():
                    yield [record_of(each) for each in records]

    async def beginning_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset that each partition of the topic still holds."""
        async with self._consumer() as consumer:
            found = await consumer.beginning_offsets(await self._partitions(consumer, topic))
            return {where.partition: offset for where, offset in found.items()}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset that the next record of each partition will get."""
        async with self._consumer() as consumer:
            found = await consumer.end_offsets(await self._partitions(consumer, topic))
            return {where.partition: offset for where, offset in found.items()}

    # ---------------------------------------------------------------------------------------- details

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        with translated(self._bootstrap):
            consumer = self._bootstrap.consumer(
                enable_auto_commit=False,
                auto_offset_reset="none",
                request_timeout_ms=round(self._timeout_s * 1000),
                max_partition_fetch_bytes=RECORD_BYTES_MAX,
            )
            # A start that is cancelled half-way would leave its connection behind, so it is always finished.
            starting = asyncio.ensure_future(consumer.start())
            try:
                await asyncio.shield(starting)
                yield consumer
            finally:
                await asyncio.gather(starting, return_exceptions=True)
                await consumer.stop()

    async def _partitions(self, consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
        known = await consumer._client._wait_on_metadata(topic)
        return [TopicPartition(topic, partition) for partition in sorted(known)]

    async def _bounds(self, consumer: AIOKafkaConsumer, where: TopicPartition) -> tuple[int, int]:
        if where not in await self._partitions(consumer, where.topic):
            raise ConfigurationError(f"Topic {where.topic} has no partition {where.partition}.")
        first = await consumer.beginning_offsets([where])
        end = await consumer.end_offsets([where])
        return first[where], end[where]


def record_of(taken: Any) -> Record:
    """Return aiokafka's record as ours."""
    headers: tuple[tuple[str, bytes], ...] = tuple(taken.headers)
    producer = ""
    if len(headers) == 1 and headers[0][0] == PRODUCER:  # As the gateway writes it.
        producer, headers = _producer(headers[0][1]), ()
    elif headers:
        producer = next((_producer(value) for name, value in headers if name == PRODUCER), "")
        headers = tuple(header for header in headers if header[0] != PRODUCER)
    return Record(taken.partition, taken.offset, taken.timestamp, taken.key, taken.value, headers, producer)
