"""What is used of a connector's capacity, in SQLite: slots, the rate's bucket, and booked slots of the days to come.

All functions run inside a transaction of ``sqlite_dispatch_queue``.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from orchestrator.runtime.dispatch.queue import BOOKING_KEPT_MS
from orchestrator.runtime.dispatch.rate import Bucket, Rate

SCHEMA = """
CREATE TABLE IF NOT EXISTS dispatch_holds (
    id TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    action_group TEXT NOT NULL,
    until_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS dispatch_holds_by_end ON dispatch_holds (connector, until_ms);
CREATE TABLE IF NOT EXISTS dispatch_buckets (
    connector TEXT PRIMARY KEY,
    full_at_us INTEGER NOT NULL,
    interval_us INTEGER NOT NULL,
    taken_at_us INTEGER NOT NULL,
    given_us INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS dispatch_bookings (
    id TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    action_group TEXT NOT NULL,
    start_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS dispatch_bookings_by_slot ON dispatch_bookings (connector, action_group, start_ms);
CREATE INDEX IF NOT EXISTS dispatch_bookings_by_start ON dispatch_bookings (connector, start_ms);
"""

# --------------------------------------------------------------------------------------------------- slots


def busy(connection: sqlite3.Connection, connector: str) -> Counter[str]:
    """Return the slots taken per group, by leases and holds, as of the last promotion."""
    rows = connection.execute(
        "SELECT action_group, count(*) FROM dispatch_queue WHERE connector = ? AND busy = 1 GROUP BY action_group"
        " UNION ALL"
        " SELECT action_group, count(*) FROM dispatch_holds WHERE connector = ? GROUP BY action_group",
        (connector, connector),
    )
    taken = Counter[str]()
    for group, number in rows:
        taken[group] += number
    return taken


def end_hold(connection: sqlite3.Connection, action_id: str) -> bool:
    """Free the slot that the id holds; return whether there was one."""
    return connection.execute("DELETE FROM dispatch_holds WHERE id = ?", (action_id,)).rowcount == 1


def end_holds(connection: sqlite3.Connection, connector: str, now_ms: int) -> None:
    """Free the slots whose holds have come to their end."""
    connection.execute("DELETE FROM dispatch_holds WHERE connector = ? AND until_ms <= ?", (connector, now_ms))


def next_end_ms(connection: sqlite3.Connection, connector: str) -> int | None:
    """Return when the next hold ends, or None."""
    query = "SELECT min(until_ms) FROM dispatch_holds WHERE connector = ?"
    found: int | None = connection.execute(query, (connector,)).fetchone()[0]
    return found


# ---------------------------------------------------------------------------------------------------- rate


def bucket(connection: sqlite3.Connection, connector: str, rate: Rate, now_ms: int) -> Bucket:
    """Return the connector's bucket, a fresh one the first time."""
    return _kept_bucket(connection, connector) or Bucket.fresh(rate, now_ms)


def write_bucket(connection: sqlite3.Connection, connector: str, kept: Bucket) -> None:
    """Keep the bucket; writes nothing when it is as it was, so that an idle claim costs no fsync."""
    if kept != _kept_bucket(connection, connector):
        connection.execute(
            "INSERT OR REPLACE INTO dispatch_buckets VALUES (?, ?, ?, ?, ?)",
            (connector, kept.full_at_us, kept.interval_us, kept.taken_at_us, kept.given_us),
        )


def give_back(connection: sqlite3.Connection, connector: str, stamp_us: int) -> None:
    """Give a token back of which nothing became."""
    kept = _kept_bucket(connection, connector)
    if kept is not None:
        kept.give_back(stamp_us)
        write_bucket(connection, connector, kept)


def _kept_bucket(connection: sqlite3.Connection, connector: str) -> Bucket | None:
    query = "SELECT full_at_us, interval_us, taken_at_us, given_us FROM dispatch_buckets WHERE connector = ?"
    row = connection.execute(query, (connector,)).fetchone()
    return None if row is None else Bucket(*row)


# ------------------------------------------------------------------------------------------------ bookings


def booking(connection: sqlite3.Connection, action_id: str) -> int | None:
    """Return the start that the id has booked, or None."""
    row = connection.execute("SELECT start_ms FROM dispatch_bookings WHERE id = ?", (action_id,)).fetchone()
    return None if row is None else int(row[0])


def book(
    connection: sqlite3.Connection, connector: str, group: str, action_id: str, *, starts: Sequence[int], per_slot: int
) -> int | None:
    """Book the first start that fewer than ``per_slot`` others of the group have booked; None when all are full."""
    query = "SELECT count(*) FROM dispatch_bookings WHERE connector = ? AND action_group = ? AND start_ms = ?"
    for start in starts:
        if connection.execute(query, (connector, group, start)).fetchone()[0] < per_slot:
            connection.execute(
                "INSERT INTO dispatch_bookings VALUES (?, ?, ?, ?)", (action_id, connector, group, start)
            )
            return start
    return None


def free_booking(connection: sqlite3.Connection, action_id: str) -> None:
    """Free the booking of the id, if it has one."""
    connection.execute("DELETE FROM dispatch_bookings WHERE id = ?", (action_id,))


def forget_bookings(connection: sqlite3.Connection, connector: str, now_ms: int) -> None:
    """Forget bookings of the past."""
    before_ms = now_ms - BOOKING_KEPT_MS
    connection.execute("DELETE FROM dispatch_bookings WHERE connector = ? AND start_ms < ?", (connector, before_ms))
