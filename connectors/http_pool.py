"""Pooled connections over aiohttp, to permitted addresses only, and how far each request got."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult

from connectors.reach import ForbiddenTarget, Reach
from connectors.trust import public_authorities

ANSWER_BYTES_MAX = 64_000
#: Longest line of an answer's head.
HEADER_BYTES_MAX = 64_000
#: Shorter than the five seconds after which common servers close an idle connection, so that we close first.
IDLE_CONNECTION_S = 4.0


class Exchange:
    """One request: how far it got decides what its failure means. ``status`` is None while nothing was answered."""

    def __init__(self) -> None:
        #: There is a connection: from now on, bytes may have reached the other side.
        self.writing = False
        #: The address is out of reach.
        self.forbidden = False
        #: Why there is no answer; '' when time ran out.
        self.trouble = ""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        #: The first ``ANSWER_BYTES_MAX`` bytes of the answer, about.
        self.body = bytearray()

    async def run(self, request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> None:
        """Make the request and read its answer."""
        async with request as response:
            self.status, self.headers = response.status, response.headers
            async for chunk in response.content.iter_any():
                self.body += chunk
                if len(self.body) >= ANSWER_BYTES_MAX:
                    # What is left unread cannot be followed by another answer.
                    response.close()
                    break


class HttpPool:
    """Connections of one connector. Only within the loop that opened it; safe to use concurrently."""

    def __init__(self, reach: Reach, *, connections_max: int) -> None:
        """``reach`` says what may be connected to."""
        self._session = aiohttp.ClientSession(
            connector=GuardedConnector(
                reach, ssl=public_authorities(), limit=connections_max, keepalive_timeout=IDLE_CONNECTION_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[_tracing()],
            skip_auto_headers=["Content-Type"],
            trust_env=False,
        )
        # aiohttp would repeat a PUT by itself whose connection ends without an answer, and nobody would know of the
        # first. It has no parameter for that; a test notices when this one loses its meaning.
        self._session._retry_connection = False

    async def exchange(
        self, method: str, url: str, *, body: bytes, headers: Mapping[str, str], within_s: float
    ) -> Exchange:
        """Make one request and tell what it came to; never raises for what the network or the other side did."""
        exchange = Exchange()
        try:
            async with asyncio.timeout(within_s):
                await exchange.run(
                    self._session.request(
                        method,
                        url,
                        data=body or None,
                        headers={**headers, "Accept-Encoding": "identity"},
                        allow_redirects=False,
                        trace_request_ctx=exchange,
                    )
                )
        except TimeoutError:
            pass
        except aiohttp.ClientError as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            exchange.trouble = str(cause) or type(cause).__name__
            exchange.forbidden = isinstance(cause, ForbiddenTarget)
        return exchange

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _tracing() -> aiohttp.TraceConfig:
    """Have each exchange told that it has a connection."""

    async def connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
        context.trace_request_ctx.writing = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(connected)
    tracing.on_connection_reuseconn.append(connected)
    return tracing


class GuardedConnector(aiohttp.TCPConnector):
    """Opens aiohttp's connections, to permitted addresses only. TLS still names and verifies the host."""

    def __init__(self, reach: Reach, **options: Any) -> None:
        """``options`` are those of ``aiohttp.TCPConnector``. Only within a running loop."""
        super().__init__(**options)
        self._reach = reach

    # aiohttp's own resolvers are asked about names only, and a number must be judged as well. The tests of reach notice
    # when aiohttp no longer comes by here.
    async def _resolve_host(self, host: str, port: int, traces: object = None) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self._reach.addresses(host, port)
        ]
