"""The crm connector beyond the suite: what ends up in HubSpot, also after a repeat, and its limits and conflicts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.responses import Response

from connectors.conformance.bench import DELIVERY_ID, LOOPBACK, NAME, NOW_S
from connectors.conformance.http_bench import served
from connectors.protocol import Connector, Delivery, Receipt, Result
from connectors.registry import build
from load_tests.servers.providers.hubspot import HubSpotServer, rate_limited
from tests.contract.connectors.example_crm import TOKEN, UNIQUE
from tests.contract.connectors.servers import Scripted

DECIDED_AT_MS = int(NOW_S * 1000)


def delivery(params: dict[str, Any], **changes: Any) -> Delivery:
    written: dict[str, Any] = {
        "id": DELIVERY_ID,
        "customer_id": "c1",
        "kind": "crm",
        "params": params,
        "decided_at_ms": DECIDED_AT_MS,
    }
    return Delivery(**written | changes)


@asynccontextmanager
async def desk(app: Any, **changes: Any) -> AsyncIterator[Connector]:
    async with served(app) as base:
        written = {
            "type": "crm",
            "base_url": base,
            "token_env": "TOKEN",
            "external_id_property": "customer_id",
            "action_id_property": "action_id",
        }
        environ = {"TOKEN": TOKEN}
        connector = build(NAME, written | changes, environ=environ, now_s=lambda: NOW_S, reach=LOOPBACK)
        yield connector
        await connector.close()


def account(**changes: Any) -> HubSpotServer:
    return HubSpotServer(token=TOKEN, unique=UNIQUE, **changes)


def failing(app: Any, path: str, response: Callable[[], Response], times: int = 1) -> Any:
    """The app, whose requests to ``path`` are answered otherwise ``times`` times."""
    left = [times]

    async def between(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] == "http" and path in scope["path"] and left[0]:
            left[0] -= 1
            await response()(scope, receive, send)
        else:
            await app(scope, receive, send)

    return between


# ------------------------------------------------------------------------------------------------- contact


async def test_a_contact_is_made_and_then_kept_up_to_date() -> None:
    server = account()
    async with desk(server.app()) as connector:
        first = await connector.send(
            delivery({"email": "Ana@example.com", "properties": {"firstname": "Ana", "phone": 4155550134}})
        )
        second = await connector.send(delivery({"email": "ana@example.com", "properties": {"phone": None}}, id="b"))
    assert first == second == Receipt(result=Result.DELIVERED, status=200, reference="contacts/501")
    assert server.objects["contacts"] == {"501": {"email": "ana@example.com", "firstname": "Ana", "phone": ""}}


async def test_a_contact_may_be_known_by_an_id_of_ours() -> None:
    server = account()
    async with desk(server.app()) as connector:
        for email in ("old@example.com", "new@example.com"):
            receipt = await connector.send(delivery({"external_id": "c-17", "email": email}))
    assert receipt.reference == "contacts/501"
    assert server.objects["contacts"] == {"501": {"customer_id": "c-17", "email": "new@example.com"}}


async def test_an_id_of_ours_needs_its_property() -> None:
    app = Scripted()
    async with desk(app, external_id_property="") as connector:
        receipt = await connector.send(delivery({"external_id": "c-17"}))
    assert receipt == Receipt(
        result=Result.REFUSED,
        detail='param "external_id" needs the setting external_id_property, which says where HubSpot keeps it.',
    )
    assert app.requests == []


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        (
            {"email": "ana@example.com", "properties": {"shoe_size": "38"}},
            'VALIDATION_ERROR: Property "shoe_size" does not exist',
        ),
        (
            {"email": "ana@example.com", "properties": {"lifecyclestage": "friend"}},
            "VALIDATION_ERROR: friend was not one of the allowed options: "
            "[customer, lead, opportunity, other, subscriber]",
        ),
    ],
)
async def test_hubspots_refusal_is_the_detail(params: dict[str, Any], detail: str) -> None:
    server = account()
    async with desk(server.app()) as connector:
        receipt = await connector.send(delivery(params))
    assert receipt == Receipt(result=Result.REFUSED, status=400, detail=detail)
    assert server.objects["contacts"] == {}


async def test_an_address_of_another_contact_is_a_conflict_that_no_repeat_mends() -> None:
    server = account()
    async with desk(server.app()) as connector:
        await connector.send(delivery({"external_id": "c-1", "email": "ana@example.com"}))
        receipt = await connector.send(delivery({"external_id": "c-2", "email": "ana@example.com"}))
    assert receipt == Receipt(
        result=Result.REFUSED, status=409, detail="CONFLICT: Contact already exists. Existing ID: 501"
    )


async def test_a_contact_that_is_made_at_the_same_moment_is_one_that_a_repeat_finds() -> None:
    conflict = {"status": "error", "message": "Contact already exists. Existing ID: 501", "category": "CONFLICT"}
    app = failing(account().app(), "/contacts/", lambda: Response(json.dumps(conflict), 409))
    async with desk(app) as connector:
        receipts = [await connector.send(delivery({"email": "ana@example.com"})) for _ in range(2)]
    assert [receipt.result for receipt in receipts] == [Result.RETRY, Result.DELIVERED]


# ------------------------------------------------------------------------------------------- tasks and notes


async def test_a_task_is_left_on_the_contact() -> None:
    server = account()
    params = {"email": "ana@example.com", "task": "Call Ana", "task_body": "<p>Now</p>", "task_type": "CALL"}
    async with desk(server.app(), owner_id="77") as connector:
        receipt = await connector.send(delivery(params, deadline_at_ms=DECIDED_AT_MS + 60_000))
    assert receipt == Receipt(result=Result.DELIVERED, status=200, reference="tasks/502")
    assert server.objects["tasks"] == {
        "502": {
            "hs_timestamp": str(DECIDED_AT_MS + 60_000),
            "hs_task_subject": "Call Ana",
            "hs_task_body": "<p>Now</p>",
            "hs_task_status": "NOT_STARTED",
            "hs_task_priority": "MEDIUM",
            "hs_task_type": "CALL",
            "hubspot_owner_id": "77",
            "action_id": DELIVERY_ID,
        }
    }
    assert server.associations == {("tasks", "502", "501")}


@pytest.mark.parametrize(
    ("due_at_ms", "deadline_at_ms", "expected"),
    [
        (1_772_450_000_000, 1_772_460_000_000, "1772450000000"),
        (None, 1_772_460_000_000, "1772460000000"),
        (None, None, "1772442000000"),
    ],
)
async def test_a_task_is_due_when_it_says_or_at_the_deadline_or_at_once(
    due_at_ms: int | None, deadline_at_ms: int | None, expected: str
) -> None:
    server = account()
    params = {"email": "ana@example.com", "task": "Call", "task_due_at_ms": due_at_ms}
    async with desk(server.app()) as connector:
        await connector.send(delivery(params, deadline_at_ms=deadline_at_ms))
    [task] = server.objects["tasks"].values()
    assert task["hs_timestamp"] == expected


async def test_a_repeat_makes_no_second_task_or_note() -> None:
    server = account()
    async with desk(server.app()) as connector:
        for params in ({"task": "Call Ana"}, {"note": "<p>She left her basket.</p>"}):
            for attempt in (1, 2):
                receipt = await connector.send(delivery({"email": "ana@example.com", **params}, attempt=attempt))
                assert receipt.result is Result.DELIVERED
    assert {kind: list(held) for kind, held in server.objects.items()} == {
        "contacts": ["501"],
        "tasks": ["502"],
        "notes": ["503"],
    }
    assert server.associations == {("tasks", "502", "501"), ("notes", "503", "501")}


async def test_a_repeat_finishes_what_an_attempt_left_half_done() -> None:
    server = account()
    app = failing(server.app(), "/associations/", lambda: Response("upstream", 502))
    params = {"email": "ana@example.com", "note": "<p>Hello</p>"}
    async with desk(app) as connector:
        first, second = [await connector.send(delivery(params)) for _ in range(2)]
    assert first == Receipt(
        result=Result.RETRY,
        status=502,
        detail="the contact was saved, its task or note was not: upstream",
    )
    assert second.reference == "notes/502"
    assert server.associations == {("notes", "502", "501")}


async def test_without_a_property_for_the_action_a_task_is_made_with_its_association() -> None:
    server = HubSpotServer(token=TOKEN)
    async with desk(server.app(), action_id_property="", external_id_property="") as connector:
        receipts = [
            await connector.send(delivery({"email": "ana@example.com", **params}))
            for params in ({"task": "Call"}, {"note": "<p>Hello</p>", "owner_id": "5"})
        ]
    assert [receipt.reference for receipt in receipts] == ["tasks/502", "notes/503"]
    assert server.associations == {("tasks", "502", "501"), ("notes", "503", "501")}
    assert server.objects["notes"]["503"] == {
        "hs_timestamp": str(DECIDED_AT_MS),
        "hs_note_body": "<p>Hello</p>",
        "hubspot_owner_id": "5",
    }


async def test_an_attempt_is_bounded_as_a_whole() -> None:
    """Three requests of one attempt share one deadline, and what was lost last decides."""

    async def hang(scope: Any, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    server = account()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and "/tasks/" in scope["path"]:
            await hang(scope, receive, send)
        else:
            await server.app()(scope, receive, send)

    async with desk(app, timeout_s=0.5) as connector:
        receipt = await connector.send(delivery({"email": "ana@example.com", "task": "Call"}))
    assert receipt.result is Result.UNKNOWN
    assert receipt.detail.startswith("the contact was saved, its task or note was not: the request to 127.0.0.1 was")
    assert list(server.objects["contacts"]) == ["501"]


# ------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("status", "headers", "content", "expected"),
    [
        (
            429,
            {},
            rate_limited("TEN_SECONDLY_ROLLING"),
            Receipt(
                result=Result.RETRY,
                status=429,
                detail="RATE_LIMIT: You have reached your ten_secondly_rolling limit.",
                retry_after_s=10,
            ),
        ),
        (
            429,
            {},
            rate_limited("DAILY"),
            Receipt(
                result=Result.RETRY,
                status=429,
                detail="RATE_LIMIT: You have reached your daily limit.",
                retry_after_s=3600,
            ),
        ),
        (
            429,
            {"Retry-After": "3"},
            rate_limited("DAILY"),
            Receipt(
                result=Result.RETRY,
                status=429,
                detail="RATE_LIMIT: You have reached your daily limit.",
                retry_after_s=3,
            ),
        ),
        (423, {}, {"message": "Locked"}, Receipt(result=Result.RETRY, status=423, detail="Locked", retry_after_s=2)),
        (
            477,
            {"Retry-After": "600"},
            {"message": "Migration in progress"},
            Receipt(result=Result.RETRY, status=477, detail="Migration in progress", retry_after_s=600),
        ),
        (
            207,
            {},
            {"status": "COMPLETE", "results": [], "errors": [{"category": "CONFLICT", "message": "No."}]},
            Receipt(result=Result.REFUSED, status=207, detail="CONFLICT: No."),
        ),
        (
            200,
            {},
            {"status": "PENDING"},
            Receipt(
                result=Result.UNKNOWN,
                status=200,
                detail="HubSpot's answer names no object, so what became of it cannot be told",
            ),
        ),
        (502, {}, "upstream", Receipt(result=Result.RETRY, status=502, detail='"upstream"')),
    ],
)
async def test_each_answer_has_its_receipt(
    status: int, headers: dict[str, str], content: Any, expected: Receipt
) -> None:
    async with desk(Scripted(status, headers, json.dumps(content).encode())) as connector:
        assert await connector.send(delivery({"email": "ana@example.com"})) == expected


@pytest.mark.parametrize(
    ("app", "advice"),
    [
        (account().app(), None),
        (
            HubSpotServer(token="pat-another").app(),
            "HubSpot does not take the token (INVALID_AUTHENTICATION: Authentication credentials not found. "
            "This API supports OAuth 2.0 authentication). Check token_env and the app's scopes.",
        ),
        (
            Scripted(503),
            "HubSpot answered 503: it is reachable but not in order. Check base_url, or try again later.",
        ),
    ],
)
async def test_the_check_says_what_to_mend(app: Any, advice: str | None) -> None:
    async with desk(app) as connector:
        assert await connector.check() == advice


async def test_a_token_without_the_scope_is_refused_in_hubspots_words() -> None:
    async with desk(account(scopes=frozenset()).app()) as connector:
        receipt = await connector.send(delivery({"email": "ana@example.com"}))
    assert receipt == Receipt(
        result=Result.REFUSED,
        status=403,
        detail="MISSING_SCOPES: This app hasn't been granted all required scopes to make this call.",
    )


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({"task": "Call"}, 'param "email" or "external_id" is missing. See connectors/README.md.'),
        (
            {"email": "ana@example.com", "task": "Call", "note": "<p>x</p>"},
            'params "task" and "note" are both given. Use two actions.',
        ),
        (
            {"email": "ana", "task": "Call"},
            'param "email": must be an e-mail address such as ana@example.com, and nothing else. '
            "It is: The contact's e-mail address.",
        ),
    ],
)
async def test_what_does_not_say_enough_is_refused_unsent(params: dict[str, Any], detail: str) -> None:
    app = Scripted()
    async with desk(app) as connector:
        receipt = await connector.send(delivery(params))
    assert receipt == Receipt(result=Result.REFUSED, detail=detail)
    assert app.requests == []


async def test_crm_carries_its_kind_alone() -> None:
    async with desk(Scripted()) as connector:
        receipt = await connector.send(delivery({}, kind="email"))
    assert receipt == Receipt(result=Result.REFUSED, detail='kind "email" is not for a CRM')
