"""Absence in bounded space, and the arms of rules that must not disturb each other."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.condition import Path, Root
from orchestrator.core.definition import Journey, OnAbsence, Rearm, Rule, Send, Stage, StageOn
from orchestrator.core.event import Event
from orchestrator.core.interpret import interpreted
from orchestrator.core.rulebook import Rulebook, build_rulebook
from orchestrator.core.state import FIRINGS_MAX, INSTANCES_MAX, RUNS_PER_JOURNEY_MAX
from orchestrator.runtime.replay import Replayed, replay

SPAN = 1_000
CART = Path(Root.EVENT, ("cart",))


class Plain:
    """A template without variables."""

    name = "plain"

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {}


def rule(journey: str, rearm: Rearm = Rearm.LATEST) -> Rule:
    program = (Send("1", "sms", "sms", Plain()),)
    watched = OnAbsence("watched", "a", "b", SPAN, rearm, same=CART)
    return Rule(f"r-{journey}", journey, watched, program, lateness_ms=SPAN)


def book(rearm: Rearm = Rearm.LATEST, *, key: Path | None = CART, **ends: str) -> Rulebook:
    """A journey for each name, which ends with the event of that name's value; all watch for the same absence."""
    return build_rulebook(
        version="v",
        journeys=[
            Journey(
                name,
                name,
                (Stage("open", 0, StageOn("a")), Stage("over", 1, StageOn(end), final=True)),
                key=key,
                rules=(rule(name, rearm),),
                reentry_after_ms=0,
            )
            for name, end in ends.items()
        ],
        aggregates=[],
        conditions=interpreted,
    )


def story(rulebook: Rulebook, *told: tuple[str, int, str] | tuple[str, int, str, int], until_ms: int) -> Replayed:
    """Tell (type, event time, cart[, log time]) in log order."""
    log = [
        Event(
            id=f"e{number}",
            type=event_type,
            customer_id="c",
            occurred_at_ms=at_ms,
            received_at_ms=stamp[0] if stamp else at_ms,
            properties={"cart": cart},
        )
        for number, (event_type, at_ms, cart, *stamp) in enumerate(told)
    ]
    done = replay(rulebook, log, until_ms=until_ms)
    assert not done.failures
    return done


def effects(done: Replayed) -> list[tuple[int, str]]:
    return [(one.decided_at, f"{'withdraw' if one.cancel else 'send'} {one.rule}") for one in done.actions]


def test_the_end_of_one_journeys_run_leaves_the_watch_of_another_alone():
    done = story(book(j="stop", k="never"), ("a", 1, "x"), ("stop", 2, "x"), until_ms=5_000)
    assert effects(done) == [(1_001, "send r-k")]


@pytest.mark.parametrize(
    ("case", "rearm", "told", "expected"),
    [
        ("a late B takes the firing back", "latest", [("a", 1, "x"), ("b", 900, "x", 1_100)], [(1_001, 1), (1_100, 0)]),
        ("a B after the span does not", "latest", [("a", 1, "x"), ("b", 1_001, "x", 1_100)], [(1_001, 1)]),
        (
            "a later A does not make the earlier firing forgotten",
            "latest",
            [("a", 1, "x"), ("a", 1_050, "x"), ("b", 900, "x", 1_100), ("b", 1_060, "x", 1_110)],
            [(1_001, 1), (1_100, 0)],
        ),
        (
            "a late A within the span of a firing begins no other (first)",
            "first",
            [("a", 1, "x"), ("a", 500, "x", 1_100)],
            [(1_001, 1)],
        ),
        (
            "a late A within the span of a firing moves the clock (latest)",
            "latest",
            [("a", 1, "x"), ("a", 500, "x", 1_100)],
            [(1_001, 1), (1_500, 1)],
        ),
        (
            "an A after the span begins anew (first)",
            "first",
            [("a", 1, "x"), ("a", 1_001, "x")],
            [(1_001, 1), (2_001, 1)],
        ),
        (
            "a run that ended lets the next one begin at once (first)",
            "first",
            [("a", 1, "x"), ("stop", 10, "x"), ("a", 20, "x")],
            [(1_020, 1)],
        ),
        ("an A that comes too late arms nothing", "latest", [("a", 1, "x", 1_002)], []),
        ("an A as late as is tolerated fires at once", "latest", [("a", 1, "x", 1_001)], [(1_001, 1)]),
    ],
)
def test_firings_and_what_takes_them_back(case, rearm, told, expected):
    done = story(book(Rearm(rearm), j="stop"), *told, until_ms=9_000)
    assert effects(done) == [(at_ms, "send r-j" if sent else "withdraw r-j") for at_ms, sent in expected], case


def test_firings_that_may_be_taken_back_are_kept_up_to_their_ceiling():
    told = [("a", 1 + number * 2_000, "x") for number in range(FIRINGS_MAX + 3)]
    (arm,) = story(book(j="stop"), *told, until_ms=99_000).states["c"].arms.values()
    assert [one.armed_at for one in arm.earlier] == [one[1] for one in told[-FIRINGS_MAX - 1 : -1]]


def test_what_nobody_waits_for_makes_room_first_and_without_a_word():
    fired = [("a", 1, f"f{number}") for number in range(INSTANCES_MAX - 1)]
    done = story(book(key=None, j="stop"), *fired, ("a", 900, "waiting"), ("a", 1_002, "new"), until_ms=1_500)
    arms = done.states["c"].arms
    assert len(arms) == INSTANCES_MAX
    assert {key.partition("|")[2] for key in arms} >= {"waiting", "new"}
    assert {one.reason.value for one in done.records} == {"triggered"}


def test_above_the_ceiling_the_watch_that_has_waited_longest_is_given_up_on_record():
    carts = [("a", 1 + number, f"k{number:02}") for number in range(INSTANCES_MAX + 1)]
    done = story(book(key=None, j="never"), *carts, until_ms=900)
    assert [(one.reason.value, one.cause) for one in done.records] == [("instance_ceiling", "e0")]
    assert len(done.states["c"].arms) == INSTANCES_MAX


def test_a_run_that_makes_room_says_what_it_gives_up():
    carts = [("a", 1 + number, f"k{number:02}") for number in range(RUNS_PER_JOURNEY_MAX + 1)]
    done = story(book(j="never"), *carts, until_ms=900)
    assert [(one.reason.value, one.run) for one in done.records] == [("instance_ceiling", "j/k00")]
    assert len(done.states["c"].runs) == RUNS_PER_JOURNEY_MAX


def test_arms_that_no_tolerated_event_can_concern_are_forgotten():
    fired = [("a", 1, f"f{number}") for number in range(10)]
    done = story(book(key=None, j="stop"), *fired, ("a", 1 + 2 * SPAN, "k"), ("a", 2 + 2 * SPAN, "l"), until_ms=2_500)
    assert len(done.states["c"].arms) == 2
