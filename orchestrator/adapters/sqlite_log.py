"""The event log of the embedded engine: topics and partitions as one ordered table of a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from orchestrator.adapters.log_partitions import Arrivals, Partitions, check_position
from orchestrator.adapters.sqlite import SqliteDatabase, Work
from orchestrator.errors import LogUnavailable, PositionLost, StoreUnavailable
from orchestrator.runtime.ports import Clock, Outgoing, Record

T = TypeVar("T")

#: The heads are kept beside the records because offsets and stamps go on after retention has removed them all. The
#: index makes the log a timeline of each customer; it costs a bulk append 20 µs a record and a single one nothing.
SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    stamp_ms INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, producer TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS log_key ON log (topic, key);
CREATE TABLE IF NOT EXISTS log_head (
    topic TEXT NOT NULL, partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL, stamp_ms INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_topic (
    topic TEXT PRIMARY KEY, id TEXT NOT NULL, partitions INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: Records that a reader is given at once.
READ_MAX = 500

#: Records that retention removes in one transaction, so that appends never wait long for it.
_TRIM_MAX = 2_000


class _Head(NamedTuple):
    first: int
    next: int
    stamp_ms: int


class SqliteEventLog:
    """``EventLog`` and ``LogReader`` over one database file, for one process.

    Per topic and partition offsets have no gaps and stamps never run backwards, whatever the clock does. What
    ``append`` has acknowledged survives kill -9 and power loss. Readers in this process wake at once;
    records that another process appends are seen only with the next record of this one.
    """

    def __init__(self, database: SqliteDatabase, clock: Clock, partitions: Mapping[str, int] | int = 1) -> None:
        """``partitions`` is a number for all topics, or numbers by topic (1 for a topic that is not named).

        The database is opened and closed by its owner, with ``SCHEMA`` in its schema.
        """
        self._database = database
        self._clock = clock
        self._partitions = Partitions(partitions)
        self._arrivals = Arrivals()
        self._known: set[str] = set()

    # ------------------------------------------------------------------------------------------- appending

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return once all records are on disk, in this order per key; all of them or none are taken.

        Raises ``LogUnavailable`` when the file cannot be written (disk full), ``PositionLost`` when the topic was
        created with another number of partitions. A caller that is cancelled may find its records in the log.
        """
        if not records:
            return
        topics = {record.topic for record in records}
        for topic in topics - self._known:
            await self.log_id(topic)
        batches: defaultdict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for record in records:
            batches[record.topic, self._partitions.of_key(record.topic, record.key)].append(record)

        def write(connection: sqlite3.Connection) -> None:
            for (topic, partition), batch in batches.items():
                _extend(connection, topic, partition, batch, self._clock.now_ms())

        # Readers are woken when the records are durable, even if this caller has been cancelled by then.
        written = self._submit(write)
        written.add_done_callback(lambda done: self._announce(done, batches))
        await _awaited(written)

    def _announce(self, written: asyncio.Future[None], batches: Mapping[tuple[str, int], object]) -> None:
        if not written.cancelled() and written.exception() is None:
            for topic, partition in batches:
                self._arrivals.announce(topic, partition)

    # --------------------------------------------------------------------------------------------- reading

    async def read(self, topic: str, partition: int, offset: int) -> AsyncIterator[list[Record]]:
        """Yield batches from ``offset`` on, for ever. Raise ``PositionLost`` for an offset the log does not have."""
        while True:
            arrival = self._arrivals.expect(topic, partition)
            batch = await self.read_range(topic, partition, offset, READ_MAX)
            if batch:
                offset = batch[-1].offset + 1
                yield batch
            else:
                await arrival.wait()

    async def read_range(self, topic: str, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records from ``from_offset`` on; none at the end of the log.

        Raises ``PositionLost`` for an offset that was trimmed or lies beyond the end.
        """
        self._partitions.check(topic, partition)

        def select(connection: sqlite3.Connection) -> list[tuple[int, int, bytes, bytes, str]]:
            head = _head(connection, topic, partition)
            check_position(topic, partition, from_offset, first=head.first, end=head.next)
            return connection.execute(
                "SELECT offset, stamp_ms, key, value, producer FROM log"
                " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
                (topic, partition, from_offset, limit),
            ).fetchall()

        rows = await self._read(select)
        return [
            Record(partition, offset, stamp_ms, key, value, producer=producer)
            for offset, stamp_ms, key, value, producer in rows
        ]

    async def start_offset(self, topic: str, partition: int) -> int:
        """Return the offset of the earliest record that is kept, or the end when there is none."""
        return (await self._head_of(topic, partition)).first

    async def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        return (await self._head_of(topic, partition)).next

    async def last_stamp_ms(self, topic: str, partition: int) -> int:
        """Return the stamp of the last record ever taken, 0 before the first."""
        return (await self._head_of(topic, partition)).stamp_ms

    async def log_id(self, topic: str) -> str:
        """Return the identity of the topic's log, made with it; another file has another one.

        Creates the topic where it is missing. Raises ``PositionLost`` when it has another number of partitions.
        """
        asked = self._partitions.count(topic)

        def create(connection: sqlite3.Connection) -> tuple[str, int]:
            connection.execute(
                "INSERT INTO log_topic VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (topic, str(uuid.uuid4()), asked)
            )
            found = connection.execute("SELECT id, partitions FROM log_topic WHERE topic = ?", (topic,)).fetchone()
            return str(found[0]), int(found[1])

        identity, count = await _awaited(self._submit(create))
        if count != asked:
            raise PositionLost(
                f"Topic {topic} in {self._database.path} has {count} partition(s), but {asked} are asked for; "
                f"ask for {count} again, or start with an empty data folder: keys would change their partition."
            )
        self._known.add(topic)
        return identity

    # ------------------------------------------------------------------------------------------- retention

    async def trim(self, topic: str, before_ms: int) -> int:
        """Forget records stamped before ``before_ms``; return how many. Offsets go on as if they were there."""
        forgotten = 0
        for partition in range(self._partitions.count(topic)):
            while number := await self._trim_some(topic, partition, before_ms):
                forgotten += number
        return forgotten

    async def _trim_some(self, topic: str, partition: int, before_ms: int) -> int:
        def delete(connection: sqlite3.Connection) -> int:
            head = _head(connection, topic, partition)
            end = min(head.first + _TRIM_MAX, head.next)
            keep = connection.execute(
                "SELECT offset FROM log WHERE topic = ? AND partition = ? AND offset < ? AND stamp_ms >= ?"
                " ORDER BY offset LIMIT 1",
                (topic, partition, end, before_ms),
            ).fetchone()
            first = keep[0] if keep else end
            if first > head.first:
                connection.execute(
                    "DELETE FROM log WHERE topic = ? AND partition = ? AND offset < ?", (topic, partition, first)
                )
                _save_head(connection, topic, partition, head._replace(first=first))
            return first - head.first

        return await _awaited(self._submit(delete))

    # ------------------------------------------------------------------------------------------- the file

    async def _head_of(self, topic: str, partition: int) -> _Head:
        self._partitions.check(topic, partition)
        return await self._read(lambda connection: _head(connection, topic, partition))

    def _submit(self, work: Work[T]) -> asyncio.Future[T]:
        try:
            return self._database.submit(work)
        except StoreUnavailable as error:
            raise LogUnavailable(str(error)) from error

    async def _read(self, work: Work[T]) -> T:
        try:
            return await self._database.read(work)
        except StoreUnavailable as error:
            raise LogUnavailable(str(error)) from error


async def _awaited(future: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(future)
    except StoreUnavailable as error:
        raise LogUnavailable(str(error)) from error


def _head(connection: sqlite3.Connection, topic: str, partition: int) -> _Head:
    row = connection.execute(
        "SELECT first_offset, next_offset, stamp_ms FROM log_head WHERE topic = ? AND partition = ?", (topic, partition)
    ).fetchone()
    return _Head(*row) if row else _Head(0, 0, 0)


def _save_head(connection: sqlite3.Connection, topic: str, partition: int, head: _Head) -> None:
    connection.execute("INSERT OR REPLACE INTO log_head VALUES (?, ?, ?, ?, ?)", (topic, partition, *head))


def _extend(connection: sqlite3.Connection, topic: str, partition: int, batch: Sequence[Outgoing], now_ms: int) -> None:
    """Write ``batch`` at the end of the partition, stamped with the present or the last stamp, the later of the two."""
    head = _head(connection, topic, partition)
    stamp_ms = max(head.stamp_ms, now_ms)
    connection.executemany(
        "INSERT INTO log (topic, partition, offset, stamp_ms, key, value, producer) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (topic, partition, offset, stamp_ms, record.key, record.value, record.producer)
            for offset, record in enumerate(batch, start=head.next)
        ),
    )
    _save_head(connection, topic, partition, _Head(head.first, head.next + len(batch), stamp_ms))
