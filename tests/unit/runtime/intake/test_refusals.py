"""What is refused, with the code, the field, the message and the remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import Intake, RefusalCode
from orchestrator.runtime.ports import Record

STAMP_MS = 1_772_425_805_000
NORMAL = {
    "id": "e1",
    "type": "lead_submitted",
    "customer_id": "c1",
    "occurred_at": "2026-03-02T04:30:00Z",
    "properties": {},
}
CLOUD_EVENT = {"specversion": "1.0", "id": "e1", "source": "/web", "type": "a.lead_submitted", "subject": "c1"}
TRACK = {"type": "track", "event": "Lead Submitted", "messageId": "e1", "userId": "c1"}
MOMENT = 'Send a time such as "2026-03-02T10:00:00+05:30", or whole milliseconds such as 1772425800000.'
ONE_OBJECT = "Send one JSON object an event, encoded as UTF-8."
ID = "Send {} as a string of 1 to 200 characters."
DEEP = ("too_deep", "", "The event nests objects or lists more than 6 deep.", "Flatten its properties.")


def without(event: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != field}


def long_int(path: str) -> tuple[str, str, str, str]:
    message = f"{path} is an integer beyond 64 bits."
    return "invalid_value", path, message, "Send it as a string, or as a number with a fraction."


REFUSALS: dict[str, tuple[Any, tuple[str, str, str, str]]] = {
    "not JSON": (
        b"lead",
        ("not_json", "", "The event is not JSON: invalid character (byte 0).", ONE_OBJECT),
    ),
    "cut off": (b'{"id": "e1', ("not_json", "", "The event is not JSON: the text ends early.", ONE_OBJECT)),
    "NaN": (
        b'{"id": NaN}',
        (
            "not_json",
            "",
            "The event is not JSON: NaN and Infinity are no JSON numbers.",
            "Send null, or leave the property out.",
        ),
    ),
    "a number that no float can hold": (
        b'{"id": 1e999}',
        ("not_json", "", "The event is not JSON: number out of range - at `$[...]`.", ONE_OBJECT),
    ),
    "half a character": (
        b'{"id": "\\ud800"}',
        (
            "not_json",
            "",
            "The event is not JSON: an escape stands for half a character.",
            "Send both halves of the surrogate pair, or neither.",
        ),
    ),
    "Latin-1": (
        b'{"id": "J\xfcrgen"}',
        ("not_json", "", "The event is not JSON: a string is not UTF-8.", "Encode the event as UTF-8."),
    ),
    "a number": (b"7", ("unknown_form", "", "An event is an object, not a number.", "Send one JSON object an event.")),
    "a list": (b"[]", ("unknown_form", "", "An event is an object, not a list.", "Send one JSON object an event.")),
    "another object": (
        {"hello": "world"},
        (
            "unknown_form",
            "",
            "The object has none of the forms of an event.",
            "Send id, type, customer_id, occurred_at and properties, a CloudEvent, or a Segment call.",
        ),
    ),
    "a batch": (
        {"batch": [TRACK]},
        (
            "unknown_form",
            "batch",
            "A batch stands where one event is expected.",
            "Post Segment batches to /v1/batch; publish one event a record.",
        ),
    ),
    "too many bytes": (
        {**NORMAL, "properties": {"a": "x" * 5_000}},
        (
            "too_large",
            "",
            "The event has 5123 bytes; at most 4000 are allowed.",
            "Send only the properties that rules read, and references instead of documents.",
        ),
    ),
    "too deep": ({**NORMAL, "properties": {"a": [[[[[]]]]]}}, DEEP),
    "too deep to be read": (b"[" * 3_900, DEEP),
    "no id": (
        without(NORMAL, "id"),
        ("missing_field", "id", "id is missing.", "Send a unique id, and the same one when the event is sent again."),
    ),
    "an empty id": ({**NORMAL, "id": ""}, ("missing_field", "id", "id is missing.", ID.format("id"))),
    "a number as id": (
        {**NORMAL, "id": 7},
        ("wrong_type", "id", "id must be a string, not a number.", "Send a string."),
    ),
    "NUL in an id": (
        {**NORMAL, "id": "e\0"},
        ("invalid_value", "id", "id contains a control character.", "Remove control characters from the id."),
    ),
    "a long id": (
        {**NORMAL, "id": "e" * 201},
        (
            "invalid_value",
            "id",
            "id has 201 characters; at most 200 are allowed.",
            "Send a shorter id, such as a UUID or a hash.",
        ),
    ),
    "no customer": (
        without(NORMAL, "customer_id"),
        ("missing_field", "customer_id", "customer_id is missing.", ID.format("customer_id")),
    ),
    "NUL in a customer": (
        {**NORMAL, "customer_id": "c\x001"},
        (
            "invalid_value",
            "customer_id",
            "customer_id contains a control character.",
            "Remove control characters from the id.",
        ),
    ),
    "no type": (
        without(NORMAL, "type"),
        (
            "missing_field",
            "type",
            "type is missing.",
            'Send the event\'s type in snake_case, such as "lead_submitted".',
        ),
    ),
    "a type with a space": (
        {**NORMAL, "type": "Lead Submitted"},
        ("invalid_value", "type", 'type "Lead Submitted" is not in snake_case.', 'Send "lead_submitted".'),
    ),
    "a type in another script": (
        {**NORMAL, "type": "заказ"},
        ("invalid_value", "type", 'type "заказ" is not in snake_case.', "Send letters a to z, digits and underscores."),
    ),
    "no moment": (
        without(NORMAL, "occurred_at"),
        (
            "missing_field",
            "occurred_at",
            "occurred_at is missing.",
            "Send the moment it happened, as RFC 3339 or epoch milliseconds.",
        ),
    ),
    "a moment without an offset": (
        {**NORMAL, "occurred_at": "2026-03-02T10:00:00"},
        (
            "invalid_value",
            "occurred_at",
            'occurred_at "2026-03-02T10:00:00" has no offset from UTC.',
            'Append "Z" or an offset such as "+05:30".',
        ),
    ),
    "a moment in words": (
        {**NORMAL, "occurred_at": "yesterday"},
        ("invalid_value", "occurred_at", 'occurred_at "yesterday" is not an RFC 3339 time.', MOMENT),
    ),
    "seconds": (
        {**NORMAL, "occurred_at": 1_772_425_800},
        (
            "invalid_value",
            "occurred_at",
            "occurred_at 1772425800 looks like seconds; milliseconds are expected.",
            "Send 1772425800000.",
        ),
    ),
    "a fraction of a millisecond": (
        {**NORMAL, "occurred_at": 1_772_425_800_000.5},
        (
            "wrong_type",
            "occurred_at",
            "occurred_at must be a whole number of milliseconds or an RFC 3339 time, not a number.",
            MOMENT,
        ),
    ),
    "a moment before 1970": (
        {**NORMAL, "occurred_at": "1969-12-31T23:59:59Z"},
        ("invalid_value", "occurred_at", "occurred_at lies outside the years 1970 to 9988.", MOMENT),
    ),
    "a moment that no zone can be told of": (
        {**NORMAL, "occurred_at": "9999-12-31T23:59:59-14:00"},
        ("invalid_value", "occurred_at", "occurred_at lies outside the years 1970 to 9988.", MOMENT),
    ),
    "the future": (
        {**NORMAL, "occurred_at": STAMP_MS + 300_001},
        (
            "future_dated",
            "occurred_at",
            "occurred_at 2026-03-02T04:35:05.001Z is 300 s ahead of the log; 300 s are tolerated.",
            "Set the producer's clock, and send the moment in UTC or with its offset.",
        ),
    ),
    "properties that are a list": (
        {**NORMAL, "properties": []},
        ("wrong_type", "properties", "properties must be an object, not a list.", "Send an object."),
    ),
    "a misspelt field": (
        {**without(NORMAL, "properties"), "propertes": {"a": 1}},
        (
            "unknown_field",
            "propertes",
            "propertes is not a field of an event.",
            "Did you mean properties? Facts of your own belong into properties.",
        ),
    ),
    "an integer beyond 64 bits": (
        {**NORMAL, "properties": {"a": [{"b": 2**63}]}},
        long_int("properties.a[0].b"),
    ),
    "a negative integer beyond 64 bits": (
        {**NORMAL, "context": {"a": -(2**63) - 1}},
        long_int("context.a"),
    ),
    "a type that the plan does not have": (
        {**NORMAL, "type": "never_declared"},
        ("unknown_type", "type", "never_declared is not declared.", "Declare it."),
    ),
    "a property that is not as planned": (
        {**NORMAL, "properties": {"total": "80"}},
        ("wrong_property", "properties.total", "properties.total must be a number.", "Send one."),
    ),
    "a CloudEvent of the future's spec": (
        {**CLOUD_EVENT, "specversion": "2.0"},
        ("invalid_value", "specversion", 'specversion "2.0" is not known.', 'Send "1.0".'),
    ),
    "a CloudEvent without subject": (
        without(CLOUD_EVENT, "subject"),
        (
            "missing_field",
            "subject",
            "subject is missing.",
            "Send the customer's id as the subject of the CloudEvent.",
        ),
    ),
    "a CloudEvent without source": (
        without(CLOUD_EVENT, "source"),
        ("missing_field", "source", "source is missing.", "Send source: CloudEvents requires it."),
    ),
    "a CloudEvent of bytes": (
        {**CLOUD_EVENT, "data_base64": "AA=="},
        ("invalid_value", "data_base64", "data_base64 holds bytes, not properties.", "Send a JSON object as data."),
    ),
    "a CloudEvent of XML": (
        {**CLOUD_EVENT, "datacontenttype": "text/xml", "data": "<a/>"},
        (
            "invalid_value",
            "datacontenttype",
            'datacontenttype "text/xml" is not JSON.',
            "Send a JSON object as data.",
        ),
    ),
    "a CloudEvent without a usable type": (
        {**CLOUD_EVENT, "type": "com.acme.7"},
        (
            "invalid_value",
            "type",
            'type "com.acme.7" has no last part that could be an event type.',
            'Send a type such as "com.example.lead_submitted".',
        ),
    ),
    "a call of nobody": (
        without(TRACK, "userId"),
        (
            "missing_field",
            "userId",
            "userId is missing.",
            "Send userId, or anonymousId as long as the customer is not known.",
        ),
    ),
    "a track call without event": (
        without(TRACK, "event"),
        (
            "missing_field",
            "event",
            "event is missing.",
            'Send the name of what happened, such as "Lead Submitted".',
        ),
    ),
    "a track call that would be taken for another": (
        {**TRACK, "event": "Identify"},
        (
            "invalid_value",
            "event",
            'event "Identify" would be taken for the call identify.',
            'Call identify, or name the event otherwise, such as "Identify Done".',
        ),
    ),
    "a track call of an unwritable event": (
        {**TRACK, "event": "7 days"},
        (
            "invalid_value",
            "event",
            'event "7 days" cannot become an event type.',
            "Begin with a letter and use letters a to z, digits and spaces, 100 at most.",
        ),
    ),
    "an alias without previousId": (
        {**TRACK, "type": "alias"},
        (
            "missing_field",
            "previousId",
            "previousId is missing.",
            "Send the id that the customer was known by until now.",
        ),
    ),
    "an alias of an anonymous customer": (
        {"type": "alias", "previousId": "a", "anonymousId": "c1"},
        (
            "missing_field",
            "userId",
            "userId is missing.",
            "Send the id that the customer is known by from now on.",
        ),
    ),
    "a group call without group": (
        {**TRACK, "type": "group"},
        (
            "missing_field",
            "groupId",
            "groupId is missing.",
            "Send the id of the group that the customer belongs to.",
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_field_and_the_remedy(intake: Intake, name: str) -> None:
    sent, expected = REFUSALS[name]
    value = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    with pytest.raises(EventRefused) as refused:
        intake.from_record(Record(0, 0, STAMP_MS, b"c1", value))
    error = refused.value
    assert (error.code, error.field, str(error), error.remedy) == expected
    assert error.code in list(RefusalCode)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "The record has no key."),
        (b"c2", "The record's key \"c2\" is not the event's customer."),
        (b"\xff", "The record's key \"\ufffd\" is not the event's customer."),
    ],
)
def test_a_record_under_another_key_than_its_customers_is_refused(
    intake: Intake, key: bytes | None, message: str
) -> None:
    with pytest.raises(EventRefused) as refused:
        intake.from_record(Record(0, 0, STAMP_MS, key, json.dumps(NORMAL).encode()))
    error = refused.value
    expected = ("key_mismatch", "customer_id", message, 'Publish the event under the key "c1".')
    assert (error.code, error.field, str(error), error.remedy) == expected


def test_a_record_without_a_value_is_refused(intake: Intake) -> None:
    with pytest.raises(EventRefused, match=r"^The record has no value\.$"):
        intake.from_record(Record(0, 0, STAMP_MS, b"c1", None))


def test_one_bad_event_refuses_a_batch_record(intake: Intake) -> None:
    batch = json.dumps([NORMAL, {**NORMAL, "customer_id": "c2"}]).encode()
    with pytest.raises(EventRefused, match=r"^The record's key \"c1\" is not the event's customer\.$"):
        intake.events_from_record(Record(0, 0, STAMP_MS, b"c1", batch))
