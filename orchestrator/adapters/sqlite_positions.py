"""Positions of the embedded engine's readers: how far each has taken a topic into its own keeping."""

from __future__ import annotations

from orchestrator.adapters.sqlite import SqliteDatabase

SCHEMA = """
CREATE TABLE IF NOT EXISTS reader_position (
    reader TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (reader, topic, partition)
) WITHOUT ROWID;
"""


class SqlitePositions:
    """Durable positions, per reader, topic and partition."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def load(self, reader: str, topic: str, partition: int) -> int:
        """Return the offset to read from: 0 for a reader that has never saved one."""
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT next_offset FROM reader_position WHERE reader = ? AND topic = ? AND partition = ?",
                (reader, topic, partition),
            ).fetchone()
        )
        return int(row[0]) if row else 0

    async def save(self, reader: str, topic: str, partition: int, next_offset: int) -> None:
        """Remember that everything below ``next_offset`` is in the reader's keeping; may raise ``StoreUnavailable``."""
        await self._database.run(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO reader_position VALUES (?, ?, ?, ?)", (reader, topic, partition, next_offset)
            )
        )
