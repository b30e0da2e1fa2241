"""What a request becomes: bounded before it is made, whatever its form, and charged before the work."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator.gateway.in_flight import InFlight
from orchestrator.gateway.keys import hash_of
from orchestrator.runtime.intake import Limits
from orchestrator.runtime.intake.limits import EVENTS_MAX, LENT_BYTES_MAX
from orchestrator.runtime.ports import DEAD_LETTERS, EVENTS
from orchestrator.settings import Settings

BODY_BYTES = Settings().body_bytes_max
EVENT_BYTES = Settings().event_bytes_max
#: What a request, its records in the log of these tests and its answer may take at once.
PEAK_BYTES_MAX = 32_000_000
#: What the answer to a request may have.
ANSWER_BYTES_MAX = 600_000
OCCURRED_MS = 1_772_425_800_000
NORMAL = {"type": "a", "customer_id": "c", "occurred_at": OCCURRED_MS}
CLOUD = {"specversion": "1.0", "id": "e", "source": "s", "type": "a", "subject": "c"}
CALL = {"type": "page", "userId": "c"}
CLOUDEVENTS = "application/cloudevents+json"


def text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def filled(head: str, piece: str, tail: str, size: int = BODY_BYTES, most: int = EVENTS_MAX) -> str:
    """Return as many pieces as fit between head and tail."""
    number = min(most, (size - len(head) - len(tail)) // (len(piece) + 1))
    return head + ",".join([piece] * number) + tail


def listed(event: dict[str, Any]) -> str:
    return filled("[", text(event), "]")


def batch(call: dict[str, Any], lent_bytes: int, most: int = EVENTS_MAX, **context: Any) -> str:
    """Return a batch of as many calls as fit, or ``most``, that lends them a context of so many bytes."""
    shared = text({**context, "k": "x" * (lent_bytes - len(text({**context, "k": ""})))})
    return filled('{"context":' + shared + ',"batch":[', text(call), "]}", most=most)


def wide(piece: str, size: int = EVENT_BYTES - 200) -> Any:
    return json.loads(filled("[", piece, "]", size, most=10**9))


def deep(levels: int) -> Any:
    return json.loads('{"k":' * levels + "1" + "}" * levels)


LARGE = 2**70
#: The most that a request may make of a body that is as large as it may be.
WORST: dict[str, tuple[str, str, Callable[[], str]]] = {
    "a batch of tiny calls that lends the most": ("/v1/batch", "", lambda: batch(CALL, LENT_BYTES_MAX // EVENTS_MAX)),
    "a batch that lends a large context to a few": (
        "/v1/batch",
        "",
        lambda: batch(CALL, 31_000, most=LENT_BYTES_MAX // 31_000),
    ),
    "a batch that lends a wide context to calls that have one": (
        "/v1/batch",
        "",
        lambda: filled(
            '{"context":' + text({f"{n}": 0 for n in range(3_000)}) + ',"batch":[',
            text({**CALL, "context": {"a": 1}}),
            "]}",
            most=140,
        ),
    ),
    "a batch of refused calls": ("/v1/batch", "", lambda: batch({"type": "x"}, LENT_BYTES_MAX // EVENTS_MAX)),
    "a batch that lends refused calls a large context": (
        "/v1/batch",
        "",
        lambda: batch({"type": "x"}, 31_000, most=LENT_BYTES_MAX // 31_000),
    ),
    "a batch that lends refused calls a long moment": (
        "/v1/batch",
        "",
        lambda: filled('{"sentAt":"' + "x" * 390 + '","batch":[', text(CALL), "]}"),
    ),
    "a batch of more than are counted": ("/v1/batch", "", lambda: filled('{"batch":[', "0", "]}", most=10**9)),
    "what is no batch": ("/v1/batch", "", lambda: filled('{"b":[', "{}", "]}", most=10**9)),
    "a list of tiny events": ("/v1/events", "", lambda: listed(NORMAL)),
    "a list of nothing": ("/v1/events", "", lambda: filled("[", "{}", "]")),
    "a list of more than are counted": ("/v1/events", "", lambda: filled("[", "0", "]", most=10**9)),
    "a list of wide events under long names": (
        "/v1/events",
        "",
        lambda: listed({**NORMAL, "properties": {"k" * 16_000: [*wide("0", 15_000), LARGE]}}),
    ),
    "a list of events that are too deep": ("/v1/events", "", lambda: listed({**NORMAL, "properties": deep(900)})),
    "CloudEvents": ("/v1/events", "application/cloudevents-batch+json", lambda: listed(CLOUD)),
    "CloudEvents that are refused": (
        "/v1/events",
        "application/cloudevents-batch+json",
        lambda: listed({**CLOUD, "id": ""}),
    ),
    "CloudEvents of many attributes": (
        "/v1/events",
        "application/cloudevents-batch+json",
        lambda: listed({**CLOUD, **{f"{n}": n for n in range(3_000)}}),
    ),
    "one CloudEvent": ("/v1/events", CLOUDEVENTS, lambda: text({**CLOUD, "data": {"a": wide("[]")}})),
    "one event": ("/v1/events", "", lambda: text({**NORMAL, "properties": {"a": wide("[]")}})),
    "one event of a whole body": (
        "/v1/events",
        "",
        lambda: text({**NORMAL, "properties": {"a": wide("[]", BODY_BYTES - 100)}}),
    ),
    "one event that is only brackets": ("/v1/events", "", lambda: "[" * BODY_BYTES),
    "one call": (
        "/v1/track",
        "",
        lambda: text({**CALL, "type": "track", "event": "a", "properties": {"a": wide("[]")}}),
    ),
    "one call with a library of a long name": (
        "/v1/identify",
        "",
        lambda: text({"userId": "c", "context": {"library": {"name": "x" * 31_000}}}),
    ),
}


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(1_000, 64_000_000)


async def posted(client: httpx.AsyncClient, path: str, media: str, body: str, **headers: str) -> httpx.Response:
    return await client.post(
        path,
        content=gzip.compress(body.encode(), 9),
        headers={"content-type": media or "application/json", "content-encoding": "gzip", **headers},
    )


@pytest.mark.parametrize("name", WORST)
async def test_the_worst_request_of_every_form_takes_bounded_memory(
    client: httpx.AsyncClient, in_flight: InFlight, name: str
) -> None:
    path, media, made = WORST[name]
    body = made()
    assert len(body) <= BODY_BYTES
    await client.post("/v1/events", json={**NORMAL, "id": "warm"})
    gc.collect()
    tracemalloc.start()
    try:
        response = await posted(client, path, media, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert response.status_code < 500
    assert peak < PEAK_BYTES_MAX, f"{peak} bytes"
    assert len(response.content) < ANSWER_BYTES_MAX
    assert (in_flight.requests, in_flight.bytes) == (0, 0)


def problem(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    return found


@pytest.mark.parametrize("call", [CALL, {"type": "x"}], ids=["good calls", "refused calls"])
@pytest.mark.parametrize("field", ["context", "sentAt"])
async def test_what_a_batch_would_repeat_without_bound_is_refused_as_a_whole(
    client: httpx.AsyncClient, log: Any, call: dict[str, Any], field: str
) -> None:
    lent = {"k": "x" * 20_000} if field == "context" else "x" * 20_008
    body = filled("{" + f'"{field}":{text(lent)},"batch":[', text(call), "]}")
    response = await posted(client, "/v1/batch", "", body)
    found = problem(response)
    assert (response.status_code, found["type"], found["field"]) == (413, "urn:journey:problem:too_large", field)
    assert found["detail"].startswith(f"{field} has 200")
    assert found["detail"].endswith("would take along; together at most 4000000 bytes are allowed.")
    assert found["remedy"] == f"Send fewer calls at once, or leave out of {field} what the rules do not read."
    assert await log.values(EVENTS) == await log.values(DEAD_LETTERS) == []


@pytest.mark.parametrize(
    ("context", "status", "detail"),
    [
        ({"k": "x" * EVENT_BYTES}, 413, "context has 32008 bytes; at most 32000 are allowed."),
        (deep(16), 400, "The event nests objects or lists more than 16 deep."),
        ({"a": {"k" * 5_000: [1, LARGE]}}, 400, f"context.a.{'k' * 59}…[1] is an integer beyond 64 bits."),
        ("words", 400, "context must be an object, not a string."),
    ],
    ids=["large", "deep", "a large integer", "words"],
)
async def test_what_no_call_could_have_by_itself_no_batch_lends(
    client: httpx.AsyncClient, log: Any, context: Any, status: int, detail: str
) -> None:
    response = await client.post("/v1/batch", json={"batch": [CALL], "context": context})
    assert (response.status_code, problem(response)["detail"]) == (status, detail)
    assert await log.values(EVENTS) == await log.values(DEAD_LETTERS) == []


async def test_what_requests_become_counts_against_what_all_of_them_may_hold(
    client: httpx.AsyncClient, log: Any, in_flight: InFlight
) -> None:
    body = batch(CALL, 20_000, most=100)
    in_flight.bytes_max = 1_000_000
    response = await posted(client, "/v1/batch", "", body)
    assert (response.status_code, problem(response)["type"]) == (429, "urn:journey:problem:too_busy")
    assert await log.values(EVENTS) == []
    in_flight.bytes_max = 3_000_000
    assert (await posted(client, "/v1/batch", "", body)).status_code == 200
    assert (in_flight.requests, in_flight.bytes) == (0, 0)


async def test_a_large_request_lets_others_run_in_between(client: httpx.AsyncClient) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(others())
    await client.post("/v1/events", json=NORMAL)
    for_one, turns = turns, 0
    await client.post("/v1/events", content=listed(NORMAL))
    other.cancel()
    assert turns >= for_one + 10


class TestRates:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        rate = {"events_per_s": 0.001, "burst": 3}
        key = {"name": "slow", "roles": ["write"], "hash": hash_of(b"slow-key"), "rate": rate}
        (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": [key]}))
        return Settings(keys_file=tmp_path / "keys.yaml")

    @pytest.mark.parametrize("path", ["/v1/events", "/v1/batch"])
    async def test_events_are_charged_before_they_are_looked_at(
        self, client: httpx.AsyncClient, looked_at: list[str], path: str
    ) -> None:
        slow = {"authorization": "Bearer slow-key"}
        events = {"/v1/events": [NORMAL] * 2, "/v1/batch": {"batch": [CALL] * 2}}[path]
        assert (await client.post(path, json=events, headers=slow)).is_success
        assert len(looked_at) == 2
        refused = await client.post(path, json=events, headers=slow)
        assert (refused.status_code, problem(refused)["type"]) == (429, "urn:journey:problem:rate_exceeded")
        assert len(looked_at) == 2
