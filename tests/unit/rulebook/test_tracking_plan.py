"""The tracking plan: which events are accepted, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.event import SYSTEM_TYPES
from orchestrator.rulebook.tracking_plan import EventType, Property, TrackingPlan

PLAN = TrackingPlan(
    {
        "cart_updated": EventType(
            "cart_updated",
            {
                "cart_id": Property("string", required=True),
                "total": Property("number"),
                "items": Property("integer"),
                "currency": Property("string", enum=("INR", "SGD")),
                "gift": Property("boolean"),
                "address": Property("object"),
                "lines": Property("array"),
            },
        ),
        "closed_one": EventType("closed_one", {"size": Property("integer")}, closed=True),
    }
)


@pytest.mark.parametrize(
    ("event_type", "properties"),
    [
        ("cart_updated", {"cart_id": "k1", "total": 80, "items": 2, "currency": "INR", "gift": False}),
        ("cart_updated", {"cart_id": "k1", "total": 80.5, "address": {"city": "Pune"}, "lines": []}),
        ("cart_updated", {"cart_id": "k1", "colour": "undeclared properties are allowed"}),
        ("cart_updated", {"cart_id": "k1", "total": None}),
        ("closed_one", {"size": 1}),
        *((system, {"anything": 1}) for system in sorted(SYSTEM_TYPES)),
    ],
)
def test_an_event_that_keeps_to_the_plan_is_accepted(event_type: str, properties: dict[str, Any]) -> None:
    assert PLAN.check(event_type, properties) is None


@pytest.mark.parametrize(
    ("event_type", "properties", "said"),
    [
        (
            "cart_updatd",
            {},
            (
                "unknown_type",
                "type",
                'the event type "cart_updatd" is not in the tracking plan',
                'Declare it in tracking_plan.yaml, or send a declared type. Did you mean "cart_updated"?',
            ),
        ),
        (
            "cart_updated",
            {},
            (
                "wrong_property",
                "properties.cart_id",
                'cart_updated needs the property "cart_id"',
                "Send cart_id as text.",
            ),
        ),
        (
            "cart_updated",
            {"cart_id": "k1", "total": "80 EUR"},
            (
                "wrong_property",
                "properties.total",
                '"total" of cart_updated is text, not a number',
                "Send total as a number.",
            ),
        ),
        (
            "cart_updated",
            {"cart_id": "k1", "total": True},
            (
                "wrong_property",
                "properties.total",
                '"total" of cart_updated is true or false, not a number',
                "Send total as a number.",
            ),
        ),
        (
            "cart_updated",
            {"cart_id": "k1", "items": 1.5},
            (
                "wrong_property",
                "properties.items",
                '"items" of cart_updated is a number, not a whole number',
                "Send items as a whole number.",
            ),
        ),
        (
            "cart_updated",
            {"cart_id": "k1", "currency": "SGB"},
            (
                "wrong_property",
                "properties.currency",
                "\"currency\" of cart_updated may not be 'SGB'",
                'Send one of INR, SGD. Did you mean "SGD"?',
            ),
        ),
        (
            "cart_updated",
            {"cart_id": "k1", "lines": {}},
            (
                "wrong_property",
                "properties.lines",
                '"lines" of cart_updated is an object, not an array',
                "Send lines as an array.",
            ),
        ),
        (
            "closed_one",
            {"size": 1, "sise": 2},
            (
                "wrong_property",
                "properties.sise",
                'closed_one has no property "sise"',
                'Leave it out, or declare it. Did you mean "size"?',
            ),
        ),
    ],
)
def test_an_event_that_does_not_is_refused_with_the_remedy(
    event_type: str, properties: dict[str, Any], said: tuple[str, str, str, str]
) -> None:
    refused = PLAN.check(event_type, properties)
    assert refused is not None
    assert (refused.code, refused.field, str(refused), refused.remedy) == said


# ------------------------------------------------------------------------------------------------ outcomes

ADDED = TrackingPlan({"call_missed": EventType("call_missed", {"agent": Property("string")}, closed=True)})


@pytest.mark.parametrize(
    ("plan", "event_type", "path", "lacks"),
    [
        (TrackingPlan(), "call_missed", ("reason",), False),
        (TrackingPlan(), "call_missed", ("action_id",), False),
        (TrackingPlan(), "call_missed", ("raeson",), True),
        (TrackingPlan(), "call_missed", ("agent",), True),
        (ADDED, "call_missed", ("agent",), False),
        (ADDED, "call_missed", ("reason",), False),
        (TrackingPlan(), "action_delivered", ("whatever",), False),
        (TrackingPlan(), "identify", ("whatever",), False),
    ],
)
def test_an_outcome_has_its_own_properties_and_those_that_a_plan_adds(plan, event_type, path, lacks):
    assert plan.lacks(event_type, path) is lacks


def test_what_is_known_of_an_outcome_is_its_values_as_well():
    known = TrackingPlan().property_of("call_missed", ("reason",))
    assert known is not None
    assert (known.type, known.enum) == ("string", ("no_answer", "busy", "failed", "canceled"))


def test_an_outcome_may_always_bring_more_than_a_plan_closes_it_for():
    assert ADDED.check("call_missed", {"agent": "sales", "connector": "voice", "sip_response_code": "486"}) is None
    refused = ADDED.check("call_missed", {"agent": 7})
    assert refused is not None and str(refused) == '"agent" of call_missed is a number, not text'


@pytest.mark.parametrize(
    ("name", "sent", "taken"),
    [
        # What says the same is taken as what the plan declares, and nothing is guessed of the rest.
        ("total", "80.00", 80.0),
        ("total", " 80 ", 80),
        ("total", "-1", -1),
        ("items", "3", 3),
        ("items", 3.0, 3),
        ("total", "1,000.00", None),
        ("total", "1e3", None),
        ("total", "0x10", None),
        ("total", "\u0661\u0662", None),
        ("total", "1234567890123456", None),
        ("items", "3.5", None),
        ("cart_id", 7, None),
    ],
)
def test_text_that_says_the_same_as_a_declared_number_is_that_number(name: str, sent: object, taken: object) -> None:
    properties = {"cart_id": "k1", name: sent}
    refused = PLAN.check("cart_updated", properties)
    assert (refused is None) is (taken is not None)
    if taken is not None:
        assert (properties[name], type(properties[name])) == (taken, type(taken))
