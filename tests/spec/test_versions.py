"""Versions: what an edit of the rulebook does to plays and runs under way (scenario 13)."""

from __future__ import annotations

import pytest

from orchestrator.core.rulebook import with_earlier
from orchestrator.core.state import CustomerState
from orchestrator.runtime.replay import replay

SERVICE = {"service": (True, 0)}

FIRST = """
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
          - wait: 1d
          - send: {connector: sms, template: text}
        exit_when: {event: unsubscribed}
        limits: {consent: [service]}
"""
#: The message after the wait goes over another channel.
SECOND = FIRST.replace("{connector: sms, template: text}", "{connector: push, template: note}")
#: The wait is gone.
SHORTER = FIRST.replace("- wait: 1d", "- set_trait: {plan: guided}")
#: The rule is gone.
WITHOUT_RULE = FIRST.replace("id: guide", "id: another")


def on_edit(rules: str, mode: str) -> str:
    return rules.replace("    stages:", f"    on_edit: {mode}\n    stages:", 1)


class Edited:
    """A story told under one version up to a moment, and under the next from then on."""

    def __init__(self, tell, before: str, after: str) -> None:
        self.story = tell(before)
        self.before = self.story.rulebook
        self.after = with_earlier(tell(after).rulebook, [self.before])

    def told(self, switch: str, until: str) -> tuple[list[tuple[str, ...]], CustomerState]:
        """Return what was sent and how plays ended: after the start, what, and by which version."""
        story, switch_ms = self.story, self.story.moment(switch)
        known = {story.customer_id: CustomerState(first_seen_ms=story.start_ms, consents=dict(SERVICE))}
        early = [one for one in story.events if one.received_at_ms < switch_ms]
        late = [one for one in story.events if one.received_at_ms >= switch_ms]
        first = replay(self.before, early, until_ms=switch_ms - 1, states=known)
        second = replay(self.after, late, until_ms=story.moment(until), states=first.states)
        assert not first.failures + second.failures
        names = {self.before.version: "v1", self.after.version: "v2"}
        rows = [
            (
                f"+{(one.at - story.start_ms) / 3_600_000:g}h",
                f"{one.outcome.value} {one.detail.get('connector', one.reason.value)}",
                names[one.rulebook_version],
            )
            for one in first.records + second.records
            if one.outcome.value in {"sent", "ended"}
        ]
        sent = {one.id: names[one.rulebook_version] for one in first.actions + second.actions if not one.cancel}
        decided = {
            one.action_id: names[one.rulebook_version]
            for one in first.records + second.records
            if one.outcome.value == "sent"
        }
        assert all(decided[action] == version for action, version in sent.items())
        return rows, second.states[story.customer_id]


BEGUN = ("+0h", "sent email", "v1")


@pytest.mark.parametrize(
    ("mode", "edit", "rows"),
    [
        ("pin", SECOND, [BEGUN, ("+24h", "sent sms", "v1"), ("+24h", "ended completed", "v1")]),
        ("pin", SHORTER, [BEGUN, ("+24h", "sent sms", "v1"), ("+24h", "ended completed", "v1")]),
        ("pin", WITHOUT_RULE, [BEGUN, ("+24h", "sent sms", "v1"), ("+24h", "ended completed", "v1")]),
        ("follow", SECOND, [BEGUN, ("+24h", "sent push", "v2"), ("+24h", "ended completed", "v2")]),
        ("follow", SHORTER, [BEGUN, ("+24h", "ended step_gone", "v2")]),
        ("follow", WITHOUT_RULE, [BEGUN, ("+24h", "ended step_gone", "v2")]),
    ],
)
def test_a_running_play_goes_on_as_the_edit_declares(tell, mode, edit, rows):
    edited = Edited(tell, FIRST, on_edit(edit, mode))
    edited.story.happens("0s", "kyc_started")
    told, state = edited.told("1h", "2d")
    assert told == rows
    assert (state.plays, state.timers) == ({}, {})


def test_without_a_declaration_plays_are_pinned(tell):
    edited = Edited(tell, FIRST, SECOND)
    edited.story.happens("0s", "kyc_started")
    assert edited.told("1h", "2d")[0][1] == ("+24h", "sent sms", "v1")


