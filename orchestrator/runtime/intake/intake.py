"""The intake: one place that turns what producers send into events, for the topic and for HTTP alike.

The topic and the gateway take the same three forms, told apart by shape: the normal form, CloudEvents 1.0 and calls
of the Segment spec. The gateway writes normal form only, so the worker decodes most records in one step.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from orchestrator.core.event import (
    ACTION_SCHEDULED,
    ALIAS,
    CUSTOMER_ERASED,
    IDENTIFY,
    MERGE_REFUSED,
    MERGE_REQUESTED,
    PROFILE_MERGED,
    RECEIPTS,
    Event,
)
from orchestrator.core.moment import format_moment
from orchestrator.core.state import decode_state
from orchestrator.errors import EventRefused, StateUnreadable
from orchestrator.runtime.intake import cloudevents, limits, normal_form, refusal, segment
from orchestrator.runtime.intake.limits import ID_CHARS_MAX, Limits
from orchestrator.runtime.intake.moment import moment_ms
from orchestrator.runtime.intake.normal_form import FORWARDED, NormalForm, normal_decoder
from orchestrator.runtime.intake.refusal import RefusalCode
from orchestrator.runtime.ports import Record
from orchestrator.runtime.workspace import KeySpace

#: A customer's state, as it travels when two ids become one, may be larger than what producers send, and so may what is
#: forwarded to another id: written in normal form, an event can be four times as long as it was sent.
PROFILE_BYTES_MAX = 900_000
_PROFILE = f'{{"id":"{PROFILE_MERGED}:'.encode()
#: What dispatchers report, dated by their own clocks: true whatever these say, and nobody would send it again.
_REPORTED = RECEIPTS | {ACTION_SCHEDULED}
#: Where an event names further ids of its customer, or other customers: what each can become the customer of an event.
_NAMED_IDS: Mapping[str, Sequence[tuple[str, str]]] = {
    ALIAS: (("properties", "previous_id"),),
    IDENTIFY: (("context", "anonymous_id"),),
    MERGE_REQUESTED: (("properties", "into"), ("properties", "asked")),
    PROFILE_MERGED: (("properties", "previous_id"),),
    MERGE_REFUSED: (("properties", "previous_id"),),
    CUSTOMER_ERASED: (("properties", "by"),),
}
#: Events that say nothing without the other id.
_NAMING_SOMEBODY = frozenset({ALIAS, PROFILE_MERGED})
#: The engine's own events are about whoever it knows, also by an id that would not be taken from a producer today.
_OWN = _REPORTED | {CUSTOMER_ERASED, MERGE_REQUESTED, PROFILE_MERGED, MERGE_REFUSED}
#: Type names are checked once; beyond this many, each time.
TYPES_LEARNT_MAX = 4_096
#: What decoding hostile bytes can raise.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_decode_any = msgspec.json.Decoder().decode
_decode_pieces = msgspec.json.Decoder(list[msgspec.Raw]).decode


Headers = Sequence[tuple[str, bytes]]


class TrackingPlanCheck(Protocol):
    """Says whether an event is one that the rulebook declares."""

    def check(self, event_type: str, properties: dict[str, Any], /) -> EventRefused | None:
        """Return why the event is refused, or None; what says the same in a declared type may be replaced by it."""
        ...


class Intake:
    """Turns records and request bodies into events; every refusal is an ``EventRefused``, never another exception.

    ``plan`` may be replaced by assignment when another rulebook comes into force.
    """

    def __init__(
        self, plan: TrackingPlanCheck, workspace: str, limits: Limits, neighbours: Collection[str] = ()
    ) -> None:
        self.plan = plan
        self.workspace = workspace
        self.limits = limits
        self._decode_normal = normal_decoder(limits.depth_max)
        self._types: set[str] = set()
        self.keys = KeySpace(workspace, neighbours)

    def key(self, customer_id: str) -> bytes:
        """Return the record key of a customer: ``customer_id``, behind ``workspace:`` unless that is "default"."""
        return self.keys.key(customer_id)

    def from_record(self, record: Record) -> Event:
        """Return the event in a record of ``journey.events``; the record's stamp is when it was received.

        Raise ``EventRefused`` for whatever is not exactly one acceptable event of the customer in the key.
        """
        return self._event_of(record, self.decode(_value(record), record.stamp_ms, record.headers))

    def events_from_record(self, record: Record) -> list[Event]:
        """Return all events of a record, which may be a batch of one customer: a list, or a Segment batch.

        One bad event refuses the record, so that a record has either its whole effect or none.
        """
        normals = self.decode_all(_value(record), record.stamp_ms, record.headers)
        return [self._event_of(record, normal) for normal in normals]

    def decode_all(self, value: bytes, received_at_ms: int, headers: Headers = ()) -> list[NormalForm[Any]]:
        """Return one event, or all of a batch, as ``decode`` does."""
        try:
            return [self.decode(value, received_at_ms, headers)]
        except EventRefused as refused:
            if refused.code != RefusalCode.UNKNOWN_FORM:
                raise
            normals = self._batch(value, received_at_ms)
            if normals is None:
                raise
            return normals

    def _batch(self, value: bytes, received_at_ms: int) -> list[NormalForm[Any]] | None:
        if value.lstrip()[:1] == b"[":
            return [self.decode(piece, received_at_ms) for piece in split(value)]
        if (batch := segment.open_batch(value, self.limits)) is None:
            return None
        calls = (batch.completed(self.json_object(call)) for call in batch.calls)
        return [segment.from_object(call, received_at_ms) for call in calls]

    def _event_of(self, record: Record, normal: NormalForm[Any]) -> Event:
        if normal.id is UNSET:
            raise refusal.missing("id", "Send a unique id, and the same one when the event is sent again.")
        event = self.check(normal, normal.id, record.stamp_ms)
        if record.key != self.keys.key(event.customer_id):
            raise self._key_mismatch(record.key, event.customer_id)
        return event

    def decode(self, value: bytes, received_at_ms: int, headers: Headers = ()) -> NormalForm[Any]:
        """Return one event of any form as it was claimed: within size and depth, of the right types.

        ``check`` judges what it says.
        """
        if len(value) > self.limits.event_bytes_max and not is_own(value):
            raise refusal.too_large(len(value), self.limits.event_bytes_max)
        if headers and (attributes := cloudevents.attributes(headers)):
            size_bytes = len(value) + sum(len(f"{name}{text}".encode()) for name, text in attributes.items())
            if size_bytes > self.limits.event_bytes_max:
                raise refusal.too_large(size_bytes, self.limits.event_bytes_max)
            return self._binary(value, attributes, received_at_ms)
        try:
            return self._decode_normal(value)
        except UNDECODABLE:
            return self.recognise(self.json_object(value), received_at_ms)

    def check(self, normal: NormalForm[Any], event_id: str, received_at_ms: int) -> Event:
        """Return the event that ``normal`` claims, or refuse it. ``event_id`` stands where it has none."""
        customer_id, event_type = normal.customer_id, normal.type
        # isprintable is stricter than the rule and much cheaper; what fails it is looked at closely.
        if not (0 < len(event_id) <= ID_CHARS_MAX and event_id.isprintable()):
            limits.check_id("id", event_id)
        self.check_customer("customer_id", customer_id)
        if event_type in _NAMED_IDS:
            self._check_named_ids(event_type, normal)
        if event_type not in _OWN:
            limits.refuse_nobody("customer_id", customer_id, self.limits.nobody)
        if event_type not in self._types:
            self._learn_type(event_type)
        occurred_at_ms = moment_ms("occurred_at", normal.occurred_at)
        if occurred_at_ms > received_at_ms + self.limits.future_tolerance_ms:
            if event_type not in _REPORTED:
                raise self._future_dated(occurred_at_ms, received_at_ms)
            occurred_at_ms = received_at_ms
        if (refused := self.plan.check(event_type, normal.properties)) is not None:
            raise refused
        return Event(
            id=event_id,
            type=event_type,
            customer_id=customer_id,
            occurred_at_ms=occurred_at_ms,
            received_at_ms=received_at_ms,
            properties=normal.properties,
            context=normal.context,
            source=normal.source,
            via=normal.via,
            granted=normal.granted,
        )

    def check_customer(self, field: str, customer_id: str) -> str:
        """Return an id that a customer of this workspace can have; refuse any other, naming ``field``."""
        # isprintable is stricter than the rule and much cheaper; what fails it is looked at closely.
        if not (0 < len(customer_id) <= ID_CHARS_MAX and customer_id.isprintable()):
            limits.check_id(field, customer_id)
        if self.keys.shared and (owner := self.keys.encroaching(customer_id)):
            raise _encroaching(field, owner)
        return customer_id

    def _check_named_ids(self, event_type: str, normal: NormalForm[Any]) -> None:
        """Refuse what an event names as a customer and cannot be one; left out, null and empty name nobody."""
        for where, name in _NAMED_IDS[event_type]:
            value, field = getattr(normal, where).get(name), f"{where}.{name}"
            if value is None or value == "":
                if event_type in _NAMING_SOMEBODY:
                    raise refusal.missing(field, "Send the other id of the customer.")
                continue
            if not isinstance(value, str):
                raise refusal.wrong_type(field, "a string", value)
            self.check_customer(field, value)
            if event_type not in _OWN:
                limits.refuse_nobody(field, value, self.limits.nobody)
        if event_type == PROFILE_MERGED:
            _check_state(normal.properties.get("state"))

    def recognise(self, received: dict[str, Any], received_at_ms: int) -> NormalForm[Any]:
        """Return the event in a decoded JSON object, whichever form it has."""
        if "specversion" in received:
            return cloudevents.from_object(received, received_at_ms)
        if segment.is_call(received):
            return segment.from_object(received, received_at_ms)
        if "batch" in received and "type" not in received:
            raise EventRefused(
                RefusalCode.UNKNOWN_FORM,
                "batch",
                "A batch stands where one event is expected.",
                "Post Segment batches to /v1/batch; publish one event a record.",
            )
        if not received.keys() & {"id", "type", "customer_id", "occurred_at"}:
            raise EventRefused(
                RefusalCode.UNKNOWN_FORM,
                "",
                "The object has none of the forms of an event.",
                "Send id, type, customer_id, occurred_at and properties, a CloudEvent, or a Segment call.",
            )
        return normal_form.from_object(received)

    def json_object(self, value: bytes) -> dict[str, Any]:
        """Return the JSON object in ``value``, within depth and with integers of 64 bits at most."""
        received = decode_json(value, self.limits.depth_max)
        if not isinstance(received, dict):
            raise EventRefused(
                RefusalCode.UNKNOWN_FORM,
                "",
                f"An event is an object, not {refusal.json_type(received)}.",
                "Send one JSON object an event.",
            )
        limits.check_value("", received, self.limits.depth_max, depth=1)
        return received

    def _learn_type(self, event_type: str) -> None:
        limits.check_type("type", event_type)
        if len(self._types) < TYPES_LEARNT_MAX:
            self._types.add(event_type)

    def _binary(self, value: bytes, attributes: dict[str, Any], received_at_ms: int) -> NormalForm[Any]:
        if str(attributes.get("datacontenttype", "")).lower().startswith("application/cloudevents"):
            return self.recognise(self.json_object(value), received_at_ms)
        data = decode_json(value, self.limits.depth_max) if value else None
        limits.check_value("data", data, self.limits.depth_max, depth=2)
        return cloudevents.from_object({**attributes, "data": data}, received_at_ms)

    def _key_mismatch(self, key: bytes | None, customer_id: str) -> EventRefused:
        wanted = self.key(customer_id).decode()
        if key is None:
            message = "The record has no key."
        else:
            message = f"The record's key {refusal.shown(key.decode(errors='replace'))} is not the event's customer."
        return EventRefused(
            RefusalCode.KEY_MISMATCH,
            "customer_id",
            message,
            f"Publish the event under the key {refusal.shown(wanted)}.",
        )

    def _future_dated(self, occurred_at_ms: int, received_at_ms: int) -> EventRefused:
        ahead_s = (occurred_at_ms - received_at_ms) / 1000
        return EventRefused(
            RefusalCode.FUTURE_DATED,
            "occurred_at",
            f"occurred_at {format_moment(occurred_at_ms)} is {ahead_s:.0f} s ahead of the log; "
            f"{self.limits.future_tolerance_ms / 1000:.0f} s are tolerated.",
            "Set the producer's clock, and send the moment in UTC or with its offset.",
        )


def _encroaching(field: str, owner: str) -> EventRefused:
    return EventRefused(
        RefusalCode.INVALID_VALUE,
        field,
        f'{field} begins with "{owner}:", which marks the customers of another workspace.',
        "Send to the gateway of that workspace, or give the customer another id.",
    )


def _check_state(carried: Any) -> None:
    """Refuse a profile that is none: what hands one over is the engine, and this is not what it writes."""
    try:
        decode_state(b64decode(carried, validate=True))
    except (TypeError, ValueError, StateUnreadable):
        raise refusal.invalid(
            "properties.state",
            "properties.state is not the state of a customer.",
            "Leave profile_merged to the engine; send alias to unite two ids.",
        ) from None


def is_own(value: bytes) -> bool:
    """Return whether the engine has written a record: a customer's state that is handed over, or what is forwarded."""
    return value.startswith((_PROFILE, FORWARDED)) and len(value) <= PROFILE_BYTES_MAX


def _value(record: Record) -> bytes:
    if record.value is None:
        raise EventRefused(
            RefusalCode.NOT_JSON, "", "The record has no value.", "Publish one event a record; none can be deleted."
        )
    return record.value


def decode_json(value: bytes, depth_max: int) -> Any:
    """Return the JSON value in ``value``, or refuse it as not JSON or too deep to be read."""
    try:
        return _decode_any(value)
    except RecursionError:
        raise refusal.too_deep(depth_max) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as why:
        raise refusal.not_json(value, why) from None


def split(value: bytes) -> list[bytes]:
    """Return the texts of the members of a JSON list, undecoded; refuse what is no list, or one of a wrong number."""
    try:
        pieces = _decode_pieces(value)
    except RecursionError:
        raise EventRefused(
            RefusalCode.TOO_DEEP, "", "The list nests too deeply to be read.", "Flatten the events' properties."
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as why:
        raise refusal.not_json(value, why) from None
    if not 0 < len(pieces) <= limits.EVENTS_MAX:
        raise refusal.wrong_number(len(pieces), limits.EVENTS_MAX)
    return [bytes(piece) for piece in pieces]
