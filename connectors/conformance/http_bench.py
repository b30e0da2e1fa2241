"""The bench of a system that speaks HTTP: its faithful server, served on loopback, with faults put before it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from connectors.conformance.bench import Exchange, How

RETRY_AFTER_S = 7
#: Headers that every client sends and that mean nothing to the system behind.
TRANSPORT_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length", "date", "server", "allow"}
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bench says instead of the server. A body that is not bytes is written as JSON."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """Return it as a response."""
        if isinstance(self.body, bytes):
            return Response(self.body, self.status, dict(self.headers))
        return Response(json.dumps(self.body), self.status, dict(self.headers), "application/json")


def posted(request: Mapping[str, Any]) -> bool:
    """Whether a request attempts a delivery, for systems where whatever changes something does."""
    return request["method"] not in {"GET", "HEAD", "OPTIONS"}


class HttpBench:
    """Serves ``app`` and answers deliveries in its place when told to. ``is_attempt`` tells which requests those are.

    ``refusal`` is how the provider refuses one for good; ``refusal_words`` the part of it that a receipt must quote.
    ``instead`` replaces the plain answers of other kinds by the provider's own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        refusal: Answer,
        refusal_words: str,
        instead: Mapping[How, Answer | Callable[[Mapping[str, Any]], Answer]] | None = None,
        is_attempt: Callable[[Mapping[str, Any]], bool] = posted,
    ) -> None:
        self.heard: list[Exchange] = []
        self.refusal = refusal_words
        self.retry_after_s: float | None = RETRY_AFTER_S
        self._app = app
        self._answers: dict[How, Answer | Callable[[Mapping[str, Any]], Answer]] = {
            How.REFUSE: refusal,
            How.RETRY_LATER: Answer(429, b"slow down", {"Retry-After": str(RETRY_AFTER_S)}),
            How.BROKEN: Answer(503, b"out of order"),
            How.BAD_CREDENTIALS: Answer(401, b"who are you?"),
            **(instead or {}),
        }
        self._is_attempt = is_attempt
        self._how = How.OK
        self._served_at = ""
        self._refusing_at = ""

    @property
    def base(self) -> str:
        """Its URL, without a slash at the end."""
        return self._refusing_at if self._how is How.GONE else self._served_at

    async def answers(self, how: How) -> None:
        """Answer in this way from now on."""
        self._how = how

    @asynccontextmanager
    async def served(self) -> AsyncIterator[HttpBench]:
        """Serve until the block ends."""
        with socket.socket() as taken:
            # A port that is taken but not listened to refuses connections, and nobody else can open it.
            taken.bind(("127.0.0.1", 0))
            self._refusing_at = f"http://127.0.0.1:{taken.getsockname()[1]}"
            async with served(self) as self._served_at:
                yield self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and keep both."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        heard = _heard(Request(scope), body)
        attempt = self._is_attempt(heard)
        how = self._how if attempt or self._how is How.BAD_CREDENTIALS else How.OK
        if how is How.HANG:
            self.heard.append(Exchange(request=heard, answer=None, attempt=attempt))
            await receive()  # Returns when the caller has gone.
            return
        answer = _Listening(send)
        scripted = self._answers.get(how)
        if scripted is None:
            await self._app(scope, _once(body, receive), answer)
        else:
            chosen = scripted if isinstance(scripted, Answer) else scripted(heard)
            await chosen.response()(scope, receive, answer)
        self.heard.append(Exchange(request=heard, answer=answer.said(), attempt=attempt))


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of loopback, in this loop; yields its URL.

    It is uvicorn's protocol without uvicorn's server, whose start and end take a fifth of a second each time.
    """
    config = uvicorn.Config(app, log_config=None, ws="none", lifespan="auto")
    config.load()
    lifespan, state = config.lifespan_class(config), ServerState()
    protocol: Any = config.http_protocol_class
    await lifespan.startup()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state=lifespan.state), "127.0.0.1", 0
    )
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        async with asyncio.timeout(10):
            while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn has no event for it.
                await asyncio.sleep(0.001)
        await lifespan.shutdown()


class _Listening:
    """Passes an answer on and keeps it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._headers: Sequence[tuple[bytes, bytes]] = ()
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], message.get("headers", ())
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
        await self._send(message)

    def said(self) -> dict[str, Any]:
        headers = _meaningful(self._headers)
        return {"status": self._status, "headers": headers, "body": _value(self._body, headers.get("content-type", ""))}


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _once(body: bytes, receive: Receive) -> Receive:
    """Hand the body on as one message, then whatever comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _heard(request: Request, body: bytes) -> dict[str, Any]:
    headers = _meaningful(request.headers.raw)
    return {
        "method": request.method,
        "path": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "headers": headers,
        "body": _value(body, headers.get("content-type", "")),
    }


def _meaningful(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    decoded = {name.decode().lower(): value.decode("latin-1") for name, value in headers}
    return {name: decoded[name] for name in sorted(decoded) if name not in TRANSPORT_HEADERS}


def _value(body: bytes, media_type: str) -> Any:
    """Return a body as JSON shows it best: JSON and forms as values, anything else as text."""
    text = body.decode("utf-8", "replace")
    if "x-www-form-urlencoded" in media_type:
        pairs = parse_qsl(text, keep_blank_values=True)
        return dict(pairs) if len(dict(pairs)) == len(pairs) else [list(pair) for pair in pairs]
    if "json" in media_type:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
