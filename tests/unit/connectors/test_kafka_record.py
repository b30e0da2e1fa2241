"""Records: what cannot be written as one is refused before a broker is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.protocol import Delivery, Result
from connectors.reach import Reach
from connectors.registry import build

HALF = "half \ud83d"


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"customer_id": HALF}, "the delivery cannot be written as a record: surrogates not allowed"),
        ({"params": {"value": HALF}}, "the delivery cannot be written as a record: surrogates not allowed"),
        ({"params": {"value": {"name": HALF}}}, "the delivery cannot be written as JSON: 'utf-8' codec can't encode"),
        ({"params": {"name": HALF}}, "the delivery cannot be written as JSON: 'utf-8' codec can't encode"),
    ],
)
async def test_half_a_character_is_refused_unsent(changes: dict[str, Any], detail: str) -> None:
    given: dict[str, Any] = {"id": "7d0c41", "customer_id": "c1", "kind": "publish", "params": {}, "decided_at_ms": 0}
    connector = build("feed", {"type": "kafka", "bootstrap": "127.0.0.1:9", "topic": "t"}, environ={}, reach=Reach())
    receipt = await connector.send(Delivery(**given | changes))
    await connector.close()
    assert receipt.result is Result.REFUSED
    assert receipt.detail.startswith(detail)
