"""Event files: JSON lines and tables, as ``journey send`` and ``journey backtest`` read them, a piece at a time.

A JSON line is an event in any of the three forms. It may carry ``received_at``, the log's stamp, so that an
exported log replays exactly; without it an event counts as received when it occurred, never before the
line above it. ``event_table`` says how a table (``.csv``, ``.tsv``) is read. Files are UTF-8 or, with its mark at their
beginning, UTF-16; a table that is neither is read as Windows-1252, as spreadsheets write it, and that is told.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from orchestrator.core.event import Event
from orchestrator.errors import ConfigurationError, EventRefused
from orchestrator.rulebook.tracking_plan import TrackingPlan
from orchestrator.runtime.event_table import Row, rows_of
from orchestrator.runtime.intake import UNDECODABLE, Intake, RefusalCode
from orchestrator.runtime.intake.moment import moment_ms
from orchestrator.runtime.ports import Record

#: The name of standard input.
STDIN = Path("-")
#: A line is no longer than this; what is longer is refused without being held in memory.
LINE_BYTES_MAX = 8_000_000
_HEAD_BYTES = 1 << 16
_TABLES = frozenset({".csv", ".tsv", ".tab"})
_LINES = frozenset({".jsonl", ".ndjson", ".json", ".log"})
_BYTES_AT_ONCE = 1 << 20

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Line(NamedTuple):
    """One event as written. ``received_at`` is its stamp, as written as well, or None; ``cells`` those of a row."""

    number: int
    value: bytes
    received_at: Any
    cells: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that is no acceptable event; ``written`` is what it says, where that is known."""

    number: int
    refused: EventRefused
    written: Any = None


class EventFile:
    """A file, a pipe or standard input (``-``) on its way through; use it as a context manager, and read it once.

    ``notes`` say what was found out of how it is written, and are whole once the first line was read. Raises
    ``ConfigurationError`` when it cannot be read at all.
    """

    def __init__(self, path: Path, plan: TrackingPlan | None = None) -> None:
        self.path = path
        self.notes: list[str] = []
        self.plan = plan
        self._file = sys.stdin.buffer if path == STDIN else _opened(path)
        found = os.fstat(self._file.fileno())
        #: How many bytes there are, or None for what comes through a pipe.
        self.bytes_total = found.st_size if stat.S_ISREG(found.st_mode) and path != STDIN else None

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path != STDIN:
            self._file.close()

    @property
    def bytes_read(self) -> int:
        """How far the file was read."""
        return 0 if self.bytes_total is None else self._file.tell()

    def lines(self) -> Iterator[Line | RefusedLine]:
        """Yield the events as they are written, and what is no event where it stands."""
        try:
            yield from self._table(self._head) if self.is_table else self._json_lines(self._head)
        except OSError as error:
            raise ConfigurationError(f"Cannot read {self.path}: {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"Cannot read {self.path}: {error}. Save it as UTF-8.") from error

    @property
    def _head(self) -> bytes:
        return cast(io.BufferedReader, self._file).peek(_HEAD_BYTES)[:_HEAD_BYTES]

    @property
    def is_table(self) -> bool:
        """Whether rows of cells are events, which ``plan`` tells the kinds of; waits for the first bytes of a pipe."""
        suffix = self.path.suffix.lower()
        if suffix in _TABLES | _LINES:
            return suffix in _TABLES
        head = self._head
        text = head.decode(_marked(head) or "latin-1", errors="ignore")
        return not text.lstrip("\ufeff").lstrip().startswith(("{", "["))

    def _json_lines(self, head: bytes) -> Iterator[Line | RefusedLine]:
        if _marked(head) == "utf-16":
            yield from self._wide_lines()
            return
        number = 0
        while text_line := self._file.readline(LINE_BYTES_MAX):
            number += 1
            if len(text_line) == LINE_BYTES_MAX and not text_line.endswith(b"\n"):
                while (rest := self._file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                    pass
                yield RefusedLine(number, _too_long())
            elif value := (text_line.removeprefix(codecs.BOM_UTF8) if number == 1 else text_line).strip():
                yield _json_line(number, value)

    def _wide_lines(self) -> Iterator[Line]:
        self.notes.append("it is UTF-16")
        text = io.TextIOWrapper(self._file, "utf-16")
        try:
            yield from (_json_line(number, one.strip().encode()) for number, one in enumerate(text, 1) if one.strip())
        finally:
            text.detach()

    def _table(self, head: bytes) -> Iterator[Line | RefusedLine]:
        encoding = _marked(head) or self._unmarked(head)
        first_line = next(iter(head.decode(encoding, errors="ignore").lstrip("\ufeff").splitlines()), "")
        text = io.TextIOWrapper(self._file, encoding, newline="")
        line = 0
        try:
            for row in rows_of(text, first_line, self.plan, self.notes):
                line = row.number
                yield _table_line(row)
        except ConfigurationError as error:
            raise ConfigurationError(f"Cannot read {self.path}: {error}") from None
        except csv.Error as error:
            raise ConfigurationError(
                f"Cannot read {self.path}: in the row that begins on line {max(line, 1) + 1}: {error}. "
                "Shorten the cell, or close the quotation mark that it begins with."
            ) from error
        finally:
            text.detach()

    def _unmarked(self, head: bytes) -> str:
        """Return the encoding of a table without a mark; one that comes through a pipe cannot be looked at first."""
        if self.bytes_total is None or _is_encoded(self.path, "utf-8"):
            return "utf-8"
        if b"\0" in head or not _is_encoded(self.path, "cp1252"):
            raise ConfigurationError(
                f"Cannot read {self.path}: it is neither UTF-8 nor Windows-1252. Save it as UTF-8."
            )
        self.notes.append("it is not UTF-8 and is read as Windows-1252; look at its accents, or save it as UTF-8")
        return "cp1252"


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=_HEAD_BYTES)
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error}") from error


