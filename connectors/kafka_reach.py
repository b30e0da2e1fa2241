"""Reach for aiokafka, which connects by itself, and to whatever addresses the brokers give for each other.

Whoever owns a broker may have it name any address, and any name may answer differently the second time. So every
connection of a client is judged when it is opened, and goes to the address that was judged; see ``connectors.reach``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from connectors.reach import ForbiddenTarget, Reach

Opened = tuple[asyncio.Transport, asyncio.Protocol]


class BrokerForbidden(Exception):
    """A broker is out of reach; the message says which and what to do. No ``OSError``: aiokafka would go on."""


def guard(client: Any, connection_type: Any, reach: Reach) -> None:
    """Have ``reach`` judge every connection of one ``AIOKafkaClient``; ``connection_type`` is ``AIOKafkaConnection``.

    ``bootstrap`` then raises ``BrokerForbidden``. Later connections are not opened, the client logs why, and goes on
    without the broker.

    aiokafka lets nobody say how it connects. The two methods that open connections get a function of ours in place of
    its ``create_conn``, on this client alone. The tests of the connector notice when it connects from elsewhere.
    """
    dial = partial(_dialed, reach, connection_type)
    for name, create_conn in (("bootstrap", partial(_bootstrapped, dial)), ("_get_conn", dial)):
        theirs = getattr(type(client), name)
        ours = FunctionType(theirs.__code__, theirs.__globals__ | {"create_conn": create_conn}, name)
        ours.__defaults__, ours.__kwdefaults__ = theirs.__defaults__, theirs.__kwdefaults__
        setattr(client, name, MethodType(ours, client))


async def opened(
    reach: Reach, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None = None
) -> Opened:
    """Connect to the first address of ``host`` that may be reached and answers; TLS names and verifies the host.

    Raises ``ForbiddenTarget`` when none may be reached, another ``OSError`` when none answers.
    """
    loop = asyncio.get_running_loop()
    trouble: OSError | None = None
    for address in await reach.addresses(host, port):
        try:
            return await loop.create_connection(factory, address, port, ssl=tls, server_hostname=host if tls else None)
        except OSError as error:
            trouble = error
    raise trouble or OSError("it has no address")


async def _bootstrapped(dial: Callable[..., Any], host: str, port: int, **settings: Any) -> Any:
    try:
        return await dial(host, port, **settings)
    except ForbiddenTarget as error:
        raise BrokerForbidden(f"{error}.") from None


async def _dialed(reach: Reach, connection_type: Any, host: str, port: int, **settings: Any) -> Any:
    """Do what ``create_conn`` does, within reach."""
    connection = connection_type(host, port, **settings)
    connection._loop = _GuardedLoop(connection._loop, reach)
    await connection.connect()
    return connection


class _GuardedLoop:
    """The event loop as a connection of aiokafka sees it: what it connects to is judged first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reach: Reach) -> None:
        self._loop = loop
        self._reach = reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, ssl: ssl.SSLContext | None
    ) -> Opened:
        return await opened(self._reach, factory, host, port, ssl)
