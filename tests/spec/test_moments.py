"""Moments: waits until a moment from data, which may have passed or be moved."""

from __future__ import annotations

import pytest

from orchestrator.core.decide import decide
from orchestrator.core.event import Event
from orchestrator.core.state import CustomerState, decode_state, encode_state

SERVICE = {"service": True}

# -------------------------------------------------------------------------------- a moment that has passed

REMINDERS = """
    journey: visit
    title: A visit to the doctor
    stages:
      booked: {on: {event: visit_booked}}
      seen:   {on: {event: visit_done}, goal: true}
    rules:
      - id: remind
        on: {enter: booked}
        do: DO
        limits: {consent: [service]}
"""
WAIT = "wait: {until: event.starts_at, offset: OFFSET, if_past: THEN}"
DAY, HOURS = WAIT.replace("OFFSET", "-1d"), WAIT.replace("OFFSET", "-2h")
TEXT, NOTE = "send: {connector: sms, template: text}", "send: {connector: push, template: note}"
BOTH = f"[{{{DAY}}}, {{{TEXT}}}, {{{HOURS}}}, {{{NOTE}}}]"


@pytest.mark.parametrize(
    ("starts_in", "then", "sent", "said"),
    [
        ("48h", "skip", [("+86400s", "sms"), ("+165600s", "push")], []),
        ("3h", "go", [("+0s", "sms"), ("+3600s", "push")], ["noted remind go"]),
        ("3h", "skip", [("+3600s", "push")], ["noted remind skip"]),
        ("3h", "end", [], ["ended remind end"]),
        ("1h", "go", [("+0s", "sms"), ("+0s", "push")], ["noted remind go", "noted remind go"]),
        ("1h", "skip", [], ["noted remind skip", "noted remind skip"]),
        ("-168h", "skip", [], ["noted remind skip", "noted remind skip"]),
        # A moment that is now has not passed.
        ("24h", "end", [("+0s", "sms"), ("+79200s", "push")], []),
    ],
)
def test_the_author_says_what_follows_on_a_moment_that_has_passed(tell, starts_in, then, sent, said):
    story = tell(REMINDERS.replace("DO", BOTH.replace("THEN", then)), consents=SERVICE)
    starts_ms = story.start_ms + int(starts_in.removesuffix("h")) * 3_600_000
    story.happens("0s", "visit_booked", starts_at=starts_ms)
    told = story.told("3d")
    assert told.sent() == sent
    passed = [one for one in told.records if one.reason.value == "moment_passed"]
    assert [f"{one.outcome.value} {one.rule} {one.detail['then']}" for one in passed] == said


@pytest.mark.parametrize(
    ("case", "steps", "sent"),
    [
        ("the step after the wait", f"[{{{DAY}}}, {{{TEXT}}}, {{{NOTE}}}]", ["push"]),
        (
            "a send with its wait_for",
            f"[{{{DAY}}}, {{{TEXT}, wait_for: {{event: visit_done, within: 1h}}}}, {{{NOTE}}}]",
            ["push"],
        ),
        (
            "a whole branch",
            f"[{{{DAY}}}, {{if: {{field: profile.plan, op: missing}}, then: [{{{TEXT}}}]}}, {{{NOTE}}}]",
            ["push"],
        ),
        ("waits that follow it as well", f"[{{{DAY}}}, {{wait: 1h}}, {{{TEXT}}}, {{{NOTE}}}]", ["push"]),
        (
            "within a branch, nothing beyond it",
            f"[{{if: {{field: profile.plan, op: missing}}, then: [{{{DAY}}}, {{{TEXT}}}]}}, {{{NOTE}}}]",
            ["push"],
        ),
        ("no step before it", f"[{{{TEXT}}}, {{{DAY}}}, {{{NOTE}}}]", ["sms"]),
    ],
)
def test_skip_leaves_out_the_step_that_the_wait_was_for(tell, case, steps, sent):
    story = tell(REMINDERS.replace("DO", steps.replace("THEN", "skip")), consents=SERVICE)
    story.happens("0s", "visit_booked", starts_at=story.start_ms + 3_600_000)
    assert [what for _, what in story.told("3d").sent()] == sent, case


