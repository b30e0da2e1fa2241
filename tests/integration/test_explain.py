"""Why, or why not, over what the engine has really kept: the SQLite log, or Redis behind a projector."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from load_tests.traffic import zone_with_hour
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.adapters.memory_contact_book import MemoryContactBook
from orchestrator.adapters.redis_timeline import RedisTimeline
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.reason import Outcome, Reason
from orchestrator.roles.embedded import app_of, embedded
from orchestrator.roles.past import keep_timeline
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import DECISIONS, EVENTS, Outgoing
from orchestrator.runtime.timeline import ENTRIES_MAX, History, history_of
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

now_ms = SystemClock().now_ms
RULES = Path(__file__).parents[2] / "rules"


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def beside(work: Any) -> AsyncIterator[None]:
    """Run ``work`` while the block runs; what ends it early fails the test."""
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_embedded_engine_tells_why_a_lead_was_called_and_a_basket_not_yet(tmp_path: Path) -> None:
    settings = Settings(rules=RULES, data=tmp_path)
    async with embedded(settings, "http://127.0.0.1:1") as engine, beside(engine.run()):
        transport = httpx.ASGITransport(app=app_of(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            lead = {"lead_id": "L1", "phone": "+919812345678", "timezone": zone_with_hour(12, now_ms())}
            for number, (event_type, properties) in enumerate(
                [
                    ("consent_changed", {"callback": True, "marketing": True}),
                    ("lead_submitted", lead),
                    ("cart_updated", {"cart_id": "k1", "total": 5}),
                ]
            ):
                event = {
                    "id": f"e{number}",
                    "type": event_type,
                    "customer_id": "c1",
                    "occurred_at": now_ms(),
                    "properties": properties,
                }
                assert (await client.post("/v1/events", json=event)).status_code == 202

            async def explained() -> dict[str, Any]:
                answer = await client.get("/v1/customers/c1/explain")
                return {one["rule"]: one for one in answer.json().get("explanations", ())}

            async def decided() -> bool:
                found = await explained()
                recorded = bool(found) and [line["recorded"] for line in found["lead-callback"]["ledger"]] == [True]
                return recorded and found["cart-recovery"]["standing"] == "armed"

            await until(decided)
            found = await explained()
            assert found["lead-callback"]["standing"] == "fired"
            assert "event.total >= 40 is false (it is 5)" in found["cart-recovery"]["sentence"]
            timeline = (await client.get("/v1/customers/c1/timeline")).json()
            assert {"lead_submitted", "cart_updated"} <= {
                entry["event"]["type"] for entry in timeline["entries"] if entry["event"]
            }
            assert any(entry["decision"] for entry in timeline["entries"])
            export = (await client.get("/v1/customers/c1/export")).json()
            assert [action["rule"] for action in export["actions"]] == ["lead-callback"]
            assert (await client.get("/v1/customers/c2/explain")).status_code == 404


class AnyEvent:
    def check(self, event_type: str, properties: Any) -> None:
        return None


async def test_the_projector_keeps_what_kafka_carries_once_however_often_it_is_read(
    kafka_bootstrap: str, redis_url: str, fresh_topics: Any
) -> None:
    partitions = 4
    await fresh_topics(partitions)
    intake = Intake(AnyEvent(), "default", Limits())
    settings = Settings(kafka_bootstrap=kafka_bootstrap, redis_url=redis_url, partitions=partitions)
    client = Redis.from_url(redis_url)
    timeline = RedisTimeline(client, f"t-{uuid.uuid4().hex[:12]}", partial(partition_of, partitions=partitions))
    log = KafkaEventLog(kafka_bootstrap)
    await log.start()
    customers = [f"c{number}" for number in range(20)]
    per_customer = 15
    events = [_event(intake, customer, number) for number in range(per_customer) for customer in customers]
    await log.append([*events, *(_decision(intake, customer) for customer in customers)])

    async def kept() -> list[History]:
        return [await history_of(timeline, intake, customer) for customer in customers]

    async def complete() -> bool:
        return all(len(one.events) == per_customer and len(one.decisions) == 1 for one in await kept())

    async with beside(keep_timeline(settings, timeline, MemoryContactBook())):
        await until(complete)
    before = await kept()
    for one in before:
        assert [event.properties["number"] for event in one.events] == list(range(per_customer))
        assert not one.bounded
    # A projector that is started again reads on from what its group has acknowledged, or a little before.
    await log.append([_event(intake, "c0", number) for number in range(per_customer, per_customer + ENTRIES_MAX)])

    async def bounded() -> bool:
        return (await history_of(timeline, intake, "c0")).bounded

    async with beside(keep_timeline(settings, timeline, MemoryContactBook())):
        await until(bounded)
    newest = await history_of(timeline, intake, "c0")
    assert [event.properties["number"] for event in newest.events] == list(
        range(per_customer, per_customer + ENTRIES_MAX)
    )
    assert (await kept())[1:] == before[1:]
    await log.close()
    await client.aclose()


def _event(intake: Intake, customer_id: str, number: int) -> Outgoing:
    event = {
        "id": f"{customer_id}-{number}",
        "type": "product_viewed",
        "customer_id": customer_id,
        "occurred_at": now_ms(),
        "properties": {"number": number},
    }
    return Outgoing(EVENTS, intake.key(customer_id), msgspec.json.encode(event))


def _decision(intake: Intake, customer_id: str) -> Outgoing:
    record = DecisionRecord(
        customer_id=customer_id, at=now_ms(), rule="r", outcome=Outcome.BLOCKED, reason=Reason.COOLDOWN
    )
    return Outgoing(DECISIONS, intake.key(customer_id), msgspec.json.encode(record))
