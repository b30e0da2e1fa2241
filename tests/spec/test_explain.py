"""Why, or why not: stories and the sentence that answers (scenario 15)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from orchestrator.core.definition import Rule
from orchestrator.core.rulebook import Rulebook
from orchestrator.runtime import walk as walks
from orchestrator.runtime.explain import explain
from orchestrator.runtime.explanation import Explained, Explanation
from orchestrator.runtime.replay import replay
from orchestrator.runtime.timeline import ENTRIES_MAX, History
from orchestrator.runtime.walk import Walk

CART = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:   {on: {event: cart_updated}}
      checkout: {on: {event: checkout_started}}
      ordered:  {on: {event: order_completed}, goal: true}
    rules:
      - id: cart-recovery
        title: Win back a valuable basket
        on: {absence: {after: cart_updated, of: order_completed, for: 30m, rearm: latest}}
        when:
          all:
            - {field: event.total, op: gte, value: 40}
            - {field: profile.country, op: in, value: [IN, SG]}
            - {count: product_viewed, within: 7d, op: gte, value: 2}
        do:
          - send: {connector: sms, template: text}
        limits:
          consent: [marketing]
          cooldown: 3d
          cap: {max: 1, per: 7d, of: "kind:sms"}
          quiet_hours: {from: "21:00", to: "08:00", zone: profile, then: defer}
      - id: payment-help
        title: Help with a payment
        on: {event: payment_failed, where: {field: event.amount, op: gt, value: 10}}
        when: {not: {field: profile.plan, op: eq, value: staff}}
        do:
          - send: {connector: push, template: note}
"""


def asked(story, after, rule="cart-recovery", *, recorded=True, now="30d", state=None) -> Explanation:
    return everything(story, after, recorded=recorded, now=now, state=state, rules=[rule]).explanations[0]


def everything(story, after, *, recorded=True, now="30d", state=None, rules=None) -> Explained:
    """Explain a story that was decided up to ``now``; without ``recorded`` as if the ledger had been lost."""
    log = sorted(story.events, key=lambda event: event.received_at_ms)
    done = replay(story.rulebook, log, until_ms=story.moment(now))
    assert not done.failures
    decisions = done.records if recorded else []
    return explain(
        story,
        History(story.customer_id, log, decisions, [], bounded=state is not None),
        done.states[story.customer_id] if state is None else state,
        now_ms=story.moment(now),
        at_ms=story.moment(after),
        rules=rules,
    )


def basket(story, total=80, *, consent=True, views=2):
    story.happens("0s", "identify", country="IN", timezone="Asia/Kolkata")
    if consent:
        story.happens("0s", "consent_changed", marketing=True)
    for number in range(views):
        story.happens(f"{number + 1}s", "product_viewed", sku=f"s{number}")
    story.happens("10s", "cart_updated", cart_id="k1", total=total)


def test_a_rule_that_fired_says_when_and_over_what(tell):
    story = tell(CART)
    basket(story)
    found = asked(story, "1h")
    assert found.sentence == (
        "cart-recovery fired at 2026-03-02 05:00:10 UTC: sent over sms at 2026-03-02 05:00:10 UTC, "
        "nothing stood in the way."
    )
    assert found.standing.value == "fired"
    assert found.run == "purchase/k1"
    assert found.stage == "basket"
    assert [(line.outcome, line.recorded) for line in found.ledger] == [("sent", True)]
    assert found.rulebook_version == story.rulebook.version


def test_the_failing_condition_is_named_with_its_value(tell):
    story = tell(CART)
    basket(story, total=20)
    found = asked(story, "1h")
    assert found.sentence == (
        "cart-recovery did not fire at 2026-03-02 05:00:10 UTC: event.total >= 40 is false (it is 20)."
    )
    assert [(part.text, part.truth, part.reading) for part in found.conditions.parts] == [
        ("event.total >= 40", "false", "it is 20"),
        ("profile.country in [IN, SG]", "true", "it is IN"),
        ("count of product_viewed within 7d >= 2", "true", "it is 2"),
    ]


