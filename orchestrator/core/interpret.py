"""The interpreter: walks a condition tree. The oracle of the compiler, and the voice of ``explain``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, assert_never

from orchestrator.core.aggregate import count_at, sum_at
from orchestrator.core.compare import compare, is_number
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
    Op,
    Since,
    SinceEnd,
    SumOf,
)
from orchestrator.core.view import View

#: An answer and the value it was read from.
Reading = tuple[bool | None, Any]

#: Operators that stay true when an aggregate turns out to have seen too little.
_GROWING = frozenset({Op.GT, Op.GTE})


def evaluate(condition: Condition, view: View, journey: str) -> bool | None:
    """Return the truth of ``condition``, None for unknown. ``journey`` is that of the rule that asks."""
    match condition:
        case AllOf(parts):
            return all_of(evaluate(part, view, journey) for part in parts)
        case AnyOf(parts):
            return any_of(evaluate(part, view, journey) for part in parts)
        case Not(part):
            return negated(evaluate(part, view, journey))
        case InSegment(_, inner):
            return evaluate(inner, view, journey)
        case _:
            return reading(condition, view, journey)[0]


def reading(condition: Condition, view: View, journey: str) -> Reading:
    """Return the truth of one leaf and the value that settled it."""
    match condition:
        case Compare():
            left = view.read(condition.path, journey)
            if (left is MISSING or left is None) and condition.default is not MISSING:
                left = condition.default
            return compare(condition.op, left, operand(condition.value, view, journey)), left
        case CountOf():
            number = count_at(view.state.aggregates.get(condition.aggregate), view.at_ms, condition.within_ms)
            return _settled(condition, compare(condition.op, number, condition.value), view), number
        case SumOf():
            total = sum_at(view.state.aggregates.get(condition.aggregate), view.at_ms, condition.within_ms)
            answer = compare(condition.op, total, condition.value)
            return (answer if view.knows(condition.aggregate, condition.within_ms) else None), total
        case Since():
            return since(condition, view)
        case FirstEver():
            return first_ever(condition, view)
        case InStage(other, stages):
            return view.in_stage(journey, other, stages), view.run_fact(other, "stage")
        case AllOf() | AnyOf() | Not() | InSegment():
            return evaluate(condition, view, journey), None
        case _:
            assert_never(condition)


def _settled(condition: CountOf, answer: bool | None, view: View) -> bool | None:
    if view.knows(condition.aggregate, condition.within_ms):
        return answer
    return True if answer and condition.op in _GROWING else None


def since(condition: Since, view: View) -> Reading:
    """Return the truth of a ``since_first``/``since_last`` and the span, MISSING when it never happened."""
    stored = view.state.aggregates.get(condition.aggregate)
    known = view.knows(condition.aggregate, 0)
    if not stored:
        return (condition.if_never if known else None), MISSING
    span = view.at_ms - (stored[1] if condition.end is SinceEnd.LAST else stored[0])
    if condition.end is SinceEnd.FIRST and not known:
        return None, span
    return compare(condition.op, span, condition.value_ms), span


def first_ever(condition: FirstEver, view: View) -> Reading:
    """Return whether the event happened exactly once so far, and how often it did."""
    stored = view.state.aggregates.get(condition.aggregate)
    number = stored[2] if stored else 0
    if number > 1:
        return False, number
    return (True if number == 1 and view.knows(condition.aggregate, 0) else None), number


def operand(value: Any, view: View, journey: str) -> Any:
    """Return the right-hand side: a literal, or another field, scaled."""
    if not isinstance(value, FieldValue):
        return value
    other = view.read(value.path, journey)
    if value.times == 1 or other is MISSING:
        return other
    return other * value.times if is_number(other) else MISSING


def all_of(answers: Iterable[bool | None]) -> bool | None:
    """Return Kleene's conjunction."""
    result: bool | None = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            result = None
    return result


def any_of(answers: Iterable[bool | None]) -> bool | None:
    """Return Kleene's disjunction."""
    result: bool | None = False
    for answer in answers:
        if answer is True:
            return True
        if answer is None:
            result = None
    return result


def negated(answer: bool | None) -> bool | None:
    """Return Kleene's negation."""
    return None if answer is None else not answer


Matcher = Callable[[View], Sequence[int]]


def interpreted(conditions: Sequence[tuple[str, Condition | None]]) -> Matcher:
    """Return a matcher that walks the trees: which of the conditions are true, by position.

    Each condition comes with the journey of the rule that asks; None is always true. This is the slow
    twin of ``orchestrator.rulebook.compile.compiled``.
    """

    def match(view: View) -> list[int]:
        return [
            index
            for index, (journey, condition) in enumerate(conditions)
            if condition is None or evaluate(condition, view, journey) is True
        ]

    return match
