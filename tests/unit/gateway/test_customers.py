"""Forgetting a customer over HTTP."""

from __future__ import annotations

import httpx
import pytest

from orchestrator.core.action import Action
from orchestrator.core.event import RECEIPTS
from orchestrator.core.state import CustomerState
from orchestrator.gateway.customers import UnforgottenActions
from orchestrator.gateway.page import Page
from orchestrator.gateway.views import action_view
from orchestrator.runtime.ports import EVENTS


async def test_an_erasure_is_accepted_once_the_log_has_it(client, log) -> None:
    answer = await client.delete("/v1/customers/c%2F1")
    assert answer.status_code == 202
    (event,) = await log.values(EVENTS)
    assert answer.json() == {"customer_id": "c/1", "event_id": event["id"]}
    assert (event["type"], event["customer_id"]) == ("customer_erased", "c/1")
    (record,) = await log.read_range(EVENTS, 0, 0, 10)
    assert record.key == b"c/1"


@pytest.mark.parametrize(
    ("path", "customer"),
    [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("a/b", "a/b"),  # some proxies decode what they pass on
        ("x%2Ftimeline", "x/timeline"),
        ("a%252Fb", "a%2Fb"),
        ("%2E%2E", ".."),
        ("%2F", "/"),
        ("%C3%A9%E2%80%A8%20%3F%23+", "\u00e9\u2028 ?#+"),
    ],
)
async def test_any_id_can_be_forgotten(client: httpx.AsyncClient, path: str, customer: str) -> None:
    answer = await client.delete(f"/v1/customers/{path}")
    assert (answer.status_code, answer.json()["customer_id"]) == (202, customer)


@pytest.mark.parametrize(
    ("path", "customer"),
    [
        ("c1", "c1"),
        ("%631", "c1"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("x%2Ftimeline", "x/timeline"),
        ("a%252Fb", "a%2Fb"),
        ("100%25", "100%"),
        ("%2E%2E", ".."),
        ("%2F", "/"),
        ("%C3%A9%E2%80%A8%20%3F%23+", "\u00e9\u2028 ?#+"),
        ("%ff", "\ufffd"),
    ],
)
async def test_any_id_can_be_looked_up(client: httpx.AsyncClient, known, path: str, customer: str) -> None:
    known.states[customer] = CustomerState(first_seen_ms=1)
    answer = await client.get(f"/v1/customers/{path}")
    assert (answer.status_code, answer.json()["customer_id"]) == (200, customer)


@pytest.mark.parametrize("prefix", ["/v1/%63ustomers", "/%76%31/customers"])
async def test_a_path_that_is_encoded_without_need_is_the_same_path(client, known, prefix: str) -> None:
    known.states["a/%"] = CustomerState(first_seen_ms=1)
    answer = await client.get(f"{prefix}/a%2F%25")
    assert (answer.status_code, answer.json()["customer_id"]) == (200, "a/%")


@pytest.mark.parametrize("path", ["/v1%2Fcustomers/c1", "/v1/customers%2Fc1", "/%2Fv1/customers/c1"])
async def test_slashes_of_the_path_itself_are_not_encoded(client: httpx.AsyncClient, known, path: str) -> None:
    known.states["c1"] = CustomerState(first_seen_ms=1)
    assert (await client.get(path)).status_code == 404


async def test_a_slash_that_is_not_encoded_parts_the_path(client: httpx.AsyncClient, known) -> None:
    known.states["a/b"] = CustomerState(first_seen_ms=1)
    answer = await client.get("/v1/customers/a/b")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE")


async def test_the_document_says_how_an_id_is_written_in_a_path(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for operation in document["paths"]["/v1/customers/{customer_id}"].values():
        (parameter,) = operation["parameters"]
        assert parameter["description"] == "Id of the customer, percent-encoded: a slash in it is %2F."


@pytest.mark.parametrize("customer", ["x" * 1_000, "a%00b"])
async def test_what_is_no_id_is_refused(client: httpx.AsyncClient, log, customer: str) -> None:
    answer = await client.delete(f"/v1/customers/{customer}")
    assert (answer.status_code, answer.json()["field"]) == (400, "customer_id")
    assert await log.values(EVENTS) == []


async def test_an_erasure_that_the_log_cannot_take_is_not_accepted(client: httpx.AsyncClient, log) -> None:
    log.available = False
    answer = await client.delete("/v1/customers/c1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


async def test_an_erased_customer_is_unknown(client: httpx.AsyncClient, known) -> None:
    known.states["c1"] = CustomerState(clock_ms=5, seen=bytes(8), erased_at_ms=5)
    assert (await client.get("/v1/customers/c1")).status_code == 404


class Found:
    async def recent(self, limit: int, customer_id: str | None, before: str | None = None):
        actions = [("a1", "c1", 4), ("a2", "c1", 6), ("a3", "c2", 4), ("a4", "nobody", 1)]
        views = [action_view(Action(id=one, customer_id=who, decided_at=at)) for one, who, at in actions]
        return Page(views, "0-7")


async def test_actions_that_an_erasure_has_forgotten_are_not_shown(known) -> None:
    known.states["c1"] = CustomerState(erased_at_ms=5)
    known.states["c2"] = CustomerState()
    shown = await UnforgottenActions(Found(), known).recent(10, None)
    assert [one.id for one in shown.items] == ["a2", "a3", "a4"]
    assert shown.next == "0-7"


@pytest.mark.parametrize(
    "event_type",
    ["merge_requested", "merge_refused", "profile_merged", "customer_erased", "action_scheduled", *sorted(RECEIPTS)],
)
async def test_producers_cannot_send_what_is_the_engines_own(client, log, event_type) -> None:
    event = {"id": "e1", "type": event_type, "customer_id": "c1", "occurred_at": 1_772_425_800_000}
    said = f"type {event_type} is the engine's own."
    answer = await client.post("/v1/events", json=event)
    assert (answer.status_code, answer.json()["detail"]) == (400, said)
    call = {"type": "track", "event": event_type.replace("_", " ").title(), "userId": "c1", "properties": {}}
    answer = await client.post("/v1/track", json=call)
    assert (answer.status_code, answer.json()["detail"]) == (400, said)
    assert await log.values(EVENTS) == []


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        ({"alice": CustomerState(merged_into="a2", aliases=["anon"]), "a2": CustomerState(first_seen_ms=1)}, "a2"),
        (
            {
                "alice": CustomerState(merged_into="a2"),
                "a2": CustomerState(merged_into="a3"),
                "a3": CustomerState(first_seen_ms=1),
            },
            "a3",
        ),
        ({"alice": CustomerState(merged_into="a2")}, "a2"),
        ({"alice": CustomerState(merged_into="a2"), "a2": CustomerState(merged_into="alice")}, "a2"),
    ],
    ids=["to another id", "and on to a third", "whose partition has not read of it", "while an erasure is under way"],
)
async def test_who_was_merged_is_shown_with_where_they_went(client, known, states, shown) -> None:
    known.states.update(states)
    answer = (await client.get("/v1/customers/alice")).json()
    assert (answer["customer_id"], answer["merged_into"], answer["first_seen_at"]) == ("alice", shown, None)


async def test_who_is_still_there_is_shown_with_their_other_ids(client, known) -> None:
    known.states["alice"] = CustomerState(first_seen_ms=1, aliases=["anon"])
    answer = (await client.get("/v1/customers/alice")).json()
    assert (answer["merged_into"], answer["aliases"]) == ("", ["anon"])
