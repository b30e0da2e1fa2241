"""Comparison of JSON values, three-valued: the one definition that every evaluator agrees with.

Null counts as missing. Numbers compare with numbers, text with text, booleans with booleans. Unlike types
are never equal; asked for an order they have none, which is unknown.
"""

from __future__ import annotations

from typing import Any, assert_never

from orchestrator.core.condition import MISSING, Op
from orchestrator.core.pattern import Pattern, PatternFault, pattern_of


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a number; a boolean is not."""
    kind = value.__class__
    return kind is int or kind is float


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal and of like types."""
    if is_number(left):
        return is_number(right) and bool(left == right)
    return left.__class__ is right.__class__ and bool(left == right)


def compare(op: Op, left: Any, right: Any) -> bool | None:
    """Return the truth of ``left op right``, or None when it is unknown.

    ``left`` and ``right`` may be ``MISSING``. ``right`` is a tuple for ``in``/``not_in``, a pair for ``between``, a
    compiled or literal pattern for ``matches``, ignored for ``exists``/``missing``.
    """
    absent = left is MISSING or left is None
    if op is Op.EXISTS:
        return not absent
    if op is Op.MISSING:
        return absent
    if absent or right is MISSING or right is None:
        return None
    return _compare_present(op, left, right)


def _compare_present(op: Op, left: Any, right: Any) -> bool | None:  # noqa: PLR0912 - one row an operator.
    match op:
        case Op.EQ:
            return same(left, right)
        case Op.NE:
            return not same(left, right)
        case Op.LT:
            return left < right if _ordered(left, right) else None
        case Op.LTE:
            return left <= right if _ordered(left, right) else None
        case Op.GT:
            return left > right if _ordered(left, right) else None
        case Op.GTE:
            return left >= right if _ordered(left, right) else None
        case Op.BETWEEN:
            low, high = right
            return low <= left <= high if _ordered(left, low) and _ordered(left, high) else None
        case Op.IN:
            return any(same(left, one) for one in right)
        case Op.NOT_IN:
            return not any(same(left, one) for one in right)
        case Op.CONTAINS:
            return _contains(left, right)
        case Op.STARTS_WITH:
            return left.startswith(right) if left.__class__ is str and right.__class__ is str else None
        case Op.MATCHES:
            return _matches(left, right)
        case Op.EXISTS | Op.MISSING:
            raise AssertionError("answered by compare")
        case _:
            assert_never(op)


def _ordered(left: Any, right: Any) -> bool:
    return (is_number(left) and is_number(right)) or (left.__class__ is str and right.__class__ is str)


def _contains(left: Any, right: Any) -> bool | None:
    if left.__class__ is str:
        return right in left if right.__class__ is str else None
    if left.__class__ is list:
        return any(same(one, right) for one in left)
    return None


def _matches(left: Any, right: Any) -> bool | None:
    if left.__class__ is not str:
        return None
    if isinstance(right, Pattern):
        return right.found_in(left)
    try:
        return pattern_of(right).found_in(left) if right.__class__ is str else None
    except PatternFault:
        # A pattern that comes with an event may be none; rule files are checked.
        return None
