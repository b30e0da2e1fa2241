"""Traces: what a condition came to, part by part, with the values it read. The slow, talkative twin of ``interpret``.

A trace reads every part, also those that the evaluation would have skipped; its truth is always that of
``interpret.evaluate``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.core.condition import (
    MISSING,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    CountOf,
    FieldValue,
    FirstEver,
    InSegment,
    InStage,
    Not,
    Since,
    SumOf,
)
from orchestrator.core.interpret import all_of, any_of, negated, operand, reading
from orchestrator.core.view import View


class Gap(Enum):
    """Why an answer is unknown."""

    FIELD_MISSING = "field_missing"  # the customer or the event has no such value
    OTHER_FIELD_MISSING = "other_field_missing"  # the field on the right-hand side is missing
    UNLIKE_TYPES = "unlike_types"  # the two values have no order, or the text is too long to search
    WINDOW_UNSEEN = "window_unseen"  # the aggregate is younger than its window
    NEVER_HAPPENED = "never_happened"  # the span since an event that never happened
    NO_RUN_NAMED = "no_run_named"  # the event belongs to no run of the journey


@dataclass(frozen=True, slots=True)
class Trace:
    """What one node of a condition tree came to.

    ``value`` is what a leaf read: the field's value, the count, the sum, the span in milliseconds; ``MISSING`` where
    there is none and for nodes that only combine. ``other`` is the right-hand side of a leaf that compares two
    fields. ``gap`` says why ``truth`` is None, for leaves; of an aggregate that is younger than its window,
    ``since_ms`` says from which log time on it has been kept.
    """

    condition: Condition
    truth: bool | None
    value: Any = MISSING
    other: Any = MISSING
    gap: Gap | None = None
    since_ms: int = 0
    parts: tuple[Trace, ...] = ()


def trace(condition: Condition, view: View, journey: str) -> Trace:
    """Return the trace of ``condition``; ``journey`` is that of the rule that asks, as in ``evaluate``."""
    match condition:
        case AllOf(parts):
            traced = tuple(trace(part, view, journey) for part in parts)
            return Trace(condition, all_of(part.truth for part in traced), parts=traced)
        case AnyOf(parts):
            traced = tuple(trace(part, view, journey) for part in parts)
            return Trace(condition, any_of(part.truth for part in traced), parts=traced)
        case Not(part):
            inner = trace(part, view, journey)
            return Trace(condition, negated(inner.truth), parts=(inner,))
        case InSegment(_, definition):
            inner = trace(definition, view, journey)
            return Trace(condition, inner.truth, parts=(inner,))
        case _:
            return _leaf(condition, view, journey)


def _leaf(condition: Condition, view: View, journey: str) -> Trace:
    truth, value = reading(condition, view, journey)
    other: Any = MISSING
    if isinstance(condition, Compare) and isinstance(condition.value, FieldValue):
        other = operand(condition.value, view, journey)
    if truth is not None:
        return Trace(condition, truth, value, other)
    gap = _gap(condition, value, other, view)
    return Trace(condition, None, value, other, gap, _kept_since(condition, view) if gap is Gap.WINDOW_UNSEEN else 0)


def _kept_since(condition: Condition, view: View) -> int:
    match condition:
        case CountOf() | SumOf() | Since() | FirstEver():
            return view.rulebook.aggregates_since.get(condition.aggregate, 0)
        case _:
            return 0


def _gap(condition: Condition, value: Any, other: Any, view: View) -> Gap:
    match condition:
        case Compare():
            if value is MISSING or value is None:
                return Gap.FIELD_MISSING
            unread = isinstance(condition.value, FieldValue) and (other is MISSING or other is None)
            return Gap.OTHER_FIELD_MISSING if unread else Gap.UNLIKE_TYPES
        case CountOf() | SumOf():
            return Gap.WINDOW_UNSEEN
        case Since() | FirstEver():
            return Gap.NEVER_HAPPENED if view.knows(condition.aggregate, 0) else Gap.WINDOW_UNSEEN
        case InStage():
            return Gap.NO_RUN_NAMED
        case _:
            return Gap.UNLIKE_TYPES


def settling(traced: Trace) -> list[Trace]:
    """Return the leaves that settled a trace: enough of them to see why its truth is what it is.

    The first false part of an ``all`` is enough; an ``any`` that is not true needs every part. A segment counts as a
    leaf. Nothing for an ``all`` or ``any`` without parts.
    """
    condition = traced.condition
    if isinstance(condition, Not):
        return settling(traced.parts[0])
    if not isinstance(condition, AllOf | AnyOf):
        return [traced]
    decisive = [part for part in traced.parts if part.truth is traced.truth]
    one_is_enough = traced.truth is isinstance(condition, AnyOf)
    return [leaf for part in (decisive[:1] if one_is_enough else decisive) for leaf in settling(part)]
