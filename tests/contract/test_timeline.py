"""Timelines: what is kept of a customer's recent past, over every implementation."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import pytest
from redis.asyncio import Redis, RedisCluster

from orchestrator.adapters import sqlite_log
from orchestrator.adapters.memory_timeline import MemoryTimeline
from orchestrator.adapters.redis_connection import cluster_client
from orchestrator.adapters.redis_timeline import RedisTimeline
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.adapters.sqlite_timeline import SqliteTimeline
from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.ports import DECISIONS, EVENTS, Outgoing, Record
from orchestrator.runtime.timeline import ENTRIES_MAX, Timeline, TimelineKeeper

START_MS = 1_772_000_000_000


class Kept(Protocol):
    """A timeline and how records get into it."""

    timeline: Timeline

    async def write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None: ...

    async def close(self) -> None: ...


class Projected:
    """Records reach a projected timeline in batches of its topic, a millisecond apart."""

    timeline: TimelineKeeper

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.batches: list[tuple[str, list[Record]]] = []

    async def write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        first = self.offsets.get(topic, 0)
        self.offsets[topic] = first + len(records)
        batch = [
            Record(3, offset, START_MS + offset, key, value) for offset, (key, value) in enumerate(records, start=first)
        ]
        self.batches.append((topic, batch))
        await self.timeline.keep(topic, batch)

    async def close(self) -> None:
        pass


class InMemory(Projected):
    async def open(self, request: pytest.FixtureRequest) -> None:
        self.timeline = MemoryTimeline()


class InRedis(Projected):
    def client_of(self, request: pytest.FixtureRequest) -> Redis | RedisCluster:
        return Redis.from_url(request.getfixturevalue("redis_url"))

    async def open(self, request: pytest.FixtureRequest) -> None:
        self.client = self.client_of(request)
        self.workspace = f"timeline-{uuid.uuid4().hex[:12]}"
        self.timeline = RedisTimeline(self.client, self.workspace, lambda key: zlib.crc32(key) % 4)

    async def close(self) -> None:
        await self.client.aclose()


class InCluster(InRedis):
    def client_of(self, request: pytest.FixtureRequest) -> Redis | RedisCluster:
        return cluster_client(request.getfixturevalue("cluster_url"))


class InSqlite:
    """The log is the timeline."""

    async def open(self, request: pytest.FixtureRequest) -> None:
        self._database = SqliteDatabase(request.getfixturevalue("tmp_path") / "log.db", sqlite_log.SCHEMA)
        await self._database.open()
        self._log = SqliteEventLog(self._database, request.getfixturevalue("clock"))
        self.timeline = SqliteTimeline(self._database)

    async def write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        await self._log.append([Outgoing(topic, key, value) for key, value in records])

    async def close(self) -> None:
        await self._database.close()


IMPLEMENTATIONS = [
    pytest.param(InMemory, id="memory"),
    pytest.param(InSqlite, id="sqlite"),
    pytest.param(InRedis, id="redis", marks=pytest.mark.integration),
    pytest.param(InCluster, id="cluster", marks=pytest.mark.integration),
]


@pytest.fixture(params=IMPLEMENTATIONS)
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    implementation: Callable[[], InMemory | InSqlite | InRedis] = request.param
    opened = implementation()
    await opened.open(request)
    yield opened
    await opened.close()


@pytest.fixture(params=[param for param in IMPLEMENTATIONS if param.id != "sqlite"])
async def projected(request: pytest.FixtureRequest) -> AsyncIterator[InMemory | InRedis]:
    opened: InMemory | InRedis = request.param()
    await opened.open(request)
    yield opened
    await opened.close()


async def values(timeline: Timeline, topic: str, key: bytes, **limit: int) -> list[bytes | None]:
    return [record.value for record in await timeline.recent(topic, key, **limit)]


async def test_a_customer_of_whom_nothing_is_known_has_no_past(kept: Kept) -> None:
    assert await kept.timeline.recent(EVENTS, b"nobody") == []


async def test_records_come_back_per_customer_and_topic_in_log_order(kept: Kept) -> None:
    await kept.write(EVENTS, [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    await kept.write(DECISIONS, [(b"a", b"4")])
    await kept.write(EVENTS, [(b"a", b"0")])
    assert await values(kept.timeline, EVENTS, b"a") == [b"1", b"3", b"0"]
    assert await values(kept.timeline, EVENTS, b"b") == [b"2"]
    assert await values(kept.timeline, DECISIONS, b"a") == [b"4"]


async def test_a_record_keeps_its_place_and_stamp(kept: Kept) -> None:
    await kept.write(EVENTS, [(b"other", b"0"), (b"a", b"1")])
    (record,) = await kept.timeline.recent(EVENTS, b"a")
    assert (record.offset, record.key, record.value) == (1, b"a", b"1")
    assert record.stamp_ms >= START_MS


async def test_a_key_that_another_begins_with_is_another_customer(kept: Kept) -> None:
    await kept.write(EVENTS, [(b"a", b"1"), (b"ab", b"2"), (b"workspace:a", b"3")])
    assert await values(kept.timeline, EVENTS, b"a") == [b"1"]


async def test_only_the_newest_are_given(kept: Kept) -> None:
    await kept.write(EVENTS, [(b"a", b"%d" % number) for number in range(ENTRIES_MAX + 50)])
    everything = await values(kept.timeline, EVENTS, b"a")
    assert everything == [b"%d" % number for number in range(50, ENTRIES_MAX + 50)]
    assert await values(kept.timeline, EVENTS, b"a", limit=2) == everything[-2:]
    assert await values(kept.timeline, EVENTS, b"a", limit=ENTRIES_MAX * 2) == everything


async def test_batches_that_come_again_change_nothing(projected: Projected) -> None:
    """A consumer group gives at least once: after a crash, whole batches come again, older ones first."""
    for first in range(0, ENTRIES_MAX + 100, 100):
        await projected.write(EVENTS, [(b"a", b"%d" % number) for number in range(first, first + 100)])
    before = await projected.timeline.recent(EVENTS, b"a")
    for topic, batch in projected.batches:
        await projected.timeline.keep(topic, batch)
        assert await projected.timeline.recent(EVENTS, b"a") == before
    assert len(before) == ENTRIES_MAX


async def test_a_record_without_a_key_belongs_to_nobody(projected: Projected) -> None:
    await projected.timeline.keep(EVENTS, [Record(0, 0, START_MS, None, b"1"), Record(0, 1, START_MS, b"a", b"2")])
    assert await values(projected.timeline, EVENTS, b"a") == [b"2"]


async def test_a_batch_larger_than_a_lua_stack_is_kept(projected: Projected) -> None:
    records = [(b"customer-%d" % (number % 30), b"%d" % number) for number in range(9_000)]
    await projected.write(EVENTS, records)
    assert await values(projected.timeline, EVENTS, b"customer-7", limit=1) == [b"8977"]


@pytest.mark.integration
async def test_a_silent_customer_is_forgotten_in_redis(request: pytest.FixtureRequest) -> None:
    opened = InRedis()
    await opened.open(request)
    for kept in ({}, {"kept_ms": 3_600_000}):
        opened.timeline = RedisTimeline(opened.client, opened.workspace, lambda key: 0, **kept)
        await opened.write(EVENTS, [(b"a", b"1")])
        (key,) = [key async for key in opened.client.scan_iter(match=f"*{opened.workspace}*")]
        left_ms = await opened.client.pttl(key)
        assert 0 <= kept.get("kept_ms", 90 * 86_400_000) - left_ms < 60_000
    await opened.close()


@pytest.mark.integration
async def test_a_redis_that_does_not_answer_is_unavailable() -> None:
    client = Redis.from_url("redis://127.0.0.1:1")
    timeline = RedisTimeline(client, "default", lambda key: 0)
    with pytest.raises(StoreUnavailable):
        await timeline.recent(EVENTS, b"a")
    with pytest.raises(StoreUnavailable):
        await timeline.keep(EVENTS, [Record(0, 0, START_MS, b"a", b"1")])
    await client.aclose()


ERASED = b'{"id":"x","type":"customer_erased","customer_id":"a","occurred_at":1}'
ERASED_LINE = b'{"customer_id":"a","at":1,"rule":"","outcome":"noted","reason":"erased"}'


async def test_an_erasure_removes_what_is_kept_of_its_customer_before_it(projected: Projected) -> None:
    await projected.write(EVENTS, [(b"a", b"1"), (b"b", b"2")])
    await projected.write(DECISIONS, [(b"a", b"3")])
    await projected.write(EVENTS, [(b"a", b"4"), (b"a", ERASED), (b"a", b"5")])
    assert await values(projected.timeline, EVENTS, b"a") == [ERASED, b"5"]
    assert await values(projected.timeline, EVENTS, b"b") == [b"2"]
    assert await values(projected.timeline, DECISIONS, b"a") == [b"3"]
    await projected.write(DECISIONS, [(b"a", ERASED_LINE)])
    assert await values(projected.timeline, DECISIONS, b"a") == [ERASED_LINE]


async def test_a_record_that_only_speaks_of_an_erasure_removes_nothing(projected: Projected) -> None:
    spoken = b'{"type":"page","properties":{"name":"customer_erased"}}'
    await projected.write(EVENTS, [(b"a", b"1"), (b"a", spoken), (b"a", b"customer_erased")])
    assert len(await values(projected.timeline, EVENTS, b"a")) == 3


async def test_batches_that_come_again_do_not_bring_back_what_was_erased(projected: Projected) -> None:
    await projected.write(EVENTS, [(b"a", b"1")])
    await projected.write(EVENTS, [(b"a", ERASED), (b"a", b"2")])
    for topic, batch in projected.batches:
        await projected.timeline.keep(topic, batch)
    assert await values(projected.timeline, EVENTS, b"a") == [ERASED, b"2"]
