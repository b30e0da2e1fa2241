"""The crm connector against HubSpot, with a property of tasks that knows the action again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from connectors.conformance.bench import Example, How
from connectors.conformance.http_bench import Answer, HttpBench
from connectors.markup import Markup
from load_tests.servers.providers.hubspot import HubSpotServer, rate_limited

TOKEN = "pat-eu1-token-of-the-app"
NO_SUCH_PROPERTY = 'Property "shoe_size" does not exist'
UNIQUE = {"contacts": frozenset({"customer_id"}), "tasks": frozenset({"action_id"}), "notes": frozenset({"action_id"})}


def said(category: str, message: str) -> dict[str, str]:
    return {"status": "error", "message": message, "correlationId": "c-1", "category": category}


def is_attempt(request: Mapping[str, Any]) -> bool:
    """The task is what the delivery is for; the contact before it and the association after it are on its way."""
    return "/objects/tasks/batch/" in request["path"]


def id_of(request: Mapping[str, Any]) -> str:
    [one] = request["body"]["inputs"]
    assert one["id"] == one["properties"]["action_id"]
    return str(one["id"])


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    made = HttpBench(
        HubSpotServer(token=TOKEN, unique=UNIQUE).app(),
        refusal=Answer(400, said("VALIDATION_ERROR", NO_SUCH_PROPERTY)),
        refusal_words=NO_SUCH_PROPERTY,
        instead={
            How.RETRY_LATER: Answer(429, rate_limited("DAILY"), {"Retry-After": "7"}),
            How.BAD_CREDENTIALS: Answer(401, said("INVALID_AUTHENTICATION", "Authentication credentials not found.")),
        },
        is_attempt=is_attempt,
    )
    async with made.served() as served:
        yield served


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {
        "base_url": bench.base,
        "token_env": "HUBSPOT_TOKEN",
        "external_id_property": "customer_id",
        "action_id_property": "action_id",
        "owner_id": "64492917",
        "timeout_s": 60,  # Fifty deliveries at once are 150 requests here, on a machine that may be busy.
    },
    environ=lambda _bench: {"HUBSPOT_TOKEN": TOKEN},
    kind="crm",
    params={
        "email": "ana@example.com",
        "properties": {"firstname": "Ana 漢字", "lifecyclestage": "lead"},
        "task": "Call Ana back",
        "task_body": "<p>She left her basket.</p>",
        "task_type": "CALL",
        "task_priority": "HIGH",
    },
    id_of=id_of,
    markup={"hs_task_body": Markup.HTML},
)
