"""What each HTTP answer, and each way of giving none, comes to: the table of connectors/http.py."""

from __future__ import annotations

import asyncio

import pytest

from connectors.protocol import Receipt, Result
from tests.contract.connectors.servers import (
    Scripted,
    delivery_for,
    opened,
    raw_server,
    refusing_port,
    served,
    unanswering_port,
)

#: The types that take the table as it is; others read their provider's own error codes.
PLAIN = ("voice", "webhook")


@pytest.mark.parametrize("type_name", PLAIN)
class TestOverHttp:
    @pytest.mark.parametrize(
        ("status", "headers", "content", "expected"),
        [
            (200, {}, b'{"reference": "r-1"}', Receipt(result=Result.DELIVERED, status=200, reference="r-1")),
            (202, {}, b"", Receipt(result=Result.DELIVERED, status=202)),
            (400, {}, b"no such agent", Receipt(result=Result.REFUSED, status=400, detail="no such agent")),
            (404, {}, b"x" * 600, Receipt(result=Result.REFUSED, status=404, detail="x" * 500)),
            (
                302,
                {"Location": "http://127.0.0.1/"},
                b"",
                Receipt(
                    result=Result.REFUSED,
                    status=302,
                    detail="redirects are not followed; it points to http://127.0.0.1/",
                ),
            ),
            (408, {}, b"", Receipt(result=Result.RETRY, status=408)),
            (
                429,
                {"Retry-After": "7"},
                b"slow down",
                Receipt(result=Result.RETRY, status=429, detail="slow down", retry_after_s=7),
            ),
            (
                503,
                {"Retry-After": "Mon, 02 Mar 2026 09:01:00 GMT"},
                b"",
                Receipt(result=Result.RETRY, status=503, retry_after_s=60),
            ),
            (500, {}, b"oops", Receipt(result=Result.RETRY, status=500, detail="oops")),
        ],
    )
    async def test_each_answer_has_its_receipt(
        self, type_name: str, status: int, headers: dict[str, str], content: bytes, expected: Receipt
    ) -> None:
        app = Scripted(status, headers, content)
        async with served(app) as base, opened(type_name, base) as connector:
            assert await connector.send(delivery_for(type_name)) == expected
        assert len(app.requests) == 1

    async def test_a_refused_connection_is_to_be_retried(self, type_name: str) -> None:
        with refusing_port() as port:
            async with opened(type_name, f"http://127.0.0.1:{port}") as connector:
                receipt = await connector.send(delivery_for(type_name))
                advice = await connector.check()
        assert (receipt.result, receipt.status) == (Result.RETRY, None)
        assert receipt.detail.startswith("no connection to 127.0.0.1: ")
        assert advice is not None
        assert advice.endswith(". Check the URL, the network and that 127.0.0.1 is running.")

    async def test_a_connection_that_is_never_made_is_to_be_retried(self, type_name: str) -> None:
        with unanswering_port() as port:
            async with opened(type_name, f"http://127.0.0.1:{port}", timeout_s=0.2) as connector:
                receipt = await connector.send(delivery_for(type_name))
        assert receipt == Receipt(result=Result.RETRY, detail="no connection to 127.0.0.1: no answer within 0.2 s")

    async def test_silence_after_the_request_is_unknown(self, type_name: str) -> None:
        async def stay_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with raw_server(stay_silent) as base, opened(type_name, base, timeout_s=0.2) as connector:
            receipt = await connector.send(delivery_for(type_name))
        assert receipt == Receipt(
            result=Result.UNKNOWN, detail="the request to 127.0.0.1 was written, then: no answer within 0.2 s"
        )

    async def test_a_reset_after_the_request_is_unknown(self, type_name: str) -> None:
        async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with raw_server(reset) as base, opened(type_name, base) as connector:
            receipt = await connector.send(delivery_for(type_name))
        assert receipt.result is Result.UNKNOWN
        assert receipt.detail.startswith("the request to 127.0.0.1 was written, then: ")

    async def test_an_answer_that_is_not_http_is_unknown(self, type_name: str) -> None:
        async def talk_nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 smtp.example.com ready\r\n\r\n")
            await writer.drain()

        async with raw_server(talk_nonsense) as base, opened(type_name, base) as connector:
            assert (await connector.send(delivery_for(type_name))).result is Result.UNKNOWN

    async def test_a_long_header_of_the_answer_is_no_trouble(self, type_name: str) -> None:
        async def chatty(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            policy = b"x" * 30_000
            writer.write(b"HTTP/1.1 202 Accepted\r\nX-Policy: " + policy + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

        async with raw_server(chatty) as base, opened(type_name, base) as connector:
            assert await connector.send(delivery_for(type_name)) == Receipt(result=Result.DELIVERED, status=202)

    async def test_a_status_counts_although_the_rest_of_the_answer_never_comes(self, type_name: str) -> None:
        async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf")
            await writer.drain()
            await reader.read()

        async with raw_server(half_an_answer) as base, opened(type_name, base, timeout_s=0.3) as connector:
            assert await connector.send(delivery_for(type_name)) == Receipt(result=Result.DELIVERED, status=202)

    async def test_an_endless_answer_is_cut_off(self, type_name: str) -> None:
        async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                writer.write(b"x" * 50_000)
                await writer.drain()

        async with raw_server(pour) as base, opened(type_name, base) as connector:
            receipt = await connector.send(delivery_for(type_name))
        assert receipt == Receipt(result=Result.REFUSED, status=400, detail="x" * 500)

    async def test_the_idempotency_key_is_the_same_on_every_attempt(self, type_name: str) -> None:
        app = Scripted(status=503)
        async with served(app) as base, opened(type_name, base) as connector:
            for attempt in (1, 2, 3):
                await connector.send(delivery_for(type_name, attempt=attempt))
        assert [headers["idempotency-key"] for _, headers, _ in app.requests] == ["7d0c41"] * 3

    async def test_credentials_that_are_refused_are_told_by_the_check(self, type_name: str) -> None:
        async with served(Scripted(status=401)) as base, opened(type_name, base) as connector:
            advice = await connector.check()
        assert advice == "127.0.0.1 answered 401. Check the credentials of this connector."

    async def test_a_system_out_of_order_is_told_by_the_check(self, type_name: str) -> None:
        async with served(Scripted(status=502)) as base, opened(type_name, base) as connector:
            assert await connector.check() == "127.0.0.1 answered 502. It is reachable but not in order."

    async def test_the_check_changes_nothing(self, type_name: str) -> None:
        app = Scripted(status=405)
        async with served(app) as base, opened(type_name, base) as connector:
            assert await connector.check() is None
        assert [(method, body) for method, _, body in app.requests] == [("HEAD", b"")]

    async def test_headers_of_the_settings_are_added(self, type_name: str) -> None:
        app = Scripted()
        async with served(app) as base, opened(type_name, base, headers={"X-Key": "k"}) as connector:
            await connector.send(delivery_for(type_name))
        assert app.requests[0][1]["x-key"] == "k"

    async def test_connections_are_used_again(self, type_name: str) -> None:
        app = Scripted()
        async with served(app) as base, opened(type_name, base) as connector:
            for number in range(3):
                await connector.send(delivery_for(type_name, id=f"id-{number}"))
        assert len(app.callers) == 1
