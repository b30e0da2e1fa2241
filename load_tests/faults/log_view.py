"""A look at the topics from outside: what was appended since the last look, where logs end, how far a group is.

It uses aiokafka and nothing of the engine's adapters, so that a fault of theirs cannot hide itself here. Calls block;
the client lives on a loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

T = TypeVar("T")

_TIMEOUT_S = 30


class LogView:
    """One cluster's topics, seen from outside."""

    def __init__(self, bootstrap: str) -> None:
        """Nothing is connected before it is needed."""
        self._bootstrap = bootstrap
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="log view", daemon=True)
        self._thread.start()
        self._read_up_to: dict[tuple[str, str, int], int] = {}
        self._admin: AIOKafkaAdminClient | None = None

    def close(self) -> None:
        """End the thread."""
        self._disconnect()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset that the next record of each partition will get."""
        return self._call(self._ends(topic))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return how far a group has acknowledged each partition of the topic."""
        return self._call(self._committed(group, topic))

    def fresh(self, topic: str, reader: str = "") -> list[Any]:
        """Return the records that came since the last call of this reader, each partition's in order."""
        return self._call(self._fresh(topic, reader))

    def append(self, topic: str, records: Sequence[tuple[bytes | None, bytes]]) -> None:
        """Append (key, value) pairs past every check, and return when they are in the log."""
        self._call(self._append(topic, records))

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Let a topic forget the records before an offset of each partition, as retention does."""
        asked = {TopicPartition(topic, one): RecordsToDelete(before_offset=offset) for one, offset in before.items()}
        self._call(self._with_admin(lambda admin: admin.delete_records(asked)))

    def delete_topic(self, topic: str) -> None:
        """Delete a topic and return when the cluster has forgotten it."""
        self._call(self._delete(topic))

    def add_partitions(self, topic: str, total: int) -> None:
        """Give a topic more partitions."""
        more = {topic: NewPartitions(total_count=total)}
        self._call(self._with_admin(lambda admin: admin.create_partitions(more)))

    # ---------------------------------------------------------------------------------------- details

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, _TIMEOUT_S), self._loop).result()
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            asyncio.run_coroutine_threadsafe(admin.close(), self._loop).result(_TIMEOUT_S)

    async def _with_admin(self, ask: Any) -> Any:
        if self._admin is None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, request_timeout_ms=5_000)
            await admin.start()
            self._admin = admin
        return await ask(self._admin)

    async def _committed(self, group: str, topic: str) -> dict[int, int]:
        found = await self._with_admin(lambda admin: admin.list_consumer_group_offsets(group))
        return {where.partition: meta.offset for where, meta in found.items() if where.topic == topic}

    async def _delete(self, topic: str) -> None:
        await self._with_admin(lambda admin: admin.delete_topics([topic]))
        # Nobody tells when the cluster has forgotten it, so it is asked.
        while topic in await self._with_admin(lambda admin: admin.list_topics()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _ends(self, topic: str) -> dict[int, int]:
        consumer = await self._started()
        try:
            return {
                where.partition: end for where, end in (await consumer.end_offsets(await _all(consumer, topic))).items()
            }
        finally:
            await consumer.stop()

    async def _fresh(self, topic: str, reader: str) -> list[Any]:
        consumer = await self._started()
        found: list[Any] = []
        try:
            wheres = await _all(consumer, topic)
            ends, firsts = await consumer.end_offsets(wheres), await consumer.beginning_offsets(wheres)
            starts = {one: max(firsts[one], self._read_up_to.get((reader, topic, one.partition), 0)) for one in wheres}
            unread = {one for one in wheres if starts[one] < ends[one]}
            if unread:
                consumer.assign(list(unread))
                for one in unread:
                    consumer.seek(one, starts[one])
            while unread:
                for where, records in (await consumer.getmany(*unread, timeout_ms=200)).items():
                    found += [one for one in records if one.offset < ends[where]]
                    if await consumer.position(where) >= ends[where]:
                        unread.discard(where)
            self._read_up_to |= {(reader, topic, one.partition): end for one, end in ends.items()}
            return found
        finally:
            await consumer.stop()

    async def _append(self, topic: str, records: Sequence[tuple[bytes | None, bytes]]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=10, max_batch_size=200_000)
        await producer.start()
        try:
            deliveries = [await producer.send(topic, value, key=key) for key, value in records]
            await asyncio.gather(*deliveries)
        finally:
            await producer.stop()

    async def _started(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        return consumer


async def _all(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    known = await consumer._client._wait_on_metadata(topic)
    return [TopicPartition(topic, partition) for partition in sorted(known)]


@contextmanager
def log_view(bootstrap: str) -> Iterator[LogView]:
    """Return a view that is closed at the end."""
    view = LogView(bootstrap)
    try:
        yield view
    finally:
        view.close()
