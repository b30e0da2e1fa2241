"""A gateway over the event log in memory and a backend of plain lists."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.core.definition import Journey, Stage, StageOn
from orchestrator.core.state import CustomerState
from orchestrator.errors import EventRefused, LogUnavailable, StoreUnavailable
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.customer_path import CustomerId
from orchestrator.gateway.in_flight import InFlight
from orchestrator.gateway.page import Page
from orchestrator.gateway.views import ActionView, DeadLetterView, RulebookVersion
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import Outgoing
from orchestrator.settings import Settings

NOW_MS = 1_772_425_805_000


class StandingClock:
    def now_ms(self) -> int:
        return NOW_MS

    async def sleep(self, seconds: float) -> None:
        pass


class AnyEvent:
    def __init__(self, looked_at: list[str]) -> None:
        self._looked_at = looked_at

    def check(self, event_type: str, properties: Mapping[str, Any]) -> EventRefused | None:
        self._looked_at.append(event_type)
        return None


class Log(MemoryEventLog):
    """The log in memory, with a switch for its being out of reach."""

    available = True

    async def append(self, records: Sequence[Outgoing]) -> None:
        if not self.available:
            raise LogUnavailable("Kafka does not answer.")
        await super().append(records)

    async def values(self, topic: str) -> list[Any]:
        records = await self.read_range(topic, 0, 0, 10_000)
        return [json.loads(record.value or b"") for record in records]


class Known:
    """All look-ups of the backend, over what a test puts here."""

    def __init__(self) -> None:
        self.states: dict[str, CustomerState] = {}
        self.settled: list[ActionView] = []
        self.letters: list[DeadLetterView] = []
        self.published: list[RulebookVersion] = []
        self.in_the_way: str | None = None
        self.redriven: list[Sequence[str] | None] = []
        self.store_available = True

    async def state(self, customer_id: str) -> CustomerState | None:
        if not self.store_available:
            raise StoreUnavailable("Redis does not answer.")
        return self.states.get(customer_id)

    async def active(self) -> Sequence[Journey]:
        stage = Stage(name="browsing", index=0, on=StageOn(event="product_viewed"))
        return [Journey(id="purchase", title="From basket to order", stages=(stage,))]

    async def versions(self) -> Sequence[RulebookVersion]:
        return self.published

    async def obstacle(self) -> str | None:
        return self.in_the_way


class KnownActions:
    def __init__(self, known: Known) -> None:
        self._known = known

    async def recent(self, limit: int, customer_id: str | None, before: str | None = None) -> Page[ActionView]:
        return Page([each for each in self._known.settled if customer_id in {None, each.customer_id}][:limit])


class KnownDeadLetters:
    def __init__(self, known: Known) -> None:
        self._known = known

    async def recent(self, limit: int, before: str | None = None) -> Page[DeadLetterView]:
        return Page(self._known.letters[:limit])

    async def redrive(self, ids: Sequence[str] | None) -> int:
        self._known.redriven.append(ids)
        return len(self._known.letters if ids is None else ids)


@pytest.fixture
def log() -> Log:
    return Log(StandingClock())


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def settings() -> Settings:
    return Settings(body_bytes_max=20_000)


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(requests_max=4, bytes_max=40_000)


@pytest.fixture
def limits() -> Limits:
    return Limits(event_bytes_max=4_000)


@pytest.fixture
def looked_at() -> list[str]:
    """The types of the events that were looked at."""
    return []


@pytest.fixture
def app(
    log: Log, known: Known, settings: Settings, in_flight: InFlight, limits: Limits, looked_at: list[str]
) -> FastAPI:
    backend = Backend(
        log=log,
        customers=known,
        journeys=known,
        actions=KnownActions(known),
        dead_letters=KnownDeadLetters(known),
        rulebooks=known,
        readiness=known,
    )
    intake = Intake(AnyEvent(looked_at), "default", limits, settings.neighbours)
    return create_app(backend, intake, settings, StandingClock(), in_flight=in_flight, routers=[echo()])


def echo() -> APIRouter:
    """Return a route of a customer's past, such as the roles add them."""
    router = APIRouter(prefix="/v1/customers/{customer_id}")

    @router.get("/timeline", include_in_schema=False)
    async def timeline(customer_id: CustomerId) -> str:
        return customer_id

    return router


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as connected:
        yield connected