@pytest.mark.parametrize(
    ("case", "told", "after", "sentence"),
    [
        (
            "nothing happened that could set it off",
            lambda story: story.happens("0s", "product_viewed", sku="s1"),
            "1h",
            "cart-recovery was not triggered: no cart_updated was seen.",
        ),
        (
            "the span is not over",
            basket,
            "20m",
            "cart-recovery has not fired: armed by cart_updated at 2026-03-02 04:30:10 UTC, "
            "due at 2026-03-02 05:00:10 UTC.",
        ),
        (
            "the span is not over, and the basket is too small anyway",
            lambda story: basket(story, total=20),
            "20m",
            "cart-recovery has not fired: armed by cart_updated at 2026-03-02 04:30:10 UTC, "
            "due at 2026-03-02 05:00:10 UTC; as things stand it will not, since event.total >= 40 is false (it is 20).",
        ),
        (
            "the order came in time",
            lambda story: (basket(story), story.happens("29m", "order_completed", cart_id="k1", total=80)),
            "1h",
            "cart-recovery was not triggered: cart_updated at 2026-03-02 04:30:10 UTC was followed by order_completed "
            "at 2026-03-02 04:59:00 UTC; the run ended at 2026-03-02 04:59:00 UTC and never starts anew.",
        ),
        (
            "too little was seen",
            lambda story: basket(story, views=1),
            "1h",
            "cart-recovery did not fire at 2026-03-02 05:00:10 UTC: count of product_viewed within 7d >= 2 is false "
            "(it is 1).",
        ),
        (
            "no consent",
            lambda story: basket(story, consent=False),
            "1h",
            "cart-recovery did not fire at 2026-03-02 05:00:10 UTC: there is no consent for marketing.",
        ),
        (
            "it rests after it has fired",
            lambda story: (basket(story), story.happens("2h", "cart_updated", cart_id="k2", total=90)),
            "3h",
            "cart-recovery did not fire at 2026-03-02 07:00:00 UTC: it rests for another 2d22h10s.",
        ),
        (
            "the cap is used up once it has rested",
            lambda story: (basket(story), story.happens("4d", "cart_updated", cart_id="k2", total=90)),
            "5d",
            "cart-recovery did not fire at 2026-03-06 05:00:00 UTC: the cap of 1 for kind:sms is used up (1 used).",
        ),
        (
            "the next basket is being watched",
            lambda story: (basket(story), story.happens("2h", "cart_updated", cart_id="k2", total=90)),
            "2h5m",
            "cart-recovery fired at 2026-03-02 05:00:10 UTC: sent over sms at 2026-03-02 05:00:10 UTC, nothing stood "
            "in the way. Next: armed by cart_updated at 2026-03-02 06:30:00 UTC, due at 2026-03-02 07:00:00 UTC.",
        ),
    ],
)
def test_the_sentence_says_why(tell, case, told, after, sentence):
    story = tell(CART)
    told(story)
    assert asked(story, after).sentence == sentence, case


def test_quiet_hours_say_when_the_action_is_released_and_later_that_it_was(tell):
    story = tell(CART, at="2026-03-02T21:30:00+05:30")
    basket(story)
    night = asked(story, "3h")
    assert night.sentence == (
        "cart-recovery was triggered at 2026-03-02 16:30:10 UTC and its action is deferred: "
        "quiet hours until 2026-03-03 02:30:00 UTC in Asia/Kolkata."
    )
    assert [(line.text, line.blocks) for line in night.limits] == [
        ("no play of it is open", False),
        ("cooldown of 3d: it has rested", False),
        ("consent for marketing: given on 2026-03-02 16:00:00 UTC", False),
        ("cap of 1 per 7d for kind:sms: 0 used", False),
        ("quiet hours 21:00 to 08:00: they hold in Asia/Kolkata; released at 2026-03-03 02:30:00 UTC", True),
    ]
    assert asked(story, "12h").sentence == (
        "cart-recovery fired at 2026-03-02 16:30:10 UTC: sent over sms at 2026-03-03 02:30:00 UTC, "
        "the deferred action still held."
    )


