"""Warm-up: what a publication begins to count, and the rules that do not know it yet of customers of before.

A count of the last 7 days that begins today is known in 7 days; what asks for a customer's whole history is never known
of who was a customer already. A condition that does not know its count is unknown, and the rule stays silent for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from orchestrator.core.condition import AllOf, AnyOf, Condition, CountOf, FirstEver, InSegment, Not, Since, SumOf
from orchestrator.core.definition import Branch, Rule
from orchestrator.core.rulebook import Rulebook
from orchestrator.runtime.wording import condition_text

#: What reads an aggregate.
_Counted = CountOf | SumOf | Since | FirstEver


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A condition of a rule whose count begins. ``known_after_ms`` None: never known of today's customers."""

    rule: str
    condition: str
    known_after_ms: int | None


def warm_ups(draft: Rulebook, kept: Collection[str]) -> list[WarmUp]:
    """Return what rules of ``draft`` ask that no aggregate of ``kept``, those in force now, has counted; by rule."""
    found: dict[WarmUp, None] = {}
    for rule in draft.rules.values():
        for one in _counted_by(rule):
            if one.aggregate not in kept:
                span_ms = one.within_ms if isinstance(one, CountOf | SumOf) else 0
                found[WarmUp(rule.id, condition_text(one), span_ms or None)] = None
    return list(found)


def _counted_by(rule: Rule) -> Iterator[_Counted]:
    yield from _counted(rule.when)
    for step in rule.program:
        if isinstance(step, Branch):
            yield from _counted(step.when)
    if rule.arbitrate is not None:
        for condition, _ in rule.arbitrate.context:
            yield from _counted(condition)


def _counted(condition: Condition | None) -> Iterator[_Counted]:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _counted(part)
        case Not(part) | InSegment(_, part):
            yield from _counted(part)
        case CountOf() | SumOf() | Since() | FirstEver():
            yield condition
        case _:
            return
