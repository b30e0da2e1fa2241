"""Aggregates: what is stored after each event, and what is read from it."""

from __future__ import annotations

import pytest

from orchestrator.core.aggregate import bucket_ms, count_at, sum_at, updater
from orchestrator.core.condition import Path, Root
from orchestrator.core.definition import SUM_BUCKETS, Aggregate, AggregateKind

COUNT = Aggregate("n", AggregateKind.COUNT, "e", within_ms=100, size=3)
SUM = Aggregate("s", AggregateKind.SUM, "e", within_ms=600, path=Path(Root.EVENT, ("amount",)))
STAMPS = Aggregate("t", AggregateKind.STAMPS, "e")


def after(aggregate, *events):
    stored, update = None, updater(aggregate)
    for at_ms, value in events:
        before = stored
        kept = None if before is None else list(before)
        stored = update(stored, at_ms, {"amount": value})
        assert before == kept, "what was stored before has changed"
    return stored


@pytest.mark.parametrize(
    ("stamps", "stored"),
    [
        ([5], [5]),
        ([5, 7, 9], [5, 7, 9]),
        ([9, 5, 7], [5, 7, 9]),
        ([5, 7, 9, 11], [7, 9, 11]),
        ([7, 9, 11, 5], [7, 9, 11]),
        ([5, 5, 5, 5], [5, 5, 5]),
    ],
)
def test_a_count_keeps_the_newest_stamps_in_order_whatever_the_order_of_arrival(stamps, stored):
    assert after(COUNT, *((at_ms, None) for at_ms in stamps)) == stored


@pytest.mark.parametrize(
    ("at_ms", "within_ms", "number"),
    [(100, 100, 2), (99, 100, 3), (100, 101, 3), (110, 10, 0), (100, 1, 1), (0, 1, 3)],
)
def test_a_window_excludes_its_beginning_and_includes_its_end(at_ms, within_ms, number):
    assert count_at([0, 50, 100], at_ms, within_ms) == number


def test_nothing_counts_as_none():
    assert count_at(None, 100, 100) == 0
    assert count_at([], 100, 100) == 0
    assert sum_at(None, 100, 100) == 0


def test_a_sum_adds_per_bucket_and_forgets_what_left_the_window():
    assert bucket_ms(600) == 10
    stored = after(SUM, (0, 1), (9, 2), (10, 4), (595, 8))
    assert stored == [[0, 3], [1, 4], [59, 8]]
    assert sum_at(stored, 599, 600) == 15
    assert sum_at(stored, 600, 600) == 12
    assert sum_at(stored, 610, 600) == 8
    assert sum_at(stored, 1195, 600) == 0


def test_a_sum_of_what_is_no_number_is_nothing():
    assert after(SUM, (0, "7"), (0, None), (0, True), (0, 1.5)) == [[0, 1.5]]


def test_a_sum_never_keeps_more_buckets_than_its_window_needs():
    stored = after(SUM, *((number * 10, 1) for number in range(500)))
    assert len(stored) == SUM_BUCKETS + 1
    assert sum_at(stored, 4_999, 600) == SUM_BUCKETS


def test_a_window_shorter_than_its_buckets_still_has_some():
    assert bucket_ms(5) == 1


@pytest.mark.parametrize(
    ("stamps", "stored"),
    [([7], [7, 7, 1]), ([7, 9], [7, 9, 2]), ([9, 7], [7, 9, 2]), ([9, 7, 8], [7, 9, 3])],
)
def test_stamps_keep_first_last_and_number(stamps, stored):
    assert after(STAMPS, *((at_ms, None) for at_ms in stamps)) == stored
