"""What arrived: each id once, the latest in memory, all of them in a file when one is given.

The file has one JSON line per first arrival, written before the sender gets its answer. It is read back at the
start, so that ids are still known, and totals still right, after the receiver was killed. It is for its owner alone:
what customers were sent stands in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

#: Ids that are remembered; the oldest are forgotten first. About 100 MB when full.
IDS_MAX = 500_000


class RecordUnreadable(Exception):
    """A line of the record is no arrival, so that what follows cannot be trusted either; names file and line."""


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One delivery as it first came in. Moments are epoch milliseconds; ``repeats`` counts later arrivals of its id.

    ``told`` names what was said of it since the receiver started.
    """

    at_ms: int
    path: str
    id: str
    kind: str
    customer_id: str = ""
    rule: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    decided_at: int | None = None
    deadline_at: int | None = None
    latency_ms: int | None = None
    attempt: int | None = None
    signed: bool = False
    repeats: int = 0
    told: list[str] = field(default_factory=list)


_line_of_record = TypeAdapter(Arrival)


class Arrivals:
    """Remembers arrivals by path and id. Not for several processes over one file."""

    def __init__(self, *, keep: int, record_path: Path | None = None) -> None:
        self.total = 0
        self.repeats = 0
        self.version = 0
        self._latest: deque[Arrival] = deque(maxlen=keep)
        # The insertion order of a dict is the order in which ids are forgotten.
        self._known: dict[tuple[str, str], Arrival | None] = {}
        self._file: BinaryIO | None = None
        if record_path is not None:
            if record_path.exists() and not record_path.is_file():
                raise OSError(f"{record_path} is not a regular file: a record is read back from its beginning")
            record_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _opened(record_path)
            try:
                self._read_back(self._file, record_path)
            except BaseException:
                self._file.close()
                raise

    def take(self, arrival: Arrival) -> bool:
        """Keep the arrival and return True; return False for an id that this path has had before.

        Raises ``OSError`` when the file cannot take the line: then nothing has arrived.
        """
        known = (arrival.path, arrival.id)
        if known in self._known:
            self.repeats += 1
            self.version += 1
            if (first := self._known[known]) is not None:
                first.repeats += 1
            return False
        if self._file is not None:
            _append(self._file, arrival)
        self._remember(arrival)
        return True

    def latest(self, limit: int, kind: str = "") -> list[Arrival]:
        """Return up to ``limit`` arrivals, newest first, of one kind or of all."""
        chosen = [arrival for arrival in reversed(self._latest) if not kind or arrival.kind == kind]
        return chosen[:limit]

    def find(self, path: str, arrival_id: str) -> Arrival | None:
        """Return an arrival that is still readable."""
        return self._known.get((path, arrival_id))

    def note_told(self, arrival: Arrival, outcome: str) -> None:
        """Remember that ``outcome`` was said of an arrival."""
        if outcome not in arrival.told:
            arrival.told.append(outcome)
        self.version += 1

    def clear(self) -> None:
        """Forget everything, ids and the file's lines included."""
        if self._file is not None:
            self._file.truncate(0)
        self._latest.clear()
        self._known.clear()
        self.total = self.repeats = 0
        self.version += 1

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _remember(self, arrival: Arrival) -> None:
        if len(self._latest) == self._latest.maxlen:
            oldest = self._latest[0]
            # The id stays known, its content does not.
            self._known[oldest.path, oldest.id] = None
        self._latest.append(arrival)
        self._known[arrival.path, arrival.id] = arrival
        if len(self._known) > IDS_MAX:
            del self._known[next(iter(self._known))]
        self.total += 1
        self.version += 1

    def _read_back(self, file: BinaryIO, path: Path) -> None:
        """Load earlier arrivals and cut off a last line that a crash left unfinished: its sender had no answer."""
        file.seek(0)
        whole = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                self._remember(_line_of_record.validate_json(line))
            except ValidationError:
                raise RecordUnreadable(f"Line {number} of the record {path} is no arrival.") from None
            whole += len(line)
        file.truncate(whole)


def _opened(path: Path) -> BinaryIO:
    """Open the file to read and append, made for its owner alone; one of ours is closed to others where it was not."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "a+b", buffering=0)
    found = os.fstat(file.fileno())
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        with contextlib.suppress(OSError):  # A file system without modes has none to change.
            os.fchmod(file.fileno(), 0o600)
    return file


def _append(file: BinaryIO, arrival: Arrival) -> None:
    line = json.dumps(asdict(arrival), separators=(",", ":")).encode() + b"\n"
    end = file.seek(0, 2)
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written")
    except OSError:
        file.truncate(end)
        raise
