"""How a request is made, where that is not the same for every connector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from connectors.clock import now_s
from connectors.http import HttpParameters, HttpSender
from connectors.http_pool import Exchange
from connectors.protocol import Result
from connectors.reach import Reach

HERE = HttpParameters().within(Reach.parsed("127.0.0.1"))
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_request_is_made_twice_when_a_kept_connection_ends_without_an_answer(method: str) -> None:
    heads: list[bytes] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (_ANSWER, b""):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(2)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sender = HttpSender(HERE, now_s)
    async with server:
        first, second = [await sender.send(method, url, body=b"{}", headers={}) for _ in range(2)]
        await sender.close()
    assert (first.result, second.result, len(heads)) == (Result.DELIVERED, Result.UNKNOWN, 2)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, and keep the connection until the other side ends it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_ANSWER)
    await reader.read()
    writer.close()


async def test_a_sender_that_was_closed_opens_connections_anew() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sender = HttpSender(HERE, now_s)
    async with server:
        for _ in range(2):
            assert (await sender.send("POST", url, body=b"", headers={})).result is Result.DELIVERED
            await sender.close()


async def test_what_a_request_took_is_free_when_it_has_ended() -> None:
    """In a cycle it would stay until the collector comes by, and in a role that is told to come rarely."""

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sender = HttpSender(HERE, now_s)
    gc.collect()
    gc.disable()
    try:
        async with server:
            await sender.send("POST", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", body=b"", headers={})
            assert [one for one in gc.get_objects() if isinstance(one, Exchange)] == []
            await sender.close()
    finally:
        gc.enable()
