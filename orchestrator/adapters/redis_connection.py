"""Connections to Redis whose words are packed and parsed in C, and whose end is always an error of Redis.

The client has long used hiredis for answers, but packs what it sends in Python: microseconds for every argument, and a
commit has a thousand of them.

When a node of a cluster goes, the client closes all connections to it, those in use as well, and whoever uses one finds
nothing where the socket was: an AttributeError, which no retry knows. Here it is the ConnectionError that it means.
"""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

_CLOSED = "the connection was closed under way"


class _Packing:
    """Packs commands with hiredis; takes text, bytes and numbers."""

    def pack_command(self, *words: Any) -> list[bytes]:
        """Return a command as it goes over the wire; a name of two words ("SCRIPT LOAD") is two arguments."""
        name, *rest = words
        names = name.split() if isinstance(name, str | bytes) else [name]
        return [hiredis.pack_command((*names, *rest))]


class PackedConnection(_Packing, Connection):
    """A plain connection."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command that is packed."""
        try:
            await super().send_packed_command(command, check_health)
        except (AttributeError, TypeError) as error:
            if self.is_connected:
                raise
            raise RedisConnectionError(_CLOSED) from error

    async def read_response(self, *given: Any, **options: Any) -> Any:
        """Return the next answer."""
        try:
            return await super().read_response(*given, **options)
        except (AttributeError, TypeError) as error:
            if self.is_connected:
                raise
            raise RedisConnectionError(_CLOSED) from error


class PackedTlsConnection(PackedConnection, SSLConnection):
    """A connection over TLS."""


class PackedCluster(RedisCluster):
    """A client of a cluster over such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The client has no parameter for it. A node that is found later gets it from the same dictionary.
        packed = PackedTlsConnection if options.get("ssl") else PackedConnection
        self.connection_kwargs["connection_class"] = packed
        for node in self.startup_nodes:
            node.connection_class = packed


def packed_client(url: str, **options: Any) -> Redis:
    """Return a client for an address (redis:// or rediss://), with the options of redis-py's connections.

    A command waits up to ``timeout`` seconds for one of ``max_connections`` connections, and fails as a broken
    connection does when none came free. Raises ``ValueError`` for an address that cannot be read. Closing the client
    closes its connections.
    """
    pool = BlockingConnectionPool.from_url(url, **options)
    tls = issubclass(pool.connection_class, SSLConnection)
    pool.connection_class = PackedTlsConnection if tls else PackedConnection
    return Redis.from_pool(pool)


def cluster_client(url: str, **options: Any) -> RedisCluster:
    """Return a client for the cluster that the node at an address belongs to; it finds the others by itself.

    A command goes to the node that has its keys, and follows them when they move. Raises ``ValueError`` for an address
    that cannot be read or that no cluster can have (a database other than 0).
    """
    try:
        return PackedCluster.from_url(url, **options)
    except RedisClusterException as error:
        raise ValueError(str(error)) from None
