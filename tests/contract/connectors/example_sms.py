"""The sms connector against Twilio's Messages API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from connectors.callback import OutcomeType
from connectors.conformance.bench import Example, GenuineCallback, How
from connectors.conformance.http_bench import Answer, HttpBench
from load_tests.servers.providers.twilio import TwilioServer

ACCOUNT_SID, AUTH_TOKEN = "AC" + "0123456789abcdef" * 2, "auth-t0ken-of-the-desk"
SENDER, CUSTOMER = "+14155550100", "+919812345678"
CALLBACK_URL = "https://engine.example.com/v1/outcomes/desk"
CALLED = f"{CALLBACK_URL}?action=7d0c41&customer=c1"


def account() -> TwilioServer:
    return TwilioServer(account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN, senders=[SENDER])


def twilio_error(status: int, code: int, message: str) -> Answer:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    headers = {"Retry-After": "7"} if status == 429 else {}
    return Answer(status, {"code": code, "message": message, "more_info": more_info, "status": status}, headers)


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    server = HttpBench(
        account(),
        refusal=twilio_error(400, 21610, "Attempt to send to unsubscribed recipient"),
        refusal_words="the recipient has opted out: Twilio error 21610: Attempt to send to unsubscribed recipient",
        instead={
            How.RETRY_LATER: twilio_error(429, 20429, "Too Many Requests"),
            How.BROKEN: twilio_error(503, 20503, "Service unavailable"),
            How.BAD_CREDENTIALS: twilio_error(401, 20003, "Authenticate"),
        },
    )
    async with server.served() as served:
        yield served


def reports() -> Iterator[GenuineCallback]:
    server = account()
    common = {"AccountSid": ACCOUNT_SID, "MessageSid": "SM1", "SmsSid": "SM1", "To": CUSTOMER, "From": SENDER}
    for status, outcome in (("delivered", OutcomeType.MESSAGE_DELIVERED), ("sent", None)):
        post = server.signed(CALLED, common | {"MessageStatus": status, "SmsStatus": status})
        yield GenuineCallback(callback=post.callback, outcomes=(outcome,) if outcome else ())
    stop = server.inbound(CALLBACK_URL, sender=CUSTOMER, text="STOP", OptOutType="STOP")
    yield GenuineCallback(callback=stop.callback, outcomes=(OutcomeType.UNSUBSCRIBED,))


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {
        "base_url": bench.base,
        "account_sid": ACCOUNT_SID,
        "auth_token_env": "TWILIO_AUTH_TOKEN",
        "sender": SENDER,
        "callback_url": CALLBACK_URL,
    },
    environ=lambda _bench: {"TWILIO_AUTH_TOKEN": AUTH_TOKEN},
    kind="sms",
    params={"to": CUSTOMER, "text": "Your basket waits, Zoë 漢字 & friends: 10 % off +1"},
    callbacks=tuple(reports()),
)
