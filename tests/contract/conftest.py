"""The implementations of each port. A suite runs once for every line of its table.

An implementation opens adapters over contents that outlive them: ``open`` again after ``close`` finds what was
kept, as a process does that starts anew; ``open`` beside an open one is a second process.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from load_tests.servers import LocalRedisCluster
from orchestrator.adapters import sqlite_dispatch_queue, sqlite_log, sqlite_state_store
from orchestrator.adapters.memory_dispatch_queue import MemoryDispatchQueue
from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.adapters.memory_state_store import MemoryStateStore
from orchestrator.adapters.redis_connection import cluster_client
from orchestrator.adapters.redis_dispatch_queue import RedisDispatchQueue
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_dispatch_queue import SqliteDispatchQueue
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.adapters.sqlite_state_store import SqliteStateStore
from orchestrator.runtime.dispatch import DeliveryQueue
from orchestrator.runtime.ports import StateStore


class SettableClock:
    """A clock that stands still until a test sets ``moment_ms``."""

    def __init__(self) -> None:
        self.moment_ms = 1_772_000_000_000

    def now_ms(self) -> int:
        return self.moment_ms

    async def sleep(self, seconds: float) -> None:
        self.moment_ms += round(seconds * 1000)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


# -------------------------------------------------------------------------------------------- state stores


class StateStores(Protocol):
    async def open(self, workspace: str = "default") -> StateStore: ...

    async def close(self) -> None: ...


class MemoryStateStores:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._stores: dict[str, MemoryStateStore] = {}

    async def open(self, workspace: str = "default") -> StateStore:
        return self._stores.setdefault(workspace, MemoryStateStore())

    async def close(self) -> None:
        pass


class SqliteStateStores:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._folder: Path = request.getfixturevalue("tmp_path")
        self._databases: list[SqliteDatabase] = []

    async def open(self, workspace: str = "default") -> StateStore:
        database = SqliteDatabase(self._folder / f"{workspace}.db", sqlite_state_store.SCHEMA)
        self._databases.append(database)
        await database.open()
        return SqliteStateStore(database)

    async def close(self) -> None:
        while self._databases:
            await self._databases.pop().close()


class RedisStateStores:
    """Every test has workspaces of its own on the one server; another client is another process."""

    url_fixture = "redis_url"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._url: str = request.getfixturevalue(self.url_fixture)
        self._test = uuid.uuid4().hex[:12]
        self._clients: list[Redis | RedisCluster] = []

    def client(self) -> Redis | RedisCluster:
        return Redis.from_url(self._url)

    async def open(self, workspace: str = "default") -> StateStore:
        client = self.client()
        self._clients.append(client)
        return RedisStateStore(client, f"{workspace}-{self._test}")

    async def close(self) -> None:
        while self._clients:
            await self._clients.pop().aclose()


class RedisClusterStateStores(RedisStateStores):
    """The same over a cluster, where keys lie apart unless their tag keeps them together."""

    url_fixture = "cluster_url"

    def client(self) -> RedisCluster:
        return cluster_client(self._url)


#: One line per implementation; ``marks=pytest.mark.integration`` where it needs a server.
STATE_STORES = [
    pytest.param(MemoryStateStores, id="memory"),
    pytest.param(SqliteStateStores, id="sqlite"),
    pytest.param(RedisStateStores, id="redis", marks=pytest.mark.integration),
    pytest.param(RedisClusterStateStores, id="cluster", marks=pytest.mark.integration),
]


@pytest.fixture(params=STATE_STORES)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[StateStores]:
    implementation: Callable[[pytest.FixtureRequest], StateStores] = request.param
    opened = implementation(request)
    yield opened
    await opened.close()


@pytest.fixture
async def store(stores: StateStores) -> StateStore:
    return await stores.open()


# ---------------------------------------------------------------------------------------------- event logs


class EventLogs(Protocol):
    async def open(self, partitions: Mapping[str, int] | int = 1) -> Any: ...

    async def close(self) -> None: ...


class MemoryEventLogs:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._clock: SettableClock = request.getfixturevalue("clock")
        self._log: MemoryEventLog | None = None

    async def open(self, partitions: Mapping[str, int] | int = 1) -> MemoryEventLog:
        if self._log is None:
            self._log = MemoryEventLog(self._clock, partitions)
        return self._log

    async def close(self) -> None:
        pass


class SqliteEventLogs:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._clock: SettableClock = request.getfixturevalue("clock")
        self._path: Path = request.getfixturevalue("tmp_path") / "log.db"
        self._databases: list[SqliteDatabase] = []

    async def open(self, partitions: Mapping[str, int] | int = 1) -> SqliteEventLog:
        database = SqliteDatabase(self._path, sqlite_log.SCHEMA)
        self._databases.append(database)
        await database.open()
        return SqliteEventLog(database, self._clock, partitions)

    async def close(self) -> None:
        while self._databases:
            await self._databases.pop().close()


EVENT_LOGS = [
    pytest.param(MemoryEventLogs, id="memory"),
    pytest.param(SqliteEventLogs, id="sqlite"),
]


@pytest.fixture(params=EVENT_LOGS)
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[EventLogs]:
    implementation: Callable[[pytest.FixtureRequest], EventLogs] = request.param
    opened = implementation(request)
    yield opened
    await opened.close()


@pytest.fixture
async def log(logs: EventLogs) -> Any:
    return await logs.open()


# ------------------------------------------------------------------------------------------ dispatch queues


@pytest.fixture
async def memory() -> DeliveryQueue:
    return MemoryDispatchQueue()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[DeliveryQueue]:
    database = SqliteDatabase(tmp_path / "queue.db", sqlite_dispatch_queue.SCHEMA)
    await database.open()
    yield SqliteDispatchQueue(database)
    await database.close()


@pytest.fixture
def workspace() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def client(redis_url: str, workspace: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    async for key in client.scan_iter(match=f"*journey:{workspace}:*", count=1000):
        await client.delete(key)
    await client.aclose()


@pytest.fixture
async def redis(client: Redis, workspace: str) -> DeliveryQueue:
    return RedisDispatchQueue(client, workspace)


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two nodes: each refuses what is the other's, and every script whose keys are not of one slot."""
    with LocalRedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