@pytest.mark.parametrize(
    ("amounts", "plan", "sentence"),
    [
        ([], "pro", "payment-help was not triggered: no payment_failed was seen."),
        (
            [5],
            "pro",
            "payment-help did not fire at 2026-03-02 04:31:00 UTC: event.amount > 10 is false (it is 5).",
        ),
        (
            [20, 5],
            "staff",
            "payment-help did not fire at 2026-03-02 04:31:00 UTC: profile.plan = staff is true (it is staff), "
            "and must not be.",
        ),
        (
            [20],
            None,
            "payment-help did not fire at 2026-03-02 04:31:00 UTC: profile.plan = staff is unknown "
            "(the profile has no plan).",
        ),
    ],
)
def test_an_event_that_its_rule_does_not_ask_for_is_not_the_one_that_is_explained(tell, amounts, plan, sentence):
    story = tell(CART)
    story.happens("0s", "identify", **({} if plan is None else {"plan": plan}))
    for number, amount in enumerate(amounts, start=1):
        story.happens(f"{number}m", "payment_failed", amount=amount)
    assert asked(story, "1h", "payment-help").sentence == sentence


def test_a_late_event_is_told_from_a_condition_that_failed(tell):
    story = tell(CART)
    story.happens("0s", "identify", plan="pro")
    story.happens("1m", "payment_failed", arrives="3h", amount=20)
    assert asked(story, "4h", "payment-help").sentence == (
        "payment-help did not fire at 2026-03-02 07:30:00 UTC: the event came 2h59m late and 1h is tolerated."
    )


RIVALS = """
    journey: pay
    title: Payments
    stages:
      failed: {on: {event: payment_failed}}
    rules:
      - id: call-them
        title: Call
        on: {event: payment_failed}
        do: [{send: {connector: sms, template: text}}]
        arbitrate: {slot: contact, value: 2.0, context: {stage: {failed: +50}}}
      - id: mail-them
        title: Mail
        on: {event: payment_failed}
        do: [{send: {connector: email, template: mail}}]
        arbitrate: {slot: contact, value: 2.5}
"""


def test_winner_and_loser_tell_of_each_other(tell):
    story = tell(RIVALS)
    story.happens("0s", "payment_failed", amount=5)
    won, lost = asked(story, "1h", "call-them"), asked(story, "1h", "mail-them")
    assert lost.sentence == (
        "mail-them did not fire at 2026-03-02 04:30:00 UTC: call-them won the slot contact, 2.5 against 3."
    )
    assert (won.arbitration.score, won.arbitration.factors["context"]) == (3.0, 1.5)
    assert [(one.rule, one.score, one.won) for one in won.arbitration.rivals] == [("mail-them", 2.5, False)]
    assert [(one.rule, one.score, one.won) for one in lost.arbitration.rivals] == [("call-them", 3.0, True)]


EXPERIMENT = """
    journey: pay
    title: Payments
    stages:
      failed: {on: {event: payment_failed}}
    rules:
      - id: nudge
        title: Nudge
        on: {event: payment_failed}
        do:
          - split: {id: exp, holdout: 50, nudge: 50}
          - case: nudge
            send: {connector: sms, template: text}
"""


def test_a_holdout_is_told(tell):
    for number in range(20):
        story = tell(EXPERIMENT, customer_id=f"c{number}")
        story.happens("0s", "payment_failed", amount=5)
        found = asked(story, "1h", "nudge")
        if found.standing.value == "blocked":
            break
    assert found.sentence == (
        "nudge did not fire at 2026-03-02 04:30:00 UTC: the customer is in the experiment's holdout."
    )
    assert [line.text for line in found.limits if line.blocks] == ["experiment exp: the customer is in arm holdout"]


