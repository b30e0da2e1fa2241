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

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Any, assert_never

from orchestrator.core.compare import is_number
from orchestrator.core.definition import SUM_BUCKETS, Aggregate, AggregateKind


def updated(aggregate: Aggregate, stored: Sequence[Any] | None, at_ms: int, value: Any) -> list[Any]:
    """Return the stored form after one more event at ``at_ms``; ``value`` is the summed property."""
    match aggregate.kind:
        case AggregateKind.COUNT:
            return _with_stamp(stored or (), at_ms, aggregate.size)
        case AggregateKind.SUM:
            return _with_amount(stored or (), at_ms // bucket_ms(aggregate.within_ms), value)
        case AggregateKind.STAMPS:
            if not stored:
                return [at_ms, at_ms, 1]
            first, last, number = stored
            return [min(first, at_ms), max(last, at_ms), number + 1]
        case _:
            assert_never(aggregate.kind)


def bucket_ms(within_ms: int) -> int:
    """Return the width of a sum's bucket: the window's sixtieth part, at least a millisecond."""
    return max(1, within_ms // SUM_BUCKETS)


def _with_stamp(stamps: Sequence[int], at_ms: int, size: int) -> list[int]:
    if not stamps or at_ms >= stamps[-1]:
        # Events mostly come in order, and most rings are full.
        return [*stamps[1 - size :], at_ms] if size > 1 else [at_ms]
    grown = list(stamps)
    insort(grown, at_ms)
    return grown[-size:]


def _with_amount(sums: Sequence[Sequence[Any]], bucket: int, value: Any) -> list[Any]:
    amount = value if is_number(value) else 0
    grown: dict[int, float] = {one: total for one, total in sums}  # noqa: C416 - pairs arrive as lists.
    grown[bucket] = grown.get(bucket, 0) + amount
    return [[one, grown[one]] for one in sorted(grown)[-(SUM_BUCKETS + 1) :]]


def count_at(stamps: Sequence[int] | None, at_ms: int, within_ms: int) -> int:
    """Return how many stamps lie in the window that ends at ``at_ms``; never more than the ring holds."""
    if not stamps:
        return 0
    return len(stamps) - bisect_right(stamps, at_ms - within_ms)


def sum_at(sums: Sequence[Sequence[Any]] | None, at_ms: int, within_ms: int) -> float:
    """Return the sum over the newest ``SUM_BUCKETS`` buckets up to the one of ``at_ms``."""
    oldest = at_ms // bucket_ms(within_ms) - SUM_BUCKETS
    return float(sum(total for bucket, total in sums or () if bucket > oldest))
