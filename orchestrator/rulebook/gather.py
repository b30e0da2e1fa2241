"""Gathering: the files of a rulebook, told apart by name, read, and brought together under their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

from orchestrator.rulebook.build_capacity import built_capacity
from orchestrator.rulebook.connector_entry import ConnectorEntry, DeliveryPolicy, Rate
from orchestrator.rulebook.lint_capacity import lint_capacity
from orchestrator.rulebook.models.companion import (
    ConnectorPart,
    ConnectorsFile,
    EventPart,
    LimitsFile,
    PropertyPart,
    SegmentsFile,
    TemplatesFile,
    TrackingPlanFile,
)
from orchestrator.rulebook.models.journey import JourneyHead, RulePart
from orchestrator.rulebook.models.part import Part, shown
from orchestrator.rulebook.names import JourneySource, Names
from orchestrator.rulebook.problem import Report
from orchestrator.rulebook.reading import parsed, read_part
from orchestrator.rulebook.source import Map, Seq
from orchestrator.rulebook.tracking_plan import CLASSES, EventType, Property, TrackingPlan

#: Companion files by their name without extension; ``templates`` may also be a folder of such files.
PLAN, CONNECTORS, TEMPLATES, SEGMENTS, LIMITS = "tracking_plan", "connectors", "templates", "segments", "limits"
COMPANIONS = (PLAN, CONNECTORS, TEMPLATES, SEGMENTS, LIMITS)
CASES_SUFFIXES = (".cases.yaml", ".cases.yml")
RULE_SUFFIXES = (".yaml", ".yml")

T = TypeVar("T")
P = TypeVar("P", bound=Part)


def role_of(path: str) -> str:
    """Return what a file is by its path: a companion's name, ``journey``, ``cases``, or nothing."""
    pure = PurePosixPath(path)
    if pure.name.endswith(CASES_SUFFIXES):
        return "cases"
    if pure.suffix not in RULE_SUFFIXES:
        return ""
    if pure.stem in COMPANIONS:
        return pure.stem
    return TEMPLATES if TEMPLATES in pure.parts[:-1] else "journey"


def gathered(files: Mapping[str, bytes], shown_as: str, report: Report) -> Names:
    """Read every file (but cases) and return what their names mean; whatever is wrong is reported."""
    names = Names(report)
    plan = _Plan(names)
    readers: dict[str, Any] = {
        PLAN: plan.read,
        CONNECTORS: lambda source: _connectors(source, names),
        TEMPLATES: lambda source: _named(source, TemplatesFile, "templates", "template", names.templates, names),
        SEGMENTS: lambda source: _named(source, SegmentsFile, "segments", "segment", names.segments, names),
        LIMITS: lambda source: _named(source, LimitsFile, "limits", "limit set", names.limit_sets, names),
        "journey": lambda source: _journey(source, names),
    }
    if not any(role_of(path) == PLAN for path in files):
        place = Map(f"{shown_as}/{PLAN}.yaml" if shown_as else f"{PLAN}.yaml", 1, None, 0)
        report.error(place, None, "a rulebook needs this file: it declares events, traits and consents")
        names.broken |= _nouns(PLAN)
    for path in sorted(files):
        role = role_of(path)
        if role not in readers:
            continue
        source = parsed(f"{shown_as}/{path}" if shown_as else path, files[path], report)
        if source is None:
            names.broken |= _nouns(role)
        else:
            readers[role](source)
    names.plan = plan.built()
    return names


def _nouns(role: str) -> set[str]:
    match role:
        case "tracking_plan":
            return {"event type", "trait", "consent"}
        case "connectors":
            return {"connector"}
        case "templates":
            return {"template"}
        case "segments":
            return {"segment"}
        case "limits":
            return {"limit set"}
        case _:
            return {"journey"}


def _named(source: Map, model: type[P], key: str, noun: str, into: dict[str, Any], names: Names) -> P | None:
    file = read_part(model, source, names.report)
    if file is None:
        names.broken.add(noun)
        return None
    for name, part in getattr(file, key).items():
        _take(into, name, part, file.origin[key], noun, names)
    return file


def _take(into: dict[str, Any], name: str, part: Any, at: Map, noun: str, names: Names) -> bool:
    if name in into:
        earlier = into[name].origin
        names.report.error(at, name, f'the {noun} "{name}" is already declared in {earlier.file}:{earlier.line}')
        return False
    into[name] = part
    return True


def _connectors(source: Map, names: Names) -> None:
    parts: dict[str, ConnectorPart] = {}
    _named(source, ConnectorsFile, "connectors", "connector", parts, names)
    for name, part in parts.items():
        if name in names.connectors:
            names.report.error(part.origin, None, f'the connector "{name}" is already declared')
            continue
        lint_capacity(names, part)
        names.connector_origins[name] = part.origin
        names.connectors[name] = ConnectorEntry(
            name, part.type, part.kind, plain(part.settings), _policy(part), part.description
        )


