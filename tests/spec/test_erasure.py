"""Erasure: a customer is forgotten, and nothing of the past brings them back (scenario 15)."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.seen import MARK_BYTES
from orchestrator.core.state import CustomerState

RULES = """
    journey: cart
    title: From cart to order
    key: event.cart_id
    stages:
      filled:  {on: {event: cart_updated}}
      ordered: {on: {event: order_completed}, goal: true}
    rules:
      - id: offer
        title: Offer help with every new basket
        on: {enter: filled}
        do:
          - send: {connector: email, template: mail}
        limits:
          consent: [marketing]
          cap: {max: 1, per: 7d, of: "kind:email"}
      - id: course
        title: Three touches a day apart
        on: {event: product_viewed}
        do:
          - wait: 1d
          - send: {connector: push, template: note}
        limits:
          consent: [service]
      - id: forgotten
        title: Remind of a basket that was left
        on: {absence: {after: cart_updated, of: order_completed, for: 30m, rearm: latest}}
        do:
          - send: {connector: sms, template: text}
        limits:
          consent: [service]
"""
GIVEN = {"marketing": True, "service": True}


@pytest.fixture
def story(tell):
    """A customer with a run, a pending e-mail, a waiting play, an armed absence and counters."""
    story = tell(RULES, traits={"country": "IN"}, consents=GIVEN)
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    story.happens("1m", "product_viewed", sku="s1")
    return story


def test_erasure_leaves_a_tombstone_and_nothing_else(story):
    story.happens("2m", "customer_erased", id="erasure")
    told = story.told("2m")
    assert told.state == CustomerState(
        clock_ms=story.moment("2m"), seen=told.state.seen, erased_at_ms=story.moment("2m")
    )
    assert len(told.state.seen) == MARK_BYTES


def test_what_was_not_delivered_is_withdrawn_and_nothing_fires_any_more(story):
    story.happens("2m", "customer_erased")
    told = story.told("30d")
    assert told.sent() == [("+0s", "email"), ("+120s", "withdraw offer")]
    (sent, withdrawn) = told.actions
    assert (withdrawn.id, withdrawn.reason, withdrawn.params) == (sent.id, "erased", {})


def test_what_was_delivered_is_not_withdrawn(story):
    (sent,) = story.told("1m").actions
    story.happens("90s", "action_delivered", action_id=sent.id)
    story.happens("2m", "customer_erased")
    assert story.told("30d").actions == [sent]


def test_the_ledger_gets_one_line_that_names_only_the_customer_and_the_moment(story):
    before = len(story.told("2m").records)
    story.happens("2m", "customer_erased", id="erasure")
    assert story.told("30d").records[before:] == [
        DecisionRecord(
            customer_id="c1",
            at=story.moment("2m"),
            rule="",
            outcome=Outcome.NOTED,
            reason=Reason.ERASED,
            cause="erasure",
            rulebook_version=story.rulebook.version,
        )
    ]


@pytest.mark.parametrize(
    ("happened", "arrives"),
    [
        ("30s", "3m"),  # a late event of the past
        ("2m", "2m"),  # at the very moment of the erasure
        ("1m", "40d"),  # however late
    ],
)
def test_an_event_of_the_past_changes_nothing_however_late(story, happened, arrives):
    story.happens("2m", "customer_erased")
    story.happens(happened, "cart_updated", arrives=arrives, cart_id="k2", context={"consent": GIVEN})
    told = story.told("50d")
    assert told.state == CustomerState(
        clock_ms=story.moment("2m"), seen=told.state.seen, erased_at_ms=story.moment("2m")
    )
    assert told.done.duplicates == 1


def test_receipts_of_actions_of_the_past_do_not_bring_the_customer_back(story):
    (sent,) = story.told("1m").actions
    story.happens("2m", "customer_erased")
    for number, receipt in enumerate(("action_cancelled", "action_cancel_too_late", "action_delivered"), start=3):
        story.happens(f"{number}m", receipt, action_id=sent.id)
    told = story.told("1d")
    assert (told.state.first_seen_ms, told.done.duplicates) == (0, 3)


def test_what_happens_afterwards_begins_a_new_empty_customer(story):
    story.happens("2m", "customer_erased")
    story.happens("3m", "cart_updated", cart_id="k2", total=10)
    told = story.told("4m")
    assert (told.state.first_seen_ms, told.state.traits, told.state.consents) == (story.moment("3m"), {}, {})
    assert list(told.state.runs) == ["cart/k2"]
    assert told.table()[-1] == ("+180s", "blocked offer", "consent_missing")


def test_a_new_customer_has_caps_of_their_own_and_receipts_again(story):
    story.happens("2m", "customer_erased")
    story.happens(
        "3m",
        "cart_updated",
        cart_id="k2",
        total=10,
        context={"consent": {"categoryPreferences": {"marketing": True}}},
    )
    offered = story.told("4m").actions[-1]
    assert offered.connector == "email"
    story.happens("5m", "action_delivered", action_id=offered.id)
    assert story.told("6m").state.pending[offered.id].delivered


def test_an_erasure_that_comes_again_changes_nothing(story):
    story.happens("2m", "customer_erased", id="erasure")
    once = story.told("1d")
    story.happens("2m", "customer_erased", arrives="3m", id="erasure")
    twice = story.told("1d")
    assert (twice.state, twice.actions, twice.records) == (once.state, once.actions, once.records)


def test_a_second_erasure_forgets_the_new_customer_as_well(story):
    story.happens("2m", "customer_erased")
    story.happens("3m", "cart_updated", cart_id="k2", total=10)
    story.happens("4m", "customer_erased")
    told = story.told("1d")
    assert (told.state.first_seen_ms, told.state.runs, told.state.erased_at_ms) == (0, {}, story.moment("4m"))


def test_an_erasure_that_was_asked_for_earlier_forgets_all_that_was_accepted_before_it(story):
    """Order is the log's: whatever lies before the erasure is gone, whatever the producers' clocks say."""
    story.happens("30s", "customer_erased", arrives="2m")
    assert story.told("2m").state.erased_at_ms == story.moment("2m")


def test_a_customer_of_whom_nothing_is_known_can_be_erased(tell):
    story = tell(RULES)
    story.happens("0s", "customer_erased")
    told = story.told("1s")
    assert (told.state.erased_at_ms, told.actions, len(told.records)) == (story.moment("0s"), [], 1)


def test_a_state_that_was_stored_before_there_were_tombstones_is_read():
    stored = msgspec.msgpack.encode([5, 5, 5])
    assert msgspec.msgpack.decode(stored, type=CustomerState) == CustomerState(5, 5, 5)


@pytest.mark.parametrize(
    ("case", "event_type", "properties", "known"),
    [
        ("a report of an old action begins nobody", "message_read", {"action_id": "a1", "kind": "sms"}, False),
        ("nor does a slot that was booked for it", "action_scheduled", {"action_id": "a1", "slot_at": 1}, False),
        ("STOP is heard all the same", "unsubscribed", {"action_id": "a1", "kind": "sms"}, True),
        ("a customer who writes is somebody", "message_received", {"kind": "sms", "text": "hello"}, True),
    ],
)
def test_what_a_provider_reports_after_the_erasure(story, case, event_type, properties, known):
    story.happens("2m", "customer_erased", id="erasure")
    story.happens("3m", event_type, **properties)
    state = story.told("1h").state
    assert bool(state.first_seen_ms) is known, case
    assert state.consents.get("kind:sms", (True,))[0] is (event_type != "unsubscribed")


def test_a_report_counts_once_the_customer_has_begun_anew(story):
    story.happens("2m", "customer_erased", id="erasure")
    story.happens("3m", "kyc_started")
    story.happens("4m", "message_bounced", action_id="a9", kind="sms")
    assert story.told("1h").state.consents == {"address:sms": (False, story.moment("4m"))}
