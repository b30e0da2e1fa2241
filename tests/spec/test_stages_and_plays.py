"""Stages and plays: runs move forward, programs wait durably, exits take effect at once (scenarios 8 and 9)."""

from __future__ import annotations

from dataclasses import replace

import pytest

FUNNEL = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:    {on: {event: cart_updated}}
      checkout:  {on: {event: checkout_started}}
      ordered:   {on: {event: order_completed}, goal: true}
      abandoned: {on: {dwell: 7d}}
    reentry: {after: 1d}
    rules:
      - id: stuck
        title: Stuck in checkout
        on: {dwell: {stage: checkout, for: 10m}}
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
      - id: left
        title: Left for good
        on: {enter: abandoned}
        do: [{send: {connector: email, template: mail}}]
        limits: {consent: [service]}
"""
SERVICE = {"service": True}


@pytest.mark.parametrize(
    ("events", "stage"),
    [
        ([("0s", "cart_updated")], "basket"),
        ([("0s", "cart_updated"), ("1m", "checkout_started")], "checkout"),
        ([("0s", "cart_updated"), ("1m", "checkout_started"), ("2m", "cart_updated")], "checkout"),
        ([("0s", "checkout_started"), ("1m", "order_completed")], "ordered"),
        ([("0s", "order_completed"), ("1m", "cart_updated")], "ordered"),
        ([("0s", "order_completed"), ("2d", "cart_updated")], "basket"),
    ],
)
def test_a_run_moves_forward_only_and_starts_anew_after_its_reentry_span(tell, events, stage):
    story = tell(FUNNEL)
    for after, event_type in events:
        story.happens(after, event_type, cart_id="k1")
    assert story.told("2d1h").state.runs["purchase/k1"].stage == stage


def test_a_standstill_enters_the_stage_that_waits_for_one(tell):
    story = tell(FUNNEL, consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    told = story.told("8d")
    assert told.state.runs["purchase/k1"].stage == "abandoned"
    assert told.sent() == [("+604800s", "email")]


@pytest.mark.parametrize(
    ("ordered_at", "sent"), [("9m59s", []), ("12m", [("+660s", "push"), ("+720s", "withdraw stuck")])]
)
def test_dwelling_fires_unless_the_run_moves_on(tell, ordered_at, sent):
    story = tell(FUNNEL, consents=SERVICE)
    story.happens("1m", "checkout_started", cart_id="k1")
    story.happens(ordered_at, "order_completed", cart_id="k1")
    assert story.told("1h").sent() == sent


PLAY = """
    journey: kyc
    title: Know your customer
    stages:
      started:   {on: {event: kyc_started}}
      completed: {on: {event: kyc_completed}, goal: true}
    rules:
      - id: guide
        title: Guide through
        on: {enter: started}
        do:
          - send: {connector: email, template: mail}
            wait_for: {event: email_opened, within: 1d, else: [{send: {connector: push, template: note}}]}
          - wait: 30d
          - send: {connector: sms, template: text}
        limits: {consent: [service]}
"""


def test_an_awaited_event_that_comes_skips_the_alternative(tell):
    story = tell(PLAY, consents=SERVICE)
    story.happens("0s", "kyc_started")
    story.happens("1h", "email_opened")
    assert story.told("31d").sent() == [("+0s", "email"), ("+2595600s", "sms")]


def test_an_awaited_event_that_does_not_come_takes_the_alternative(tell):
    story = tell(PLAY, consents=SERVICE)
    story.happens("0s", "kyc_started")
    assert story.told("32d").sent() == [("+0s", "email"), ("+86400s", "push"), ("+2678400s", "sms")]


def test_conversion_in_minute_one_of_a_wait_of_thirty_days_ends_the_play_at_once(tell):
    story = tell(PLAY, consents=SERVICE)
    story.happens("0s", "kyc_started")
    story.happens("1h", "email_opened")
    story.happens("61m", "kyc_completed")
    told = story.told("61m")
    assert told.state.timers == {}
    assert told.state.plays == {}
    assert told.table()[-2:] == [
        ("+3660s", "ended guide", "goal_reached"),
        ("+3660s", "withdrawn guide", "goal_reached"),
    ]


RIVALS = """
    journey: contact
    title: Who may speak
    stages:
      submitted: {on: {event: lead_submitted}}
      won:       {on: {event: deal_won}, goal: true}
    rules:
      - id: call-back
        title: Call
        on: {event: lead_submitted}
        do: [{send: {connector: voice, template: call}}]
        limits: {consent: [service]}
        arbitrate: {slot: contact, value: 10.0}
      - id: kyc-nudge
        title: Nudge
        on: {event: lead_submitted}
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
        arbitrate: {slot: contact, value: 4.0, weight: 2.0}
      - id: promo
        title: Promotion
        on: {event: lead_submitted}
        do: [{send: {connector: email, template: mail}}]
        limits: {consent: [marketing]}
        arbitrate: {slot: contact, value: 50.0}
"""


def rivals(story):
    story.happens("0s", "lead_submitted", lead_id="l1", phone="+919812345678")
    return story.told("1m")


def test_one_rule_wins_the_slot_and_the_losers_keep_their_factors(tell):
    told = rivals(tell(RIVALS, consents=SERVICE))
    assert told.table() == [
        ("+0s", "blocked promo", "consent_missing"),
        ("+0s", "lost kyc-nudge", "arbitration_lost"),
        ("+0s", "sent call-back", "triggered"),
    ]
    assert told.records[1].detail == {
        "slot": "contact",
        "winner": "call-back",
        "winning_score": 10.0,
        "score": 8.0,
        "propensity": 1.0,
        "context": 1.0,
        "value": 4.0,
        "weight": 2.0,
    }


@pytest.mark.parametrize(("weight", "winner"), [(2.4, "voice"), (2.6, "push"), (2.5, "voice")])
def test_changing_a_lever_flips_the_winner_and_a_tie_breaks_on_the_rules_id(tell, weight, winner):
    told = rivals(tell(RIVALS.replace("weight: 2.0", f"weight: {weight}"), consents=SERVICE))
    assert told.sent() == [("+0s", winner)]


HELD_OUT = """
    journey: purchase
    title: Purchase
    stages:
      basket:  {on: {event: cart_updated}}
      ordered: {on: {event: order_completed}, goal: true}
    rules:
      - id: nudge
        title: Nudge
        on: {event: cart_updated}
        do:
          - split: {id: q4, holdout: 20, plain: 40, offer: 40}
          - case: plain
            send: {connector: sms, template: text}
          - case: offer
            send: {connector: email, template: mail}
        limits: {consent: [marketing]}
"""


def test_a_split_is_sticky_and_holds_its_share_out(tell):
    arms: dict[str, list[str]] = {}
    book = tell(HELD_OUT)
    for number in range(400):
        story = replace(book, customer_id=f"customer-{number}", consents={"marketing": True}, events=[])
        story.happens("0s", "cart_updated", cart_id="k1")
        story.happens("1h", "cart_updated", cart_id="k2")
        told = story.told("2h")
        first, second = [one.connector for one in told.actions] or ["holdout"] * 2
        assert first == second
        arms.setdefault(first, []).append(story.customer_id)
    shares = {arm: len(customers) / 400 for arm, customers in arms.items()}
    assert 0.14 < shares["holdout"] < 0.26
    assert 0.33 < shares["sms"] < 0.47
