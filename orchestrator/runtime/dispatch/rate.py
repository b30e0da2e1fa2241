"""The rate limit of a connector: never over it in any window, and no burst after a pause.

A generic cell rate algorithm (ITU-T I.371). A bucket of a tenth of the limit lets a few through at once; what it
allows in a burst is taken off the steady flow, so that no window of ``per_s`` seconds sees more than ``rate_max``. The
queue keeps the bucket, so that the limit is one for all who claim from it, and outlives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from orchestrator.runtime.ports import Quota


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit in the terms of its bucket: ``burst`` tokens, one more every ``interval_us``, windows of ``span_us``."""

    burst: int
    interval_us: int
    span_us: int

    @classmethod
    def of(cls, quota: Quota) -> Rate | None:
        """Return the rate of a quota, or None when it has no limit."""
        if quota.rate_max is None:
            return None
        burst = max(1, quota.rate_max // 10)
        span_us = ceil(quota.rate_per_s * 1_000_000)
        # Whole microseconds, rounded up: sums of them are exact, and never a little more than the limit.
        return cls(burst, -(-span_us // (quota.rate_max - burst + 1)), span_us)


@dataclass(slots=True)
class Bucket:
    """What of a rate is used up: full again at ``full_at_us``, last taken from at ``taken_at_us``.

    ``given_us`` is the sum of what was given back. Moments of callers are epoch milliseconds. A bucket is read and
    written in one atomic step of its queue.
    """

    full_at_us: int
    interval_us: int
    taken_at_us: int = 0
    given_us: int = 0

    @classmethod
    def fresh(cls, rate: Rate, now_ms: int) -> Bucket:
        """Return the bucket of a queue that does not know what came before it: one token, the burst to be earned."""
        return cls(now_ms * 1000 + (rate.burst - 1) * rate.interval_us, rate.interval_us)

    def room(self, rate: Rate, now_ms: int) -> int:
        """Return how many tokens there are now."""
        now_us = now_ms * 1000
        empty_us = rate.burst * rate.interval_us
        if self.full_at_us > now_us + empty_us + rate.span_us:
            # No bucket is this empty: the clock was set back, or the limit was another. A whole window is waited
            # for at most, then what was before no longer counts.
            self.full_at_us = now_us + empty_us
        missing_us = max(0, self.full_at_us - now_us)
        return max(0, rate.burst - -(-missing_us // rate.interval_us))

    def take(self, rate: Rate, now_ms: int) -> int:
        """Take one token; return the stamp with which it may be given back."""
        self.full_at_us = max(self.full_at_us, now_ms * 1000) + rate.interval_us
        self.interval_us, self.taken_at_us = rate.interval_us, now_ms * 1000
        return self.full_at_us + self.given_us

    def give_back(self, stamp_us: int) -> None:
        """Give a token back of which nothing became.

        Only as much of it as the flow since then has not made up for: had it never been taken, the bucket would
        have run over in the meantime, and what runs over is lost. Otherwise a window could see one too many.
        """
        left_us = stamp_us - self.given_us - self.taken_at_us
        back_us = min(max(left_us, 0), self.interval_us)
        self.full_at_us -= back_us
        self.given_us += back_us

    def next_at_ms(self, rate: Rate, now_ms: int) -> int:
        """Return the first moment from ``now_ms`` on at which there is a token."""
        next_us = self.full_at_us - (rate.burst - 1) * rate.interval_us
        return max(now_ms, -(-next_us // 1000))
