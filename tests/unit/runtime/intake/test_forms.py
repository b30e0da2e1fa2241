"""What each form becomes, on the topic."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.core.event import Event
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import Record

STAMP_MS = 1_772_425_805_000  # 2026-03-02T04:30:05Z
NORMAL = {
    "id": "e1",
    "type": "lead_submitted",
    "customer_id": "c1",
    "occurred_at": "2026-03-02T10:00:00+05:30",
    "properties": {"total": 80},
}
EVENT = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at_ms": 1_772_425_800_000}


def record(value: Any, key: str | None = "c1", headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record(0, 0, STAMP_MS, None if key is None else key.encode(), text, headers)


def event(**fields: Any) -> Event:
    return Event(**{**EVENT, "received_at_ms": STAMP_MS, **fields})


NORMAL_FORMS: dict[str, tuple[dict[str, Any], Event]] = {
    "RFC 3339 with an offset": (NORMAL, event(properties={"total": 80})),
    "epoch milliseconds": ({**NORMAL, "occurred_at": 1_772_425_800_000}, event(properties={"total": 80})),
    "milliseconds within a second": (
        {**NORMAL, "occurred_at": "2026-03-02T04:30:00.123Z"},
        event(occurred_at_ms=1_772_425_800_123, properties={"total": 80}),
    ),
    "context and source": (
        {**NORMAL, "context": {"ip": "::1"}, "source": "web"},
        event(properties={"total": 80}, context={"ip": "::1"}, source="web"),
    ),
    "no properties": ({name: NORMAL[name] for name in NORMAL if name != "properties"}, event()),
    "null where a field may be left out": ({**NORMAL, "properties": None, "context": None, "source": None}, event()),
    "a field of a newer producer": ({**NORMAL, "schema_version": 7}, event(properties={"total": 80})),
    "a type that Segment also has": (
        {**NORMAL, "type": "identify", "properties": {"country": "IN"}},
        event(type="identify", properties={"country": "IN"}),
    ),
    "a receipt of a dispatcher whose clock is an hour ahead": (
        {**NORMAL, "type": "action_delivered", "occurred_at": STAMP_MS + 3_600_000},
        event(type="action_delivered", occurred_at_ms=STAMP_MS, properties={"total": 80}),
    ),
    "the deepest that is allowed": (
        {**NORMAL, "properties": {"a": [[[{"b": 1}]]]}},
        event(properties={"a": [[[{"b": 1}]]]}),
    ),
    "the largest integers": (
        {**NORMAL, "properties": {"a": [2**63 - 1, -(2**63)]}},
        event(properties={"a": [2**63 - 1, -(2**63)]}),
    ),
}


@pytest.mark.parametrize("name", NORMAL_FORMS)
def test_an_event_in_normal_form_is_taken_as_it_is(intake: Intake, name: str) -> None:
    sent, expected = NORMAL_FORMS[name]
    assert intake.from_record(record(sent)) == expected


CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/web",
    "type": "com.acme.lead_submitted",
    "subject": "c1",
    "time": "2026-03-02T04:30:00Z",
    "data": {"total": 80},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"type": "LeadSubmitted"}, {}),
        ({"type": "com.acme.LeadSubmitted.v2"}, {}),
        ({"time": None}, {"occurred_at_ms": STAMP_MS}),
        ({"data": None}, {"properties": {}}),
        ({"datacontenttype": "application/json; charset=utf-8"}, {}),
        ({"traceparent": "00-1-1-01"}, {"context": {"traceparent": "00-1-1-01"}}),
    ],
)
def test_a_structured_cloudevent_becomes_an_event(
    intake: Intake, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    taken = intake.from_record(record({**CLOUD_EVENT, **changes}))
    assert taken == event(**{"properties": {"total": 80}, "source": "/web", **expected})


@pytest.mark.parametrize("prefix", ["ce-", "ce_"])
def test_a_binary_cloudevent_has_its_attributes_in_headers(intake: Intake, prefix: str) -> None:
    attributes = {name: value for name, value in CLOUD_EVENT.items() if name != "data"}
    headers = tuple((prefix + name, str(value).encode()) for name, value in attributes.items())
    taken = intake.from_record(record({"total": 80}, headers=(*headers, ("content-type", b"application/json"))))
    assert taken == event(properties={"total": 80}, source="/web")


def test_http_headers_of_a_cloudevent_are_unquoted_and_percent_decoded_once(intake: Intake) -> None:
    headers = {
        **{k: v for k, v in CLOUD_EVENT.items() if k != "data"},
        "subject": "J%C3%BCrgen%2520x",
        "note": '"a\\"b"',
    }
    encoded = tuple((f"ce-{name}", str(value).encode()) for name, value in headers.items())
    taken = intake.from_record(record({}, key="Jürgen%20x", headers=encoded))
    assert (taken.customer_id, taken.context) == ("Jürgen%20x", {"note": 'a"b'})


SEGMENT_CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "track": (
        {"type": "track", "event": "Lead Submitted", "properties": {"total": 80}},
        {"properties": {"total": 80}},
    ),
    "track in camel case": ({"type": "track", "event": "leadSubmitted"}, {}),
    "identify": (
        {"type": "identify", "traits": {"country": "IN"}},
        {"type": "identify", "properties": {"country": "IN"}},
    ),
    "page": (
        {"type": "page", "name": "Pricing", "category": "Docs", "properties": {"path": "/p"}},
        {"type": "page", "properties": {"path": "/p", "name": "Pricing", "category": "Docs"}},
    ),
    "screen": ({"type": "screen", "name": "Basket"}, {"type": "screen", "properties": {"name": "Basket"}}),
    "group": (
        {"type": "group", "groupId": "acme", "traits": {"plan": "pro"}},
        {"type": "group", "properties": {"plan": "pro", "group_id": "acme"}},
    ),
    "alias": ({"type": "alias", "previousId": "anon-7"}, {"type": "alias", "properties": {"previous_id": "anon-7"}}),
    "an anonymous customer": (
        {"type": "track", "event": "Lead Submitted", "userId": None, "anonymousId": "c1"},
        {"context": {"anonymous_id": "c1"}},
    ),
    "traits of an anonymous customer": (
        {"type": "identify", "userId": "", "anonymousId": "c1", "traits": {"country": "IN"}},
        {"type": "identify", "properties": {"country": "IN"}, "context": {"anonymous_id": "c1"}},
    ),
    "both ids": (
        {"type": "track", "event": "Lead Submitted", "anonymousId": "a7"},
        {"context": {"user_id": "c1", "anonymous_id": "a7"}},
    ),
    "one id as both": ({"type": "track", "event": "Lead Submitted", "anonymousId": "c1"}, {}),
    "a library and consent": (
        {
            "type": "track",
            "event": "Lead Submitted",
            "context": {"library": {"name": "analytics-node"}, "consent": {"categoryPreferences": {"marketing": True}}},
        },
        {
            "source": "analytics-node",
            "context": {
                "library": {"name": "analytics-node"},
                "consent": {"categoryPreferences": {"marketing": True}},
                "user_id": "c1",
            },
        },
    ),
}


@pytest.mark.parametrize("name", SEGMENT_CALLS)
def test_a_segment_call_becomes_an_event(intake: Intake, name: str) -> None:
    call, expected = SEGMENT_CALLS[name]
    common = {"messageId": "e1", "userId": "c1", "timestamp": "2026-03-02T04:30:00Z"}
    assert intake.from_record(record({**common, **call})) == event(
        **{"source": "segment", "context": {"user_id": "c1"}, **expected}
    )


@pytest.mark.parametrize(
    ("moments", "occurred_at", "because"),
    [
        ({}, "04:30:05", "no moment: when it was received"),
        ({"timestamp": "T04:29:00Z"}, "04:29:00", "no sentAt: as it is"),
        ({"timestamp": "T04:29:00Z", "sentAt": "T04:29:10Z"}, "04:29:55", "10 s before it was received"),
        ({"originalTimestamp": "T09:00:00Z", "sentAt": "T09:00:01Z"}, "04:30:04", "the client's clock is ahead"),
        (
            {"originalTimestamp": "T09:00:00Z", "timestamp": "T04:29:00Z", "sentAt": "T09:00:01Z"},
            "04:29:00",
            "corrected before",
        ),
    ],
)
def test_the_clients_clock_skew_is_taken_out_of_a_segment_timestamp(
    intake: Intake, moments: dict[str, str], occurred_at: str, because: str
) -> None:
    dated = {name: f"2026-03-02{at}" for name, at in moments.items()}
    call = {"type": "track", "event": "Lead Submitted", "messageId": "e1", "userId": "c1", **dated}
    expected = intake.from_record(record({**NORMAL, "occurred_at": f"2026-03-02T{occurred_at}Z"})).occurred_at_ms
    assert intake.from_record(record(call)).occurred_at_ms == expected, because


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Lead Submitted", "lead_submitted"),
        ("leadSubmitted", "lead_submitted"),
        ("HTTPRequest Sent", "http_request_sent"),
        ("OrderID-Viewed", "order_id_viewed"),
        ("checkout2 done", "checkout2_done"),
        ("Step 2 Done", "step_2_done"),
        ("already_snake_case", "already_snake_case"),
    ],
)
def test_words_of_a_track_event_become_snake_case(intake: Intake, name: str, expected: str) -> None:
    call = {"type": "track", "event": name, "messageId": "e1", "userId": "c1"}
    assert intake.from_record(record(call)).type == expected


def test_a_workspace_prefixes_the_key_and_nothing_else() -> None:
    intake = Intake(AnyEvent(), "acme", Limits())
    assert intake.key("c1") == b"acme:c1"
    assert intake.from_record(record(NORMAL, key="acme:c1")).customer_id == "c1"


class AnyEvent:
    def check(self, event_type: str, properties: object) -> None:
        return None


BATCHES = {
    "a list": [NORMAL, {**CLOUD_EVENT, "id": "e2"}],
    "a Segment batch": {
        "batch": [
            {"type": "track", "event": "Lead Submitted", "userId": "c1", "messageId": each} for each in ("e1", "e2")
        ],
        "sentAt": "2026-03-02T04:30:00Z",
    },
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_record_may_carry_a_batch_of_one_customer(intake: Intake, name: str) -> None:
    assert [taken.id for taken in intake.events_from_record(record(BATCHES[name]))] == ["e1", "e2"]


def test_a_single_event_is_a_batch_of_one(intake: Intake) -> None:
    assert intake.events_from_record(record(NORMAL)) == [event(properties={"total": 80})]
