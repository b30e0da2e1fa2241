"""What a request body becomes: records for the log, refusals by index, dead letters."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from uuid import UUID

import msgspec
import pytest

from orchestrator.core.state import CustomerState, encode_state
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import DeadLetter, HttpIntake, Intake, Limits, decode_dead_letter
from orchestrator.runtime.intake.dead_letter import gateway_letter
from orchestrator.runtime.ports import DEAD_LETTERS, ENGINE, EVENTS, Record

NOW_MS = 1_772_425_805_000
NORMAL = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": NOW_MS - 5_000, "properties": {}}
CLOUD_EVENT = {"specversion": "1.0", "id": "e1", "source": "/w", "type": "a.lead_submitted", "subject": "c1"}
TRACK = {"type": "track", "event": "Lead Submitted", "messageId": "e1", "userId": "c1"}
JSON = [("content-type", b"application/json")]


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def wire(value: bytes) -> Any:
    return json.loads(value)


def test_the_log_gets_normal_form_under_the_customers_key(http_intake: HttpIntake) -> None:
    sent = {**NORMAL, "occurred_at": "2026-03-02T10:00:00+05:30", "properties": {"total": 80}}
    admission = http_intake.events(body(sent), JSON, NOW_MS).admission()
    (record,) = admission.records
    assert (record.topic, record.key) == (EVENTS, b"c1")
    assert wire(record.value) == {
        "id": "e1",
        "type": "lead_submitted",
        "customer_id": "c1",
        "occurred_at": 1_772_425_800_000,
        "properties": {"total": 80},
    }


def test_an_event_without_an_id_gets_one_that_is_unique(http_intake: HttpIntake) -> None:
    sent = {name: value for name, value in NORMAL.items() if name != "id"}
    admission = http_intake.events(body([sent, sent]), JSON, NOW_MS).admission()
    assert len({UUID(each).version for each in admission.ids}) == 1
    assert len(set(admission.ids)) == 2
    assert [wire(record.value)["id"] for record in admission.records] == admission.ids


@pytest.mark.parametrize(
    ("headers", "sent", "form"),
    [
        (JSON, NORMAL, "normal"),
        ([], CLOUD_EVENT, "normal"),
        ([("content-type", b"application/cloudevents+json; charset=utf-8")], CLOUD_EVENT, "cloudevents"),
        ([("content-type", b"application/cloudevents-batch+json")], [CLOUD_EVENT], "cloudevents"),
        ([*JSON, *((f"ce-{name}", value.encode()) for name, value in CLOUD_EVENT.items())], {}, "cloudevents"),
    ],
)
def test_the_content_type_tells_how_events_are_framed(
    http_intake: HttpIntake, headers: list[tuple[str, bytes]], sent: Any, form: str
) -> None:
    admission = http_intake.events(body(sent), headers, NOW_MS).admission()
    assert (admission.ids, admission.refused, admission.form) == (["e1"], [], form)


def test_refusals_are_known_by_their_index(http_intake: HttpIntake) -> None:
    admission = http_intake.events(body([NORMAL, {**NORMAL, "customer_id": ""}, 7]), JSON, NOW_MS).admission()
    assert admission.ids == ["e1"]
    assert [(each.index, each.error.code) for each in admission.refused] == [(1, "missing_field"), (2, "unknown_form")]


def test_a_batch_lends_its_calls_sent_at_and_context(http_intake: HttpIntake) -> None:
    call = {**TRACK, "timestamp": "2026-03-02T01:00:00Z", "context": {"ip": "::1"}}
    sent = {"batch": [call], "sentAt": "2026-03-02T01:00:10Z", "context": {"ip": "::2", "locale": "en"}}
    (record,) = http_intake.batch(body(sent), NOW_MS).admission().records
    assert wire(record.value)["occurred_at"] == NOW_MS - 10_000
    assert wire(record.value)["context"] == {"ip": "::1", "locale": "en", "user_id": "c1"}


def test_a_refused_call_of_a_batch_becomes_a_dead_letter_with_its_text(http_intake: HttpIntake) -> None:
    admission = http_intake.batch(body({"batch": [{"type": "trick"}, TRACK]}), NOW_MS).admission()
    assert admission.ids == ["e1"]
    (record,) = admission.dead_letters(NOW_MS)
    letter = decode_dead_letter(record.value)
    assert record.topic == DEAD_LETTERS
    assert (letter.origin, letter.code, letter.field, letter.refused_at_ms) == (
        "gateway",
        "invalid_value",
        "type",
        NOW_MS,
    )
    assert letter.message == 'type "trick" is not a call of the Segment spec.'
    assert letter.remedy == "Send alias, group, identify, page, screen, track."
    assert letter.value == b'{"type":"trick"}'


def test_a_dead_letter_is_sent_again_as_it_would_have_been(http_intake: HttpIntake) -> None:
    call = {**TRACK, "event": "Never Declared", "timestamp": "2026-03-02T01:00:00Z"}
    sent = {"batch": [call], "sentAt": "2026-03-02T01:00:10Z", "context": {"ip": "::1"}}
    (record,) = http_intake.batch(body(sent), NOW_MS).admission().dead_letters(NOW_MS)
    letter = decode_dead_letter(record.value)
    with pytest.raises(EventRefused, match=r"^never_declared is not declared\.$"):
        http_intake.again(letter, NOW_MS + 60_000)

    value = (letter.value or b"").replace(b"Never Declared", b"Lead Submitted")
    (again,) = http_intake.again(msgspec.structs.replace(letter, value=value), NOW_MS + 60_000)
    assert (again.topic, again.key) == (EVENTS, b"c1")
    assert (wire(again.value)["occurred_at"], wire(again.value)["context"]) == (
        NOW_MS - 10_000,
        {"ip": "::1", "user_id": "c1"},
    )


def test_a_dead_letter_of_a_producer_is_not_sent_again_as_the_engines_own(http_intake: HttpIntake) -> None:
    carried = b64encode(encode_state(CustomerState(traits={"about": ("x" * 40_000, 1)}))).decode()
    merged = {
        **NORMAL,
        "id": "profile_merged:1",
        "type": "profile_merged",
        "properties": {"previous_id": "a1", "state": carried},
    }
    (record,) = (
        http_intake.batch(body({"batch": [{**TRACK, "event": "Profile Merged"}]}), NOW_MS)
        .admission()
        .dead_letters(NOW_MS)
    )
    letter = decode_dead_letter(record.value)
    with pytest.raises(EventRefused, match=r"^type profile_merged is the engine's own\.$"):
        http_intake.again(letter, NOW_MS)
    failed = msgspec.structs.replace(letter, origin="worker", value=msgspec.json.encode(merged))
    (again,) = http_intake.again(failed, NOW_MS)
    assert wire(again.value)["type"] == "profile_merged"


@pytest.mark.parametrize("producer", ["shop", ENGINE, ""])
def test_a_dead_letter_is_sent_again_as_whose_it_was(http_intake: HttpIntake, producer: str) -> None:
    letter = DeadLetter(
        origin="worker",
        code="rule_failed",
        field="",
        message="",
        remedy="",
        refused_at_ms=NOW_MS,
        value=body(NORMAL),
        producer=producer,
    )
    assert [one.producer for one in http_intake.again(letter, NOW_MS)] == [producer]


def test_a_dead_letter_without_an_id_is_one_event_however_often_it_is_sent(http_intake: HttpIntake) -> None:
    events = [{name: value for name, value in NORMAL.items() if name != "id"}] * 2
    refused = EventRefused("missing_field", "id", "id is missing.", "Send one.")
    letter = gateway_letter(refused, b"c1", body(events), NOW_MS)
    first, second = http_intake.again(letter, NOW_MS), http_intake.again(letter, NOW_MS + 1)
    assert first == second
    assert len({wire(record.value)["id"] for record in first}) == 2


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"type": "identify"}, 'type "identify" came to /v1/track.'),
        ({}, "userId is missing."),
    ],
)
def test_a_call_must_be_what_its_route_says(http_intake: HttpIntake, sent: Any, message: str) -> None:
    (refused,) = http_intake.call("track", body(sent), NOW_MS).admission().refused
    assert str(refused.error) == message


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        (b"[]", "unknown_form", "The list has no events."),
        (b"[1", "not_json", "The event is not JSON: the text ends early."),
        (b"[" + b"1," * 10_000 + b"1]", "too_large", "The request has 10001 events; at most 10000 are allowed."),
        (b"[" * 20_000, "too_deep", "The list nests too deeply to be read."),
    ],
)
def test_a_list_that_holds_no_events_is_refused_as_a_whole(
    http_intake: HttpIntake, sent: bytes, code: str, message: str
) -> None:
    with pytest.raises(EventRefused) as refused:
        http_intake.events(sent, JSON, NOW_MS).admission()
    assert (refused.value.code, str(refused.value)) == (code, message)


@pytest.mark.parametrize("sent", [b"{}", b"7", b'{"batch": 7}'])
def test_a_batch_without_a_list_of_calls_is_refused(http_intake: HttpIntake, sent: bytes) -> None:
    with pytest.raises(EventRefused, match=r"^The body has no list of calls under batch\.$"):
        http_intake.batch(sent, NOW_MS).admission()


def test_an_event_that_grows_beyond_the_limit_is_refused(http_intake: HttpIntake) -> None:
    shared = {"note": "x" * 3_950}
    (refused,) = http_intake.batch(body({"batch": [TRACK], "context": shared}), NOW_MS).admission().refused
    assert refused.error.code == "too_large"


def test_a_batch_on_the_topic_is_bounded_by_the_same_rule(intake: Intake) -> None:
    wide = Intake(intake.plan, "default", Limits())

    def record(value: Any) -> Record:
        return Record(0, 0, NOW_MS, b"c1", body(value))

    calls = [{**TRACK, "messageId": f"e{number}"} for number in range(150)]
    few = {"batch": calls[:100], "context": {"k": "x" * 15_000}}
    assert len(wide.events_from_record(record(few))) == 100
    assert len({id(event.context["k"]) for event in wide.events_from_record(record(few))}) == 1, "shared, not copied"
    with pytest.raises(EventRefused) as refused:
        wide.events_from_record(record({"batch": [{"type": "page", "userId": "c1"}] * 400, "context": few["context"]}))
    assert (refused.value.code, refused.value.field) == ("too_large", "context")
    assert str(refused.value) == (
        "context has 15009 bytes, which each of the 400 calls would take along; together at most 4000000 bytes are "
        "allowed."
    )
