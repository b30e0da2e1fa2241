"""A data folder belongs to one workspace for good, and to its owner alone; what is odd in it is told by name.

The databases in ``old_data`` were made by earlier engines: ``journey dev`` took an identify, a lead, a product viewed
and a cart, and was killed; then the write-ahead log was folded in and the file vacuumed and compressed. The first is
from before actions had groups, the second from before versions of the rulebook had 32 digits.
"""

from __future__ import annotations

import gzip
import os
import resource
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_file import APPLICATION_ID, FORMAT
from orchestrator.adapters.sqlite_probe import SCHEMA, SqliteProbe
from orchestrator.errors import ConfigurationError
from orchestrator.roles.data_folder import DATABASE, sole_owner
from orchestrator.roles.embedded import embedded, run_embedded
from orchestrator.settings import Settings

RULES = Path(__file__).parents[3] / "rules"
RECEIVER = "http://127.0.0.1:9"


def settings(data: Path, workspace: str) -> Settings:
    return Settings(data=data, rules=RULES, workspace=workspace)


async def test_another_workspace_is_refused_the_folder(tmp_path: Path) -> None:
    async with embedded(settings(tmp_path, "acme"), RECEIVER):
        pass
    with pytest.raises(ConfigurationError) as refused:
        async with embedded(settings(tmp_path, "globex"), RECEIVER):
            pass
    assert str(refused.value) == (
        f'The data folder {tmp_path} belongs to the workspace "acme", not to "globex". Name another folder with '
        "--data, or correct JOURNEY_WORKSPACE."
    )
    async with embedded(settings(tmp_path, "acme"), RECEIVER) as again:
        assert again.intake.key("c1") == b"acme:c1"


async def test_a_folder_from_before_workspaces_were_noted_is_the_default_ones(tmp_path: Path) -> None:
    async with embedded(settings(tmp_path, "default"), RECEIVER):
        pass
    (tmp_path / "workspace").unlink()
    with pytest.raises(ConfigurationError, match='belongs to the workspace "default", not to "globex"'):
        async with embedded(settings(tmp_path, "globex"), RECEIVER):
            pass


async def test_the_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    made, older = tmp_path / "made", tmp_path / "older"
    older.mkdir()
    older.chmod(0o755)
    for data in (made, older):
        async with embedded(settings(data, "default"), RECEIVER):
            files = {stat.filemode(path.stat().st_mode) for path in data.glob("journey.sqlite3*")}
        assert (stat.filemode(data.stat().st_mode), files) == ("drwx------", {"-rw-------"})


# ------------------------------------------------------------------------------------------- older and newer ones

OLD = Path(__file__).parent / "old_data"
AFRESH = "Name another folder with --data, or move this one away to start afresh."


def unpacked(name: str, data: Path) -> Path:
    data.mkdir()
    (data / DATABASE).write_bytes(gzip.decompress((OLD / f"{name}.sqlite3.gz").read_bytes()))
    (data / "workspace").write_text("default\n")
    return data


async def refusal(data: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        async with embedded(settings(data, "default"), RECEIVER):
            pass
    return str(refused.value)


async def test_a_database_from_before_formats_had_numbers_is_refused_by_name(tmp_path: Path) -> None:
    data = unpacked("before_groups", tmp_path / "data")
    assert await refusal(data) == (
        f"{data / DATABASE} was made by an older version of the engine, from before formats had numbers: its table "
        f"dispatch_queue has no action_group, busy, released, stamp_us. Start the version that made it. {AFRESH}"
    )


async def test_a_database_of_the_same_form_goes_on_and_gets_the_number(tmp_path: Path) -> None:
    data = unpacked("before_long_versions", tmp_path / "data")
    async with embedded(settings(data, "default"), RECEIVER) as engine:
        assert len(engine.rulebooks.current.version) == 32, "the folder of today is in force"
        (old,) = [one.version for one in engine.rulebooks.published() if len(one.version) == 12]
        assert engine.rulebooks.book(old).version == old, "plays that are pinned to it go on in it"
        activated = await engine.rulebooks.activate(old)
        assert activated is not None
        assert engine.rulebooks.current.version == old
        (state,) = await engine.store.load(0, ["asha"])
        assert state is not None
    async with embedded(settings(data, "default"), RECEIVER) as again:
        assert again.rulebooks.current.version == old
    assert numbers(data) == (APPLICATION_ID, FORMAT)


def numbers(data: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(data / DATABASE)) as file:
        return tuple(file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))


