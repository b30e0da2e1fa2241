"""Rates: how many events a key may send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_s`` events a second on average, ``burst`` at once."""

    per_s: float
    burst: float


class TokenBucket:
    """A bucket of ``burst`` tokens that fills at ``per_s``; each gateway process has its own.

    A request larger than the bucket is let in when the bucket is full, and is paid off before the next one: refusing it
    would refuse it for ever.
    """

    def __init__(self, rate: Rate, now_s: Callable[[], float] = monotonic) -> None:
        self.rate = rate
        self._now_s = now_s
        self._tokens = rate.burst
        self._at_s = now_s()

    def wait_s(self, number: int = 1) -> float:
        """Return how long it takes until ``number`` tokens can be taken; 0 when they can be now. Takes none."""
        now_s = self._now_s()
        self._tokens = min(self.rate.burst, self._tokens + (now_s - self._at_s) * self.rate.per_s)
        self._at_s = now_s
        return max(0.0, (min(number, self.rate.burst) - self._tokens) / self.rate.per_s)

    def take(self, number: int = 1) -> float:
        """Take ``number`` tokens and return 0, or take none and return how long to wait."""
        wait_s = self.wait_s(number)
        if wait_s == 0:
            self._tokens -= number
        return wait_s
