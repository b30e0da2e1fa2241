"""The local receiver: what it counts, shows, refuses and remembers, with real connectors before it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from connectors.conformance.bench import NOW_S
from connectors.protocol import Result
from connectors.receiver import create_app
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
