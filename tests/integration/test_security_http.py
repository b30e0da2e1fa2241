"""The gateway's sockets: TLS, patience with slow clients, the size of heads and trailers, and whose word about clients
counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from orchestrator.errors import ConfigurationError
from orchestrator.gateway.connection import FRAMING_BYTES_MAX, HEAD_BYTES_MAX
from orchestrator.gateway.server import GatewayServer, Terms
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

#: So short that tests do not wait, so long that a busy machine sends a small request within it.
BRIEF = Terms(request_timeout_s=0.5)
WITHIN_S = 20


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse({"bytes": len(body), "scheme": request.url.scheme, "client": request.scope["client"][0]})


APP = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])


@contextlib.asynccontextmanager
async def connected(server: GatewayServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with held(*await asyncio.open_connection("127.0.0.1", server.port)) as streams:
        yield streams


@contextlib.asynccontextmanager
async def held(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(WITHIN_S):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def status_and_problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head
    return int(head.split(b" ")[1]), json.loads(body)["type"].removeprefix("urn:journey:problem:")


# ------------------------------------------------------------------------------------------------- slow clients


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nHost: gateway\r\n",
        b"GET",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["in its headers", "in its method", "before its body", "in its body", "between its chunks"],
)
async def test_a_request_that_stops_arriving_is_answered_408_and_closed(begun: bytes) -> None:
    async with GatewayServer(APP, terms=BRIEF) as server, connected(server) as (reader, writer):
        writer.write(begun)
        assert status_and_problem(await reader.read()) == (408, "too_slow")


async def test_a_byte_now_and_then_does_not_prolong_the_time_of_a_request() -> None:
    async with GatewayServer(APP, terms=BRIEF) as server, connected(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            with contextlib.suppress(OSError):
                while not writer.is_closing():
                    writer.write(b"x: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answer = await reader.readuntil(b"\r\n")
        dripping.cancel()
        assert answer == b"HTTP/1.1 408 Request Timeout\r\n"


async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word() -> None:
    async with GatewayServer(APP, terms=BRIEF) as server, connected(server) as (reader, _):
        assert await reader.read() == b""


async def test_a_slow_answer_is_no_slow_request() -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def slow(_request: Request) -> Response:
        arrived.set()
        await answer.wait()
        return Response("done")

    app = Starlette(routes=[Route("/", slow)])
    async with GatewayServer(app, terms=BRIEF) as server, connected(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        await arrived.wait()
        other = asyncio.create_task(connected_until_closed(server))
        await other  # A connection opened after this one has run out of its time: so has this one's.
        answer.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")


async def connected_until_closed(server: GatewayServer) -> None:
    async with connected(server) as (reader, _):
        assert await reader.read() == b""


async def test_requests_of_one_connection_have_their_time_each() -> None:
    async with GatewayServer(APP, terms=BRIEF) as server, httpx.AsyncClient(base_url=server.url) as client:
        for size in (0, 10, 300_000):
            assert (await client.post("/", content=b"x" * size)).json()["bytes"] == size


# ------------------------------------------------------------------------------------------- clients that do not read

LARGE = b"x" * 4_000_000


async def large(_request: Request) -> Response:
    return Response(LARGE)


@contextlib.asynccontextmanager
async def narrow(server: GatewayServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on whose way to the client hardly anything has room."""
    connecting = socket.socket()
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connecting.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", server.port))
    async with held(*await asyncio.open_connection(sock=connecting, limit=1024)) as streams:
        yield streams


@pytest.mark.parametrize("ends", [b"close", b"keep-alive"])
async def test_an_answer_that_nobody_reads_is_not_kept(ends: bytes) -> None:
    app = Starlette(routes=[Route("/", large)])
    async with GatewayServer(app, terms=BRIEF) as server, narrow(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: " + ends + b"\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await connected_until_closed(server)  # It was opened later, so the time of what is unread has run out.
        read = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65_536):
                read += len(piece)
        assert read < len(LARGE)


async def test_an_answer_without_end_that_nobody_reads_ends() -> None:
    gone = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Starlette()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": LARGE, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with GatewayServer(endless, terms=BRIEF) as server, narrow(server) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")
        await gone.wait()


async def test_many_requests_whose_answers_nobody_reads_are_not_kept() -> None:
    answered = 0

    async def small(_request: Request) -> Response:
        nonlocal answered
        answered += 1
        return Response(LARGE[:60_000])

    app = Starlette(routes=[Route("/", small)])
    async with GatewayServer(app, terms=BRIEF) as server, narrow(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n" * 200)
        await reader.readuntil(b"\r\n\r\n")
        await connected_until_closed(server)
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(65_536):
                pass
        assert answered < 200


async def test_a_client_that_reads_slowly_gets_all_of_a_large_answer() -> None:
    app = Starlette(routes=[Route("/", large)])
    async with GatewayServer(app, terms=BRIEF) as server, narrow(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        read = 0
        while read < len(LARGE):
            read += len(await reader.readexactly(200_000))
            await asyncio.sleep(0.05)
        assert await reader.read() == b""


# ---------------------------------------------------------------------------------------------------- large heads


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * HEAD_BYTES_MAX + b" HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (HEAD_BYTES_MAX // 2) + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 4 * HEAD_BYTES_MAX,
    ],
    ids=["a long target", "a long header", "many headers", "a header without end"],
)
async def test_a_head_that_is_too_large_is_answered_431(head: bytes) -> None:
    async with GatewayServer(APP) as server, connected(server) as (reader, writer):
        writer.write(head)
        answer = await reader.readuntil(b"\r\n")
        assert answer == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


