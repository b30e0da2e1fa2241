"""The judgement of harness B: what the engine confesses is no excuse, and a fault costs what it explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from load_tests.faults.expectation import Expectation, Standing
from load_tests.faults.role_logs import BROKER_AWAY, FENCED, Expected, Line, unexpected
from load_tests.faults.verdict import Bounds, Verdict, compare

DELIVERED, FAILED, EXPIRED, CANCELLED = "action_delivered", "action_failed", "action_expired", "action_cancelled"
DROPPED = {FAILED: "outcome_unknown: The dispatcher stopped while the attempt was under way."}
RECALLED = {CANCELLED: "withdrawn: An attempt whose result nobody knows came first."}


def judged(
    receipts: Mapping[str, Mapping[str, str]],
    arrived: Sequence[str],
    *,
    rule: str = "callback",
    withdrawn: Sequence[str] = (),
    repeats: Mapping[str, int] | None = None,
    published: Sequence[str] = (),
    bounds: Bounds | None = None,
) -> Verdict:
    """Return the verdict over actions of one rule, each of which has its receipts; some of them tell of their doubt."""
    expected = Expectation(
        due=dict.fromkeys(receipts, rule),
        receipts={one: dict(words) for one, words in receipts.items()},
        withdrawn=set(withdrawn),
        doubtful={one for one, words in receipts.items() if words.items() & (DROPPED | RECALLED).items()},
    )
    return compare(
        expected,
        sent={},
        acknowledged=[],
        arrivals=[{"id": one} for one in arrived],
        states={},
        repeats=repeats or {},
        published=published,
        bounds=bounds or Bounds(),
    )


def test_what_arrived_once_and_is_said_to_be_delivered_holds() -> None:
    assert judged({"a": {DELIVERED: ""}}, ["a"], published=["a"]).holds


def test_nothing_sent_and_everything_said_to_have_failed_does_not_hold() -> None:
    found = judged({f"a{number}": {FAILED: "attempts_exhausted"} for number in range(1000)}, [])
    assert not found.holds
    assert found.beyond == ["1000 actions of voice given up where at most 0 may be"]


@pytest.mark.parametrize(("rule", "held"), [("callback", True), ("help", False), ("winback", False), ("letter", False)])
def test_only_a_connector_that_is_struck_may_give_up(rule: str, held: bool) -> None:
    bounds = Bounds(failed=Counter(voice=1))
    assert judged({"a": {FAILED: "attempts_exhausted"}}, [], rule=rule, bounds=bounds).holds is held


def test_no_more_is_given_up_than_was_struck() -> None:
    bounds = Bounds(failed=Counter(voice=1))
    assert not judged({one: {FAILED: "budget_exhausted"} for one in "ab"}, [], bounds=bounds).holds


@pytest.mark.parametrize(("rule", "most", "held"), [("letter", 1, True), ("letter", 0, False), ("callback", 1, False)])
def test_only_letters_that_were_under_way_are_dropped(rule: str, most: int, held: bool) -> None:
    assert judged({"a": DROPPED}, [], rule=rule, bounds=Bounds(dropped=most)).holds is held


def test_an_action_sent_thousands_of_times_does_not_hold() -> None:
    found = judged({"a": {DELIVERED: ""}}, ["a"], repeats={"a": 5000}, published=["a"] * 5001)
    assert not found.holds
    assert found.beyond == [
        "5000 repeats by voice where at most 0 may be",
        "5000 actions published again where at most 0 may be",
    ]


def test_repeats_are_allowed_to_the_connector_that_had_something_under_way() -> None:
    bounds = Bounds(repeats=Counter(voice=2))
    assert judged({"a": {DELIVERED: ""}}, ["a"], repeats={"a": 2}, bounds=bounds).holds
    assert not judged({"a": {DELIVERED: ""}}, ["a"], repeats={"a": 3}, bounds=bounds).holds
    assert not judged({"a": {DELIVERED: ""}}, ["a"], rule="help", repeats={"a": 1}, bounds=bounds).holds
    assert judged({"a": {DELIVERED: ""}}, ["a"], repeats={"a-canary": 9}).holds


@pytest.mark.parametrize(
    ("receipts", "arrived", "withdrawn", "held"),
    [
        ({EXPIRED: ""}, True, False, False),
        ({CANCELLED: ""}, True, False, False),
        ({DELIVERED: "", EXPIRED: ""}, True, False, False),
        ({DELIVERED: "", FAILED: ""}, True, False, False),
        ({DELIVERED: ""}, False, False, False),
        ({EXPIRED: ""}, False, False, False),
        ({}, True, False, False),
        ({DELIVERED: ""}, True, True, True),
        ({CANCELLED: "withdrawn"}, False, True, True),
        ({CANCELLED: "withdrawn"}, True, True, False),
        ({DELIVERED: ""}, False, True, False),
        ({CANCELLED: "withdrawn"}, False, False, False),
        (RECALLED, True, True, True),
        (RECALLED, True, False, False),
        ({DELIVERED: "", **RECALLED}, True, True, True),
    ],
)
def test_the_last_word_is_one_and_agrees_with_what_arrived(
    receipts: dict[str, str], arrived: bool, withdrawn: bool, held: bool
) -> None:
    found = judged(
        {"a": receipts} if receipts else {"a": {}},
        ["a"] if arrived else [],
        rule="winback",
        withdrawn=["a"] if withdrawn else [],
        bounds=Bounds(repeats=Counter(sms=1)),
    )
    assert found.holds is held, found.text()


@pytest.mark.parametrize(("rule", "held"), [("help", False), ("callback", True)])
def test_what_is_told_to_have_failed_for_certain_has_not_arrived_unless_its_receiver_said_so(
    rule: str, held: bool
) -> None:
    bounds = Bounds(failed=Counter(push=1, voice=1))
    assert judged({"a": {FAILED: "attempts_exhausted"}}, ["a"], rule=rule, bounds=bounds).holds is held


def test_a_letter_may_be_dropped_after_it_was_said_to_be_delivered_and_that_is_told() -> None:
    found = judged({"a": {DELIVERED: "", **DROPPED}}, ["a"], rule="letter", bounds=Bounds(dropped=1))
    assert found.holds
    assert found.retracted == 1


def test_an_action_taken_back_after_an_unknown_attempt_counts_as_one_under_way() -> None:
    assert not judged({"a": RECALLED}, ["a"], rule="winback", withdrawn=["a"]).holds


@pytest.mark.parametrize(
    "change",
    [{"customer_id": "c-2"}, {"type": "identify"}, {"occurred_at": 8}, {"properties": {}}, {"id": "nobody-sent"}],
    ids=lambda change: next(iter(change)),
)
def test_an_event_that_the_log_holds_otherwise_than_it_was_sent_does_not_hold(change: dict[str, Any]) -> None:
    sent = {"id": "e", "customer_id": "c-1", "type": "lead_submitted", "occurred_at": 7, "properties": {"number": 1}}
    for logged, held in ((sent | {"source": "gateway"}, True), (sent | change, False)):
        found = compare(
            Expectation(logged=[logged], event_ids={logged["id"]}, standings=dict[str, Standing]()),
            sent={"e": sent},
            acknowledged=[],
            arrivals=[],
            states={},
            repeats={},
            published=[],
            bounds=Bounds(),
        )
        assert found.holds is held


def test_properties_that_are_empty_may_be_left_out() -> None:
    logged = {"id": "e", "customer_id": "c-1", "type": "page_viewed", "occurred_at": 7}
    found = compare(
        Expectation(logged=[logged], event_ids={"e"}),
        sent={"e": logged | {"properties": {}}},
        acknowledged=["e"],
        arrivals=[],
        states={},
        repeats={},
        published=[],
        bounds=Bounds(),
    )
    assert found.holds


# ---------------------------------------------------------------------------------------------- what roles say

AT = "2026-11-27 20:00:00,000"


@pytest.mark.parametrize(
    ("words", "expected", "told"),
    [
        (f"{AT} INFO    orchestrator.runtime.worker  an ERROR that is none", [], False),
        (f"{AT} WARNING orchestrator.runtime.worker  waits", [], False),
        (f"{AT} ERROR   orchestrator.runtime.worker  broken", [], True),
        (f"{AT} CRITICAL asyncio  broken", [BROKER_AWAY], True),
        ("Traceback (most recent call last):", [BROKER_AWAY], True),
        (f"{AT} ERROR   aiokafka  Unable connect to node with id 1", [], True),
        (f"{AT} ERROR   aiokafka.consumer.fetcher  Failed fetch messages", [BROKER_AWAY], False),
    ],
)
def test_an_error_that_the_fault_does_not_explain_is_told(words: str, expected: list[Expected], told: bool) -> None:
    assert bool(unexpected([Line("worker", words)], [], expected)) is told


def test_a_role_that_ended_by_itself_does_not_hold_unless_the_fault_ends_it() -> None:
    fenced = "Partition 1 was taken over: epoch 75 owns it, this write is of epoch 74."
    assert unexpected([], [("worker", "out of memory")], [FENCED]) == ["worker ended by itself: out of memory"]
    assert unexpected([], [("worker", "")], []) == ["worker ended by itself: "]
    assert unexpected([], [("worker", fenced)], []) == [f"worker ended by itself: {fenced}"]
    assert unexpected([], [("worker", fenced)], [FENCED]) == []
    assert unexpected([], [("worker", f"{AT} ERROR   aiokafka  x")], [BROKER_AWAY]) != []
