"""Ids in every place from which one can become a customer's: checked at every door, in every form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.core.customer_id import NOBODY
from orchestrator.core.event import Event
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import HttpIntake, Intake, Limits, encode_event
from orchestrator.runtime.ports import Record

NOW_MS = 1_772_425_805_000
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"


class AnyEvent:
    def check(self, event_type: str, properties: Mapping[str, Any]) -> None:
        return None


INTAKE = Intake(AnyEvent(), "default", Limits(), ("acme",))

#: Ids that nobody can have, and what is said of them.
BAD = {
    "a control character": ("a\x01", "contains a control character."),
    "a line break": ("a\nb", "contains a control character."),
    "too long": ("x" * 201, "has 201 characters; at most 200 are allowed."),
    "another workspace's": ("acme:c1", 'begins with "acme:", which marks the customers of another workspace.'),
    "undefined": ("undefined", "stands for nobody."),
    "null, shouted": (" NULL ", "stands for nobody."),
    "an object as text": ("[object Object]", "stands for nobody."),
    "the empty UUID": ("00000000-0000-0000-0000-000000000000", "stands for nobody."),
    "blank": ("  ", "stands for nobody."),
}


def normal(kind: str, *, customer: Any = "c1", properties: Any = None, context: Any = None) -> dict[str, Any]:
    event = {"id": "e1", "type": kind, "customer_id": customer, "occurred_at": NOW_MS}
    return {**event, "properties": properties or {}, "context": context or {}}


def cloud(kind: str, *, customer: Any = "c1", data: Any = None, **extensions: Any) -> dict[str, Any]:
    event = {"specversion": "1.0", "id": "e1", "source": "/w", "type": kind, "subject": customer}
    return {**event, "data": data or {}, **extensions}


#: Places of an id: (field that is named, the event with an id there).
PLACES: dict[str, tuple[str, Any]] = {
    "customer of an event": ("customer_id", lambda one: normal("viewed", customer=one)),
    "anonymous id of identify": ("context.anonymous_id", lambda one: normal("identify", context={"anonymous_id": one})),
    "previous id of alias": ("properties.previous_id", lambda one: normal("alias", properties={"previous_id": one})),
    "subject of a CloudEvent": ("subject|customer_id", lambda one: cloud("viewed", customer=one)),
    "anonymous id of a CloudEvent": ("context.anonymous_id", lambda one: cloud("identify", anonymous_id=one)),
    "previous id of a CloudEvent": ("properties.previous_id", lambda one: cloud("alias", data={"previous_id": one})),
    "userId": ("userId|customer_id", lambda one: {"type": "identify", "messageId": "e1", "userId": one}),
    "anonymousId": ("anonymousId|customer_id", lambda one: {"type": "page", "messageId": "e1", "anonymousId": one}),
    "anonymousId beside userId": (
        "anonymousId|context.anonymous_id",
        lambda one: {"type": "identify", "messageId": "e1", "userId": "c1", "anonymousId": one},
    ),
    "previousId": (
        "previousId|properties.previous_id",
        lambda one: {"type": "alias", "messageId": "e1", "userId": "c1", "previousId": one},
    ),
    "anonymous id in a call's context": (
        "context.anonymous_id",
        lambda one: {"type": "identify", "messageId": "e1", "userId": "c1", "context": {"anonymous_id": one}},
    ),
}


def refusals(event: dict[str, Any], key: str) -> list[EventRefused]:
    """Return what the topic and HTTP, one by one, in a list and in a batch, say of an event; all refuse it."""
    http, body = HttpIntake(INTAKE), json.dumps(event).encode()
    found: list[EventRefused] = []
    with pytest.raises(EventRefused) as on_topic:
        INTAKE.events_from_record(Record(0, 0, NOW_MS, key.encode(), body))
    found.append(on_topic.value)
    media = b"application/json"
    found += [one.error for one in http.events(body, [("content-type", media)], NOW_MS).admission().refused]
    found += [one.error for one in http.events(b"[%s]" % body, [("content-type", media)], NOW_MS).admission().refused]
    if "specversion" in event:
        found += [
            one.error for one in http.events(body, [("content-type", STRUCTURED.encode())], NOW_MS).admission().refused
        ]
        batched = [("content-type", BATCHED.encode())]
        found += [one.error for one in http.events(b"[%s]" % body, batched, NOW_MS).admission().refused]
    if "messageId" in event:
        found += [one.error for one in http.call(event["type"], body, NOW_MS).admission().refused]
        found += [one.error for one in http.batch(b'{"batch":[%s]}' % body, NOW_MS).admission().refused]
    expected = 3 + 2 * ("specversion" in event or "messageId" in event)
    assert len(found) == expected, [str(one) for one in found]
    return found


@pytest.mark.parametrize(("bad", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize(("fields", "event"), PLACES.values(), ids=PLACES)
def test_a_bad_id_is_refused_in_every_place_form_and_door(fields: str, event: Any, bad: str, said: str) -> None:
    for refused in refusals(event(bad), key=bad if "customer_id" in fields else "c1"):
        assert str(refused).endswith(said)
        assert refused.field in fields.split("|")
        assert refused.remedy


@pytest.mark.parametrize("value", [7, True, [], {}, ["a"]])
@pytest.mark.parametrize("place", ["anonymous id of identify", "previous id of alias"])
def test_what_is_no_text_is_no_id(place: str, value: Any) -> None:
    field, event = PLACES[place]
    for refused in refusals(event(value), key="c1"):
        assert str(refused).startswith(f"{field} must be a string, not ")


@pytest.mark.parametrize("properties", [{}, {"previous_id": None}, {"previous_id": ""}])
def test_an_alias_that_names_nobody_is_refused(properties: dict[str, Any]) -> None:
    for refused in refusals(normal("alias", properties=properties), key="c1"):
        assert (str(refused), refused.code) == ("properties.previous_id is missing.", "missing_field")


@pytest.mark.parametrize("context", [{}, {"anonymous_id": None}, {"anonymous_id": ""}])
def test_an_identify_need_not_name_another_id(context: dict[str, Any]) -> None:
    body = json.dumps(normal("identify", context=context)).encode()
    assert len(HttpIntake(INTAKE).events(body, [], NOW_MS).admission().records) == 1


@pytest.mark.parametrize("name", ["granted", "via"])
def test_a_producer_vouches_for_nothing(name: str) -> None:
    """Only the gateway says who vouches, and only tombstones say by which id an event came."""
    body = json.dumps({**normal("alias", properties={"previous_id": "a1"}), name: "me"}).encode()
    (refused,) = HttpIntake(INTAKE).events(body, [], NOW_MS).admission().refused
    assert str(refused.error) == f"{name} is the engine's own."
    event = INTAKE.from_record(Record(0, 0, NOW_MS, b"c1", body))
    assert getattr(event, name) == "me", "who writes to the topic is trusted"


def test_who_vouches_is_stamped_on_an_alias_and_on_nothing_else() -> None:
    events = [normal("alias", properties={"previous_id": "a1"}), normal("identify"), normal("viewed")]
    admission = HttpIntake(INTAKE).events(json.dumps(events).encode(), [], NOW_MS, "asha").admission()
    stamped = [INTAKE.from_record(Record(0, 0, NOW_MS, one.key, one.value)).granted for one in admission.records]
    assert stamped == ["asha", "", ""]
    assert admission.vouched == [("c1", "a1")]


def test_ids_that_stand_for_nobody_are_a_setting() -> None:
    lenient = Intake(AnyEvent(), "default", Limits(nobody=frozenset({"niemand"})))
    taken = lenient.from_record(Record(0, 0, NOW_MS, b"guest", json.dumps(normal("viewed", customer="guest")).encode()))
    assert taken.customer_id == "guest"
    with pytest.raises(EventRefused, match="stands for nobody"):
        body = json.dumps(normal("viewed", customer="Niemand")).encode()
        lenient.from_record(Record(0, 0, NOW_MS, b"Niemand", body))
    assert all(one == one.strip().casefold() for one in NOBODY)


@pytest.mark.parametrize("kind", ["customer_erased", "action_delivered", "merge_refused"])
def test_what_the_engine_says_of_who_was_nobody_is_taken(kind: str) -> None:
    """Whoever was taken in under such an id before must be able to be forgotten."""
    properties = {"previous_id": "c1", "action_id": "a"}
    body = json.dumps(normal(kind, customer="guest", properties=properties)).encode()
    assert INTAKE.from_record(Record(0, 0, NOW_MS, b"guest", body)).customer_id == "guest"


# -------------------------------------------------------------------------------------------------- forwarding


def test_what_is_forwarded_may_have_grown(body_bytes: int = 31_900) -> None:
    """The longer id of whom they are now, and numbers written out, must not make an event that was taken too large."""
    event = Event(
        id="e1",
        type="viewed",
        customer_id="\U0001f600" * 200,
        occurred_at_ms=NOW_MS,
        received_at_ms=NOW_MS,
        properties={"text": "x" * body_bytes, "numbers": [1e15] * 1_000},
        via="c1",
    )
    value = encode_event(event)
    assert value.startswith(b'{"via":"') and len(value) > Limits().event_bytes_max
    assert INTAKE.from_record(Record(0, 0, NOW_MS, event.customer_id.encode(), value)) == event
    (refused,) = HttpIntake(INTAKE).events(value, [], NOW_MS).admission().refused
    assert str(refused.error) == "via is the engine's own."


def test_the_attributes_of_a_binary_cloudevent_count_as_its_size() -> None:
    headers = {"ce_specversion": b"1.0", "ce_id": b"e1", "ce_source": b"/w", "ce_type": b"viewed", "ce_subject": b"c1"}
    record = Record(0, 0, NOW_MS, b"c1", b"{}", tuple({**headers, "ce_note": b"x" * 40_000}.items()))
    with pytest.raises(EventRefused, match=r"^The event has 400\d\d bytes; at most 32000 are allowed\.$"):
        INTAKE.from_record(record)
