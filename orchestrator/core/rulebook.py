"""The rulebook in force: definitions indexed by what sets them off, each index entry with its matcher.

The index makes the cost of an event depend on the rules that listen to it and on nothing else. It is the
same whether conditions are compiled or interpreted: that is one argument of ``build_rulebook``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from orchestrator.core.aggregate import Update, updater
from orchestrator.core.condition import AllOf, Condition, Path
from orchestrator.core.definition import (
    Aggregate,
    Branch,
    Cap,
    Journey,
    OnAbsence,
    OnDwell,
    OnEnter,
    OnEvent,
    OnLeave,
    OnSchedule,
    OnSequence,
    Rule,
    Stage,
    WaitFor,
)
from orchestrator.core.interpret import Matcher
from orchestrator.core.view import View

ConditionCompiler = Callable[[Sequence[tuple[str, Condition | None]]], Matcher]
Check = Callable[[View], bool]


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that one stimulus sets off; ``match`` answers the positions of those whose ``when`` is true."""

    rules: tuple[Rule, ...] = ()
    match: Matcher = lambda view: ()

    def candidates(self, view: View) -> list[Rule]:
        """Return the rules that the view satisfies."""
        return [self.rules[index] for index in self.match(view)] if self.rules else []


@dataclass(frozen=True, slots=True)
class Watch:
    """One absence and everything that shares its state.

    ``name`` also covers the property that ties the two events together (``same`` or the journey's key).
    ``captures`` are the properties of the arming event that any of its rules reads.
    """

    name: str
    trigger: OnAbsence
    tie: Path | None
    group: RuleGroup
    after_holds: Check | None
    of_holds: Check | None
    captures: tuple[str, ...]
    lateness_ms: int
    anytime: bool = False


@dataclass(frozen=True, slots=True)
class SequenceWatch:
    """One sequence and the rules that wait for it."""

    name: str
    trigger: OnSequence
    tie: Path | None
    group: RuleGroup
    holds: tuple[Check | None, ...]
    lateness_ms: int


class Counting(NamedTuple):
    """An aggregate that an event updates if it holds."""

    aggregate: Aggregate
    holds: Check | None
    update: Update


@dataclass(frozen=True, slots=True)
class StageEntry:
    """The stages of one journey that an event may enter, last stage first; ``places`` has the index of every stage.

    ``sole_run`` is the name of the journey's run, '' where it has one for each value of its key.
    """

    journey: Journey
    sole_run: str
    stages: tuple[tuple[Stage, Check | None], ...]
    places: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EventPlan:
    """All that one event type sets off."""

    aggregates: tuple[Counting, ...] = ()
    stages: tuple[StageEntry, ...] = ()
    preventing: tuple[Watch, ...] = ()
    arming: tuple[Watch, ...] = ()
    sequences: tuple[SequenceWatch, ...] = ()
    exits: tuple[tuple[Rule, Check | None], ...] = ()
    awaiting: tuple[tuple[Rule, int, Check | None], ...] = ()
    group: RuleGroup = field(default_factory=RuleGroup)


