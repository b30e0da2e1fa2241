"""What the log connector writes."""

from __future__ import annotations

import json
import logging

import pytest

from tests.contract.connectors.servers import delivery_for, opened


async def test_the_log_gets_one_line_without_what_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="connectors.log"):
        async with opened("log", "", redact=["phone"]) as connector:
            await connector.send(delivery_for("log", params={"phone": "+919812345678", "text": "a\nb\u2028c"}))
    [line] = [record.getMessage() for record in caplog.records if record.name == "connectors.log"]
    assert len(line.splitlines()) == 1
    prefix = "delivery to desk "
    assert line.startswith(prefix)
    assert json.loads(line.removeprefix(prefix))["params"] == {"phone": "[redacted]", "text": "a\nb\u2028c"}
