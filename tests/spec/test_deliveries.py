"""What a replay assumes of actions without receipts: delivered, unless something comes before that.

A cart text goes out 30 minutes after the basket was left; the purchase follows later, or an opt-out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.event import ACTION_DELIVERED, ACTION_EXPIRED, ACTION_FAILED
from orchestrator.core.state import CustomerState
from orchestrator.runtime.deliveries import receipts_in
from orchestrator.runtime.replay import Replayed, replay

CART = """
journey: purchase
title: Purchase
key: event.cart_id
stages:
  basket: {on: {event: cart_updated}}
  ordered: {on: {event: order_completed}, goal: true}
rules:
  - id: nudge
    title: Nudge
    on: {absence: {after: cart_updated, of: order_completed, for: 30m, rearm: latest}}
    do: [{send: {connector: sms, template: text}}]
    limits: {consent: [marketing], cap: {max: 1, per: 7d, of: rule}}
"""

LEAD = """
journey: enquiry
title: Enquiry
key: event.lead_id
stages:
  enquired: {on: {event: lead_submitted}}
  won: {on: {event: deal_won}, goal: true}
rules:
  - id: callback
    title: Call
    on: {event: lead_submitted}
    do:
      - send: {connector: voice, template: call, deadline: 500ms, fallback: [{connector: sms, template: text}]}
