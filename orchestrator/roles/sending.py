"""``journey send``: a file of events into a gateway, a batch at a time and in bounded memory.

What is refused, by the reading or by the gateway, goes into a file of its own, and the rest is sent. An import that was
interrupted, however, goes on where its journal says. What may have been taken already is sent again under the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple, Protocol

import httpx
import msgspec
import xxhash

from orchestrator.adapters.sqlite_occurrences import Occurrences
from orchestrator.errors import ConfigurationError, EventRefused, LogUnavailable
from orchestrator.roles.client import Busy, Fault, nobody_answers, post_events
from orchestrator.roles.import_journal import Journal, Reached, RefusedRows
from orchestrator.runtime.eventfile import EventFile, Line, RefusedLine
from orchestrator.runtime.intake import Limits, decode_json

BATCH_MAX = 500
BATCH_BYTES_MAX = 500_000
#: A gateway that has taken events and then does not is waited for so long, in all the pauses together.
PATIENCE_S = 600.0
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.5, 30.0
_SKIPPED_AT_ONCE = 10_000

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class FileChanged(ConfigurationError):
    """A file of which a part was sent is not the same any more; put it back, or begin anew with ``--restart``."""


class Listener(Protocol):
    """Who is told how the import goes."""

    def said(self, text: str) -> None:
        """Hear something that a person should know."""
        ...

    def moved(self, reached: Reached, bytes_read: int, bytes_total: int | None) -> None:
        """Hear how far it is."""
        ...


class _Row(NamedTuple):
    """A row on its way: its line, what is sent or why it is not, and what it says as it is written."""

    line: int
    value: bytes | EventRefused
    written: Any


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of an import. ``first_refused`` are some of the reasons, with their lines."""

    reached: Reached
    resumed_after: int
    first_refused: tuple[tuple[int, EventRefused], ...]


