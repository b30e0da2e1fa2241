"""A dispatch queue in SQLite, for the embedded engine: one row an action, one transaction a call."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from orchestrator.adapters import sqlite_dispatch_capacity as capacity
from orchestrator.adapters import sqlite_dispatch_claims as claims
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.runtime.dispatch.attempt import is_kept
from orchestrator.runtime.dispatch.queue import REDRIVABLE
from orchestrator.runtime.ports import Claim, LedgerEntry, Noted, Occupancy, Put, Queued, Quota

LEDGER_TTL_MS = 7 * 86_400_000

SCHEMA = (
    claims.SCHEMA
    + capacity.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS dispatch_ledger (
    id TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    outcome TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS dispatch_ledger_by_moment ON dispatch_ledger (at_ms DESC, id);
"""
)

#: Ledger entries past their time that one settlement clears away: more than it adds, so the table stays bounded.
_PRUNED_MAX = 10

_LEDGER = "SELECT id, connector, outcome, at_ms, detail FROM dispatch_ledger"


class SqliteDispatchQueue:
    """``DeliveryQueue`` in the tables of ``SCHEMA``. Its database is opened and closed by whoever built it."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled; all of them or, after an error, none."""

        def work(connection: sqlite3.Connection) -> int:
            return sum(claims.insert(connection, one) for one in actions if _settled(connection, one.id) is None)

        queued = await self._database.run(work)
        return Put(queued=queued, known=len(actions) - queued)

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Settle unclaimed actions as cancelled; mark claimed ones; remember unknown ones."""
        return await self._database.run(
            lambda connection: [one for one in action_ids if _withdraw(connection, one, now_ms)]
        )

    # ---------------------------------------------------------------------------------------------- claims

    async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Claim:
        """Lease ready actions by rank, as far as slots and rate allow."""

        def work(connection: sqlite3.Connection) -> Claim:
            claims.bound_leases(connection, connector, now_ms, lease_ms)
            claims.promote(connection, connector, now_ms)
            capacity.forget_bookings(connection, connector, now_ms)
            return claims.claim(connection, connector, quota, limit, now_ms, now_ms + lease_ms)

        return await self._database.run(work)

    async def end_leases(self, now_ms: int) -> int:
        """End every lease and return how many there were: for a process that knows it is the only dispatcher.

        What was being sent when the last one died counts as an attempt with an unknown outcome, as if its lease had
        run out by itself. Holds stay: a call does not end with the process that began it.
        """
        return await self._database.run(
            lambda connection: (
                connection.execute(
                    "UPDATE dispatch_queue SET at_ms = ? WHERE state = ?", (now_ms, claims.State.LEASED)
                ).rowcount
            )
        )

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease unclaimed actions whose deadline has come, earliest first."""

        def look(connection: sqlite3.Connection) -> bool:
            return bool(connection.execute(claims.OVERDUE, (connector, now_ms, now_ms, 1)).fetchall())

        def work(connection: sqlite3.Connection) -> list[Queued]:
            claims.promote(connection, connector, now_ms)
            rows = connection.execute(claims.OVERDUE, (connector, now_ms, now_ms, limit)).fetchall()
            return claims.lease(connection, rows, now_ms + lease_ms)

        # Nearly always there is none; a look costs no fsync.
        return await self._database.run(work) if await self._database.read(look) else []

    async def settle(self, entry: LedgerEntry, *, hold_until_ms: int | None = None, unspent: bool = False) -> None:
        """Take the action out of the queue and write its ledger entry."""

        def work(connection: sqlite3.Connection) -> None:
            _settle(connection, entry, hold_until_ms, unspent=unspent)

        await self._database.run(work)

    async def retry(self, queued: Queued, at_ms: int, *, unspent: bool = False) -> None:
        """Give a claimed action back; one that was settled meanwhile stays settled."""
        row = (claims.State.WAITING, at_ms, at_ms, queued.group, queued.attempts, _encode(queued.history), queued.id)

        def work(connection: sqlite3.Connection) -> None:
            if unspent:
                _give_back(connection, queued.id)
            connection.execute(
                "UPDATE dispatch_queue SET state = ?, at_ms = ?, not_before = ?, action_group = ?, attempts = ?,"
                " history = ?, lapses = 0, busy = 0, stamp_us = NULL, released = 0 WHERE id = ?",
                row,
            )

        await self._database.run(work)

    async def note(self, queued: Queued) -> Noted:
        """Write attempts and history of a claimed action down, unless it was withdrawn or settled meanwhile."""
        query = "UPDATE dispatch_queue SET attempts = ?, history = ?, lapses = 0 WHERE id = ?"

        def work(connection: sqlite3.Connection) -> Noted:
            found = connection.execute("SELECT withdrawn FROM dispatch_queue WHERE id = ?", (queued.id,)).fetchone()
            if found is None:
                return Noted.GONE
            if found[0]:
                return Noted.WITHDRAWN
            connection.execute(query, (queued.attempts, _encode(queued.history), queued.id))
            return Noted.WRITTEN

        return await self._database.run(work)

    # -------------------------------------------------------------------------------------------- capacity

    async def release(self, action_id: str) -> bool:
        """Free the slot that a settled action holds."""

        def work(connection: sqlite3.Connection) -> bool:
            mark = "UPDATE dispatch_queue SET released = 1 WHERE id = ? AND busy = 1"
            return capacity.end_hold(connection, action_id) or connection.execute(mark, (action_id,)).rowcount == 1

        return await self._database.run(work)

    async def book(
        self, connector: str, group: str, action_id: str, starts: Sequence[int], per_slot: int
    ) -> int | None:
        """Book the first start that is not full."""

        def work(connection: sqlite3.Connection) -> int | None:
            known = capacity.booking(connection, action_id)
            if known is not None:
                return known
            if _settled(connection, action_id) is not None:
                return starts[0] if starts else None
            return capacity.book(connection, connector, group, action_id, starts=starts, per_slot=per_slot)

        return await self._database.run(work)

    async def occupancy(self, connector: str, now_ms: int) -> Occupancy:
        """Return the load per group."""

        def work(connection: sqlite3.Connection) -> Occupancy:
            claims.promote(connection, connector, now_ms)
            return claims.occupancy(connection, connector)

        return await self._database.run(work)

    async def ahead(self, connector: str, group: str, priority: int, now_ms: int) -> int:
        """Count ready actions of the group whose priority is as high or higher."""
        query = (
            "SELECT count(*) FROM dispatch_queue"
            f" WHERE connector = ? AND state = {claims.State.READY} AND action_group = ? AND priority >= ?"
        )

        def work(connection: sqlite3.Connection) -> int:
            claims.promote(connection, connector, now_ms)
            return int(connection.execute(query, (connector, group, priority)).fetchone()[0])

        return await self._database.run(work)

    # ---------------------------------------------------------------------------------------------- ledger

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue actions again that were given up."""

        def again(connection: sqlite3.Connection, one: Queued) -> bool:
            outcome = _settled(connection, one.id)
            if outcome is not None and outcome not in REDRIVABLE:
                return False
            connection.execute("DELETE FROM dispatch_ledger WHERE id = ?", (one.id,))
            return claims.insert(connection, one)

        return await self._database.run(lambda connection: [one.id for one in actions if again(connection, one)])

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


# ------------------------------------------------------------------------------------- inside a transaction


def _give_back(connection: sqlite3.Connection, action_id: str) -> None:
    """Give the token of the rate back that a claimed action took."""
    query = "SELECT connector, stamp_us FROM dispatch_queue WHERE id = ? AND busy = 1 AND stamp_us IS NOT NULL"
    found = connection.execute(query, (action_id,)).fetchone()
    if found is not None:
        capacity.give_back(connection, *found)


def _settle(connection: sqlite3.Connection, entry: LedgerEntry, hold_until_ms: int | None, *, unspent: bool) -> None:
    if unspent:
        _give_back(connection, entry.id)
    if hold_until_ms is not None:
        connection.execute(
            "INSERT OR REPLACE INTO dispatch_holds (id, connector, action_group, until_ms)"
            " SELECT id, connector, action_group, ? FROM dispatch_queue WHERE id = ? AND busy = 1 AND released = 0",
            (hold_until_ms, entry.id),
        )
    connection.execute("DELETE FROM dispatch_queue WHERE id = ?", (entry.id,))
    capacity.free_booking(connection, entry.id)
    _write(connection, entry)


def _withdraw(connection: sqlite3.Connection, action_id: str, now_ms: int) -> bool:
    row = connection.execute(
        "SELECT connector, state, history, lapses FROM dispatch_queue WHERE id = ?", (action_id,)
    ).fetchone()
    if row is not None and (row[1] == claims.State.LEASED or row[3] or is_kept(msgspec.json.decode(row[2]))):
        connection.execute("UPDATE dispatch_queue SET withdrawn = 1 WHERE id = ?", (action_id,))
        return False
    if row is None and _settled(connection, action_id) is not None:
        capacity.free_booking(connection, action_id)
        return False
    connection.execute("DELETE FROM dispatch_queue WHERE id = ?", (action_id,))
    capacity.free_booking(connection, action_id)
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


def _entry(row: tuple[str, str, str, int, str]) -> LedgerEntry:
    action_id, connector, outcome, at_ms, detail = row
    return LedgerEntry(
        id=action_id, connector=connector, outcome=outcome, at_ms=at_ms, detail=msgspec.json.decode(detail)
    )