"""

Tell = Callable[..., Any]


def replayed(story: Any, until: str) -> Replayed:
    """Replay a story as backtests and cases do."""
    state = CustomerState(first_seen_ms=story.start_ms, consents=dict.fromkeys(story.consents, (True, 0)))
    log = sorted(story.events, key=lambda event: event.received_at_ms)
    done = replay(
        story.rulebook,
        log,
        until_ms=story.moment(until),
        states={story.customer_id: state},
        told=receipts_in(log),
    )
    assert not done.failures, done.failures
    return done


def fates(done: Replayed) -> list[tuple[str, str]]:
    return [(one.action.connector, one.fate.value) for one in done.deliveries]


@pytest.mark.parametrize(
    ("event", "at", "arrives", "fate", "ledger"),
    [
        # A text that left at 30m has arrived long before the purchase.
        ("order_completed", "8h", "8h", "sent", []),
        ("order_completed", "30m1s", "30m1s", "sent", []),
        # A dispatcher needs a second.
        ("order_completed", "30m", "30m", "withdrawn", [("withdrawn", "goal_reached")]),
        ("order_completed", "29m59s", "30m", "withdrawn", [("withdrawn", "goal_reached")]),
        ("order_completed", "29m59s", "31m", "sent", [("noted", "too_late")]),
        ("consent_changed", "8h", "8h", "sent", []),
        ("consent_changed", "30m", "30m", "withdrawn", [("withdrawn", "consent_withdrawn")]),
    ],
)
def test_what_comes_after_the_delivery_takes_nothing_back(
    tell: Tell, event: str, at: str, arrives: str, fate: str, ledger: list[tuple[str, str]]
) -> None:
    story = tell(CART, consents={"marketing": True})
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    properties = {"marketing": False} if event == "consent_changed" else {"cart_id": "k1", "total": 80}
    story.happens(at, event, arrives=arrives, **properties)
    done = replayed(story, "2d")
    assert fates(done) == [("sms", fate)]
    lines = [(one.outcome.value, one.reason.value) for one in done.records]
    assert lines == [("sent", "triggered"), *ledger]


def test_a_cap_counts_what_was_delivered_and_gives_back_what_was_withdrawn(tell: Tell) -> None:
    story = tell(CART, consents={"marketing": True})
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    story.happens("30m", "order_completed", cart_id="k1", total=80)
    story.happens("1d", "cart_updated", cart_id="k2", total=80)
    story.happens("1d8h", "order_completed", cart_id="k2", total=80)
    story.happens("2d", "cart_updated", cart_id="k3", total=80)
    done = replayed(story, "3d")
    assert fates(done) == [("sms", "withdrawn"), ("sms", "sent")]
    assert [(one.outcome.value, one.reason.value) for one in done.records][-1] == ("blocked", "cap_reached")


@pytest.mark.parametrize(
    ("receipt", "fate", "second"), [(ACTION_FAILED, "failed", "sent"), (ACTION_DELIVERED, "sent", None)]
)
def test_receipts_in_the_log_count_for_the_actions_that_they_name(
    tell: Tell, receipt: str, fate: str, second: str | None
) -> None:
    """A failure that the log has gives the cap back an hour later; nothing is assumed of that action."""
    story = tell(CART, consents={"marketing": True})
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    (action,) = replayed(story, "1h").actions
    story.happens("90m", receipt, action_id=action.id)
    story.happens("3h", "cart_updated", cart_id="k2", total=80)
    done = replayed(story, "1d")
    assert fates(done) == [("sms", fate), *([("sms", second)] if second else [])]


def test_a_receipt_that_came_before_the_action_says_nothing_of_it(tell: Tell) -> None:
    """A draft may decide the action of a live rule later than it was decided live."""
    story = tell(CART, consents={"marketing": True})
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    (action,) = replayed(story, "1h").actions
    story.happens("10m", ACTION_FAILED, action_id=action.id)
    assert fates(replayed(story, "1d")) == [("sms", "sent")]


def test_an_action_whose_deadline_is_over_before_it_could_be_sent_expires_and_its_fallback_goes_out(
    tell: Tell,
) -> None:
    story = tell(LEAD, consents={})
    story.happens("0s", "lead_submitted", lead_id="l1", phone="+919812345678")
    done = replayed(story, "1h")
    assert fates(done) == [("voice", "expired"), ("sms", "sent")]
    assert [one.connector for one in done.sent()] == ["sms"]


def test_a_fallback_that_the_log_tells_of_is_in_the_list(tell: Tell) -> None:
    story = tell(LEAD.replace("500ms", "5m"), consents={})
    story.happens("0s", "lead_submitted", lead_id="l1", phone="+919812345678")
    (call,) = replayed(story, "1s").actions
    story.happens("5m", ACTION_EXPIRED, action_id=call.id, fallback=call.fallback[0].id)
    assert fates(replayed(story, "1h")) == [("voice", "expired"), ("sms", "sent")]
    story.happens("6m", ACTION_FAILED, action_id=call.fallback[0].id)
    assert fates(replayed(story, "1h")) == [("voice", "expired"), ("sms", "failed")]


def test_what_is_on_its_way_at_the_end_of_a_replay_counts_as_sent(tell: Tell) -> None:
    story = tell(CART, consents={"marketing": True})
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    done = replayed(story, "30m")
    assert fates(done) == [("sms", "sent")]
    assert done.events == 1


def test_a_delivery_follows_its_customer_into_a_merge(tell: Tell) -> None:
    """The text of the anonymous customer is delivered to who they are by then, whoever wrote the log."""
    story = tell(CART, consents={"marketing": True})
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    story.customer_id = "known"
    story.happens("30m", "identify", context={"anonymous_id": "c1"})
    story.happens("8h", "order_completed", cart_id="k1", total=80)
    story.customer_id = "c1"
    done = replayed(story, "2d")
    assert fates(done) == [("sms", "sent")]
    assert all(one.delivered for one in done.states["known"].pending.values())


def test_a_rule_under_another_name_gives_the_same_volume_on_a_log_with_receipts(tell: Tell) -> None:
    story = tell(CART, consents={"marketing": True})
    for number in range(20):
        story.happens(f"{number * 8}d", "cart_updated", cart_id=f"k{number}", total=80)
    live = replayed(story, "365d")
    for action in live.actions:
        after_s = (action.decided_at - story.start_ms) // 1_000
        story.happens(f"{after_s}s40ms", ACTION_DELIVERED, action_id=action.id)
        story.happens(f"{after_s + 3_600}s", "order_completed", cart_id=f"k{after_s // (8 * 86_400)}", total=80)
    renamed = tell(CART.replace("id: nudge", "id: reminder"), consents={"marketing": True})
    renamed.events = story.events
    assert fates(replayed(renamed, "365d")) == fates(replayed(story, "365d")) == [("sms", "sent")] * 20


COUNTED = CART.replace("    do: [", "    when: {count: product_viewed, within: 7d, op: lte, value: 1}\n    do: [")


@pytest.mark.parametrize(
    ("viewed", "left", "warm", "cold"), [("1d", "2d", 1, 0), ("1d", "6d23h", 1, 0), ("1d", "7d", 1, 1)]
)
def test_a_cold_replay_knows_a_count_once_its_window_has_passed(
    tell: Tell, viewed: str, left: str, warm: int, cold: int
) -> None:
    """Live, a count that is published anew is unknown for whoever was a customer before."""
    story = tell(COUNTED, consents={"marketing": True})
    story.happens("0s", "consent_changed", marketing=True)
    story.happens(viewed, "product_viewed", sku="s1")
    story.happens(left, "cart_updated", cart_id="k1", total=80)
    until_ms = story.moment("30d")
    sent = [
        len(replay(story.rulebook, story.events, until_ms=until_ms, told={}, cold=one).sent()) for one in (False, True)
    ]
    assert sent == [warm, cold]
