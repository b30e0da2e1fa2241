"""Names: everything that a rule may refer to, gathered from all files before any rule is built."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from orchestrator.core.definition import Aggregate
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.models.companion import SegmentPart, TemplatePart
from orchestrator.rulebook.models.journey import JourneyHead, RulePart
from orchestrator.rulebook.models.limit import LimitsPart
from orchestrator.rulebook.problem import Report, unknown
from orchestrator.rulebook.source import Map
from orchestrator.rulebook.tracking_plan import TrackingPlan


@dataclass(slots=True)
class JourneySource:
    """A journey as read: its head and those of its rules that are well-formed."""

    head: JourneyHead
    rules: list[RulePart]


@dataclass(slots=True)
class Names:
    """What names mean in one rulebook. ``broken`` holds the nouns whose file could not be read.

    A name of a broken noun is not reported as unknown: its own file already says what is wrong.
    """

    report: Report
    plan: TrackingPlan = field(default_factory=TrackingPlan)
    connectors: dict[str, ConnectorEntry] = field(default_factory=dict)
    connector_origins: dict[str, Map] = field(default_factory=dict)
    templates: dict[str, TemplatePart] = field(default_factory=dict)
    segments: dict[str, SegmentPart] = field(default_factory=dict)
    limit_sets: dict[str, LimitsPart] = field(default_factory=dict)
    journeys: dict[str, JourneySource] = field(default_factory=dict)
    plan_origins: dict[str, Map] = field(default_factory=dict)
    aggregates: dict[str, Aggregate] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    circles: set[frozenset[str]] = field(default_factory=set)

    def known(self, noun: str, name: str, at: Map, key: str | int | None) -> bool:
        """Return whether the name is borne by something, after reporting at ``at``/``key`` when it is not."""
        names = self._of(noun)
        if name in names:
            return True
        if noun not in self.broken:
            # Of events only the declared ones are listed; the engine's own would crowd them out.
            shown = self.plan.events if noun == "event type" else names
            self.report.error(at, key, unknown(noun, name, shown))
        return False

    def circle(self, noun: str, chain: tuple[str, ...], at: Map, key: str | int | None) -> None:
        """Report things that refer to each other in a circle, each circle once however it is entered."""
        members = frozenset((noun, *chain))
        if members not in self.circles:
            self.circles.add(members)
            self.report.error(at, key, f"{noun} refer to each other in a circle: {' → '.join(chain)}")

    def _of(self, noun: str) -> Collection[str]:
        match noun:
            case "connector":
                return self.connectors
            case "template":
                return self.templates
            case "segment":
                return self.segments
            case "limit set":
                return self.limit_sets
            case "journey":
                return self.journeys
            case "event type":
                return self.plan.types
            case "trait":
                return self.plan.traits
            case "consent":
                return self.plan.consents
            case _:
                raise AssertionError(f"no names of {noun}")