async def used(data: Path) -> Path:
    async with embedded(settings(data, "default"), RECEIVER):
        pass
    return data


async def test_a_newer_database_is_refused_by_name(tmp_path: Path) -> None:
    data = await used(tmp_path / "data")
    with closing(sqlite3.connect(data / DATABASE)) as file:
        file.execute(f"PRAGMA user_version = {FORMAT + 1}")
    assert await refusal(data) == (
        f"{data / DATABASE} has the format {FORMAT + 1}, but this version of the engine knows formats up to {FORMAT}. "
        f"Start the newer version that wrote it. {AFRESH}"
    )


# ----------------------------------------------------------------------------------------------- damaged ones


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY)")


def without_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("CREATE TABLE one (x)")
        file.execute("DROP TABLE one")


def shorter(path: Path, by: int) -> None:
    os.truncate(path, path.stat().st_size - by)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "emptied": (
        lambda path: path.write_bytes(b""),
        "The data folder {data} was in use, as workspace, receiver-secret shows, but its journey.sqlite3 is empty. "
        "Put that back from a backup. To start afresh on purpose, remove the folder.",
    ),
    "removed": (
        lambda path: path.unlink(),
        "The data folder {data} was in use, as workspace, receiver-secret shows, but its journey.sqlite3 is missing. "
        "Put that back from a backup. To start afresh on purpose, remove the folder.",
    ),
    "without its tables": (without_tables, "{path} is empty, but held an engine's data. " + AFRESH),
    "overwritten": (lambda path: path.write_text("notes\n" * 900), "{path} is no database. " + AFRESH),
    "a few bytes": (lambda path: path.write_bytes(b"SQLite format 3\0"), "{path} is no database. " + AFRESH),
    "another program's": (foreign, "{path} is a database of something else. " + AFRESH),
    "cut short": (
        lambda path: shorter(path, 5_000),
        "{path} is cut short: 5000 bytes are missing at its end. Put it back from a backup. " + AFRESH,
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_database_is_refused_by_name_and_left_alone(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    data = await used(tmp_path / "data")
    path = data / DATABASE
    damage(path)
    left = path.read_bytes() if path.exists() else None
    assert await refusal(data) == said.format(data=data, path=path)
    assert (path.read_bytes() if path.exists() else None) == left


async def test_a_start_that_a_crash_cut_off_before_there_was_anything_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"")
    (tmp_path / "lock").write_text("17\n")
    (tmp_path / "received.jsonl").write_bytes(b"")
    (tmp_path / "workspace").write_bytes(b"")
    await used(tmp_path)


# --------------------------------------------------------------------------------------------- what is beside it

ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a workspace that is no name": (
        lambda data: (data / "workspace").write_bytes(b"\xff\xfe!"),
        "{data}/workspace holds no name of a workspace. Write the one that the data belong to into it; without "
        'JOURNEY_WORKSPACE that is "default".',
    ),
    "a workspace that is a folder": (
        lambda data: (data / "workspace").unlink() or (data / "workspace").mkdir(),
        "{data}/workspace cannot be read (Is a directory). Mend it. Name another with --data or JOURNEY_DATA.",
    ),
    "a secret that is none": (
        lambda data: (data / "receiver-secret").write_bytes(b"\xffhello\n"),
        "{data}/receiver-secret holds no secret of a receiver. Remove it; it is made anew.",
    ),
    "a secret that is a folder": (
        lambda data: (data / "receiver-secret").unlink() or (data / "receiver-secret").mkdir(),
        "{data}/receiver-secret cannot be used (Is a directory). Remove it; it is made anew.",
    ),
    "a record with a line that is no JSON": (
        lambda data: (data / "received.jsonl").write_bytes(b"\xff{}\n"),
        "Line 1 of the record {data}/received.jsonl is no arrival. "
        "Mend or remove it: it only remembers what was shown.",
    ),
    "a record of something else": (
        lambda data: (data / "received.jsonl").write_text('{"at_ms": 1}\n'),
        "Line 1 of the record {data}/received.jsonl is no arrival. "
        "Mend or remove it: it only remembers what was shown.",
    ),
    "a record that is a folder": (
        lambda data: (data / "received.jsonl").mkdir(),
        "The receiver's record {data}/received.jsonl cannot be written ({data}/received.jsonl is not a regular file: "
        "a record is read back from its beginning). Mend it, or name another.",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), ODD.values(), ids=ODD)
