"""Value sets: what is left for one quantity when several comparisons of it must hold together.

A quantity is a field, a sum, or the stage of the run. It may be missing: ``missing`` asks for that, and a ``default``
may let it be; every other comparison holds only of a value that is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from orchestrator.core.compare import compare, is_number, same
from orchestrator.core.condition import Op

#: What holds of a value that is there when the operator does not hold of it.
OPPOSITES = {
    Op.EQ: Op.NE,
    Op.NE: Op.EQ,
    Op.LT: Op.GTE,
    Op.GTE: Op.LT,
    Op.GT: Op.LTE,
    Op.LTE: Op.GT,
    Op.IN: Op.NOT_IN,
    Op.NOT_IN: Op.IN,
    Op.EXISTS: Op.MISSING,
    Op.MISSING: Op.EXISTS,
}


class Comparison(NamedTuple):
    """One comparison of a quantity; ``if_missing`` says whether it holds where there is no value."""

    op: Op
    value: Any = None
    if_missing: bool = False


def exclude_each_other(comparisons: Iterable[Comparison]) -> bool:
    """Return whether no value, nor the lack of one, makes all of the comparisons true. In doubt they do not."""
    known = list(comparisons)
    return not all(one.if_missing or one.op is Op.MISSING for one in known) and not _leave_a_value(known)


def _leave_a_value(known: list[Comparison]) -> bool:
    if any(one.op is Op.MISSING for one in known):
        return False
    listed = next((_items(one) for one in known if one.op in (Op.EQ, Op.IN)), None)
    if listed is not None:
        return any(all(_holds(one, value) for one in known) for value in listed)
    return not _empty_range(known) and not _unlike_beginnings(known)


def _items(one: Comparison) -> list[Any]:
    return [one.value] if one.op is Op.EQ else list(one.value)


def _holds(one: Comparison, value: Any) -> bool:
    if one.op is Op.EXISTS:
        return True
    return compare(one.op, value, one.value) is True


def _empty_range(known: list[Comparison]) -> bool:
    """Return whether a lower bound lies above an upper one, or on it where one of them is open."""
    lows = [(value, one.op is Op.GT) for one in known if (value := _low(one)) is not None]
    highs = [(value, one.op is Op.LT) for one in known if (value := _high(one)) is not None]
    for low, low_open in lows:
        for high, high_open in highs:
            if _like(low, high) and (low > high or (low == high and (low_open or high_open))):
                return True
    barred = [value for one in known if one.op in (Op.NE, Op.NOT_IN) for value in _barred(one)]
    points = [low for low, _ in lows for high, _ in highs if _like(low, high) and low == high]
    return any(same(point, value) for point in points for value in barred)


def _low(one: Comparison) -> Any:
    return one.value if one.op in (Op.GT, Op.GTE) else one.value[0] if one.op is Op.BETWEEN else None


def _high(one: Comparison) -> Any:
    return one.value if one.op in (Op.LT, Op.LTE) else one.value[1] if one.op is Op.BETWEEN else None


def _barred(one: Comparison) -> list[Any]:
    return [one.value] if one.op is Op.NE else list(one.value)


def _like(left: Any, right: Any) -> bool:
    return (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str))


def _unlike_beginnings(known: list[Comparison]) -> bool:
    begins = [one.value for one in known if one.op is Op.STARTS_WITH]
    return any(not (one.startswith(other) or other.startswith(one)) for one in begins for other in begins)