_NOTHING = EventPlan()


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A checked, versioned, indexed rulebook of one workspace. Immutable; switching is replacing."""

    version: str
    workspace: str
    journeys: Mapping[str, Journey]
    rules: Mapping[str, Rule]
    plans: Mapping[str, EventPlan]
    watches: Mapping[str, Watch]
    enters: Mapping[tuple[str, str], RuleGroup]
    leaves: Mapping[tuple[str, str], RuleGroup]
    alone: Mapping[str, RuleGroup]  # rules that a timer of their own sets off
    dwelling: Mapping[tuple[str, str], tuple[Rule, ...]]  # by journey and the stage that they watch
    scheduled: Mapping[str, tuple[Rule, ...]]  # by journey
    branches: Mapping[tuple[str, int], Check]
    caps: tuple[Cap, ...]
    rewards: Mapping[str, tuple[str, ...]]  # event type -> rules whose learned propensity it rewards
    aggregates_since: Mapping[str, int]
    conditions: ConditionCompiler
    stage_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by journeys that migrate
    earlier: Mapping[str, Rulebook] = field(default_factory=dict)  # as ``pinned_to`` this one, by version
    edition: int = 0  # 32 bits of the version, by which states remember it

    def plan(self, event_type: str) -> EventPlan:
        """Return what an event of this type sets off; nothing for a type that no rule listens to."""
        return self.plans.get(event_type, _NOTHING)

    def kept_aggregates(self) -> frozenset[str]:
        """Return the names of the aggregates that events keep up to date while this version is in force."""
        return frozenset(one.aggregate.name for plan in self.plans.values() for one in plan.aggregates)


class _PlanDraft:
    """The mutable form of an ``EventPlan`` while the index is being built."""

    def __init__(self) -> None:
        self.aggregates: list[Counting] = []
        self.stages: list[StageEntry] = []
        self.preventing: list[Watch] = []
        self.arming: list[Watch] = []
        self.sequences: list[SequenceWatch] = []
        self.exits: list[tuple[Rule, Check | None]] = []
        self.awaiting: list[tuple[Rule, int, Check | None]] = []
        self.triggered: list[tuple[Rule, Condition | None]] = []


class _Builder:
    def __init__(
        self, journeys: Iterable[Journey], aggregates: Iterable[Aggregate], compiler: ConditionCompiler
    ) -> None:
        self.journeys = {journey.id: journey for journey in journeys}
        self.rules = {rule.id: rule for journey in self.journeys.values() for rule in journey.rules}
        self.compiler = compiler
        self.drafts: dict[str, _PlanDraft] = {}
        self.watches: dict[str, Watch] = {}
        for aggregate in aggregates:
            counting = Counting(aggregate, self.check("", aggregate.where), updater(aggregate))
            self.draft(aggregate.event).aggregates.append(counting)

    def draft(self, event_type: str) -> _PlanDraft:
        return self.drafts.setdefault(event_type, _PlanDraft())

    def check(self, journey: str, condition: Condition | None) -> Check | None:
        """Return a test of one condition; None where there is nothing to test."""
        if condition is None:
            return None
        match = self.compiler([(journey, condition)])
        return lambda view: bool(match(view))

    def group(self, rules: Sequence[Rule]) -> RuleGroup:
        return RuleGroup(tuple(rules), self.compiler([(rule.journey, rule.when) for rule in rules]))

    def index_journey(self, journey: Journey) -> None:
        by_event: dict[str, list[tuple[Stage, Check | None]]] = {}
        for stage in sorted(journey.stages, key=lambda one: -one.index):
            if stage.on.event:
                by_event.setdefault(stage.on.event, []).append((stage, self.check(journey.id, stage.on.where)))
        places = {stage.name: stage.index for stage in journey.stages}
        sole_run = f"{journey.id}/" if journey.key is None else ""
        for event_type, stages in by_event.items():
            self.draft(event_type).stages.append(StageEntry(journey, sole_run, tuple(stages), places))

    def index_rule(self, rule: Rule) -> None:
        for leaving in rule.exit_when:
            self.draft(leaving.event).exits.append((rule, self.check(rule.journey, leaving.where)))
        for pc, step in enumerate(rule.program):
            if isinstance(step, WaitFor):
                self.draft(step.event).awaiting.append((rule, pc, self.check(rule.journey, step.where)))
        if isinstance(rule.trigger, OnEvent):
            self.draft(rule.trigger.event).triggered.append((rule, both(rule.trigger.where, rule.when)))

    def tie(self, rule: Rule, same: Path | None) -> Path | None:
        return same or self.journeys[rule.journey].key

    def watch_name(self, rule: Rule, trigger: OnAbsence | OnSequence) -> str:
        return watch_name(trigger.name, rule.journey, self.tie(rule, trigger.same), anytime=rule.anytime)

    def index_watches(self) -> None:
        absences: dict[str, list[Rule]] = {}
        sequences: dict[str, list[Rule]] = {}
        for rule in self.rules.values():
            if isinstance(rule.trigger, OnAbsence):
                absences.setdefault(self.watch_name(rule, rule.trigger), []).append(rule)
            elif isinstance(rule.trigger, OnSequence):
                sequences.setdefault(self.watch_name(rule, rule.trigger), []).append(rule)
        for name, rules in absences.items():
            self.index_absence(name, rules)
        for name, rules in sequences.items():
            self.index_sequence(name, rules)

    def index_absence(self, name: str, rules: list[Rule]) -> None:
        trigger = rules[0].trigger
        assert isinstance(trigger, OnAbsence)
        journey = rules[0].journey
        watch = Watch(
            name=name,
            trigger=trigger,
            tie=self.tie(rules[0], trigger.same),
            group=self.group(rules),
            after_holds=self.check(journey, trigger.after_where),
            of_holds=self.check(journey, trigger.of_where),
            captures=tuple(sorted({one for rule in rules for one in rule.captures})),
            lateness_ms=max(rule.lateness_ms for rule in rules),
            anytime=rules[0].anytime,
        )
        self.watches[name] = watch
        self.draft(trigger.of).preventing.append(watch)
        self.draft(trigger.after).arming.append(watch)

    def index_sequence(self, name: str, rules: list[Rule]) -> None:
        trigger = rules[0].trigger
        assert isinstance(trigger, OnSequence)
        watch = SequenceWatch(
            name=name,
            trigger=trigger,
            tie=self.tie(rules[0], trigger.same),
            group=self.group(rules),
            holds=tuple(self.check(rules[0].journey, step.where) for step in trigger.steps),
            lateness_ms=max(rule.lateness_ms for rule in rules),
        )
        listened = {one for step in trigger.steps for one in (step.event, *step.without)}
        for event_type in sorted(listened):
            self.draft(event_type).sequences.append(watch)

    def plan(self, draft: _PlanDraft) -> EventPlan:
        rules = tuple(rule for rule, _ in draft.triggered)
        match = self.compiler([(rule.journey, condition) for rule, condition in draft.triggered])
        return EventPlan(
            aggregates=tuple(draft.aggregates),
            stages=tuple(draft.stages),
            preventing=tuple(draft.preventing),
            arming=tuple(draft.arming),
            sequences=tuple(draft.sequences),
            exits=tuple(draft.exits),
            awaiting=tuple(draft.awaiting),
            group=RuleGroup(rules, match),
        )

    def by_stage(self, kind: type[OnEnter] | type[OnLeave]) -> dict[tuple[str, str], RuleGroup]:
        rules: dict[tuple[str, str], list[Rule]] = {}
        for rule in self.rules.values():
            if isinstance(rule.trigger, kind):
                rules.setdefault((rule.journey, rule.trigger.stage), []).append(rule)
        return {stage: self.group(group) for stage, group in rules.items()}

    def dwelling(self) -> dict[tuple[str, str], tuple[Rule, ...]]:
        watching: dict[tuple[str, str], list[Rule]] = {}
        for rule in self.rules.values():
            if isinstance(rule.trigger, OnDwell):
                watching.setdefault((rule.journey, rule.trigger.stage), []).append(rule)
        return {stage: tuple(rules) for stage, rules in watching.items()}

    def scheduled(self) -> dict[str, tuple[Rule, ...]]:
        waiting: dict[str, list[Rule]] = {}
        for rule in self.rules.values():
            if isinstance(rule.trigger, OnSchedule):
                waiting.setdefault(rule.journey, []).append(rule)
        return {journey: tuple(rules) for journey, rules in waiting.items()}

    def rewards(self) -> dict[str, tuple[str, ...]]:
        rewarded: dict[str, list[str]] = {}
        for rule in self.rules.values():
            if rule.arbitrate is not None and rule.arbitrate.learn and rule.arbitrate.reward:
                rewarded.setdefault(rule.arbitrate.reward, []).append(rule.id)
        return {event_type: tuple(rules) for event_type, rules in rewarded.items()}

    def branches(self) -> dict[tuple[str, int], Check]:
        checks: dict[tuple[str, int], Check] = {}
        for rule in self.rules.values():
            for pc, step in enumerate(rule.program):
                if isinstance(step, Branch):
                    check = self.check(rule.journey, step.when)
                    assert check is not None
                    checks[rule.id, pc] = check
        return checks


def both(first: Condition | None, second: Condition | None) -> Condition | None:
    """Return the conjunction of two optional conditions."""
    if first is None or second is None:
        return first or second
    return AllOf((first, second))


def watch_name(name: str, journey: str, tie: Path | None, *, anytime: bool = False) -> str:
    """Return the name under which a watched absence or sequence keeps its state.

    Journeys do not share it: what is watched ends with a run, and the runs of two journeys end apart. Neither do rules
    that act anytime share it with those for which it ends.
    """
    lives = "\x1fanytime" if anytime else ""
    return blake2b(f"{name}\x1f{journey}\x1f{tie or ''}{lives}".encode(), digest_size=6).hexdigest()


def build_rulebook(
    *,
    version: str,
    journeys: Sequence[Journey],
    aggregates: Sequence[Aggregate],
    conditions: ConditionCompiler,
    workspace: str = "default",
    aggregates_since: Mapping[str, int] | None = None,
) -> Rulebook:
    """Index checked definitions.

    ``aggregates_since`` tells since which log time (epoch ms) each aggregate has been kept; 0 or absent means
    since before any customer was seen. Conditions are turned into tests by ``conditions``.
    """
    builder = _Builder(journeys, aggregates, conditions)
    for journey in journeys:
        builder.index_journey(journey)
    for rule in builder.rules.values():
        builder.index_rule(rule)
    builder.index_watches()
    caps = {cap.key: cap for rule in builder.rules.values() for cap in rule.limits.caps}
    timed = (OnDwell, OnSchedule)
    return Rulebook(
        version=version,
        workspace=workspace,
        journeys=builder.journeys,
        rules=builder.rules,
        plans={event_type: builder.plan(draft) for event_type, draft in builder.drafts.items()},
        watches=builder.watches,
        enters=builder.by_stage(OnEnter),
        leaves=builder.by_stage(OnLeave),
        dwelling=builder.dwelling(),
        scheduled=builder.scheduled(),
        alone={rule.id: builder.group([rule]) for rule in builder.rules.values() if isinstance(rule.trigger, timed)},
        branches=builder.branches(),
        caps=tuple(caps[key] for key in sorted(caps)),
        rewards=builder.rewards(),
        aggregates_since=dict(aggregates_since or {}),
        conditions=conditions,
        stage_maps={journey.id: dict(journey.stage_map) for journey in journeys if journey.stage_map},
        edition=crc32(version.encode()),
    )


#: Since when an aggregate is kept that no version in force keeps: always still to come.
_NEVER_MS = 2**62


def pinned_to(book: Rulebook, current: Rulebook) -> Rulebook:
    """Return an earlier version as its running plays go on with it while ``current`` is in force.

    Programs, conditions and limits are the earlier version's. Aggregates are kept by ``current`` alone: one that it
    does not keep is unknown. Its caps count what a pinned play sends as they count everything else.
    """
    kept = current.kept_aggregates()
    since = {
        name: current.aggregates_since.get(name, 0) if name in kept else _NEVER_MS for name in book.kept_aggregates()
    }
    caps = {cap.key: cap for cap in (*book.caps, *current.caps)}
    return replace(book, aggregates_since=since, caps=tuple(caps[key] for key in sorted(caps)), earlier={})


def with_earlier(current: Rulebook, books: Iterable[Rulebook]) -> Rulebook:
    """Return ``current`` with the earlier versions that running plays may be pinned to."""
    return replace(current, earlier={book.version: pinned_to(book, current) for book in books})
