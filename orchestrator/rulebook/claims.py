"""Claims: what must hold together for a condition to be true, each with its place and in its author's words.

A condition is taken apart down to its ends. ``not`` is carried inwards, and a segment is written out, so that what it
says meets what the rule says. What has several ways to be true (``any``) stays together as alternatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from orchestrator.core.compare import compare
from orchestrator.core.condition import MISSING, Op
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


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that must hold: ``says`` of the quantity or the event type that ``about`` names."""

    about: str
    says: Comparison | EventCount
    words: str
    at: Map
    key: str
    via: written.SegmentCondition | None = None  # the condition that names the segment which says so

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
    words = f"in_segment {part.in_segment}"
    return Claim(f"in_segment {part.in_segment}", says, _negated(words, wanted), part.origin, "in_segment", via)


def _negated(words: str, wanted: bool) -> str:
    return words if wanted else f"not {words}"


def _leaf(part: Any, wanted: bool, via: written.SegmentCondition | None) -> Iterator[Claim]:
    """Yield what a condition at the end of a tree says; nothing for those that exclude nothing."""
    match part:
        case written.FieldCondition() if not isinstance(part.value, written.OtherField):
            yield from _compared(part, part.field, part.field, wanted, via)
        case written.ScoreCondition() if not isinstance(part.value, written.OtherField):
            yield from _compared(part, f"score {part.score}", f"score {part.score}", wanted, via)
        case written.StageCondition() if part.journey is None:
            says = Comparison(Op.IN if wanted else Op.NOT_IN, part.in_stage)
            yield Claim(STAGE, says, _negated(f"in_stage {', '.join(part.in_stage)}", wanted), part.origin, STAGE, via)
        case written.SumCondition():
            op = Op(part.op) if wanted else OPPOSITES[Op(part.op)]
            about = f"sum {part.sum} {part.of} {part.within} {filter_name(part.where)}"
            words = f"sum {part.sum} {part.of} within {shown_span(part.within)} {part.op} {part.value}"
            yield Claim(about, Comparison(op, part.value), _negated(words, wanted), part.origin, "value", via)
        case (
            written.CountCondition()
            | written.SinceLastCondition()
            | written.SinceFirstCondition()
            | written.FirstCondition()
        ):
            for said, words, key in _counts(part, wanted):
                yield Claim(f"event {said.event}", said, _negated(words, wanted), part.origin, key, via)
        case _:
            return


def _compared(
    part: written.FieldCondition | written.ScoreCondition,
    name: str,
    words: str,
    wanted: bool,
    via: written.SegmentCondition | None,
) -> Iterator[Claim]:
    op = Op(part.op)
    if operand_fault(op, part.value, given="value" in part.origin):
        return
    said = f"{words} {part.op}" + ("" if part.value is None else f" {values(part.value)}")
    standin = part.default if "default" in part.origin else MISSING
    of_standin = None if standin is MISSING else compare(op, standin, part.value)
    key = "value" if "value" in part.origin else "op"
    if not wanted and op not in OPPOSITES:
        says = Comparison(Op.EXISTS, if_missing=of_standin is False)
    else:
        says = Comparison(op if wanted else OPPOSITES[op], part.value, if_missing=of_standin is wanted)
    yield Claim(_SAME_AS.get(name, name), says, _negated(said, wanted), part.origin, key, via)


def _counts(
    part: written.CountCondition | written.SinceLastCondition | written.SinceFirstCondition | written.FirstCondition,
    wanted: bool,
) -> Iterator[tuple[EventCount, str, str]]:
    where = filter_name(part.where)
    match part:
        case written.FirstCondition():
            if wanted:
                yield EventCount(part.first, where, inf, 1, 1), f"first {part.first}", "first"
        case written.CountCondition():
            op = Op(part.op) if wanted else OPPOSITES[Op(part.op)]
            said = counted(part.count, where, part.within, op, part.value)
            if said is not None:
                yield said, f"count {part.count} within {shown_span(part.within)} {part.op} {part.value}", "value"
        case written.SinceLastCondition():
            op = Op(part.op) if wanted else OPPOSITES[Op(part.op)]
            words = f"since_last {part.since_last} {part.op} {shown_span(part.value)}"
            for one in since_last(part.since_last, where, op, part.value, if_never=part.if_never is wanted):
                yield one, words, "value"
        case written.SinceFirstCondition() if part.if_never is not wanted:
            op = Op(part.op) if wanted else OPPOSITES[Op(part.op)]
            window_ms = part.value + 1 if op in (Op.LT, Op.LTE) else inf
            words = f"since_first {part.since_first} {part.op} {shown_span(part.value)}"
            yield EventCount(part.since_first, where, window_ms, least=1), words, "value"


def filter_name(part: written.Condition | None) -> str:
    """Return the name of a filter: the same for filters that are written alike."""
    return "" if part is None else repr(part)


def values(value: Any) -> str:
    """Return the right-hand side of a comparison as its author would write it."""
    return f"[{', '.join(shown(one) for one in value)}]" if isinstance(value, list) else shown(value)
