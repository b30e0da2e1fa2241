"""Rulebooks are worked on off the loop and one after the other: events do not wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.adapters.memory_state_store import MemoryStateStore
from orchestrator.core.state import CustomerState, encode_state
from orchestrator.gateway import rulebooks as routes
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.rulebooks import AT_ONCE_MAX, BODY_BYTES_MAX, WORDS_BYTES_MAX, rulebook_router
from orchestrator.roles.embedded import SqliteRulebookTopic
from orchestrator.runtime import plan as planning
from orchestrator.runtime import shelf
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.plan import Planner
from orchestrator.runtime.ports import Commit
from orchestrator.runtime.rulebooks import PublishedRulebooks
from orchestrator.settings import Settings

FILES = {
    "tracking_plan.yaml": "events:\n  lead_submitted: {}\n",
    "lead.yaml": "journey: lead\ntitle: Lead\nstages:\n  new: {on: {event: lead_submitted}}\n",
}
EVENT = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": 1_772_425_800_000}


class Nothing:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not part of this.")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    clock, nothing = SystemClock(), Nothing()
    log: Any = MemoryEventLog(clock)
    rulebooks = await PublishedRulebooks.opened(SqliteRulebookTopic(log), log, "default", tmp_path)
    store = MemoryStateStore()
    epoch = (await store.acquire(0)).epoch
    states = {"c1": encode_state(CustomerState(first_seen_ms=1))}
    await store.commit(
        0, Commit(epoch=epoch, sequence=1, next_offset=1, clock_ms=1, states=states, wakes={}, outbox=())
    )
    backend = Backend(
        log=log,
        customers=nothing,
        journeys=nothing,
        actions=nothing,
        dead_letters=nothing,
        rulebooks=nothing,
        readiness=nothing,
    )
    router = rulebook_router(rulebooks, Planner(rulebooks, store, [0]), clock.now_ms)
    app = create_app(backend, Intake(rulebooks.loaded.plan, "default", Limits()), Settings(), clock, routers=[router])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8080") as connected:
        yield connected


async def test_what_grows_with_rules_customers_or_files_is_done_in_threads(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: dict[str, bool] = {}

    def watch(owner: Any, name: str) -> None:
        whole: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            done[name] = done.get(name, True) and threading.current_thread() is not threading.main_thread()
            return whole(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(routes, "load_rulebook_files")
    watch(routes, "_plan_view")
    watch(planning, "differences")
    watch(planning, "decode_state")
    watch(shelf.Shelf, "edition")
    watch(shelf.Published, "files")
    planned = await client.post("/v1/rulebooks/plan", json={"files": FILES})
    assert (planned.status_code, planned.json()["customers"]) == (200, 1)
    published = await client.post("/v1/rulebooks", json={"files": FILES})
    assert published.status_code == 201
    read_back = await client.get(f"/v1/rulebooks/{published.json()['version']}")
    assert read_back.json()["files"] == FILES
    names = ("load_rulebook_files", "_plan_view", "differences", "decode_state", "edition", "files")
    assert done == dict.fromkeys(names, True)


async def test_events_are_taken_while_a_rulebook_is_planned_and_only_so_many_wait_for_their_turn(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, begun, release, at_once = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), [0, 0]

    def slow(before: Any, after: Any) -> list[Any]:
        at_once[0] += 1
        at_once[1] = max(at_once)
        loop.call_soon_threadsafe(begun.set)
        release.wait(30)
        at_once[0] -= 1
        return []

    monkeypatch.setattr(planning, "differences", slow)
    plans = [asyncio.create_task(client.post("/v1/rulebooks/plan", json={"files": FILES})) for _ in range(AT_ONCE_MAX)]
    await asyncio.wait_for(begun.wait(), 30)
    assert (await client.post("/v1/events", json=EVENT)).status_code == 202
    for path in ("/v1/rulebooks/plan", "/v1/rulebooks"):
        refused = await client.post(path, json={"files": FILES})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["remedy"] == "Send again when another has had its turn."
    release.set()
    assert [one.status_code for one in await asyncio.gather(*plans)] == [200] * AT_ONCE_MAX
    assert at_once[1] == 1
    assert (await client.post("/v1/rulebooks/plan", json={"files": FILES})).status_code == 200


@pytest.mark.parametrize(
    ("path", "bytes_max"), [("/v1/rulebooks/plan", BODY_BYTES_MAX), ("/v1/rulebooks/v1/activate", WORDS_BYTES_MAX)]
)
async def test_a_body_is_refused_while_it_arrives(client: httpx.AsyncClient, path: str, bytes_max: int) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += bytes_max // 4
            yield b" " * (bytes_max // 4)

    refused = await client.post(path, content=endless())
    assert (refused.status_code, refused.json()["detail"]) == (413, f"The body has more than {bytes_max} bytes.")
    assert sent <= 2 * bytes_max
