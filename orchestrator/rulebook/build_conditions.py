"""Building conditions: from what authors wrote to the core's tree, with every name resolved."""

from __future__ import annotations

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
    InStage,
    Not,
    Op,
    Path,
    Root,
    Since,
    SinceEnd,
    SumOf,
)
from orchestrator.core.definition import Aggregate, AggregateKind
from orchestrator.core.pattern import PatternFault, pattern_of
from orchestrator.core.state import STAMPS_MAX
from orchestrator.rulebook.canonical import canonical_name
from orchestrator.rulebook.condition_size import LEAVES_OF_ALL_MAX, Size, leaves, size_fault, size_of
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models.part import Part, shown
from orchestrator.rulebook.models.scalars import parsed_path
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import unknown

#: Where the scores of a customer are kept: a trait that holds them by name.
SCORES_TRAIT = "scores"

_RUN_FACTS = ("stage", "started_at", "entered_at", "key")

_NO_VALUE = frozenset({Op.EXISTS, Op.MISSING})
_LISTS = frozenset({Op.IN, Op.NOT_IN})
_ORDERINGS = frozenset({Op.LT, Op.LTE, Op.GT, Op.GTE})
_TEXT = frozenset({Op.STARTS_WITH, Op.MATCHES})


class ConditionBuilder:
    """Builds the conditions of one journey (of none, for segments). A fault is reported and gives None."""

    def __init__(self, names: Names, journey: str) -> None:
        self._names = names
        self._journey = journey

    def built(self, part: written.Condition | None) -> Condition | None:
        """Return the condition, or None when there is none or it is faulty or too large."""
        if part is None:
            return None
        size = size_of(part, self._names.sizes)
        fault = size_fault(part, size, self._names.sizes)
        if fault:
            self._names.report.error(part.origin, None, fault)
            return None
        self._counted(size, part)
        return self._resolved(part)

    def _resolved(self, part: written.Condition) -> Condition | None:  # noqa: PLR0912 - one row a kind.
        match part:
            case written.FieldCondition():
                return self._field(part)
            case written.AllCondition():
                return self._group(part.all, AllOf)
            case written.AnyCondition():
                return self._group(part.any, AnyOf)
            case written.NotCondition():
                inner = self._resolved(part.not_)
                return None if inner is None else Not(inner)
            case written.CountCondition():
                return self._count(part)
            case written.SumCondition():
                return self._sum(part)
            case written.SinceLastCondition():
                return self._since(part, part.since_last, SinceEnd.LAST)
            case written.SinceFirstCondition():
                return self._since(part, part.since_first, SinceEnd.FIRST)
            case written.FirstCondition():
                return FirstEver(self._stamps(part.first, self.where(part, "where", part.where)), part.first)
            case written.SegmentCondition():
                return self._member(part.in_segment, part, "in_segment")
            case written.StageCondition():
                return self._stage(part)
            case written.ScoreCondition():
                path = Path(Root.PROFILE, (SCORES_TRAIT, part.score))
                return self._compare(part, path, Op(part.op), part.value, part.default)
            case _:
                raise AssertionError(f"no condition: {part!r}")

    def where(self, owner: Part, key: str, part: written.Condition | None) -> Condition | None:
        """Return the filter of an event: field conditions only, for it is read while the state changes."""
        for inner in leaves(part):
            if not isinstance(inner, written.FieldCondition):
                kind = next(iter(inner.origin))
                message = f'"{key}" looks at the event itself: only field conditions may stand here, not {kind}'
                self._names.report.error(inner.origin, kind, message)
                return None
        return self.built(part)

    def segment(self, name: str, owner: Part, key: str) -> Condition | None:
        """Return membership of a segment, its own condition resolved in place."""
        member = self._member(name, owner, key)
        if member is not None:
            self._counted(self._names.sizes[name], owner)
        return member

    def _member(self, name: str, owner: Part, key: str) -> Condition | None:
        if not self._names.known("segment", name, owner.origin, key):
            return None
        return self._names.members.get(name)

    def _counted(self, size: Size, part: Part) -> None:
        """Count towards the conditions of all rules; those of a segment count in each rule that asks for it."""
        if not self._journey:
            return
        before = self._names.leaves
        self._names.leaves += size.leaves
        if before <= LEAVES_OF_ALL_MAX < self._names.leaves:
            message = (
                f"the rules up to here come to more than {LEAVES_OF_ALL_MAX} conditions with segments written out;"
                " ask for large segments in fewer rules"
            )
            self._names.report.error(part.origin, None, message)

    def _group(self, parts: list[written.Condition], kind: type[AllOf] | type[AnyOf]) -> Condition | None:
        built = [self._resolved(part) for part in parts]
        whole = tuple(part for part in built if part is not None)
        if len(whole) < len(built):
            return None
        return whole[0] if len(whole) == 1 else kind(whole)

    # ------------------------------------------------------------------------------------------- fields

    def _field(self, part: written.FieldCondition) -> Condition | None:
        return self._compare(part, self._path(part, part.field), Op(part.op), part.value, part.default)

    def _path(self, part: Part, text: str) -> Path:
        path = parsed_path(text)
        if path.root is Root.RUN and (len(path.parts) > 1 or path.parts[0] not in _RUN_FACTS):
            self._names.report.error(part.origin, "field", unknown("fact of the run", path.parts[0], _RUN_FACTS))
        return path

    def _compare(self, part: Part, path: Path, op: Op, value: Any, default: Any) -> Condition | None:
        if "default" in part.origin and (default is None or isinstance(default, (list, Part))):
            self._names.report.error(part.origin, "default", f"expected a plain value, got {shown(default)}")
            return None
        standin = default if "default" in part.origin else MISSING
        if isinstance(value, written.OtherField):
            if op in _NO_VALUE | _LISTS | {Op.BETWEEN, Op.MATCHES}:
                self._names.report.error(part.origin, "value", f"{op.value} cannot compare with another field")
                return None
            return Compare(path, op, FieldValue(self._path(value, value.field), value.times), standin)
        fault = operand_fault(op, value, given="value" in part.origin)
        if fault:
            self._names.report.error(part.origin, "value" if "value" in part.origin else "op", fault)
            return None
        return Compare(path, op, tuple(value) if isinstance(value, list) else value, standin)

    # --------------------------------------------------------------------------------------- aggregates

    def _count(self, part: written.CountCondition) -> Condition | None:
        if part.value >= STAMPS_MAX:
            message = f"counts are kept up to {STAMPS_MAX - 1}, got {part.value}"
            self._names.report.error(part.origin, "value", message)
            return None
        where = self.where(part, "where", part.where)
        size = part.value + 1
        name = self._aggregate(Aggregate("", AggregateKind.COUNT, part.count, where, part.within, size))
        return CountOf(name, part.count, part.within, Op(part.op), part.value)

    def _sum(self, part: written.SumCondition) -> Condition | None:
        where = self.where(part, "where", part.where)
        path = parsed_path(part.of)
        name = self._aggregate(Aggregate("", AggregateKind.SUM, part.sum, where, part.within, 0, path))
        return SumOf(name, part.sum, path, part.within, Op(part.op), part.value)

    def _since(
        self, part: written.SinceLastCondition | written.SinceFirstCondition, event: str, end: SinceEnd
    ) -> Condition:
        name = self._stamps(event, self.where(part, "where", part.where))
        return Since(name, event, end, Op(part.op), part.value, part.if_never)

    def _stamps(self, event: str, where: Condition | None) -> str:
        return self._aggregate(Aggregate("", AggregateKind.STAMPS, event, where))

    def _aggregate(self, unnamed: Aggregate) -> str:
        name = canonical_name("aggregate", unnamed)
        if name not in self._names.aggregates:
            self._names.aggregates[name] = Aggregate(
                name, unnamed.kind, unnamed.event, unnamed.where, unnamed.within_ms, unnamed.size, unnamed.path
            )
        return name

    # ------------------------------------------------------------------------------------------- stages

    def _stage(self, part: written.StageCondition) -> Condition | None:
        journey = part.journey or self._journey
        if not journey:
            self._names.report.error(part.origin, "in_stage", "say which journey is meant: add `journey: …`")
            return None
        if part.journey and not self._names.known("journey", journey, part.origin, "journey"):
            return None
        stages = self._names.journeys[journey].head.stages
        wrong = [stage for stage in part.in_stage if stage not in stages]
        for stage in wrong:
            message = f'journey "{journey}" has no such stage: {unknown("stage", stage, stages)}'
            self._names.report.error(part.origin, "in_stage", message)
        return None if wrong else InStage(journey, tuple(part.in_stage))


