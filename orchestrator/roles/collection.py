"""Python's collector of cycles and the C allocator, told how a long-running role uses memory.

A role makes thousands of objects for every batch, which live for as long as the batch and contain no cycles. With the
collector's usual thresholds, looking through them again and again takes much of a worker's time and finds nothing. But
errors do leave cycles, an outage of Kafka thousands, and what lies free between what lives is not given back unasked:
a role would keep what its worst moment took. So both are asked once a minute.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from collections.abc import Callable

#: New objects after which the young are looked through; at some 100 bytes each, cycles keep a few megabytes at most.
YOUNG_MAX = 50_000
#: At most this share of the time goes into collections of everything: a worker's states are many, a gateway has few.
_WHOLE_SHARE = 0.001
#: Collections of the young after which the middle, and of the middle after which the old are looked through.
MIDDLE_EVERY, OLD_EVERY = 20, 50


def spare_collector() -> None:
    """Take what is loaded so far out of collections for good, and collect more rarely. For the start of a process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, MIDDLE_EVERY, OLD_EVERY)


async def keep_tidy(every_s: float = 60.0) -> None:
    """Free cycles and give free memory back to the system, for ever.

    What an outage leaves, two hundred connections and their buffers, has grown old by then, so it takes a collection of
    everything to find it.
    """
    give_back = _malloc_trim()
    whole_at_s = 0.0
    while True:
        await asyncio.sleep(every_s)
        began_s = time.monotonic()
        if began_s < whole_at_s:
            gc.collect(1)
        else:
            gc.collect()
            whole_at_s = began_s + (time.monotonic() - began_s) / _WHOLE_SHARE
        give_back(0)


def _malloc_trim() -> Callable[[int], object]:
    """Return glibc's function, which gives back whole pages that are free anywhere; elsewhere one that does nothing."""
    found: Callable[[int], object] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found or (lambda _: 0)
