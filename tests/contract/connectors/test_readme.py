"""The README's own code runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from connectors.conformance.bench import LOOPBACK
from connectors.protocol import Receipt, Result
from connectors.receiver import create_app
from connectors.registry import build, connector_types
from tests.contract.connectors.servers import Scripted, delivery_for, served

ROOT = Path(__file__).parents[3]


def readme_module(marker: str) -> ModuleType:
    """Run the README's one Python block that contains ``marker``."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "connectors" / "README.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if marker in block]
    assert len(block.splitlines()) < 60
    module = ModuleType("readme_example")
    exec(compile(block, "connectors/README.md", "exec", dont_inherit=True), module.__dict__)
    return module


async def test_the_readmes_first_example_calls_a_customer(monkeypatch: pytest.MonkeyPatch) -> None:
    call_back = readme_module("call_back").call_back
    monkeypatch.setenv("JOURNEY_PRIVATE_TARGETS", "127.0.0.0/8")
    async with served(create_app()) as base:
        assert (await call_back(base, 1)).result is Result.DELIVERED


async def test_the_readmes_own_connector_works() -> None:
    sms_gateway = readme_module("SMS_GATEWAY").SMS_GATEWAY
    app = Scripted(content=b'{"reference": "sms-1"}')
    async with served(app) as base:
        settings = {"type": "sms_gateway", "url": f"{base}/send", "key_env": "TOKEN"}
        connector = build(
            "sms", settings, environ={"TOKEN": "t0ken"}, types=(*connector_types(), sms_gateway), reach=LOOPBACK
        )
        assert await connector.check() is None
        sent = await connector.send(delivery_for("log", kind="sms", params={"to": "+14155550134", "text": "Hi"}))
        refused = await connector.send(delivery_for("log", kind="sms", params={"text": "Hi"}))
        await connector.close()
    assert sent == Receipt(result=Result.DELIVERED, status=200, reference="sms-1")
    assert refused.detail == 'param "to" is missing. It is: Number, E.164.'
    [_, (_, headers, body)] = app.requests
    assert (headers["x-api-key"], headers["idempotency-key"]) == ("t0ken", "7d0c41")
    assert json.loads(body) == {"from": "SHOP", "to": "+14155550134", "body": "Hi"}
