"""A dispatch queue in SQLite, for the embedded engine: one row an action, one transaction a call."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import msgspec

from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.runtime.dispatch.queue import LEASE_ENDED, WITHDRAWN
from orchestrator.runtime.ports import LedgerEntry, Put, Queued

LEDGER_TTL_MS = 7 * 86_400_000

#: ``at_ms`` is when the state changed or changes next: the moment of readiness, or the end of the lease.
#: ``rank_deadline`` is the deadline, or a moment beyond all others, so that one index gives the order of claims.
SCHEMA = """
CREATE TABLE IF NOT EXISTS dispatch_queue (
    id TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    state INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    rank_deadline INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    deadline_at INTEGER,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    history TEXT NOT NULL,
    lapses INTEGER NOT NULL DEFAULT 0,
    withdrawn INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS dispatch_queue_by_rank
    ON dispatch_queue (connector, state, priority DESC, rank_deadline, not_before, id);
CREATE INDEX IF NOT EXISTS dispatch_queue_by_moment ON dispatch_queue (connector, state, at_ms);
CREATE INDEX IF NOT EXISTS dispatch_queue_by_deadline ON dispatch_queue (connector, rank_deadline, id);
CREATE TABLE IF NOT EXISTS dispatch_ledger (
    id TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    outcome TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS dispatch_ledger_by_moment ON dispatch_ledger (at_ms DESC, id);
"""

_NEVER = 10**16

_history = msgspec.json.Decoder(tuple[str, ...])

#: Ledger entries past their time that one settlement clears away: more than it adds, so the table stays bounded.
_PRUNED_MAX = 10


class _State(IntEnum):
    WAITING = 0
    READY = 1
    LEASED = 2


_COLUMNS = "id, connector, priority, not_before, deadline_at, body, attempts, history, lapses, withdrawn"
_READY = (
    f"SELECT {_COLUMNS} FROM dispatch_queue WHERE connector = ? AND state = {_State.READY}"
    " ORDER BY priority DESC, rank_deadline, not_before, id LIMIT ?"
)
_OVERDUE = (
    f"SELECT {_COLUMNS} FROM dispatch_queue WHERE connector = ? AND rank_deadline <= ?"
    f" AND (state <> {_State.LEASED} OR at_ms <= ?) ORDER BY rank_deadline, id LIMIT ?"
)
_INSERT = (
    "INSERT INTO dispatch_queue (id, connector, state, at_ms, priority, rank_deadline, not_before, deadline_at,"
    " body, attempts, history) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_LEDGER = "SELECT id, connector, outcome, at_ms, detail FROM dispatch_ledger"


class SqliteDispatchQueue:
    """``DeliveryQueue`` in the tables of ``SCHEMA``. Its database is opened and closed by whoever built it."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled; all of them or, after an error, none."""

        def work(connection: sqlite3.Connection) -> int:
            return sum(_insert(connection, one) for one in actions if _settled(connection, one.id) is None)

        queued = await self._database.run(work)
        return Put(queued=queued, known=len(actions) - queued)

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Settle unclaimed actions as cancelled; mark claimed ones; remember unknown ones."""
        return await self._database.run(
            lambda connection: [one for one in action_ids if _withdraw(connection, one, now_ms)]
        )

    async def claim(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease ready actions by rank."""

        def work(connection: sqlite3.Connection) -> list[Queued]:
            _promote(connection, connector, now_ms)
            return _lease(connection, connection.execute(_READY, (connector, limit)).fetchall(), now_ms + lease_ms)

        return await self._database.run(work)

    async def end_leases(self, now_ms: int) -> int:
        """End every lease and return how many there were: for a process that knows it is the only dispatcher.

        What was being sent when the last one died counts as an attempt with an unknown outcome, as if its lease had
        run out by itself.
        """
        return await self._database.run(
            lambda connection: (
                connection.execute(
                    "UPDATE dispatch_queue SET at_ms = ? WHERE state = ?", (now_ms, _State.LEASED)
                ).rowcount
            )
        )

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease unclaimed actions whose deadline has come, earliest first."""

        def look(connection: sqlite3.Connection) -> bool:
            return bool(connection.execute(_OVERDUE, (connector, now_ms, now_ms, 1)).fetchall())

        def work(connection: sqlite3.Connection) -> list[Queued]:
            _promote(connection, connector, now_ms)
            rows = connection.execute(_OVERDUE, (connector, now_ms, now_ms, limit)).fetchall()
            return _lease(connection, rows, now_ms + lease_ms)

        # Nearly always there is none; a look costs no fsync.
        return await self._database.run(work) if await self._database.read(look) else []

    async def settle(self, entry: LedgerEntry) -> None:
        """Take the action out of the queue and write its ledger entry."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM dispatch_queue WHERE id = ?", (entry.id,))
            _write(connection, entry)

        await self._database.run(work)

    async def retry(self, queued: Queued, at_ms: int) -> None:
        """Give a claimed action back; one that was settled meanwhile stays settled."""
        row = (_State.WAITING, at_ms, at_ms, queued.attempts, _encode(queued.history), queued.id)
        await self._database.run(
            lambda connection: connection.execute(
                "UPDATE dispatch_queue SET state = ?, at_ms = ?, not_before = ?, attempts = ?, history = ?, lapses = 0"
                " WHERE id = ?",
                row,
            )
        )

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue settled actions again, unless they were delivered."""

        def again(connection: sqlite3.Connection, one: Queued) -> bool:
            if _settled(connection, one.id) == "delivered":
                return False
            connection.execute("DELETE FROM dispatch_ledger WHERE id = ?", (one.id,))
            return _insert(connection, one)

        return await self._database.run(lambda connection: [one.id for one in actions if again(connection, one)])

    async def next_ready_ms(self, connector: str) -> int | None:
        """Return the earliest moment at which an action is ready or its lease ends."""

        def look(connection: sqlite3.Connection) -> list[int]:
            # One look-up a state, because the index leads with it.
            query = "SELECT min(at_ms) FROM dispatch_queue WHERE connector = ? AND state = ?"
            return [
                at_ms
                for state in _State
                for (at_ms,) in connection.execute(query, (connector, state))
                if at_ms is not None
            ]

        return min(await self._database.read(look), default=None)

    async def ledger(self, action_ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the settled entries, in the order asked."""

        def look(connection: sqlite3.Connection) -> list[LedgerEntry | None]:
            rows = (connection.execute(f"{_LEDGER} WHERE id = ?", (one,)).fetchone() for one in action_ids)
            return [_entry(row) if row else None for row in rows]

        return await self._database.read(look)

    async def recent(self, limit: int) -> list[LedgerEntry]:
        """Return the latest settled entries, newest first."""
        query = f"{_LEDGER} ORDER BY at_ms DESC, id LIMIT ?"
        return await self._database.read(
            lambda connection: [_entry(row) for row in connection.execute(query, (limit,))]
        )

    async def depth(self, connector: str) -> int:
        """Return how many actions are queued or leased."""
        query = "SELECT count(*) FROM dispatch_queue WHERE connector = ?"
        return await self._database.read(lambda connection: int(connection.execute(query, (connector,)).fetchone()[0]))


# ------------------------------------------------------------------------------------- inside a transaction


def _insert(connection: sqlite3.Connection, queued: Queued) -> bool:
    row = (
        queued.id,
        queued.connector,
        _State.WAITING,
        queued.not_before,
        queued.priority,
        _NEVER if queued.deadline_at is None else queued.deadline_at,
        queued.not_before,
        queued.deadline_at,
        queued.body,
        queued.attempts,
        _encode(queued.history),
    )
    return connection.execute(_INSERT, row).rowcount == 1


def _promote(connection: sqlite3.Connection, connector: str, now_ms: int) -> None:
    connection.execute(
        "UPDATE dispatch_queue SET lapses = lapses + (state = ?), state = ?"
        " WHERE connector = ? AND state IN (?, ?) AND at_ms <= ?",
        (_State.LEASED, _State.READY, connector, _State.WAITING, _State.LEASED, now_ms),
    )


def _lease(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], until_ms: int) -> list[Queued]:
    connection.executemany(
        "UPDATE dispatch_queue SET state = ?, at_ms = ? WHERE id = ?",
        [(_State.LEASED, until_ms, row[0]) for row in rows],
    )
    return [_queued(row) for row in rows]


