"""Reading a topic as one of several processes: Kafka spreads the partitions, we say what has been taken."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from heapq import merge
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from orchestrator.adapters.kafka_client import Where, brokers, translated
from orchestrator.adapters.kafka_log import record_of
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.errors import LogUnavailable, Unavailable
from orchestrator.runtime.ports import Record

log = logging.getLogger(__name__)

#: Records handed over at once.
BATCH_MAX = 500
#: How long a fetch waits at the broker for a first record. It bounds how long a partition that was just read to its
#: end waits to be part of the next fetch: with the client's default an action could wait for half a second.
_FETCH_WAIT_MS = 10
#: How long a poll waits for a first record.
_POLL_MS = 200
_ACKNOWLEDGED_EVERY_S = 1.0
#: What was taken may stand in a Redis that syncs to its disk once a second, and later when the disk is slow. Until then
#: a power cut can undo it, and a record that was acknowledged would not come again.
_SETTLED_S = 2.0
_PAUSE_S = 0.5

T = TypeVar("T")
Take = Callable[[Sequence[Record]], Awaitable[None]]
Life = Callable[[], Awaitable[str]]


async def _everlasting() -> str:
    return ""


class KafkaGroupReader:
    """A member of a consumer group. Records are acknowledged ``_SETTLED_S`` after ``take`` returned: at least once.

    Acknowledging costs the broker as much as a record does, so it is done every ``_ACKNOWLEDGED_EVERY_S``. What an end,
    a crash or a rebalance leaves unacknowledged is read again, and a group that is new, or whose offsets Kafka has
    forgotten, begins at the topic's first record: ``take`` must recognise what it has taken before. ``life`` names the
    run of the store that ``take`` writes to: one that was started again may have stepped back, so what was not
    acknowledged is taken again.
    """

    def __init__(
        self, bootstrap: Where, *, group: str, topic: str, session_timeout_s: float, life: Life = _everlasting
    ) -> None:
        self._bootstrap = brokers(bootstrap)
        self._life = life
        self._group = group
        self._topic = topic
        self._session_timeout_ms = round(session_timeout_s * 1000)

    async def run(self, take: Take, on_joined: Callable[[], None] = lambda: None) -> None:
        """Read for ever; an outage of Kafka, or of what ``take`` writes to, is waited out."""
        while True:
            consumer = self._consumer()
            try:
                with translated(self._bootstrap):
                    await consumer.start()
                on_joined()
                await self._follow(consumer, take)
            except LogUnavailable as error:
                log.warning("%s waits for Kafka: %s", self._group, error)
                await asyncio.sleep(_PAUSE_S)
            finally:
                await consumer.stop()

    def _consumer(self) -> AIOKafkaConsumer:
        return self._bootstrap.consumer(
            self._topic,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._session_timeout_ms // 5,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )

    async def _follow(self, consumer: AIOKafkaConsumer, take: Take) -> None:
        taken = Settling(_SETTLED_S)
        life, due_s = await self._patiently("reach its store", self._life), 0.0
        while True:
            with translated(self._bootstrap):
                batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=BATCH_MAX)
            if batches:
                # What one poll brought is taken together: a trip for each partition would add up.
                found = [record_of(one) for records in batches.values() for one in records]
                await self._patiently(f"take {len(found)} records", partial(take, found))
                taken.add({where: records[-1].offset + 1 for where, records in batches.items()}, time.monotonic())
            if time.monotonic() >= due_s:
                settled = taken.settled(time.monotonic())
                before, life = life, await self._patiently("reach its store", self._life)
                if life == before:
                    await self._acknowledge(consumer, settled)
                else:
                    log.warning("%s takes again what it has not acknowledged: the store was started again", self._group)
                    taken = Settling(_SETTLED_S)
                    await self._go_back(consumer)
                due_s = time.monotonic() + _ACKNOWLEDGED_EVERY_S

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Do what needs the store, waiting for one that is away."""
        while True:
            try:
                return await call()
            except Unavailable as error:
                log.warning("%s cannot %s yet: %s", self._group, what, error)
                await asyncio.sleep(_PAUSE_S)

    async def _go_back(self, consumer: AIOKafkaConsumer) -> None:
        """Read on from what is acknowledged."""
        with translated(self._bootstrap):
            for where in consumer.assignment():
                try:
                    position = await consumer.committed(where)
                    if position is None:
                        await consumer.seek_to_beginning(where)
                    else:
                        consumer.seek(where, position)
                except IllegalStateError:
                    # It has moved on meanwhile; whoever has it now begins where it was acknowledged.
                    continue

    async def _acknowledge(self, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        owned = {where: offset for where, offset in offsets.items() if where in consumer.assignment()}
        if not owned:
            return
        try:
            await consumer.commit(owned)
        except (CommitFailedError, IllegalStateError, KafkaError) as error:
            # A partition has moved on or Kafka is away: whoever reads these records again recognises them.
            log.info("%s could not acknowledge %s: %s", self._group, offsets, error)


class Settling:
    """Positions that were reached, and count once they have been so for a while."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._reached: deque[tuple[float, Mapping[TopicPartition, int]]] = deque()

    def add(self, positions: Mapping[TopicPartition, int], now_s: float) -> None:
        """Note what has just been reached."""
        self._reached.append((now_s, positions))

    def settled(self, now_s: float) -> dict[TopicPartition, int]:
        """Return, once, the newest position of each partition that was reached long enough ago."""
        found: dict[TopicPartition, int] = {}
        while self._reached and self._reached[0][0] + self._after_s <= now_s:
            found |= self._reached.popleft()[1]
        return found


class KafkaTail:
    """Reads the newest records of a topic, as look-ups do."""

    def __init__(self, bootstrap: Where, *, timeout_s: float = 5.0) -> None:
        self._bootstrap = brokers(bootstrap)
        self._timeout_s = timeout_s

    async def latest(self, topic: str, limit: int, ends: Mapping[int, int] | None = None) -> list[Record]:
        """Return up to ``limit`` of the newest records of all partitions, newest first, each partition in its order.

        Of a partition in ``ends`` those before that offset.
        """
        return (await self._newest(topic, limit, ends=ends))[:limit]

    async def latest_of(self, topic: str, key: bytes, limit: int) -> list[Record]:
        """Return those among the ``limit`` newest records of the key's partition that have the key, newest first."""
        return [record for record in await self._newest(topic, limit, key) if record.key == key]

    async def _newest(
        self, topic: str, limit: int, key: bytes | None = None, ends: Mapping[int, int] | None = None
    ) -> list[Record]:
        consumer = self._bootstrap.consumer(enable_auto_commit=False, auto_offset_reset="earliest")
        with translated(self._bootstrap):
            try:
                await consumer.start()
                async with asyncio.timeout(self._timeout_s):
                    found = await self._tails(consumer, topic, limit, key, ends or {})
            finally:
                await consumer.stop()
        # A merge, for within a partition offsets tell the order, whatever clock has stamped its records.
        tails = (
            [one for one in reversed(found) if one.partition == where] for where in {one.partition for one in found}
        )
        return list(merge(*tails, key=lambda record: (-record.stamp_ms, -record.partition)))

    async def _tails(
        self, consumer: AIOKafkaConsumer, topic: str, limit: int, key: bytes | None, before: Mapping[int, int]
    ) -> list[Record]:
        partitions = await consumer._client._wait_on_metadata(topic)
        if key is not None:
            partitions = {partition_of(key, len(partitions))}
        wheres = [TopicPartition(topic, partition) for partition in partitions]
        firsts, ends = await consumer.beginning_offsets(wheres), await consumer.end_offsets(wheres)
        ends = {where: min(end, before.get(where.partition, end)) for where, end in ends.items()}
        unread = {where for where in wheres if ends[where] > firsts[where]}
        if not unread:
            return []
        consumer.assign(list(unread))
        for where in unread:
            consumer.seek(where, max(firsts[where], ends[where] - limit))
        found: list[Record] = []
        while unread:
            for where, records in (await consumer.getmany(*unread, timeout_ms=200)).items():
                found += [record_of(one) for one in records if one.offset < ends[where]]
                if records[-1].offset + 1 >= ends[where]:
                    unread.discard(where)
        return found
