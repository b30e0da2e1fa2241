"""Sequences: events that happened in a given order, within a span, without others in between.

The newest matching events of an instance are kept with their event times, so the order of arrival does not
matter: each arrival asks whether a whole sequence now exists that contains it. A sequence fires once; the
next one must begin after the last event of the one that fired.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from orchestrator.core.rulebook import SequenceWatch
from orchestrator.core.state import INSTANCES_MAX
from orchestrator.core.turn import Turn
from orchestrator.core.view import View, tied_key

#: Matching events that are remembered per instance; older ones can no longer begin a sequence.
EVENTS_MAX = 32

#: Event time, bits of the steps it matches, bits of the steps before which it must not happen.
_Seen = list[int]


def observe(turn: Turn, watch: SequenceWatch, event_type: str, view: View) -> str | None:
    """Note an event; return the instance for which it completes a sequence, or None."""
    instance = "" if watch.tie is None else tied_key(view, watch.group.rules[0].journey, watch.tie)
    if instance is None:
        return None
    matches, forbids = _bits(watch, event_type, view)
    if not matches and not forbids:
        return None
    key = f"{watch.name}|{instance}"
    known = turn.state.aggregates.get(key)
    if known is None:
        if not matches:
            return None
        _make_room(turn, watch)
    fired_through, events = known or [0, []]
    latest = max(turn.at_ms, events[-1][0]) if events else turn.at_ms
    oldest = latest - watch.trigger.within_ms - watch.lateness_ms
    kept = [one for one in events if one[0] >= oldest]
    entry: _Seen = [turn.at_ms, matches, forbids]
    insort(kept, entry)
    kept = kept[-EVENTS_MAX:]
    end_ms = _completed(kept, entry, len(watch.trigger.steps), watch.trigger.within_ms, fired_through)
    turn.state.aggregates[key] = [fired_through if end_ms is None else end_ms, kept]
    return None if end_ms is None else instance


def _bits(watch: SequenceWatch, event_type: str, view: View) -> tuple[int, int]:
    matches = forbids = 0
    for number, (step, holds) in enumerate(zip(watch.trigger.steps, watch.holds, strict=True)):
        if step.event == event_type and (holds is None or holds(view)):
            matches |= 1 << number
        if event_type in step.without:
            forbids |= 1 << number
    return matches, forbids


def _completed(events: Sequence[_Seen], new: _Seen, steps: int, within_ms: int, after_ms: int) -> int | None:
    """Return the event time at which a sequence that contains ``new`` is complete, or None.

    For every number of steps done, the latest possible start is kept, once for sequences that contain the new
    event and once for those that do not: a later start can only make the span shorter.
    """
    without: list[int | None] = [None] * (steps + 1)
    containing: list[int | None] = [None] * (steps + 1)
    for event in events:
        at_ms, matches, forbids = event
        if at_ms <= after_ms:
            continue
        is_new = event is new
        for step in range(steps - 1, -1, -1):
            if not matches >> step & 1:
                continue
            begun = at_ms if step == 0 else without[step]
            held = None if step == 0 else containing[step]
            if is_new:
                held = _later(held, begun)
            else:
                without[step + 1] = _later(without[step + 1], begun)
            containing[step + 1] = _later(containing[step + 1], held)
            if step == steps - 1 and held is not None and at_ms - held <= within_ms:
                return at_ms
        for step in range(1, steps):
            if forbids >> step & 1:
                without[step] = containing[step] = None
    return None


def _later(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)


def _make_room(turn: Turn, watch: SequenceWatch) -> None:
    """Keep at most ``INSTANCES_MAX`` instances: the one whose newest event is oldest makes room."""
    prefix = watch.name + "|"
    kept = {key: value[1] for key, value in turn.state.aggregates.items() if key.startswith(prefix)}
    if len(kept) >= INSTANCES_MAX:
        del turn.state.aggregates[min(kept, key=lambda key: (kept[key][-1][0], key))]
