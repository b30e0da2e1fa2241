"""The engine against the oracle: over any history, in any order of arrival, restarted anywhere, they agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from load_tests.simulation.oracle import (
    COMPARE,
    Arrival,
    History,
    OracleRule,
    OracleStage,
    absences_first,
    absences_latest,
    distinct,
    sends,
    sends_in_run,
    stages_walked,
)
from orchestrator.core.action import Action, action_id
from orchestrator.core.condition import Condition, CountOf, FirstEver, Not, Op, Path, Root, Since, SinceEnd, SumOf
from orchestrator.core.definition import (
    Aggregate,
    AggregateKind,
    Cap,
    Journey,
    Limits,
    OnAbsence,
    OnEnter,
    OnEvent,
    Rearm,
    Rule,
    Send,
    Stage,
    StageOn,
)
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook, build_rulebook
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.rulebook.compile import compiled
from orchestrator.runtime.replay import Replayed, replay

START_MS = 100_000
LATENESS_MS = 40
EXAMPLES = settings(max_examples=150, deadline=None)


class Plain:
    """A template without variables."""

    name = "plain"

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {}


def send(kind: str = "sms") -> tuple[Send, ...]:
    return (Send("1", kind, kind, Plain()),)


def book(rules: Sequence[Rule], aggregates: Sequence[Aggregate] = (), **journey: Any) -> Rulebook:
    stages = journey.pop("stages", (Stage("only", 0, StageOn("nothing")),))
    return build_rulebook(
        version="v",
        journeys=[Journey("j", "J", stages, rules=tuple(rules), **journey)],
        aggregates=aggregates,
        conditions=compiled,
    )


@st.composite
def logs(draw: st.DrawFn, *types: str, late_max: int = 60, size: int = 25) -> list[Arrival]:
    """Arrivals in log order: with gaps, late, dated ahead, of one moment, and twice."""
    stamp_ms = START_MS
    log: list[Arrival] = []
    for number in range(draw(st.integers(1, size))):
        stamp_ms += draw(st.sampled_from([0, 1, 3, 10, 25, 70]))
        if log and draw(st.integers(0, 9)) == 0:
            again = draw(st.sampled_from(log))
            log.append(Arrival(again.id, again.type, stamp_ms, again.occurred_at_ms, again.amount))
            continue
        late_ms = draw(st.sampled_from([0, 0, 0, 1, 5, 20, 40, 41, 60, -5])) if late_max else 0
        amount = draw(st.sampled_from([1, 2, 0.5, 7]))
        log.append(Arrival(f"e{number}", draw(st.sampled_from(types)), stamp_ms, stamp_ms - late_ms, amount))
    return log


def events(log: Sequence[Arrival], sent: Sequence[str] = ()) -> list[Event]:
    return [_event(one, sent) for one in log]


def _event(one: Arrival, sent: Sequence[str]) -> Event:
    properties: dict[str, Any] = {"amount": one.amount}
    event_type = one.type
    if event_type.startswith("failed:"):
        number = int(event_type.partition(":")[2])
        event_type, properties = "action_failed", {"action_id": sent[number] if number < len(sent) else "unknown"}
    return Event(
        id=one.id,
        type=event_type,
        customer_id="c",
        occurred_at_ms=one.occurred_at_ms,
        received_at_ms=one.stamp_ms,
        properties=properties,
    )


def engine(rulebook: Rulebook, log: Sequence[Event], cuts: Sequence[int], until_ms: int) -> Replayed:
    """Run the engine over the log, stored and loaded again at every cut; check that the cuts change nothing."""
    whole = replay(rulebook, log, until_ms=until_ms)
    assert not whole.failures
    edges = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    states: dict[str, CustomerState] = {}
    actions: list[Action] = []
    records: list[Any] = []
    for start, end in pairwise(edges):
        part = replay(rulebook, log[start:end], until_ms=until_ms if end == len(log) else None, states=states)
        states = {customer: decode_state(encode_state(state)) for customer, state in part.states.items()}
        actions += part.actions
        records += part.records
    assert (actions, records) == (whole.actions, whole.records)
    assert states == {customer: decode_state(encode_state(state)) for customer, state in whole.states.items()}
    return whole


CUTS = st.one_of(st.just(tuple(range(30))), st.lists(st.integers(1, 25), max_size=5).map(tuple))

# -------------------------------------------------------------------------------------------- conditions

COUNTED = {
    f"count {op} {value} within {within_ms}": (Op(op), value, within_ms)
    for op in COMPARE
    for value in (0, 1, 3)
    for within_ms in (10, 100)
}
SUMMED = {
    f"sum {op} {value} within {within_ms}": (Op(op), value, within_ms)
    for op in ("gte", "lt", "eq")
    for value in (2, 5)
    for within_ms in (30, 60, 240)
}
SINCE = {
    f"{end.value} {op} {value} {never}": (end, Op(op), value, never)
    for end in SinceEnd
    for op in ("gte", "lt", "eq")
    for value in (0, 20)
    for never in (None, True, False)
}


def probed() -> tuple[Rulebook, dict[str, Condition]]:
    """A rulebook with one rule for every condition, all on the event ``probe``, about the event ``a``."""
    amount = Path(Root.EVENT, ("amount",))
    aggregates = {"stamps": Aggregate("stamps", AggregateKind.STAMPS, "a")}
    conditions: dict[str, Condition] = {"first": FirstEver("stamps", "a"), "not first": Not(FirstEver("stamps", "a"))}
    for name, (op, value, within_ms) in COUNTED.items():
        key = f"count{value}-{within_ms}"
        aggregates[key] = Aggregate(key, AggregateKind.COUNT, "a", within_ms=within_ms, size=value + 1)
        conditions[name] = CountOf(key, "a", within_ms, op, value)
    for name, (op, value, within_ms) in SUMMED.items():
        key = f"sum-{within_ms}"
        aggregates[key] = Aggregate(key, AggregateKind.SUM, "a", within_ms=within_ms, path=amount)
        conditions[name] = SumOf(key, "a", amount, within_ms, op, value)
    for name, (end, op, value, never) in SINCE.items():
        conditions[name] = Since("stamps", "a", end, op, value, never)
    rules = [
        Rule(name, "j", OnEvent("probe"), send(), when=condition, lateness_ms=LATENESS_MS, anytime=True)
        for name, condition in conditions.items()
    ]
    return book(rules, list(aggregates.values())), conditions


PROBED, CONDITIONS = probed()


def expected_conditions(history: History) -> set[str]:
    holds = {"first"} if history.first("a") else set()
    if len(history.times("a")) > 1:
        holds.add("not first")
    for name, (op, value, within_ms) in COUNTED.items():
        if COMPARE[op.value](history.count("a", within_ms), value):
            holds.add(name)
    for name, (op, value, within_ms) in SUMMED.items():
        if COMPARE[op.value](history.sum("a", within_ms), value):
            holds.add(name)
    for name, (end, op, value, never) in SINCE.items():
        span = history.since_last("a") if end is SinceEnd.LAST else history.since_first("a")
        if never is True if span is None else COMPARE[op.value](span, value):
            holds.add(name)
    return holds


@EXAMPLES
@given(logs("a", "b", "probe"), CUTS)
def test_conditions_read_the_whole_history_as_of_the_newest_event(log: list[Arrival], cuts: Sequence[int]) -> None:
    done = engine(PROBED, events(log), cuts, log[-1].stamp_ms)
    known = distinct(log)
    expected: dict[str, set[str]] = {}
    for number, one in enumerate(known):
        if one.type == "probe" and one.late_ms <= LATENESS_MS:
            expected[one.id] = expected_conditions(History(known[: number + 1]))
    fired: dict[str, set[str]] = {cause: set() for cause in expected}
    for record in done.records:
        if record.outcome.value == "sent":
            fired[record.cause].add(record.rule)
    assert fired == expected


# --------------------------------------------------------------------------------------------- absences


def watching(rearm: Rearm, for_ms: int, *, of: str = "b") -> Rulebook:
    trigger = OnAbsence("watched", "a", of, for_ms, rearm)
    return book([Rule("r", "j", trigger, send(), lateness_ms=LATENESS_MS, anytime=True)])


def absence_effects(done: Replayed, log: Sequence[Arrival]) -> list[tuple[int, str]]:
    return [(one.decided_at, "withdraw" if one.cancel else "fire") for one in done.actions]


@EXAMPLES
@given(logs("a", "b"), CUTS, st.sampled_from([5, 30, 100]))
def test_the_latest_a_without_a_b_fires_once_and_a_late_b_takes_it_back(
    log: list[Arrival], cuts: Sequence[int], for_ms: int
) -> None:
    until_ms = log[-1].stamp_ms + 1_000
    done = engine(watching(Rearm.LATEST, for_ms), events(log), cuts, until_ms)
    expected = absences_latest(distinct(log), "a", "b", for_ms, LATENESS_MS, until_ms)
    assert absence_effects(done, log) == [(one.at_ms, one.what) for one in expected]


@EXAMPLES
@given(logs("a", "b", late_max=0), CUTS, st.sampled_from([5, 30, 100]))
def test_the_first_a_without_a_b_fires_once_for_all_that_follow_it(
    log: list[Arrival], cuts: Sequence[int], for_ms: int
) -> None:
    until_ms = log[-1].stamp_ms + 1_000
    done = engine(watching(Rearm.FIRST, for_ms), events(log), cuts, until_ms)
    expected = absences_first(distinct(log), "a", "b", for_ms, until_ms)
    assert [one for one in absence_effects(done, log) if one[1] == "fire"] == [
        (one.at_ms, one.what) for one in expected
    ]


@EXAMPLES
@given(logs("a", "b"), st.randoms(use_true_random=False))
def test_order_of_arrival_within_the_span_does_not_matter_to_the_latest(log: list[Arrival], chance: Any) -> None:
    """However the same happenings arrive before anything is due, the same absence fires at the same moment."""
    for_ms = 5_000
    happened = [one for one in distinct(log) if one.late_ms <= LATENESS_MS]
    last_ms = max((one.stamp_ms for one in happened), default=START_MS) + LATENESS_MS
    in_time = [Arrival(one.id, one.type, max(one.at_ms, last_ms), one.at_ms) for one in happened]
    rulebook = book([Rule("r", "j", OnAbsence("w", "a", "b", for_ms), send(), lateness_ms=10_000, anytime=True)])
    outcomes = []
    for _ in range(3):
        chance.shuffle(in_time)
        done = replay(rulebook, events(in_time), until_ms=last_ms + 2 * for_ms)
        outcomes.append([one.decided_at for one in done.actions])
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0]) <= 1


@pytest.mark.parametrize("rearm", Rearm)
def test_an_event_is_not_its_own_absence(rearm: Rearm) -> None:
    """After an A, and then no other A: the rule of everyone who stays away."""
    log = [Arrival("e1", "a", START_MS, START_MS), Arrival("e2", "a", START_MS + 20, START_MS + 20)]
    done = engine(watching(rearm, 30, of="a"), events(log), (1,), START_MS + 200)
    assert absence_effects(done, log) == [(START_MS + 50, "fire")]


# ----------------------------------------------------------------------------------------------- stages

WALKED = (
    OracleStage("s0", event="a"),
    OracleStage("s1", event="b"),
    OracleStage("s2", dwell_ms=45),
    OracleStage("s3", event="c", final=True),
    OracleStage("s4", dwell_ms=90),
)


def walking(reentry_ms: int | None) -> Rulebook:
    stages = tuple(
        Stage(one.name, place, StageOn(one.event, dwell_ms=one.dwell_ms), final=one.final)
        for place, one in enumerate(WALKED)
    )
    rules = [Rule(f"enter-{one.name}", "j", OnEnter(one.name), send(), lateness_ms=10**9) for one in WALKED]
    return book(rules, stages=stages, reentry_after_ms=reentry_ms)


@EXAMPLES
@given(logs("a", "b", "c"), CUTS, st.sampled_from([None, 0, 30]))
def test_a_run_only_moves_forward_stands_still_and_starts_anew(
    log: list[Arrival], cuts: Sequence[int], reentry_ms: int | None
) -> None:
    until_ms = log[-1].stamp_ms + 60
    done = engine(walking(reentry_ms), events(log), cuts, until_ms)
    run, entries = stages_walked(distinct(log), WALKED, reentry_ms, until_ms)
    sent = [one for one in done.records if one.outcome.value == "sent"]
    assert [(one.at, one.rule) for one in sent] == [(one.at_ms, f"enter-{one.what}") for one in entries]
    kept = done.states["c"].runs.get("j/")
    assert (kept is None) == (run is None)
    if kept is not None and run is not None:
        assert (kept.stage, kept.started_at, kept.entered_at) == (
            WALKED[run.place].name,
            run.started_ms,
            run.entered_ms,
        )
        assert bool(kept.ended_at) == run.ended


@EXAMPLES
@given(logs("a", "c", "probe"), CUTS, st.sampled_from([None, 0, 30]), st.sampled_from(["probe", "a", "c"]))
def test_a_rule_acts_while_its_run_is_open_and_the_end_takes_back_what_it_sent(
    log: list[Arrival], cuts: Sequence[int], reentry_ms: int | None, trigger: str
) -> None:
    until_ms = log[-1].stamp_ms + 60
    stages = walking(reentry_ms).journeys["j"].stages
    rule = Rule("r", "j", OnEvent(trigger), send(), lateness_ms=LATENESS_MS)
    done = engine(book([rule], stages=stages, reentry_after_ms=reentry_ms), events(log), cuts, until_ms)
    expected = sends_in_run(distinct(log), WALKED, reentry_ms, trigger, LATENESS_MS, until_ms)
    sent = [(one.decided_at, "withdraw" if one.cancel else "fire") for one in done.actions]
    assert sorted(sent) == sorted((one.at_ms, one.what) for one in expected)


# ----------------------------------------------------------------------------------------------- limits

LIMITED = (
    OracleRule("rests", "sms", LATENESS_MS, cooldown_ms=30),
    OracleRule("capped", "sms", LATENESS_MS, caps=(("rule", 2, 60),)),
    OracleRule("shares", "push", LATENESS_MS, caps=(("sms", 4, 100), ("push", 3, 50))),
    OracleRule("both", "push", LATENESS_MS, cooldown_ms=10, caps=(("push", 3, 50), ("rule", 4, 200))),
)


def limiting() -> Rulebook:
    return book(
        [
            Rule(
                one.id,
                "j",
                OnEvent("probe"),
                send(one.kind),
                lateness_ms=LATENESS_MS,
                limits=Limits(cooldown_ms=one.cooldown_ms, caps=tuple(_cap(one.id, *cap) for cap in one.caps)),
                anytime=True,
            )
            for one in LIMITED
        ]
    )


def _cap(rule: str, of: str, most: int, per_ms: int) -> Cap:
    scope = "rule" if of == "rule" else f"kind:{of}"
    return Cap(f"{scope}:{rule}/{per_ms}" if of == "rule" else f"{scope}/{per_ms}", most, scope, per_ms)


@EXAMPLES
@given(logs("probe", "probe", "failed:0", "failed:1", "failed:3", "failed:6"), CUTS)
def test_cooldowns_and_caps_count_what_was_sent_and_did_not_fail(log: list[Arrival], cuts: Sequence[int]) -> None:
    expected = sends(distinct(log), "probe", LIMITED)
    ids = [action_id("default", "c", "j/", one.rule.id, "1", one.cause) for one in expected]
    known: list[Event] = []
    for number, one in enumerate(log):
        # A receipt names an action that has been sent by then; what the oracle sends later is not known yet.
        so_far = len(sends(distinct(log[:number]), "probe", LIMITED))
        known += events([one], ids[:so_far])
    done = engine(limiting(), known, cuts, log[-1].stamp_ms)
    assert [(one.decided_at, one.rule, one.id) for one in done.actions] == [
        (one.at_ms, one.rule.id, name) for one, name in zip(expected, ids, strict=True)
    ]
