"""Open runs: a rule acts while its run is open, the event that opens or closes it included, unless it acts anytime."""

from __future__ import annotations

import pytest

from orchestrator.core.state import PENDING_MAX
from orchestrator.runtime.explain import explain
from orchestrator.runtime.timeline import History

SERVICE = {"service": True}
RULES = """
    journey: kyc
    title: Know your customer
    stages:
      started:   {on: {event: kyc_started}}
      completed: {on: {event: kyc_completed}, goal: true}
    reentry: {after: 1d}
    rules:
      - id: rule
        on: TRIGGER
        ACTS
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
"""


def rules(trigger, acts=""):
    return RULES.replace("TRIGGER", trigger).replace("ACTS", acts)


SEEN = "{event: product_viewed}"
A_RUN = [("1h", "kyc_started"), ("3h", "kyc_completed")]


@pytest.mark.parametrize(
    ("trigger", "events", "in_run", "anytime"),
    [
        (SEEN, [*A_RUN, ("30m", "product_viewed")], [], ["+1800s"]),
        (SEEN, [*A_RUN, ("2h", "product_viewed")], ["+7200s"], ["+7200s"]),
        (SEEN, [*A_RUN, ("4h", "product_viewed")], [], ["+14400s"]),
        ("{event: kyc_started}", A_RUN, ["+3600s"], ["+3600s"]),
        ("{event: kyc_completed}", A_RUN, ["+10800s"], ["+10800s"]),
        # A run that has ended is not opened by what comes before it may start anew.
        ("{event: kyc_started}", [*A_RUN, ("4h", "kyc_started")], ["+3600s"], ["+3600s", "+14400s"]),
        ("{event: kyc_started}", [*A_RUN, ("28h", "kyc_started")], ["+3600s", "+100800s"], ["+3600s", "+100800s"]),
        ("{enter: completed}", A_RUN, ["+10800s"], ["+10800s"]),
        ("{leave: started}", A_RUN, ["+10800s"], ["+10800s"]),
        ("{dwell: {stage: started, for: 1h}}", A_RUN, ["+7200s"], ["+7200s"]),
        ("{dwell: {stage: started, for: 3h}}", A_RUN, [], []),
    ],
)
def test_a_rule_acts_while_its_run_is_open(tell, trigger, events, in_run, anytime):
    for acts, sent in (("", in_run), ("acts: anytime", anytime)):
        story = tell(rules(trigger, acts), consents=SERVICE)
        for after, event_type in sorted(events, key=lambda one: story.moment(one[0])):
            story.happens(after, event_type)
        assert [when for when, what in story.told("29h").sent() if what == "push"] == sent, acts


WATCHED = "{absence: {after: cart_updated, of: order_completed, for: 2h, rearm: REARM}}"


@pytest.mark.parametrize("rearm", ["latest", "first"])
@pytest.mark.parametrize(
    ("events", "fires"),
    [
        ("no run at all", []),
        ("started completed", []),
        ("started", ["+7200s"]),
        ("started, completed at once", []),
        ("started after it", []),
        ("ended and begun again", []),
    ],
)
def test_an_absence_counts_only_within_the_run_that_is_open_when_it_is_due(tell, rearm, events, fires):
    stories = {
        "no run at all": [],
        "started completed": [("0s", "kyc_started"), ("1h", "kyc_completed")],
        "started": [("0s", "kyc_started")],
        "started, completed at once": [("0s", "kyc_started"), ("0s", "kyc_completed")],
        "started after it": [("1h", "kyc_started")],
        "ended and begun again": [("0s", "kyc_started"), ("10m", "kyc_completed"), ("20m", "kyc_started")],
    }
    text = rules(WATCHED.replace("REARM", rearm)).replace("after: 1d", "after: 0s")
    story = tell(text, consents=SERVICE)
    before = "started" in events and "after" not in events
    moments = [*stories[events], ("0s" if not before else "1s", "cart_updated")]
    if events == "started completed":
        moments = [("0s", "kyc_started"), ("1s", "cart_updated"), ("1h", "kyc_completed")]
    for after, event_type in sorted(moments, key=lambda one: story.moment(one[0])):
        story.happens(after, event_type, cart_id="k1")
    sent = [when for when, what in story.told("6h").sent() if what == "push"]
    assert sent == (["+7201s"] if fires else [])


