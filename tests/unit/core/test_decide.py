"""Deciding is a function: it changes nothing that it was given, and says the same when it is asked again."""

from __future__ import annotations

import copy
import random  # noqa: TID251 - seeded, to draw histories.
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.decide import TimerDue, decide, due_timers
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.seen import KEPT_ALWAYS, KEPT_MS, MARK_BYTES
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.rulebook.load import load_rulebook
from orchestrator.runtime.rulebooks import compile_loaded

START_MS = 1_772_433_000_000
RULES = Path(__file__).parents[3] / "rules"
TYPES = {
    "product_viewed": lambda chance: {"product_id": f"p{chance.randint(1, 3)}"},
    "cart_updated": lambda chance: {"cart_id": chance.choice("kl"), "total": chance.choice([10, 45, 99.5])},
    "checkout_started": lambda chance: {"cart_id": chance.choice("kl")},
    "order_completed": lambda chance: {"cart_id": chance.choice("kl"), "total": 45},
    "lead_submitted": lambda chance: {"lead_id": chance.choice("mn"), "phone": "+919812345678"},
    "site_visit_booked": lambda chance: {"lead_id": chance.choice("mn"), "starts_at": START_MS + 90_000_000},
    "email_opened": lambda chance: {},
    "consent_changed": lambda chance: {"marketing": chance.random() < 0.7, "callback": chance.random() < 0.7},
    "identify": lambda chance: {"timezone": "Asia/Kolkata", "country": chance.choice(["IN", "FR"]), "phone": "+91981"},
}


@cache
def rulebook() -> Rulebook:
    """The rules that are shipped."""
    loaded = load_rulebook(RULES)
    assert loaded.ok, "\n".join(map(str, loaded.problems))
    return compile_loaded(loaded, "default")


def history(seed: int) -> list[Event]:
    chance = random.Random(seed)
    stamp_ms = START_MS
    events: list[Event] = []
    for number in range(80):
        stamp_ms += chance.choice([0, 1, 60_000, 1_800_000, 7_200_000])
        event_type = chance.choice(list(TYPES))
        events.append(
            Event(
                id=f"e{number if chance.random() < 0.9 else max(0, number - 3)}",
                type=event_type,
                customer_id=f"customer-{seed}",
                occurred_at_ms=stamp_ms - chance.choice([0, 0, 5_000, 600_000, -9]),
                received_at_ms=stamp_ms,
                properties=TYPES[event_type](chance),
            )
        )
    return events


def stimuli_of(state: CustomerState, event: Event) -> list[Any]:
    return [*due_timers(state, event.customer_id, event.received_at_ms)[:1], event]


@pytest.mark.parametrize("seed", range(12))
def test_deciding_changes_nothing_that_it_was_given_and_repeats_itself(seed: int) -> None:
    state = CustomerState(consents={"marketing": (True, 0), "callback": (True, 0), "sms": (True, 0)})
    sent = 0
    for event in history(seed):
        while True:
            stimulus = stimuli_of(state, event)[0]
            now_ms = stimulus.due_ms if isinstance(stimulus, TimerDue) else event.received_at_ms
            before, given = copy.deepcopy(state), copy.deepcopy(stimulus)
            decision = decide(rulebook(), state, stimulus, now_ms)
            assert (state, stimulus) == (before, given)
            again = decide(rulebook(), decode_state(encode_state(state)), stimulus, now_ms)
            assert (again.actions, again.records) == (decision.actions, decision.records)
            assert encode_state(again.state) == encode_state(decision.state)
            state = decision.state
            sent += len(decision.actions)
            if not isinstance(stimulus, TimerDue):
                break
    assert sent > 0


def event(number: int, *, occurred_at_ms: int = START_MS, received_at_ms: int = START_MS) -> Event:
    return Event(
        id=f"e{number}",
        type="product_viewed",
        customer_id="c",
        occurred_at_ms=occurred_at_ms,
        received_at_ms=received_at_ms,
        properties={"product_id": "p"},
    )


def test_an_event_that_was_applied_before_changes_nothing() -> None:
    once = decide(rulebook(), CustomerState(), event(1), START_MS).state
    twice = decide(rulebook(), once, event(1, received_at_ms=START_MS + 9), START_MS + 9)
    assert twice.duplicate
    assert (twice.state, twice.actions, twice.records) == (once, [], [])


def test_ids_are_remembered_for_a_day_and_the_latest_for_ever() -> None:
    """``event(number)`` is one event under one id, whenever it comes."""
    state = CustomerState()
    for number in range(2 * KEPT_ALWAYS):
        state = decide(rulebook(), state, event(number), START_MS).state
    assert all(decide(rulebook(), state, event(number), START_MS).duplicate for number in range(2 * KEPT_ALWAYS))
    for days in (1, 2):
        state = decide(rulebook(), state, event(1_000 + days), START_MS + days * KEPT_MS).state
    assert len(state.seen) == KEPT_ALWAYS * MARK_BYTES
    assert decide(rulebook(), state, event(2 * KEPT_ALWAYS - 1), START_MS).duplicate
    assert not decide(rulebook(), state, event(0), START_MS).duplicate


@pytest.mark.parametrize(
    ("occurred", "received", "frontier", "clock"),
    [
        (0, 0, 0, 10_000),
        (5_000, 20_000, 5_000, 20_000),
        (90_000, 20_000, 20_000, 20_000),  # dated ahead: event time never exceeds log time
        (-5_000, 20_000, 0, 20_000),  # late: the frontier stays
        (9_000, 5_000, 9_000, 10_000),  # a log that runs backwards does not turn the customer's clock back
    ],
)
def test_event_time_and_log_time_only_move_forward(occurred: int, received: int, frontier: int, clock: int) -> None:
    state = CustomerState(clock_ms=START_MS + 10_000, frontier_ms=START_MS, first_seen_ms=START_MS)
    told = event(1, occurred_at_ms=START_MS + occurred, received_at_ms=START_MS + received)
    after = decide(rulebook(), state, told, told.received_at_ms).state
    assert (after.frontier_ms - START_MS, after.clock_ms - START_MS) == (frontier, clock)


def test_a_timer_that_was_moved_or_removed_does_nothing() -> None:
    state = CustomerState(timers={"play||r|j/": START_MS})
    for stale in (TimerDue("c", "play||r|j/", START_MS - 1), TimerDue("c", "play||other|j/", START_MS)):
        decision = decide(rulebook(), state, stale, START_MS)
        assert (decision.state, decision.actions, decision.records) == (state, [], [])


def test_due_timers_come_in_due_order_up_to_the_moment_asked_for() -> None:
    state = CustomerState(timers={"b||": 5, "a||": 5, "c||": 3, "d||": 6})
    assert [(one.due_ms, one.timer) for one in due_timers(state, "c", 5)] == [(3, "c||"), (5, "a||"), (5, "b||")]
