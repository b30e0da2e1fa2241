"""Restart: the newest trigger of a rule replaces the play of the same run that is still open."""

from __future__ import annotations

import pytest

SERVICE = {"service": True}
RULES = """
    journey: visit
    title: A visit to the doctor
    key: event.cart_id
    stages:
      booked: {on: {event: cart_updated}}
      seen:   {on: {event: order_completed}, goal: true}
    rules:
      - id: remind
        on: {event: cart_updated}
        RESTART
        do:
          - send: {connector: sms, template: text}
          - wait: 1h
          - send: {connector: push, template: note}
        limits: {consent: [service]LIMITS}
"""


def rules(restart="restart: true", limits=""):
    return RULES.replace("RESTART", restart).replace("LIMITS", limits)


def test_the_newest_trigger_replaces_the_open_play_and_takes_back_what_it_sent(tell):
    story = tell(rules(), consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    story.happens("30m", "cart_updated", cart_id="k1")
    told = story.told("3h")
    assert told.sent() == [("+0s", "sms"), ("+1800s", "withdraw remind"), ("+1800s", "sms"), ("+5400s", "push")]
    assert told.table()[2:4] == [("+1800s", "ended remind", "restarted"), ("+1800s", "withdrawn remind", "restarted")]
    assert told.state.plays == {}
    assert told.state.timers == {}


def test_what_was_delivered_is_not_taken_back(tell):
    story = tell(rules(), consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    (first,) = story.told("0s").actions
    story.happens("1m", "action_delivered", action_id=first.id)
    story.happens("30m", "cart_updated", cart_id="k1")
    assert story.told("3h").sent() == [("+0s", "sms"), ("+1800s", "sms"), ("+5400s", "push")]


@pytest.mark.parametrize(
    ("case", "restart", "triggers", "pushes"),
    [
        ("without it the open play goes on", "", [("0s", "0s", "k1"), ("30m", "30m", "k1")], ["+3600s"]),
        (
            "an older trigger that arrives later replaces nothing",
            "restart: true",
            [("30m", "30m", "k1"), ("0s", "1h", "k1")],
            ["+5400s"],
        ),
        (
            "a play of another run goes on",
            "restart: true",
            [("0s", "0s", "k1"), ("30m", "30m", "k2")],
            ["+3600s", "+5400s"],
        ),
        (
            "a play that has ended is not replaced",
            "restart: true",
            [("0s", "0s", "k1"), ("2h", "2h", "k1")],
            ["+3600s", "+10800s"],
        ),
    ],
)
def test_a_trigger_that_replaces_nothing(tell, case, restart, triggers, pushes):
    story = tell(rules(restart), consents=SERVICE)
    for after, arrives, cart in triggers:
        story.happens(after, "cart_updated", arrives=arrives, cart_id=cart)
    told = story.told("4h")
    assert [when for when, what in told.sent() if what == "push"] == pushes, case
    assert not [row for row in told.table() if row[2] == "restarted"], case


def test_an_action_that_waits_for_the_end_of_quiet_hours_is_replaced_with_its_play(tell):
    text = rules(limits=', cooldown: 1h, quiet_hours: {from: "21:00", to: "08:00"}')
    story = tell(text, at="2026-03-02T22:00:00+05:30", traits={"timezone": "Asia/Kolkata"}, consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    story.happens("30m", "cart_updated", cart_id="k1")
    told = story.told("12h")
    assert told.sent() == [("+36000s", "sms"), ("+39600s", "push")]
    assert [row for row in told.table() if row[2] == "restarted"] == [("+1800s", "ended remind", "restarted")]


def test_a_bid_that_waits_for_its_slot_is_replaced(tell):
    text = rules("restart: true\n        arbitrate: {slot: s, decision_window: 5s}")
    story = tell(text, consents=SERVICE)
    story.happens("0s", "cart_updated", id="first", cart_id="k1")
    story.happens("2s", "cart_updated", id="second", cart_id="k1")
    told = story.told("1m")
    assert [(one.outcome.value, one.cause) for one in told.records[:1]] == [("sent", "second")]
