"""The database file as it is found: what is none, what lost its end, and what another version of the engine made.

A file says which engine it belongs to (``application_id``) and in which format its tables and what is encoded in them
are (``user_version``). Format 1 is the first that has a number; files from shortly before it, which have none, are the
same. Within a format columns, fields and tables are only added; a column that is added has a default, which the rows
that are there get. Whoever changes what is there already raises ``FORMAT``
and either migrates older files in ``create_tables`` or leaves them refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from orchestrator.errors import ConfigurationError

APPLICATION_ID = 0x6A726E79  # "jrny"
FORMAT = 1

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
REMEDY = "Name another folder with --data, or move this one away to start afresh."


def check_file(path: Path) -> None:
    """Raise ``ConfigurationError`` for a file that is no database, or lacks its end. A missing or empty one passes.

    Call it before the file is opened for the first time by this process: closing it ends the locks on it.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}). {REMEDY}") from None
    if not header:
        return
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise ConfigurationError(f"{path} is no database. {REMEDY}")
    missing = _pages(header) * _page_bytes(header) - size
    if missing > _wal_bytes(path):
        raise ConfigurationError(
            f"{path} is cut short: {missing} bytes are missing at its end. Put it back from a backup. {REMEDY}"
        )


def _page_bytes(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 65_536 if size == 1 else size


def _pages(header: bytes) -> int:
    """Return how many pages the header speaks of; a number that an old library has left behind does not count."""
    if header[24:28] != header[92:96]:
        return 0
    return int.from_bytes(header[28:32], "big")


def _wal_bytes(path: Path) -> int:
    """Return how much may still stand in the write-ahead log alone, after a crash while it was folded in."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.stat().st_size if wal.exists() else 0


def check_format(connection: sqlite3.Connection, path: Path, schema: str, *, kept: bool) -> None:
    """Raise ``ConfigurationError`` for a database whose tables are not those of ``schema``. Changes nothing.

    With ``kept`` a file without any table is refused: it held some before.
    """
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    tables = _columns(connection)
    if not tables and kept:
        raise ConfigurationError(f"{path} is empty, but held an engine's data. {REMEDY}")
    if owner not in (0, APPLICATION_ID) or (not owner and tables and not tables.keys() & _wanted(schema).keys()):
        raise ConfigurationError(f"{path} is a database of something else. {REMEDY}")
    if owner and number > FORMAT:
        raise ConfigurationError(
            f"{path} has the format {number}, but this version of the engine knows formats up to {FORMAT}. "
            f"Start the newer version that wrote it. {REMEDY}"
        )
    for table, columns in _wanted(schema).items():
        lacking = sorted(columns.keys() - tables.get(table, columns).keys())
        if any(columns[name].default is None for name in lacking):
            raise ConfigurationError(
                f"{path} was made by an older version of the engine, from before formats had numbers: its table "
                f"{table} has no {', '.join(lacking)}. Start the version that made it. {REMEDY}"
            )


def create_tables(connection: sqlite3.Connection, schema: str) -> None:
    """Make what is missing in a database that ``check_format`` has let pass, and number its format.

    Of two processes that open a database, one adds the columns.
    """
    connection.executescript(schema)
    if list(_lacking(connection, schema)):
        connection.execute("BEGIN IMMEDIATE")
        for table, name, column in list(_lacking(connection, schema)):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {column.type} NOT NULL DEFAULT {column.default}")
        connection.execute("COMMIT")
    for name, value in (("application_id", APPLICATION_ID), ("user_version", FORMAT)):
        if connection.execute(f"PRAGMA {name}").fetchone() != (value,):
            connection.execute(f"PRAGMA {name} = {value}")


class _Column(NamedTuple):
    """A column of a table: its type and its default, as SQL writes them."""

    type: str
    default: str | None


_Tables = dict[str, dict[str, _Column]]


def _lacking(connection: sqlite3.Connection, schema: str) -> Iterator[tuple[str, str, _Column]]:
    """Yield (table, name, column) of what ``schema`` says and the database does not have."""
    there = _columns(connection)
    for table, columns in _wanted(schema).items():
        yield from ((table, name, column) for name, column in columns.items() if name not in there[table])


def _wanted(schema: str) -> _Tables:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return _columns(connection)


def _columns(connection: sqlite3.Connection) -> _Tables:
    found: _Tables = {}
    rows = connection.execute(
        "SELECT t.name, c.name, c.type, c.dflt_value"
        " FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    )
    for table, name, form, default in rows:
        found.setdefault(table, {})[name] = _Column(form, default)
    return found
