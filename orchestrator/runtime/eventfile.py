"""Event files: JSON lines and CSV, as ``journey send`` and ``journey backtest`` read them.

A JSON line is an event in any of the three forms. It may carry ``received_at``, the log's stamp, so that an
exported log replays exactly; without it an event counts as received when it occurred, never before the
line above it. In CSV the columns ``id, type, customer_id, occurred_at`` are the envelope and all others
properties; a cell that is empty is left out, one that is a JSON number, boolean, list or object is read as such.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from orchestrator.core.event import Event
from orchestrator.core.moment import parse_moment
from orchestrator.errors import ConfigurationError, EventRefused
from orchestrator.runtime.intake import UNDECODABLE, Intake
from orchestrator.runtime.intake.moment import moment_ms
from orchestrator.runtime.ports import Record

ENVELOPE = ("id", "type", "customer_id", "occurred_at", "source", "received_at")


class Line(NamedTuple):
    """One event as written. ``stamp_ms`` is its ``received_at``, or None."""

    number: int
    value: bytes
    stamp_ms: int | None


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that is no acceptable event."""

    number: int
    refused: EventRefused


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the events of a file as they are written. Raises ``ConfigurationError`` when it cannot be read."""
    try:
        yield from _csv_lines(path) if path.suffix == ".csv" else _json_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {path}: {error}") from error


def _json_lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if value := text.strip():
                yield _json_line(number, value)


def _json_line(number: int, value: bytes) -> Line:
    if b'"received_at"' not in value:
        return Line(number, value, None)
    try:
        decoded = msgspec.json.decode(value)
    except UNDECODABLE:
        return Line(number, value, None)
    if not isinstance(decoded, dict) or "received_at" not in decoded:
        return Line(number, value, None)
    stamp_ms = parse_moment(decoded.pop("received_at"))
    return Line(number, msgspec.json.encode(decoded), stamp_ms)


def _csv_lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            event: dict[str, Any] = {name: _moment_or_text(name, row[name]) for name in ENVELOPE if row.get(name)}
            event["properties"] = {
                name: _cell(text) for name, text in row.items() if name and name not in ENVELOPE and text
            }
            stamp_ms = parse_moment(event.pop("received_at", None))
            yield Line(rows.line_num, msgspec.json.encode(event), stamp_ms)


def _moment_or_text(name: str, text: str) -> int | str:
    return int(text) if name.endswith("_at") and text.isdigit() else text


def _cell(text: str) -> Any:
    if text[0] in "-0123456789[{tf":
        try:
            return msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return text
    return text


def read_events(path: Path, intake: Intake) -> Iterator[Event | RefusedLine]:
    """Yield the events of a file in log order, and what is refused where it stands."""
    stamp_ms = 0
    for line in read_lines(path):
        try:
            normal = intake.decode(line.value, line.stamp_ms or stamp_ms)
            claimed_ms = moment_ms("occurred_at", normal.occurred_at)
            stamp_ms = max(stamp_ms, claimed_ms if line.stamp_ms is None else line.stamp_ms)
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
