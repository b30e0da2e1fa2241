"""The profile: what an event says about a customer counts as of when it happened, not as of when it arrived."""

from __future__ import annotations

import pytest

from orchestrator.core.event import Event
from orchestrator.core.profile import TRAITS_MAX, learn, set_trait
from orchestrator.core.state import CustomerState


def learned(*told: tuple[int, str, dict], by_context: bool = False) -> tuple[CustomerState, list[list[str]]]:
    state = CustomerState()
    withdrawn = []
    for number, (at_ms, event_type, properties) in enumerate(told):
        context = {"consent": {"categoryPreferences": properties}} if by_context else {}
        event = Event(
            id=f"e{number}",
            type=event_type,
            customer_id="c",
            occurred_at_ms=at_ms,
            received_at_ms=1_000,
            properties={} if by_context else properties,
            context=context,
        )
        withdrawn.append(learn(state, event, at_ms))
    return state, withdrawn


def test_a_late_trait_does_not_overwrite_a_newer_one():
    state, _ = learned((200, "identify", {"plan": "pro"}), (100, "identify", {"plan": "free", "city": "Pune"}))
    assert state.traits == {"plan": ("pro", 200), "city": ("Pune", 100)}


def test_of_two_traits_of_one_moment_the_one_that_came_last_stands():
    state, _ = learned((200, "identify", {"plan": "pro"}), (200, "identify", {"plan": "free"}))
    assert state.traits == {"plan": ("free", 200)}


def test_a_trait_that_was_removed_stays_removed_for_late_news():
    state, _ = learned((200, "identify", {"plan": None}), (100, "identify", {"plan": "free"}))
    assert state.traits == {"plan": (None, 200)}


def test_other_events_set_no_traits():
    state, _ = learned((100, "order_completed", {"plan": "pro"}))
    assert state.traits == {}


def test_beyond_the_ceiling_known_traits_change_and_new_ones_are_ignored():
    state = CustomerState(traits={f"t{number}": (0, 0) for number in range(TRAITS_MAX)})
    set_trait(state, "t0", 1, 5)
    set_trait(state, "new", 1, 5)
    assert state.traits["t0"] == (1, 5)
    assert "new" not in state.traits


@pytest.mark.parametrize("by_context", [False, True], ids=["consent_changed", "Segment's context"])
@pytest.mark.parametrize(
    ("told", "consent", "withdrawn"),
    [
        ([(100, True)], (True, 100), [[]]),
        ([(100, False)], (False, 100), [["sms"]]),
        ([(100, True), (200, False)], (False, 200), [[], ["sms"]]),
        ([(200, True), (100, False)], (True, 200), [[], []]),
        ([(200, False), (100, True)], (False, 200), [["sms"], []]),
        ([(100, False), (100, True)], (False, 100), [["sms"], []]),
        ([(100, True), (100, False)], (False, 100), [[], ["sms"]]),
        ([(100, False), (200, False)], (False, 200), [["sms"], []]),
        ([(100, "yes")], None, [[]]),
        ([(100, 1)], None, [[]]),
        ([(100, None)], None, [[]]),
    ],
)
def test_the_newest_consent_stands_and_refusal_wins_a_tie(by_context, told, consent, withdrawn):
    event_type = "page" if by_context else "consent_changed"
    state, changes = learned(*((at_ms, event_type, {"sms": given}) for at_ms, given in told), by_context=by_context)
    assert state.consents.get("sms") == consent
    assert changes == withdrawn


@pytest.mark.parametrize("consent", [None, "all", {"categoryPreferences": None}, {"categoryPreferences": ["sms"]}])
def test_a_consent_of_another_shape_says_nothing(consent):
    state = CustomerState()
    event = Event(
        id="e", type="page", customer_id="c", occurred_at_ms=1, received_at_ms=1, context={"consent": consent}
    )
    assert learn(state, event, 1) == []
    assert state.consents == {}
