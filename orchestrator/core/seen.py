"""The ids of a customer's latest events, as a ring of marks in one piece of memory, oldest first.

A mark is the 64-bit hash of an id (XXH3). The ring is searched, copied and stored as one string of bytes, which costs
a tenth of a list of numbers; a hit that straddles two marks is none.

The newest ``KEPT_ALWAYS`` marks are kept however old they are. A customer with more events in a day keeps all marks of
that day and of the one before, so that a batch that is sent again within ``KEPT_MS`` is known whatever its order, up to
``MARKS_MAX``. Days are counted in ``Days`` (see there), which is empty for everybody else.
"""

from __future__ import annotations

from xxhash import xxh3_64_digest

MARK_BYTES = 8
#: Marks that are kept of every customer.
KEPT_ALWAYS = 64
#: How long the marks of a busier customer are kept at least, in log time.
KEPT_MS = 86_400_000
#: Marks that are kept at most: twice the largest batch that is promised to be known again.
MARKS_MAX = 8_192

_ALWAYS_BYTES = KEPT_ALWAYS * MARK_BYTES
RING_BYTES_MAX = MARKS_MAX * MARK_BYTES

#: ``[began_ms, marks, marks_before]``: when the running day of a ring began (log time), how many of its marks were made
#: since then and in the day before. A day lasts from one event to the first that comes ``KEPT_MS`` later. Empty for a
#: ring that never overflowed.
Days = list[int]


def mark_of(event_id: str) -> bytes:
    """Return the mark by which an event's id is remembered.

    Two ids of one mark can be made on purpose, but that gains nobody anything: who may send a customer's events can
    send one under any id.
    """
    return xxh3_64_digest(event_id.encode())


def was_seen(ring: bytes, mark: bytes) -> bool:
    """Return whether the ring holds the mark."""
    at = ring.find(mark)
    while at > 0 and at % MARK_BYTES:
        at = ring.find(mark, at + 1)
    return at >= 0


def with_mark(ring: bytes, days: Days, mark: bytes, now_ms: int) -> tuple[bytes, Days]:
    """Return the ring with one more mark, and its days."""
    ring += mark
    if len(ring) <= _ALWAYS_BYTES:
        return ring, days
    if not days:
        # Nobody knows how old the marks are that are there: they count as made today.
        days = [now_ms, len(ring) // MARK_BYTES, 0]
    elif now_ms - days[0] < KEPT_MS:
        days = [days[0], days[1] + 1, days[2]]
    else:
        days = [now_ms, 1, days[1] if now_ms - days[0] < 2 * KEPT_MS else 0]
    kept = min(max(_ALWAYS_BYTES, (days[1] + days[2]) * MARK_BYTES), RING_BYTES_MAX)
    return ring[-kept:], days


def latest(ring: bytes) -> bytes:
    """Return a ring that holds the newest mark alone."""
    return ring[-MARK_BYTES:]


def united(older: bytes, newer: bytes, now_ms: int) -> tuple[bytes, Days]:
    """Return a ring of both, those that only ``older`` holds first, and its days: all marks count as made today."""
    marks = (older[at : at + MARK_BYTES] for at in range(0, len(older), MARK_BYTES))
    known = {newer[at : at + MARK_BYTES] for at in range(0, len(newer), MARK_BYTES)}
    ring = (b"".join(mark for mark in marks if mark not in known) + newer)[-RING_BYTES_MAX:]
    return ring, [now_ms, len(ring) // MARK_BYTES, 0] if len(ring) > _ALWAYS_BYTES else []
