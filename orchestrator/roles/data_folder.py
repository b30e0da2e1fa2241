"""The data folder of an embedded engine: one process has it at a time, one workspace for good."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from orchestrator.adapters.sqlite import close_to_others
from orchestrator.adapters.sqlite_file import check_file
from orchestrator.errors import ConfigurationError
from orchestrator.settings import DEFAULT_WORKSPACE, WORKSPACE

DATABASE = "journey.sqlite3"
RECORD = "received.jsonl"
SECRET = "receiver-secret"
_WORKSPACE = "workspace"
_OTHER = "Name another with --data or JOURNEY_DATA."


@contextlib.contextmanager
def sole_owner(data: Path) -> Iterator[None]:
    """Hold the data folder for this process and this user; a second engine on it would only be fenced off.

    Raises ``ConfigurationError`` when it cannot be made, written or held.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The data folder {data} cannot be made ({error.strerror}). {_OTHER}") from None
    close_to_others(data)
    try:
        # Not emptied: it says which process holds the folder.
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"The data folder {data} cannot be written ({error.strerror}). {_OTHER}") from None
    with os.fdopen(descriptor, "r+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another engine{_process(lock.read(20))} runs on the data folder {data}. "
                "Stop it, or choose another with --data."
            ) from None
        except OSError as error:
            raise ConfigurationError(f"The data folder {data} cannot be locked ({error.strerror}). {_OTHER}") from None
        with contextlib.suppress(OSError):  # On a full disk nobody can be told who holds the folder; it is held.
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        yield


def _process(written: bytes) -> str:
    return f" (process {int(written)})" if written.strip().isdigit() else ""


def check_data(data: Path, workspace: str) -> bool:
    """Return whether the folder was in use before; raise ``ConfigurationError`` when it must not be used now.

    It belongs to its workspace for good: a database holds customers of one, under their bare ids. And it must still
    have its database: who went on without would forget every event, and contact everybody again.
    """
    owner, database = data / _WORKSPACE, data / DATABASE
    known = _workspace_of(owner)
    if (known is not None or database.exists()) and (known or DEFAULT_WORKSPACE) != workspace:
        raise ConfigurationError(
            f'The data folder {data} belongs to the workspace "{known or DEFAULT_WORKSPACE}", not to "{workspace}". '
            "Name another folder with --data, or correct JOURNEY_WORKSPACE."
        )
    # All of these are written after the database has its tables.
    left = [one for one in (_WORKSPACE, f"{DATABASE}-wal", SECRET, RECORD) if _filled(data / one)]
    if left and not _filled(database):
        what = "is empty" if database.exists() else "is missing"
        raise ConfigurationError(
            f"The data folder {data} was in use, as {', '.join(left)} shows, but its {DATABASE} {what}. "
            "Put that back from a backup. To start afresh on purpose, remove the folder."
        )
    check_file(database)
    return bool(left)


def note_workspace(data: Path, workspace: str) -> None:
    """Bind the folder to the workspace, once its database is there."""
    owner = data / _WORKSPACE
    if not owner.exists():
        owner.write_text(f"{workspace}\n", encoding="utf-8")


def _workspace_of(owner: Path) -> str | None:
    """Return the name in the file, None when there is no file, or nothing in it yet."""
    try:
        with owner.open("rb") as file:
            text = file.read(200)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{owner} cannot be read ({error.strerror}). Mend it. {_OTHER}") from None
    name = text.decode(errors="replace").strip()
    if text and not re.fullmatch(WORKSPACE, name):
        raise ConfigurationError(
            f"{owner} holds no name of a workspace. Write the one that the data belong to into it; without "
            f'JOURNEY_WORKSPACE that is "{DEFAULT_WORKSPACE}".'
        )
    return name or None


def _filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
