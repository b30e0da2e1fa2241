"""The ring of marks by which repeated events are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.seen import (
    KEPT_ALWAYS,
    KEPT_MS,
    MARK_BYTES,
    MARKS_MAX,
    Days,
    latest,
    mark_of,
    united,
    was_seen,
    with_mark,
)
from orchestrator.core.state import CustomerState, encode_state

HOUR_MS = 3_600_000


class Ring:
    """A ring to which events come, each at a log time."""

    def __init__(self) -> None:
        self.marks = b""
        self.days: Days = []

    def add(self, mark: bytes, at_ms: int = 0) -> None:
        self.marks, self.days = with_mark(self.marks, self.days, mark, at_ms)

    def __len__(self) -> int:
        return len(self.marks) // MARK_BYTES


def ring_of(*marks: bytes) -> bytes:
    ring = Ring()
    for mark in marks:
        ring.add(mark)
    return ring.marks


def marks_of(number: int, name: str = "e") -> list[bytes]:
    return [mark_of(f"{name}{one}") for one in range(number)]


def test_marks_are_stable_and_differ():
    assert len(set(marks_of(10_000))) == 10_000
    assert mark_of("e1").hex() == "1f7e24023b50eaef"


@pytest.mark.parametrize("size", [80, 4_096])
@pytest.mark.parametrize("after_ms", [0, HOUR_MS, KEPT_MS])
def test_a_batch_that_is_sent_again_within_a_day_is_known_to_the_last_event(size, after_ms):
    ring = Ring()
    batch = marks_of(size)
    for mark in marks_of(KEPT_ALWAYS, "before"):
        ring.add(mark, -5 * KEPT_MS)
    for mark in batch:
        ring.add(mark)
    for number, mark in enumerate(marks_of(100, "between")):
        ring.add(mark, after_ms * number // 100)
    assert all(was_seen(ring.marks, mark) for mark in batch[::-1])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, HOUR_MS, 23 * HOUR_MS, KEPT_MS - 1, KEPT_MS, 40 * HOUR_MS]), st.integers(1, 90)
        ),
        max_size=12,
    )
)
def test_whatever_is_not_older_than_a_day_is_known(bursts):
    ring, came, now_ms = Ring(), [], 0
    for burst, (gap_ms, size) in enumerate(bursts):
        now_ms += gap_ms
        for mark in marks_of(size, f"b{burst}-"):
            ring.add(mark, now_ms)
            came.append((mark, now_ms))
    assert all(was_seen(ring.marks, mark) for mark, at_ms in came if now_ms - at_ms <= KEPT_MS)
    assert all(was_seen(ring.marks, mark) for mark, _ in came[-KEPT_ALWAYS:])


def test_who_has_few_events_a_day_is_remembered_in_as_little_room_as_ever():
    """Two events a day for a year: the 64 newest marks, and what tells their age is nine bytes."""
    ring = Ring()
    for number, mark in enumerate(marks_of(730)):
        ring.add(mark, number * 12 * HOUR_MS)
    assert len(ring) == KEPT_ALWAYS
    plain = encode_state(CustomerState(seen=ring.marks))
    assert len(encode_state(CustomerState(seen=ring.marks, seen_days=ring.days))) - len(plain) <= 12


def test_beyond_the_most_that_is_kept_the_oldest_are_forgotten():
    ring = Ring()
    marks = marks_of(MARKS_MAX + 3)
    for mark in marks:
        ring.add(mark)
    assert len(ring) == MARKS_MAX
    assert [was_seen(ring.marks, mark) for mark in marks[:4]] == [False, False, False, True]


def test_a_crowd_of_marks_is_forgotten_when_it_is_two_days_old():
    ring = Ring()
    for mark in marks_of(1_000):
        ring.add(mark)
    for number, mark in enumerate(marks_of(4, "later")):
        ring.add(mark, (number + 1) * KEPT_MS)
    assert len(ring) == KEPT_ALWAYS


def test_bytes_that_lie_across_two_marks_are_no_mark():
    ring = ring_of(b"abcdefgh", b"ijklmnop")
    assert not was_seen(ring, b"efghijkl")
    assert was_seen(ring_of(b"abcdefgh", b"abcdefgh", b"efghabcd"), b"efghabcd")


def test_a_union_keeps_every_mark_once_and_the_newer_rings_last():
    older, newer = ring_of(b"11111111", b"22222222"), ring_of(b"22222222", b"33333333")
    assert united(older, newer, 5) == (ring_of(b"11111111", b"22222222", b"33333333"), [])
    assert latest(newer) == b"33333333"
    crowd = ring_of(*marks_of(KEPT_ALWAYS))
    assert united(older, crowd, 5) == (older + crowd, [5, KEPT_ALWAYS + 2, 0])
    full = ring_of(*marks_of(MARKS_MAX))
    assert united(older, full, 5) == (full, [5, MARKS_MAX, 0])
