"""Building limits and arbitration: shared sets merged in, contradictions refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from orchestrator.core.action import Kind
from orchestrator.core.condition import Condition, InStage
from orchestrator.core.definition import Arbitrate, Cap, Limits, Period, QuietHours, QuietThen
from orchestrator.rulebook.build_conditions import ConditionBuilder
from orchestrator.rulebook.meant import meant_word
from orchestrator.rulebook.meant_value import hint
from orchestrator.rulebook.models.limit import ArbitratePart, CapPart, LearnPart, LimitsPart, QuietPart
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.models.scalars import is_name
from orchestrator.rulebook.models.trigger import EventTrigger
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.order import in_order
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.span import shown_span

DECISION_WINDOW_MAX_MS = 60_000
_KINDS = tuple(kind.value for kind in Kind)


def zone_is_known(zone: str) -> bool:
    """Return whether a zone is ``profile`` or an IANA name."""
    if zone == "profile":
        return True
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        return False
    return True


def check_zone(names: Names, part: Part, zone: str) -> None:
    """Report a zone that does not exist."""
    if not zone_is_known(zone):
        message = f'unknown zone "{zone}"; write profile, or an IANA name such as Asia/Kolkata'
        names.report.error(part.origin, "zone", message)


def check_limit_sets(names: Names) -> None:
    """Report shared sets that use one that does not exist, or each other in a circle."""
    for part in names.limit_sets.values():
        for name in part.use:
            names.known("limit set", name, part.origin, "use")
    uses = {name: dict.fromkeys(part.use, part.origin) for name, part in names.limit_sets.items()}
    for _ in in_order(uses, "use", "limit sets", names):
        pass


def limit_layers(part: LimitsPart | None, names: Names) -> Iterator[LimitsPart]:
    """Yield a rule's own limits and every shared set that it uses, itself or through another, each once."""
    if part is None:
        return
    yield part
    waiting = part.use[::-1]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in names.limit_sets and name not in seen:
            seen.add(name)
            yield names.limit_sets[name]
            waiting += names.limit_sets[name].use[::-1]


class LimitsBuilder:
    """Builds what may hold the actions of one rule back."""

    def __init__(self, names: Names, rule: str) -> None:
        self._names = names
        self._rule = rule

    def built(self, part: LimitsPart | None) -> Limits:
        """Return the limits with every shared set merged in; faults are reported."""
        if part is None:
            return Limits()
        for name in part.use:
            self._names.known("limit set", name, part.origin, "use")
        layers = list(limit_layers(part, self._names))
        quiet = self._only(layers, "quiet_hours")
        return Limits(
            cooldown_ms=self._only(layers, "cooldown") or 0,
            caps=self._caps(cap for layer in layers for cap in layer.cap),
            consent=self._consents(layers),
            quiet_hours=None if quiet is None else self._quiet(quiet),
        )

    def _only(self, layers: list[LimitsPart], key: str) -> Any:
        """Return the one value that the layers agree on."""
        found = [(layer, getattr(layer, key)) for layer in layers if getattr(layer, key) is not None]
        if not found:
            return None
        first, value = found[0]
        for other, another in found[1:]:
            if another != value:
                place = f"{other.origin.file}:{other.origin.line_of(key)}"
                self._names.report.error(first.origin, key, f"contradicts the {key} of the shared set at {place}")
        return value

    def _caps(self, parts: Iterable[CapPart]) -> tuple[Cap, ...]:
        caps: dict[str, tuple[Cap, CapPart]] = {}
        for part in parts:
            if not self._of_is_known(part):
                continue
            cap = self._cap(part)
            earlier = caps.setdefault(cap.key, (cap, part))
            if earlier[0].max != cap.max:
                message = f"contradicts another cap of {cap.of} for the same span: {earlier[0].max} and {cap.max}"
                self._names.report.error(earlier[1].origin, "max", message)
        return tuple(cap for cap, _ in caps.values())

    def _cap(self, part: CapPart) -> Cap:
        of = f"rule:{self._rule}" if part.of == "rule" else part.of
        if isinstance(part.per, str):
            return Cap(f"{of}/{part.per}", part.max, part.of, period=Period(part.per))
        return Cap(f"{of}/{shown_span(part.per)}", part.max, part.of, per_ms=part.per)

    def _of_is_known(self, part: CapPart) -> bool:
        scope, colon, name = part.of.partition(":")
        if part.of == "rule" or (scope == "group" and name):
            return True
        if scope == "kind" and colon:
            if name in _KINDS:
                return True
            meant = meant_word(name, _KINDS)
            remedy = hint(f'"kind:{meant}".', lead=" Write ") if meant else ""
            self._names.report.error(part.origin, "of", unknown("kind", name, _KINDS) + remedy)
            return False
        if scope == "connector" and colon:
            return self._names.known("connector", name, part.origin, "of")
        message = f'expected rule, kind:KIND, connector:NAME or group:NAME, got "{part.of}"'
        self._names.report.error(part.origin, "of", message + hint(self._meant_of(part.of)))
        return False

    def _meant_of(self, of: str) -> str:
        if kind := of if of in _KINDS else meant_word(of, _KINDS):
            return f'"kind:{kind}"'
        if of in self._names.connectors:
            return f'"connector:{of}"'
        return f'"group:{of}"' if is_name(of) else ""

    def _consents(self, layers: list[LimitsPart]) -> tuple[str, ...]:
        purposes: dict[str, None] = {}
        for layer in layers:
            check_consents(self._names, layer, layer.consent)
            purposes.update(dict.fromkeys(layer.consent))
        return tuple(purposes)

    def _quiet(self, part: QuietPart) -> QuietHours:
        check_zone(self._names, part, part.zone)
        if part.from_ == part.to:
            self._names.report.error(part.origin, "to", "quiet hours that begin and end at the same time are empty")
        return QuietHours(part.from_, part.to, part.zone, QuietThen(part.then), tuple(part.kinds))


