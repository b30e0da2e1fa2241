"""Calls of the Segment spec, brought into the normal form.

Source: the Segment spec (common fields; track, identify, page, screen, group, alias; the HTTP batch). ``messageId``
is the event id; ``userId``, else ``anonymousId``, the customer. The context keeps both as ``user_id`` and
``anonymous_id``: which of them the customer is says whether they are known by themselves, and an ``identify`` with both
makes the two one. A track call's ``event`` becomes the type in snake_case;
every other call is a type of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from orchestrator.core.event import ALIAS, IDENTIFY
from orchestrator.core.event_name import TYPE_CHARS_MAX, offered_type_name
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import limits, refusal
from orchestrator.runtime.intake.moment import moment_ms
from orchestrator.runtime.intake.normal_form import NormalForm, object_at

TRACK, PAGE, SCREEN, GROUP = "track", "page", "screen", "group"
CALLS = frozenset({TRACK, IDENTIFY, PAGE, SCREEN, GROUP, ALIAS})
_RESERVED = CALLS - {TRACK}
_MARKS = ("userId", "anonymousId", "messageId", "previousId", "groupId", "originalTimestamp", "sentAt")


def is_call(received: Mapping[str, Any]) -> bool:
    """Tell a Segment call from an event in normal form, by its shape."""
    call = received.get("type")
    return (
        isinstance(call, str)
        and call in CALLS
        and "customer_id" not in received
        and any(mark in received for mark in _MARKS)
    )


def from_object(received: dict[str, Any], received_at_ms: int) -> NormalForm[Any]:
    """Return the event in a call, or refuse it naming the field at fault. ``type`` must be one of ``CALLS``."""
    call = received["type"]
    message_id = received.get("messageId")
    context = object_at(received, "context")
    user_id, anonymous_id = _id(received, "userId"), _id(received, "anonymousId")
    customer_id = user_id or anonymous_id
    if call == ALIAS and not user_id:
        raise refusal.missing("userId", "Send the id that the customer is known by from now on.")
    if not customer_id:
        raise refusal.missing("userId", "Send userId, or anonymousId as long as the customer is not known.")
    if user_id:
        context = {**context, "user_id": user_id}
    if anonymous_id and user_id != anonymous_id:
        context = {**context, "anonymous_id": anonymous_id}
    return NormalForm(
        id=UNSET if message_id is None else limits.check_id("messageId", message_id),
        type=track_type(received.get("event")) if call == TRACK else call,
        customer_id=customer_id,
        occurred_at=occurred_at_ms(received, received_at_ms),
        properties=_properties(call, received),
        context=context,
        source=_library(context),
    )


def _id(received: Mapping[str, Any], field: str) -> str:
    value = received.get(field)
    if value is None or value == "":
        return ""
    # The libraries turn numeric ids into strings; a hand-written call may not.
    return limits.check_id(field, str(value) if type(value) is int else value)


def _properties(call: str, received: dict[str, Any]) -> dict[str, Any]:
    match call:
        case "identify":
            return object_at(received, "traits")
        case "group":
            if not (group_id := _id(received, "groupId")):
                raise refusal.missing("groupId", "Send the id of the group that the customer belongs to.")
            return {**object_at(received, "traits"), "group_id": group_id}
        case "alias":
            if not (previous_id := _id(received, "previousId")):
                raise refusal.missing("previousId", "Send the id that the customer was known by until now.")
            return {"previous_id": previous_id}
        case "page" | "screen":
            named = {name: received[name] for name in ("name", "category") if received.get(name) is not None}
            return {**object_at(received, "properties"), **named}
        case _:
            return object_at(received, "properties")


def track_type(event: Any) -> str:
    """Return the event type that the ``event`` of a track call names: "Lead Submitted" is lead_submitted."""
    if event is None or event == "":
        raise refusal.missing("event", 'Send the name of what happened, such as "Lead Submitted".')
    if not isinstance(event, str):
        raise refusal.wrong_type("event", "a string", event)
    name = offered_type_name(event)
    if not name:
        raise refusal.invalid(
            "event",
            f"event {refusal.shown(event)} cannot become an event type.",
            f"Begin with a letter and use letters a to z, digits and spaces, {TYPE_CHARS_MAX} at most.",
        )
    if name in _RESERVED:
        raise refusal.invalid(
            "event",
            f"event {refusal.shown(event)} would be taken for the call {name}.",
            f'Call {name}, or name the event otherwise, such as "{refusal.shortened(event)} Done".',
        )
    return name


def occurred_at_ms(received: Mapping[str, Any], received_at_ms: int) -> int:
    """Return when the call was made, corrected by the skew of the client's clock as Segment documents it:
    ``timestamp = receivedAt - (sentAt - originalTimestamp)``.

    Libraries send their own moment as ``timestamp``. A call that already has both ``originalTimestamp`` and
    ``timestamp`` was corrected by whoever relayed it. Without ``sentAt`` the moment stands as it is; without any
    moment the call happened when it was received.
    """
    original, timestamp = received.get("originalTimestamp"), received.get("timestamp")
    if original is not None and timestamp is not None:
        return moment_ms("timestamp", timestamp)
    if original is None and timestamp is None:
        return received_at_ms
    field = "timestamp" if original is None else "originalTimestamp"
    at_ms = moment_ms(field, received[field])
    if received.get("sentAt") is None:
        return at_ms
    return received_at_ms - (moment_ms("sentAt", received["sentAt"]) - at_ms)


def _library(context: Mapping[str, Any]) -> str:
    library = context.get("library")
    name = library.get("name") if isinstance(library, dict) else None
    return name if isinstance(name, str) and name else "segment"


class _BatchText(msgspec.Struct, frozen=True):
    """A Segment batch as its texts: none of them is decoded before it is known how much they come to."""

    batch: list[msgspec.Raw]
    sent_at: msgspec.Raw = msgspec.field(name="sentAt", default=msgspec.Raw(b"null"))
    context: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"))


@dataclass(frozen=True, slots=True)
class Batch:
    """A Segment batch: its calls as undecoded texts, and what holds for all of them, decoded once and shared.

    ``lent_bytes`` is what each call takes along of that.
    """

    calls: list[bytes]
    sent_at: Any
    context: dict[str, Any]
    lent_bytes: int

    def completed(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return a call with what it leaves to its batch; raise ``EventRefused`` when it is of no known type."""
        kind = call.get("type")
        if not isinstance(kind, str) or kind not in CALLS:
            raise unknown_call(kind)
        return self._lent(call)

    def completed_text(self, call: bytes) -> bytes:
        """Return the text of a call with what it leaves to its batch; of what is no call, the text as it is."""
        try:
            return msgspec.json.encode(self._lent(msgspec.json.decode(call, type=dict[str, Any])))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, EventRefused):
            return call

    def _lent(self, call: dict[str, Any]) -> dict[str, Any]:
        if self.sent_at is not None:
            call = {"sentAt": self.sent_at, **call}
        if self.context:
            own = object_at(call, "context")
            call = {**call, "context": {**self.context, **own} if own else self.context}
        return call