@pytest.fixture
async def cluster(cluster_url: str, workspace: str) -> AsyncIterator[DeliveryQueue]:
    client = cluster_client(cluster_url)
    yield RedisDispatchQueue(client, workspace)
    await client.aclose()


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.integration),
        pytest.param("cluster", marks=pytest.mark.integration),
    ]
)
def implementation(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def queue(implementation: str, request: pytest.FixtureRequest) -> DeliveryQueue:
    return request.getfixturevalue(implementation)


@pytest.fixture
def another_memory(memory: DeliveryQueue) -> DeliveryQueue:
    return memory


@pytest.fixture
async def another_sqlite(sqlite: DeliveryQueue, tmp_path: Path) -> AsyncIterator[DeliveryQueue]:
    database = SqliteDatabase(tmp_path / "queue.db", sqlite_dispatch_queue.SCHEMA)
    await database.open()
    yield SqliteDispatchQueue(database)
    await database.close()


@pytest.fixture
async def another_redis(redis: DeliveryQueue, redis_url: str, workspace: str) -> AsyncIterator[DeliveryQueue]:
    client = Redis.from_url(redis_url)
    yield RedisDispatchQueue(client, workspace)
    await client.aclose()


@pytest.fixture
async def another_cluster(cluster_url: str, workspace: str) -> AsyncIterator[DeliveryQueue]:
    client = cluster_client(cluster_url)
    yield RedisDispatchQueue(client, workspace)
    await client.aclose()


@pytest.fixture
def another(implementation: str, request: pytest.FixtureRequest) -> DeliveryQueue:
    """The contents of ``queue``, as another process sees them."""
    return request.getfixturevalue(f"another_{implementation}")
