"""What is particular to the embedded log: its file, its number of partitions, its errors."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.adapters import sqlite_log
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.errors import LogUnavailable, PositionLost
from orchestrator.runtime.ports import ACTIONS, EVENTS, Outgoing


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "log.db", sqlite_log.SCHEMA)
    await database.open()
    yield database
    await database.close()


async def test_another_file_is_another_log(database: SqliteDatabase, tmp_path: Path) -> None:
    other = SqliteDatabase(tmp_path / "other.db", sqlite_log.SCHEMA)
    identities = []
    await other.open()
    for each in (database, other):
        identities.append(await SqliteEventLog(each, SystemClock()).log_id(EVENTS))
    await other.close()
    assert identities[0] != identities[1]


@pytest.mark.parametrize("call", ["append", "log_id"])
async def test_another_number_of_partitions_is_refused_with_the_remedy(database: SqliteDatabase, call: str) -> None:
    await SqliteEventLog(database, SystemClock()).append([Outgoing(EVENTS, b"k", b"a")])
    log = SqliteEventLog(database, SystemClock(), 4)
    with pytest.raises(PositionLost) as refusal:
        await (log.log_id(EVENTS) if call == "log_id" else log.append([Outgoing(EVENTS, b"k", b"b")]))
    assert str(refusal.value) == (
        f"Topic journey.events in {database.path} has 1 partition(s), but 4 are asked for; "
        "ask for 1 again, or start with an empty data folder: keys would change their partition."
    )
    assert await SqliteEventLog(database, SystemClock()).end_offset(EVENTS, 0) == 1


async def test_the_file_of_an_earlier_version_goes_on_with_the_columns_it_lacked(tmp_path: Path) -> None:
    earlier = sqlite_log.SCHEMA.replace(" producer TEXT NOT NULL DEFAULT '',", "")
    assert earlier != sqlite_log.SCHEMA
    path = tmp_path / "earlier.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(earlier)
        connection.execute("INSERT INTO log VALUES (?, 0, 0, 5, ?, ?)", (EVENTS, b"k", b"old"))
        connection.execute("INSERT INTO log_head VALUES (?, 0, 0, 1, 5)", (EVENTS,))
    for round_number in range(2):
        database = SqliteDatabase(path, sqlite_log.SCHEMA)
        await database.open()
        log = SqliteEventLog(database, SystemClock())
        await log.append([Outgoing(EVENTS, b"k", b"new", "shop")])
        found = await log.read_range(EVENTS, 0, 0, 10)
        assert [(one.value, one.producer) for one in found] == [(b"old", ""), *[(b"new", "shop")] * (round_number + 1)]
        await database.close()


async def test_a_closed_file_makes_the_log_unavailable(database: SqliteDatabase) -> None:
    await database.close()
    log = SqliteEventLog(database, SystemClock())
    for call in (
        log.append([Outgoing(EVENTS, b"k", b"a")]),
        log.read_range(EVENTS, 0, 0, 1),
        log.end_offset(EVENTS, 0),
    ):
        with pytest.raises(LogUnavailable) as failure:
            await call
        assert str(failure.value) == f"{database.path} is not open."


async def test_an_append_that_finds_the_disk_full_takes_no_record_of_any_topic(database: SqliteDatabase) -> None:
    log = SqliteEventLog(database, SystemClock())
    await log.append([Outgoing(EVENTS, b"k", b"a"), Outgoing(ACTIONS, b"k", b"a")])
    await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 10").fetchone())

    with pytest.raises(LogUnavailable) as failure:
        await log.append([Outgoing(ACTIONS, b"k", b"small"), *[Outgoing(EVENTS, b"k", b"x" * 9_000)] * 20])

    assert str(failure.value) == f"{database.path}: database or disk is full"
    assert [await log.end_offset(topic, 0) for topic in (EVENTS, ACTIONS)] == [1, 1]
    await log.append([Outgoing(EVENTS, b"k", b"b")])
    assert [record.value for record in await log.read_range(EVENTS, 0, 0, 10)] == [b"a", b"b"]