def test_a_journey_that_the_edit_has_removed_pins_by_the_declaration_of_before(tell):
    other = FIRST.replace("journey: kyc", "journey: other")
    for mode, row in (("pin", ("+24h", "sent sms", "v1")), ("follow", ("+24h", "ended step_gone", "v2"))):
        edited = Edited(tell, on_edit(FIRST, mode), other)
        edited.story.happens("0s", "kyc_started")
        assert edited.told("1h", "2d")[0][1] == row


@pytest.mark.parametrize("mode", ["pin", "follow"])
def test_a_goal_ends_pinned_and_following_plays_alike(tell, mode):
    edited = Edited(tell, FIRST, on_edit(SECOND, mode))
    edited.story.happens("0s", "kyc_started")
    edited.story.happens("3h", "kyc_completed")
    told, state = edited.told("1h", "2d")
    assert told == [BEGUN, ("+3h", "ended goal_reached", "v2")]
    assert (state.plays, state.timers) == ({}, {})


def test_a_pinned_play_ends_by_the_exit_of_its_own_version(tell):
    edited = Edited(tell, FIRST, SECOND.replace("exit_when: {event: unsubscribed}", "exit_when: {event: deal_won}"))
    edited.story.happens("0s", "kyc_started")
    edited.story.happens("2h", "deal_won")
    edited.story.happens("3h", "unsubscribed")
    assert edited.told("1h", "2d")[0] == [BEGUN, ("+3h", "ended exited", "v1")]


AWAITING = FIRST.replace(
    "          - wait: 1d\n", "          - wait_for: {event: email_opened, within: 1d, else: [{exit: true}]}\n"
)


@pytest.mark.parametrize(("mode", "row"), [("pin", ("+3h", "sent sms", "v1")), ("follow", ("+3h", "sent push", "v2"))])
def test_an_awaited_event_moves_a_play_on_in_the_program_it_goes_on_with(tell, mode, row):
    after = AWAITING.replace("{connector: sms, template: text}", "{connector: push, template: note}")
    edited = Edited(tell, AWAITING, on_edit(after, mode))
    edited.story.happens("0s", "kyc_started")
    edited.story.happens("3h", "email_opened")
    told = edited.told("1h", "2d")[0]
    assert told[:2] == [BEGUN, row]


def test_one_event_moves_a_play_on_by_one_wait_only(tell):
    twice = FIRST.replace(
        "          - wait: 1d\n",
        "          - wait_for: {event: email_opened, within: 1d}\n"
        "          - wait_for: {event: email_opened, within: 1d}\n",
    )
    story = tell(twice, consents={"service": True})
    story.happens("0s", "kyc_started")
    story.happens("1h", "email_opened")
    assert story.told("2h").sent() == [("+0s", "email")]
    story.happens("3h", "email_opened")
    assert story.told("4h").sent() == [("+0s", "email"), ("+10800s", "sms")]


def test_a_play_that_was_adopted_is_of_its_new_version_at_the_next_edit(tell):
    second = on_edit(SECOND, "follow")
    edited = Edited(tell, FIRST, second)
    edited.story.happens("0s", "kyc_started")
    edited.story.happens("2h", "product_viewed", sku="s1")
    _, state = edited.told("1h", "3h")
    assert [play.version for play in state.plays.values()] == [edited.after.version]
    third = with_earlier(tell(FIRST).rulebook, [edited.after])
    done = replay(third, [], until_ms=edited.story.moment("2d"), states={"c1": state})
    assert [(one.connector, one.rulebook_version) for one in done.actions] == [("push", edited.after.version)]


def test_a_play_whose_version_cannot_be_had_any_more_follows(tell):
    edited = Edited(tell, FIRST, SECOND)
    edited.after = tell(SECOND).rulebook
    edited.story.happens("0s", "kyc_started")
    assert edited.told("1h", "2d")[0][1] == ("+24h", "sent push", "v2")


# ----------------------------------------------------------------------------------------------- stages

