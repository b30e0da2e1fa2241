"""The shelf: the published versions of a rulebook and which of them is active, as ``journey.rulebooks`` tells it.

The topic has two kinds of records, and compaction leaves the newest of each key:

===========  ==========================================================================================
key          value
===========  ==========================================================================================
VERSION      an edition: the version's files and what is listed of it; written once, never changed
``active``   an activation: which version is in force, since when each of its aggregates is kept, and which
             versions were in force before it, since compaction leaves none of their activations
===========  ==========================================================================================

Keys of a workspace other than "default" stand behind ``workspace:``. Values are msgpack, compressed. An edition is
written before the activation that names it, so whoever reads an activation has its files. All readers come to the
same shelf, whatever the moment at which they read, because all that decides is in the records and their stamps.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from orchestrator.errors import RulebookRefused
from orchestrator.rulebook.load import Loaded
from orchestrator.runtime.ports import RULEBOOKS, Outgoing, Record
from orchestrator.runtime.workspace import DEFAULT_WORKSPACE

log = logging.getLogger(__name__)

#: The files of a version, together; compressed they fit into one record with room to spare.
FILES_BYTES_MAX = 6_000_000
#: From the stamp of an activation until every process has switched: only then is a new aggregate kept everywhere.
SWITCH_WITHIN_MS = 1_000
#: Earlier activations that an activation remembers: what came before them is told by the ledger alone.
ACTIVATIONS_MAX = 500

_ACTIVE = "active"


class _Edition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    files: dict[str, bytes]
    author: str = ""
    note: str = ""
    journeys: tuple[str, ...] = ()
    aggregates: tuple[str, ...] = ()


class _Activation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    version: str
    author: str = ""
    since: dict[str, int] = {}
    folder: str = ""
    earlier: tuple[tuple[str, int], ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode_edition = msgspec.msgpack.Decoder(_Edition).decode
_decode_activation = msgspec.msgpack.Decoder(_Activation).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version on the shelf. ``published_at_ms`` is the log's stamp of its edition."""

    version: str
    published_at_ms: int
    author: str
    note: str
    journeys: tuple[str, ...]
    aggregates: tuple[str, ...] = field(repr=False)
    packed: bytes = field(repr=False)

    def files(self) -> dict[str, bytes]:
        """Return the version's files by path."""
        return _decode_edition(_unpacked(self.packed)).files


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """The version in force since ``since_ms``, the log's stamp of its activation.

    ``aggregates_since`` says from which log time each of its aggregates is kept without interruption; 0 is from before
    any customer. ``folder`` is the version that the watched folder of an embedded engine had by then.
    """

    version: str
    since_ms: int
    author: str
    aggregates_since: Mapping[str, int]
    folder: str = ""


