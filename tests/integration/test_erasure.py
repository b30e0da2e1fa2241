"""Erasure through a whole engine: over HTTP, through log, worker, dispatcher and timeline (scenario 15)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from load_tests.traffic import zone_with_hour
from orchestrator.adapters.clock import SystemClock
from orchestrator.roles.backtest import Options, run_backtest
from orchestrator.roles.embedded import app_of, embedded
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

RULES = Path(__file__).parents[2] / "rules"
PHONE = "+919812345678"
now_ms = SystemClock().now_ms


@contextlib.asynccontextmanager
async def engine(data: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an engine that runs, whose connectors reach nobody."""
    async with embedded(Settings(rules=RULES, data=data), "http://127.0.0.1:1") as running:
        work = asyncio.create_task(running.run())
        transport = httpx.ASGITransport(app=app_of(running))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client
        assert not work.done(), work.exception()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def happens(client: httpx.AsyncClient, name: str, event_type: str, customer: str, **event: Any) -> None:
    body = {"id": name, "type": event_type, "customer_id": customer, "occurred_at": now_ms(), **event}
    assert (await client.post("/v1/events", json=body)).status_code == 202


async def asks(client: httpx.AsyncClient, customer: str) -> None:
    """A lead whose call is due at once."""
    lead = {"lead_id": f"{customer}-L", "phone": PHONE, "timezone": zone_with_hour(12, now_ms())}
    consent = {"consent": {"categoryPreferences": {"callback": True}}}
    await happens(client, f"{customer}-asks", "lead_submitted", customer, properties=lead, context=consent)


async def actions(client: httpx.AsyncClient, customer: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/actions", params={"customer_id": customer})).json()
    return found


def rows(data: Path, key: str) -> list[dict[str, Any]]:
    """Return what the file holds under a customer's key."""
    with contextlib.closing(sqlite3.connect(data / "journey.sqlite3")) as file:
        found = file.execute("SELECT value FROM log WHERE key = ?", (key.encode(),)).fetchall()
    return [json.loads(value) for (value,) in found]


async def test_an_erased_customer_is_gone_everywhere_and_stays_gone(tmp_path: Path) -> None:
    async with engine(tmp_path) as client:
        for customer in ("asha", "ravi"):
            await asks(client, customer)
            await until(lambda who=customer: _any(actions(client, who)))  # type: ignore[misc]
        answer = await client.delete("/v1/customers/asha")
        assert answer.status_code == 202

        async def gone() -> bool:
            return not any(PHONE in json.dumps(row) for row in rows(tmp_path, "asha"))

        await until(gone)
        for path in ("", "/timeline", "/explain", "/export"):
            assert (await client.get(f"/v1/customers/asha{path}")).status_code == 404, path
        assert await actions(client, "asha") == []
        assert len(await actions(client, "ravi")) == 1
        assert (await client.get("/v1/customers/ravi")).status_code == 200

        def queued() -> list[str]:
            with contextlib.closing(sqlite3.connect(tmp_path / "journey.sqlite3")) as file:
                return [json.loads(body)["customer_id"] for (body,) in file.execute("SELECT body FROM dispatch_queue")]

        async def left_the_queue() -> bool:
            return "asha" not in queued()

        await until(left_the_queue)
        assert "ravi" in queued()
        # An event of the past that was on its way all the time.
        await happens(
            client, "late", "identify", "asha", occurred_at=now_ms() - 3_600_000, properties={"country": "US"}
        )
        await happens(client, "mark", "identify", "mark", properties={"country": "IN"})
        await until(lambda: _known(client, "mark"))
        assert (await client.get("/v1/customers/asha")).status_code == 404
    async with engine(tmp_path) as client:
        assert (await client.get("/v1/customers/asha/timeline")).status_code == 404
        await asks(client, "mark")
        await until(lambda: _any(actions(client, "mark")))
        # They come back of their own accord: nothing is left of the consent and the stage they had.
        await happens(client, "again", "identify", "asha", properties={"country": "IN"})
        await until(lambda: _known(client, "asha"))
        state = (await client.get("/v1/customers/asha")).json()
        assert (state["traits"], state["consents"], state["runs"]) == ({"country": "IN"}, {}, [])
        timeline = (await client.get("/v1/customers/asha/timeline")).json()
        assert [entry["event"]["id"] for entry in timeline["entries"]] == ["again"]
        assert (await client.get("/v1/customers/asha/export")).json()["actions"] == []


async def _any(found: Awaitable[list[Any]]) -> bool:
    return bool(await found)


async def _known(client: httpx.AsyncClient, customer: str) -> bool:
    return (await client.get(f"/v1/customers/{customer}")).status_code == 200


async def test_who_signs_in_keeps_what_they_did_before_and_is_forgotten_as_one(tmp_path: Path) -> None:
    async with engine(tmp_path) as client:
        visit = {"anonymousId": "anon", "event": "Cart Updated", "properties": {"cart_id": "k1", "total": 80}}
        assert (await client.post("/v1/track", json={**visit, "messageId": "visit"})).status_code == 200
        await until(lambda: _known(client, "anon"))
        signs_in = {"messageId": "in", "userId": "asha", "anonymousId": "anon", "traits": {"phone": PHONE}}
        assert (await client.post("/v1/identify", json=signs_in)).status_code == 200

        async def runs() -> list[str]:
            answer = await client.get("/v1/customers/asha")
            return [run["journey"] for run in answer.json().get("runs", ())]

        await until(lambda: _any(runs()))
        assert (await client.get("/v1/customers/anon")).json()["merged_into"] == "asha"
        assert {row.get("type") for row in rows(tmp_path, "anon")} >= {"cart_updated", "merge_requested"}
        live = (await client.get("/v1/customers/asha/export")).json()["state"]
        backtest = await run_backtest(Settings(rules=RULES, data=tmp_path), "topic", kafka=False, options=Options())
        assert {*backtest.replayed.states} == {"anon", "asha"}
        assert backtest.replayed.states["asha"].runs.keys() == live["runs"].keys()
        assert (await client.delete("/v1/customers/asha")).status_code == 202

        async def gone() -> bool:
            kept = [row for key in ("anon", "asha") for row in rows(tmp_path, key)]
            return not any("properties" in row and row["type"] != "customer_erased" for row in kept)

        await until(gone)
        for customer in ("anon", "asha"):
            assert (await client.get(f"/v1/customers/{customer}/timeline")).status_code == 404
