"""Whether the embedded database takes a write now: found out by writing."""

from __future__ import annotations

import asyncio
import sqlite3
from time import monotonic

from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.errors import StoreUnavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY CHECK (id = 0), body BLOB NOT NULL);"
#: As much as the largest event of the default settings: a disk that takes less takes no events.
PROBE_BYTES = 32_000
#: An answer is good for so long, however often it is asked for.
KEPT_S = 1.0


class SqliteProbe:
    """``Readiness`` of the embedded engine."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._asking = asyncio.Lock()
        self._asked_at = -KEPT_S
        self._found: str | None = None

    async def obstacle(self) -> str | None:
        """Return why the database takes no write, or None; writes at most once in ``KEPT_S``."""
        async with self._asking:
            if monotonic() - self._asked_at >= KEPT_S:
                self._found = await self._written()
                self._asked_at = monotonic()
            return self._found

    async def _written(self) -> str | None:
        try:
            await self._database.run(_write)
        except StoreUnavailable as error:
            return f"Nothing can be written: {error}. Make room on its disk, or mend what is named."
        return None


def _write(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO probe VALUES (0, randomblob(?))", (PROBE_BYTES,))