def _marked(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else None


def _is_encoded(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while piece := file.read(_BYTES_AT_ONCE):
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _too_long() -> EventRefused:
    message = f"The line is longer than {LINE_BYTES_MAX} bytes."
    return EventRefused(RefusalCode.TOO_LARGE, "", message, "Send one JSON object an event, a line each.")


def _json_line(number: int, value: bytes) -> Line:
    if b'"received_at"' not in value:
        return Line(number, value, None)
    try:
        members = _decode_members(value)
        received_at = msgspec.json.decode(members.pop("received_at", b"null"))
    except UNDECODABLE:
        return Line(number, value, None)
    return Line(number, msgspec.json.encode(members), received_at)


def _table_line(row: Row) -> Line | RefusedLine:
    if isinstance(row.event, EventRefused):
        return RefusedLine(row.number, row.event, row.cells)
    received_at = row.event.pop("received_at", None)
    return Line(row.number, msgspec.json.encode(row.event), received_at, row.cells)


def read_events(
    path: Path, intake: Intake, plan: TrackingPlan | None = None, told: Callable[[str], None] | None = None
) -> Iterator[Event | RefusedLine]:
    """Yield the events of a file in log order, and what is refused where it stands.

    ``plan`` says what the cells of a table are; ``told`` hears what was found out of how the file is written.
    """
    stamp_ms = 0
    with EventFile(path, plan) as file:
        for line in file.lines():
            while file.notes:
                note = file.notes.pop(0)
                if told is not None:
                    told(f"{path}: {note}.")
            if isinstance(line, RefusedLine):
                yield line
                continue
            try:
                given_ms = None if line.received_at is None else moment_ms("received_at", line.received_at)
                normal = intake.decode(line.value, given_ms or stamp_ms)
                claimed_ms = moment_ms("occurred_at", normal.occurred_at)
                stamp_ms = max(stamp_ms, claimed_ms if given_ms is None else given_ms)
                event_id = normal.id if isinstance(normal.id, str) else f"line-{line.number}"
                yield intake.check(normal, event_id, stamp_ms)
            except EventRefused as refused:
                yield RefusedLine(line.number, refused)


def events_of(record: Record, intake: Intake) -> list[Event | RefusedLine]:
    """Return the events of a record of the log; a refused record stands where it was, under its offset."""
    try:
        return list(intake.events_from_record(record))
    except EventRefused as refused:
        return [RefusedLine(record.offset, refused)]
