"""Claims: what must hold together for a condition to be true, each with its place and in its author's words.

A condition is taken apart down to its ends. ``not`` is carried inwards, and a segment is written out, so that what it
says meets what the rule says. What has several ways to be true (``any``) stays together as alternatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from orchestrator.core.compare import compare
from orchestrator.core.condition import Op
from orchestrator.rulebook.build_conditions import operand_fault
from orchestrator.rulebook.event_count import EventCount, counted, since_last
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models.companion import SegmentPart
from orchestrator.rulebook.models.part import shown
from orchestrator.rulebook.source import Map
from orchestrator.rulebook.span import shown_span
from orchestrator.rulebook.value_set import OPPOSITES, Comparison

#: Fields of the run that say the same as a condition of their own.
STAGE = "in_stage"
_SAME_AS = {"run.stage": STAGE}


class Claim(NamedTuple):
    """One thing that must hold: ``says`` of the quantity or the event type that ``about`` names.

    It is told by the condition that says so, ``part`` (or the opposite of it, where it is not ``wanted``), or in
    ``own_words``. ``via`` is the condition that names the segment in which it stands.
    """

    about: str
    says: Comparison | EventCount
    at: Map
    key: str
    part: Any = None
    wanted: bool = True
    via: written.SegmentCondition | None = None
    own_words: str = ""

    @property
    def words(self) -> str:
        """What it says, in its author's words."""
        if self.own_words:
            return self.own_words
        return _words(self.part) if self.wanted else f"not {_words(self.part)}"

    @property
    def segment(self) -> str:
        """The segment that says so, or ''."""
        return "" if self.via is None else self.via.in_segment

    @property
    def file(self) -> str:
        """The file where it is written."""
        return self.at.file

    @property
    def line(self) -> int:
        """The line where it is written."""
        return self.at.line_of(self.key)


