"""Small servers for what one type promises beyond the suite: scripted answers, raw bytes, ports that do not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response

from connectors.conformance.bench import DELIVERY_ID, FACTS, LOOPBACK, NAME, NOW_S
from connectors.conformance.http_bench import served
from connectors.protocol import Connector, Delivery
from connectors.registry import build
from tests.contract.connectors.conftest import examples

__all__ = ["NOW_S", "At", "Scripted", "browsing", "delivery_for", "opened", "raw_server", "refusing_port", "served"]


@dataclass(frozen=True)
class At:
    """Stands in for a bench where only its address matters."""

    base: str


def delivery_for(type_name: str, **changes: Any) -> Delivery:
    example = examples()[type_name]
    delivery = Delivery(
        id=DELIVERY_ID,
        customer_id="c1",
        kind=example.kind,
        params=example.params,
        decided_at_ms=int(NOW_S * 1000) - 312,
        deadline_at_ms=int(NOW_S * 1000) + 60_000,
        facts=FACTS,
    )
    return replace(delivery, **changes)


@asynccontextmanager
async def opened(type_name: str, base: str, **settings: Any) -> AsyncIterator[Connector]:
    """A connector of the type, with its example's settings and secrets, whose system is at ``base``."""
    example = examples()[type_name]
    written = {"type": type_name, **example.settings(At(base)), **settings}
    connector = build(NAME, written, environ=example.environ(At(base)), now_s=lambda: NOW_S, reach=LOOPBACK)
    try:
        yield connector
    finally:
        await connector.close()


def browsing(base: str) -> httpx.AsyncClient:
    """A plain client; without TLS it need not read the certificate authorities."""
    return httpx.AsyncClient(base_url=base, verify=False, trust_env=False)


@dataclass
class Scripted:
    """An ASGI app that gives one answer to everything and keeps the requests it got."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    requests: list[tuple[str, httpx.Headers, bytes]] = field(default_factory=list)
    callers: set[Any] = field(default_factory=set)  # address and port of each connection

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
                await receive()
                await send({"type": answer})
            return
        request = Request(scope, receive)
        self.callers.add(scope["client"])
        self.requests.append((request.method, httpx.Headers(request.headers.raw), await request.body()))
        await Response(self.content, self.status, self.headers)(scope, receive, send)


@asynccontextmanager
async def raw_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve bytes, for what no proper HTTP server would do; ``answer`` runs once the request's head has been read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that is taken but not listened to: connecting to it is refused, and nobody else can open it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def unanswering_port() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel leaves further ones without an answer."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
