"""The folder of a rulebook: read whole and as of one moment, or not at all.

A rulebook without one of its files is another rulebook. So whatever keeps a file or a subfolder from being read is a
``FolderFault``, and a folder that changes while it is read is read again. What editors leave beside the files (hidden
files, swap files, backups) is not named like a file of rules and is not looked at.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.gather import role_of
from orchestrator.rulebook.source import BYTES_MAX

#: Files of rules in one folder, which is as many as a publication may have.
FILES_MAX = 5_000
#: Entries that are looked at: who names a whole disk by mistake hears of it at once.
ENTRIES_MAX = 50_000
#: Of all files together; a version may be smaller still, but cases and a draft to be linted count here.
FOLDER_BYTES_MAX = 64_000_000
#: Folders inside a rulebook that hold no rules.
_SKIPPED = ("schema", "__pycache__", "node_modules")
#: Readings of a folder that is being changed, until it counts as unreadable.
_READINGS_MAX = 3

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class FolderFault(ConfigurationError):
    """A folder cannot be read as a whole; ``place`` is what is in the way, printable, and the message the remedy."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


class _Gone(FolderFault):
    """Something went while it was looked at; looking again finds how things are now."""

    def __init__(self, path: str) -> None:
        super().__init__(printable(path), "this is no longer there")


class Stamp(NamedTuple):
    """What of a file differs when it was changed, replaced, or its rights were."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


Listing = Mapping[str, Stamp]


def printable(path: str) -> str:
    """Return a path as it can be shown anywhere: bytes that are no text and control characters are escaped."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], path)


def existing_folder(folder: Path) -> os.stat_result:
    """Return what a folder is. Raises ``FolderFault`` when it is not there, or no folder."""
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FolderFault(_shown(folder), "there is no such folder; name the one with your journeys") from None
    except OSError as error:
        raise _unreadable(folder.as_posix(), error) from None
    if not stat.S_ISDIR(found.st_mode):
        raise FolderFault(_shown(folder), "this is no folder; name the one with your journeys")
    return found


def folder_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a rulebook by their path in its folder, cases included, all as of one moment.

    Raises ``FolderFault`` when there is no such folder, when anything in it cannot be read, and when it does not stand
    still. Of a file that is larger than any may be, only so much is read as shows it.
    """
    for _ in range(_READINGS_MAX):
        try:
            listing = folder_listing(folder)
            files = dict(_contents(folder, listing))
            if folder_listing(folder) == listing:
                return files
        except _Gone:
            continue
    raise _being_changed(folder)


def folder_listing(folder: Path) -> Listing:
    """Return what tells whether ``folder_files`` would find something else than before. Reads no file.

    Raises ``FolderFault`` as that does; a file that cannot be opened is only met there.
    """
    for _ in range(_READINGS_MAX):
        try:
            return dict(_walk(folder))
        except _Gone:
            continue
    raise _being_changed(folder)


def file_content(path: Path) -> bytes:
    """Return what a file holds, or a little more than any file of rules may. Raises ``FolderFault``; never waits."""
    try:
        # Opening a pipe to read it would wait for somebody who writes to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FolderFault(printable(str(path)), _NO_FILE)
            return file.read(BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(str(path), error) from None


_NO_FILE = "this is named like a file of rules, but is none; remove or rename it"
_FOLDER = "this is named like a file of rules, but is a folder; rename it, or put the file in its place"
_LOOP = "this link leads back to where it stands; remove it"
_DANGLING = "this link leads to nothing; mend or remove it"
_NAME = "the name is no plain UTF-8 text; rename it"


def _walk(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield every file of rules with its stamp. Links are followed, as mounted folders are made of them."""
    root = existing_folder(folder)
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ((root.st_dev, root.st_ino),))]
    entries = files = 0
    while waiting:
        inside, above = waiting.pop()
        for entry in _entries(folder, inside):
            entries += 1
            if entries > ENTRIES_MAX:
                raise FolderFault(_shown(folder), f"more than {ENTRIES_MAX:,} files; name the folder of journeys alone")
            path = f"{inside}/{entry.name}" if inside else entry.name
            found = _found(folder, path, entry)
            if found is None:
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.append((path, _within(folder, path, found, above)))
                continue
            files += 1
            if files > FILES_MAX:
                raise FolderFault(_shown(folder), f"more than {FILES_MAX:,} files of rules; split the folder")
            yield path, Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _entries(folder: Path, inside: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder / inside) as listed:
            kept = (entry for entry in listed if not entry.name.startswith(".") and entry.name not in _SKIPPED)
            return sorted(kept, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable((folder / inside).as_posix(), error) from None


def _found(folder: Path, path: str, entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return what an entry is when it is a subfolder or a file of rules; None for what is neither."""
    shown = printable((folder / path).as_posix())
    ruled = bool(role_of(path))
    try:
        if not ruled and not entry.is_symlink() and not entry.is_dir():
            return None
        found = entry.stat()
    except OSError as error:
        if error.errno == errno.ENOENT and entry.is_symlink():
            raise FolderFault(shown, _DANGLING) from None
        raise _unreadable((folder / path).as_posix(), error) from None
    if ruled:
        if _UNPRINTABLE.search(path):
            raise FolderFault(shown, _NAME)
        if not stat.S_ISREG(found.st_mode):
            raise FolderFault(shown, _FOLDER if stat.S_ISDIR(found.st_mode) else _NO_FILE)
    return found if ruled or stat.S_ISDIR(found.st_mode) else None


def _within(
    folder: Path, path: str, found: os.stat_result, above: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    """Return the folders that enclose a subfolder, itself included; one that encloses itself is a loop of links."""
    identity = (found.st_dev, found.st_ino)
    if identity in above:
        raise FolderFault(printable((folder / path).as_posix()), _LOOP)
    return (*above, identity)


def _contents(folder: Path, listing: Listing) -> Iterator[tuple[str, bytes]]:
    size = 0
    for path in sorted(listing):
        content = file_content(folder / path)
        size += len(content)
        if size > FOLDER_BYTES_MAX:
            raise FolderFault(_shown(folder), f"more than {FOLDER_BYTES_MAX:,} bytes; leave out what is no rule")
        yield path, content


def _unreadable(path: str, error: OSError) -> FolderFault:
    """Return what to raise for a failure of the system."""
    if error.errno == errno.ENOENT:
        return _Gone(path)
    if error.errno == errno.ELOOP:
        return FolderFault(printable(path), _LOOP)
    reason = error.strerror or str(error)
    remedy = "give this user the right to read it" if isinstance(error, PermissionError) else "mend or remove it"
    return FolderFault(printable(path), f"this cannot be read ({reason}); {remedy}")


def _being_changed(folder: Path) -> FolderFault:
    return FolderFault(_shown(folder), "the folder is being changed; try again when nothing writes to it")


def _shown(folder: Path) -> str:
    return printable(folder.as_posix())