@dataclass(slots=True)
class Claims:
    """What must hold together: claims, and alternatives of which one must hold."""

    single: list[Claim] = field(default_factory=list)
    alternatives: list[Alternatives] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Ways for a condition to be true, of which one must hold. ``written`` says that the rule has them as ``any``."""

    ways: list[Claims]
    written: bool


def claims_of(part: written.Condition, segments: Mapping[str, SegmentPart]) -> Claims:
    """Return what must hold for a condition to be true. ``segments`` are those that may be written out.

    What is faulty in itself says nothing: it has been reported where it is built.
    """
    found = Claims()
    _take(part, True, None, segments, found)
    return found


def _take(
    part: written.Condition,
    wanted: bool,
    via: written.SegmentCondition | None,
    segments: Mapping[str, SegmentPart],
    into: Claims,
) -> None:
    match part:
        case written.NotCondition():
            _take(part.not_, not wanted, via, segments, into)
        case written.AllCondition() | written.AnyCondition():
            parts = part.all if isinstance(part, written.AllCondition) else part.any
            if isinstance(part, written.AllCondition) is wanted or len(parts) == 1:
                for one in parts:
                    _take(one, wanted, via, segments, into)
                return
            ways = [Claims() for _ in parts]
            for one, way in zip(parts, ways, strict=True):
                _take(one, wanted, via, segments, way)
            into.alternatives.append(Alternatives(ways, wanted and via is None))
        case written.SegmentCondition():
            into.single.append(_membership(part, wanted, via))
            segment = segments.get(part.in_segment)
            if segment is not None:
                _take(segment.when, wanted, via or part, segments, into)
        case _:
            into.single += _leaf(part, wanted, via)


def _membership(part: written.SegmentCondition, wanted: bool, via: written.SegmentCondition | None) -> Claim:
    says = Comparison(Op.EQ, wanted)
    return Claim(f"in_segment {part.in_segment}", says, part.origin, "in_segment", part, wanted, via)


def _leaf(part: Any, wanted: bool, via: written.SegmentCondition | None) -> Iterator[Claim]:
    """Yield what a condition at the end of a tree says; nothing for those that exclude nothing."""
    match part:
        case written.FieldCondition() if not isinstance(part.value, written.OtherField):
            yield from _compared(part, _SAME_AS.get(part.field, part.field), wanted, via)
        case written.ScoreCondition() if not isinstance(part.value, written.OtherField):
            yield from _compared(part, f"score {part.score}", wanted, via)
        case written.StageCondition() if part.journey is None:
            says = Comparison(Op.IN if wanted else Op.NOT_IN, part.in_stage)
            yield Claim(STAGE, says, part.origin, STAGE, part, wanted, via)
        case written.SumCondition():
            op = Op(part.op) if wanted else OPPOSITES[Op(part.op)]
            about = f"sum {part.sum} {part.of} {part.within} {filter_name(part.where)}"
            yield Claim(about, Comparison(op, part.value), part.origin, "value", part, wanted, via)
        case (
            written.CountCondition()
            | written.SinceLastCondition()
            | written.SinceFirstCondition()
            | written.FirstCondition()
        ):
            key = "value" if "value" in part.origin else "first"
            for said in _counts(part, wanted):
                yield Claim(f"event {said.event}", said, part.origin, key, part, wanted, via)
        case _:
            return


def _compared(
    part: written.FieldCondition | written.ScoreCondition,
    about: str,
    wanted: bool,
    via: written.SegmentCondition | None,
) -> Iterator[Claim]:
    op, given = Op(part.op), "value" in part.origin
    if operand_fault(op, part.value, given=given):
        return
    standin = compare(op, part.default, part.value) if "default" in part.origin else None
    if not wanted and op not in OPPOSITES:
        says = Comparison(Op.EXISTS, if_missing=standin is False)
    else:
        says = Comparison(op if wanted else OPPOSITES[op], part.value, if_missing=standin is wanted)
    yield Claim(about, says, part.origin, "value" if given else "op", part, wanted, via)


def _counts(
    part: written.CountCondition | written.SinceLastCondition | written.SinceFirstCondition | written.FirstCondition,
    wanted: bool,
) -> Iterator[EventCount]:
    where = filter_name(part.where)
    if isinstance(part, written.FirstCondition):
        if wanted:
            yield EventCount(part.first, where, inf, 1, 1)
        return
    op = Op(part.op) if wanted else OPPOSITES[Op(part.op)]
    match part:
        case written.CountCondition():
            if (said := counted(part.count, where, part.within, op, part.value)) is not None:
                yield said
        case written.SinceLastCondition():
            yield from since_last(part.since_last, where, op, part.value, if_never=part.if_never is wanted)
        case written.SinceFirstCondition():
            if part.if_never is not wanted:
                window_ms = part.value + 1 if op in (Op.LT, Op.LTE) else inf
                yield EventCount(part.since_first, where, window_ms, least=1)


def _words(part: Any) -> str:
    """Return a condition at the end of a tree as its author would say it."""
    match part:
        case written.SegmentCondition():
            return f"in_segment {part.in_segment}"
        case written.StageCondition():
            return f"in_stage {', '.join(part.in_stage)}"
        case written.FirstCondition():
            return f"first {part.first}"
        case written.CountCondition():
            return f"count {part.count} within {shown_span(part.within)} {part.op} {part.value}"
        case written.SumCondition():
            return f"sum {part.sum} {part.of} within {shown_span(part.within)} {part.op} {part.value}"
        case written.SinceLastCondition():
            return f"since_last {part.since_last} {part.op} {shown_span(part.value)}"
        case written.SinceFirstCondition():
            return f"since_first {part.since_first} {part.op} {shown_span(part.value)}"
        case written.ScoreCondition():
            return f"score {part.score} {part.op}{_right_side(part.value)}"
        case written.FieldCondition():
            return f"{part.field} {part.op}{_right_side(part.value)}"
        case _:
            raise AssertionError(f"no end of a tree: {part!r}")


def filter_name(part: written.Condition | None) -> str:
    """Return the name of a filter: the same for filters that are written alike."""
    return "" if part is None else repr(part)


def _right_side(value: Any) -> str:
    if value is None:
        return ""
    return f" [{', '.join(shown(one) for one in value)}]" if isinstance(value, list) else f" {shown(value)}"
