"""Python's collector of cycles, told how a long-running role uses memory.

A role makes thousands of objects for every batch, which live for as long as the batch and contain no cycles. With the
collector's usual thresholds, looking through them again and again takes much of a worker's time and finds nothing.
"""

from __future__ import annotations

import gc

#: New objects after which the young are looked through; at some 100 bytes each, cycles keep a few megabytes at most.
YOUNG_MAX = 50_000
#: Collections of the young after which the middle, and of the middle after which the old are looked through.
MIDDLE_EVERY, OLD_EVERY = 20, 50


def spare_collector() -> None:
    """Take what is loaded so far out of collections for good, and collect more rarely. For the start of a process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, MIDDLE_EVERY, OLD_EVERY)
