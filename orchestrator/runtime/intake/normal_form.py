"""The normal form: the event as the topic carries it and as the other two forms are brought into."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from orchestrator.core.event import Event
from orchestrator.runtime.intake import limits, refusal
from orchestrator.runtime.intake.limits import INT_MAX, INT_MIN
from orchestrator.runtime.intake.moment import moment_ms

Value = TypeVar("Value")


class NormalForm(
    msgspec.Struct, Generic[Value], frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One event as sent. ``id`` is unset when the producer gave none, which only the gateway may mend.

    ``via`` and ``granted`` are the engine's own (see ``Event``). ``via`` is written first, so that what the engine has
    forwarded is known by its first bytes. ``Value`` is what a property may be; it matters to decoders only.
    """

    via: str = ""
    id: str | UnsetType
    type: str
    customer_id: str
    occurred_at: int | Annotated[datetime, msgspec.Meta(tz=True)]
    properties: dict[str, Value] = {}
    context: dict[str, Value] = {}
    source: str = ""
    granted: str = ""


#: How the record of an event that was forwarded begins, as ``encode_event`` writes it.
FORWARDED = b'{"via":"'

#: Unknown fields that are compared with ours; whoever sends more has not misspelt one.
COMPARED_MAX = 8
#: How deep the decoder follows by itself: its type doubles with each level, and events are rarely deeper.
DECODED_DEPTH_MAX = 6


@lru_cache
def normal_decoder(depth_max: int) -> Callable[[bytes], NormalForm[Any]]:
    """Return a decoder of well-formed events, which checks depth and integers while decoding, at no cost.

    What it refuses may still be acceptable, or deserves a better message: ``from_object`` has the last word.
    """
    value = _value(min(depth_max, DECODED_DEPTH_MAX) - 2)
    return msgspec.json.Decoder(cast(Any, NormalForm)[value]).decode


def _value(levels: int) -> Any:
    """Return the type of a JSON value that nests at most ``levels`` objects or lists."""
    scalar: Any = str | Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)] | float | bool | None
    if levels == 0:
        return scalar
    inner: Any = _value(levels - 1)
    # Types made at run time; only msgspec reads them.
    return scalar | cast(Any, dict)[str, inner] | cast(Any, list)[inner]


_encoder = msgspec.json.Encoder()


def encode_event(event: Event) -> bytes:
    """Return an event in normal form, as ``journey.events`` carries it; when it was received is the log's to say."""
    return _encoder.encode(
        NormalForm(
            id=event.id,
            type=event.type,
            customer_id=event.customer_id,
            occurred_at=event.occurred_at_ms,
            properties=event.properties,
            context=event.context,
            source=event.source,
            via=event.via,
            granted=event.granted,
        )
    )


FIELDS = NormalForm.__struct_fields__
#: Fields that producers fill in; the others are taken from trusted records only.
PRODUCERS_FIELDS = tuple(field for field in FIELDS if field not in {"via", "granted"})


def from_object(received: dict[str, Any]) -> NormalForm[Any]:
    """Return the event in a decoded JSON object, or refuse it naming the first field at fault.

    A field that looks like one of ours is refused rather than lost; any other unknown field is ignored, so that
    producers may be newer than we are.
    """
    unknown = received.keys() - set(FIELDS)
    for name in unknown if len(unknown) <= COMPARED_MAX else ():
        missing = [field for field in PRODUCERS_FIELDS if field not in received]
        if (refused := refusal.misspelt(name, missing)) is not None:
            raise refused
    event_id = received.get("id")
    if received.get("occurred_at") is None:
        raise refusal.missing("occurred_at", "Send the moment it happened, as RFC 3339 or epoch milliseconds.")
    return NormalForm(
        id=UNSET if event_id is None else limits.check_id("id", event_id),
        type=limits.check_type("type", received.get("type")),
        customer_id=limits.check_id("customer_id", received.get("customer_id")),
        occurred_at=moment_ms("occurred_at", received["occurred_at"]),
        properties=object_at(received, "properties"),
        context=object_at(received, "context"),
        source=string_at(received, "source"),
        via=string_at(received, "via"),
        granted=string_at(received, "granted"),
    )


def object_at(received: dict[str, Any], field: str) -> dict[str, Any]:
    """Return the object at ``field``; absent and null are the empty object."""
    value = received.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refusal.wrong_type(field, "an object", value)
    return value


def string_at(received: dict[str, Any], field: str) -> str:
    """Return the string at ``field``; absent and null are the empty string."""
    value = received.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refusal.wrong_type(field, "a string", value)
    return value