def _policy(connector: ConnectorPart) -> DeliveryPolicy:
    part, capacity = connector.delivery, built_capacity(connector.capacity)
    if part is None:
        return DeliveryPolicy(capacity=capacity)
    breaker = DeliveryPolicy() if part.breaker is None else part.breaker
    opened = (
        (breaker.breaker_failures, breaker.breaker_pause_ms)
        if isinstance(breaker, DeliveryPolicy)
        else (breaker.failures, breaker.pause)
    )
    return DeliveryPolicy(
        concurrency=part.concurrency,
        rate=None if part.rate is None else Rate(part.rate.max, part.rate.per),
        attempts_max=part.attempts_max,
        budget_ms=part.budget,
        backoff_first_ms=part.backoff_first,
        backoff_max_ms=part.backoff_max,
        lease_ms=part.lease,
        breaker_failures=opened[0],
        breaker_pause_ms=opened[1],
        on_unknown=part.on_unknown,
        capacity=capacity,
    )


def plain(value: Any) -> Any:
    """Return a value of the source as ordinary dicts and lists, without its lines."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


# --------------------------------------------------------------------------------------------- tracking plan


class _Plan:
    """Brings tracking plans together: packs may bring events of their own."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._events: dict[str, EventPart] = {}
        self._traits: dict[str, PropertyPart] = {}
        self._consents: dict[str, str] = {}

    def read(self, source: Map) -> None:
        self._names.plan_files.append(source.file)
        file = read_part(TrackingPlanFile, source, self._names.report)
        if file is None:
            self._names.broken |= _nouns(PLAN)
            return
        for name, event in file.events.items():
            if _take(self._events, name, event, file.origin["events"], "event type", self._names):
                self._names.plan_origins[name] = event.origin
        for name, trait in file.traits.items():
            _take(self._traits, name, trait, file.origin["traits"], "trait", self._names)
        for name, purpose in file.consents.items():
            if name in self._consents:
                message = f'the consent "{name}" is already declared'
                self._names.report.error(file.origin["consents"], name, message)
            self._consents[name] = purpose

    def built(self) -> TrackingPlan:
        for declared in (*(part.properties for part in self._events.values()), self._traits):
            _check_enums(declared, self._names.report)
        events = {
            name: EventType(name, _properties(part.properties), part.closed, part.description)
            for name, part in self._events.items()
        }
        return TrackingPlan(events, _properties(self._traits), self._consents)


def _check_enums(parts: Mapping[str, PropertyPart], report: Report) -> None:
    """Report values that are enumerated and can never be there."""
    for name, part in parts.items():
        _check_enums(part.properties, report)
        allowed = CLASSES[part.type]
        for value in part.enum or ():
            if part.type in {"array", "object"}:
                report.error(part.origin, "enum", f"{name}: an enum is for text, numbers, true and false")
                break
            if value.__class__ not in allowed:
                report.error(part.origin, "enum", f"{name} is {part.type}, which {shown(value)} is not")


def _properties(parts: Mapping[str, PropertyPart]) -> dict[str, Property]:
    return {
        name: Property(part.type, tuple(part.enum or ()), part.required, part.description, _properties(part.properties))
        for name, part in parts.items()
    }


# -------------------------------------------------------------------------------------------------- journeys


def _journey(source: Map, names: Names) -> None:
    """Read a journey rule by rule, so that a fault in one does not hide those of the others."""
    if "journey" not in source:
        message = f"not a journey: the key `journey` is missing. Companion files are named {', '.join(COMPANIONS)}"
        names.report.error(source, None, message)
        return
    rules = source.get("rules")
    head_source = _without_rules(source)
    head = read_part(JourneyHead, head_source, names.report)
    if rules is not None and not isinstance(rules, Seq):
        names.report.error(source, "rules", f"rules: expected a list, got {shown(rules)}")
    parts = [_rule(item, index, rules, names) for index, item in enumerate(rules)] if isinstance(rules, Seq) else []
    if head is None:
        names.broken.add("journey")
        return
    earlier = names.journeys.get(head.journey)
    if earlier is not None:
        at = earlier.head.origin
        message = f'the journey "{head.journey}" is already declared in {at.file}:{at.line_of("journey")}'
        names.report.error(source, "journey", message)
        return
    names.journeys[head.journey] = JourneySource(head, [part for part in parts if part is not None])


def _without_rules(source: Map) -> Map:
    head = Map(source.file, source.line, None, 0)
    for key, value in source.items():
        if key == "rules":
            continue
        head[key] = value
        head.key_lines[key], head.value_lines[key] = source.key_lines[key], source.value_lines[key]
    return head


def _rule(item: Any, index: int, rules: Seq, names: Names) -> RulePart | None:
    if not isinstance(item, Map):
        names.report.error(rules, index, f"expected a rule, as a mapping, got {shown(item)}")
        return None
    return read_part(RulePart, item, names.report)
