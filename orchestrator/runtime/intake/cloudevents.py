"""CloudEvents 1.0, structured and binary, brought into the normal form.

Sources: cloudevents/spec v1.0.2, the JSON format and the HTTP and Kafka bindings. ``id`` stays, ``subject`` names the
customer, ``time`` (or the moment of receipt) is when it happened, ``data`` are the properties, and extension
attributes become the context. The last part of a dotted ``type``, without a version, is the event type:
``com.acme.LeadSubmitted.v1`` is ``lead_submitted``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from orchestrator.core.event_name import offered_type_name
from orchestrator.runtime.intake import limits, refusal
from orchestrator.runtime.intake.moment import moment_ms
from orchestrator.runtime.intake.normal_form import NormalForm, object_at, string_at

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"

_ATTRIBUTES = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"}
)
_VERSION = re.compile(r"v[0-9]+\Z")
_QUOTED_PAIR = re.compile(r"\\(.)")


def from_object(received: dict[str, Any], received_at_ms: int) -> NormalForm[Any]:
    """Return the event in a structured CloudEvent, or refuse it naming the attribute at fault."""
    _check_envelope(received)
    time = received.get("time")
    subject = received.get("subject")
    if subject is None or subject == "":
        raise refusal.missing("subject", "Send the customer's id as the subject of the CloudEvent.")
    return NormalForm(
        id=limits.check_id("id", received["id"]),
        type=event_type(received.get("type")),
        customer_id=limits.check_id("subject", subject),
        occurred_at=received_at_ms if time is None else moment_ms("time", time),
        properties=object_at(received, "data"),
        context={name: value for name, value in received.items() if name not in _ATTRIBUTES},
        source=string_at(received, "source"),
    )


def _check_envelope(received: dict[str, Any]) -> None:
    version = received.get("specversion")
    if version is None:
        raise refusal.missing("specversion", 'Send specversion "1.0".')
    if version != "1.0":
        raise refusal.invalid("specversion", f"specversion {refusal.shown(version)} is not known.", 'Send "1.0".')
    if received.get("data_base64") is not None:
        raise refusal.invalid("data_base64", "data_base64 holds bytes, not properties.", "Send a JSON object as data.")
    for attribute in ("id", "source"):
        if received.get(attribute) in (None, ""):
            raise refusal.missing(attribute, f"Send {attribute}: CloudEvents requires it.")
    content_type = received.get("datacontenttype")
    if content_type is not None and not is_json(content_type):
        raise refusal.invalid(
            "datacontenttype",
            f"datacontenttype {refusal.shown(content_type)} is not JSON.",
            "Send a JSON object as data.",
        )


def is_json(content_type: Any) -> bool:
    """Tell whether a media type names JSON."""
    if not isinstance(content_type, str):
        return False
    media = content_type.partition(";")[0].strip().lower()
    return media in {"application/json", "text/json"} or media.endswith("+json")


def event_type(value: Any) -> str:
    """Return the event type that a CloudEvents ``type`` names."""
    if value is None or value == "":
        raise refusal.missing("type", 'Send a type such as "com.example.lead_submitted".')
    if not isinstance(value, str):
        raise refusal.wrong_type("type", "a string", value)
    parts = value.split(".")
    if len(parts) > 1 and _VERSION.match(parts[-1]):
        parts.pop()
    name = offered_type_name(parts[-1])
    if not name:
        raise refusal.invalid(
            "type",
            f"type {refusal.shown(value)} has no last part that could be an event type.",
            'Send a type such as "com.example.lead_submitted".',
        )
    return name


def attributes(headers: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Return the attributes of a binary CloudEvent from HTTP (``ce-``) or Kafka (``ce_``) headers; {} when none.

    The content type comes along as ``datacontenttype``. Values are unquoted and percent-decoded once, as the HTTP
    binding asks; what is not UTF-8 after that is refused.
    """
    found: dict[str, Any] = {}
    content_type: str | None = None
    for name, raw in headers:
        lowered = name.lower()
        if lowered.startswith(("ce-", "ce_")):
            found[lowered[3:]] = _attribute(lowered[3:], raw, percent_encoded=lowered[2] == "-")
        elif lowered == "content-type":
            content_type = raw.decode("latin-1")
    if found and content_type is not None:
        found["datacontenttype"] = content_type
    return found


def _attribute(name: str, raw: bytes, *, percent_encoded: bool) -> str:
    try:
        text = raw.decode("utf-8")
        if not percent_encoded:
            return text
        if len(text) >= 2 and text[0] == text[-1] == '"':
            text = _QUOTED_PAIR.sub(r"\1", text[1:-1])
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise refusal.invalid(name, f"The header of {name} is not UTF-8.", "Percent-encode it as UTF-8.") from None
