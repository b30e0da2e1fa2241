"""The contract of every connector, over every registered type, against real HTTP servers on loopback.

A type that has no working example in ``EXAMPLES`` fails the suite: nothing is registered untested.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from connectors.connector_type import KINDS, ConnectorType
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector, Delivery, Receipt, Result
from connectors.receiver import create_app
from connectors.registry import build, connector_types
from connectors.signature import parse_secrets, verify

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TOKEN = "t0ken"
NOW_S = 1_772_442_000.0
ENVIRON = {"SECRET": SECRET, "TOKEN": TOKEN}
FACTS = {
    "rule": "lead-callback",
    "rulebook_version": "9f31",
    "journey": "enquiry",
    "stage": "new",
    "reason": "triggered",
}

TYPES = connector_types()
BY_TYPE = {known.type: known for known in TYPES}


@dataclass(frozen=True)
class Example:
    """A working connector of one type: its settings against a server, a path there, and what one delivery brings."""

    settings: Callable[[str], dict[str, Any]]
    kind: str
    params: dict[str, Any]
    path: str = ""


EXAMPLES = {
    "voice": Example(
        settings=lambda base: {"type": "voice", "base_url": base, "token_env": "TOKEN"},
        kind="call",
        params={"phone": "+919812345678", "agent": "sales", "context": {"lead_source": "ads", "name": "Zoë 漢字"}},
        path="/v1/calls",
    ),
    "webhook": Example(
        settings=lambda base: {"type": "webhook", "url": f"{base}/hooks/crm", "secret_env": "SECRET"},
        kind="sms",
        params={"to": "+919812345678", "text": "line\nbreak, \u2028 and 漢字"},
        path="/hooks/crm",
    ),
    "log": Example(settings=lambda _base: {"type": "log"}, kind="email", params={"text": "line\nbreak"}),
}
OVER_HTTP = sorted(name for name, example in EXAMPLES.items() if example.path)


def delivery_for(type_name: str, **changes: Any) -> Delivery:
    example = EXAMPLES[type_name]
    delivery = Delivery(
        id="7d0c41",
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
    connector = build("desk", EXAMPLES[type_name].settings(base) | settings, environ=ENVIRON, now_s=lambda: NOW_S)
    try:
        yield connector
    finally:
        await connector.close()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of loopback, in this loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none", lifespan="on"))
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def browsing(base: str) -> httpx.AsyncClient:
    """A plain client; without TLS it need not read the certificate authorities."""
    return httpx.AsyncClient(base_url=base, verify=False, trust_env=False)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to uvicorn, which has no event for it.
            await asyncio.sleep(0.005)


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


# ------------------------------------------------------------------------------------ every registered type


def test_there_are_types_and_each_has_a_working_example() -> None:
    assert TYPES
    assert sorted(EXAMPLES) == sorted(BY_TYPE)


@pytest.mark.parametrize("known", TYPES, ids=lambda known: known.type)
class TestEveryType:
    def test_it_describes_itself(self, known: ConnectorType) -> None:
        assert known.description.endswith(".")
        assert known.kinds
        assert set(known.kinds) <= set(KINDS)
        assert EXAMPLES[known.type].kind in known.kinds
        assert known.param_name_problems(EXAMPLES[known.type].params) == []

    async def test_it_delivers_is_in_order_and_closes(self, known: ConnectorType) -> None:
        app = create_app(secret=SECRET, token=TOKEN, now_s=lambda: NOW_S)
        async with served(app) as base, opened(known.type, base) as connector:
            assert connector.name == "desk"
            assert await connector.check() is None
            receipt = await connector.send(delivery_for(known.type))
        assert (receipt.result, receipt.detail) == (Result.DELIVERED, "")
        assert "7d0c41" in receipt.reference

    async def test_it_may_be_called_concurrently(self, known: ConnectorType) -> None:
        app = create_app(secret=SECRET, token=TOKEN, now_s=lambda: NOW_S)
        async with served(app) as base, opened(known.type, base) as connector:
            receipts = await asyncio.gather(
                *(connector.send(delivery_for(known.type, id=f"id-{number}")) for number in range(50))
            )
        assert [receipt.result for receipt in receipts] == [Result.DELIVERED] * 50

    def test_a_setting_that_it_does_not_have_is_refused(self, known: ConnectorType) -> None:
        settings = EXAMPLES[known.type].settings("http://127.0.0.1:9")
        with pytest.raises(ConnectorMisconfigured, match='connector "desk": setting "colour" is unknown'):
            build("desk", settings | {"colour": "red"}, environ=ENVIRON)

    async def test_it_closes_twice_without_complaint(self, known: ConnectorType) -> None:
        async with opened(known.type, "http://127.0.0.1:9") as connector:
            await connector.close()


# ---------------------------------------------------------------------------------- every type over HTTP


@pytest.mark.parametrize("type_name", OVER_HTTP)
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


# ---------------------------------------------------------------------------------------------- webhook


async def test_a_webhook_says_everything_and_its_signature_verifies() -> None:
    app = Scripted()
    async with served(app) as base, opened("webhook", base, method="PUT") as connector:
        await connector.send(delivery_for("webhook", attempt=2, facts=FACTS | {"id": "forged", "attempt": 99}))
    [(method, headers, body)] = app.requests
    assert method == "PUT"
    assert json.loads(body) == {
        "id": "7d0c41",
        "customer_id": "c1",
        "kind": "sms",
        "params": EXAMPLES["webhook"].params,
        "decided_at": 1_772_441_999_688,
        "deadline_at": 1_772_442_060_000,
        "attempt": 2,
        **FACTS,
    }
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", "7d0c41")
    assert headers["webhook-timestamp"] == "1772442000"
    verify(parse_secrets(SECRET), headers, body, NOW_S)


async def test_a_webhook_without_a_secret_is_not_signed() -> None:
    app = Scripted()
    async with served(app) as base, opened("webhook", base, secret_env="") as connector:
        await connector.send(delivery_for("webhook"))
    assert [name for name in app.requests[0][1] if name.startswith("webhook-")] == []


# ------------------------------------------------------------------------------------------------ voice


async def test_a_call_says_everything_and_is_the_same_on_every_attempt() -> None:
    app = Scripted(status=503)
    async with served(app) as base, opened("voice", base) as connector:
        for attempt in (1, 2):
            await connector.send(delivery_for("voice", attempt=attempt))
    [(_, first, body), (_, second, again)] = app.requests
    assert json.loads(body) == {
        "call_id": "7d0c41",
        "customer_id": "c1",
        "to": "+919812345678",
        "agent": "sales",
        "script": "",
        "context": {"lead_source": "ads", "name": "Zoë 漢字"},
        "decided_at": 1_772_441_999_688,
        "deadline_at": 1_772_442_060_000,
        "metadata": FACTS,
    }
    assert body == again
    assert (first["authorization"], first["delivery-attempt"], second["delivery-attempt"]) == ("Bearer t0ken", "1", "2")


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({"agent": "a"}, 'param "phone" is missing. It is: Number to call, in E.164 form such as +919812345678.'),
        (
            {"phone": "", "agent": "a"},
            'param "phone" is missing. It is: Number to call, in E.164 form such as +919812345678.',
        ),
        (
            {"phone": "98123", "agent": "a"},
            "param \"phone\": string should match pattern '^\\+[1-9][0-9]{6,14}$'. "
            "It is: Number to call, in E.164 form such as +919812345678.",
        ),
        (
            {"phone": "+919812345678", "script": None},
            'param "agent" or "script" is missing. See connectors/README.md.',
        ),
        (
            {"phone": "+919812345678", "agent": "a", "context": "x"},
            'param "context": input should be a valid dictionary. It is: Facts for the conversation, as an object.',
        ),
        (
            {"phone": "+919812345678", "agent": "a", "scirpt": "x"},
            'param "scirpt" is unknown. Allowed: agent, context, metadata, phone, script. Did you mean "script"?',
        ),
    ],
)
async def test_a_call_that_lacks_what_it_needs_is_refused_unsent(params: dict[str, Any], detail: str) -> None:
    app = Scripted()
    async with served(app) as base, opened("voice", base) as connector:
        receipt = await connector.send(delivery_for("voice", params=params))
    assert receipt == Receipt(result=Result.REFUSED, detail=detail)
    assert app.requests == []


async def test_voice_carries_calls_alone() -> None:
    async with opened("voice", "http://127.0.0.1:9") as connector:
        receipt = await connector.send(delivery_for("voice", kind="sms"))
    assert receipt == Receipt(result=Result.REFUSED, detail='kind "sms" is not a call')


# -------------------------------------------------------------------------------------------------- log


async def test_the_log_gets_one_line_without_what_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="connectors.log"):
        async with opened("log", "", redact=["phone"]) as connector:
            await connector.send(delivery_for("log", params={"phone": "+919812345678", "text": "a\nb\u2028c"}))
    [line] = [record.getMessage() for record in caplog.records if record.name == "connectors.log"]
    assert len(line.splitlines()) == 1
    prefix = "delivery to desk "
    assert line.startswith(prefix)
    assert json.loads(line.removeprefix(prefix))["params"] == {"phone": "[redacted]", "text": "a\nb\u2028c"}


# --------------------------------------------------------------------------------------------- receiver


async def test_the_receiver_counts_each_id_once_and_tells_how_late_it_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="connectors.receiver")
    async with (
        served(create_app(secret=SECRET, token=TOKEN, now_s=lambda: NOW_S)) as base,
        opened("voice", base) as voice,
        opened("webhook", base) as webhook,
        browsing(base) as client,
    ):
        for connector, type_name in ((voice, "voice"), (voice, "voice"), (webhook, "webhook")):
            assert (await connector.send(delivery_for(type_name))).result is Result.DELIVERED
        state = (await client.get("/v1/received")).json()
        calls = (await client.get("/v1/received", params={"kind": "call", "limit": 1})).json()["items"]
        assert (await client.delete("/v1/received")).status_code == 204
        cleared = (await client.get("/v1/received")).json()
    assert (state["received"], state["repeats"]) == (2, 1)
    assert [item["kind"] for item in state["items"]] == ["sms", "call"]
    assert (state["items"][0]["signed"], state["items"][1]["signed"]) == (True, False)
    assert [(item["rule"], item["customer_id"], item["latency_ms"]) for item in calls] == [("lead-callback", "c1", 312)]
    assert calls[0]["params"]["to"] == "+919812345678"
    assert (cleared["received"], cleared["repeats"], cleared["items"]) == (0, 0, [])
    said = [record.getMessage() for record in caplog.records if record.name == "connectors.receiver"]
    assert said[:2] == [
        "call to +919812345678 for customer c1 by rule lead-callback (312 ms after the decision)",
        "repeat of 7d0c41 at /v1/calls",
    ]


async def test_a_repeat_is_answered_as_one() -> None:
    async with served(create_app()) as base, browsing(base) as client:
        answers = [
            await client.post("/hooks/crm", json={"kind": "push"}, headers={"Idempotency-Key": "a"}) for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["duplicate"] for answer in answers] == [False, True]


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "detail"),
    [
        ("/v1/calls", {}, b"{}", 401, "the bearer token is missing or wrong"),
        ("/v1/calls", {"Authorization": "Bearer t0ken"}, b"{}", 400, "the Idempotency-Key header is missing"),
        (
            "/v1/calls",
            {"Authorization": "Bearer t0ken", "Idempotency-Key": "a"},
            b"[]",
            422,
            "the body is not a JSON object",
        ),
        (
            "/v1/calls",
            {"Authorization": "Bearer t0ken", "Idempotency-Key": "a"},
            b"x" * 1_000_001,
            413,
            "the body is larger than 1000000 bytes",
        ),
        (
            "/hooks/crm",
            {"Idempotency-Key": "a"},
            b"{}",
            401,
            "webhook-id, webhook-timestamp and webhook-signature are all needed",
        ),
        (
            "/control",
            {},
            b'{"path": "/v1/calls", "stauts": 503}',
            400,
            'field "stauts" is unknown. Allowed: accept, delay_s, path, retry_after, status, times. '
            'Did you mean "status"?',
        ),
    ],
)
async def test_what_the_receiver_does_not_take_it_explains(
    path: str, headers: dict[str, str], content: bytes, status: int, detail: str
) -> None:
    async with served(create_app(secret=SECRET, token=TOKEN)) as base, browsing(base) as client:
        answer = await client.post(path, content=content, headers=headers)
        state = (await client.get("/v1/received")).json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json() == {"type": "about:blank", "status": status, "detail": detail}
    assert state["received"] == 0


async def test_the_receiver_misbehaves_as_often_as_it_is_told() -> None:
    fault = {"path": "/v1/calls", "status": 503, "times": 2, "retry_after": 2, "delay_s": 0}
    async with (
        served(create_app(token=TOKEN)) as base,
        opened("voice", base) as connector,
        browsing(base) as client,
    ):
        assert (await client.post("/control", json=fault)).json()["faults"] == [fault | {"accept": False}]
        receipts = [await connector.send(delivery_for("voice")) for _ in range(3)]
        state = (await client.get("/v1/received")).json()
    assert [(receipt.status, receipt.retry_after_s) for receipt in receipts] == [(503, 2), (503, 2), (202, None)]
    assert (state["received"], state["repeats"], state["faults"]) == (1, 0, [])


async def test_a_receiver_that_takes_a_delivery_and_then_keeps_silent_counts_it_once() -> None:
    async with (
        served(create_app(token=TOKEN)) as base,
        opened("voice", base, timeout_s=0.2) as connector,
        browsing(base) as client,
    ):
        await client.post("/control", json={"path": "/v1/calls", "delay_s": 0.6})
        first = await connector.send(delivery_for("voice"))
        second = await connector.send(delivery_for("voice", attempt=2))
        state = (await client.get("/v1/received")).json()
    assert (first.result, second.result) == (Result.UNKNOWN, Result.DELIVERED)
    assert (state["received"], state["repeats"]) == (1, 1)


async def test_the_page_is_self_contained_and_lets_no_foreign_script_run() -> None:
    async with served(create_app()) as base, browsing(base) as client:
        answer = await client.get("/")
    [nonce] = set(re.findall(r'nonce="([^"]+)"', answer.text))
    assert f"script-src 'nonce-{nonce}'" in answer.headers["content-security-policy"]
    assert "{{" not in answer.text
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', answer.text) == []


async def test_a_name_that_is_no_text_can_still_be_shown() -> None:
    """Half a surrogate pair is valid JSON; it must not make the list of arrivals unreadable."""
    async with served(create_app()) as base, browsing(base) as client:
        body = b'{"customer_id": "\\ud800", "kind": "a\\nb"}'
        await client.post("/hooks/crm", content=body, headers={"Idempotency-Key": "a"})
        state = (await client.get("/v1/received")).json()
    assert [item["customer_id"] for item in state["items"]] == ["\ud800"]


async def test_a_killed_receiver_knows_what_it_had_answered(tmp_path: Path) -> None:
    record = tmp_path / "calls.jsonl"
    with refusing_port() as port:
        pass

    async def started() -> asyncio.subprocess.Process:
        arguments = ("-m", "connectors.receiver", "--port", str(port), "--record", str(record), "--token-env", "TOKEN")
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, env=os.environ | ENVIRON, stderr=asyncio.subprocess.DEVNULL
        )
        async with opened("voice", f"http://127.0.0.1:{port}") as probe, asyncio.timeout(30):
            while await probe.check() is not None:
                assert process.returncode is None
                await asyncio.sleep(0.05)
        return process

    async with opened("voice", f"http://127.0.0.1:{port}") as connector:
        for ids in (["a", "b"], ["b", "c"]):
            process = await started()
            try:
                results = [(await connector.send(delivery_for("voice", id=name))).result for name in ids]
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            assert results == [Result.DELIVERED] * 2
    assert [json.loads(line)["id"] for line in record.read_text().splitlines()] == ["a", "b", "c"]


# ----------------------------------------------------------------------------------------------- README


def readme_module(marker: str) -> ModuleType:
    """Run the README's one Python block that contains ``marker``."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "connectors" / "README.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if marker in block]
    assert len(block.splitlines()) < 60
    module = ModuleType("readme_example")
    exec(compile(block, "connectors/README.md", "exec", dont_inherit=True), module.__dict__)
    return module


