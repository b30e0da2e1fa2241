"""How often something has come by, counted on disk: millions of rows are counted in a few megabytes of memory."""

from __future__ import annotations

import sqlite3
from types import TracebackType


class Occurrences:
    """Counts keys in a temporary database, which is gone when it is closed."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def __enter__(self) -> Occurrences:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def number(self, key: bytes) -> int:
        """Return how often a key has come by, this time included."""
        row = self._connection.execute(
            "INSERT INTO seen VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET number = number + 1 RETURNING number",
            (key,),
        ).fetchone()
        return int(row[0])