class Shelf:
    """What the records read so far say. It also writes the next ones, which follow from what it holds."""

    def __init__(self, workspace: str) -> None:
        self._prefix = "" if workspace == DEFAULT_WORKSPACE else f"{workspace}:"
        self._published: dict[str, Published] = {}
        self._active: Active | None = None
        self._earlier: list[tuple[str, int]] = []
        self.next_offset = 0

    @property
    def active(self) -> Active | None:
        """The version in force; None before the first activation."""
        return self._active

    def activations(self) -> list[Active]:
        """Return what was in force when, the first activation first; of the older ones only version and moments."""
        found: list[Active] = []
        for version, since_ms in self._earlier:
            aggregates = self._published[version].aggregates if version in self._published else ()
            found.append(_following(found[-1] if found else None, version, since_ms, aggregates))
        return [*found, *([] if self._active is None else [self._active])]

    def published(self) -> list[Published]:
        """Return every version, the latest published first."""
        latest_first = list(self._published.values())[::-1]
        return sorted(latest_first, key=lambda one: -one.published_at_ms)

    def find(self, version: str) -> Published | None:
        """Return one version, None when it was never published."""
        return self._published.get(version)

    # ------------------------------------------------------------------------------------------- reading

    def apply(self, record: Record) -> None:
        """Take a record in. One that was read before changes nothing; one that makes no sense is reported."""
        if record.offset < self.next_offset:
            return
        self.next_offset = record.offset + 1
        key = (record.key or b"").decode(errors="replace")
        if not key.startswith(self._prefix) or ":" in key[len(self._prefix) :]:
            return  # It belongs to another workspace.
        name = key[len(self._prefix) :]
        try:
            if name == _ACTIVE:
                self._activate(record)
            else:
                self._place(name, record)
        except (msgspec.MsgspecError, zlib.error, RulebookRefused, KeyError) as error:
            log.error(
                "record %d of %s cannot be used, the rulebook in force stays: %r", record.offset, RULEBOOKS, error
            )

    def _place(self, version: str, record: Record) -> None:
        packed = record.value or b""
        edition = _decode_edition(_unpacked(packed))
        known = self._published.get(version)
        self._published[version] = Published(
            version=version,
            published_at_ms=record.stamp_ms if known is None else known.published_at_ms,
            author=edition.author,
            note=edition.note,
            journeys=edition.journeys,
            aggregates=edition.aggregates,
            packed=packed,
        )

    def _activate(self, record: Record) -> None:
        found = _decode_activation(_unpacked(record.value or b""))
        aggregates = self._published[found.version].aggregates
        new_ms = record.stamp_ms + SWITCH_WITHIN_MS
        # Records of earlier releases do not tell what was before them, but may still be there themselves.
        if found.earlier:
            self._earlier = list(found.earlier)
        elif self._active is not None:
            self._earlier = [*self._earlier, (self._active.version, self._active.since_ms)][-ACTIVATIONS_MAX:]
        self._active = Active(
            version=found.version,
            since_ms=record.stamp_ms,
            author=found.author,
            aggregates_since={name: found.since.get(name, new_ms) for name in aggregates},
            folder=found.folder,
        )

    # ------------------------------------------------------------------------------------------- writing

    def edition(self, loaded: Loaded, *, author: str, note: str) -> Outgoing:
        """Return the record that publishes a checked rulebook. Raise ``RulebookRefused`` when it is too large."""
        check_size(loaded.files)
        edition = _Edition(
            files=dict(loaded.files),
            author=author,
            note=note,
            journeys=tuple(sorted(journey.id for journey in loaded.journeys)),
            aggregates=tuple(sorted(one.name for one in loaded.aggregates)),
        )
        return self._record(loaded.version, edition)

    def activation(self, version: str, *, author: str, folder: str | None = None) -> Outgoing:
        """Return the record that puts a version of this shelf into force.

        Aggregates that the version before it has as well are kept on without a gap; of the others the record's own
        stamp says since when. The first version of all has kept everything from the beginning.
        """
        aggregates = self._published[version].aggregates
        before = self._active
        kept = dict.fromkeys(aggregates, 0) if before is None else before.aggregates_since
        known = self._earlier if before is None else [*self._earlier, (before.version, before.since_ms)]
        activation = _Activation(
            version=version,
            author=author,
            since={name: kept[name] for name in aggregates if name in kept},
            earlier=tuple(known[-ACTIVATIONS_MAX:]),
            folder=folder if folder is not None else before.folder if before is not None else "",
        )
        return self._record(_ACTIVE, activation)

    def _record(self, name: str, value: _Edition | _Activation) -> Outgoing:
        return Outgoing(RULEBOOKS, (self._prefix + name).encode(), zlib.compress(_encode(value)))


def _following(before: Active | None, version: str, since_ms: int, aggregates: Collection[str]) -> Active:
    """Return a past activation; what the version before it counted as well has been counted on without a gap."""
    kept = dict.fromkeys(aggregates, 0) if before is None else before.aggregates_since
    new_ms = since_ms + SWITCH_WITHIN_MS
    return Active(
        version=version,
        since_ms=since_ms,
        author="",
        aggregates_since={name: kept.get(name, new_ms) for name in aggregates},
    )


def check_size(files: Mapping[str, bytes]) -> None:
    """Raise ``RulebookRefused`` for files that together are larger than a version may be."""
    size = sum(len(content) for content in files.values())
    if size > FILES_BYTES_MAX:
        raise RulebookRefused(
            f"The files have {size} bytes together; a version has at most {FILES_BYTES_MAX}. Leave out what is no rule."
        )


def _unpacked(packed: bytes) -> bytes:
    """Return what was compressed; never inflates more than a version may hold."""
    stream = zlib.decompressobj()
    inflated = stream.decompress(packed, 2 * FILES_BYTES_MAX)
    if not stream.eof:
        raise RulebookRefused("it is cut short, or larger than a version may be")
    return inflated