def _withdraw(connection: sqlite3.Connection, action_id: str, now_ms: int) -> bool:
    row = connection.execute("SELECT connector, state FROM dispatch_queue WHERE id = ?", (action_id,)).fetchone()
    if row is not None and row[1] == _State.LEASED:
        connection.execute("UPDATE dispatch_queue SET withdrawn = 1 WHERE id = ?", (action_id,))
        return False
    if row is None and _settled(connection, action_id) is not None:
        return False
    connection.execute("DELETE FROM dispatch_queue WHERE id = ?", (action_id,))
    connector = "" if row is None else row[0]
    _write(connection, LedgerEntry(id=action_id, connector=connector, outcome="cancelled", at_ms=now_ms))
    return row is not None


def _settled(connection: sqlite3.Connection, action_id: str) -> str | None:
    row = connection.execute("SELECT outcome FROM dispatch_ledger WHERE id = ?", (action_id,)).fetchone()
    return None if row is None else str(row[0])


def _write(connection: sqlite3.Connection, entry: LedgerEntry) -> None:
    connection.execute(
        "INSERT INTO dispatch_ledger (id, connector, outcome, at_ms, detail) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET connector = excluded.connector, outcome = excluded.outcome,"
        " at_ms = excluded.at_ms, detail = excluded.detail WHERE outcome <> 'delivered'",
        (entry.id, entry.connector, entry.outcome, entry.at_ms, _encode(entry.detail)),
    )
    connection.execute(
        "DELETE FROM dispatch_ledger WHERE id IN"
        " (SELECT id FROM dispatch_ledger WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
        (entry.at_ms - LEDGER_TTL_MS, _PRUNED_MAX),
    )


# ------------------------------------------------------------------------------------------- rows to structs


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _queued(row: tuple[Any, ...]) -> Queued:
    action_id, connector, priority, not_before, deadline_at, body, attempts, history, lapses, withdrawn = row
    marks = (LEASE_ENDED,) * lapses + (WITHDRAWN,) * withdrawn
    return Queued(
        id=action_id,
        connector=connector,
        priority=priority,
        not_before=not_before,
        deadline_at=deadline_at,
        body=body,
        attempts=attempts + lapses,
        history=(*_history.decode(history), *marks),
    )


def _entry(row: tuple[str, str, str, int, str]) -> LedgerEntry:
    action_id, connector, outcome, at_ms, detail = row
    return LedgerEntry(
        id=action_id, connector=connector, outcome=outcome, at_ms=at_ms, detail=msgspec.json.decode(detail)
    )