_decode_batch = msgspec.json.Decoder(_BatchText).decode


def open_batch(body: bytes, bounds: limits.Limits) -> Batch | None:
    """Return the batch in ``body``, or None when it is none.

    Raise ``EventRefused`` for one whose number of calls, or what it lends them, cannot be taken as a whole.
    """
    try:
        text = _decode_batch(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    number = len(text.batch)
    if not 0 < number <= limits.EVENTS_MAX:
        raise refusal.wrong_number(number, limits.EVENTS_MAX)
    for field, lent in (("sentAt", text.sent_at), ("context", text.context)):
        size = len(bytes(lent))
        if size > bounds.event_bytes_max:
            raise refusal.too_large(size, bounds.event_bytes_max, field)
        if size * number > limits.LENT_BYTES_MAX:
            raise refusal.lends_too_much(field, size, number, limits.LENT_BYTES_MAX)
    return Batch(
        calls=[bytes(call) for call in text.batch],
        sent_at=_shared("sentAt", text.sent_at, bounds),
        context=object_at({"context": _shared("context", text.context, bounds)}, "context"),
        lent_bytes=sum(len(bytes(lent)) for lent in (text.sent_at, text.context)),
    )


def _shared(field: str, text: msgspec.Raw, bounds: limits.Limits) -> Any:
    """Return what holds for all calls, decoded once and within the bounds that each of them has."""
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        raise refusal.too_deep(bounds.depth_max) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as why:
        raise refusal.not_json(bytes(text), why) from None
    limits.check_value(field, value, bounds.depth_max, depth=2)
    return value


def unknown_call(value: Any) -> EventRefused:
    """Return the refusal of a call whose ``type`` the Segment spec does not have."""
    if value is None:
        return refusal.missing("type", f"Send one of {', '.join(sorted(CALLS))}.")
    if not isinstance(value, str):
        return refusal.wrong_type("type", "a string", value)
    return refusal.invalid(
        "type", f"type {refusal.shown(value)} is not a call of the Segment spec.", f"Send {', '.join(sorted(CALLS))}."
    )
