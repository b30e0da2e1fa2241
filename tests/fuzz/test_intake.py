"""The topic decoder and the HTTP intake, fuzzed with spoilt events of every form, under the shipped tracking plan.

``tests/unit/runtime/intake/test_fuzz.py`` holds what arbitrary bytes come to; here events begin as good ones, so that
what is wrong with them lies deep.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.event import Event
from orchestrator.errors import EventRefused
from orchestrator.rulebook.load import load_rulebook
from orchestrator.runtime.intake import HttpIntake, Intake, Limits, RefusalCode
from orchestrator.runtime.intake.admission import AROUND_BYTES
from orchestrator.runtime.intake.limits import LENT_BYTES_MAX
from orchestrator.runtime.ports import Record

Effort = Callable[[int], settings]
STAMP_MS = 1_772_425_805_000
PLAN = load_rulebook(Path(__file__).resolve().parents[2] / "rules").plan
#: The largest answer to what somebody sent: a refusal never grows with it.
MESSAGE_CHARS_MAX = 2_000

NORMAL = {
    "id": "e1",
    "type": "cart_updated",
    "customer_id": "c1",
    "occurred_at": "2026-03-02T04:30:00Z",
    "properties": {"cart_id": "k1", "total": 80.5, "item_name": "Trail shoes", "items": [{"sku": "a", "price": 4}]},
    "context": {"consent": {"categoryPreferences": {"marketing": True}}, "ip": "203.0.113.9"},
    "source": "web",
}
CLOUD = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/web",
    "type": "com.example.cart_updated",
    "subject": "c1",
    "time": "2026-03-02T04:30:00Z",
    "datacontenttype": "application/json",
    "data": NORMAL["properties"],
    "traceparent": "00-ab-cd-01",
}
SEGMENT = {
    "type": "track",
    "event": "Cart Updated",
    "messageId": "e1",
    "userId": "c1",
    "timestamp": "2026-03-02T04:30:00Z",
    "sentAt": "2026-03-02T04:30:01Z",
    "properties": NORMAL["properties"],
    "context": {"traits": {"email": "a@example.com"}},
}
IDENTIFY = {**SEGMENT, "type": "identify", "traits": {"email": "a@example.com", "age": 30, "address": {"city": "Pune"}}}
ALIAS = {"type": "alias", "userId": "c1", "previousId": "anonymous-7", "messageId": "e1"}
FORMS: list[Any] = [NORMAL, CLOUD, SEGMENT, IDENTIFY, ALIAS, [NORMAL, CLOUD], {"batch": [SEGMENT, IDENTIFY]}]
BINARY = (
    ("ce-specversion", b"1.0"),
    ("ce-id", b"e1"),
    ("ce-source", b"/web"),
    ("ce-type", b"com.example.cart_updated"),
    ("ce-subject", b"c1"),
    ("ce-time", b"2026-03-02T04:30:00Z"),
    ("content-type", b"application/json"),
)

#: JSON texts, not values: some of these no encoder would write.
HOSTILE = [
    *(
        "null",
        "true",
        "0",
        "-1",
        '""',
        '" "',
        "[]",
        "{}",
        "[[[[]]]]",
        '"\\ud800"',
        '"\\u0000"',
        '"\\u001f"',
        '"\\u202e"',
    ),
    *("1e400", "-1e400", "NaN", "Infinity", "9" * 30, "-" + "9" * 400, "1" + "0" * 5000, "0.1e-400", "1E5", "01", "1."),
    *('"' + "x" * 40_000 + '"', "[" * 3000, '{"a":' * 200 + "1" + "}" * 200, '{"k":1,"k":2}', '"2026-02-30T00:00:00Z"'),
    *('"9999-12-31T23:59:59+00:00"', '"0000-01-01T00:00:00Z"', '"2026-03-02"', "253402300800000", "-62135596800001"),
    *('"2026-03-02T04:30:00+99:99"', '{"$ref":"x"}', "\ufeff{}", "1 2", ",", "\x00"),
]


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] + [way for key, one in pairs for way in paths(one, (*here, key))]


def written(value: Any, spoilt: dict[tuple[Any, ...], str], here: tuple[Any, ...] = ()) -> str:
    """Return the JSON text of a value, with other texts at the spoilt places; ``""`` leaves a place out."""
    if here in spoilt:
        return spoilt[here]
    if isinstance(value, dict):
        parts = [(key, written(one, spoilt, (*here, key))) for key, one in value.items()]
        return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in parts if text) + "}"
    if isinstance(value, list):
        return "[" + ",".join(filter(None, (written(one, spoilt, (*here, i)) for i, one in enumerate(value)))) + "]"
    return json.dumps(value)


@st.composite
def spoilt_events(draw: st.DrawFn) -> bytes:
    form = draw(st.sampled_from(FORMS))
    ways = paths(form)
    scalar = st.one_of(st.integers(), st.floats(), st.text(max_size=8)).map(json.dumps)
    places = draw(st.dictionaries(st.sampled_from(ways), st.sampled_from(["", *HOSTILE]) | scalar, max_size=3))
    text = written(form, places).encode(errors="surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(st.binary(max_size=4)) + text[start + draw(st.integers(0, 4)) :]
    return text


@pytest.fixture(scope="module")
def intake() -> Intake:
    return Intake(PLAN, "default", Limits())


def assert_refusal(refused: EventRefused) -> None:
    assert refused.code in list(RefusalCode)
    assert str(refused) and refused.remedy
    assert max(map(len, (str(refused), refused.field, refused.remedy))) <= MESSAGE_CHARS_MAX
    f"{refused} {refused.remedy}".encode()  # What is said can be sent and kept.


def taken_or_refused(intake: Intake, record: Record) -> Sequence[Event]:
    try:
        events = intake.events_from_record(record)
    except EventRefused as refused:
        assert_refusal(refused)
        return ()
    assert events
    for event in events:
        assert 0 < len(event.id) <= 200 and 0 < len(event.customer_id) <= 200
        assert isinstance(event.properties, dict) and isinstance(event.context, dict)
        assert event.occurred_at_ms <= STAMP_MS + Limits().future_tolerance_ms
    return events


@pytest.mark.parametrize("form", FORMS, ids=["normal", "cloud", "track", "identify", "alias", "list", "batch"])
def test_the_events_that_are_spoilt_are_good_to_begin_with(intake: Intake, form: Any) -> None:
    assert taken_or_refused(intake, Record(0, 0, STAMP_MS, b"c1", json.dumps(form).encode()))


def test_a_spoilt_event_is_an_event_or_refused_with_a_reason(intake: Intake, effort: Effort) -> None:
    taken = 0

    @effort(120)
    @given(value=spoilt_events())
    def holds(value: bytes) -> None:
        nonlocal taken
        taken += len(taken_or_refused(intake, Record(0, 0, STAMP_MS, b"c1", value)))

    holds()
    assert taken > 10, "some mutations do no harm"


def test_a_spoilt_cloudevent_in_headers_is_an_event_or_refused(intake: Intake, effort: Effort) -> None:
    names = st.sampled_from([name for name, _ in BINARY] + ["ce-dataschema", "ce-x", "ce-", "ce_id", "ce-\u00e4"])
    values = st.binary(max_size=30) | st.sampled_from(
        [b"", b"1.0", b"\xff", b"a" * 9_000, b"%00", b"2026-02-30T00:00:00Z"]
    )
    data = st.sampled_from(
        [b"", b"{}", b"[]", b"null", b"\xff", json.dumps(NORMAL["properties"]).encode(), b"[" * 9_000]
    )

    @effort(100)
    @given(changes=st.lists(st.tuples(names, values), max_size=3), data=data, drop=st.integers(0, len(BINARY)))
    def holds(changes: list[tuple[str, bytes]], data: bytes, drop: int) -> None:
        headers = tuple(dict([*BINARY[:drop], *BINARY[drop + 1 :], *changes]).items())
        taken_or_refused(intake, Record(0, 0, STAMP_MS, b"c1", data, headers))

    holds()


def test_http_takes_or_refuses_each_spoilt_event_of_a_request(intake: Intake, effort: Effort) -> None:
    http = HttpIntake(intake)
    media = st.sampled_from(
        [b"application/json", b"application/cloudevents+json", b"application/cloudevents-batch+json", b"text/plain"]
    )

    @effort(40)
    @given(bodies=st.lists(spoilt_events(), min_size=1, max_size=3), media=media, listed=st.booleans())
    def holds(bodies: list[bytes], media: bytes, listed: bool) -> None:
        body = b"[" + b",".join(bodies) + b"]" if listed else bodies[0]
        for take in (
            lambda: http.events(body, (("content-type", media),), STAMP_MS).admission(),
            lambda: http.batch(body, STAMP_MS).admission(),
            lambda: http.call("track", body, STAMP_MS).admission(),
        ):
            try:
                admission = take()
            except EventRefused as refused:
                assert_refusal(refused)
                continue
            assert len(admission.records) + len(admission.refused) > 0
            for one in admission.refused:
                assert_refusal(one.error)
            assert admission.dead_letters(STAMP_MS) is not None
            for record in admission.records:
                again = taken_or_refused(intake, Record(0, 0, STAMP_MS, record.key, record.value))
                assert len(again) == 1, "what HTTP has admitted, the worker takes"

    holds()


#: What one event may come to beside its text, as a record or as a dead letter with its reason.
AROUND_BYTES_MAX = 2_500
TINY = {"type": "page", "userId": "c1"}
FILLINGS = [
    lambda size: {"k": "x" * size},
    lambda size: {"x" * size: 1},
    lambda size: {"x" * (size // 2): [0] * (size // 6) + [2**70]},
    lambda size: {f"{number}": {} for number in range(size // 8)},
    lambda size: {"a": [[]] * (size // 4)},
    lambda size: json.loads('{"k":' * min(size, 20) + "1" + "}" * min(size, 20)),
    lambda size: {"\u00e9" * (size // 6): "\x7f" * (size // 2), "n": 1e22},
    lambda size: {"library": {"name": "x" * size}},
    lambda size: {"": None, "size": size},
    lambda size: ["x" * size],
]


@st.composite
def growing_requests(draw: st.DrawFn) -> bytes:
    """Return a request that becomes more than it is: many calls that take much along, of their own or lent."""
    size = st.sampled_from([0, 30, 400, 5_000, 15_000, 31_000])
    filling = st.builds(lambda fill, size: fill(size), st.sampled_from(FILLINGS), size)
    call = draw(st.sampled_from([TINY, {"type": "x"}, SEGMENT, ALIAS, NORMAL, CLOUD]))
    own = draw(
        st.dictionaries(st.sampled_from(["context", "properties", "traits", "data", "event"]), filling, max_size=1)
    )
    number = draw(st.sampled_from([0, 1, 30, 300, 600]))
    calls = [{**call, **own}] * min(number, 1 + 200_000 // len(json.dumps(own)))
    if draw(st.integers(0, 3)) == 0:
        return json.dumps(calls).encode()
    lent = draw(st.dictionaries(st.sampled_from(["context", "sentAt", "other"]), filling, max_size=2))
    return json.dumps({"batch": calls, **lent}, separators=(",", ":")).encode()


def test_what_a_request_becomes_is_bounded_by_what_it_is(intake: Intake, effort: Effort) -> None:
    http = HttpIntake(intake)
    lent = refused_whole = 0

    @effort(150)
    @given(body=growing_requests())
    def holds(body: bytes) -> None:
        nonlocal lent, refused_whole
        for open_ in (lambda: http.batch(body, STAMP_MS), lambda: http.events(body, (), STAMP_MS)):
            try:
                parcel = open_()
            except EventRefused as refused:
                assert_refusal(refused)
                refused_whole += refused.field in {"context", "sentAt"}
                continue
            assert parcel.size_bytes <= len(body) + 2 * LENT_BYTES_MAX + parcel.number * AROUND_BYTES
            admission = parcel.admission()
            for one in admission.refused:
                assert_refusal(one.error)
            made = [*admission.records, *admission.dead_letters(STAMP_MS)]
            size = sum(len(record.value) for record in made)
            assert size <= 2 * parcel.size_bytes + AROUND_BYTES_MAX * len(made)
            lent += size > 2 * len(body)
            for record in admission.records:
                again = taken_or_refused(intake, Record(0, 0, STAMP_MS, record.key, record.value))
                assert len(again) == 1, "what HTTP has admitted, the worker takes"
        taken_or_refused(intake, Record(0, 0, STAMP_MS, b"c1", body))

    holds()
    assert lent > 0 and refused_whole > 0, "some requests grow, and some would without bound"


BOMBS = {
    "lists": b"[" * 30_000,
    "objects": b'{"a":' * 6_000,
    "a long text": b'{"id":"' + b"x" * 31_000 + b'"}',
    "many keys": b"{" + b",".join(b'"%d":1' % number for number in range(2_500)) + b"}",
    "a long number": b'{"occurred_at":' + b"9" * 31_000 + b"}",
    "a long fraction": b'{"occurred_at":0.' + b"9" * 31_000 + b"}",
    "a large exponent": b'{"occurred_at":1e999999999}',
    "escapes": b'{"id":"' + b"\\u0041" * 5_000 + b'"}',
    "one megabyte": b" " * 1_000_000 + b"{}",
    "a list of everything": b"[" + b"{}," * 10_000 + b"{}]",
}


@pytest.mark.parametrize("value", BOMBS.values(), ids=BOMBS)
def test_a_value_that_would_blow_up_is_refused(intake: Intake, value: bytes) -> None:
    with pytest.raises(EventRefused) as refused:
        intake.events_from_record(Record(0, 0, STAMP_MS, b"c1", value))
    assert_refusal(refused.value)
    assert sys.getrecursionlimit() == 1000