# ----------------------------------------------------------------------------------- a trait that is moved

RENEWAL = """
    journey: contract
    title: A contract
    stages:
      begun: {on: {event: kyc_started}}
      over:  {on: {event: kyc_completed}, goal: true}
    rules:
      - id: renew
        on: {enter: begun}
        do:
          - wait: {until: profile.renews_at, offset: -1d, if_past: THEN}
          - send: {connector: sms, template: text}
        limits: {consent: [service]}
      - id: extend
        on: {event: visit_booked}
        do: [{set_trait: {renews_at: "2026-03-12T10:00:00+05:30"}}]
"""
SIXTH, NINTH, TWELFTH = (f"2026-03-{day}T10:00:00+05:30" for day in ("06", "09", "12"))


@pytest.mark.parametrize(
    ("then", "moved", "rows"),
    [
        ("go", [], ["+518400s sent renew resumed"]),
        ("go", [("1d", TWELFTH)], ["+777600s sent renew resumed"]),
        ("go", [("1d", SIXTH)], ["+259200s sent renew resumed"]),
        ("go", [("1d", TWELFTH), ("2d", SIXTH)], ["+259200s sent renew resumed"]),
        ("go", [("4d", SIXTH)], ["+345600s noted renew moment_passed", "+345600s sent renew resumed"]),
        ("skip", [("4d", SIXTH)], ["+345600s noted renew moment_passed"]),
        ("end", [("4d", SIXTH)], ["+345600s ended renew moment_passed"]),
        ("go", [("1d", None)], ["+86400s ended renew moment_unknown"]),
        ("go", [("1d", "next week")], ["+86400s ended renew moment_unknown"]),
        ("go", [("1d", NINTH)], ["+518400s sent renew resumed"]),
    ],
)
def test_a_wait_until_a_trait_follows_the_trait(tell, then, moved, rows):
    story = tell(RENEWAL.replace("THEN", then), traits={"renews_at": NINTH}, consents=SERVICE)
    story.happens("0s", "kyc_started")
    for after, renews_at in moved:
        story.happens(after, "identify", renews_at=renews_at)
    told = story.told("12d")
    quiet = {"waiting_for_time", "completed"}
    assert [" ".join(row) for row in told.table() if row[2] not in quiet] == rows
    assert told.state.plays == {}


def test_a_wait_follows_a_trait_that_another_rule_sets(tell):
    story = tell(RENEWAL.replace("THEN", "go"), traits={"renews_at": NINTH}, consents=SERVICE)
    story.happens("0s", "kyc_started")
    story.happens("1d", "visit_booked")
    assert story.told("12d").sent() == [("+777600s", "sms")]


def test_an_older_value_that_arrives_late_moves_nothing(tell):
    story = tell(RENEWAL.replace("THEN", "go"), consents=SERVICE)
    story.happens("1h", "identify", renews_at=NINTH)
    story.happens("2h", "kyc_started")
    story.happens("0s", "identify", arrives="3h", renews_at=SIXTH)
    assert story.told("12d").sent() == [("+518400s", "sms")]


def test_a_wait_follows_the_trait_that_a_merge_brings(tell):
    """The anonymous id knows the newer date; the wait of the known one moves to it."""
    story = tell(RENEWAL.replace("THEN", "go"), traits={"renews_at": NINTH}, consents=SERVICE)
    story.happens("0s", "kyc_started")
    state = story.told("1h").state
    anonymous = CustomerState(first_seen_ms=1, known=False, traits={"renews_at": (TWELFTH, story.moment("1m"))})
    book, now_ms = story.rulebook, story.moment("2h")

    def event(number, event_type, customer, **properties):
        return Event(
            id=f"m{number}",
            type=event_type,
            customer_id=customer,
            occurred_at_ms=now_ms,
            received_at_ms=now_ms,
            properties=properties,
        )

    asked = decide(book, state, event(1, "alias", "c1", previous_id="anon"), now_ms)
    handed = decide(book, anonymous, asked.events[0], now_ms)
    merged = decide(book, asked.state, handed.events[0], now_ms)
    assert list(merged.state.timers.values()) == [story.moment("9d")]
    assert decode_state(encode_state(merged.state)) == merged.state
