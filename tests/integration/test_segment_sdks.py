"""Segment's own libraries against a running gateway: their events arrive in normal form, once each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from segment.analytics.client import Client

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.core.event import Event
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.server import GatewayServer
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import DEAD_LETTERS, EVENTS
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

WRITE_KEY = "a-write-key"
TIMESTAMP_MS = 1_772_425_800_000  # 2026-03-02T04:30:00Z
NODE_PROJECT = Path(__file__).parent / "segment_node"
#: The libraries date a batch when they send it and the gateway when it arrives: the correction is what lies between.
SKEW_MS_MAX = 60_000


class AnyEvent:
    def check(self, event_type: str, properties: Mapping[str, Any]) -> None:
        return None


class Nothing:
    """The look-ups of a gateway that only takes events."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not part of taking events.")


class RunningGateway:
    """A gateway on a free port over the log in memory."""

    def __init__(self, log: MemoryEventLog, intake: Intake, url: str) -> None:
        self.url = url
        self._log = log
        self._intake = intake

    async def events(self) -> list[Event]:
        """Return what the log has, read as the worker reads it."""
        return [self._intake.from_record(each) for each in await self._log.read_range(EVENTS, 0, 0, 1_000)]

    async def dead_letters(self) -> list[Any]:
        """Return what was refused."""
        return [json.loads(each.value or b"") for each in await self._log.read_range(DEAD_LETTERS, 0, 0, 1_000)]


@pytest.fixture
async def gateway() -> AsyncIterator[RunningGateway]:
    clock, nothing = SystemClock(), Nothing()
    log, intake = MemoryEventLog(clock), Intake(AnyEvent(), "default", Limits())
    backend = Backend(
        log=log,
        customers=nothing,
        journeys=nothing,
        actions=nothing,
        dead_letters=nothing,
        rulebooks=nothing,
        readiness=nothing,
    )
    app = create_app(backend, intake, Settings(write_keys=(WRITE_KEY,)), clock)
    async with GatewayServer(app) as server:
        yield RunningGateway(log, intake, server.url)


def told(event: Event) -> tuple[str, str, dict[str, Any]]:
    return event.type, event.customer_id, event.properties


def assert_all_dated(events: list[Event]) -> None:
    for event in events:
        assert 0 <= event.occurred_at_ms - TIMESTAMP_MS <= SKEW_MS_MAX, event
    assert len({event.id for event in events}) == len(events)


@pytest.mark.parametrize("gzip", [False, True])
async def test_the_python_library_delivers_every_call(gateway: RunningGateway, gzip: bool) -> None:
    errors: list[Any] = []
    at = datetime.fromtimestamp(TIMESTAMP_MS / 1000, UTC)

    def send() -> None:
        client = Client(
            WRITE_KEY, host=gateway.url, gzip=gzip, max_retries=0, on_error=lambda error, _: errors.append(error)
        )
        client.track("py-1", "Lead Submitted", {"budget": 4_500_000}, timestamp=at)
        client.identify("py-1", {"country": "IN"}, timestamp=at, anonymous_id="anon-7")
        client.page("py-1", "Docs", "Pricing", {"path": "/pricing"}, timestamp=at)
        client.screen("py-1", None, "Basket", timestamp=at)
        client.group("py-1", "acme", {"plan": "pro"}, timestamp=at)
        client.alias("anon-7", "py-1", timestamp=at)
        client.shutdown()

    await asyncio.to_thread(send)
    events = await gateway.events()
    assert errors == []
    assert [told(event) for event in events] == [
        ("lead_submitted", "py-1", {"budget": 4_500_000}),
        ("identify", "py-1", {"country": "IN"}),
        ("page", "py-1", {"path": "/pricing", "name": "Pricing", "category": "Docs"}),
        ("screen", "py-1", {"name": "Basket"}),
        ("group", "py-1", {"plan": "pro", "group_id": "acme"}),
        ("alias", "py-1", {"previous_id": "anon-7"}),
    ]
    assert events[1].context["anonymous_id"] == "anon-7"
    assert {event.source for event in events} == {"analytics-python"}
    assert_all_dated(events)


async def test_a_refused_call_of_the_python_library_costs_no_other_call(gateway: RunningGateway) -> None:
    errors: list[Any] = []

    def send() -> None:
        client = Client(WRITE_KEY, host=gateway.url, on_error=lambda error, _: errors.append(error))
        client.track("py-1", "7 days")
        client.track("py-1", "Lead Submitted")
        client.shutdown()

    await asyncio.to_thread(send)
    assert [event.type for event in await gateway.events()] == ["lead_submitted"]
    assert [letter["message"] for letter in await gateway.dead_letters()] == [
        'event "7 days" cannot become an event type.'
    ]
    assert errors == []


async def test_the_python_library_hears_of_a_wrong_write_key(gateway: RunningGateway) -> None:
    errors: list[Any] = []

    def send() -> None:
        client = Client("wrong", host=gateway.url, max_retries=0, on_error=lambda error, _: errors.append(error))
        client.track("py-1", "Lead Submitted")
        client.shutdown()

    await asyncio.to_thread(send)
    assert [error.status for error in errors] == [401]
    assert await gateway.events() == []


async def run(*command: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_node_library_delivers_every_call(gateway: RunningGateway, node_library: Path) -> None:
    script = str(NODE_PROJECT / "send_calls.js")
    output = await run("node", script, gateway.url, WRITE_KEY, str(node_library), cwd=node_library)
    assert output == "sent\n"
    events = await gateway.events()
    assert [told(event) for event in events] == [
        ("lead_submitted", "node-1", {"budget": 4_500_000, "city": "Bengaluru"}),
        ("cart_updated", "node-1", {"cart_id": "k1", "total": 80.5}),
        ("identify", "node-1", {"country": "IN"}),
        ("page", "node-1", {"path": "/pricing", "name": "Pricing"}),
        ("screen", "node-1", {"name": "Basket"}),
        ("group", "node-1", {"plan": "pro", "group_id": "acme"}),
        ("alias", "node-1", {"previous_id": "anon-7"}),
    ]
    assert events[2].context == {"library": ANY, "user_id": "node-1", "anonymous_id": "anon-7"}
    assert_all_dated(events)