def check_consents(names: Names, part: Part, purposes: Iterable[str]) -> None:
    """Report purposes that the tracking plan does not declare."""
    for purpose in purposes:
        names.known("consent", purpose, part.origin, "consent")


def built_arbitrate(
    part: ArbitratePart | None, names: Names, conditions: ConditionBuilder, journey: str
) -> Arbitrate | None:
    """Return how a rule competes, or None when it does not."""
    if part is None:
        return None
    if part.decision_window > DECISION_WINDOW_MAX_MS:
        longest = shown_span(DECISION_WINDOW_MAX_MS)
        names.report.error(part.origin, "decision_window", f"decision_window: must be at most {longest}")
    terms = Arbitrate(
        slot=part.slot,
        value=part.value,
        weight=part.weight,
        context=tuple(_levers(part, names, conditions, journey)),
        decision_window_ms=part.decision_window,
    )
    if not isinstance(part.propensity, LearnPart):
        return replace(terms, propensity=part.propensity)
    learned = part.propensity
    reward = learned.reward or _goal_event(names, journey)
    if not reward:
        names.report.error(learned.origin, "learn", "the journey has no goal event to learn from; name a reward: EVENT")
    elif learned.reward:
        names.known("event type", reward, learned.origin, "reward")
    members = ((one, conditions.segment(one, learned, "segments")) for one in learned.segments)
    return replace(
        terms,
        learn=learned.learn,
        reward=reward,
        horizon_ms=learned.horizon,
        learn_segments=tuple((one, member) for one, member in members if member is not None),
    )


def _goal_event(names: Names, journey: str) -> str:
    """Return the event that enters the journey's first goal stage, or ''."""
    stages = names.journeys[journey].head.stages.values()
    return next((stage.on.event for stage in stages if stage.goal and isinstance(stage.on, EventTrigger)), "")


def _levers(
    part: ArbitratePart, names: Names, conditions: ConditionBuilder, journey: str
) -> Iterable[tuple[Condition, float]]:
    context = part.context
    if context is None:
        return
    stages = names.journeys[journey].head.stages
    for stage, factor in context.stage.items():
        if stage not in stages:
            names.report.error(context.origin["stage"], stage, unknown("stage", stage, stages))
            continue
        yield InStage(journey, (stage,)), factor
    for segment, factor in context.segment.items():
        if (member := conditions.segment(segment, context, "segment")) is not None:
            yield member, factor
    for lever in context.levers:
        if (condition := conditions.built(lever.when)) is not None:
            yield condition, lever.lever
