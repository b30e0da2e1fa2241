"""The local receiver: what it counts, shows, refuses and remembers, with real connectors before it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from connectors import clock
from connectors.callback import Callback, Outcome, OutcomeType
from connectors.conformance.bench import NOW_S
from connectors.protocol import Result
from connectors.receiver import create_app
from connectors.receiver.arrivals import Arrival
from connectors.receiver.reports import ReportFailed, Reports
from connectors.signature import parse_secrets
from connectors.standard_callback import StandardCallbackReader
from tests.contract.connectors.example_voice import TOKEN
from tests.contract.connectors.example_webhook import SECRET
from tests.contract.connectors.servers import browsing, delivery_for, opened, refusing_port, served

ROOT = Path(__file__).parents[3]


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
        ("/v1/calls", {"Authorization": f"Bearer {TOKEN}"}, b"{}", 400, "the Idempotency-Key header is missing"),
        (
            "/v1/calls",
            {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "a"},
            b"[]",
            422,
            "the body is not a JSON object",
        ),
        (
            "/v1/calls",
            {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "a"},
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
            {"Content-Type": "application/json"},
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


ROUTES = [
    ("GET", "/"),
    ("POST", "/v1/calls"),
    ("HEAD", "/v1/calls"),
    ("POST", "/hooks/crm"),
    ("GET", "/v1/received"),
    ("DELETE", "/v1/received"),
    ("POST", "/v1/reports"),
    ("GET", "/control"),
    ("POST", "/control"),
    ("DELETE", "/control"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_page_whose_name_was_bent_to_this_machine_gets_nothing(method: str, path: str) -> None:
    async with served(create_app(host_names=["receiver"])) as base, browsing(base) as client:
        await client.post("/hooks/crm", json={"kind": "push"}, headers={"Idempotency-Key": "a"})
        host = {"Host": "evil.example:8090", "Idempotency-Key": "b"}
        answer = await client.request(method, path, json={"path": "*", "status": 503}, headers=host)
        state = (await client.get("/v1/received")).json()
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert method == "HEAD" or answer.json()["detail"] == (
        "the Host header has another name than an address, localhost or one given"
    )
    assert (state["received"], state["faults"]) == (1, [])


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "[::1]:8090", "172.18.0.5:8090", "receiver:8090"])
async def test_the_receiver_answers_to_addresses_and_the_names_it_was_given(host: str) -> None:
    async with served(create_app(host_names=["receiver"])) as base, browsing(base) as client:
        assert (await client.get("/v1/received", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_page_of_another_origin_can_order_no_fault(media_type: str) -> None:
    """What a form or a script can send without asking is no JSON by its content type."""
    fault = b'{"path": "*", "status": 500, "delay_s": 600}'
    async with served(create_app()) as base, browsing(base) as client:
        answer = await client.post("/control", content=fault, headers={"Content-Type": media_type})
        faults = (await client.get("/control")).json()["faults"]
    assert (answer.status_code, answer.json()["detail"]) == (415, "send the order as application/json")
    assert faults == []


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
            sys.executable, *arguments, cwd=ROOT, env=os.environ | {"TOKEN": TOKEN}, stderr=asyncio.subprocess.DEVNULL
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


# ------------------------------------------------------------------------------------------------- reports


class Gateway:
    """Takes callbacks as an engine does, believing what is signed with the secret; answers with ``status``."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Outcome]] = []
        self.status = 200
        self._reader = StandardCallbackReader(parse_secrets(SECRET), OutcomeType, clock.now_s)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        callback = Callback(method="POST", path=request.url.path, query="", headers=request.headers, body=body)
        for outcome in self._reader.read(callback).outcomes:
            self.taken.append((request.url.path, outcome))
        await Response("so it is", self.status)(scope, receive, send)


