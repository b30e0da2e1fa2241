"""What harness B expects of a log: which winbacks a late order excuses, and which words came back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from load_tests.faults.expectation import Expectation, expectation

CUSTOMER = "c-1"


@dataclass(frozen=True)
class Logged:
    """A record of the log."""

    timestamp: int
    value: bytes


def event(event_type: str, at_ms: int, *, stamp_ms: int | None = None, **properties: Any) -> Logged:
    told = {"id": f"{event_type}-{at_ms}", "type": event_type, "customer_id": CUSTOMER, "occurred_at": at_ms}
    return Logged(stamp_ms or at_ms, json.dumps(told | {"properties": properties}).encode())


def winbacks(*records: Logged) -> Expectation:
    found = expectation(sorted(records, key=lambda one: one.timestamp), "watch", 60_000)
    assert set(found.due.values()) <= {"winback"}
    return found


def test_a_late_order_excuses_the_winback_whose_span_it_lies_in_and_no_other() -> None:
    first = winbacks(event("cart_updated", 10_000))
    found = winbacks(
        event("cart_updated", 10_000),
        event("cart_updated", 20_000),
        event("cart_updated", 30_000),
        event("order_completed", 11_000, stamp_ms=40_000),
    )
    assert len(found.due) == 3
    assert found.withdrawn == first.due.keys()


def test_an_order_after_the_span_excuses_nothing() -> None:
    found = winbacks(event("cart_updated", 10_000), event("order_completed", 14_000))
    assert len(found.due) == 1
    assert not found.withdrawn


def test_an_order_in_time_prevents_the_winback() -> None:
    assert not winbacks(event("cart_updated", 10_000), event("order_completed", 11_000)).due


def test_every_word_about_an_action_is_kept_and_one_that_is_written_again_counts_once() -> None:
    words = [
        event("action_delivered", 1_000, action_id="a", detail="taken"),
        event("action_delivered", 1_000, action_id="a", detail="taken"),
        event("action_expired", 2_000, action_id="a", detail="deadline_passed"),
    ]
    found = expectation(words, "watch", 0)
    assert found.receipts == {"a": {"action_delivered": "taken", "action_expired": "deadline_passed"}}


@pytest.mark.parametrize(
    ("certain", "doubtful"), [({}, set()), ({"certain": True}, set()), ({"certain": False}, {"a"})]
)
def test_a_word_that_is_not_certain_is_told_apart(certain: dict[str, bool], doubtful: set[str]) -> None:
    assert expectation([event("action_failed", 1_000, action_id="a", **certain)], "watch", 0).doubtful == doubtful


def test_what_the_log_holds_of_producers_is_kept_whole() -> None:
    found = expectation([event("identify", 1_000, number=7), event("identify", 1_000, number=7)], "watch", 0)
    assert [one["properties"] for one in found.logged] == [{"number": 7}, {"number": 7}]
    assert found.duplicates == 1