def test_the_first_a_of_an_absence_is_the_first_one_within_the_run(tell):
    story = tell(rules(WATCHED.replace("REARM", "first")), consents=SERVICE)
    for after, event_type in [
        ("0s", "cart_updated"),
        ("30m", "kyc_started"),
        ("1h", "cart_updated"),
        ("90m", "cart_updated"),
    ]:
        story.happens(after, event_type, cart_id="k1")
    assert story.told("6h").sent() == [("+10800s", "push")]


def test_an_absence_does_not_depend_on_whether_the_start_of_the_run_arrives_late(tell):
    story = tell(rules(WATCHED.replace("REARM", "latest")), consents=SERVICE)
    story.happens("0s", "kyc_started", arrives="10m")
    story.happens("1m", "cart_updated", cart_id="k1")
    assert story.told("6h").sent() == [("+7260s", "push")]


def test_a_sequence_that_is_complete_after_the_run_sets_nothing_off(tell):
    trigger = "{sequence: {steps: [{event: product_viewed}, {event: payment_failed}], within: 1d}}"
    for acts, sent in (("", []), ("acts: anytime", [("+14400s", "push")])):
        story = tell(rules(trigger, acts), consents=SERVICE)
        for after, event_type in [("2h", "product_viewed"), *A_RUN, ("4h", "payment_failed")]:
            story.happens(after, event_type)
        assert story.told("1d").sent() == sent


# ---------------------------------------------------------------------------------- why it did not act


@pytest.mark.parametrize(
    ("seen_at", "detail", "text"),
    [
        ("30m", {}, "rule did not fire at 2026-03-02 05:00:00 UTC: no run was open."),
        (
            "4h",
            {"ended_at": "3h", "again_from": "27h"},
            "rule did not fire at 2026-03-02 08:30:00 UTC: no run was open: the run ended at 2026-03-02"
            " 07:30:00 UTC and may start anew from 2026-03-03 07:30:00 UTC.",
        ),
    ],
)
def test_a_rule_that_finds_no_run_open_says_so_in_the_ledger_and_to_who_asks(tell, seen_at, detail, text):
    story = tell(rules(SEEN))
    events = [*A_RUN, (seen_at, "product_viewed")]
    for after, event_type in sorted(events, key=lambda one: story.moment(one[0])):
        story.happens(after, event_type)
    told = story.told("5h")
    (line,) = told.records
    assert (line.outcome.value, line.reason.value) == ("blocked", "run_not_open")
    assert line.detail == {name: story.moment(after) for name, after in detail.items()}
    log = sorted(story.events, key=lambda event: event.received_at_ms)
    asked = explain(
        story,
        History("c1", log, told.records, [], bounded=False),
        told.state,
        now_ms=story.moment("5h"),
    )
    assert asked.explanations[0].sentence == text


def test_a_rule_that_was_not_set_off_says_from_when_the_run_may_start_anew(tell):
    story = tell(rules(SEEN))
    for after, event_type in A_RUN:
        story.happens(after, event_type)
    told = story.told("5h")
    asked = explain(story, History("c1", story.events, [], [], bounded=False), told.state, now_ms=story.moment("5h"))
    assert asked.explanations[0].sentence == (
        "rule was not triggered: no product_viewed was seen; the run ended at 2026-03-02 07:30:00 UTC and"
        " may start anew from 2026-03-03 07:30:00 UTC."
    )


# --------------------------------------------------------------------------------- plays beyond the end

WAITING = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:  {on: {event: cart_updated}}
      ordered: {on: {event: order_completed}, goal: true}
    reentry: {after: 0s}
    rules:
      - id: rule
        on: {event: EVENT}
        ACTS
        do: [{wait: 1h}, {send: {connector: push, template: note}}]
        limits: {consent: [service]}
