"""The rate limit and the circuit breaker of a connector."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from orchestrator.runtime.dispatch.breaker import Breaker
from orchestrator.runtime.dispatch.rate import RateLimit

NOW = 1_772_000_000_000


def taken_at(limit: RateLimit, count: int, start_ms: int = NOW) -> list[int]:
    """When ``count`` takes happen that are each made as soon as they may be."""
    moments, now_ms = [], start_ms
    while len(moments) < count:
        now_ms = limit.next_at_ms(now_ms)
        assert limit.available(now_ms) >= 1
        limit.take(now_ms)
        moments.append(now_ms)
    return moments


@pytest.mark.parametrize(("rate_max", "per_s"), [(1, 1.0), (3, 1.0), (20, 1.0), (100, 3600.0), (7, 0.5), (1000, 60.0)])
def test_no_window_sees_more_than_the_limit(rate_max: int, per_s: float) -> None:
    limit = RateLimit(rate_max, per_s)
    first = taken_at(limit, rate_max)
    rested = taken_at(limit, 3 * rate_max, first[-1] + round(5_000 * per_s))

    moments = first + rested
    for index, moment in enumerate(moments):
        assert bisect_left(moments, moment + per_s * 1000 - 1) - index <= rate_max


def test_the_steady_flow_comes_near_the_limit() -> None:
    moments = taken_at(RateLimit(100, 1.0), 1_000)

    assert 89 <= len(moments) / ((moments[-1] - moments[0]) / 1000) <= 100


def test_a_rest_earns_a_tenth_of_the_limit_at_once_and_no_more() -> None:
    limit = RateLimit(100, 3600)
    limit.take(NOW)
    assert limit.available(NOW + 10 * 3_600_000) == 10


def test_a_process_that_starts_has_room_for_one() -> None:
    limit = RateLimit(100, 3600)
    assert limit.available(NOW) == 1
    limit.take(NOW)
    assert limit.available(NOW) == 0
    assert limit.next_at_ms(NOW) == NOW + 39_561  # An hour in 91 parts.


def test_a_clock_that_is_set_back_only_slows_it_down() -> None:
    limit = RateLimit(10, 1)
    limit.take(NOW)
    assert limit.available(NOW - 3_600_000) == 0
    assert limit.available(NOW + 1_000) == 1


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
