"""What the Redis store does when Redis is away, loses its last second, or keeps keys where a cluster needs them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from load_tests.servers import LocalRedis
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.errors import Fenced, StoreUnavailable
from orchestrator.runtime.ports import ACTIONS, Commit, OutboxEntry, Outgoing, Wake

pytestmark = pytest.mark.integration


def commit(sequence: int, epoch: int = 1) -> Commit:
    return Commit(
        epoch=epoch,
        sequence=sequence,
        next_offset=sequence,
        clock_ms=sequence,
        states={"c1": b"state %d" % sequence},
        wakes={"c1": sequence},
        outbox=[Outgoing(ACTIONS, b"c1", b"action %d" % sequence)],
    )


@pytest.fixture(scope="module")
def own_redis(say: Callable[[str], None]) -> Iterator[LocalRedis]:
    """A Redis of this module's own, to be frozen and killed, that forgets nothing it has answered."""
    with LocalRedis(appendfsync="always", say=say) as redis:
        yield redis


@pytest.fixture
async def client(own_redis: LocalRedis) -> AsyncIterator[Redis]:
    opened = Redis.from_url(own_redis.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
    yield opened
    await opened.aclose()


@pytest.fixture
def store(client: Redis) -> RedisStateStore:
    return RedisStateStore(client, uuid.uuid4().hex[:12])


async def test_a_commit_that_was_not_answered_may_be_repeated(own_redis: LocalRedis, store: RedisStateStore) -> None:
    await store.acquire(0)
    await store.commit(0, commit(1))
    own_redis.pause()
    try:
        with pytest.raises(StoreUnavailable, match=r"^Redis: Timeout "):
            await store.commit(0, commit(2))
    finally:
        own_redis.resume()
    await store.commit(0, commit(2))
    assert await store.load(0, ["c1"]) == [b"state 2"]
    assert [entry.record.value for entry in await store.outbox(0)] == [b"action 1", b"action 2"]


async def test_what_was_committed_survives_kill_9(own_redis: LocalRedis, store: RedisStateStore) -> None:
    await store.acquire(0)
    await store.commit(0, commit(1))
    await asyncio.to_thread(own_redis.kill)
    with pytest.raises(StoreUnavailable):
        await store.load(0, ["c1"])
    await asyncio.to_thread(own_redis.start)
    await store.commit(0, commit(2))
    assert await store.load(0, ["c1"]) == [b"state 2"]
    assert await store.due(0, 9, 9) == [Wake(2, "c1")]
    assert (await store.acquire(0)).next_offset == 2


async def test_an_owner_whose_partition_was_wiped_is_told_to_acquire_it_again(
    store: RedisStateStore, client: Redis
) -> None:
    await store.acquire(0)
    await store.commit(0, commit(1))
    await client.delete(*[key async for key in client.scan_iter(f"{{journey:{store._workspace}:p0}}:*")])
    with pytest.raises(Fenced) as refusal:
        await store.commit(0, commit(2))
    assert str(refusal.value) == (
        "Partition 0 was never given under epoch 1; the latest is 0. "
        "The store was replaced by an older one; acquire the partition again."
    )


async def test_a_full_redis_refuses_a_commit_as_a_whole(store: RedisStateStore, client: Redis) -> None:
    await store.acquire(0)
    await store.commit(0, commit(1))
    await client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await store.commit(0, commit(2))
    finally:
        await client.config_set("maxmemory", "0")
    assert await store.load(0, ["c1"]) == [b"state 1"]
    assert await store.outbox(0) == [OutboxEntry(1, Outgoing(ACTIONS, b"c1", b"action 1"))]
    await store.commit(0, commit(2))


async def test_deleting_a_state_ends_its_wake(store: RedisStateStore) -> None:
    await store.acquire(0)
    await store.commit(0, commit(1))
    await store.commit(
        0, Commit(epoch=1, sequence=2, next_offset=2, clock_ms=2, states={"c1": None}, wakes={}, outbox=[])
    )
    assert await store.next_wake_ms(0) is None


async def test_all_keys_of_a_partition_share_one_slot_of_a_cluster(store: RedisStateStore, client: Redis) -> None:
    for partition in (0, 1):
        await store.acquire(partition)
        await store.commit(partition, commit(1))
    slots = {}
    for partition in (0, 1):
        keys = [key async for key in client.scan_iter(f"{{journey:{store._workspace}:p{partition}}}:*")]
        assert len(keys) == 4
        slots[partition] = {key_slot(key) for key in keys}
    assert all(len(found) == 1 for found in slots.values())
    assert slots[0] != slots[1]
