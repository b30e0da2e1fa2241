"""What a request for a call says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.conformance.bench import FACTS
from connectors.protocol import Receipt, Result
from tests.contract.connectors.example_voice import TOKEN
from tests.contract.connectors.servers import Scripted, delivery_for, opened, served


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
    assert (first["authorization"], first["delivery-attempt"], second["delivery-attempt"]) == (
        f"Bearer {TOKEN}",
        "1",
        "2",
    )


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
