"""The webhook connector against the receiver, which verifies its signature."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from connectors.callback import OutcomeType
from connectors.conformance.bench import NOW_S, Example, GenuineCallback
from connectors.conformance.http_bench import Answer, HttpBench
from connectors.conformance.standard_report import standard_report
from connectors.receiver import create_app

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
CALLBACK_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
REPORTS = [
    {"id": "r-1", "type": "message_delivered", "action_id": "7d0c41", "at_ms": 1_772_441_999_000},
    {"id": "r-2", "type": "unsubscribed", "address": "asha@example.com", "properties": {"list": "offers"}},
]


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    refusal = Answer(400, {"type": "about:blank", "status": 400, "detail": "no such customer"})
    app = create_app(secret=SECRET, now_s=lambda: NOW_S)
    async with HttpBench(app, refusal=refusal, refusal_words="no such customer").served() as served:
        yield served


def without_signature(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request without its signature, which is of the whole body; the receiver has verified it."""
    return request | {"headers": {name: one for name, one in request["headers"].items() if name != "webhook-signature"}}


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {"url": f"{bench.base}/hooks/crm", "secret_env": "SECRET", "callback_secret_env": "BACK"},
    environ=lambda _bench: {"SECRET": SECRET, "BACK": CALLBACK_SECRET},
    kind="sms",
    params={"to": "+919812345678", "text": "line\nbreak, \u2028 and 漢字"},
    varies_with_attempt=frozenset({"attempt"}),
    opened=without_signature,
    callbacks=[
        GenuineCallback(
            callback=standard_report(CALLBACK_SECRET, REPORTS),
            outcomes=(OutcomeType.MESSAGE_DELIVERED, OutcomeType.UNSUBSCRIBED),
        )
    ],
)
