"""Connections to Redis whose words are packed and parsed in C.

The client has long used hiredis for answers, but packs what it sends in Python: microseconds for every argument, and a
commit has a thousand of them.
"""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection


class _Packing:
    """Packs commands with hiredis; takes text, bytes and numbers."""

    def pack_command(self, *words: Any) -> list[bytes]:
        """Return a command as it goes over the wire; a name of two words ("SCRIPT LOAD") is two arguments."""
        name, *rest = words
        names = name.split() if isinstance(name, str | bytes) else [name]
        return [hiredis.pack_command((*names, *rest))]


class PackedConnection(_Packing, Connection):
    """A plain connection."""


class PackedTlsConnection(_Packing, SSLConnection):
    """A connection over TLS."""


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
