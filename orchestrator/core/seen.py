"""The ids of a customer's latest events, as a ring of marks in one piece of memory, oldest first.

A mark is the 64-bit hash of an id (XXH3). The ring is searched, copied and stored as one string of bytes, which costs
a tenth of a list of numbers; a hit that straddles two marks is none.
"""

from __future__ import annotations

from xxhash import xxh3_64_digest

MARK_BYTES = 8
SEEN_MAX = 64
_RING_BYTES = SEEN_MAX * MARK_BYTES


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


def with_mark(ring: bytes, mark: bytes) -> bytes:
    """Return the ring with one more mark; beyond ``SEEN_MAX`` the oldest is forgotten."""
    return (ring + mark)[-_RING_BYTES:]


def latest(ring: bytes) -> bytes:
    """Return a ring that holds the newest mark alone."""
    return ring[-MARK_BYTES:]


def united(older: bytes, newer: bytes) -> bytes:
    """Return a ring of both, those that only ``older`` holds first."""
    marks = (older[at : at + MARK_BYTES] for at in range(0, len(older), MARK_BYTES))
    return (b"".join(mark for mark in marks if not was_seen(newer, mark)) + newer)[-_RING_BYTES:]