"""
BUYS = [("0s", "cart_updated", "k1"), ("10m", "order_completed", "k1")]


@pytest.mark.parametrize(
    ("event", "acts", "events", "sent"),
    [
        ("cart_updated", "", BUYS, []),
        ("cart_updated", "acts: anytime", BUYS, ["+3600s"]),
        ("order_completed", "", BUYS, ["+4200s"]),
        # An event that names no run concerns each; what it sets off ends with the last of them.
        ("page_viewed", "", [*BUYS, ("5m", "page_viewed", None)], []),
        ("page_viewed", "", [("0s", "cart_updated", "k2"), *BUYS, ("5m", "page_viewed", None)], ["+3900s"]),
        ("page_viewed", "", [*BUYS, ("20m", "page_viewed", None)], []),
        ("page_viewed", "acts: anytime", [*BUYS, ("20m", "page_viewed", None)], ["+4800s"]),
        # One that names a run that is not open finds none, though another is.
        ("page_viewed", "", [("0s", "cart_updated", "k2"), *BUYS, ("20m", "page_viewed", "k1")], []),
    ],
)
def test_what_a_rule_has_begun_ends_with_its_run_unless_it_acts_anytime(tell, event, acts, events, sent):
    text = WAITING.replace("EVENT", "payment_failed" if event == "page_viewed" else event).replace("ACTS", acts)
    story = tell(text, consents=SERVICE)
    for after, event_type, cart in sorted(events, key=lambda one: story.moment(one[0])):
        named = "payment_failed" if event_type == "page_viewed" else event_type
        story.happens(after, named, **({} if cart is None else {"cart_id": cart}))
    assert [when for when, _ in story.told("3h").sent()] == sent


@pytest.mark.parametrize(("event", "sent"), [("cart_updated", []), ("order_completed", [("+605s", "push")])])
def test_a_bid_of_before_the_end_of_the_run_does_not_win_after_it(tell, event, sent):
    text = WAITING.replace("EVENT", event).replace("ACTS", "arbitrate: {slot: s, decision_window: 5s}")
    story = tell(text.replace("{wait: 1h}, ", ""), consents=SERVICE)
    story.happens("599s", "cart_updated", cart_id="k1")
    story.happens("600s", "order_completed", cart_id="k1")
    told = story.told("1h")
    assert told.sent() == sent
    assert told.state.bids == {}
    if not sent:
        assert told.table() == [("+600s", "blocked rule", "goal_reached")]


# -------------------------------------------------------------------------------------------- outcomes

MAILS = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:  {on: {event: cart_updated}}
      opened:  {on: {event: email_opened}}
      ordered: {on: {event: order_completed}, goal: true}
    rules:
      - id: mail
        on: {enter: basket}
        do:
          - send: {connector: email, template: mail}
          - wait_for: {event: email_opened, within: 3d, else: [{send: {connector: push, template: note}}]}
        limits: {consent: [service]}
      - id: thanks
        on: {event: email_opened}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
"""


def mails_of(story):
    return {one.run: one.id for one in story.told("1s").actions}


@pytest.mark.parametrize("delivered", [True, False])
def test_what_comes_of_an_action_belongs_to_the_run_that_sent_it(tell, delivered):
    story = tell(MAILS, consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    story.happens("1s", "cart_updated", cart_id="k2")
    ids = mails_of(story)
    if delivered:
        for number, action in enumerate(ids.values()):
            story.happens("1m", "action_delivered", id=f"d{number}", action_id=action)
    story.happens("2d", "email_opened", action_id=ids["purchase/k2"])
    told = story.told("4d")
    # What the provider reports of has arrived: its repetition is taken back, where no delivery was told of.
    assert [(one.connector, one.run) for one in told.actions[2:] if not one.cancel] == [
        ("sms", "purchase/k2"),
        ("push", "purchase/k1"),
    ]
    assert {key: run.stage for key, run in told.state.runs.items()} == {
        "purchase/k1": "basket",
        "purchase/k2": "opened",
    }


def test_an_outcome_of_an_unknown_action_concerns_every_run_as_any_event_that_names_none(tell):
    story = tell(MAILS, consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    story.happens("1s", "cart_updated", cart_id="k2")
    story.happens("2d", "email_opened", action_id="of somebody else")
    assert [one.connector for one in story.told("4d").actions[2:]] == ["sms"]


def test_an_outcome_that_comes_after_the_run_sets_nothing_off(tell):
    story = tell(MAILS, consents=SERVICE)
    story.happens("0s", "cart_updated", cart_id="k1")
    ids = mails_of(story)
    story.happens("0s", "cart_updated", cart_id="k2")
    story.happens("1m", "action_delivered", action_id=ids["purchase/k1"])
    story.happens("1h", "order_completed", cart_id="k1")
    story.happens("2h", "email_opened", action_id=ids["purchase/k1"])
    assert ("+7200s", "blocked thanks", "run_not_open") in story.told("3h").table()


def test_the_actions_of_a_customer_are_remembered_within_bounds(tell):
    story = tell(WAITING.replace("EVENT", "cart_updated").replace("ACTS", "").replace("{wait: 1h}, ", ""))
    story.consents = SERVICE
    for number in range(PENDING_MAX + 8):
        story.happens(f"{number}s", "cart_updated", cart_id=f"k{number}")
    first = story.told("0s").actions[0].id
    story.happens("1s", "action_delivered", action_id=first)
    state = story.told("1h").state
    assert len(state.pending) == PENDING_MAX
    assert first not in state.pending
    assert all(not entry.delivered for entry in state.pending.values())