async def test_an_odd_file_of_the_folder_is_told_by_name_with_the_remedy(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    data = await used(tmp_path / "data")
    spoil(data)
    with pytest.raises(ConfigurationError) as refused:
        await run_embedded(
            Settings(data=data, rules=RULES, port=0, receiver_port=0),
            demo=False,
            on_ready=lambda *_: pytest.fail("ran"),
        )
    assert str(refused.value) == said.format(data=data)


async def test_a_secret_that_a_crash_left_unwritten_is_made(tmp_path: Path) -> None:
    data = await used(tmp_path / "data")
    (data / "receiver-secret").write_bytes(b"")
    async with embedded(settings(data, "default"), RECEIVER) as engine:
        assert engine.environ["RECEIVER_SECRET"] == (data / "receiver-secret").read_text().strip() != ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("file", "The data folder {} cannot be made (File exists). Name another with --data or JOURNEY_DATA."),
        ("file/data", "The data folder {} cannot be made (Not a directory). Name another with --data or JOURNEY_DATA."),
        (
            "/proc/d",
            "The data folder {} cannot be made (No such file or directory). Name another with --data or JOURNEY_DATA.",
        ),
        (
            "/proc/self",
            "The data folder {} cannot be written (No such file or directory). "
            "Name another with --data or JOURNEY_DATA.",
        ),
        (
            "x" * 300,
            "The data folder {} cannot be made (File name too long). Name another with --data or JOURNEY_DATA.",
        ),
    ],
    ids=["a file", "below a file", "where none can be made", "where nothing can be written", "too long"],
)
def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path, data: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as refused, sole_owner(tmp_path / data):
        pass
    assert str(refused.value) == said.format(tmp_path / data)


def test_a_folder_that_is_held_names_the_process_that_holds_it(tmp_path: Path) -> None:
    with sole_owner(tmp_path), pytest.raises(ConfigurationError) as refused, sole_owner(tmp_path):
        pass
    assert str(refused.value) == (
        f"Another engine (process {os.getpid()}) runs on the data folder {tmp_path}. "
        "Stop it, or choose another with --data."
    )
    with sole_owner(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


# ------------------------------------------------------------------------------------------------- readiness


async def test_readiness_is_what_a_write_comes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of this process may grow any more, as on a full disk."""
    monkeypatch.setattr("orchestrator.adapters.sqlite_probe.KEPT_S", 0)
    database = SqliteDatabase(tmp_path / DATABASE, SCHEMA)
    await database.open()
    probe = SqliteProbe(database)
    assert await probe.obstacle() is None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / f"{DATABASE}-wal").stat().st_size, hard))
    try:
        found = await probe.obstacle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found is not None
    assert found.startswith(f"Nothing can be written: {tmp_path / DATABASE}: ")
    assert found.endswith(". Make room on its disk, or mend what is named.")
    assert await probe.obstacle() is None
    await database.close()
