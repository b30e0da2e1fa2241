"""Actions and their leases in SQLite: what is queued, in which order it is claimed, and the load of each group.

All functions run inside a transaction of ``sqlite_dispatch_queue``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import IntEnum
from heapq import merge
from typing import Any

import msgspec

from orchestrator.adapters import sqlite_dispatch_capacity as capacity
from orchestrator.runtime.dispatch.queue import LEASE_ENDED, WITHDRAWN
from orchestrator.runtime.dispatch.rate import Rate
from orchestrator.runtime.ports import Claim, GroupLoad, Occupancy, Queued, Quota

#: ``at_ms`` is when the state changed or changes next: the moment of readiness, or the end of the lease.
#: ``rank_deadline`` is the deadline, or a moment beyond all others, so that one index gives the order of claims.
#: ``busy`` tells that the lease takes a slot, ``stamp_us`` which token of the rate it took, ``released`` that the
#: settlement is to hold no slot. ``dispatch_load`` counts the rows by group and state; triggers keep it exact.
SCHEMA = """
CREATE TABLE IF NOT EXISTS dispatch_queue (
    id TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    action_group TEXT NOT NULL,
    state INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    rank_deadline INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    deadline_at INTEGER,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    history TEXT NOT NULL,
    lapses INTEGER NOT NULL DEFAULT 0,
    withdrawn INTEGER NOT NULL DEFAULT 0,
    busy INTEGER NOT NULL DEFAULT 0,
    stamp_us INTEGER,
    released INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS dispatch_queue_by_rank
    ON dispatch_queue (connector, state, action_group, priority DESC, rank_deadline, not_before, id);
CREATE INDEX IF NOT EXISTS dispatch_queue_by_moment ON dispatch_queue (connector, state, at_ms);
CREATE INDEX IF NOT EXISTS dispatch_queue_by_deadline
    ON dispatch_queue (connector, deadline_at, id) WHERE deadline_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dispatch_queue_by_wait
    ON dispatch_queue (connector, action_group, not_before) WHERE state = 1;
CREATE INDEX IF NOT EXISTS dispatch_queue_busy ON dispatch_queue (connector, action_group) WHERE busy = 1;
CREATE TABLE IF NOT EXISTS dispatch_load (
    connector TEXT NOT NULL,
    action_group TEXT NOT NULL,
    state INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (connector, action_group, state)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS dispatch_queue_grows AFTER INSERT ON dispatch_queue BEGIN
    INSERT INTO dispatch_load VALUES (new.connector, new.action_group, new.state, 1)
        ON CONFLICT DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER IF NOT EXISTS dispatch_queue_shrinks AFTER DELETE ON dispatch_queue BEGIN
    UPDATE dispatch_load SET number = number - 1
        WHERE connector = old.connector AND action_group = old.action_group AND state = old.state;
END;
CREATE TRIGGER IF NOT EXISTS dispatch_queue_moves AFTER UPDATE OF state, action_group ON dispatch_queue
WHEN old.state <> new.state OR old.action_group <> new.action_group BEGIN
    UPDATE dispatch_load SET number = number - 1
        WHERE connector = old.connector AND action_group = old.action_group AND state = old.state;
    INSERT INTO dispatch_load VALUES (new.connector, new.action_group, new.state, 1)
        ON CONFLICT DO UPDATE SET number = number + 1;
END;
"""

_NEVER = 10**16

_history = msgspec.json.Decoder(tuple[str, ...])


class State(IntEnum):
    """Where a queued action is; only a leased one is claimed."""

    WAITING = 0
    READY = 1
    LEASED = 2


_COLUMNS = "id, connector, priority, not_before, deadline_at, body, attempts, history, lapses, withdrawn, action_group"
_READY = (
    f"SELECT {_COLUMNS} FROM dispatch_queue WHERE connector = ? AND state = {State.READY} AND action_group = ?"
    " ORDER BY priority DESC, rank_deadline, not_before, id LIMIT ?"
)
OVERDUE = (
    f"SELECT {_COLUMNS} FROM dispatch_queue WHERE connector = ? AND deadline_at <= ?"
    f" AND (state <> {State.LEASED} OR at_ms <= ?) ORDER BY deadline_at, id LIMIT ?"
)
_INSERT = (
    "INSERT INTO dispatch_queue (id, connector, action_group, state, at_ms, priority, rank_deadline, not_before,"
    " deadline_at, body, attempts, history) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)


def insert(connection: sqlite3.Connection, queued: Queued) -> bool:
    """Queue an action unless its id is queued; return whether it was."""
    row = (
        queued.id,
        queued.connector,
        queued.group,
        State.WAITING,
        queued.not_before,
        queued.priority,
        _NEVER if queued.deadline_at is None else queued.deadline_at,
        queued.not_before,
        queued.deadline_at,
        queued.body,
        queued.attempts,
        msgspec.json.encode(queued.history).decode(),
    )
    return connection.execute(_INSERT, row).rowcount == 1


def promote(connection: sqlite3.Connection, connector: str, now_ms: int) -> None:
    """Make ready what has become so, take back what a dead dispatcher held, and end holds."""
    connection.execute(
        "UPDATE dispatch_queue SET lapses = lapses + busy, state = ?, busy = 0, stamp_us = NULL, released = 0"
        " WHERE connector = ? AND state IN (?, ?) AND at_ms <= ?",
        (State.READY, connector, State.WAITING, State.LEASED, now_ms),
    )
    capacity.end_holds(connection, connector, now_ms)


def bound_leases(connection: sqlite3.Connection, connector: str, now_ms: int, lease_ms: int) -> None:
    """Shorten the leases that end later than two that begin now: whoever took them had a clock that ran ahead."""
    connection.execute(
        "UPDATE dispatch_queue SET at_ms = ? WHERE connector = ? AND state = ? AND at_ms > ?",
        (now_ms + lease_ms, connector, State.LEASED, now_ms + 2 * lease_ms),
    )


def claim(
    connection: sqlite3.Connection, connector: str, quota: Quota, limit: int, now_ms: int, until_ms: int
) -> Claim:
    """Lease ready actions by rank until ``until_ms``, as far as slots and rate allow; ``promote`` comes first."""
    rate = Rate.of(quota)
    bucket = None if rate is None else capacity.bucket(connection, connector, rate, now_ms)
    busy = capacity.busy(connection, connector)
    room = min(limit, quota.slots - busy.total())
    if rate is not None and bucket is not None:
        room = min(room, bucket.room(rate, now_ms))
    chosen: list[tuple[Any, ...]] = []
    more = False
    for row in _by_rank(connection, connector, max(0, room) + 1) if busy.total() < quota.slots else ():
        group = row[-1]
        if busy[group] >= quota.group_slots.get(group, quota.slots):
            continue
        if len(chosen) >= room:
            more = busy.total() < quota.slots
            break
        busy[group] += 1
        chosen.append(row)
    for row in chosen:
        late = _rank_of(row)[1] <= now_ms  # To be settled, not to be sent.
        stamp_us = None if late or rate is None or bucket is None else bucket.take(rate, now_ms)
        connection.execute(
            "UPDATE dispatch_queue SET state = ?, at_ms = ?, busy = ?, stamp_us = ? WHERE id = ?",
            (State.LEASED, until_ms, not late, stamp_us, row[0]),
        )
    actions = [_queued(row) for row in chosen]
    next_ms = now_ms if more else _next_change_ms(connection, connector)
    if rate is not None and bucket is not None:
        capacity.write_bucket(connection, connector, bucket)
        next_ms = None if next_ms is None else max(next_ms, bucket.next_at_ms(rate, now_ms))
    return Claim(actions=actions, again_at_ms=next_ms)


def _by_rank(connection: sqlite3.Connection, connector: str, limit: int) -> Iterator[tuple[Any, ...]]:
    """Yield ready rows of all groups by rank; ``limit`` of each are enough."""
    groups = connection.execute(
        f"SELECT action_group FROM dispatch_load WHERE connector = ? AND state = {State.READY} AND number > 0",
        (connector,),
    ).fetchall()
    rows = [connection.execute(_READY, (connector, group, limit)).fetchall() for (group,) in groups]
    return merge(*rows, key=_rank_of)


def _rank_of(row: tuple[Any, ...]) -> tuple[int, int, int, str]:
    action_id, _, priority, not_before, deadline_at, *_ = row
    return (-priority, _NEVER if deadline_at is None else deadline_at, not_before, action_id)


def _next_change_ms(connection: sqlite3.Connection, connector: str) -> int | None:
    """Return when something can be claimed that now cannot, or None."""
    # One look-up a state, because the index leads with it.
    query = "SELECT min(at_ms) FROM dispatch_queue WHERE connector = ? AND state = ?"
    moments = [connection.execute(query, (connector, state)).fetchone()[0] for state in (State.WAITING, State.LEASED)]
    if next(_by_rank(connection, connector, 1), None) is not None:  # What is ready waits for a slot.
        moments.append(capacity.next_end_ms(connection, connector))
    return min((one for one in moments if one is not None), default=None)


def lease(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], until_ms: int) -> list[Queued]:
    """Lease unclaimed rows without a slot; return their actions with the marks of what has happened to them."""
    connection.executemany(
        "UPDATE dispatch_queue SET state = ?, at_ms = ? WHERE id = ?",
        [(State.LEASED, until_ms, row[0]) for row in rows],
    )
    return [_queued(row) for row in rows]


def occupancy(connection: sqlite3.Connection, connector: str) -> Occupancy:
    """Return the load per group, as of the last promotion."""
    busy = capacity.busy(connection, connector)
    counts: dict[str, dict[int, int]] = {group: {} for group in busy}
    rows = connection.execute(
        f"SELECT action_group, state, number FROM dispatch_load"
        f" WHERE connector = ? AND number > 0 AND state <> {State.LEASED}",
        (connector,),
    )
    for group, state, number in rows:
        counts.setdefault(group, {})[state] = number
    oldest = (
        f"SELECT min(not_before) FROM dispatch_queue WHERE connector = ? AND action_group = ? AND state = {State.READY}"
    )
    return Occupancy(
        {
            group: GroupLoad(
                queued=sum(numbers.values()),
                ready=numbers.get(State.READY, 0),
                busy=busy[group],
                oldest_ready_at_ms=connection.execute(oldest, (connector, group)).fetchone()[0],
            )
            for group, numbers in counts.items()
        }
    )


def _queued(row: tuple[Any, ...]) -> Queued:
    action_id, connector, priority, not_before, deadline_at, body, attempts, history, lapses, withdrawn, group = row
    marks = (LEASE_ENDED,) * lapses + (WITHDRAWN,) * withdrawn
    return Queued(
        id=action_id,
        connector=connector,
        priority=priority,
        not_before=not_before,
        deadline_at=deadline_at,
        body=body,
        attempts=attempts + lapses,
        history=(*_history.decode(history), *marks),
        group=group,
    )
