"""The rate limit and the circuit breaker of a connector."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runtime.dispatch.breaker import Breaker
from orchestrator.runtime.dispatch.rate import Bucket, Rate
from orchestrator.runtime.ports import Quota

NOW = 1_772_000_000_000


def rate_of(rate_max: int, per_s: float) -> Rate:
    rate = Rate.of(Quota(slots=1, rate_max=rate_max, rate_per_s=per_s))
    assert rate is not None
    return rate


def taken_at(rate: Rate, bucket: Bucket, count: int, start_ms: int = NOW) -> list[int]:
    """When ``count`` takes happen that are each made as soon as they may be."""
    moments, now_ms = [], start_ms
    while len(moments) < count:
        now_ms = bucket.next_at_ms(rate, now_ms)
        assert bucket.room(rate, now_ms) >= 1
        bucket.take(rate, now_ms)
        moments.append(now_ms)
    return moments


def most_in_a_window(moments: list[int], span_ms: float) -> int:
    return max(bisect_left(moments, moment + span_ms - 1) - index for index, moment in enumerate(moments))


@pytest.mark.parametrize(("rate_max", "per_s"), [(1, 1.0), (3, 1.0), (20, 1.0), (100, 3600.0), (7, 0.5), (1000, 60.0)])
def test_no_window_sees_more_than_the_limit(rate_max: int, per_s: float) -> None:
    rate = rate_of(rate_max, per_s)
    bucket = Bucket.fresh(rate, NOW)
    first = taken_at(rate, bucket, rate_max)
    rested = taken_at(rate, bucket, 3 * rate_max, first[-1] + round(5_000 * per_s))

    assert most_in_a_window(first + rested, per_s * 1000) <= rate_max


def test_the_steady_flow_comes_near_the_limit() -> None:
    rate = rate_of(100, 1.0)
    moments = taken_at(rate, Bucket.fresh(rate, NOW), 1_000)

    assert 89 <= len(moments) / ((moments[-1] - moments[0]) / 1000) <= 100


def test_a_rest_earns_a_tenth_of_the_limit_at_once_and_no_more() -> None:
    rate = rate_of(100, 3600)
    bucket = Bucket.fresh(rate, NOW)
    bucket.take(rate, NOW)
    assert bucket.room(rate, NOW + 10 * 3_600_000) == 10


def test_a_queue_that_is_new_has_room_for_one() -> None:
    rate = rate_of(100, 3600)
    bucket = Bucket.fresh(rate, NOW)
    assert bucket.room(rate, NOW) == 1
    bucket.take(rate, NOW)
    assert bucket.room(rate, NOW) == 0
    assert bucket.next_at_ms(rate, NOW) == NOW + 39_561  # An hour in 91 parts.


def test_a_clock_that_is_set_back_only_slows_it_down() -> None:
    rate = rate_of(10, 1)
    bucket = Bucket.fresh(rate, NOW)
    bucket.take(rate, NOW)
    assert bucket.room(rate, NOW - 3_600_000) == 0
    assert bucket.room(rate, NOW + 1_000) >= 1


def test_a_token_that_is_given_back_can_be_taken_again() -> None:
    rate = rate_of(100, 3600)
    bucket = Bucket.fresh(rate, NOW)
    stamp_us = bucket.take(rate, NOW)
    bucket.give_back(stamp_us)
    assert bucket.room(rate, NOW) == 1


def test_a_token_is_given_back_only_as_far_as_the_flow_has_not_made_up_for_it() -> None:
    rate = rate_of(1, 60)
    bucket = Bucket.fresh(rate, NOW)
    unspent_us = bucket.take(rate, NOW)
    bucket.take(rate, NOW + 60_000)
    bucket.give_back(unspent_us)
    assert bucket.next_at_ms(rate, NOW + 60_000) == NOW + 120_000


@given(
    limit=st.sampled_from([(1, 1.0), (3, 1.0), (20, 1.0), (45, 0.5)]),
    steps=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 4), st.sampled_from([None, 0, 1, 5])), max_size=120),
)
def test_whatever_is_given_back_no_window_sees_more_than_the_limit(
    limit: tuple[int, float], steps: list[tuple[int, int, int | None]]
) -> None:
    """Each step rests, takes as many as it wants and may, and gives one of the outstanding tokens back."""
    rate = rate_of(*limit)
    bucket, now_ms = Bucket.fresh(rate, NOW), NOW
    kept: list[tuple[int, int]] = []  # moment and stamp of each
    for rest_ms, wanted, given_back in steps:
        now_ms += rest_ms
        kept += [(now_ms, bucket.take(rate, now_ms)) for _ in range(min(wanted, bucket.room(rate, now_ms)))]
        if given_back is not None and given_back < len(kept):
            _, stamp_us = kept.pop(-1 - given_back)
            bucket.give_back(stamp_us)

    moments = [moment for moment, _ in kept]
    assert not moments or most_in_a_window(moments, limit[1] * 1000) <= limit[0]


def test_a_queue_without_a_rate_has_no_bucket() -> None:
    assert Rate.of(Quota(slots=1)) is None


# The columns: seconds, what happens, how many may begin afterwards (None: any number).
BREAKER = [
    (0, "failed", None),
    (1, "failed", None),
    (2, "answered", None),
    (3, "failed", None),
    (4, "failed", None),
    (5, "failed", 0),
    (6, "failed", 0),  # An older call that comes back late tells nothing new.
    (14.9, "-", 0),
    (15, "-", 1),
    (15, "begin", 0),
    (16, "failed", 0),
    (25.9, "-", 0),
    (26, "-", 1),
    (26, "begin", 0),
    (27, "answered", None),
    (28, "failed", None),
]


def test_the_breaker_follows_its_table() -> None:
    breaker = Breaker(after=3, open_ms=10_000)
    seen = []
    for at_s, happens, _ in BREAKER:
        now_ms = NOW + round(at_s * 1000)
        if happens == "begin":
            breaker.begin()
        elif happens != "-":
            breaker.note(answered=happens == "answered", now_ms=now_ms)
        seen.append((at_s, happens, breaker.room(now_ms)))

    assert seen == BREAKER


def test_an_older_call_that_succeeds_closes_the_breaker() -> None:
    breaker = Breaker(after=1, open_ms=10_000)
    breaker.note(answered=False, now_ms=NOW)
    assert (breaker.room(NOW), breaker.next_at_ms(NOW)) == (0, NOW + 10_000)

    breaker.note(answered=True, now_ms=NOW + 1)
    assert (breaker.room(NOW + 1), breaker.next_at_ms(NOW + 1)) == (None, NOW + 1)


def test_a_send_that_begins_and_fails_while_the_breaker_is_open_does_not_keep_it_open() -> None:
    """It was claimed when the breaker was still closed."""
    breaker = Breaker(after=1, open_ms=10_000)
    breaker.note(answered=False, now_ms=NOW)
    breaker.begin()
    breaker.note(answered=False, now_ms=NOW + 1)
    assert (breaker.room(NOW + 9_999), breaker.room(NOW + 10_000)) == (0, 1)


def test_a_probe_that_fails_after_the_clock_was_set_back_does_not_keep_the_breaker_open() -> None:
    breaker = Breaker(after=1, open_ms=10_000)
    breaker.note(answered=False, now_ms=NOW)
    assert breaker.room(NOW + 10_000) == 1
    breaker.begin()
    breaker.note(answered=False, now_ms=NOW + 9_900)
    assert breaker.room(NOW + 10_000) == 1