async def test_a_head_within_the_bound_is_taken() -> None:
    async with GatewayServer(APP) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/", headers={"x": "x" * (HEAD_BYTES_MAX - 1_000)})).status_code == 200


# -------------------------------------------------------------------------------------------------------- trailers

CHUNKED = b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_MUCH = {
    "many trailers": b"0\r\n" + b"x: y\r\n" * (FRAMING_BYTES_MAX // 2),
    "a trailer without end": b"0\r\nx: " + b"y" * 3 * FRAMING_BYTES_MAX,
    "a chunk's extension without end": b"3;x=" + b"y" * 3 * FRAMING_BYTES_MAX,
}


async def trickle(writer: asyncio.StreamWriter, sent: bytes) -> None:
    """Send in pieces that are read one by one; until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(sent), 16_384):
            writer.write(sent[start : start + 16_384])
            await writer.drain()
            await asyncio.sleep(0)


@pytest.mark.parametrize("sent", TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_what_stands_around_a_body_is_bounded_before_the_answer(sent: bytes) -> None:
    async with GatewayServer(APP) as server, connected(server) as (reader, writer):
        writer.write(CHUNKED)
        sending = asyncio.create_task(trickle(writer, sent))
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        await sending


@pytest.mark.parametrize("sent", TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_what_stands_around_a_body_is_bounded_after_the_answer(sent: bytes) -> None:
    """Whoever has no key is answered before the body, and could go on sending."""

    async def refuse(_request: Request) -> Response:
        return Response(status_code=401)

    app = Starlette(routes=[Route("/", refuse, methods=["POST"])])
    async with GatewayServer(app) as server, connected(server) as (reader, writer):
        writer.write(CHUNKED)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        await trickle(writer, sent)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_a_trailer_is_no_header_and_the_next_request_is_taken() -> None:
    async def names(request: Request) -> Response:
        body = await request.body()
        return JSONResponse([len(body), request.headers.keys()])

    app = Starlette(routes=[Route("/", names, methods=["POST"])])
    last = b"POST / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
    async with GatewayServer(app) as server, connected(server) as (reader, writer):
        writer.write(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n" + last)
        answers = await reader.read()
    assert b'[3,["host","transfer-encoding"]]' in answers
    assert b'[0,["host","connection"]]' in answers


async def test_a_body_of_small_chunks_is_taken_whatever_its_framing_amounts_to() -> None:
    chunks = b"1\r\nx\r\n" * FRAMING_BYTES_MAX
    async with GatewayServer(APP) as server, connected(server) as (reader, writer):
        writer.write(CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + chunks + b"0\r\n\r\n")
        assert f'"bytes":{FRAMING_BYTES_MAX}'.encode() in await reader.read()


# --------------------------------------------------------------------------------------------------------- proxies


@pytest.mark.parametrize(
    ("trusted", "scheme", "client"),
    [((), "http", "127.0.0.1"), (("10.0.0.1",), "http", "127.0.0.1"), (("127.0.0.1",), "https", "203.0.113.9")],
)
async def test_a_forwarded_header_counts_only_from_a_proxy_that_is_named(
    trusted: tuple[str, ...], scheme: str, client: str
) -> None:
    terms = Terms.of(Settings(trusted_proxies=trusted))
    headers = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
    async with GatewayServer(APP, terms=terms) as server, httpx.AsyncClient(base_url=server.url) as caller:
        found = (await caller.get("/", headers=headers)).json()
    assert (found["scheme"], found["client"]) == (scheme, client)


# ------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def settings(authority: trustme.CA, tmp_path: Path) -> Settings:
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "gateway.pem", tmp_path / "gateway.key"
    issued.private_key_pem.write_to_path(key)
    for part in issued.cert_chain_pems:
        part.write_to_path(certificate, append=True)
    return Settings(tls_certificate=certificate, tls_key=key)


async def test_the_gateway_speaks_https_with_its_own_certificate(settings: Settings, authority: trustme.CA) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with GatewayServer(APP, terms=Terms.of(settings)) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=server.url, verify=trusting) as client:
            assert (await client.get("/")).json()["scheme"] == "https"
        async with httpx.AsyncClient(base_url=server.url, verify=ssl.create_default_context()) as stranger:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.get("/")
        async with httpx.AsyncClient() as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get(f"http://127.0.0.1:{server.port}/")


async def test_a_certificate_that_cannot_be_used_is_named_with_the_remedy(settings: Settings, tmp_path: Path) -> None:
    key = tmp_path / "other.key"
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(key)
    with pytest.raises(ConfigurationError) as refused:
        GatewayServer(APP, terms=Terms(certificate=settings.tls_certificate, key=key))
    assert str(refused.value).startswith(f"The certificate {settings.tls_certificate} and the key {key} cannot be used")


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="JOURNEY_TLS_CERTIFICATE and JOURNEY_TLS_KEY belong together: set both"):
        Settings(tls_certificate="gateway.pem")
