"""One SQLite file for the embedded engine: WAL, one writer thread, one transaction per unit of work.

All work runs on a thread of its own, so the event loop never waits for a disk. Units that queue up while
one is being written share its transaction and its fsync (group commit); each has its own savepoint, so a
unit that fails takes nothing else with it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import StoreUnavailable

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], Any]
_Job = tuple[Work, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]

#: Units of work that may share one transaction.
_GROUP_MAX = 256


class SqliteDatabase:
    """A database file and the thread that owns it."""

    def __init__(self, path: Path, schema: str = "") -> None:
        """Prepare to open ``path``; ``schema`` is a script of idempotent ``CREATE ... IF NOT EXISTS``."""
        self.path = path
        self._schema = schema
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Create the file and its tables where missing; return when it can take work."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._serve, name=f"sqlite:{self.path.name}", daemon=True)
        self._thread.start()
        await self.run(lambda connection: connection.execute("SELECT 1").fetchone())

    async def close(self) -> None:
        """Finish what was asked, close the file and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction; return its result once it is durable.

        An exception of ``work`` undoes what it wrote. Raises ``StoreUnavailable`` when SQLite itself fails
        (disk full, locked, I/O error): nothing was written, and the call may be repeated.
        """
        if self._thread is None:
            raise StoreUnavailable(f"{self.path} is not open.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((work, loop, future))
        return await future

    # ----------------------------------------------------------------------------- the writer's thread

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        while (job := self._jobs.get()) is not None:
            group = [job]
            last = self._gather(group)
            try:
                connection = connection or self._connect()
                self._commit(connection, group)
            except sqlite3.Error as error:
                if connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")
                for _, loop, future in group:
                    _resolve(loop, future, None, StoreUnavailable(f"{self.path}: {error}"))
            if last:
                break
        if connection is not None:
            connection.close()

    def _gather(self, group: list[_Job]) -> bool:
        """Add the jobs that are waiting already; return whether the end was asked for."""
        while len(group) < _GROUP_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return False
            if job is None:
                return True
            group.append(job)
        return False

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=5)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(self._schema)
        return connection

    def _commit(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        answers: list[tuple[Any, BaseException | None]] = []
        connection.execute("BEGIN IMMEDIATE")
        for work, _, _ in group:
            connection.execute("SAVEPOINT unit")
            try:
                answers.append((work(connection), None))
            except sqlite3.Error:
                raise
            except Exception as error:  # The unit's own refusal: it is undone and told to its caller only.
                connection.execute("ROLLBACK TO unit")
                answers.append((None, error))
            connection.execute("RELEASE unit")
        connection.execute("COMMIT")
        for (_, loop, future), (result, failure) in zip(group, answers, strict=True):
            _resolve(loop, future, result, failure)


def _resolve(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: object, failure: BaseException | None
) -> None:
    """Hand an answer to the caller's loop, unless the caller or its loop has gone."""

    def answer() -> None:
        if future.cancelled():
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)

    if not loop.is_closed():
        loop.call_soon_threadsafe(answer)
