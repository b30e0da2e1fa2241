"""The embedded database: group commit, refusals that stay alone, failures of the file that are said to be such."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.adapters.sqlite import SqliteDatabase, close_to_others
from orchestrator.errors import ConfigurationError, StoreUnavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS word (text TEXT PRIMARY KEY) WITHOUT ROWID;"
DEADLINE_S = 10


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "folder" / "words.db", SCHEMA)
    await database.open()
    yield database
    await database.close()


def insert(connection: sqlite3.Connection, text: str) -> str:
    connection.execute("INSERT INTO word VALUES (?)", (text,))
    return text


def words(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM word ORDER BY text")]


class Gate:
    """A unit that keeps the writer busy until it is opened, so that what follows shares one transaction."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        assert self._opened.wait(DEADLINE_S)

    def open(self) -> None:
        self._opened.set()


async def test_it_makes_its_folder_and_commits_durably_in_wal_mode(database: SqliteDatabase) -> None:
    settings = await database.run(
        lambda connection: [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
    )
    assert settings == ["wal", 2]
    assert database.path.exists()


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.stat().st_mode) for path in (folder, *folder.iterdir())}


async def test_the_folder_and_its_files_are_for_their_owner_alone(database: SqliteDatabase) -> None:
    await database.run(lambda connection: insert(connection, "a"))
    assert modes(database.path.parent) == {
        "folder": "drwx------",
        "words.db": "-rw-------",
        "words.db-shm": "-rw-------",
        "words.db-wal": "-rw-------",
    }


async def test_files_that_others_may_read_are_closed_to_them(database: SqliteDatabase) -> None:
    """A crash leaves the WAL and its index behind, made with the mode that the file had at the time."""
    await database.run(lambda connection: insert(connection, "a"))
    left = [path for path in database.path.parent.iterdir() if path.name.startswith("words.db")]
    kept = {path.name: path.read_bytes() for path in left}
    folder = database.path.parent.parent / "crashed"
    folder.mkdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
    again = SqliteDatabase(folder / "words.db", SCHEMA)
    await again.open()
    assert await again.read(words) == ["a"]
    assert {name: mode for name, mode in modes(folder).items() if name != "crashed"} == dict.fromkeys(
        kept, "-rw-------"
    )
    await again.close()


def locks(path: Path) -> list[str]:
    return [line for line in Path("/proc/locks").read_text().splitlines() if f":{path.stat().st_ino} " in line]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel does not list its locks")
async def test_opening_leaves_the_locks_alone_that_this_process_has_on_the_file(database: SqliteDatabase) -> None:
    """POSIX ends the locks of a process on a file when it closes the file, by whichever descriptor."""
    beside = SqliteDatabase(database.path, SCHEMA)
    await beside.open()
    assert len(locks(database.path)) == 1, "all connections of a process share one"
    await beside.close()


