"""What is particular to the embedded state store: one transaction for states, wakes, outbox and position."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.adapters import sqlite_state_store
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_state_store import SqliteStateStore
from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.ports import ACTIONS, Commit, Outgoing, Ownership

COMMIT = Commit(
    epoch=1,
    sequence=1,
    next_offset=10,
    clock_ms=1_000,
    states={"c1": b"one", "c2": b"two"},
    wakes={"c1": 5},
    outbox=[Outgoing(ACTIONS, b"k", b"a1"), Outgoing(ACTIONS, b"k", b"a2")],
)


@pytest.mark.parametrize("table", ["state", "state_wake", "state_outbox", "state_partition"])
async def test_a_disk_that_fills_at_any_table_leaves_nothing_behind(tmp_path: Path, table: str) -> None:
    database = SqliteDatabase(tmp_path / "journey.db", sqlite_state_store.SCHEMA)
    await database.open()
    store = SqliteStateStore(database)
    await store.acquire(0)
    # The trigger swells until no page is left, so SQLite itself fails in the middle of the transaction.
    await database.run(
        lambda connection: connection.execute(
            f"CREATE TEMP TRIGGER swell AFTER INSERT ON main.{table} BEGIN"
            " INSERT INTO state VALUES (99, 'swell', zeroblob(1000000)); END"
        ).fetchone()
    )
    await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchone())

    with pytest.raises(StoreUnavailable) as failure:
        await store.commit(0, COMMIT)

    assert str(failure.value) == f"{database.path}: database or disk is full"
    assert await store.load(0, ["c1", "c2"]) == [None, None]
    assert await store.load(99, ["swell"]) == [None]
    assert await store.due(0, 100, 10) == []
    assert await store.outbox(0) == []

    await store.commit(0, COMMIT)
    assert await store.load(0, ["c1", "c2"]) == [b"one", b"two"]
    assert await store.acquire(0) == Ownership(
        epoch=2, next_offset=10, sequence=1, clock_ms=1_000, log_id="", outbox_end=2
    )
    await database.close()
