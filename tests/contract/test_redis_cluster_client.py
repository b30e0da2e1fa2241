"""The client of a Redis Cluster: an error of its own whatever happens to a connection, whichever node it is to."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from orchestrator.adapters.redis_connection import PackedConnection, cluster_client

pytestmark = pytest.mark.integration


async def test_every_node_that_is_found_is_spoken_to_over_our_connections(cluster_url: str) -> None:
    client = cluster_client(cluster_url)
    for number in range(20):
        await client.set(f"k{number}", number, px=60_000)
    nodes = client.get_nodes()
    assert len(nodes) == 2
    used = [connection for node in nodes for connection in node._connections]
    assert {type(one) for one in used} == {PackedConnection}
    assert {node.connection_class for node in nodes} == {PackedConnection}
    await client.aclose()


async def test_a_connection_that_another_task_closes_is_a_connection_error(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    connection = PackedConnection(host="127.0.0.1", port=port)
    await connection.connect()
    waiting = asyncio.create_task(connection.read_response())
    await asyncio.sleep(0)
    await connection.disconnect(nowait=True)
    with pytest.raises(RedisConnectionError):
        await waiting


async def test_commands_survive_that_all_connections_are_closed_while_they_are_under_way(cluster_url: str) -> None:
    client = cluster_client(cluster_url)
    await client.ping()

    async def count(number: int) -> None:
        for _ in range(50):
            await client.incr(f"count-{number}")

    async def disturb() -> None:
        for _ in range(20):
            await asyncio.gather(*(node.disconnect() for node in client.get_nodes()), return_exceptions=True)
            await asyncio.sleep(0.001)

    outcomes = await asyncio.gather(*(count(number) for number in range(8)), disturb(), return_exceptions=True)
    unexpected = [one for one in outcomes if one is not None and not isinstance(one, RedisConnectionError)]
    assert unexpected == []
    await client.aclose()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/3", "redis://127.0.0.1:port", "nonsense"])
def test_an_address_that_no_cluster_can_have_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError):
        cluster_client(url)
