"""The whatsapp connector against Meta's Cloud API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from connectors.callback import OutcomeType
from connectors.conformance.bench import Example, GenuineCallback, How
from connectors.conformance.http_bench import Answer, HttpBench
from load_tests.servers.providers.whatsapp import WhatsAppServer

PHONE_NUMBER_ID, CUSTOMER = "106540352242922", "+919812345678"
TOKEN, APP_SECRET, VERIFY_TOKEN = "EAAtoken-of-the-desk", "app-secret-of-the-desk", "verify-token-of-the-desk"
CALLBACK_URL = "https://engine.example.com/v1/outcomes/desk"


def number() -> WhatsAppServer:
    templates = {("basket_waits", "en"): 2, ("basket_waits", "de"): 2}
    return WhatsAppServer(phone_number_id=PHONE_NUMBER_ID, token=TOKEN, app_secret=APP_SECRET, templates=templates)


def graph_error(status: int, code: int, message: str, **more: object) -> Answer:
    error = {"message": message, "type": "OAuthException", "code": code, **more, "fbtrace_id": "Az8or2yhqkZfEZ"}
    return Answer(status, {"error": error}, {"Retry-After": "7"} if code in {130429, 131056} else {})


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    data = {"messaging_product": "whatsapp", "details": "template name (gone) does not exist in en"}
    message = "(#132001) Template name does not exist in the translation"
    server = HttpBench(
        number(),
        refusal=graph_error(404, 132001, message, error_data=data),
        refusal_words=f"WhatsApp error 132001: {message} (template name (gone) does not exist in en)",
        instead={
            How.RETRY_LATER: graph_error(
                400, 131056, "(#131056) (Business Account, Consumer Account) pair rate limit hit"
            ),
            How.BROKEN: graph_error(503, 2, "Service temporarily unavailable"),
            How.BAD_CREDENTIALS: graph_error(401, 190, "Invalid OAuth access token - Cannot parse access token"),
        },
    )
    async with server.served() as served:
        yield served


def reports() -> Iterator[GenuineCallback]:
    server = number()
    status = {"id": "wamid.1", "timestamp": "1772442000", "recipient_id": CUSTOMER[1:]}
    statuses = [status | {"status": word} for word in ("sent", "delivered", "read")]
    reply = server.inbound(CUSTOMER, "text", {"body": "Stop"})
    post = server.webhook(CALLBACK_URL, {"statuses": statuses}, {"messages": [reply]})
    found = (OutcomeType.MESSAGE_DELIVERED, OutcomeType.MESSAGE_READ, OutcomeType.UNSUBSCRIBED)
    yield GenuineCallback(callback=post.callback, outcomes=found)


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {
        "base_url": bench.base,
        "phone_number_id": PHONE_NUMBER_ID,
        "token_env": "WHATSAPP_TOKEN",
        "app_secret_env": "WHATSAPP_APP_SECRET",
        "verify_token_env": "WHATSAPP_VERIFY_TOKEN",
    },
    environ=lambda _bench: {
        "WHATSAPP_TOKEN": TOKEN,
        "WHATSAPP_APP_SECRET": APP_SECRET,
        "WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN,
    },
    kind="whatsapp",
    params={"to": CUSTOMER, "template": "basket_waits", "variables": ["Zoë 漢字", 3]},
    callbacks=tuple(reports()),
)
