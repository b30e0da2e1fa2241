"""What a webhook says."""

from __future__ import annotations

import json

from connectors.conformance.bench import FACTS, NOW_S
from connectors.signature import parse_secrets, verify
from tests.contract.connectors.example_webhook import EXAMPLE, SECRET
from tests.contract.connectors.servers import Scripted, delivery_for, opened, served


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
        "params": EXAMPLE.params,
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
