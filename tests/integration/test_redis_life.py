"""What names the present run of a Redis: another after every restart, of any node."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from load_tests.servers import LocalRedis, LocalRedisCluster
from orchestrator.adapters.redis_connection import cluster_client
from orchestrator.adapters.redis_round_trip import life_of
from orchestrator.errors import StoreUnavailable

pytestmark = pytest.mark.integration


async def test_a_redis_that_was_started_again_has_another_life(tmp_path: Path) -> None:
    server = LocalRedis(tmp_path)
    await asyncio.to_thread(server.start)
    async with Redis.from_url(server.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
        first = await life_of(client)
        assert first == await life_of(client) != ""
        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable):
            await life_of(client)
        await asyncio.to_thread(server.start)
        assert await life_of(client) not in {first, ""}
    await asyncio.to_thread(server.stop)


async def test_a_cluster_has_the_lives_of_its_nodes(tmp_path: Path) -> None:
    with LocalRedisCluster(tmp_path, nodes=2) as cluster:
        client = cluster_client(cluster.url)
        first = await life_of(client)
        assert len(set(first.split())) == 2
        assert await life_of(client) == first
        await client.aclose()
