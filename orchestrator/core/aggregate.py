"""Aggregates: counts, sums and stamps of events per customer, in bounded space, in event time.

A reading is *as of* the customer's frontier, the newest event time seen, so it does not depend on the order
in which events arrived. Nothing here changes a stored list in place: an update answers with a new one.

====== =========================================================== ==============================
kind   stored                                                      reading at ``at``
====== =========================================================== ==============================
count  the newest ``size`` stamps, ascending                       how many lie in (at - within, at]
sum    pairs (bucket, sum), ascending, at most SUM_BUCKETS + 1     total of the newest SUM_BUCKETS
stamps first stamp, last stamp, number                             since first, since last, first
====== =========================================================== ==============================
"""

from __future__ import annotations

import sys
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from orchestrator.core.compare import is_number
from orchestrator.core.definition import SUM_BUCKETS, Aggregate, AggregateKind
from orchestrator.core.view import Properties, dig

#: Takes what is stored, the event time and the event's properties.
Update = Callable[[Sequence[Any] | None, int, Properties], list[Any]]


def updater(aggregate: Aggregate) -> Update:
    """Return the function that gives the stored form after one more event, from the one before or None."""
    match aggregate.kind:
        case AggregateKind.COUNT:
            return _count(aggregate.size)
        case AggregateKind.SUM:
            return _sum(bucket_ms(aggregate.within_ms), aggregate.path.parts if aggregate.path else ())
        case AggregateKind.STAMPS:
            return _stamp
        case _:
            assert_never(aggregate.kind)


def bucket_ms(within_ms: int) -> int:
    """Return the width of a sum's bucket: the window's sixtieth part, at least a millisecond."""
    return max(1, within_ms // SUM_BUCKETS)


def _count(size: int) -> Update:
    older = 1 - size if size > 1 else sys.maxsize  # where those begin that stay beside the newest

    def update(stored: Sequence[Any] | None, at_ms: int, _: Properties) -> list[Any]:
        if not stored:
            return [at_ms]
        if at_ms >= stored[-1]:
            # Events mostly come in order, and most rings are full.
            return [*stored[older:], at_ms]
        grown = list(stored)
        insort(grown, at_ms)
        return grown[-size:]

    return update


def _sum(width_ms: int, path: tuple[str, ...]) -> Update:
    def update(stored: Sequence[Any] | None, at_ms: int, event: Properties) -> list[Any]:
        value = dig(event, path)
        bucket = at_ms // width_ms
        grown: dict[int, float] = {one: total for one, total in stored or ()}  # noqa: C416 - pairs arrive as lists.
        grown[bucket] = grown.get(bucket, 0) + (value if is_number(value) else 0)
        return [[one, grown[one]] for one in sorted(grown)[-(SUM_BUCKETS + 1) :]]

    return update


def _stamp(stored: Sequence[Any] | None, at_ms: int, _: Properties) -> list[Any]:
    if not stored:
        return [at_ms, at_ms, 1]
    first, last, number = stored
    return [at_ms if at_ms < first else first, at_ms if at_ms > last else last, number + 1]


def count_at(stamps: Sequence[int] | None, at_ms: int, within_ms: int) -> int:
    """Return how many stamps lie in the window that ends at ``at_ms``; never more than the ring holds."""
    if not stamps:
        return 0
    return len(stamps) - bisect_right(stamps, at_ms - within_ms)


def sum_at(sums: Sequence[Sequence[Any]] | None, at_ms: int, within_ms: int) -> float:
    """Return the sum over the newest ``SUM_BUCKETS`` buckets up to the one of ``at_ms``."""
    oldest = at_ms // bucket_ms(within_ms) - SUM_BUCKETS
    return float(sum(total for bucket, total in sums or () if bucket > oldest))
