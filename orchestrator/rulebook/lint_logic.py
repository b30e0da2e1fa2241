"""Lint of logic: conditions that can never be true, because two of them exclude each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.compare import is_number
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models.journey import RulePart
from orchestrator.rulebook.models.part import Part, shown
from orchestrator.rulebook.models.play import StepPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import Report
from orchestrator.rulebook.span import shown_span


def lint_logic(names: Names) -> None:
    """Check every condition of every rule and segment for parts that exclude each other."""
    for segment in names.segments.values():
        _check(segment.when, names.report)
    for source in names.journeys.values():
        for rule in source.rules:
            for condition in _conditions(rule):
                _check(condition, names.report)


def _conditions(rule: RulePart) -> Iterator[written.Condition]:
    if rule.when is not None:
        yield rule.when
    yield from _step_conditions(rule.do)


def _step_conditions(steps: list[StepPart]) -> Iterator[written.Condition]:
    for step in steps:
        if step.if_ is not None:
            yield step.if_
        inner = [] if step.wait_for is None else step.wait_for.else_
        for block in (step.do, step.then, step.else_, inner):
            yield from _step_conditions(block)


def _check(condition: written.Condition, report: Report) -> None:
    match condition:
        case written.AllCondition():
            _check_all(condition, report)
            for part in _flat(condition):
                if not isinstance(part, written.FieldCondition):
                    _check(part, report)
        case written.AnyCondition():
            for part in condition.any:
                _check(part, report)
        case written.NotCondition():
            _check(condition.not_, report)
        case _:
            pass


def _flat(condition: written.AllCondition) -> Iterator[written.Condition]:
    """Yield what must hold together: the parts of an ``all`` and of every ``all`` right inside it."""
    for part in condition.all:
        if isinstance(part, written.AllCondition):
            yield from _flat(part)
        else:
            yield part


@dataclass(slots=True)
class _Range:
    """What is left for one quantity. ``low`` and ``high`` come with whether they are excluded."""

    low: Any = None
    low_open: bool = False
    high: Any = None
    high_open: bool = False
    allowed: list[Any] | None = None
    barred: list[Any] = field(default_factory=list)
    presence: str = ""
    said: list[str] = field(default_factory=list)

    def excludes(self) -> bool:
        """Return whether nothing is left."""
        if self.allowed is not None and not any(self._fits(value) for value in self.allowed):
            return True
        return self.allowed is None and self._empty()

    def _empty(self) -> bool:
        if self.low is None or self.high is None or not _like(self.low, self.high):
            return False
        return bool(self.low > self.high) or (bool(self.low == self.high) and (self.low_open or self.high_open))

    def _fits(self, value: Any) -> bool:
        if value in self.barred:
            return False
        low, high = self.low, self.high
        if low is not None and _like(value, low) and (value < low or (value == low and self.low_open)):
            return False
        if high is None or not _like(value, high):
            return True
        return bool(value < high) or (bool(value == high) and not self.high_open)

    def narrow(self, op: str, value: Any) -> None:
        """Take one more comparison into account."""
        match op:
            case "gt" | "gte":
                if self.low is None or (_like(value, self.low) and value >= self.low):
                    self.low, self.low_open = value, op == "gt"
            case "lt" | "lte":
                if self.high is None or (_like(value, self.high) and value <= self.high):
                    self.high, self.high_open = value, op == "lt"
            case "between":
                self.narrow("gte", value[0])
                self.narrow("lte", value[1])
            case "eq" | "in":
                values = [value] if op == "eq" else list(value)
                self.allowed = values if self.allowed is None else [one for one in self.allowed if one in values]
            case "ne" | "not_in":
                self.barred += [value] if op == "ne" else list(value)
            case _:
                pass


def _like(left: Any, right: Any) -> bool:
    return (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str))


def _check_all(condition: written.AllCondition, report: Report) -> None:
    ranges: dict[str, _Range] = {}
    for part in _flat(condition):
        quantity = _quantity(part)
        if quantity is None:
            continue
        name, op, value, text = quantity
        known = ranges.setdefault(name, _Range())
        if known.presence and "missing" in (known.presence, op) and known.presence != op:
            report.error(part.origin, "op", f"can never be true together with {known.said[-1]}")
            continue
        known.presence = "missing" if op == "missing" else "exists"
        known.said.append(text)
        if op in ("exists", "missing"):
            continue
        known.narrow(op, value)
        if known.excludes():
            others = " and ".join(known.said[:-1]) or "the values it may have"
            report.error(part.origin, "value", f"can never be true together with {others}")
            ranges[name] = _Range()


def _quantity(part: Part) -> tuple[str, str, Any, str] | None:
    """Return what a leaf measures, how, against what, and in words; None for leaves that exclude nothing."""
    match part:
        case written.FieldCondition() if (
            not isinstance(part.value, written.OtherField) and "default" not in part.origin
        ):
            value = _values(part.value)
            words = f"{part.field} {part.op}" + ("" if part.value is None else f" {value}")
            return part.field, part.op, part.value, words
        case written.CountCondition() if part.where is None:
            name = f"count {part.count} within {shown_span(part.within)}"
            return name, part.op, part.value, f"{name} {part.op} {part.value}"
        case written.SumCondition() if part.where is None:
            name = f"sum {part.sum} {part.of} within {shown_span(part.within)}"
            return name, part.op, part.value, f"{name} {part.op} {part.value}"
        case written.SinceLastCondition() if part.where is None and part.if_never is None:
            name = f"since_last {part.since_last}"
            return name, part.op, part.value, f"{name} {part.op} {shown_span(part.value)}"
        case written.StageCondition() if part.journey is None:
            return "in_stage", "in", part.in_stage, f"in_stage {', '.join(part.in_stage)}"
        case _:
            return None


def _values(value: Any) -> str:
    return f"[{', '.join(shown(one) for one in value)}]" if isinstance(value, list) else shown(value)
