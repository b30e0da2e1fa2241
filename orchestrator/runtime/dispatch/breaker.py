"""The circuit breaker of a connector: a system that fails is left alone, then asked once.

state      attempt fails                          attempt answered       time
closed     open after ``after`` in a row          closed                 -
open       open (an older call, tells nothing)    closed                 half-open after ``open_ms``
half-open  open                                   closed                 -
"""

from __future__ import annotations


class Breaker:
    """Counts failures in a row; moments are epoch milliseconds."""

    def __init__(self, after: int, open_ms: int) -> None:
        self._after = after
        self._open_ms = open_ms
        self._failures = 0
        self._open_until_ms: int | None = None
        self._probing = False

    def room(self, now_ms: int) -> int | None:
        """Return how many sends may begin now: None for any number, 0 while open, 1 for the probe."""
        if self._open_until_ms is None:
            return None
        if now_ms < self._open_until_ms or self._probing:
            return 0
        return 1

    def begin(self) -> None:
        """Note that a send begins; while half-open it is the probe."""
        self._probing = self._open_until_ms is not None

    def note(self, *, answered: bool, now_ms: int) -> None:
        """Take the result of a send: ``answered`` when the other side took or refused it."""
        if answered:
            self._failures, self._open_until_ms, self._probing = 0, None, False
            return
        self._failures += 1
        # A send that was claimed before the breaker opened, and begins and fails while it is open, is no probe; and
        # the clock may have been set back since the probe began. Neither may leave it waiting for a probe's end.
        self._probing = False
        half_open = self._open_until_ms is not None and now_ms >= self._open_until_ms
        trips = self._open_until_ms is None and self._failures >= self._after
        if half_open or trips:
            self._open_until_ms = now_ms + self._open_ms

    def next_at_ms(self, now_ms: int) -> int:
        """Return when the breaker next lets something through; ``now_ms`` unless it is open."""
        return max(now_ms, self._open_until_ms or 0)
