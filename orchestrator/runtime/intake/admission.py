"""Admission: which events of a request are taken, as records for the log, and which are refused and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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

EVENTS_PER_REQUEST_MAX = 10_000
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

Decode = Callable[[bytes, int], NormalForm[Any]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused event: its place in the request, why, and the text that was sent."""

    index: int
    error: EventRefused
    sent: bytes


@dataclass(slots=True)
class Admission:
    """What becomes of a request: records to append, their event ids in the order sent, and refusals.

    ``form`` is "normal", "cloudevents" or "segment"; ``letters_key`` the record key of what was refused.
    ``vouched`` are pairs of ids of which somebody who may has said that they are one.
    """

    form: str
    letters_key: bytes = UNKNOWN_CUSTOMER
    records: list[Outgoing] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    vouched: list[tuple[str, str]] = field(default_factory=list)

    def dead_letters(self, refused_at_ms: int) -> list[Outgoing]:
        """Return the records for ``journey.dead-letters`` of all refused events."""
        return [
            Outgoing(
                DEAD_LETTERS,
                self.letters_key,
                dead_letter.encode_dead_letter(
                    dead_letter.gateway_letter(each.error, self.letters_key, each.sent, refused_at_ms)
                ),
            )
            for each in self.refused
        ]


class HttpIntake:
    """The gateway's side of the intake: request bodies in, normal form for the log out.

    An event that comes without an id gets a random one: it is taken, but sent again it is another event. A body that
    cannot be told into events at all raises ``EventRefused``; a bad event among others is in ``Admission.refused``.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    @property
    def keys(self) -> KeySpace:
        """The record keys of the workspace."""
        return self._intake.keys

    def events(self, body: bytes, headers: Headers, received_at_ms: int, granted: str = "") -> Admission:
        """Take one event or a list in any form, or CloudEvents as their content type or ``ce-`` headers say.

        ``granted``, here and below, is who vouches for what an ``alias`` says of known people, '' for nobody.
        """
        media = _media_type(headers)
        if media == cloudevents.BATCHED:
            return self._admit_all(split(body), CLOUDEVENTS, self._cloudevent, received_at_ms, granted)
        if media == cloudevents.STRUCTURED:
            return self._admit_all([body], CLOUDEVENTS, self._cloudevent, received_at_ms, granted)
        if any(name.startswith("ce-") for name, _ in headers):
            binary = partial(self._intake.decode, headers=headers)
            return self._admit_all([body], CLOUDEVENTS, binary, received_at_ms, granted)
        pieces = split(body) if body.lstrip()[:1] == b"[" else [body]
        return self._admit_all(pieces, NORMAL, self._intake.decode, received_at_ms, granted)

    def call(self, call: str, body: bytes, received_at_ms: int, granted: str = "") -> Admission:
        """Take one Segment call; ``call`` is what its route says it is."""
        return self._admit_all([body], SEGMENT, partial(self._call, call), received_at_ms, granted)

    def batch(self, body: bytes, received_at_ms: int, granted: str = "") -> Admission:
        """Take a Segment batch."""
        batch = segment.decode_batch(body)
        if batch is None:
            decode_json(body, self._intake.limits.depth_max)
            raise EventRefused(
                RefusalCode.UNKNOWN_FORM,
                "batch",
                "The body has no list of calls under batch.",
                'Send {"batch": [...]} as the Segment spec says.',
            )
        call_of = partial(self._call_of, batch)
        admission = self._admit_all(batch.calls(), SEGMENT, call_of, received_at_ms, granted)
        admission.refused = [replace(each, sent=batch.completed_text(each.sent)) for each in admission.refused]
        return admission

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
        return records

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

    def _admit_all(
        self, pieces: list[bytes], form: str, decode: Decode, received_at_ms: int, granted: str
    ) -> Admission:
        if not 0 < len(pieces) <= EVENTS_PER_REQUEST_MAX:
            raise _wrong_number(len(pieces))
        admission = Admission(form, self._intake.key(UNKNOWN_CUSTOMER.decode()))
        for index, piece in enumerate(pieces):
            try:
                normal = _foreign(decode(piece, received_at_ms))
                if normal.type == ALIAS and granted:
                    normal = msgspec.structs.replace(normal, granted=granted)
                event_id, record = self._admit(normal, received_at_ms)
            except EventRefused as refused:
                admission.refused.append(Refusal(index, refused, piece))
            else:
                if normal.granted:
                    admission.vouched.append((normal.customer_id, normal.properties["previous_id"]))
                admission.ids.append(event_id)
                admission.records.append(record)
        return admission

    def _admit(
        self, normal: NormalForm[Any], received_at_ms: int, stand_in: str = "", *, may_be_own: bool = False
    ) -> tuple[str, Outgoing]:
        event_id = (stand_in or str(uuid4())) if normal.id is UNSET else normal.id
        event = self._intake.check(normal, event_id, received_at_ms)
        value = encode_event(event)
        if len(value) > self._intake.limits.event_bytes_max and not (may_be_own and is_own(value)):
            raise refusal.too_large(len(value), self._intake.limits.event_bytes_max)
        return event_id, Outgoing(EVENTS, self._intake.key(event.customer_id), value)


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


def _wrong_number(number: int) -> EventRefused:
    if number == 0:
        return EventRefused(RefusalCode.UNKNOWN_FORM, "", "The list has no events.", "Send at least one event.")
    return EventRefused(
        RefusalCode.TOO_LARGE,
        "",
        f"The request has {number} events; at most {EVENTS_PER_REQUEST_MAX} are allowed.",
        "Send them in several requests.",
    )