STAGES = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:    {on: {event: cart_updated}}
      checkout:  {on: {event: checkout_started}}
      ordered:   {on: {event: order_completed}, goal: true}
      abandoned: {on: {dwell: 7d}}
    rules:
      - id: nudge
        title: Nudge
        on: {enter: basket}
        do: [{wait: 1d}, {send: {connector: sms, template: text}}]
        limits: {consent: [service]}
      - id: left
        title: Left for good
        on: {dwell: {stage: checkout, for: 2d}}
        do: [{send: {connector: email, template: mail}}]
        limits: {consent: [service]}
"""
RENAMED = (
    STAGES.replace("basket:    ", "cart:      ")
    .replace("enter: basket", "enter: cart")
    .replace("abandoned: {on: {dwell", "lapsed: {on: {dwell")
)


def test_migrating_moves_runs_to_the_stages_that_took_the_place_of_theirs(tell):
    edited = Edited(tell, STAGES, on_edit(RENAMED, "{migrate: {basket: cart, abandoned: lapsed}}"))
    edited.story.happens("0s", "cart_updated", cart_id="k1")
    edited.story.happens("2h", "product_viewed", sku="s1")
    told, state = edited.told("1h", "3h")
    assert told == []
    assert state.runs["purchase/k1"].stage == "cart"
    assert state.runs["purchase/k1"].entered_at == edited.story.start_ms
    assert sorted(state.timers) == ["play||nudge|purchase/k1", "stage|lapsed|purchase/k1"]


def test_a_migrated_run_goes_on_from_its_new_stage_and_its_plays_follow(tell):
    edited = Edited(tell, STAGES, on_edit(RENAMED, "{migrate: {basket: cart, abandoned: lapsed}}"))
    edited.story.happens("0s", "cart_updated", cart_id="k1")
    edited.story.happens("2h", "cart_updated", cart_id="k1")
    told, state = edited.told("1h", "8d")
    assert told == [("+24h", "sent sms", "v2"), ("+24h", "ended completed", "v2")]
    assert state.runs["purchase/k1"].stage == "lapsed"
    assert state.runs["purchase/k1"].ended_at == edited.story.moment("7d")


def test_a_timer_of_a_stage_that_migrates_finds_it_even_when_it_is_the_first_to_touch_the_customer(tell):
    edited = Edited(tell, STAGES, on_edit(RENAMED, "{migrate: {basket: cart, abandoned: lapsed}}"))
    edited.story.happens("0s", "cart_updated", cart_id="k1")
    _, state = edited.told("6d", "8d")
    assert state.runs["purchase/k1"].stage == "lapsed"


def test_a_run_that_migrates_into_a_stage_that_ends_runs_has_ended(tell):
    edited = Edited(
        tell,
        STAGES,
        on_edit(
            STAGES.replace("      basket:    {on: {event: cart_updated}}\n", "").replace(
                "enter: basket", "enter: checkout"
            ),
            "{migrate: {basket: abandoned}}",
        ),
    )
    edited.story.happens("0s", "cart_updated", cart_id="k1")
    edited.story.happens("2h", "product_viewed", sku="s1")
    told, state = edited.told("1h", "8d")
    assert told == [("+2h", "ended run_ended", "v2")]
    assert state.runs["purchase/k1"].ended_at == edited.story.moment("2h")
    assert state.timers == {}


@pytest.mark.parametrize("mode", ["pin", "follow"])
def test_a_stage_that_is_gone_counts_as_standing_before_the_first(tell, mode):
    edited = Edited(tell, STAGES, on_edit(RENAMED, mode))
    edited.story.happens("0s", "cart_updated", cart_id="k1")
    edited.story.happens("2h", "cart_updated", cart_id="k1")
    _, state = edited.told("1h", "3h")
    assert state.runs["purchase/k1"].stage == "cart"


# ------------------------------------------------------------------------------------------- aggregates

COUNTING = FIRST.replace(
    "          - wait: 1d\n",
    "          - wait: 1d\n"
    "          - if: {count: product_viewed, within: 2d, op: lt, value: 2}\n"
    "            then: [{send: {connector: push, template: note}}]\n",
)


@pytest.mark.parametrize(
    ("edit", "pushed"), [(COUNTING.replace("sms", "email").replace("text", "mail"), True), (FIRST, False)]
)
def test_a_pinned_play_knows_an_aggregate_only_while_the_version_in_force_keeps_it(tell, edit, pushed):
    edited = Edited(tell, COUNTING, edit)
    edited.story.happens("0s", "kyc_started")
    edited.story.happens("30m", "product_viewed", sku="s1")
    told = edited.told("1h", "2d")[0]
    assert (("+24h", "sent push", "v1") in told) is pushed
    assert ("+24h", "sent sms", "v1") in told


# ------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("pinn", 'on_edit: expected pin, follow or {migrate: {stage of before: stage of now}}, got "pinn"'),
        ("{migrate: {}}", "on_edit: expected pin, follow or {migrate: {stage of before: stage of now}}, got a mapping"),
        ("{migrate: {started: completed}}", '"started" is still a stage of this journey; migrate stages that are gone'),
        ("{migrate: {begun: stated}}", 'unknown stage "stated". Known: completed, started. Did you mean "started"?'),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_at_its_line(tell, mode, message):
    with pytest.raises(AssertionError) as refused:
        tell(on_edit(FIRST, mode))
    assert " ".join(str(refused.value).split()).startswith(f'rules.yaml:4 journey "kyc" {message}')


CLOCKS = """
    journey: kyc
    title: Know your customer
    stages:
      started:   {on: {event: kyc_started}}
      checked:   {on: {event: email_opened}}
      completed: {on: {event: kyc_completed}, goal: true}
      stalled:   {on: {dwell: 5d}}
    rules:
      - id: clock
        title: Somebody waits
        on: TRIGGER
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
"""


def clock(trigger: str) -> str:
    return CLOCKS.replace("TRIGGER", trigger)


@pytest.mark.parametrize(
    ("before", "after", "touched", "untouched"),
    [
        ("{dwell: {stage: started, for: 10h}}", "{dwell: {stage: started, for: 30h}}", [30], [30]),
        ("{dwell: {stage: started, for: 10h}}", "{dwell: {stage: started, for: 4h}}", [4], [10]),
        ("{dwell: {stage: started, for: 10h}}", "{dwell: {stage: started, for: 1h}}", [3], [10]),
        ("{dwell: {stage: started, for: 10h}}", "{dwell: {stage: checked, for: 10h}}", [], []),
        ("{dwell: {stage: started, for: 1h}}", "{dwell: {stage: started, for: 90m}}", [1], [1]),
        ('{schedule: {at: "20:00"}}', '{schedule: {at: "16:00"}}', [6, 30], [30]),
        ('{schedule: {at: "20:00"}}', "{dwell: {stage: started, for: 12h}}", [12], [12]),
        ("{dwell: {stage: started, for: 12h}}", '{schedule: {at: "20:00"}}', [10, 34], [34]),
        ("{event: kyc_completed}", '{schedule: {at: "20:00"}}', [10, 34], []),
    ],
)
def test_clocks_go_by_the_version_in_force(tell, before, after, touched, untouched):
    """A run begins at ten in the morning; two hours later comes the edit, and an hour after it perhaps an event.

    A customer who is touched by nothing but an old clock hears of the edit when that clock runs out.
    """
    for later, pushes in (([("3h", "product_viewed")], touched), ([], untouched)):
        edited = Edited(tell, clock(before), clock(after))
        edited.story.happens("0s", "identify", timezone="Asia/Kolkata")
        for moment, event_type in [("0s", "kyc_started"), *later]:
            edited.story.happens(moment, event_type)
        told, _ = edited.told("2h", "40h")
        assert [hours for hours, what, _ in told if what == "sent push"] == [f"+{one}h" for one in pushes], later


def test_a_span_of_a_stage_that_the_edit_changes_is_counted_from_when_the_run_stood_still(tell):
    edited = Edited(tell, clock("{event: kyc_completed}"), clock("{event: kyc_completed}").replace("5d", "2d"))
    edited.story.happens("0s", "kyc_started")
    edited.story.happens("3h", "product_viewed", sku="s1")
    _, state = edited.told("2h", "6d")
    assert state.runs["kyc/"].ended_at == edited.story.moment("2d")
