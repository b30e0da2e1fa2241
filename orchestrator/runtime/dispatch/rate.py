"""The rate limit of a connector: never over it in any window, and no burst after a pause.

A generic cell rate algorithm (ITU-T I.371). A bucket of a tenth of the limit lets a few through at once; what it
allows in a burst is taken off the steady flow, so that no window of ``per_s`` seconds sees more than ``max``.
"""

from __future__ import annotations

from math import ceil


class RateLimit:
    """At most ``rate_max`` takes in any ``per_s`` seconds; moments are epoch milliseconds."""

    def __init__(self, rate_max: int, per_s: float) -> None:
        self._burst = max(1, rate_max // 10)
        # Whole microseconds, rounded up: sums of them are exact, and never a little more than the limit.
        self._interval_us = ceil(per_s * 1_000_000 / (rate_max - self._burst + 1))
        self._full_at_us: int | None = None

    def available(self, now_ms: int) -> int:
        """Return how many may be taken now."""
        missing_us = max(0, self._full_at(now_ms) - now_ms * 1000)
        return max(0, self._burst - -(-missing_us // self._interval_us))

    def take(self, now_ms: int) -> None:
        """Count one send that begins now."""
        self._full_at_us = max(self._full_at(now_ms), now_ms * 1000) + self._interval_us

    def next_at_ms(self, now_ms: int) -> int:
        """Return the first moment from ``now_ms`` on at which one may be taken."""
        next_us = self._full_at(now_ms) - (self._burst - 1) * self._interval_us
        return max(now_ms, -(-next_us // 1000))

    def _full_at(self, now_ms: int) -> int:
        # A process that has just started knows nothing of what the one before it sent: it begins with room for
        # one and earns the burst while it rests.
        if self._full_at_us is None:
            self._full_at_us = now_ms * 1000 + (self._burst - 1) * self._interval_us
        return self._full_at_us
