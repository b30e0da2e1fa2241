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


@pytest.mark.parametrize(("ordered_at", "reason"), [("10m59s", "late_event"), ("11m30s", "goal_reached")])
@pytest.mark.parametrize(
    ("does", "comes"), [("send: {connector: push, template: note}", "withdrawn"), ("wait: 1h", "ended")]
)
def test_a_late_event_takes_back_what_a_standstill_set_off_that_was_none(tell, ordered_at, reason, does, comes):
    story = tell(FUNNEL.replace("send: {connector: push, template: note}", does), consents=SERVICE)
    story.happens("1m", "checkout_started", cart_id="k1")
    story.happens(ordered_at, "order_completed", arrives="12m", cart_id="k1")
    assert story.told("1h").table()[-1] == ("+720s", f"{comes} stuck", reason)


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


REMINDER = """
    journey: visit
    title: A visit to the doctor
    stages:
      booked: {on: {event: visit_booked}}
      seen:   {on: {event: visit_done}, goal: true}
    rules:
      - id: remind
        title: A day before
        on: {enter: booked}
        do:
          - wait: WAIT
          - send: {connector: sms, template: text}
        limits: {consent: [service]}
"""
A_DAY_BEFORE = "{until: event.starts_at, offset: -1d}"


@pytest.mark.parametrize(
    ("wait", "starts_at", "rows"),
    [
        (A_DAY_BEFORE, "2026-03-10T10:00:00+05:30", [("+604800s", "sent remind", "resumed")]),
        (A_DAY_BEFORE, "2026-03-03T10:00:00+05:30", [("+0s", "sent remind", "triggered")]),
        (A_DAY_BEFORE, "2026-03-02T11:00:00+05:30", [("+0s", "ended remind", "moment_passed")]),
        (A_DAY_BEFORE, "2026-03-10T10:00:00", [("+0s", "ended remind", "moment_unknown")]),
        (A_DAY_BEFORE, "tomorrow", [("+0s", "ended remind", "moment_unknown")]),
        (A_DAY_BEFORE, 2**63, [("+0s", "ended remind", "moment_unknown")]),
        (A_DAY_BEFORE, None, [("+0s", "ended remind", "moment_unknown")]),
        ('{until: "09:00"}', None, [("+0s", "ended remind", "zone_unknown")]),
    ],
)
def test_a_play_that_waits_for_a_moment_that_nobody_knows_ends_and_says_so(tell, wait, starts_at, rows):
    story = tell(REMINDER.replace("WAIT", wait), consents=SERVICE)
    story.happens("0s", "visit_booked", **({} if starts_at is None else {"starts_at": starts_at}))
    table = story.told("10d").table()
    assert [row for row in table if row[1] != "waiting remind" and row[2] != "completed"] == rows


RISK = """
    journey: purchase
    title: From basket to order
    stages:
      basket:  {on: {event: cart_updated}}
      risky:   {on: {event: payment_failed}}
      lost:    {on: {dwell: 2h}}
      ordered: {on: {event: order_completed}, goal: true}
    rules:
      - id: doubt
        title: Somebody doubts
        on: {event: product_viewed}
        do:
          - send: {connector: sms, template: text}
          - set_stage: STAGE
          - send: {connector: sms, template: text}
        limits: {consent: [service]}
      - id: basket-stands
        title: A basket stands
        on: {dwell: {stage: basket, for: 1h}}
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
      - id: risk-stands
        title: A risk stands
        on: {dwell: {stage: risky, for: 30m}}
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
      - id: risk-begins
        title: A risk begins
        on: {enter: risky}
        do: [{send: {connector: email, template: mail}}]
        limits: {consent: [service]}
"""


def test_a_stage_that_a_play_sets_is_entered_as_any_other(tell):
    story = tell(RISK.replace("STAGE", "risky"), consents=SERVICE)
    story.happens("0s", "cart_updated")
    story.happens("10m", "product_viewed")
    told = story.told("3h")
    at, later = "+600s", "+2400s"
    assert told.sent()[:4] == [(at, "sms"), (at, "sms"), (at, "email"), (later, "push")]
    assert told.actions[3].rule == "risk-stands"
    assert told.state.runs["purchase/"].stage == "lost"
    assert told.state.runs["purchase/"].entered_at == story.moment("2h10m")


def test_a_goal_that_a_play_sets_ends_the_run_and_the_play_and_takes_back_only_what_was_sent_before(tell):
    story = tell(RISK.replace("STAGE", "ordered").replace("for: 1h", "for: 5m"), consents=SERVICE)
    story.happens("0s", "cart_updated")
    story.happens("10m", "product_viewed")
    told = story.told("3h")
    assert told.sent() == [("+300s", "push"), ("+600s", "sms"), ("+600s", "withdraw basket-stands")]
    assert told.table()[-1] == ("+600s", "ended doubt", "goal_reached")
    assert told.state.runs["purchase/"].ended_at == story.moment("10m")
    assert told.state.timers == {}


def test_plays_that_move_a_run_to_and_fro_come_to_an_end(tell):
    rules = RISK.replace("on: {event: product_viewed}", "on: {enter: basket}").replace("STAGE", "risky")
    rules = rules.replace("do: [{send: {connector: email, template: mail}}]", "do: [{set_stage: basket}]")
    story = tell(rules, consents=SERVICE)
    story.happens("0s", "cart_updated")
    table = story.told("1m").table()
    assert table[-1][2] == "step_ceiling"
    assert len(table) < 20


KEYED = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:  {on: {event: cart_updated}}
      ordered: {on: {event: order_completed}, goal: true}
    rules:
      - id: failed
        title: A payment failed
        on: {event: payment_failed}
        acts: anytime
        when: {not: {in_stage: [ordered]}}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
"""


@pytest.mark.parametrize(("cart", "sent"), [({"cart_id": "k2"}, [("+60s", "sms")]), ({"cart_id": "k1"}, []), ({}, [])])
def test_where_an_event_belongs_to_no_run_its_stage_is_unknown(tell, cart, sent):
    story = tell(KEYED, consents=SERVICE)
    story.happens("0s", "order_completed", cart_id="k1")
    story.happens("1m", "payment_failed", **cart)
    assert story.told("1h").sent() == sent


def test_a_rule_on_entering_a_stage_reads_the_context_of_an_event_without_properties(tell):
    rules = FUNNEL.replace("    key: event.cart_id\n", "").replace(
        "on: {enter: abandoned}", "on: {enter: basket}\n        when: {field: context.channel, op: eq, value: app}"
    )
    story = tell(rules, consents=SERVICE)
    story.happens("0s", "cart_updated", context={"channel": "app"})
    assert story.told("1h").sent() == [("+0s", "email")]


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