class Sending:
    """One import of a file. ``reached`` is how far it is, at any moment."""

    def __init__(self, file: EventFile, client: httpx.Client, listener: Listener, *, restart: bool = False) -> None:
        self._file = file
        self._client = client
        self._listener = listener
        self._answered = False
        # What comes through a pipe cannot be read again, and nothing is kept beside it.
        self.resumable = file.bytes_total is not None
        self._journal = Journal.beside(file.path, str(client.base_url)) if self.resumable else Journal(None)
        self.refused_rows = RefusedRows(file.path if self.resumable else Path("stdin"))
        if restart:
            self._journal.remove()
        self.reached = self._journal.read()
        self._first_refused: list[tuple[int, EventRefused]] = []

    def run(self) -> Sent:
        """Send the file. Raises ``ConfigurationError``, and ``LogUnavailable`` when the gateway stays away."""
        begun = self.reached
        self.refused_rows.begin(begun.refused_bytes)
        if begun.rows:
            self._listener.said(f"going on after line {begun.line} of {self._file.path}")
        digest, rows, batch, size = xxhash.xxh3_128(), 0, list[_Row](), 0
        with Occurrences() as occurrences:
            for row in self._rows(digest.update, occurrences.number):
                rows += 1
                if rows <= begun.rows:
                    self._skip(rows, begun, digest.hexdigest)
                    continue
                batch.append(row)
                size += len(row.value) if isinstance(row.value, bytes) else 0
                if len(batch) >= BATCH_MAX or size >= BATCH_BYTES_MAX:
                    self._deliver(batch, rows, digest.hexdigest())
                    batch, size = [], 0
        if rows < begun.rows:
            raise self._changed(begun)
        if batch:
            self._deliver(batch, rows, digest.hexdigest())
        self._journal.remove()
        return Sent(self.reached, begun.line, tuple(self._first_refused))

    def _skip(self, rows: int, begun: Reached, digest: Callable[[], str]) -> None:
        if rows == begun.rows and digest() != begun.digest:
            raise self._changed(begun)
        if rows % _SKIPPED_AT_ONCE == 0:
            self._listener.moved(self.reached, self._file.bytes_read, self._file.bytes_total)

    def _changed(self, begun: Reached) -> FileChanged:
        return FileChanged(
            f"{self._file.path} has changed since its lines up to {begun.line} were sent. Put it back, or send it from "
            "its beginning with --restart: events that keep their ids count once."
        )

    # -------------------------------------------------------------------------------------------- reading

    def _rows(self, read: Callable[[bytes], None], occurrence: Callable[[bytes], int]) -> Iterator[_Row]:
        for line in self._file.lines():
            while self._file.notes:
                self._listener.said(f"{self._file.path}: {self._file.notes.pop(0)}")
            if isinstance(line, RefusedLine):
                read(msgspec.json.encode(line.written, order="sorted") + b"\n")
                yield _Row(line.number, line.refused, line.written)
                continue
            content = line.value if line.cells is None else msgspec.json.encode(line.cells, order="sorted")
            read(content + b"\n")
            yield _Row(line.number, _sendable(line, content, occurrence), line.cells or _shown(line.value))

    # -------------------------------------------------------------------------------------------- sending

    def _deliver(self, batch: Sequence[_Row], rows: int, digest: str) -> None:
        refused = [(row.line, row.value, row.written) for row in batch if isinstance(row.value, EventRefused)]
        sendable = [row for row in batch if isinstance(row.value, bytes)]
        bad = self._post(sendable)
        refused += [(row.line, why, row.written) for row, why in bad]
        refused.sort(key=lambda one: one[0])
        size = self.refused_rows.add(refused) if refused else self.reached.refused_bytes
        self._first_refused += [(line, why) for line, why, _ in refused][: 5 - len(self._first_refused)]
        self.reached = Reached(
            rows=rows,
            line=batch[-1].line,
            digest=digest,
            accepted=self.reached.accepted + len(sendable) - len(bad),
            refused=self.reached.refused + len(refused),
            refused_bytes=size,
        )
        self._journal.write(self.reached)
        self._listener.moved(self.reached, self._file.bytes_read, self._file.bytes_total)

    def _post(self, rows: Sequence[_Row]) -> list[tuple[_Row, EventRefused]]:
        """Send rows, without those that the gateway refuses, and return these."""
        if not rows:
            return []
        faults = self._patiently([row.value for row in rows if isinstance(row.value, bytes)])
        if not faults:
            return []
        named = {fault.index: fault.refused for fault in faults if fault.index is not None and fault.index < len(rows)}
        if named:
            rest = [row for index, row in enumerate(rows) if index not in named]
            return [(rows[index], refused) for index, refused in named.items()] + self._post(rest)
        if len(rows) == 1:
            return [(rows[0], faults[0].refused)]
        middle = len(rows) // 2
        return self._post(rows[:middle]) + self._post(rows[middle:])

    def _patiently(self, events: Sequence[bytes]) -> list[Fault]:
        """Post events; a gateway that was there is waited for, and one that asks for a pause gets it."""
        pause_s, waited_s = _PAUSE_FIRST_S, 0.0
        while True:
            try:
                faults = post_events(self._client, events)
                self._answered = True
                return faults
            except Busy as busy:
                wait_s, why = pause_s if busy.wait_s is None else busy.wait_s, f"the gateway answers {busy}"
                waited_s += 0 if busy.wait_s is not None and why.startswith("the gateway answers 429") else wait_s
            except httpx.TransportError as error:
                if not self._answered:
                    raise nobody_answers(self._client, error) from error
                wait_s, why = pause_s, f"no gateway answers ({error})"
                waited_s += wait_s
            if waited_s > PATIENCE_S:
                raise LogUnavailable(f"Gave up after {PATIENCE_S:.0f} s: {why}")
            self._listener.said(f"{why}; trying again in {wait_s:g} s")
            sleep(wait_s)
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)


def _sendable(line: Line, content: bytes, occurrence: Callable[[bytes], int]) -> bytes | EventRefused:
    """Return the event of a line, with an id; or why it cannot stand in a batch, which is one JSON text."""
    try:
        decode_json(line.value, Limits().depth_max)
        named = line.cells if line.cells is not None else _members(line.value)
    except EventRefused as refused:
        return refused
    except msgspec.MsgspecError:
        return line.value  # JSON, but no object: the gateway says so.
    member = _id_member(named)
    if member is None:
        return line.value
    key = xxhash.xxh3_128_digest(content)
    return b'{"%s":"row-%s-%d",' % (member, key.hex().encode(), occurrence(key)) + line.value.lstrip()[1:]


def _id_member(named: dict[str, Any]) -> bytes | None:
    """Return the member that is to hold the id of an event that has none; None when it has, or is of no known form."""
    if "customer_id" in named and "type" in named:
        return None if "id" in named else b"id"
    if "type" in named and ("userId" in named or "anonymousId" in named):
        return None if "messageId" in named else b"messageId"
    return None


def _shown(value: bytes) -> Any:
    """Return what a line says, as JSON where it is JSON."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return value.decode(errors="replace")
