"""The voice connector against the receiver, which speaks the voice call API of connectors/README.md."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from connectors.callback import OutcomeType
from connectors.conformance.bench import NOW_S, Example, GenuineCallback
from connectors.conformance.http_bench import Answer, HttpBench
from connectors.conformance.standard_report import standard_report
from connectors.receiver import create_app

TOKEN = "t0ken-of-the-desk"
CALLBACK_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
REPORTS = [
    {"id": "r-1", "type": "call_missed", "action_id": "7d0c41", "properties": {"reason": "busy"}},
    {"id": "r-2", "type": "call_answered", "action_id": "7d0c41"},
    {"id": "r-3", "type": "call_ended", "action_id": "7d0c41", "properties": {"result": "booked", "duration_s": 94}},
]


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    refusal = Answer(422, {"type": "about:blank", "status": 422, "detail": "no such agent"})
    app = create_app(token=TOKEN, now_s=lambda: NOW_S)
    async with HttpBench(app, refusal=refusal, refusal_words="no such agent").served() as served:
        yield served


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {"base_url": bench.base, "token_env": "TOKEN", "callback_secret_env": "BACK"},
    environ=lambda _bench: {"TOKEN": TOKEN, "BACK": CALLBACK_SECRET},
    kind="call",
    params={"phone": "+919812345678", "agent": "sales", "context": {"lead_source": "ads", "name": "Zoë 漢字"}},
    callbacks=[
        GenuineCallback(
            callback=standard_report(CALLBACK_SECRET, REPORTS),
            outcomes=(OutcomeType.CALL_MISSED, OutcomeType.CALL_ANSWERED, OutcomeType.CALL_ENDED),
        )
    ],
)
