"""Admission: which events of a request are taken, as records for the log, and which are refused and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET

from orchestrator.core.event import (
    ACTION_SCHEDULED,
    ALIAS,
    CUSTOMER_ERASED,
    MERGE_REFUSED,
    MERGE_REQUESTED,
    PROFILE_MERGED,
    RECEIPTS,
)
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import cloudevents, dead_letter, refusal, segment
from orchestrator.runtime.intake.dead_letter import DeadLetter
from orchestrator.runtime.intake.intake import Headers, Intake, decode_json, is_own, split
from orchestrator.runtime.intake.normal_form import NormalForm, encode_event
from orchestrator.runtime.intake.refusal import RefusalCode
from orchestrator.runtime.ports import DEAD_LETTERS, EVENTS, Outgoing
from orchestrator.runtime.workspace import KeySpace

NORMAL, CLOUDEVENTS, SEGMENT = "normal", "cloudevents", "segment"
#: The key of a dead letter whose customer nobody knows.
UNKNOWN_CUSTOMER = b"unknown"

#: Types of the engine's own events, and what to do instead of sending them.
_OWN = {
    MERGE_REQUESTED: "Send alias to unite two ids.",
    PROFILE_MERGED: "Send alias to unite two ids.",
    MERGE_REFUSED: "Send alias to unite two ids.",
    CUSTOMER_ERASED: "Erase with DELETE /v1/customers/{id}, which takes the role operator.",
    ACTION_SCHEDULED: "The dispatcher says what it has booked.",
    **dict.fromkeys(RECEIPTS, "Report what became of an action to /v1/outcomes, signed."),
}

#: What an event takes beside its text until the log has it: its id, its key, why it is refused.
AROUND_BYTES = 500
#: Events that are admitted at a stretch.
STEP_EVENTS = 500

Decode = Callable[[bytes, int], NormalForm[Any]]
Admit = Callable[[NormalForm[Any], int], tuple[str, Outgoing]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused event: its place in the request, why, and the text that was sent."""

    index: int
    error: EventRefused
    sent: bytes


