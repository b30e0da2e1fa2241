"""Pages of topics' ends: bounded in bytes, and together the whole, whatever comes to the topic meanwhile."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from heapq import merge
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from orchestrator.adapters.memory_dispatch_queue import MemoryDispatchQueue
from orchestrator.core.action import Action
from orchestrator.errors import EventRefused
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.page import PAGE_BYTES_MAX
from orchestrator.roles.lookups import RecentActions, StoredDeadLetters
from orchestrator.runtime.intake import HttpIntake, Intake, Limits, encode_dead_letter
from orchestrator.runtime.intake.dead_letter import gateway_letter
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, Outgoing, Record
from orchestrator.runtime.workspace import KeySpace
from orchestrator.settings import Settings

NOW_MS = 1_772_425_805_000
#: What is around the items of a page, and what one of them is larger in JSON than in the topic.
PAGE_SLACK_BYTES = 2_000


class StandingClock:
    def now_ms(self) -> int:
        return NOW_MS

    async def sleep(self, seconds: float) -> None: ...


class AnyEvent:
    def check(self, event_type: str, properties: Mapping[str, Any]) -> EventRefused | None:
        return None


class Tail:
    """The ends of topics of several partitions; what it was asked for at once is noted."""

    def __init__(self) -> None:
        self.records: dict[str, list[list[Record]]] = {DEAD_LETTERS: [[], [], []], ACTIONS: [[], [], []]}
        self.bytes_at_once = 0
        self.appended: list[Outgoing] = []

    def put(self, topic: str, partition: int, value: bytes, key: bytes = b"c1", stamp_ms: int = NOW_MS) -> None:
        records = self.records[topic][partition]
        records.append(Record(partition, len(records), stamp_ms, key, value))

    async def latest(self, topic: str, limit: int, ends: Mapping[int, int] | None = None) -> list[Record]:
        tails = [
            [one for one in reversed(records) if one.offset < (ends or {}).get(number, len(records))]
            for number, records in enumerate(self.records[topic])
        ]
        found = list(merge(*tails, key=lambda record: (-record.stamp_ms, -record.partition)))[:limit]
        self.bytes_at_once = max(self.bytes_at_once, sum(len(one.value or b"") for one in found))
        return found

    async def latest_of(self, topic: str, key: bytes, limit: int) -> list[Record]:
        return [one for one in await self.latest(topic, limit) if one.key == key]

    async def append(self, records: Sequence[Outgoing]) -> None:
        self.appended += records


class Nothing:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not part of looking up.")


@pytest.fixture
def tail() -> Tail:
    return Tail()


@pytest.fixture
def letters(tail: Tail) -> StoredDeadLetters:
    http = HttpIntake(Intake(AnyEvent(), "default", Limits()))

    async def redrive(ids: Sequence[str]) -> Sequence[Any]:
        return ids

    return StoredDeadLetters(tail, tail, http, StandingClock(), redrive, Nothing())


@pytest.fixture
def app(tail: Tail, letters: StoredDeadLetters) -> FastAPI:
    nothing = Nothing()
    backend = Backend(
        log=nothing,
        customers=nothing,
        journeys=nothing,
        actions=RecentActions(tail, MemoryDispatchQueue(), KeySpace("default", ())),
        dead_letters=letters,
        rulebooks=nothing,
        readiness=nothing,
    )
    return create_app(backend, Intake(AnyEvent(), "default", Limits()), Settings(), StandingClock())


@pytest.fixture
async def client(app: FastAPI) -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8080") as connected:
        yield connected


def letter(size: int) -> bytes:
    refused = EventRefused("not_json", "", "The event is not JSON.", "Send JSON.")
    return encode_dead_letter(gateway_letter(refused, b"c1", b"x" * size, NOW_MS))


def action(number: int, size: int = 10, **more: Any) -> bytes:
    return msgspec.json.encode(Action(id=f"a{number}", customer_id="c1", params={"text": "x" * size}, **more))


async def pages(client: httpx.AsyncClient, path: str) -> list[list[dict[str, Any]]]:
    """Return all pages of a list, each within its bounds."""
    found, following = [], path
    while following:
        response = await client.get(following)
        assert response.status_code == 200, response.text
        items = response.json()
        assert len(items) <= 1 or len(response.content) <= PAGE_BYTES_MAX + PAGE_SLACK_BYTES
        found.append(items)
        following = response.links.get("next", {}).get("url", "")
    return found


@pytest.mark.parametrize("sizes", [[100] * 300, [40_000] * 80, [3_000_000, 10, 10, 3_000_000], [0, 900_000] * 5])
@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_pages_of_dead_letters_are_bounded_and_together_the_whole(
    client: httpx.AsyncClient, tail: Tail, sizes: list[int], limit: int
) -> None:
    for number, size in enumerate(sizes):
        tail.put(DEAD_LETTERS, number % 3, letter(size), stamp_ms=NOW_MS + number)
    found = await pages(client, f"/v1/dead-letters?limit={limit}")
    shown = [one["id"] for page in found for one in page]
    assert shown == [f"{number % 3}-{number // 3}" for number in reversed(range(len(sizes)))]
    assert all(0 < len(page) <= limit for page in found)


async def test_what_comes_meanwhile_neither_hides_nor_repeats_anything(client: httpx.AsyncClient, tail: Tail) -> None:
    for number in range(12):
        tail.put(DEAD_LETTERS, number % 2, letter(10), stamp_ms=NOW_MS + number)
    shown, following = [], "/v1/dead-letters?limit=5"
    while following:
        response = await client.get(following)
        shown += [one["id"] for one in response.json()]
        following = response.links.get("next", {}).get("url", "")
        for partition in (0, 1):
            tail.put(DEAD_LETTERS, partition, letter(10), stamp_ms=NOW_MS + 100)
    assert shown == [f"{number % 2}-{number // 2}" for number in reversed(range(12))]


async def test_stamps_of_clocks_that_disagree_lose_nothing(client: httpx.AsyncClient, tail: Tail) -> None:
    for number, ahead_ms in enumerate([0, 900, 100, 800, 200, 700, 300, 600, 400, 500]):
        tail.put(DEAD_LETTERS, number % 3, letter(10), stamp_ms=NOW_MS + ahead_ms)
    shown = [one["id"] for page in await pages(client, "/v1/dead-letters?limit=2") for one in page]
    assert len(shown) == len(set(shown)) == 10


async def test_what_is_read_at_once_is_bounded_however_much_is_asked_for(client: httpx.AsyncClient, tail: Tail) -> None:
    for _ in range(200):
        tail.put(DEAD_LETTERS, 0, letter(900_000))
    tracemalloc.start()
    assert len((await client.get("/v1/dead-letters?limit=1000")).json()) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000, f"{peak} bytes"
    assert tail.bytes_at_once < 25_000_000


async def test_redriving_all_reads_the_letters_in_parts_and_misses_none(letters: StoredDeadLetters, tail: Tail) -> None:
    event = {"type": "a", "customer_id": "c1", "occurred_at": NOW_MS, "properties": {"a": "x" * 30_000}}
    refused = EventRefused("unknown_type", "type", "a is not declared.", "Declare it.")
    for number in range(700):
        value = msgspec.json.encode({**event, "id": f"e{number}"})
        tail.put(DEAD_LETTERS, number % 3, encode_dead_letter(gateway_letter(refused, b"c1", value, NOW_MS)))
    assert await letters.redrive(None) == 700
    assert len(tail.appended) == 700
    assert tail.bytes_at_once < 12_000_000
    assert await letters.redrive(["0-0", "2-5", "9-9"]) == 2


@pytest.mark.parametrize("path", ["/v1/actions?limit=9", "/v1/actions?limit=9&customer_id=c1"])
async def test_pages_of_actions_are_bounded_and_together_the_whole(
    client: httpx.AsyncClient, tail: Tail, path: str
) -> None:
    for number in range(40):
        tail.put(ACTIONS, 1, action(number, 200_000 if number % 4 == 0 else 10))
        tail.put(ACTIONS, 1, action(number, cancel=True))
    found = await pages(client, path)
    assert [one["id"] for page in found for one in page] == [f"a{number}" for number in reversed(range(40))]
    assert max(len(page) for page in found) == 9


async def test_a_topic_with_little_of_ours_leads_on_page_after_page(client: httpx.AsyncClient, tail: Tail) -> None:
    tail.put(ACTIONS, 0, action(1))
    for number in range(12_000):
        tail.put(ACTIONS, 0, action(number, cancel=True))
    found = await pages(client, "/v1/actions")
    assert [len(page) for page in found] == [0, 0, 1]


@pytest.mark.parametrize("before", ["", "x", "0", "0-", "-1", "0-1.", "0--1", "0-99999999999999999999", "\u0661-1x"])
@pytest.mark.parametrize("path", ["/v1/dead-letters", "/v1/actions"])
async def test_a_place_that_no_page_led_to_is_refused(client: httpx.AsyncClient, path: str, before: str) -> None:
    response = await client.get(path, params={"before": before})
    assert (response.status_code, response.json()["field"]) == (400, "before")
    assert response.json()["remedy"] == "Follow the Link header of the page before, or leave it out for the newest."
