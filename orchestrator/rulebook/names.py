"""Names: everything that a rule may refer to, gathered from all files before any rule is built."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from orchestrator.core.condition import InSegment
from orchestrator.core.definition import Aggregate
from orchestrator.rulebook.condition_size import Size
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.models.companion import SegmentPart, TemplatePart
from orchestrator.rulebook.models.journey import JourneyHead, RulePart
from orchestrator.rulebook.models.limit import LimitsPart
from orchestrator.rulebook.problem import Report, did_you_mean, unknown
from orchestrator.rulebook.source import Map
from orchestrator.rulebook.tracking_plan import TrackingPlan

#: What the tracking plan declares.
_DECLARED = frozenset({"event type", "trait", "consent"})

#: Circles that are reported; who mends these sees the next.
CIRCLES_MAX = 20
#: Names of a circle that are shown.
_CIRCLE_SHOWN_MAX = 12


@dataclass(slots=True)
class JourneySource:
    """A journey as read: its head and those of its rules that are well-formed."""

    head: JourneyHead
    rules: list[RulePart]


@dataclass(slots=True)
class Names:
    """What names mean in one rulebook. ``broken`` holds the nouns whose file could not be read.

    A name of a broken noun is not reported as unknown: its own file already says what is wrong. ``members`` and
    ``sizes`` are those of segments that could be built; ``leaves`` counts the conditions of all rules so far.
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
    plan_files: list[str] = field(default_factory=list)
    aggregates: dict[str, Aggregate] = field(default_factory=dict)
    members: dict[str, InSegment] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    leaves: int = 0
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
            message = unknown(noun, name, shown)
            meant = did_you_mean(name, names) if len(shown) < len(names) and not message.endswith("?") else ""
            self.report.error(at, key, f"{message}{meant}{self.declare(noun, at.file)}")
        return False

    def declare(self, noun: str, file: str) -> str:
        """Return how to declare an event, a trait or a consent: in the tracking plan that is nearest to the file."""
        if noun not in _DECLARED or not self.plan_files:
            return ""
        here = file.split("/")[:-1]

        def nearness(plan: str) -> tuple[int, int]:
            there = plan.split("/")[:-1]
            return (len(there) if here[: len(there)] == there else -1, -len(there))

        nearest = max(self.plan_files, key=nearness)
        return f" If it is new, declare it in {nearest}."

    def circle(self, noun: str, opened: Iterable[str], name: str, at: Map, key: str | int | None) -> None:
        """Report that the last of ``opened``, each of which refers to the next, refers back to ``name`` among them."""
        if len(self.circles) >= CIRCLES_MAX:
            return
        way = list(opened)
        chain = [*way[way.index(name) :], name]
        members = frozenset((noun, *chain))
        if members not in self.circles:
            self.circles.add(members)
            if len(chain) > _CIRCLE_SHOWN_MAX:
                chain[_CIRCLE_SHOWN_MAX - 2 : -1] = ["…"]
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
