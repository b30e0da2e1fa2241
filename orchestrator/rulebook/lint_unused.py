"""Lint of what nobody uses: templates, segments and shared limits that no rule names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.rulebook.condition_size import leaves
from orchestrator.rulebook.lint_connectors import sends_of
from orchestrator.rulebook.lint_logic import steps_of
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models.journey import RulePart
from orchestrator.rulebook.models.limit import LearnPart
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.names import Names


def lint_unused(names: Names) -> None:
    """Warn of what is declared and not used. Where something is wrong elsewhere, the use may be what is wrong."""
    rules = [rule for source in names.journeys.values() for rule in source.rules]
    if names.report.failed or not rules:
        return
    templates = {send.template for rule in rules for send in sends_of(rule.do)}
    segments = {name for rule in rules for name in _segments_of(rule)}
    segments |= {name for part in names.segments.values() for name in _named([part.when])}
    sets = {name for rule in rules if rule.limits is not None for name in rule.limits.use}
    sets |= {name for part in names.limit_sets.values() for name in part.use}
    _warn(names, "template", names.templates, templates)
    _warn(names, "segment", names.segments, segments)
    _warn(names, "limit set", names.limit_sets, sets)


def _warn(names: Names, noun: str, declared: dict[str, Any], used: set[Any]) -> None:
    for name, part in declared.items():
        if name not in used:
            _warn_of(names, noun, name, part)


def _warn_of(names: Names, noun: str, name: str, part: Part) -> None:
    parent = part.origin.parent
    at, key = (part.origin, None) if parent is None else (parent, name)
    names.report.warning(at, key, f'nothing uses the {noun} "{name}": use it, or delete it')


def _segments_of(rule: RulePart) -> Iterator[str]:
    yield from _named([rule.when, *(step.if_ for step in steps_of(rule.do))])
    if rule.arbitrate is None:
        return
    if isinstance(rule.arbitrate.propensity, LearnPart):
        yield from rule.arbitrate.propensity.segments
    if rule.arbitrate.context is not None:
        yield from rule.arbitrate.context.segment
        yield from _named(lever.when for lever in rule.arbitrate.context.levers)


def _named(conditions: Iterable[written.Condition | None]) -> Iterator[str]:
    for condition in conditions:
        for leaf in leaves(condition):
            if isinstance(leaf, written.SegmentCondition):
                yield leaf.in_segment
