"""Erasure in the embedded engine: what a customer's past has left in the tables of log, dispatcher and contact book."""

from __future__ import annotations

import sqlite3

import msgspec

from orchestrator.adapters import sqlite_contact_book
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.core.action import Action
from orchestrator.core.decision import DecisionRecord
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, DECISIONS, EVENTS, Record


class _Identity(msgspec.Struct):
    """As much of an event as names it."""

    id: str = ""


_decode_line = msgspec.json.Decoder(DecisionRecord).decode
_decode_action = msgspec.json.Decoder(Action).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


class SqliteErasure:
    """Removes what precedes a customer's erasure. Offsets go on as if the records were there.

    The space is used again but not wiped; backups of the file are their owner's to erase.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        """The database is opened and closed by its owner, with the schemas of all three in its own."""
        self._database = database

    async def forget(self, line: Record) -> None:
        """Remove what the erasure behind ``line``, its line in the ledger, has forgotten. May be repeated.

        The line and its event stay: they hold the customer's id and the moment. Withdrawals of actions stay as well,
        so that the dispatcher learns of them; they hold no more than ids. Raises ``StoreUnavailable``.
        """
        erased = _decode_line(line.value or b"{}")

        def work(connection: sqlite3.Connection) -> None:
            _remove(connection, EVENTS, line.key, _events_before(connection, line.key, erased.cause))
            _remove(connection, ACTIONS, line.key, _actions_before(connection, line.key, erased.at))
            connection.execute(
                "DELETE FROM log WHERE topic = ? AND key = ? AND offset < ?", (DECISIONS, line.key, line.offset)
            )
            connection.execute(
                "DELETE FROM log WHERE topic = ? AND key = ? AND stamp_ms <= ?", (DEAD_LETTERS, line.key, line.stamp_ms)
            )
            sqlite_contact_book.remove(connection, erased.customer_id)
            # What failed is kept whole in the ledger, to be sent again; it must not be.
            connection.execute(
                "UPDATE dispatch_ledger SET outcome = 'cancelled', detail = '{}'"
                " WHERE json_extract(detail, '$.action.customer_id') = ?"
                " AND json_extract(detail, '$.action.decided_at') <= ?",
                (erased.customer_id, erased.at),
            )

        await self._database.run(work)


def _rows(connection: sqlite3.Connection, topic: str, key: bytes | None) -> list[tuple[int, bytes]]:
    return connection.execute(
        "SELECT offset, value FROM log WHERE topic = ? AND key = ? ORDER BY offset", (topic, key)
    ).fetchall()


def _events_before(connection: sqlite3.Connection, key: bytes | None, erasure_id: str) -> list[int]:
    """Return the offsets below the erasure's event; none when it is no longer there."""
    offsets: list[int] = []
    for offset, value in _rows(connection, EVENTS, key):
        if erasure_id.encode() in value and _id_of(value) == erasure_id:
            return offsets
        offsets.append(offset)
    return []


def _id_of(value: bytes) -> str:
    try:
        return _decode_identity(value).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _actions_before(connection: sqlite3.Connection, key: bytes | None, erased_at_ms: int) -> list[int]:
    offsets: list[int] = []
    for offset, value in _rows(connection, ACTIONS, key):
        action = _decode_action(value)
        if not action.cancel and action.decided_at <= erased_at_ms:
            offsets.append(offset)
    return offsets


def _remove(connection: sqlite3.Connection, topic: str, key: bytes | None, offsets: list[int]) -> None:
    connection.executemany(
        "DELETE FROM log WHERE topic = ? AND key = ? AND offset = ?", [(topic, key, one) for one in offsets]
    )