@dataclass(slots=True)
class Admission:
    """What becomes of a parcel: records to append, their event ids in the order sent, and refusals.

    ``form`` is "normal", "cloudevents" or "segment"; ``letters_key`` the record key of what was refused, and ``batch``
    what those events leave to their batch. ``vouched`` are pairs of ids of which somebody who may has said that they
    are one.
    """

    form: str
    letters_key: bytes = UNKNOWN_CUSTOMER
    batch: segment.Batch | None = None
    records: list[Outgoing] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    vouched: list[tuple[str, str]] = field(default_factory=list)

    def sent_by(self, producer: str) -> list[Outgoing]:
        """Return the records, each of which says whom it is from: never what was sent, only who sent it, tells that."""
        return _from(producer, self.records)

    def dead_letters(self, refused_at_ms: int, producer: str = "") -> list[Outgoing]:
        """Return the records for ``journey.dead-letters`` of all refused events."""
        return [
            Outgoing(
                DEAD_LETTERS,
                self.letters_key,
                dead_letter.encode_dead_letter(
                    dead_letter.gateway_letter(
                        each.error, self.letters_key, self._whole(each.sent), refused_at_ms, producer
                    )
                ),
            )
            for each in self.refused
        ]

    def _whole(self, sent: bytes) -> bytes:
        return sent if self.batch is None else self.batch.completed_text(sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A request's events, counted and within bounds, and not decoded yet: what it costs is known before the work.

    ``pieces`` are the texts of the events, ``batch`` what a Segment batch lends to each of them. ``granted`` is who
    vouches for what an ``alias`` among them says of known people, '' for nobody.
    """

    form: str
    pieces: Sequence[bytes]
    decode: Decode
    admit: Admit
    letters_key: bytes
    received_at_ms: int
    granted: str = ""
    batch: segment.Batch | None = None

    @property
    def number(self) -> int:
        """How many events there are."""
        return len(self.pieces)

    @property
    def size_bytes(self) -> int:
        """What the events come to until the log has them: with what a batch lends them, and what surrounds them."""
        lent = 0 if self.batch is None else self.batch.lent_bytes
        return sum(map(len, self.pieces)) + self.number * (lent + AROUND_BYTES)

    def admission(self) -> Admission:
        """Return what becomes of all events."""
        *_, admission = self.steps()
        return admission

    def steps(self) -> Iterator[Admission]:
        """Yield the one admission after every ``STEP_EVENTS``, and when it is whole: others may run in between."""
        admission = Admission(self.form, self.letters_key, self.batch)
        for start in range(0, self.number, STEP_EVENTS):
            for index, piece in enumerate(self.pieces[start : start + STEP_EVENTS], start):
                self._add(admission, index, piece)
            yield admission

    def _add(self, admission: Admission, index: int, piece: bytes) -> None:
        try:
            normal = _foreign(self.decode(piece, self.received_at_ms))
            if normal.type == ALIAS and self.granted:
                normal = msgspec.structs.replace(normal, granted=self.granted)
            event_id, record = self.admit(normal, self.received_at_ms)
        except EventRefused as refused:
            # A fresh one, for the one that was raised holds on to all that was decoded.
            error = EventRefused(refused.code, refused.field, str(refused), refused.remedy)
            admission.refused.append(Refusal(index, error, piece))
        else:
            if normal.granted:
                admission.vouched.append((normal.customer_id, normal.properties["previous_id"]))
            admission.ids.append(event_id)
            admission.records.append(record)


class HttpIntake:
    """The gateway's side of the intake: request bodies in, normal form for the log out.

    An event that comes without an id gets a random one: it is taken, but sent again it is another event. A body that
    cannot be told into events at all, or comes to more than is taken at once, raises ``EventRefused``; a bad event
    among others is in ``Admission.refused``.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    @property
    def keys(self) -> KeySpace:
        """The record keys of the workspace."""
        return self._intake.keys

    def events(self, body: bytes, headers: Headers, received_at_ms: int, granted: str = "") -> Parcel:
        """Open one event or a list in any form, or CloudEvents as their content type or ``ce-`` headers say.

        ``granted``, here and below, is who vouches for what an ``alias`` says of known people, '' for nobody.
        """
        media = _media_type(headers)
        if media == cloudevents.BATCHED:
            return self._parcel(split(body), CLOUDEVENTS, self._cloudevent, received_at_ms, granted)
        if media == cloudevents.STRUCTURED:
            return self._parcel([body], CLOUDEVENTS, self._cloudevent, received_at_ms, granted)
        if any(name.startswith("ce-") for name, _ in headers):
            binary = partial(self._intake.decode, headers=headers)
            return self._parcel([body], CLOUDEVENTS, binary, received_at_ms, granted)
        pieces = split(body) if body.lstrip()[:1] == b"[" else [body]
        return self._parcel(pieces, NORMAL, self._intake.decode, received_at_ms, granted)

    def call(self, call: str, body: bytes, received_at_ms: int, granted: str = "") -> Parcel:
        """Open one Segment call; ``call`` is what its route says it is."""
        return self._parcel([body], SEGMENT, partial(self._call, call), received_at_ms, granted)

    def batch(self, body: bytes, received_at_ms: int, granted: str = "") -> Parcel:
        """Open a Segment batch."""
        batch = segment.open_batch(body, self._intake.limits)
        if batch is None:
            decode_json(body, self._intake.limits.depth_max)
            raise EventRefused(
                RefusalCode.UNKNOWN_FORM,
                "batch",
                "The body has no list of calls under batch.",
                'Send {"batch": [...]} as the Segment spec says.',
            )
        return self._parcel(batch.calls, SEGMENT, partial(self._call_of, batch), received_at_ms, granted, batch)

    def again(self, letter: DeadLetter, received_at_ms: int) -> list[Outgoing]:
        """Return the records that send a dead letter's events again, under their customers' own keys.

        An event without an id gets one that follows from the letter, so that sending it twice is sending it once.
        Raises ``EventRefused`` while the reason stands.
        """
        value = letter.value or b""
        normals = self._intake.decode_all(value, letter.refused_at_ms, letter.headers)
        if letter.origin == "gateway":
            normals = [_foreign(normal) for normal in normals]
        records = []
        for index, normal in enumerate(normals):
            stand_in = blake2b(b"%d:" % index + value, digest_size=16).hexdigest()
            own = letter.origin == "worker"
            records.append(self._admit(normal, received_at_ms, stand_in, may_be_own=own)[1])
        return _from(letter.producer, records)

    def _cloudevent(self, piece: bytes, received_at_ms: int) -> NormalForm[Any]:
        return cloudevents.from_object(self._intake.json_object(piece), received_at_ms)

    def _call(self, call: str, piece: bytes, received_at_ms: int) -> NormalForm[Any]:
        received = self._intake.json_object(piece)
        named = received.get("type")
        if named is not None and named != call:
            raise refusal.invalid(
                "type",
                f"type {refusal.shown(named)} came to /v1/{call}.",
                f'Send "{call}", or post it to its own route.',
            )
        return segment.from_object({**received, "type": call}, received_at_ms)

    def _call_of(self, batch: segment.Batch, piece: bytes, received_at_ms: int) -> NormalForm[Any]:
        return segment.from_object(batch.completed(self._intake.json_object(piece)), received_at_ms)

    def _parcel(
        self,
        pieces: list[bytes],
        form: str,
        decode: Decode,
        received_at_ms: int,
        granted: str,
        batch: segment.Batch | None = None,
    ) -> Parcel:
        return Parcel(
            form=form,
            pieces=pieces,
            decode=decode,
            admit=self._admit,
            letters_key=self._intake.key(UNKNOWN_CUSTOMER.decode()),
            received_at_ms=received_at_ms,
            granted=granted,
            batch=batch,
        )

    def _admit(
        self, normal: NormalForm[Any], received_at_ms: int, stand_in: str = "", *, may_be_own: bool = False
    ) -> tuple[str, Outgoing]:
        event_id = (stand_in or str(uuid4())) if normal.id is UNSET else normal.id
        event = self._intake.check(normal, event_id, received_at_ms)
        value = encode_event(event)
        if len(value) > self._intake.limits.event_bytes_max and not (may_be_own and is_own(value)):
            raise refusal.too_large(len(value), self._intake.limits.event_bytes_max)
        return event_id, Outgoing(EVENTS, self._intake.key(event.customer_id), value)


def _from(producer: str, records: list[Outgoing]) -> list[Outgoing]:
    return [Outgoing(one.topic, one.key, one.value, producer) for one in records]


def _foreign(normal: NormalForm[Any]) -> NormalForm[Any]:
    """Return an event that producers may send; refuse the engine's own.

    These erase a customer, carry the state of one to another, or say what became of an action: none of it is for
    whoever holds a write key, which a page on the web may show to anybody. Nor is it to say who vouches for an event.
    """
    for name in ("via", "granted"):
        if getattr(normal, name):
            raise refusal.invalid(name, f"{name} is the engine's own.", f"Leave {name} out.")
    remedy = _OWN.get(normal.type)
    if remedy is not None:
        raise refusal.invalid("type", f"type {normal.type} is the engine's own.", remedy)
    return normal


def _media_type(headers: Headers) -> str:
    value = next((value for name, value in headers if name == "content-type"), b"")
    return value.partition(b";")[0].strip().lower().decode("latin-1")