def test_what_the_ledger_does_not_have_was_never_sent(tell):
    """A replay is no witness of a send: the ledger's lines are written with the actions."""
    story = tell(CART)
    basket(story)
    found = asked(story, "1h", recorded=False)
    assert (found.standing.value, found.ledger) == ("not_recorded", ())
    assert found.sentence == (
        "cart-recovery has no decision at 2026-03-02 05:00:10 UTC in the ledger, though its conditions held."
    )
    assert found.notes == (
        "The ledger has no line of this decision. It may have been decided in the last second, or before the rule was "
        "what it is now; the customer got nothing by it that the ledger does not show.",
    )


def test_a_ledger_that_does_not_reach_back_is_filled_in_by_the_replay(tell):
    story = tell(CART)
    basket(story)
    log = list(story.events)
    done = replay(story.rulebook, log, until_ms=story.moment("1h"))
    (line,) = done.records
    later = [structs.replace(line, at=story.moment("2d") + number, rule="other") for number in range(ENTRIES_MAX)]
    history = History(story.customer_id, log, later, [], bounded=False)
    state = done.states[story.customer_id]
    found = explain(story, history, state, now_ms=story.moment("3d"), rules=["cart-recovery"]).explanations[0]
    assert (found.standing.value, [each.recorded for each in found.ledger]) == ("fired", [False])
    assert found.notes == ("The ledger does not reach back to this decision: its lines are those of a replay.",)


def test_a_decision_that_the_replay_does_not_come_to_is_told_by_the_ledger(tell):
    story = tell(CART)
    basket(story)
    done = replay(story.rulebook, story.events, until_ms=story.moment("1h"))
    forgotten = tell(CART)
    forgotten.happens("0s", "identify", country="IN")
    state = replay(forgotten.rulebook, forgotten.events).states[story.customer_id]
    history = History(story.customer_id, forgotten.events, done.records, [], bounded=False)
    found = explain(story, history, state, now_ms=story.moment("1h"), rules=["cart-recovery"]).explanations[0]
    assert found.standing.value == "fired"
    assert found.sentence == (
        "cart-recovery fired at 2026-03-02 05:00:10 UTC: sent over sms at 2026-03-02 05:00:10 UTC, "
        "nothing stood in the way."
    )


class Versions:
    """Rulebooks and since when each was in force, as the shelf tells it."""

    def __init__(self, *activations: tuple[int, Rulebook]) -> None:
        self._activations = activations

    def in_force_at(self, at_ms: int) -> Rulebook:
        return [book for since_ms, book in self._activations if since_ms <= at_ms][-1]

    def version(self, version: str) -> Rulebook | None:
        return next((book for _, book in reversed(self._activations) if book.version == version), None)


def published(story, edited, after):
    """Tell a story under its rulebook, and from ``after`` on under the edited one; return what is in force when."""
    since_ms = story.moment(after)
    since = dict.fromkeys(edited.rulebook.kept_aggregates() - story.rulebook.kept_aggregates(), since_ms)
    return Versions((0, story.rulebook), (since_ms, replace(edited.rulebook, aggregates_since=since)))


def under(versions, story, after, rule, *, until="30d"):
    """Decide a story under the versions in force, and explain it at ``after``."""
    walk = Walk(versions, story.customer_id, [], {})
    walk.go(story.events, story.moment(until))
    history = History(story.customer_id, story.events, walk.records, [], bounded=False)
    found = explain(versions, history, walk.state, now_ms=story.moment(until), at_ms=story.moment(after), rules=[rule])
    return found.explanations[0]


