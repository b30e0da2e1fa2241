"""The state store of the embedded engine: customer states, wake index, outbox and offset of record in one file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from orchestrator.adapters.ownership import check_epoch, follows
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.runtime.ports import Commit, OutboxEntry, Outgoing, Ownership, Wake

#: Text compares as UTF-8 bytes in SQLite, which is the order of code points: customers sort as they do in Python.
SCHEMA = """
CREATE TABLE IF NOT EXISTS state_partition (
    partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, next_offset INTEGER,
    sequence INTEGER NOT NULL, clock_ms INTEGER NOT NULL, log_id TEXT NOT NULL, outbox_end INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS state (
    partition INTEGER NOT NULL, customer_id TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (partition, customer_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state_wake (
    partition INTEGER NOT NULL, customer_id TEXT NOT NULL, due_ms INTEGER NOT NULL,
    PRIMARY KEY (partition, customer_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS state_wake_due ON state_wake (partition, due_ms, customer_id);
CREATE TABLE IF NOT EXISTS state_outbox (
    partition INTEGER NOT NULL, number INTEGER NOT NULL,
    topic TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (partition, number)
) WITHOUT ROWID;
"""

#: Customers that a scan yields at once.
_SCAN_MAX = 500

#: Customers asked for in one statement; SQLite takes 32,766 parameters.
_LOAD_MAX = 10_000


class _Head(NamedTuple):
    epoch: int = 0
    next_offset: int | None = None
    sequence: int = 0
    clock_ms: int = 0
    log_id: str = ""
    outbox_end: int = 0


class SqliteStateStore:
    """``StateStore`` over one database file, which belongs to one workspace.

    Every write is one transaction and on disk when the call returns. Raises ``StoreUnavailable`` when the file
    cannot be read or written; every call may then be repeated.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        """The database is opened and closed by its owner, with ``SCHEMA`` in its schema."""
        self._database = database

    async def acquire(self, partition: int) -> Ownership:
        """Take the partition under a new epoch, one above every epoch given before."""

        def take(connection: sqlite3.Connection) -> Ownership:
            head = _head(connection, partition)
            head = head._replace(epoch=head.epoch + 1)
            _save_head(connection, partition, head)
            return Ownership(head.epoch, head.next_offset, head.sequence, head.clock_ms, head.log_id, head.outbox_end)

        return await self._database.run(take)

    async def load(self, partition: int, customer_ids: Sequence[str]) -> list[bytes | None]:
        """Return the stored states in the order asked, None for customers never seen or deleted."""

        def select(connection: sqlite3.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for start in range(0, len(customer_ids), _LOAD_MAX):
                asked = customer_ids[start : start + _LOAD_MAX]
                marks = ",".join("?" * len(asked))
                found.update(
                    connection.execute(
                        f"SELECT customer_id, body FROM state WHERE partition = ? AND customer_id IN ({marks})",
                        (partition, *asked),
                    ).fetchall()
                )
            return found

        states = await self._database.read(select)
        return [states.get(customer_id) for customer_id in customer_ids]

    async def scan(self, partition: int) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Yield customers by id; each page is a reading of its own, so that none holds the file for long."""
        after = ""
        while page := await self._database.read(lambda connection, after=after: _page(connection, partition, after)):  # type: ignore[misc]
            yield page
            after = page[-1][0]

    async def due(self, partition: int, until_ms: int, limit: int) -> list[Wake]:
        """Return at most ``limit`` wakes with ``due_ms <= until_ms``, ordered by (due_ms, customer_id)."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT due_ms, customer_id FROM state_wake WHERE partition = ? AND due_ms <= ?"
                " ORDER BY due_ms, customer_id LIMIT ?",
                (partition, until_ms, limit),
            ).fetchall()
        )
        return [Wake(due_ms, customer_id) for due_ms, customer_id in rows]

    async def next_wake_ms(self, partition: int) -> int | None:
        """Return the earliest wake of the partition, or None."""
        earliest: tuple[int | None] = await self._database.read(
            lambda connection: connection.execute(
                "SELECT min(due_ms) FROM state_wake WHERE partition = ?", (partition,)
            ).fetchone()
        )
        return earliest[0]

    async def commit(self, partition: int, commit: Commit) -> None:
        """Write everything or nothing; a commit that was applied before changes nothing.

        Raises ``Fenced`` under any epoch but the latest, and when commits between are missing from the store.
        """
        await self._database.run(lambda connection: _apply(connection, partition, commit))

    async def outbox(self, partition: int) -> list[OutboxEntry]:
        """Return what has not been trimmed, in order; numbers start at 1."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT number, topic, key, value FROM state_outbox WHERE partition = ? ORDER BY number", (partition,)
            ).fetchall()
        )
        return [OutboxEntry(number, Outgoing(topic, key, value)) for number, topic, key, value in rows]

    async def trim(self, partition: int, epoch: int, through: int) -> None:
        """Forget outbox entries up to number ``through``. Raise ``Fenced`` under any epoch but the latest."""

        def delete(connection: sqlite3.Connection) -> None:
            check_epoch(partition, epoch, _head(connection, partition).epoch)
            connection.execute("DELETE FROM state_outbox WHERE partition = ? AND number <= ?", (partition, through))

        await self._database.run(delete)


def _page(connection: sqlite3.Connection, partition: int, after: str) -> list[tuple[str, bytes]]:
    return connection.execute(
        "SELECT customer_id, body FROM state WHERE partition = ? AND customer_id > ? ORDER BY customer_id LIMIT ?",
        (partition, after, _SCAN_MAX),
    ).fetchall()


def _head(connection: sqlite3.Connection, partition: int) -> _Head:
    row = connection.execute(
        "SELECT epoch, next_offset, sequence, clock_ms, log_id, outbox_end FROM state_partition WHERE partition = ?",
        (partition,),
    ).fetchone()
    return _Head(*row) if row else _Head()


def _save_head(connection: sqlite3.Connection, partition: int, head: _Head) -> None:
    connection.execute("INSERT OR REPLACE INTO state_partition VALUES (?, ?, ?, ?, ?, ?, ?)", (partition, *head))


def _apply(connection: sqlite3.Connection, partition: int, commit: Commit) -> None:
    head = _head(connection, partition)
    check_epoch(partition, commit.epoch, head.epoch)
    if not follows(partition, commit.sequence, head.sequence):
        return
    _write_states(connection, partition, commit)
    _write_wakes(connection, partition, commit)
    connection.executemany(
        "INSERT INTO state_outbox VALUES (?, ?, ?, ?, ?)",
        (
            (partition, number, record.topic, record.key, record.value)
            for number, record in enumerate(commit.outbox, start=head.outbox_end + 1)
        ),
    )
    outbox_end = head.outbox_end + len(commit.outbox)
    _save_head(
        connection,
        partition,
        _Head(head.epoch, commit.next_offset, commit.sequence, commit.clock_ms, commit.log_id, outbox_end),
    )


def _write_states(connection: sqlite3.Connection, partition: int, commit: Commit) -> None:
    kept = ((partition, customer_id, body) for customer_id, body in commit.states.items() if body is not None)
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", kept)
    _delete(connection, "state", partition, (key for key, body in commit.states.items() if body is None))


def _write_wakes(connection: sqlite3.Connection, partition: int, commit: Commit) -> None:
    # A wake that has not moved is left alone: writing it again would touch the table and its index for nothing.
    kept = ((partition, customer_id, due_ms) for customer_id, due_ms in commit.wakes.items() if due_ms is not None)
    connection.executemany(
        "INSERT INTO state_wake VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET due_ms = excluded.due_ms WHERE due_ms <> excluded.due_ms",
        kept,
    )
    _delete(connection, "state_wake", partition, (key for key, due_ms in commit.wakes.items() if due_ms is None))


def _delete(connection: sqlite3.Connection, table: str, partition: int, customer_ids: Iterator[str]) -> None:
    connection.executemany(
        f"DELETE FROM {table} WHERE partition = ? AND customer_id = ?",
        ((partition, customer_id) for customer_id in customer_ids),
    )
