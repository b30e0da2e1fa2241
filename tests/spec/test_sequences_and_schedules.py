"""Sequences and schedules: order without regard to arrival, and the customer's own clock."""

from __future__ import annotations

import pytest

SEQUENCE = """
    journey: purchase
    title: Purchase
    stages:
      looking: {on: {event: product_viewed}}
      ordered: {on: {event: order_completed}, goal: true}
    reentry: {after: 0s}
    rules:
      - id: hesitant
        title: Looked, filled, looked again and did not pay
        on:
          sequence:
            steps:
              - {event: cart_updated}
              - {not: [order_completed]}
              - {event: checkout_started}
              - {event: payment_failed}
            within: 1h
            same: event.cart_id
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
"""
SERVICE = {"service": True}


@pytest.mark.parametrize(
    ("case", "events", "sent"),
    [
        (
            "in order",
            [("0s", "cart_updated", None), ("1m", "checkout_started", None), ("2m", "payment_failed", None)],
            ["+120s"],
        ),
        (
            "arriving out of order",
            [("2m", "payment_failed", "3m"), ("1m", "checkout_started", "4m"), ("0s", "cart_updated", "5m")],
            ["+300s"],
        ),
        (
            "wrong order",
            [("0s", "checkout_started", None), ("1m", "cart_updated", None), ("2m", "payment_failed", None)],
            [],
        ),
        (
            "something forbidden between",
            [
                ("0s", "cart_updated", None),
                ("30s", "order_completed", None),
                ("1m", "checkout_started", None),
                ("2m", "payment_failed", None),
            ],
            [],
        ),
        (
            "forbidden only where the gap says so",
            [
                ("0s", "cart_updated", None),
                ("1m", "checkout_started", None),
                ("90s", "order_completed", None),
                ("2m", "payment_failed", None),
            ],
            ["+120s"],
        ),
        (
            "too slow",
            [("0s", "cart_updated", None), ("1m", "checkout_started", None), ("61m", "payment_failed", None)],
            [],
        ),
        (
            "once per sequence",
            [
                ("0s", "cart_updated", None),
                ("1m", "checkout_started", None),
                ("2m", "payment_failed", None),
                ("3m", "payment_failed", None),
            ],
            ["+120s"],
        ),
        (
            "a second whole sequence",
            [
                ("0s", "cart_updated", None),
                ("1m", "checkout_started", None),
                ("2m", "payment_failed", None),
                ("3m", "cart_updated", None),
                ("4m", "checkout_started", None),
                ("5m", "payment_failed", None),
            ],
            ["+120s", "+300s"],
        ),
    ],
)
def test_a_sequence_of_events(tell, case, events, sent):
    story = tell(SEQUENCE.replace("do: [", "acts: anytime\n        do: ["), consents=SERVICE)
    for after, event_type, arrives in events:
        story.happens(after, event_type, arrives=arrives, cart_id="k1")
    assert [when for when, _ in story.told("2h").sent()] == sent, case


def test_events_of_different_carts_make_no_sequence(tell):
    story = tell(SEQUENCE, consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    story.happens("1m", "checkout_started", cart_id="k2")
    story.happens("2m", "payment_failed", cart_id="k1")
    assert story.told("2h").sent() == []


def test_a_play_that_a_sequence_starts_belongs_to_the_run_of_its_journey(tell):
    """`same` only says which events belong together."""
    rules = SEQUENCE.replace("do: [", "do: [{wait: 1h}, {if: {in_stage: [looking]}, then: [").replace(
        "template: note}}]", "template: note}}]}]"
    )
    for ordered_at, sent in (("3h", [("+3720s", "push"), ("+10800s", "withdraw hesitant")]), ("30m", [])):
        story = tell(rules, consents=SERVICE)
        story.happens("0s", "product_viewed", sku="s1")
        for after, event_type in (("0s", "cart_updated"), ("1m", "checkout_started"), ("2m", "payment_failed")):
            story.happens(after, event_type, cart_id="k1")
        story.happens(ordered_at, "order_completed", cart_id="k2")
        assert story.told("4h").sent() == sent


SCHEDULE = """
    journey: kyc
    title: Know your customer
    stages:
      started:   {on: {event: kyc_started}}
      completed: {on: {event: kyc_completed}, goal: true}
    rules:
      - id: morning
        title: Every working morning
        on: {schedule: {at: "09:00", days: [mon, tue, wed, thu, fri]}}
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
"""


def test_a_schedule_follows_the_customers_own_clock_and_weekdays(tell):
    """Thursday noon in Delhi: Friday and Monday at nine, and no more once the run has ended."""
    story = tell(SCHEDULE, at="2026-03-05T12:00:00+05:30", traits={"timezone": "Asia/Kolkata"}, consents=SERVICE)
    story.happens("0s", "kyc_started")
    story.happens("4d", "kyc_completed")
    told = story.told("14d")
    assert [when for when, what in told.sent() if what == "push"] == [f"+{21 * 3600}s", f"+{93 * 3600}s"]
    assert told.state.timers == {}


def test_a_schedule_keeps_its_local_time_when_clocks_change(tell):
    """Friday evening in Berlin before summer time: Monday at nine is an hour sooner."""
    story = tell(SCHEDULE, at="2026-03-27T21:00:00+01:00", traits={"timezone": "Europe/Berlin"}, consents=SERVICE)
    story.happens("0s", "kyc_started")
    assert story.told("3d").sent() == [(f"+{59 * 3600}s", "push")]


def test_a_schedule_waits_for_a_zone_and_says_so(tell):
    story = tell(SCHEDULE, at="2026-03-05T12:00:00+05:30", consents=SERVICE)
    story.happens("0s", "kyc_started")
    story.happens("1h", "identify", timezone="Asia/Kolkata")
    told = story.told("1d")
    assert told.table() == [("+0s", "blocked morning", "zone_unknown"), (f"+{21 * 3600}s", "sent morning", "triggered")]


def test_a_schedule_comes_once_in_the_night_that_has_its_minute_twice(tell):
    """Half past two in Berlin, from the Saturday before the clocks go back to the Monday after."""
    rules = SCHEDULE.replace('{at: "09:00", days: [mon, tue, wed, thu, fri]}', '{at: "02:30"}')
    story = tell(rules, at="2026-10-24T12:00:00+02:00", traits={"timezone": "Europe/Berlin"}, consents=SERVICE)
    story.happens("0s", "kyc_started")
    assert [when for when, _ in story.told("40h").sent()] == ["+52200s", f"+{52200 + 25 * 3600}s"]
