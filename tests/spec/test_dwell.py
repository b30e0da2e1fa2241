"""Dwell: late, repeated and shuffled events give the decisions that they would have given in order."""

from __future__ import annotations

import random  # noqa: TID251 - a seeded source of stories, which decides nothing.

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.event import Event
from orchestrator.core.state import CustomerState
from orchestrator.runtime.replay import replay

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SERVICE = {"service": True}
RULES = """
    journey: purchase
    title: Purchase
    stages:
      looking:  {on: {event: product_viewed}}
      basket:   {on: {event: cart_updated}}
      checkout: {on: {event: checkout_started}}
      ordered:  {on: {event: order_completed}, goal: true}
      given_up: {on: {dwell: 30d}}
    reentry: {after: 20h}
    rules:
""" + "".join(
    f"""
      - id: stands-in-{stage}
        on: {{dwell: {{stage: {stage}, for: 2h}}}}
        do: [{{send: {{connector: push, template: note}}}}]
        limits: {{consent: [service]}}
"""
    for stage in ("looking", "basket", "checkout")
)
TYPES = ("product_viewed", "cart_updated", "checkout_started", "order_completed")


def test_a_late_event_of_the_same_stage_moves_the_clock_back(tell):
    story = tell(RULES, consents=SERVICE)
    story.happens("5m", "cart_updated")
    story.happens("0s", "cart_updated", arrives="10m")
    told = story.told("3h")
    assert told.sent() == [("+7200s", "push")]
    assert told.state.runs["purchase/"].entered_at == story.start_ms


@pytest.mark.parametrize(
    ("case", "events"),
    [
        ("an earlier stage", [("5m", "cart_updated", "5m"), ("0s", "product_viewed", "10m")]),
        ("a later stage", [("5m", "product_viewed", "5m"), ("0s", "cart_updated", "10m")]),
    ],
)
def test_a_run_has_begun_with_the_first_event_that_tells_of_it(tell, case, events):
    story = tell(RULES, consents=SERVICE)
    for after, event_type, arrives in events:
        story.happens(after, event_type, arrives=arrives)
    assert story.told("20m").state.runs["purchase/"].started_at == story.start_ms, case


def test_what_happened_before_the_end_of_a_run_tells_nothing_of_the_next(tell):
    story = tell(RULES.replace("20h", "0s"), consents=SERVICE)
    story.happens("0s", "cart_updated")
    story.happens("20m", "order_completed")
    story.happens("30m", "cart_updated")
    story.happens("10m", "cart_updated", arrives="31m")
    story.happens("15m", "checkout_started", arrives="32m")
    told = story.told("3h")
    run = told.state.runs["purchase/"]
    assert (run.stage, run.started_at, run.entered_at) == ("basket", story.moment("30m"), story.moment("30m"))
    assert told.sent() == [("+9000s", "push")]


def test_a_stage_that_a_play_set_was_not_entered_before(tell):
    text = (
        RULES
        + """
      - id: reset
        on: {event: payment_failed}
        do: [{set_stage: basket}]
"""
    )
    story = tell(text, consents=SERVICE)
    story.happens("0s", "checkout_started")
    story.happens("30m", "payment_failed")
    story.happens("10m", "cart_updated", arrives="40m")
    assert story.told("3h").sent() == [("+9000s", "push")]


#: Most events come close together, so that what is late changes their order.
MINUTES = st.one_of(st.integers(0, 60), st.integers(0, 60), st.integers(0, 12 * 60))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TYPES), MINUTES), min_size=1, max_size=8, unique_by=lambda one: one[1]),
    st.integers(0, 2**32),
)
def test_shuffled_late_and_repeated_events_dwell_as_they_would_in_order(tell, happened, seed):
    """All are known within the lateness that rules tolerate, which is shorter than what they wait for."""
    story = tell(RULES)
    draw = random.Random(seed)

    def log(late):
        events = [
            Event(
                id=f"e{number}",
                type=event_type,
                customer_id="c1",
                occurred_at_ms=story.start_ms + minute * MINUTE_MS,
                received_at_ms=story.start_ms + minute * MINUTE_MS + (draw.randrange(HOUR_MS) if late else 0),
            )
            for number, (event_type, minute) in enumerate(happened)
        ]
        again = draw.sample(events, draw.randrange(len(events) + 1)) if late else []
        return sorted([*events, *again], key=lambda event: event.received_at_ms)

    def dwelt(events):
        state = CustomerState(first_seen_ms=story.start_ms, consents={"service": (True, 0)})
        done = replay(story.rulebook, events, until_ms=story.start_ms + 16 * HOUR_MS, states={"c1": state})
        assert not done.failures
        taken_back = {one.id for one in done.actions if one.cancel}
        return sorted((one.rule, one.decided_at) for one in done.actions if one.id not in taken_back)

    assert dwelt(log(late=True)) == dwelt(log(late=False))
