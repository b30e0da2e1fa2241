"""Building segments: each once, after those that it names, so that no chain of them is walked twice."""

from __future__ import annotations

from orchestrator.core.condition import InSegment
from orchestrator.rulebook.build_conditions import ConditionBuilder
from orchestrator.rulebook.condition_size import leaves, size_of
from orchestrator.rulebook.models.companion import SegmentPart
from orchestrator.rulebook.models.condition import SegmentCondition
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.order import in_order
from orchestrator.rulebook.source import Map


def build_segments(names: Names) -> None:
    """Resolve every segment, those that nobody uses as well, so that faults show; faulty ones are left out."""
    uses = {name: _named_by(part) for name, part in names.segments.items()}
    conditions = ConditionBuilder(names, "")
    for name in in_order(uses, "in_segment", "segments", names):
        part = names.segments[name].when
        condition = conditions.built(part)
        if condition is not None:
            names.members[name] = InSegment(name, condition)
            names.sizes[name] = size_of(part, names.sizes)


def _named_by(segment: SegmentPart) -> dict[str, Map]:
    return {one.in_segment: one.origin for one in leaves(segment.when) if isinstance(one, SegmentCondition)}
