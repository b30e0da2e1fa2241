"""One SQLite file for the embedded engine: WAL, one writer thread, one reader thread.

All work runs on these threads, so the event loop never waits for a disk. Units of writing that queue up while
one is being written share its transaction and its fsync (group commit); each has its own savepoint, so a unit
that is refused takes nothing else with it. Reading has a connection of its own and never waits for an fsync.

The file and its folder are for their owner alone: what is known of customers stands in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.adapters.sqlite_file import REMEDY, check_format, create_tables
from orchestrator.errors import ConfigurationError, StoreUnavailable

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]

#: Units of work that may share one transaction.
_GROUP_MAX = 256

#: How long to wait for another process that holds the file, as ``journey export`` may beside ``journey dev``.
_BUSY_TIMEOUT_S = 5

#: Primary result codes that tell of the file or the machine, not of the statement that met them.
_ENVIRONMENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)

#: Those of them that do not pass by waiting: met at opening, they are a matter of configuration.
_LASTING = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


class SqliteDatabase:
    """A database file and the two threads that own it. Its methods are called from event loops, not from threads."""

    def __init__(self, path: Path, schema: str = "", *, kept: bool = False) -> None:
        """Prepare to open ``path``; ``schema`` is a script of idempotent ``CREATE ... IF NOT EXISTS``.

        A table that an earlier version made is given the columns that have come to it since, which have a default.
        With ``kept`` the file held data before, and one without any table is refused.
        """
        self.path = path
        self._schema = schema
        self._kept = kept
        self._writer: _Lane | None = None
        self._reader: _Lane | None = None

    async def open(self) -> None:
        """Create the file and its tables where missing; return when it can take work. May be repeated.

        Raises ``ConfigurationError`` when the folder cannot be created, when the file cannot be opened or written, is
        no database of ours or has another format; ``StoreUnavailable`` when others hold it or the disk is full.
        """
        if self._writer is not None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The folder {self.path.parent} cannot be made ({error.strerror}); name one that this user may write."
            ) from error
        _make_private(self.path)
        self._writer = _Writer(self.path, self._schema, kept=self._kept)
        self._reader = _Reader(self.path)
        try:
            await self.run(_touch)  # The writer comes first: it creates the file that the reader opens.
            await self.read(_touch)
        except BaseException as error:
            await self.close()
            cause = error.__cause__
            if isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode & 0xFF in _LASTING:
                raise ConfigurationError(f"{error}. Mend what is named. {REMEDY}") from cause
            raise

    async def close(self) -> None:
        """Finish what was asked, close the file and end the threads. May be repeated."""
        lanes = [lane for lane in (self._reader, self._writer) if lane is not None]
        self._reader = self._writer = None
        for lane in lanes:  # The writer closes last, so that it is the one to fold the WAL into the file.
            await asyncio.to_thread(lane.finish)

    async def run(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction; return its result once it is durable.

        An exception of ``work`` undoes what it wrote. Raises ``StoreUnavailable`` when SQLite itself fails (disk
        full, locked, I/O error); the unit may have been written if the failure came at the very end of the
        commit, so only a unit that recognises its repetition may be repeated. A caller that is cancelled
        leaves the unit to be finished.
        """
        return await asyncio.shield(self.submit(work))

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue ``work`` as ``run`` does and return the future of its result, for who must know of it in any case."""
        return self._lane(self._writer).submit(work)

    async def read(self, work: Work[T]) -> T:
        """Run ``work``, which only reads, on a snapshot that holds every unit finished before this call.

        Does not wait for writes. Raises ``StoreUnavailable`` when SQLite itself fails; may be repeated.
        """
        return await asyncio.shield(self._lane(self._reader).submit(work))

    def _lane(self, lane: _Lane | None) -> _Lane:
        if lane is None:
            raise StoreUnavailable(f"{self.path} is not open.")
        return lane


def close_to_others(path: Path) -> None:
    """Take from everybody but its owner what they may do with a file or folder of this user, where it is there.

    What belongs to somebody else, a folder that all may write (``/tmp``) and a file system without modes stay as they
    are.
    """
    with contextlib.suppress(OSError):
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX:
            path.chmod(stat.S_IMODE(found.st_mode) & ~0o077)


def _make_private(path: Path) -> None:
    """Make the file, which SQLite would make for everybody, and close what is there; what cannot be is SQLite's to say.

    A file that is there is never opened here: closing it again would end the locks that this process has on it.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    # SQLite gives a new WAL and its index the mode of the file; older ones may be left over from a crash.
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        close_to_others(path.with_name(name))


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