def test_what_happened_before_a_rule_came_into_force_set_nothing_off(tell):
    story = tell(CART)
    story.happens("0s", "payment_failed", amount=5)
    edited = tell(CART + LATER)
    versions = published(story, edited, "1d")
    found = under(versions, story, "2d", "later")
    assert found.standing.value == "not_triggered"
    assert found.sentence == (
        "later was not triggered: payment_failed was last seen at 2026-03-02 04:30:00 UTC, when version "
        f"{story.rulebook.version} was in force, which had no such rule."
    )


def test_each_moment_is_explained_by_the_version_that_was_in_force(tell):
    story = tell(CART)
    basket(story, total=80)
    versions = published(story, tell(CART.replace("value: 40", "value: 100")), "1d")
    first = under(versions, story, "1h", "cart-recovery")
    assert (first.standing.value, first.conditions.truth) == ("fired", "true")
    assert (first.rulebook_version, first.notes) == (story.rulebook.version, ())
    assert under(versions, story, "2d", "cart-recovery").standing.value == "fired"


def test_a_count_that_began_later_is_unknown_and_says_since_when(tell):
    story = tell(CART)
    basket(story, views=2)
    story.happens("2d", "cart_updated", cart_id="k2", total=80)
    counted = CART.replace("{count: product_viewed, within: 7d", "{count: product_viewed, within: 5d")
    found = under(published(story, tell(counted), "1d"), story, "3d", "cart-recovery")
    assert found.standing.value == "conditions_failed"
    assert found.sentence == (
        "cart-recovery did not fire at 2026-03-04 05:00:00 UTC: count of product_viewed within 5d >= 2 is unknown "
        "(counting began at 2026-03-03 04:30:00 UTC, so the last 5d are known from 2026-03-08 04:30:00 UTC on)."
    )


LATER = """
      - id: later
        title: Later
        on: {event: payment_failed}
        do:
          - send: {connector: push, template: note}
"""


def test_a_decision_of_another_version_names_it(tell):
    story = tell(CART)
    basket(story)
    log = list(story.events)
    done = replay(story.rulebook, log, until_ms=story.moment("1h"))
    edited = tell(CART.replace("value: 40", "value: 100"))
    found = explain(
        edited,
        History(story.customer_id, log, done.records, [], bounded=False),
        done.states[story.customer_id],
        now_ms=story.moment("1h"),
        rules=["cart-recovery"],
    ).explanations[0]
    assert found.standing.value == "fired"
    assert found.rulebook_version == story.rulebook.version
    assert found.conditions.truth == "false"
    assert found.notes == (
        f"Version {story.rulebook.version} decided this; conditions and limits are shown as version "
        f"{edited.rulebook.version} reads them.",
    )


def test_when_the_timeline_begins_too_late_the_current_state_is_asked(tell):
    story = tell(CART)
    basket(story, total=20)
    story.happens("2d", "payment_failed", amount=50)
    log = list(story.events)
    done = replay(story.rulebook, log, until_ms=story.moment("3d"))
    found = explain(
        story,
        History(story.customer_id, log[-1:], done.records[-1:], [], bounded=True),
        done.states[story.customer_id],
        now_ms=story.moment("3d"),
    )
    by_rule = {one.rule: one for one in found.explanations}
    assert not found.whole_history
    assert found.stimuli == 0
    assert found.notes == (
        "The timeline does not reach back to the customer's first event: earlier history is known only as the "
        "current state sums it up, and conditions are read from that.",
    )
    assert by_rule["cart-recovery"].sentence == (
        "cart-recovery would not fire now: event.total >= 40 is false (it is 20)."
    )
    assert by_rule["payment-help"].sentence == (
        "payment-help would not fire now: profile.plan = staff is unknown (the profile has no plan)."
    )


