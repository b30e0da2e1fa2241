"""The wall clock: the one module that may ask the machine what time it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: A wall clock that leaves the elapsed time by more than this has been stepped, by hand or by a daemon; a daemon that
#: slews it slews both. Less than the grace that a partition's clock keeps behind the present.
STEP_MS = 50
#: How long a stepped wall clock must stay away before it is believed.
BELIEVED_AFTER_MS = 300_000
#: The two clocks are read one after the other: a reading that takes longer than this is taken again, so often at most.
_READING_MS = STEP_MS // 5
_READINGS_MAX = 3


class SteadyTime:
    """The time of day of a machine whose wall clock may be stepped, and which may be paused at any moment.

    Follows ``wall_ms``, slewing and all, as long as that goes with ``elapsed_ms``, which only ever counts. A wall that
    leaves it is followed once it has been away, on one side, for five minutes of elapsed time, and then as far as it
    has been away all that time. So

    - what is mended sooner fires no timer early and ends no lease, and time is never ahead of what the wall has said
      for five minutes on end;
    - a step is followed at the first look five minutes after the first one that saw it. Pauses in between, whether the
      elapsed time counts them or not, do not begin the waiting anew: a wall that is set right after each of them is
      followed up to the least that it was away, at once, and wholly five minutes after its last step at the first
      such look, ten at the latest;
    - a pause between the reading of the one clock and of the other is no step: such a reading is taken again, and left
      out when none is quick.

    A clock that is wrong from the start cannot be told from a right one.
    """

    def __init__(self, wall_ms: Callable[[], int], elapsed_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._elapsed_ms = elapsed_ms
        _, offset_ms = self._read()
        self._offset_ms = wall_ms() - elapsed_ms() if offset_ms is None else offset_ms
        #: Since when, in elapsed time, the wall is away on one side, its nearest offset since then, and its last.
        self._away: tuple[int, int, int] | None = None

    def now_ms(self) -> int:
        """Return the present as epoch milliseconds, UTC. Going back is possible: five minutes after the wall did."""
        elapsed_ms, offset_ms = self._read()
        if offset_ms is not None:
            self._note(elapsed_ms, offset_ms)
        return elapsed_ms + self._offset_ms

    def _read(self) -> tuple[int, int | None]:
        """Return the elapsed time, and the wall's offset to it when both could be read at one moment."""
        before_ms = self._elapsed_ms()
        for _ in range(_READINGS_MAX):
            wall_ms, after_ms = self._wall_ms(), self._elapsed_ms()
            if after_ms - before_ms <= _READING_MS:
                return after_ms, wall_ms - after_ms
            before_ms = after_ms
        return before_ms, None

    def _note(self, elapsed_ms: int, offset_ms: int) -> None:
        if abs(offset_ms - self._offset_ms) <= STEP_MS:
            self._offset_ms, self._away = offset_ms, None
            return
        side = 1 if offset_ms > self._offset_ms else -1
        away = self._away
        if away is None or (away[1] - self._offset_ms) * side < 0:
            away = (elapsed_ms, offset_ms, self._offset_ms)
        since_ms, nearest_ms, last_ms = away
        if abs(offset_ms - last_ms) > STEP_MS:
            log.warning(
                "The wall clock was stepped by %.1f s. It is followed if it stays so for %.0f minutes.",
                (offset_ms - last_ms) / 1000,
                BELIEVED_AFTER_MS / 60_000,
            )
        nearest_ms = min(nearest_ms, offset_ms) if side > 0 else max(nearest_ms, offset_ms)
        self._away = (since_ms, nearest_ms, offset_ms)
        if elapsed_ms - since_ms >= BELIEVED_AFTER_MS:
            self._follow(nearest_ms, elapsed_ms, offset_ms)

    def _follow(self, nearest_ms: int, elapsed_ms: int, offset_ms: int) -> None:
        """Move time as far as the wall has been away; what is left has its five minutes from now on."""
        log.warning("The wall clock stayed so: time moves by %.1f s.", (nearest_ms - self._offset_ms) / 1000)
        left = abs(offset_ms - nearest_ms) > STEP_MS
        self._offset_ms, self._away = nearest_ms, (elapsed_ms, offset_ms, offset_ms) if left else None


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000  # noqa: TID251 - this is the clock adapter.


def _elapsed_ms() -> int:
    # Where there is one, the clock that goes on while the machine is suspended.
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


_steady = SteadyTime(_wall_ms, _elapsed_ms)


class SystemClock:
    """The machine's clock, as steady as ``SteadyTime``; one for the whole process."""

    def now_ms(self) -> int:
        """Return the present as epoch milliseconds, UTC."""
        return _steady.now_ms()

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller for ``seconds``."""
        await asyncio.sleep(seconds)
