"""What a Redis is asked before a role begins, and for readiness: its format, and whether it takes a write."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from orchestrator.adapters.redis_format import FORMAT, check_format
from orchestrator.adapters.redis_probe import RedisProbe
from orchestrator.errors import ConfigurationError

pytestmark = pytest.mark.integration


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    await client.delete("{journey:formed:format}")
    yield client
    await client.aclose()


async def test_the_format_is_noted_once_and_another_one_is_refused_by_name(client: Redis) -> None:
    await check_format(client, "formed")
    assert await client.get("{journey:formed:format}") == str(FORMAT).encode()
    await check_format(client, "formed")
    await client.set("{journey:formed:format}", FORMAT + 1)
    with pytest.raises(ConfigurationError) as refused:
        await check_format(client, "formed")
    assert str(refused.value) == (
        f'Redis holds the workspace "formed" in the format {FORMAT + 1}, but this version of the engine knows '
        f"{FORMAT}. Start the version that wrote it, or name another Redis with JOURNEY_REDIS_URL."
    )
    await client.delete("{journey:formed:format}")


async def test_a_redis_that_is_full_is_not_ready_though_it_answers(client: Redis) -> None:
    probe = RedisProbe(client, "formed")
    assert await probe.obstacle() is None
    before = (await client.config_get("maxmemory"))["maxmemory"]
    await client.config_set("maxmemory", 1)
    try:
        found = await probe.obstacle()
    finally:
        await client.config_set("maxmemory", before)
    assert found is not None
    assert found.startswith("Nothing can be written to the store: ")
    assert "maxmemory" in found
    assert await probe.obstacle() is None
    assert 0 < await client.ttl("{journey:formed:probe}") <= 60
