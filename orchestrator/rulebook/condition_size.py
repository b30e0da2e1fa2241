"""The size of a condition: how large it is with its segments written out, told without writing them out.

A segment that names another one twice doubles it: twenty such segments in a row are twenty lines, and a million
conditions to whoever compiles, interprets or explains them. So conditions have a ceiling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.rulebook.models import condition as written

#: Generated code takes some 0.3 ms a condition to compile, once for each rule that asks.
LEAVES_MAX = 2_000
#: Conditions of all rules together: a minute of compiling.
LEAVES_OF_ALL_MAX = 200_000
#: Python parses at most 200 brackets in each other, and each level is one.
LEVELS_MAX = 64


@dataclass(frozen=True, slots=True)
class Size:
    """So many conditions at the ends of a tree, so many levels above the deepest of them."""

    leaves: int = 1
    levels: int = 0


def leaves(part: written.Condition | None) -> Iterator[Any]:
    """Yield the conditions at the ends of a written tree, in order."""
    match part:
        case None:
            return
        case written.AllCondition() | written.AnyCondition() | written.NotCondition():
            for one in _parts(part):
                yield from leaves(one)
        case _:
            yield part


def size_of(part: written.Condition, segments: Mapping[str, Size]) -> Size:
    """Return the size of a condition, given those of the segments; one that has none counts as one condition."""
    match part:
        case written.AllCondition() | written.AnyCondition() | written.NotCondition():
            sizes = [size_of(one, segments) for one in _parts(part)]
            return Size(sum(one.leaves for one in sizes), max(one.levels for one in sizes) + 1)
        case written.SegmentCondition():
            inner = segments.get(part.in_segment, Size())
            return Size(inner.leaves, inner.levels + 1)
        case _:
            return Size()


def _parts(part: written.AllCondition | written.AnyCondition | written.NotCondition) -> list[written.Condition]:
    match part:
        case written.AllCondition():
            return part.all
        case written.AnyCondition():
            return part.any
        case written.NotCondition():
            return [part.not_]


def size_fault(part: written.Condition, size: Size, segments: Mapping[str, Size]) -> str:
    """Return why a condition of this size is refused, with the segment that makes it so large, or nothing."""
    if size.leaves <= LEAVES_MAX and size.levels <= LEVELS_MAX:
        return ""
    named = {one.in_segment for one in leaves(part) if isinstance(one, written.SegmentCondition)} & segments.keys()
    if size.leaves > LEAVES_MAX:
        message = f"comes to {size.leaves} conditions with its segments written out; at most {LEAVES_MAX} are allowed."
        remedy = "put values of one field into one list with `op: in`"
        if not named:
            return f"{message} {remedy.capitalize()}"
        name = max(sorted(named), key=lambda one: segments[one].leaves)
        return f'{message} The largest is the segment "{name}" with {segments[name].leaves}: name it once, or {remedy}'
    # Without segments nothing is that deep: the file would not have been read.
    name = max(sorted(named), key=lambda one: segments[one].levels)
    return (
        f"is nested {size.levels} levels deep with its segments written out; at most {LEVELS_MAX} are allowed."
        f' The deepest is the segment "{name}" with {segments[name].levels}: put a shorter way in its place'
    )
