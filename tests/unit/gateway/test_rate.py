"""The token bucket, on a clock of its own."""

from __future__ import annotations

from orchestrator.gateway.rate import Rate, TokenBucket


class Time:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    time = Time()
    bucket = TokenBucket(Rate(per_s=2, burst=4), time)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take() == 0.5
    time.now_s = 0.5
    assert bucket.take() == 0
    time.now_s = 60
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_what_is_refused_takes_nothing() -> None:
    bucket = TokenBucket(Rate(per_s=1, burst=4), Time())
    assert bucket.take(3) == 0
    assert bucket.take(2) == 1
    assert bucket.wait_s() == 0
    assert bucket.take(1) == 0


def test_a_request_larger_than_the_bucket_is_let_in_when_it_is_full_and_paid_off_afterwards() -> None:
    time = Time()
    bucket = TokenBucket(Rate(per_s=1, burst=4), time)
    assert bucket.take(10) == 0
    assert bucket.take(1) == 7
    assert bucket.take(10) == 10
    time.now_s = 10
    assert bucket.take(10) == 0
