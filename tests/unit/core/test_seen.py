"""The ring of marks by which repeated events are known."""

from __future__ import annotations

from orchestrator.core.seen import MARK_BYTES, SEEN_MAX, latest, mark_of, united, was_seen, with_mark


def ring_of(*marks: bytes) -> bytes:
    ring = b""
    for mark in marks:
        ring = with_mark(ring, mark)
    return ring


def test_marks_are_stable_and_differ():
    assert len({mark_of(f"e{number}") for number in range(10_000)}) == 10_000
    assert mark_of("e1").hex() == "1f7e24023b50eaef"


def test_a_mark_is_seen_until_so_many_others_came_after_it():
    marks = [mark_of(f"e{number}") for number in range(SEEN_MAX + 1)]
    assert not was_seen(b"", marks[0])
    full = ring_of(*marks[:SEEN_MAX])
    assert all(was_seen(full, mark) for mark in marks[:SEEN_MAX])
    assert not was_seen(full, marks[SEEN_MAX])
    grown = with_mark(full, marks[SEEN_MAX])
    assert len(grown) == SEEN_MAX * MARK_BYTES
    assert not was_seen(grown, marks[0])
    assert was_seen(grown, marks[SEEN_MAX])


def test_bytes_that_lie_across_two_marks_are_no_mark():
    ring = ring_of(b"abcdefgh", b"ijklmnop")
    assert not was_seen(ring, b"efghijkl")
    assert was_seen(ring_of(b"abcdefgh", b"abcdefgh", b"efghabcd"), b"efghabcd")


def test_a_union_keeps_every_mark_once_and_the_newer_rings_last():
    older, newer = ring_of(b"11111111", b"22222222"), ring_of(b"22222222", b"33333333")
    assert united(older, newer) == ring_of(b"11111111", b"22222222", b"33333333")
    assert latest(newer) == b"33333333"
    full = ring_of(*(mark_of(f"e{number}") for number in range(SEEN_MAX)))
    assert united(older, full) == full
