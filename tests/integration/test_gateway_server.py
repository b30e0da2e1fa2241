"""The gateway on a real socket over the durable log of the embedded engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.adapters import sqlite_log
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.server import GatewayServer
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import EVENTS, EventLog, Outgoing
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

CLOCK = SystemClock()
EVENT = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": 1_772_425_800_000}


class AnyEvent:
    def check(self, event_type: str, properties: Mapping[str, Any]) -> None:
        return None


class Nothing:
    """The look-ups of a gateway that only takes events."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not part of taking events.")


def gateway(log: EventLog) -> GatewayServer:
    nothing = Nothing()
    backend = Backend(
        log=log,
        customers=nothing,
        journeys=nothing,
        actions=nothing,
        dead_letters=nothing,
        rulebooks=nothing,
        readiness=nothing,
    )
    return GatewayServer(create_app(backend, Intake(AnyEvent(), "default", Limits()), Settings(), CLOCK))


@contextlib.asynccontextmanager
async def durable_log(folder: Path) -> AsyncIterator[SqliteEventLog]:
    database = SqliteDatabase(folder / "log.db", sqlite_log.SCHEMA)
    await database.open()
    try:
        yield SqliteEventLog(database, CLOCK)
    finally:
        await database.close()


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with durable_log(tmp_path) as log, gateway(log) as server, httpx.AsyncClient(base_url=server.url) as client:
        answers = await asyncio.gather(*(client.post("/v1/events", json={**EVENT, "id": f"e{n}"}) for n in range(50)))
    acknowledged = {event_id for answer in answers for event_id in answer.json()["ids"]}
    async with durable_log(tmp_path) as log:
        kept = [json.loads(record.value or b"")["id"] for record in await log.read_range(EVENTS, 0, 0, 1_000)]
    assert len(acknowledged) == 50
    assert sorted(kept) == sorted(acknowledged)


async def test_an_upload_without_end_is_cut_off(tmp_path: Path) -> None:
    async with durable_log(tmp_path) as log, gateway(log) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        assert answer.startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_stopping_answers_the_requests_that_were_begun(tmp_path: Path) -> None:
    async with durable_log(tmp_path) as log:
        begun, release = asyncio.Event(), asyncio.Event()

        class SlowLog:
            async def append(self, records: Sequence[Outgoing]) -> None:
                begun.set()
                await release.wait()
                await log.append(records)

        async with httpx.AsyncClient(timeout=30) as client:
            async with gateway(SlowLog()) as server:
                answer = asyncio.create_task(client.post(f"{server.url}/v1/events", json=EVENT))
                await asyncio.wait_for(begun.wait(), 10)
                stopped = asyncio.create_task(release_once_refused(server, release))
            assert (await answer).status_code == 202
            await stopped


async def release_once_refused(server: GatewayServer, release: asyncio.Event) -> None:
    """Let the log go on as soon as the server takes no more connections."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):  # Refused; or reset, when it closes while we are being accepted.
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.close()
                await asyncio.sleep(0.01)
    release.set()


async def test_an_address_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    async with durable_log(tmp_path) as log, gateway(log) as server:
        taken = GatewayServer(FastAPI(), port=server.port)
        with pytest.raises(ConfigurationError) as refused:
            await taken.__aenter__()
    assert str(refused.value) == (
        f"Cannot serve on 127.0.0.1:{server.port} (Address already in use). "
        "Choose another --port, or stop what uses it."
    )
