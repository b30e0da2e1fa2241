"""Look-ups, health and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from orchestrator.core.action import Action
from orchestrator.core.definition import Journey
from orchestrator.core.state import CustomerState, Pending, Play, Run
from orchestrator.errors import EventRefused
from orchestrator.gateway.page import PAGE_BYTES_MAX
from orchestrator.gateway.views import (
    RulebookVersion,
    action_view,
    dead_letter_view,
)
from orchestrator.runtime.intake.dead_letter import gateway_letter

AT_MS = 1_772_425_800_000
AT = "2026-03-02T04:30:00Z"


async def test_a_customer_is_shown_with_all_that_is_known(client: httpx.AsyncClient, known: Any) -> None:
    known.states["c1"] = CustomerState(
        first_seen_ms=AT_MS,
        frontier_ms=AT_MS,
        traits={"country": ("IN", AT_MS)},
        consents={"marketing": (True, AT_MS)},
        runs={"purchase/k/1": Run("basket", AT_MS, AT_MS), "support": Run("closed", AT_MS, AT_MS, AT_MS)},
        plays={"cart-recovery/k/1": Play("cart-recovery", "v1", "purchase/k/1", 2, "e1", AT_MS, variant="nudge")},
        timers={"t": AT_MS},
        pending={
            "a0": Pending("cart-recovery", "purchase/k/1", AT_MS, AT_MS, [], delivered=True),
            "a1": Pending("cart-recovery", "purchase/k/1", AT_MS, AT_MS, []),
        },
    )
    response = await client.get("/v1/customers/c1")
    assert response.json() == {
        "customer_id": "c1",
        "merged_into": "",
        "aliases": [],
        "first_seen_at": AT,
        "last_event_at": AT,
        "traits": {"country": "IN"},
        "consents": {"marketing": True},
        "runs": [
            {
                "journey": "purchase",
                "key": "k/1",
                "stage": "basket",
                "started_at": AT,
                "entered_at": AT,
                "ended_at": None,
            },
            {"journey": "support", "key": "", "stage": "closed", "started_at": AT, "entered_at": AT, "ended_at": AT},
        ],
        "plays": [
            {
                "rule": "cart-recovery",
                "run": "purchase/k/1",
                "started_at": AT,
                "variant": "nudge",
                "deferred": False,
            }
        ],
        "pending_actions": ["a1"],
        "next_wake_at": AT,
    }


async def test_journeys_are_listed_with_stages_and_rules(client: httpx.AsyncClient) -> None:
    (journey,) = (await client.get("/v1/journeys")).json()
    assert (journey["id"], [stage["name"] for stage in journey["stages"]]) == ("purchase", ["browsing"])


async def test_actions_can_be_narrowed_to_a_customer(client: httpx.AsyncClient, known: Any) -> None:
    known.settled = [
        action_view(Action(id="a1", customer_id="c1", decided_at=AT_MS), "delivered", AT_MS),
        action_view(Action(id="a2", customer_id="c2", decided_at=AT_MS)),
    ]
    assert [each["id"] for each in (await client.get("/v1/actions", params={"limit": 1})).json()] == ["a1"]
    (action,) = (await client.get("/v1/actions", params={"customer_id": "c2"})).json()
    assert (action["outcome"], action["settled_at"], action["decided_at"]) == ("queued", None, AT)


async def test_dead_letters_are_shown_and_sent_again(client: httpx.AsyncClient, known: Any) -> None:
    refused = EventRefused("not_json", "", "The event is not JSON.", "Send JSON.")
    known.letters = [dead_letter_view("0-7", gateway_letter(refused, b"unknown", b"\xff{", AT_MS))]
    (letter,) = (await client.get("/v1/dead-letters")).json()
    assert (letter["id"], letter["value"], letter["refused_at"]) == ("0-7", "\ufffd{", AT)
    assert (await client.post("/v1/dead-letters/redrive", json={"ids": ["0-7"]})).json() == {"redriven": 1}
    assert (await client.post("/v1/dead-letters/redrive", json={})).json() == {"redriven": 1}
    assert known.redriven == [["0-7"], None]


async def test_rulebooks_are_listed(client: httpx.AsyncClient, known: Any) -> None:
    published = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
    known.published = [RulebookVersion(version="v1", active=True, published_at=published, journeys=["purchase"])]
    assert (await client.get("/v1/rulebooks")).json() == [
        {"version": "v1", "active": True, "published_at": AT, "journeys": ["purchase"], "author": "", "note": ""}
    ]


async def pages(client: httpx.AsyncClient, path: str, between: Callable[[], None] = lambda: None) -> list[list[Any]]:
    found, following = [], path
    while following:
        response = await client.get(following)
        assert len(response.json()) <= 1 or len(response.content) <= PAGE_BYTES_MAX
        found.append(response.json())
        following = response.links.get("next", {}).get("url", "")
        between()
    return found


async def test_pages_of_versions_are_bounded_whatever_comes_into_force_meanwhile(
    client: httpx.AsyncClient, known: Any
) -> None:
    def put(active: int) -> None:
        versions = [
            RulebookVersion(
                version=f"v{number}",
                active=number == active,
                published_at=datetime(2026, 3, 2, 4, number, tzinfo=UTC),
                journeys=["j" * 300_000],
            )
            for number in reversed(range(12))
        ]
        known.published = sorted(versions, key=lambda one: not one.active)

    for meanwhile in (5, 11, 0):
        put(active=5)
        found = await pages(client, "/v1/rulebooks", lambda active=meanwhile: put(active))
        assert [len(page) for page in found] == [3, 3, 3, 3]
        assert [one["version"] for page in found for one in page] == [
            "v5",
            *(f"v{number}" for number in reversed(range(12)) if number != 5),
        ]
    refused = await client.get("/v1/rulebooks", params={"before": "v1.nothing"})
    assert (refused.status_code, refused.json()["field"]) == (400, "before")


async def test_pages_of_journeys_are_bounded_and_in_the_order_of_their_ids(
    client: httpx.AsyncClient, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    journeys = [Journey(id=f"j{number}", title="x" * 400_000, stages=()) for number in (3, 1, 2, 5, 4)]

    async def active() -> list[Journey]:
        return journeys

    monkeypatch.setattr(known, "active", active)
    found = await pages(client, "/v1/journeys")
    assert [[one["id"] for one in page] for page in found] == [["j1", "j2"], ["j3", "j4"], ["j5"]]


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/v1/customers/nobody", 404, 'There is no customer "nobody".'),
        ("GET", "/v1/nothing", 404, "There is nothing at /v1/nothing."),
        ("GET", "/v1/events", 405, "GET is not answered at /v1/events."),
        ("DELETE", "/v1/actions", 405, "DELETE is not answered at /v1/actions."),
        ("GET", "/v1/actions?limit=0", 400, "limit: Input should be greater than or equal to 1."),
    ],
)
async def test_what_is_not_there_is_a_problem_document(
    client: httpx.AsyncClient, method: str, path: str, status: int, detail: str
) -> None:
    response = await client.request(method, path)
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, document["status"], document["detail"]) == (status, status, detail)


async def test_a_store_out_of_reach_is_503(client: httpx.AsyncClient, known: Any) -> None:
    known.store_available = False
    response = await client.get("/v1/customers/c1")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["detail"] == "Redis does not answer."


async def test_an_unexpected_error_tells_nothing_of_itself(client: httpx.AsyncClient, known: Any) -> None:
    known.states["c1"] = "no state at all"
    response = await client.get("/v1/customers/c1")
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert response.json()["detail"] == "The gateway failed on this request; its log says why."


async def test_readiness_says_what_stands_in_the_way(client: httpx.AsyncClient, known: Any) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    known.in_the_way = "Kafka does not answer."
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["detail"]) == (503, "Kafka does not answer.")
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_metrics_are_in_prometheus_text_format(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "# TYPE journey_events_ingested_total counter" in response.text


async def document_of(client: httpx.AsyncClient) -> Any:
    return (await client.get("/openapi.json")).json()


async def test_the_openapi_document_names_every_route(client: httpx.AsyncClient) -> None:
    calls = ["track", "identify", "page", "screen", "group", "alias", "batch", "events"]
    assert set((await document_of(client))["paths"]) == {
        *(f"/v1/{call}" for call in calls),
        "/v1/customers/{customer_id}",
        "/v1/journeys",
        "/v1/actions",
        "/v1/dead-letters",
        "/v1/dead-letters/redrive",
        "/v1/rulebooks",
        "/healthz",
        "/readyz",
        "/metrics",
    }


async def test_every_reference_of_the_openapi_document_leads_somewhere(client: httpx.AsyncClient) -> None:
    document = await document_of(client)
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                found.add(node["$ref"].removeprefix("#/components/schemas/"))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(document)
    assert {"Event", "CloudEvent", "SegmentCall", "SegmentBatch", "Problem"} <= found
    assert found <= set(document["components"]["schemas"])


async def test_every_example_of_the_openapi_document_is_taken(client: httpx.AsyncClient) -> None:
    taken = 0
    for path, operations in (await document_of(client))["paths"].items():
        body = operations.get("post", {}).get("requestBody", {})
        if "ingest" not in operations.get("post", {}).get("tags", ()):
            continue
        for media, content in body["content"].items():
            examples = [each["value"] for each in content.get("examples", {}).values()]
            for example in examples or [content["example"]]:
                response = await client.post(path, json=example, headers={"content-type": media})
                assert response.is_success, (path, media, response.text)
                assert "refused" not in response.json()
                taken += 1
    assert taken == 11