def test_a_folder_that_all_may_write_is_left_to_all(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    close_to_others(tmp_path)
    close_to_others(tmp_path / "nothing")
    assert stat.filemode(tmp_path.stat().st_mode) == "drwxrwxrwt"


async def test_a_unit_answers_with_its_result_and_reading_finds_what_it_wrote(database: SqliteDatabase) -> None:
    assert await database.run(lambda connection: insert(connection, "a")) == "a"
    assert await database.read(words) == ["a"]


async def test_units_that_wait_together_share_one_transaction(database: SqliteDatabase) -> None:
    counted: list[int] = []

    def count_commits(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(lambda statement: counted.append(1) if statement == "COMMIT" else None)

    await database.run(count_commits)
    counted.clear()
    gate = Gate()
    first = asyncio.create_task(database.run(gate))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(database.run(lambda c, n=n: insert(c, f"w{n:03}"))) for n in range(100)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(first, *rest)
    assert len(counted) <= 2
    assert len(await database.read(words)) == 100


async def test_a_refused_unit_takes_nothing_else_of_its_group_with_it(database: SqliteDatabase) -> None:
    def refused(connection: sqlite3.Connection) -> None:
        insert(connection, "half")
        raise ValueError("changed its mind")

    gate = Gate()
    units = [gate, lambda c: insert(c, "a"), refused, lambda c: insert(c, "a"), lambda c: insert(c, "b")]
    asked = [asyncio.create_task(database.run(unit)) for unit in units]
    await asyncio.sleep(0)
    gate.open()
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert answers[:2] == [None, "a"]
    assert isinstance(answers[2], ValueError)
    assert isinstance(answers[3], sqlite3.IntegrityError), "a constraint speaks of the unit, not of the file"
    assert answers[4] == "b"
    assert await database.read(words) == ["a", "b"]


async def test_a_full_disk_is_unavailable_undoes_the_unit_and_heals(database: SqliteDatabase) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 4")
        for n in range(1_000):
            insert(connection, f"{n}" * 500)

    with pytest.raises(StoreUnavailable) as failure:
        await database.run(fill)
    assert str(failure.value) == f"{database.path}: database or disk is full"
    assert failure.value.retriable

    assert await database.read(words) == []
    await database.run(lambda connection: insert(connection, "room again"))
    assert await database.read(words) == ["room again"]


async def test_a_file_locked_by_another_process_is_unavailable(database: SqliteDatabase) -> None:
    await database.run(lambda connection: connection.execute("PRAGMA busy_timeout = 1").fetchone())
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"words\.db: database is locked$"):
        await database.run(lambda connection: insert(connection, "a"))
    assert await database.read(words) == [], "reading does not wait for a writer"
    other.execute("ROLLBACK")
    other.close()
    assert await database.run(lambda connection: insert(connection, "a")) == "a"


async def test_reading_does_not_wait_for_a_write_under_way(database: SqliteDatabase) -> None:
    gate = Gate()
    writing = asyncio.create_task(database.run(gate))
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        assert await database.read(words) == []
    assert not writing.done()
    gate.open()
    await writing


async def test_reading_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(StoreUnavailable, match=r"words\.db: attempt to write a readonly database$"):
        await database.read(lambda connection: insert(connection, "a"))
    assert await database.read(words) == []


async def test_a_cancelled_caller_leaves_its_unit_to_be_finished(database: SqliteDatabase) -> None:
    gate = Gate()
    asking = asyncio.create_task(database.run(lambda connection: (gate(connection), insert(connection, "a"))))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.open()
    await database.run(lambda connection: None)
    assert await database.read(words) == ["a"]


async def test_closing_finishes_what_was_asked(database: SqliteDatabase) -> None:
    asked = [asyncio.create_task(database.run(lambda c, n=n: insert(c, f"w{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*asked) == [f"w{n}" for n in range(5)]
    assert [path.name for path in database.path.parent.iterdir()] == ["words.db"], "the WAL was folded into the file"


async def test_a_closed_database_says_so_and_may_be_opened_again(database: SqliteDatabase) -> None:
    await database.close()
    await database.close()
    for call in (database.run, database.read):
        with pytest.raises(StoreUnavailable) as failure:
            await call(words)
        assert str(failure.value) == f"{database.path} is not open."
    await database.open()
    await database.open()
    assert await database.read(words) == []


async def test_a_file_that_is_no_database_is_told_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are no pages of a database\n" * 100)
    database = SqliteDatabase(path, SCHEMA)
    with pytest.raises(ConfigurationError) as failure:
        await database.open()
    assert str(failure.value).startswith(f"{path}: file is not a database. ")
    with pytest.raises(StoreUnavailable, match="is not open"):
        await database.read(words)


async def test_a_folder_that_cannot_be_made_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as failure:
        await SqliteDatabase(tmp_path / "file" / "words.db").open()
    assert str(failure.value) == (
        f"The folder {tmp_path / 'file'} cannot be made (File exists); name one that this user may write."
    )
