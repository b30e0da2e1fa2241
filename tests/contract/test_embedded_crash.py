"""The embedded store and log under kill -9: what was acknowledged is there, and nothing is there by halves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from orchestrator.adapters import sqlite_log, sqlite_state_store
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.adapters.sqlite_state_store import SqliteStateStore
from orchestrator.runtime.ports import EVENTS

CUSTOMERS = 200
DEADLINE_S = 30

#: Both writers print a number once it is acknowledged, and go on until they are killed.
OPENING = """
import asyncio, sys
from pathlib import Path
from orchestrator.adapters import sqlite_log, sqlite_state_store
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.adapters.sqlite_state_store import SqliteStateStore
from orchestrator.runtime.ports import ACTIONS, EVENTS, Commit, Outgoing

async def main():
    database = SqliteDatabase(Path(sys.argv[1]), sqlite_log.SCHEMA + sqlite_state_store.SCHEMA)
    await database.open()
    await write(database)
"""

STATE_WRITER = f"""
{OPENING}
async def write(database):
    store = SqliteStateStore(database)
    owned = await store.acquire(0)
    n = owned.sequence
    while True:
        n += 1
        body = str(n).encode() * 50
        await store.commit(0, Commit(
            epoch=owned.epoch, sequence=n, next_offset=n, clock_ms=n, log_id="log",
            states={{f"c{{i}}": body for i in range({CUSTOMERS})}},
            wakes={{f"c{{i}}": n for i in range({CUSTOMERS})}},
            outbox=[Outgoing(ACTIONS, b"k", body)]))
        print(n, flush=True)

asyncio.run(main())
"""

LOG_WRITER = f"""
{OPENING}
async def write(database):
    log = SqliteEventLog(database, SystemClock())
    n = await log.end_offset(EVENTS, 0)
    while True:
        await log.append([Outgoing(EVENTS, b"k", str(n + i).encode()) for i in range(10)])
        n += 10
        print(n, flush=True)

asyncio.run(main())
"""


async def acknowledged_before_kill(root: Path, script: str, path: Path, lines: int) -> int:
    """Run a writer, kill -9 it once it has printed so many lines, and return the last number it printed."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(path), cwd=root, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    acknowledged = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while len(acknowledged) < lines:
                line = await writer.stdout.readline()
                assert line, "the writer ended by itself"
                acknowledged.append(int(line))
    finally:
        writer.kill()
        rest = await writer.stdout.read()
        await writer.wait()
    # A line that the kill cut short is not a number that was printed.
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    return acknowledged[-1]


async def test_a_killed_commit_is_there_whole_or_not_at_all(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path = tmp_path / "journey.db"
    for epoch, lines in ((1, 3), (2, 20), (3, 7)):
        acknowledged = await acknowledged_before_kill(pytestconfig.rootpath, STATE_WRITER, path, lines)

        database = SqliteDatabase(path, sqlite_log.SCHEMA + sqlite_state_store.SCHEMA)
        await database.open()
        store = SqliteStateStore(database)
        bodies = await store.load(0, [f"c{i}" for i in range(CUSTOMERS)])
        wakes = await store.due(0, 2**53, 1_000)
        outbox = await store.outbox(0)
        await database.close()

        last = outbox[-1].number
        assert last in {acknowledged, acknowledged + 1}, f"owner {epoch}: the last commit may lack its acknowledgement"
        assert bodies == [str(last).encode() * 50] * CUSTOMERS
        assert {wake.due_ms for wake in wakes} == {last}
        assert [entry.number for entry in outbox] == list(range(1, last + 1))
        assert [entry.record.value for entry in outbox] == [str(n).encode() * 50 for n in range(1, last + 1)]


async def test_a_killed_append_is_there_whole_or_not_at_all(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path = tmp_path / "journey.db"
    for lines in (5, 40, 9):
        acknowledged = await acknowledged_before_kill(pytestconfig.rootpath, LOG_WRITER, path, lines)

        database = SqliteDatabase(path, sqlite_log.SCHEMA + sqlite_state_store.SCHEMA)
        await database.open()
        records = await SqliteEventLog(database, SystemClock()).read_range(EVENTS, 0, 0, 1_000_000)
        await database.close()

        assert len(records) in {acknowledged, acknowledged + 10}
        assert [record.offset for record in records] == list(range(len(records)))
        assert [record.value for record in records] == [str(n).encode() for n in range(len(records))]
        stamps = [record.stamp_ms for record in records]
        assert stamps == sorted(stamps)
