"""Refusals: why an event cannot be accepted, in a closed list of words and in sentences that help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

import msgspec

from orchestrator.errors import EventRefused

SHOWN_CHARS_MAX = 60


class RefusalCode(StrEnum):
    """The closed list behind ``EventRefused.code``, metrics labels and dead letters."""

    NOT_JSON = "not_json"  # the bytes are not JSON text
    UNKNOWN_FORM = "unknown_form"  # JSON, but none of the three forms
    TOO_LARGE = "too_large"  # more bytes, or more events, than allowed
    TOO_DEEP = "too_deep"  # objects and lists nested too deeply
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"  # most likely a field of ours, misspelt
    WRONG_TYPE = "wrong_type"  # another JSON type than the field's
    INVALID_VALUE = "invalid_value"  # the right JSON type, a value that cannot be
    FUTURE_DATED = "future_dated"
    KEY_MISMATCH = "key_mismatch"  # the record's key does not name the event's customer
    UNKNOWN_TYPE = "unknown_type"  # the tracking plan does not declare the event type
    UNKNOWN_PROPERTY = "unknown_property"  # the tracking plan does not declare the property
    WRONG_PROPERTY = "wrong_property"  # the property is not what the tracking plan declares
    RAGGED = "ragged"  # a row of a table with more cells than there are columns
    CUSTOMER_UNKNOWN = "customer_unknown"  # a provider's report that concerns nobody we know


_NAMES = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}


def json_type(value: Any) -> str:
    """Return the JSON type of a decoded value, with its article."""
    return _NAMES.get(type(value), "null")


def shown(value: Any) -> str:
    """Return a value as JSON text, short enough for a message."""
    return shortened(msgspec.json.encode(value).decode())


def shortened(text: str) -> str:
    """Return what somebody sent, short enough to stand in a message or a path."""
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


def missing(field: str, remedy: str) -> EventRefused:
    """Return the refusal of an event that lacks ``field``."""
    return EventRefused(RefusalCode.MISSING_FIELD, field, f"{field} is missing.", remedy)


def wrong_type(field: str, wanted: str, value: Any, remedy: str = "") -> EventRefused:
    """Return the refusal of a field whose JSON type is not ``wanted`` ("a string")."""
    message = f"{field} must be {wanted}, not {json_type(value)}."
    return EventRefused(RefusalCode.WRONG_TYPE, field, message, remedy or f"Send {wanted}.")


def invalid(field: str, message: str, remedy: str) -> EventRefused:
    """Return the refusal of a value that has the right JSON type and still cannot be."""
    return EventRefused(RefusalCode.INVALID_VALUE, field, message, remedy)


def too_large(size_bytes: int, bytes_max: int, field: str = "") -> EventRefused:
    """Return the refusal of an event of too many bytes, or of a ``field`` that would make every event one."""
    return EventRefused(
        RefusalCode.TOO_LARGE,
        field,
        f"{field or 'The event'} has {size_bytes} bytes; at most {bytes_max} are allowed.",
        "Send only the properties that rules read, and references instead of documents.",
    )


def wrong_number(number: int, number_max: int) -> EventRefused:
    """Return the refusal of a request, or of a record that is a batch, of no events or of too many."""
    if number == 0:
        return EventRefused(RefusalCode.UNKNOWN_FORM, "", "The list has no events.", "Send at least one event.")
    return EventRefused(
        RefusalCode.TOO_LARGE,
        "",
        f"The request has {number} events; at most {number_max} are allowed.",
        "Send them in several requests.",
    )


def lends_too_much(field: str, size_bytes: int, number: int, bytes_max: int) -> EventRefused:
    """Return the refusal of a batch whose ``field`` would be repeated in too many bytes over its calls."""
    return EventRefused(
        RefusalCode.TOO_LARGE,
        field,
        f"{field} has {size_bytes} bytes, which each of the {number} calls would take along; together at most "
        f"{bytes_max} bytes are allowed.",
        f"Send fewer calls at once, or leave out of {field} what the rules do not read.",
    )


def too_deep(depth_max: int) -> EventRefused:
    """Return the refusal of an event nested too deeply."""
    return EventRefused(
        RefusalCode.TOO_DEEP,
        "",
        f"The event nests objects or lists more than {depth_max} deep.",
        "Flatten its properties.",
    )


def not_json(value: bytes, why: Exception) -> EventRefused:
    """Return the refusal of bytes that are not JSON, with the likeliest cause as its remedy."""
    if isinstance(why, UnicodeDecodeError):
        reason, remedy = "a string is not UTF-8", "Encode the event as UTF-8."
    elif b"NaN" in value or b"Infinity" in value:
        reason, remedy = "NaN and Infinity are no JSON numbers", "Send null, or leave the property out."
    elif b"\\ud" in value.lower():
        reason, remedy = "an escape stands for half a character", "Send both halves of the surrogate pair, or neither."
    else:
        reason, remedy = _reason(why), "Send one JSON object an event, encoded as UTF-8."
    return EventRefused(RefusalCode.NOT_JSON, "", f"The event is not JSON: {reason}.", remedy)


def _reason(why: Exception) -> str:
    text = str(why).removeprefix("JSON is malformed: ").rstrip(".")
    return "the text ends early" if text == "Input data was truncated" else text[:1].lower() + text[1:]


def misspelt(field: str, allowed: Iterable[str]) -> EventRefused | None:
    """Return the refusal of an unknown field that looks like an allowed one, or None when it looks like none."""
    match = get_close_matches(field, allowed, n=1, cutoff=0.8) if len(field) <= SHOWN_CHARS_MAX else []
    if not match:
        return None
    return EventRefused(
        RefusalCode.UNKNOWN_FIELD,
        field,
        f"{field} is not a field of an event.",
        f"Did you mean {match[0]}? Facts of your own belong into properties.",
    )
