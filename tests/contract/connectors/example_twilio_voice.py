"""The twilio_voice connector against Twilio's Calls API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from connectors.callback import OutcomeType
from connectors.conformance.bench import Example, GenuineCallback, How
from connectors.conformance.http_bench import HttpBench
from connectors.markup import Markup
from tests.contract.connectors.example_sms import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CALLBACK_URL,
    CALLED,
    CUSTOMER,
    SENDER,
    account,
    twilio_error,
)


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    server = HttpBench(
        account(),
        refusal=twilio_error(400, 21210, "The source phone number provided, +14155550100, is not yet verified."),
        refusal_words="Twilio error 21210: The source phone number provided, [number], is not yet verified.",
        instead={
            How.RETRY_LATER: twilio_error(429, 20429, "Too Many Requests"),
            How.BROKEN: twilio_error(503, 20503, "Service unavailable"),
            How.BAD_CREDENTIALS: twilio_error(401, 20003, "Authenticate"),
        },
    )
    async with server.served() as served:
        yield served


def reports() -> Iterator[GenuineCallback]:
    common = {"AccountSid": ACCOUNT_SID, "CallSid": "CA1", "To": CUSTOMER, "Direction": "outbound-api"}
    for status, outcome in (
        ("in-progress", OutcomeType.CALL_ANSWERED),
        ("no-answer", OutcomeType.CALL_MISSED),
        ("completed", OutcomeType.CALL_ENDED),
    ):
        post = account().signed(CALLED, common | {"CallStatus": status, "CallDuration": "42"})
        yield GenuineCallback(callback=post.callback, outcomes=(outcome,))


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {
        "base_url": bench.base,
        "account_sid": ACCOUNT_SID,
        "auth_token_env": "TWILIO_AUTH_TOKEN",
        "from_number": SENDER,
        "callback_url": CALLBACK_URL,
    },
    environ=lambda _bench: {"TWILIO_AUTH_TOKEN": AUTH_TOKEN},
    kind="call",
    params={"phone": CUSTOMER, "say": "Zoë, your visit is at <nine> & we look forward to it."},
    markup={"Twiml": Markup.XML},
    callbacks=tuple(reports()),
)
