"""Ingest over HTTP: accepted means in the log; everything else is a problem document."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from orchestrator.gateway.in_flight import InFlight
from orchestrator.runtime.ports import DEAD_LETTERS, EVENTS, Outgoing
from orchestrator.settings import Settings

OCCURRED_MS = 1_772_425_800_000
NORMAL = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": OCCURRED_MS, "properties": {"a": 1}}
CLOUD_EVENT = {"specversion": "1.0", "id": "e1", "source": "/w", "type": "a.lead_submitted", "subject": "c1"}
TRACK = {"event": "Lead Submitted", "messageId": "e1", "userId": "c1", "timestamp": OCCURRED_MS}


def problem(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    return document


async def test_one_event_is_answered_with_its_id_and_stands_in_the_log(client: httpx.AsyncClient, log: Any) -> None:
    response = await client.post("/v1/events", json=NORMAL)
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "ids": ["e1"], "success": True})
    assert await log.values(EVENTS) == [NORMAL]


async def test_a_list_keeps_its_order(client: httpx.AsyncClient, log: Any) -> None:
    events = [{**NORMAL, "id": f"e{number}"} for number in range(20)]
    response = await client.post("/v1/events", json=events)
    assert response.json()["ids"] == [event["id"] for event in events]
    assert await log.values(EVENTS) == events


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"content-type": "application/cloudevents+json"}, CLOUD_EVENT),
        ({"content-type": "application/cloudevents-batch+json"}, [CLOUD_EVENT]),
        ({"content-type": "application/json", **{f"ce-{name}": value for name, value in CLOUD_EVENT.items()}}, {}),
    ],
)
async def test_cloudevents_come_in_all_three_modes(
    client: httpx.AsyncClient, log: Any, headers: dict[str, str], sent: Any
) -> None:
    response = await client.post("/v1/events", content=json.dumps(sent), headers=headers)
    assert response.status_code == 202
    (event,) = await log.values(EVENTS)
    assert (event["id"], event["type"], event["customer_id"]) == ("e1", "lead_submitted", "c1")


@pytest.mark.parametrize(
    ("call", "sent", "event_type"),
    [
        ("track", TRACK, "lead_submitted"),
        ("identify", {"userId": "c1", "traits": {}}, "identify"),
        ("page", {"userId": "c1"}, "page"),
        ("screen", {"anonymousId": "c1"}, "screen"),
        ("group", {"userId": "c1", "groupId": "g"}, "group"),
        ("alias", {"userId": "c1", "previousId": "a"}, "alias"),
    ],
)
async def test_every_segment_call_has_its_route(
    client: httpx.AsyncClient, log: Any, call: str, sent: Any, event_type: str
) -> None:
    response = await client.post(f"/v1/{call}", json=sent)
    assert (response.status_code, response.json()["success"]) == (200, True)
    assert [event["type"] for event in await log.values(EVENTS)] == [event_type]


async def test_a_gzipped_body_is_inflated_member_by_member(client: httpx.AsyncClient, log: Any) -> None:
    text = json.dumps(NORMAL).encode()
    body = gzip.compress(text[:20]) + gzip.compress(text[20:])
    response = await client.post("/v1/events", content=body, headers={"content-encoding": "gzip"})
    assert response.status_code == 202
    assert await log.values(EVENTS) == [NORMAL]


async def test_one_bad_event_refuses_a_list_and_is_named_by_its_index(client: httpx.AsyncClient, log: Any) -> None:
    response = await client.post("/v1/events", json=[NORMAL, {**NORMAL, "customer_id": ""}, {**NORMAL, "type": "A B"}])
    assert problem(response) == {
        "type": "urn:journey:problem:events_refused",
        "title": "Bad Request",
        "status": 400,
        "detail": "2 of 3 events are refused; none was taken.",
        "remedy": "Mend or remove the events named in errors, then send all again.",
        "errors": [
            {
                "index": 1,
                "code": "missing_field",
                "field": "customer_id",
                "detail": "customer_id is missing.",
                "remedy": "Send customer_id as a string of 1 to 200 characters.",
            },
            {
                "index": 2,
                "code": "invalid_value",
                "field": "type",
                "detail": 'type "A B" is not in snake_case.',
                "remedy": 'Send "a_b".',
            },
        ],
    }
    assert await log.values(EVENTS) == []


async def test_a_segment_batch_keeps_its_good_calls_and_buries_the_bad(client: httpx.AsyncClient, log: Any) -> None:
    sent = {"batch": [{"type": "track", **TRACK}, {"type": "track", "userId": "c1"}]}
    response = await client.post("/v1/batch", json=sent)
    assert response.status_code == 200
    assert response.json() == {
        "accepted": 1,
        "success": False,
        "refused": [
            {
                "index": 1,
                "code": "missing_field",
                "field": "event",
                "detail": "event is missing.",
                "remedy": 'Send the name of what happened, such as "Lead Submitted".',
            }
        ],
    }
    assert [event["id"] for event in await log.values(EVENTS)] == ["e1"]
    assert [letter["message"] for letter in await log.values(DEAD_LETTERS)] == ["event is missing."]


@pytest.mark.parametrize(
    ("good", "bad", "success"),
    [(2, 0, True), (1, 1, False), (0, 2, False)],
    ids=["all taken", "some refused", "none taken"],
)
async def test_a_batch_is_a_success_only_where_all_of_it_was_taken(
    client: httpx.AsyncClient, good: int, bad: int, success: bool
) -> None:
    def refused() -> float:
        return counted("journey_events_refused_total", origin="gateway", code="missing_field")

    before = refused()
    sent = [{"type": "track", **TRACK}] * good + [{"type": "track", "userId": "c1"}] * bad
    response = await client.post("/v1/batch", json={"batch": sent})
    answer = response.json()
    assert (response.status_code, answer["accepted"], answer["success"]) == (200, good, success)
    assert (len(answer.get("refused", [])), refused() - before) == (bad, bad)


REFUSED_REQUESTS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "a body that is not JSON": (
        {"content": b"{"},
        400,
        "not_json",
        "The event is not JSON: the text ends early.",
    ),
    "an empty body": ({"content": b""}, 400, "not_json", "The event is not JSON: the text ends early."),
    "an event too large": (
        {"json": {**NORMAL, "properties": {"a": "x" * 5_000}}},
        413,
        "too_large",
        "The event has 5104 bytes; at most 4000 are allowed.",
    ),
    "a body too large": (
        {"content": b"x" * 20_001},
        413,
        "too_large",
        "The body has more than 20000 bytes.",
    ),
    "a gzip bomb": (
        {"content": gzip.compress(b" " * 10_000_000), "headers": {"content-encoding": "gzip"}},
        413,
        "too_large",
        "The body has more than 20000 bytes.",
    ),
    "broken gzip": (
        {"content": b"no gzip", "headers": {"content-encoding": "gzip"}},
        400,
        "broken_gzip",
        "The body is not a whole gzip stream.",
    ),
    "half of a gzip stream": (
        {"content": gzip.compress(b"[]")[:-6], "headers": {"content-encoding": "gzip"}},
        400,
        "broken_gzip",
        "The body is not a whole gzip stream.",
    ),
    "another encoding": (
        {"content": b"x", "headers": {"content-encoding": "br"}},
        415,
        "unknown_encoding",
        "The content encoding br is not known.",
    ),
    "another content type": (
        {"content": b"<a/>", "headers": {"content-type": "text/xml; charset=utf-8"}},
        415,
        "not_json",
        "The content type text/xml is not JSON.",
    ),
}


@pytest.mark.parametrize("name", REFUSED_REQUESTS)
async def test_a_request_that_cannot_be_taken_is_told_why(client: httpx.AsyncClient, log: Any, name: str) -> None:
    request, status, code, detail = REFUSED_REQUESTS[name]
    document = problem(await client.post("/v1/events", **request))
    expected = (status, f"urn:journey:problem:{code}", detail)
    assert (document["status"], document["type"], document["detail"]) == expected
    assert document["remedy"]
    assert await log.values(EVENTS) == []


async def test_a_body_of_unknown_length_is_refused_while_it_arrives(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 5_000
            yield b"x" * 5_000

    assert problem(await client.post("/v1/events", content=endless()))["status"] == 413
    assert sent == 25_000


async def test_without_the_log_nothing_is_acknowledged(client: httpx.AsyncClient, log: Any) -> None:
    log.available = False
    response = await client.post("/v1/batch", json={"batch": [{"type": "track", **TRACK}]})
    assert problem(response)["detail"] == "Kafka does not answer."
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    log.available = True
    assert await log.values(EVENTS) == []
    assert (await client.post("/v1/track", json=TRACK)).status_code == 200


async def test_beyond_the_bound_requests_are_told_to_come_back(
    client: httpx.AsyncClient, log: Any, in_flight: InFlight
) -> None:
    append, full, release = log.append, asyncio.Event(), asyncio.Event()

    async def held_back(records: Sequence[Outgoing]) -> None:
        if in_flight.requests == in_flight.requests_max:
            full.set()
        await release.wait()
        await append(records)

    log.append = held_back
    held = [asyncio.create_task(client.post("/v1/events", json=NORMAL)) for _ in range(in_flight.requests_max)]
    await asyncio.wait_for(full.wait(), 5)
    response = await client.post("/v1/events", json=NORMAL)
    assert (problem(response)["status"], response.headers["retry-after"]) == (429, "1")
    release.set()
    assert [each.status_code for each in await asyncio.gather(*held)] == [202] * in_flight.requests_max
    assert (in_flight.requests, in_flight.bytes) == (0, 0)


async def test_bodies_are_bounded_in_bytes_as_well(client: httpx.AsyncClient, in_flight: InFlight) -> None:
    in_flight.bytes_max = 50
    response = await client.post("/v1/events", json=NORMAL)
    assert problem(response)["detail"] == "The gateway holds as many requests as it can."
    assert (response.status_code, in_flight.requests, in_flight.bytes) == (429, 0, 0)


class TestWithWriteKeys:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(write_keys=("spring", "autumn"))

    @pytest.mark.parametrize(
        "credentials",
        [{"auth": ("spring", "")}, {"auth": ("autumn", "x")}, {"headers": {"authorization": "Bearer autumn"}}],
    )
    async def test_each_key_opens_as_basic_auth_user_or_bearer(
        self, client: httpx.AsyncClient, credentials: dict[str, Any]
    ) -> None:
        assert (await client.post("/v1/track", json=TRACK, **credentials)).status_code == 200

    @pytest.mark.parametrize(
        ("credentials", "detail"),
        [
            ({}, "A key is needed."),
            ({"auth": ("winter", "")}, "The key is not known."),
            ({"auth": ("", "spring")}, "The key is not known."),
            ({"headers": {"authorization": "Basic !"}}, "The key is not known."),
            ({"headers": {"authorization": "Bearer"}}, "The key is not known."),
            ({"headers": {"authorization": "Digest spring"}}, "The key is not known."),
        ],
    )
    @pytest.mark.parametrize(("method", "path"), [("POST", "/v1/events"), ("GET", "/v1/customers/c1")])
    async def test_nothing_else_opens(
        self, client: httpx.AsyncClient, method: str, path: str, credentials: dict[str, Any], detail: str
    ) -> None:
        response = await client.request(method, path, json=NORMAL, **credentials)
        assert (response.status_code, problem(response)["detail"]) == (401, detail)
        assert response.headers["www-authenticate"] == 'Basic realm="journey", charset="UTF-8"'

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    async def test_health_and_documentation_stay_open(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(path)).status_code == 200


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_what_happens_is_counted_once(client: httpx.AsyncClient) -> None:
    def counts() -> list[float]:
        return [
            counted("journey_events_ingested_total", form="segment"),
            counted("journey_events_refused_total", origin="gateway", code="missing_field"),
            counted("journey_dead_letters_total", origin="gateway"),
            counted("journey_ingest_seconds_count", route="/v1/batch"),
            counted("journey_http_responses_total", route="/v1/batch", status="200"),
            counted("journey_http_responses_total", route="/v1/customers/{customer_id}", status="404"),
            counted("journey_http_responses_total", route="unmatched", status="404"),
        ]

    before = counts()
    await client.post("/v1/batch", json={"batch": [{"type": "track", **TRACK}, {"type": "track", "userId": "c1"}]})
    await client.get("/v1/customers/nobody")
    await client.get("/wp-login.php")
    assert [after - was for was, after in zip(before, counts(), strict=True)] == [1] * 7
