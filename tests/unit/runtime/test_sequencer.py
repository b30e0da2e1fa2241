"""The sequencer: timers and events of a partition in one order, whatever the cuts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.decide import TimerDue
from orchestrator.core.definition import Journey, OnAbsence, OnEvent, Rule, Send, Stage, StageOn, Wait
from orchestrator.core.event import Event
from orchestrator.core.interpret import interpreted
from orchestrator.core.rulebook import build_rulebook
from orchestrator.core.state import CustomerState
from orchestrator.runtime.sequencer import Sequencer


class Plain:
    """A template; a customer named ``bad`` cannot be rendered."""

    name = "plain"

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        if facts["event"].get("bad"):
            raise KeyError("bad")
        return {}


SMS = Send("1", "sms", "sms", Plain())
RULEBOOK = build_rulebook(
    version="v",
    journeys=[
        Journey(
            "j",
            "",
            (Stage("open", 0, StageOn("never")),),
            rules=(
                Rule("gone", "j", OnAbsence("n", "a", "b", 100), (SMS,), captures=("bad",), anytime=True),
                Rule("seen", "j", OnEvent("b"), (SMS,), captures=("bad",), anytime=True),
                Rule("later", "j", OnEvent("w"), (Wait("0", for_ms=50), SMS), captures=("bad",), anytime=True),
            ),
        )
    ],
    aggregates=[],
    conditions=interpreted,
)


def event(event_type: str, at_ms: int, customer: str, **properties: Any) -> Event:
    return Event(
        id=f"{event_type}{at_ms}{customer}",
        type=event_type,
        customer_id=customer,
        occurred_at_ms=at_ms,
        received_at_ms=at_ms,
        properties=properties,
    )


def sequenced(*events: Event, until_ms: int | None = None, end: tuple[int, str] | None = None) -> Sequencer:
    sequencer = Sequencer(RULEBOOK, {one.customer_id: CustomerState() for one in events})
    sequencer.expect([], end)
    for one in events:
        sequencer.apply(one, one.received_at_ms)
    if until_ms is not None:
        sequencer.advance(until_ms)
    return sequencer


def sent(sequencer: Sequencer) -> list[tuple[int, str, str]]:
    outcome = sequencer.outcome
    assert outcome.stamps == [one.decided_at for one in outcome.actions]
    return [(one.decided_at, one.customer_id, one.rule) for one in outcome.actions]


@pytest.mark.parametrize(
    ("case", "events", "until_ms", "expected"),
    [
        (
            "timers come before an event of their own millisecond, by due time and customer",
            [event("a", 2, "z"), event("a", 1, "y"), event("a", 2, "x"), event("b", 102, "z")],
            None,
            [(101, "y", "gone"), (102, "x", "gone"), (102, "z", "gone"), (102, "z", "seen")],
        ),
        (
            "an event before the timer prevents it",
            [event("a", 1, "x"), event("b", 100, "x")],
            500,
            [(100, "x", "seen")],
        ),
        ("nothing fires beyond the moment asked for", [event("a", 1, "x")], 100, []),
        ("what is due by then fires", [event("a", 1, "x")], 101, [(101, "x", "gone")]),
        (
            "timers of one customer that one event sets fire in due order",
            [event("a", 1, "x"), event("w", 2, "x")],
            500,
            [(52, "x", "later"), (101, "x", "gone")],
        ),
    ],
)
def test_timers_and_events_have_one_order(case, events, until_ms, expected):
    assert sent(sequenced(*events, until_ms=until_ms)) == expected, case


def test_wakes_from_the_end_on_are_left_to_a_later_run():
    one = sequenced(event("a", 1, "x"), event("a", 1, "y"), event("a", 1, "z"), until_ms=999, end=(101, "y\0"))
    assert sent(one) == [(101, "x", "gone"), (101, "y", "gone")]
    assert one.states["z"].next_wake_ms() == 101


def test_a_wake_whose_timer_has_gone_is_passed_over():
    sequencer = Sequencer(RULEBOOK, {"x": CustomerState(timers={"play||later|j/": 90})})
    sequencer.expect([(50, "x"), (90, "x")])
    assert sequencer.next_wake_ms() == 50
    sequencer.advance(60)
    assert (sequencer.outcome.fired, sequencer.next_wake_ms()) == ([], 90)
    sequencer.advance(90)
    assert sequencer.outcome.fired == [TimerDue("x", "play||later|j/", 90)]


def test_a_duplicate_is_counted_and_touches_nobody():
    state = {"x": CustomerState()}
    first = Sequencer(RULEBOOK, state)
    first.apply(event("b", 1, "x"), 1)
    again = Sequencer(RULEBOOK, state)
    again.apply(event("b", 1, "x"), 2)
    assert (again.outcome.events_applied, again.outcome.duplicates, again.outcome.touched) == (1, 1, {})


@pytest.mark.parametrize(
    ("case", "events", "stimulus", "plays", "timers"),
    [
        ("an event leaves the state as it was", [event("b", 1, "x", bad=1)], "b1x", 0, 0),
        ("an absence does not fire again", [event("a", 1, "x", bad=1)], "absence|", 0, 0),
        ("a play ends with its timer", [event("w", 1, "x", bad=1)], "play||later|j/", 0, 0),
    ],
)
@pytest.mark.usefixtures("caplog")
def test_a_failure_is_told_once_and_does_not_come_back(case, events, stimulus, plays, timers):
    sequencer = sequenced(*events, event("b", 2, "y"), until_ms=900)
    (failure,) = sequencer.outcome.failures
    named = failure.stimulus.timer if isinstance(failure.stimulus, TimerDue) else failure.stimulus.id
    assert named.startswith(stimulus), case
    assert failure.message == "KeyError: 'bad'"
    assert sent(sequencer) == [(2, "y", "seen")]
    state = sequencer.states["x"]
    assert (len(state.plays), len(state.timers)) == (plays, timers)
    assert "x" in sequencer.outcome.touched