def operand_fault(op: Op, value: Any, *, given: bool) -> str:
    """Return what is wrong with the right-hand side of an operator, or nothing."""
    if op in _NO_VALUE:
        return f"{op.value} takes no value" if given else ""
    if not given or value is None:
        return f"{op.value} needs a value"
    if op in _LISTS:
        return "" if isinstance(value, list) and value else f"{op.value} needs a list, got {shown(value)}"
    if op is Op.BETWEEN:
        return _between_fault(value)
    if isinstance(value, list):
        return f"{op.value} takes one value, not a list; use in or not_in"
    if op in _ORDERINGS and isinstance(value, bool):
        return f"{op.value} needs a number or text, got {shown(value)}"
    if op in _TEXT and not isinstance(value, str):
        return f"{op.value} needs text, got {shown(value)}"
    return _pattern_fault(value) if op is Op.MATCHES else ""


def _between_fault(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 2:
        return f"between needs [low, high], got {shown(value)}"
    low, high = value
    if isinstance(low, str) != isinstance(high, str) or isinstance(low, bool) or isinstance(high, bool):
        return "between needs two numbers or two texts"
    return "" if low <= high else f"between is empty: {low} is above {high}"


def _pattern_fault(pattern: str) -> str:
    try:
        pattern_of(pattern)
    except PatternFault as fault:
        return str(fault)
    return ""
