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
#: How long a stepped wall clock must go on as it is before it is believed.
BELIEVED_AFTER_MS = 300_000


class SteadyTime:
    """The time of day of a machine whose wall clock may be stepped.

    Follows ``wall_ms``, slewing and all, as long as that goes with ``elapsed_ms``, which only ever counts. A step is
    not followed until the wall has stood by it for five minutes: what is mended sooner fires no timer early
    and ends no lease. A clock that is wrong from the start cannot be told from a right one.
    """

    def __init__(self, wall_ms: Callable[[], int], elapsed_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._elapsed_ms = elapsed_ms
        self._offset_ms = wall_ms() - elapsed_ms()
        #: Since when, in elapsed time, the wall has stood at another offset, and which.
        self._stepped: tuple[int, int] | None = None

    def now_ms(self) -> int:
        """Return the present as epoch milliseconds, UTC."""
        elapsed_ms = self._elapsed_ms()
        offset_ms = self._wall_ms() - elapsed_ms
        if abs(offset_ms - self._offset_ms) <= STEP_MS:
            self._offset_ms, self._stepped = offset_ms, None
        elif self._stepped is None or abs(offset_ms - self._stepped[1]) > STEP_MS:
            self._stepped = (elapsed_ms, offset_ms)
            log.warning(
                "The wall clock was stepped by %.1f s. It is followed if it stays so for %.0f minutes.",
                (offset_ms - self._offset_ms) / 1000,
                BELIEVED_AFTER_MS / 60_000,
            )
        elif elapsed_ms - self._stepped[0] >= BELIEVED_AFTER_MS:
            self._offset_ms, self._stepped = offset_ms, None
        return elapsed_ms + self._offset_ms


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