def test_each_stimulus_is_decided_once_and_each_decision_point_once_more(tell, monkeypatch):
    """The work is bounded by the timeline and the rules, which is what keeps an answer under 200 ms."""
    calls = []
    decide = walks.decide
    monkeypatch.setattr(walks, "decide", lambda *arguments: calls.append(arguments) or decide(*arguments))
    story = tell(CART)
    for number in range(199):
        story.happens(f"{number}s", "cart_updated", cart_id=f"k{number % 7}", total=10 + number)
    story.happens("1h", "payment_failed", amount=20)
    found = everything(story, "2h")
    timers = 7
    assert found.stimuli == len(calls) == 200 + timers + len(found.explanations)


def test_the_walk_decides_as_a_replay_does(tell):
    story = tell(CART)
    basket(story)
    story.happens("2h", "cart_updated", cart_id="k2", total=90)
    story.happens("3h", "payment_failed", amount=90)
    walk = Walk(story, story.customer_id, story.rulebook.rules, {})
    walk.go(story.events, story.moment("4h"))
    done = replay(story.rulebook, story.events, until_ms=story.moment("4h"))
    assert walk.records == done.records
    assert walk.state == done.states[story.customer_id]


def test_every_trigger_of_the_rulebook_is_listened_to(tell):
    """A rule whose conditions could be read without being heard would be explained wrongly as never triggered."""
    story = tell(TRIGGERS)
    story.happens("0s", "cart_updated", cart_id="k1", total=1)
    story.happens("1m", "checkout_started", cart_id="k1")
    walk = Walk(story, story.customer_id, story.rulebook.rules, {})
    walk.go(story.events, story.moment("25h"))
    rules: dict[str, Rule] = dict(story.rulebook.rules)
    assert sorted(walk.last) == sorted(rules)


TRIGGERS = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:   {on: {event: cart_updated}}
      checkout: {on: {event: checkout_started}}
    rules:
      - {id: on-event, title: t, on: {event: cart_updated}, do: [{send: {connector: sms, template: text}}]}
      - {id: on-enter, title: t, on: {enter: checkout}, do: [{send: {connector: sms, template: text}}]}
      - {id: on-leave, title: t, on: {leave: basket}, do: [{send: {connector: sms, template: text}}]}
      - id: on-dwell
        title: t
        on: {dwell: {stage: checkout, for: 1h}}
        do: [{send: {connector: sms, template: text}}]
      - id: on-absence
        title: t
        on: {absence: {after: cart_updated, of: order_completed, for: 30m}}
        do: [{send: {connector: sms, template: text}}]
      - id: on-sequence
        title: t
        on: {sequence: {steps: [{event: cart_updated}, {event: checkout_started}], within: 1h}}
        do: [{send: {connector: sms, template: text}}]
      - id: on-schedule
        title: t
        on: {schedule: {at: "09:00", zone: Asia/Kolkata}}
        do: [{send: {connector: sms, template: text}}]
"""


@pytest.mark.parametrize(
    ("reentry", "rest"),
    [
        ("", "never starts anew"),
        ("\n    reentry: {after: 30d}", "may start anew from 2026-04-01 04:30:10 UTC"),
    ],
)
def test_a_journey_that_rests_says_from_when_it_may_start_anew(tell, reentry, rest):
    story = tell(ENTERED.replace("    rules:", f"{reentry}\n    rules:".lstrip("\n") if reentry else "    rules:", 1))
    story.happens("10s", "kyc_completed")
    story.happens("1d", "kyc_started")
    found = asked(story, "2d", "welcome", now="2d")
    assert found.sentence == (
        "welcome was not triggered: the run has been in stage done since 2026-03-02 04:30:10 UTC; "
        f"the run ended at 2026-03-02 04:30:10 UTC and {rest}."
    )


ENTERED = """
    journey: kyc
    title: KYC
    stages:
      started: {on: {event: kyc_started}}
      done:    {on: {event: kyc_completed}, goal: true}
    rules:
      - {id: welcome, title: t, on: {enter: started}, do: [{send: {connector: sms, template: text}}]}
"""
