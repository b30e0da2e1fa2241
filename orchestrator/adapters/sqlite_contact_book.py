"""The contact book of the embedded engine: two tables beside the log."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence

from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.runtime.contacts import KEY_BYTES, Contact, hashed

SCHEMA = """
CREATE TABLE IF NOT EXISTS contact (
    place BLOB PRIMARY KEY, customer_id TEXT NOT NULL, at_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS contact_of ON contact (customer_id);
CREATE INDEX IF NOT EXISTS contact_until ON contact (until_ms);
CREATE TABLE IF NOT EXISTS contact_key (id INTEGER PRIMARY KEY CHECK (id = 0), key BLOB NOT NULL);
"""


class SqliteContactBook:
    """``ContactBook`` over a database that is opened and closed by its owner, with this schema in its own."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._key = b""

    async def remember(self, contacts: Sequence[Contact]) -> None:
        """Keep contacts; the newer counts. Those whose time is over are forgotten."""
        if not contacts:
            return
        key = await self._known_key()
        rows = [(hashed(key, one.connector, one.address), one.customer_id, one.at_ms, one.until_ms) for one in contacts]
        now_ms = max(one.at_ms for one in contacts)

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO contact VALUES (?, ?, ?, ?) ON CONFLICT (place) DO UPDATE"
                " SET customer_id = excluded.customer_id, at_ms = excluded.at_ms, until_ms = excluded.until_ms"
                " WHERE at_ms <= excluded.at_ms",
                rows,
            )
            connection.execute("DELETE FROM contact WHERE until_ms < ?", (now_ms,))

        await self._database.run(work)

    async def find(self, connector: str, address: str) -> Contact | None:
        """Return the newest contact there, or None."""
        place = hashed(await self._known_key(), connector, address)
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT customer_id, at_ms FROM contact WHERE place = ?", (place,)
            ).fetchone()
        )
        return None if row is None else Contact(connector=connector, address=address, customer_id=row[0], at_ms=row[1])

    async def forget(self, customer_id: str) -> None:
        """Forget every contact of a customer."""
        await self._database.run(lambda connection: remove(connection, customer_id))

    async def _known_key(self) -> bytes:
        """Return the key of the file, made on first use."""
        if not self._key:
            self._key = await self._database.run(_key_of)
        return self._key


def remove(connection: sqlite3.Connection, customer_id: str) -> None:
    """Remove every contact of a customer, within a transaction."""
    connection.execute("DELETE FROM contact WHERE customer_id = ?", (customer_id,))


def _key_of(connection: sqlite3.Connection) -> bytes:
    made = secrets.token_bytes(KEY_BYTES)
    connection.execute("INSERT OR IGNORE INTO contact_key VALUES (0, ?)", (made,))
    (key,) = connection.execute("SELECT key FROM contact_key").fetchone()
    return bytes(key)
