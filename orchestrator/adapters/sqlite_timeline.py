"""The timeline of the embedded engine: the event log itself, read by key."""

from __future__ import annotations

import sqlite3

from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.runtime.ports import Record
from orchestrator.runtime.timeline import ENTRIES_MAX


class SqliteTimeline:
    """``Timeline`` over the file of a ``SqliteEventLog``; it reaches as far back as the log's retention.

    What ``append`` has acknowledged is in it. Raises ``StoreUnavailable`` when the file cannot be read.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        """The database is opened and closed by its owner, with the log's schema in its own."""
        self._database = database

    async def recent(self, topic: str, key: bytes, limit: int = ENTRIES_MAX) -> list[Record]:
        """Return the newest records of a key, oldest first."""

        def select(connection: sqlite3.Connection) -> list[tuple[int, int, int, bytes, bytes]]:
            return connection.execute(
                "SELECT partition, offset, stamp_ms, key, value FROM log WHERE topic = ? AND key = ?"
                " ORDER BY partition DESC, offset DESC LIMIT ?",
                (topic, key, min(limit, ENTRIES_MAX)),
            ).fetchall()

        return [Record(*row) for row in reversed(await self._database.read(select))]
