"""Whatever bytes arrive, the intake answers with an event or a refusal, and says the same of what it wrote itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.core.event import Event
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import HttpIntake, Intake, RefusalCode
from orchestrator.runtime.ports import Record

STAMP_MS = 1_772_425_805_000
FIELDS = [
    *("id", "type", "customer_id", "occurred_at", "properties", "context", "source", "specversion", "subject", "time"),
    *("data", "data_base64", "datacontenttype", "userId", "anonymousId", "messageId", "event", "traits", "timestamp"),
    *("originalTimestamp", "sentAt", "groupId", "previousId", "batch", "name"),
]
WORDS = ["c1", "e1", "1.0", "track", "identify", "alias", "group", "page", "lead_submitted", "2026-03-02T04:30:00Z", ""]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
events = st.dictionaries(st.sampled_from(FIELDS), scalars | values, max_size=8)
texts = st.binary(max_size=200) | (events | st.lists(events, max_size=3) | values).map(
    lambda value: json.dumps(value).encode()
)
headers = st.lists(
    st.tuples(st.sampled_from(["ce-id", "ce_id", "ce-type", "ce_subject", "content-type"]), st.binary(max_size=20)),
    max_size=3,
).map(tuple)

pytestmark = pytest.mark.filterwarnings("error")
unhurried = settings(max_examples=150, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])


@unhurried
@given(value=texts, headers=headers, key=st.sampled_from([None, b"", b"c1", b"\xff"]))
@example(value=b"[" * 4_000, headers=(), key=None)
@example(value=b'{"a":' * 700, headers=(), key=None)
@example(value=b'{"type":"track","event":"' + b"A" * 3_900 + b'","userId":"c1"}', headers=(), key=b"c1")
def test_any_record_is_an_event_or_refused(intake: Intake, value: bytes, headers: Any, key: bytes | None) -> None:
    try:
        taken = intake.events_from_record(Record(0, 0, STAMP_MS, key, value, headers))
    except EventRefused as refused:
        assert refused.code in list(RefusalCode)
        assert str(refused)
        assert refused.remedy
    else:
        assert all(isinstance(event, Event) for event in taken)
        assert {intake.key(event.customer_id) for event in taken} <= {key}


@unhurried
@given(body=texts, headers=headers)
def test_what_http_admits_the_topic_admits_and_reads_alike(
    intake: Intake, http_intake: HttpIntake, body: bytes, headers: Any
) -> None:
    for take in (
        lambda: http_intake.events(body, headers, STAMP_MS).admission(),
        lambda: http_intake.batch(body, STAMP_MS).admission(),
    ):
        try:
            admission = take()
        except EventRefused as refused:
            assert refused.code in list(RefusalCode)
            continue
        assert len(admission.ids) == len(admission.records)
        for event_id, record in zip(admission.ids, admission.records, strict=True):
            event = intake.from_record(Record(0, 0, STAMP_MS, record.key, record.value))
            assert event.id == event_id


@unhurried
@given(properties=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_properties_come_through_as_they_were_sent(intake: Intake, properties: dict[str, Any]) -> None:
    sent = {"id": "e1", "type": "x", "customer_id": "c1", "occurred_at": STAMP_MS, "properties": properties}
    try:
        event = intake.from_record(Record(0, 0, STAMP_MS, b"c1", json.dumps(sent).encode()))
    except EventRefused as refused:
        assert refused.code in {"not_json", "too_deep", "invalid_value", "too_large", "wrong_property"}
    else:
        assert event.properties == properties