# ---------------------------------------------------------------------------------------------- the threads


@dataclass(slots=True)
class _Job:
    """A unit of work, whom to answer, and the answer."""

    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    failure: Exception | None = None

    def answer(self) -> None:
        if self.future.cancelled():
            return
        if self.failure is not None:
            self.future.set_exception(self.failure)
        else:
            self.future.set_result(self.result)


class _Lane(ABC):
    """A thread with a connection of its own that takes jobs in the order they come."""

    role: str

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._serve, name=f"sqlite-{self.role}:{path.name}", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, loop, future))
        return future

    def finish(self) -> None:
        """Block until everything asked is answered and the file is closed. Nothing may be submitted after."""
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        last = False
        while not last:
            group, last = self._gather()
            if group:
                self._attempt(group)
                _answer(group)
        self._disconnect()

    def _attempt(self, group: list[_Job]) -> None:
        try:
            self._connection = self._connection or self._connect()
            self._take(self._connection, group)
        except Exception as error:
            # The state of a connection after a failure of the file is not worth guessing: closing it
            # rolls back, and the next group opens a new one.
            self._disconnect()
            for job in group:
                job.failure = _translated(error, self._path)

    def _gather(self) -> tuple[list[_Job], bool]:
        """Wait for a job, add those that are waiting already, and tell whether the end was asked for."""
        group: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            group.append(job)
            if len(group) == _GROUP_MAX:
                return group, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @abstractmethod
    def _connect(self) -> sqlite3.Connection: ...

    @abstractmethod
    def _take(self, connection: sqlite3.Connection, group: list[_Job]) -> None: ...


class _Writer(_Lane):
    role = "writer"

    def __init__(self, path: Path, schema: str, *, kept: bool) -> None:
        self._schema = schema
        self._kept = kept
        super().__init__(path)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        check_format(connection, self._path, self._schema, kept=self._kept)
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL syncs the WAL at every commit: NORMAL would lose the last commits with the power.
        connection.execute("PRAGMA synchronous = FULL")
        create_tables(connection, self._schema)
        return connection

    def _take(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            connection.execute("SAVEPOINT unit")
            _perform(job, connection)
            if job.failure is not None:
                connection.execute("ROLLBACK TO unit")
            connection.execute("RELEASE unit")
        connection.execute("COMMIT")


class _Reader(_Lane):
    role = "reader"

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _take(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        connection.execute("BEGIN")
        for job in group:
            _perform(job, connection)
        connection.execute("COMMIT")


def _perform(job: _Job, connection: sqlite3.Connection) -> None:
    """Run the unit; keep its own refusal as its answer, let a failure of the file fail the whole group."""
    try:
        job.result = job.work(connection)
    except Exception as error:
        if _of_the_file(error):
            raise
        job.result, job.failure = None, error


def _of_the_file(error: Exception) -> bool:
    if not isinstance(error, sqlite3.Error):
        return False
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF in _ENVIRONMENT


def _translated(error: Exception, path: Path) -> Exception:
    if not isinstance(error, sqlite3.Error):
        return error
    unavailable = StoreUnavailable(f"{path}: {error}")
    unavailable.__cause__ = error
    return unavailable


def _answer(group: Iterable[_Job]) -> None:
    """Hand the answers to the callers' loops, waking each loop once; a loop that has gone needs none."""
    for loop, jobs in groupby(group, key=lambda job: job.loop):
        answered = list(jobs)
        with contextlib.suppress(RuntimeError):  # The loop was closed in the meantime.
            loop.call_soon_threadsafe(_answer_all, answered)


def _answer_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.answer()