@asynccontextmanager
async def telling(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A receiver that has a call, a text and a mail, and tells the gateway what came of them."""
    reports = Reports()
    async with served(gateway) as engine, served(create_app(reports=reports)) as base, browsing(base) as client:
        reports.connect(engine + "/", SECRET)
        call = {"call_id": "a1", "customer_id": "c1", "to": "+919812345678"}
        await client.post("/v1/calls", json=call, headers={"Idempotency-Key": "a1"})
        for name, kind in (("texts", "sms"), ("mail", "email"), ("feed", "publish")):
            body = {"customer_id": "c1", "kind": kind}
            await client.post(f"/hooks/{name}", json=body, headers={"Idempotency-Key": f"a-{kind}"})
        yield client


@pytest.mark.parametrize(
    ("path", "arrival_id", "outcome", "to", "kind", "properties"),
    [
        ("/v1/calls", "a1", "answered", "voice", OutcomeType.CALL_ANSWERED, {}),
        ("/v1/calls", "a1", "missed", "voice", OutcomeType.CALL_MISSED, {"reason": "no_answer"}),
        ("/v1/calls", "a1", "qualified", "voice", OutcomeType.CALL_ENDED, {"result": "qualified"}),
        ("/v1/calls", "a1", "booked", "voice", OutcomeType.CALL_ENDED, {"result": "booked"}),
        ("/v1/calls", "a1", "stop", "voice", OutcomeType.UNSUBSCRIBED, {"text": "STOP"}),
        ("/hooks/texts", "a-sms", "bounced", "texts", OutcomeType.MESSAGE_BOUNCED, {"reason": "unknown_address"}),
        ("/hooks/texts", "a-sms", "stop", "texts", OutcomeType.UNSUBSCRIBED, {"text": "STOP"}),
        ("/hooks/mail", "a-email", "opened", "mail", OutcomeType.EMAIL_OPENED, {}),
    ],
)
async def test_what_is_said_of_a_delivery_reaches_the_engine_signed(
    path: str, arrival_id: str, outcome: str, to: str, kind: OutcomeType, properties: dict[str, str]
) -> None:
    gateway = Gateway()
    async with telling(gateway) as client:
        order = {"path": path, "id": arrival_id, "outcome": outcome}
        answers = [await client.post("/v1/reports", json=order) for _ in range(2)]
        items = (await client.get("/v1/received")).json()["items"]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(202, {"told": [outcome]})] * 2
    (at, first), second = gateway.taken
    assert second[1].id == first.id == f"{arrival_id}:{outcome}"  # To the engine the second is a repeat.
    assert at == f"/v1/outcomes/{to}"
    assert (first.type, first.action_id, first.customer_id, first.properties) == (kind, arrival_id, "", properties)
    assert [item["told"] for item in items if item["id"] == arrival_id] == [[outcome]]


async def test_what_can_be_said_depends_on_what_arrived() -> None:
    async with telling(Gateway()) as client:
        items = (await client.get("/v1/received")).json()["items"]
    assert {item["kind"]: list(item["sayable"]) for item in items} == {
        "call": ["answered", "missed", "qualified", "booked", "stop"],
        "sms": ["bounced", "stop"],
        "email": ["opened", "bounced", "stop"],
        "publish": [],
    }


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"id": "a9"}, 404, "nothing of this path and id is shown here"),
        ({"outcome": "bounced"}, 400, "of this delivery can be said: answered, missed, qualified, booked, stop"),
        ({"outcom": "missed"}, 400, 'field "outcom" is unknown. Allowed: id, outcome, path. Did you mean "outcome"?'),
    ],
)
async def test_an_order_that_cannot_be_told_says_why(change: dict[str, str], status: int, detail: str) -> None:
    gateway = Gateway()
    async with telling(gateway) as client:
        answer = await client.post("/v1/reports", json={"path": "/v1/calls", "id": "a1", "outcome": "stop"} | change)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert gateway.taken == []


async def test_a_page_of_another_origin_can_tell_nothing() -> None:
    """What a form or a script can send without asking is no JSON by its content type."""
    gateway = Gateway()
    async with telling(gateway) as client:
        order = b'{"path": "/v1/calls", "id": "a1", "outcome": "stop"}'
        answers = [
            await client.post("/v1/reports", content=order, headers={"Content-Type": media_type})
            for media_type in ("text/plain", "application/x-www-form-urlencoded", "")
        ]
    assert [answer.status_code for answer in answers] == [415, 415, 415]
    assert gateway.taken == []


async def test_an_engine_that_does_not_take_the_report_is_shown_and_nothing_counts_as_told() -> None:
    gateway = Gateway()
    gateway.status = 503
    async with telling(gateway) as client:
        answer = await client.post("/v1/reports", json={"path": "/v1/calls", "id": "a1", "outcome": "missed"})
        items = (await client.get("/v1/received")).json()["items"]
    assert answer.status_code == 502
    assert answer.json()["detail"].endswith("/v1/outcomes/voice answered 503: so it is")
    assert [item["told"] for item in items if item["id"] == "a1"] == [[]]


async def test_an_engine_that_is_not_there_is_named() -> None:
    reports = Reports()
    with refusing_port() as port:
        reports.connect(f"http://127.0.0.1:{port}", SECRET)
        with pytest.raises(ReportFailed, match=rf"^http://127\.0\.0\.1:{port}/v1/outcomes/voice does not answer: "):
            await reports.send(Arrival(at_ms=1, path="/v1/calls", id="a1", kind="call"), "missed")


async def test_a_receiver_on_its_own_has_nobody_to_tell() -> None:
    async with served(create_app()) as base, browsing(base) as client:
        call = {"call_id": "a1", "customer_id": "c1", "to": "+919812345678"}
        await client.post("/v1/calls", json=call, headers={"Idempotency-Key": "a1"})
        [item] = (await client.get("/v1/received")).json()["items"]
        answer = await client.post("/v1/reports", json={"path": "/v1/calls", "id": "a1", "outcome": "stop"})
    assert item["sayable"] == {}
    assert answer.json()["detail"] == "of this delivery can be said: nothing, no engine listens"