async def test_the_readmes_first_example_calls_a_customer() -> None:
    call_back = readme_module("call_back").call_back
    async with served(create_app()) as base:
        assert (await call_back(base, 1)).result is Result.DELIVERED


async def test_the_readmes_own_connector_works() -> None:
    sms_gateway = readme_module("SMS_GATEWAY").SMS_GATEWAY
    app = Scripted(content=b'{"reference": "sms-1"}')
    async with served(app) as base:
        settings = {"type": "sms_gateway", "url": f"{base}/send", "key_env": "TOKEN"}
        connector = build("sms", settings, environ=ENVIRON, types=(*TYPES, sms_gateway))
        assert await connector.check() is None
        sent = await connector.send(delivery_for("log", kind="sms", params={"to": "+14155550134", "text": "Hi"}))
        refused = await connector.send(delivery_for("log", kind="sms", params={"text": "Hi"}))
        await connector.close()
    assert sent == Receipt(result=Result.DELIVERED, status=200, reference="sms-1")
    assert refused.detail == 'param "to" is missing. It is: Number, E.164.'
    [_, (_, headers, body)] = app.requests
    assert (headers["x-api-key"], headers["idempotency-key"]) == ("t0ken", "7d0c41")
    assert json.loads(body) == {"from": "SHOP", "to": "+14155550134", "body": "Hi"}
