"""Absence: the trigger behind every "they did not come back" rule (scenarios 4, 5 and 6)."""

from __future__ import annotations

import pytest

CART = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:  {on: {event: cart_updated}}
      ordered: {on: {event: order_completed}, goal: true}
    rules:
      - id: cart-recovery
        title: Win back a basket
        on: {absence: {after: cart_updated, of: order_completed, for: 30m, rearm: latest}}
        when:
          all:
            - {field: event.total, op: gte, value: 40}
        do:
          - send: {connector: sms, template: text}
        limits: {consent: [marketing]}
"""
GRANTED = {"marketing": True}


@pytest.mark.parametrize(
    ("story", "sent"),
    [
        ("a basket that is left fires after its span", [("+1800s", "sms")]),
        ("a later update moves the clock", [("+2400s", "sms")]),
        ("an order a second before the span is over prevents it", []),
        ("another basket of the same customer still fires", [("+1860s", "sms")]),
        ("an order that reaches the log first prevents it as well", []),
        ("an order of another basket does not", [("+1800s", "sms")]),
    ],
)
def test_a_basket_without_an_order(tell, story, sent):
    told = tell(CART, consents=GRANTED)
    told.happens("0s", "cart_updated", cart_id="k1", total=80)
    match story:
        case "a later update moves the clock":
            told.happens("10m", "cart_updated", cart_id="k1", total=90)
        case "an order a second before the span is over prevents it":
            told.happens("1799s", "order_completed", cart_id="k1", total=80)
        case "another basket of the same customer still fires":
            told.happens("1m", "cart_updated", cart_id="k2", total=50)
            told.happens("2m", "order_completed", cart_id="k1", total=80)
        case "an order that reaches the log first prevents it as well":
            told.events.clear()
            told.happens("5s", "order_completed", cart_id="k1", total=80)
            told.happens("0s", "cart_updated", arrives="6s", cart_id="k1", total=80)
        case "an order of another basket does not":
            told.happens("1m", "order_completed", cart_id="k9", total=80)
    assert told.told("2h").sent() == sent


def test_the_condition_reads_the_basket_as_it_was_left(tell):
    story = tell(CART, consents=GRANTED)
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    story.happens("1m", "cart_updated", cart_id="k1", total=20)
    assert story.told("2h").sent() == []


def test_without_consent_nothing_is_sent_and_the_reason_is_kept(tell):
    story = tell(CART)
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    assert story.told("2h").table() == [("+1800s", "blocked cart-recovery", "consent_missing")]


@pytest.mark.parametrize(
    ("receipt", "decisions"),
    [
        (None, [("+1805s", "withdrawn cart-recovery", "late_event")]),
        ("action_delivered", [("+1805s", "noted cart-recovery", "too_late")]),
    ],
    ids=["before dispatch it is withdrawn", "after dispatch it is recorded as too late"],
)
def test_an_order_that_arrives_after_the_firing_but_happened_before_it(tell, receipt, decisions):
    rules = CART.replace(
        "ordered: {on: {event: order_completed}, goal: true}", "ordered: {on: {event: checkout_started}}"
    )
    story = tell(rules, consents=GRANTED)
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    fired = story.told("1801s").actions[0]
    if receipt:
        story.happens("1802s", receipt, action_id=fired.id)
    story.happens("1795s", "order_completed", arrives="1805s", cart_id="k1", total=80)
    told = story.told("2h")
    assert told.table() == [("+1800s", "sent cart-recovery", "triggered"), *decisions]
    assert [action.id for action in told.actions if action.cancel] == ([] if receipt else [fired.id])


def test_a_goal_ends_the_run_and_its_timer_with_it(tell):
    story = tell(CART, consents=GRANTED)
    story.happens("0s", "cart_updated", cart_id="k1", total=80)
    story.happens("1m", "order_completed", cart_id="k1", total=80)
    told = story.told("1m")
    assert told.state.timers == {}
    assert told.state.runs["purchase/k1"].stage == "ordered"


def test_the_same_event_twice_counts_once(tell):
    story = tell(CART, consents=GRANTED)
    story.happens("0s", "cart_updated", id="same", cart_id="k1", total=80)
    story.happens("0s", "cart_updated", arrives="20m", id="same", cart_id="k1", total=80)
    assert story.told("2h").sent() == [("+1800s", "sms")]


def test_a_basket_far_in_the_past_arms_nothing(tell):
    """An imported history must not set off a burst of stale nudges."""
    story = tell(CART, consents=GRANTED)
    story.happens("0s", "cart_updated", arrives="3d", cart_id="k1", total=80)
    assert story.told("4d").sent() == []
