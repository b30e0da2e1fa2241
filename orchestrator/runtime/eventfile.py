"""Event files: JSON lines and CSV, as ``journey send`` and ``journey backtest`` read them.

A JSON line is an event in any of the three forms. It may carry ``received_at``, the log's stamp, so that an
exported log replays exactly; without it an event counts as received when it occurred, never before the
line above it. In CSV the columns ``id, type, customer_id, occurred_at`` are the envelope and all others
properties; a cell that is empty is left out, one that is a JSON number, boolean, list or object is read as such.
Files are UTF-8; the byte order mark that spreadsheets put before it is no part of what they say.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from orchestrator.core.event import Event
from orchestrator.core.moment import number_or_text
from orchestrator.errors import ConfigurationError, EventRefused
from orchestrator.runtime.intake import UNDECODABLE, Intake
from orchestrator.runtime.intake.moment import moment_ms
from orchestrator.runtime.ports import Record

ENVELOPE = ("id", "type", "customer_id", "occurred_at", "source", "received_at")

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Line(NamedTuple):
    """One event as written. ``received_at`` is its stamp, as written as well, or None."""

    number: int
    value: bytes
    received_at: Any


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that is no acceptable event."""

    number: int
    refused: EventRefused


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the events of a file as they are written. Raises ``ConfigurationError`` when it cannot be read."""
    try:
        yield from _csv_lines(path) if path.suffix == ".csv" else _json_lines(path)
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"Cannot read {path}: {error}. Save it as UTF-8.") from error


def _json_lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if value := (text.removeprefix(codecs.BOM_UTF8) if number == 1 else text).strip():
                yield _json_line(number, value)


def _json_line(number: int, value: bytes) -> Line:
    if b'"received_at"' not in value:
        return Line(number, value, None)
    try:
        members = _decode_members(value)
        received_at = msgspec.json.decode(members.pop("received_at", b"null"))
    except UNDECODABLE:
        return Line(number, value, None)
    return Line(number, msgspec.json.encode(members), received_at)


def _csv_lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        try:
            for row in rows:
                yield _csv_line(rows.line_num, row)
        except csv.Error as error:
            raise ConfigurationError(
                f"Cannot read {path}: in the row that begins on line {rows.line_num + 1}: {error}. "
                "Shorten the cell, or close the quotation mark that it begins with."
            ) from error


def _csv_line(number: int, row: dict[str, Any]) -> Line:
    event: dict[str, Any] = {name: _moment_or_text(name, row[name]) for name in ENVELOPE if row.get(name)}
    event["properties"] = {name: _cell(text) for name, text in row.items() if name and name not in ENVELOPE and text}
    received_at = event.pop("received_at", None)
    return Line(number, msgspec.json.encode(event), received_at)


def _moment_or_text(name: str, text: str) -> int | str:
    return number_or_text(text) if name.endswith("_at") else text


def _cell(text: str) -> Any:
    if text[0] in "-0123456789[{tf":
        try:
            return msgspec.json.decode(text)
        except RecursionError:
            return msgspec.Raw(text.encode())  # The intake refuses what nests so deeply, under the number of its line.
        except msgspec.MsgspecError:
            return text
    return text


def read_events(path: Path, intake: Intake) -> Iterator[Event | RefusedLine]:
    """Yield the events of a file in log order, and what is refused where it stands."""
    stamp_ms = 0
    for line in read_lines(path):
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
