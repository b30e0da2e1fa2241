"""Building journeys: from checked models to the core's definitions, with every name resolved.

Building never raises for what an author wrote: faults are reported, and the faulty part is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.core.condition import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    FieldValue,
    InSegment,
    Not,
    Op,
    Path,
    Root,
)
from orchestrator.core.definition import (
    LATENESS_DEFAULT_MS,
    Branch,
    ExitWhen,
    Journey,
    Limits,
    OnAbsence,
    OnDwell,
    OnEdit,
    OnEnter,
    OnEvent,
    OnLeave,
    OnSchedule,
    OnSequence,
    Rearm,
    Rule,
    Send,
    SequenceStep,
    SetTrait,
    Stage,
    StageOn,
    Step,
    Trigger,
    Wait,
)
from orchestrator.rulebook.build_conditions import ConditionBuilder
from orchestrator.rulebook.build_limits import LimitsBuilder, built_arbitrate, check_limit_sets, check_zone
from orchestrator.rulebook.build_plays import PlayBuilder
from orchestrator.rulebook.build_segments import build_segments
from orchestrator.rulebook.canonical import canonical_name
from orchestrator.rulebook.models import trigger as written
from orchestrator.rulebook.models.journey import JourneyHead, RulePart, StageDwell, StagePart
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.models.scalars import parsed_path
from orchestrator.rulebook.names import JourneySource, Names
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.send_templates import SendTemplates
from orchestrator.rulebook.span import WEEKDAYS
from orchestrator.rulebook.template import LiquidTemplate, Reads
from orchestrator.rulebook.tracking_plan import FRICTION_SCORED
from orchestrator.rulebook.trait_template import TraitTemplate


def built_journeys(names: Names, templates: SendTemplates) -> tuple[Journey, ...]:
    """Return every journey by id, with those of its rules that could be built."""
    build_segments(names)
    check_limit_sets(names)
    return tuple(_journey(source, names, templates) for _, source in sorted(names.journeys.items()))


def _journey(source: JourneySource, names: Names, templates: SendTemplates) -> Journey:
    head = source.head
    conditions = ConditionBuilder(names, head.journey)
    rules = [_RuleBuilder(head, part, names, templates).built() for part in source.rules]
    return Journey(
        id=head.journey,
        title=head.title or head.journey,
        stages=tuple(_stage(name, index, part, conditions) for index, (name, part) in enumerate(head.stages.items())),
        key=parsed_path(head.key) if head.key else None,
        reentry_after_ms=None if head.reentry is None else head.reentry.after,
        goal_window_ms=head.goal_window,
        rules=tuple(rule for rule in rules if rule is not None),
        on_edit=OnEdit(head.on_edit) if isinstance(head.on_edit, str) else OnEdit.MIGRATE,
        stage_map=() if isinstance(head.on_edit, str) else tuple(sorted(head.on_edit.items())),
    )


def _stage(name: str, index: int, part: StagePart, conditions: ConditionBuilder) -> Stage:
    entry = part.on
    if isinstance(entry, StageDwell):
        on = StageOn(dwell_ms=entry.dwell)
    else:
        on = StageOn(event=entry.event, where=conditions.where(entry, "where", entry.where))
    final = part.final if part.final is not None else part.goal or isinstance(entry, StageDwell)
    return Stage(
        name=name,
        index=index,
        on=on,
        goal=part.goal,
        final=final,
        value=parsed_path(part.value) if part.value else None,
        moment_of_truth=part.moment_of_truth,
        touchpoint=part.touchpoint,
        owner=part.owner,
    )


class _RuleBuilder:
    """Builds one rule."""

    def __init__(self, head: JourneyHead, part: RulePart, names: Names, templates: SendTemplates) -> None:
        self._head = head
        self._part = part
        self._names = names
        self._templates = templates
        self._conditions = ConditionBuilder(names, head.journey)

    def built(self) -> Rule | None:
        part, head = self._part, self._head
        trigger = self._trigger()
        when = self._conditions.built(part.when)
        program = PlayBuilder(self._names, self._conditions, self._templates, head.journey).built(part.do)
        exits = tuple(ExitWhen(one.event, self._conditions.where(one, "where", one.where)) for one in part.exit_when)
        limits = LimitsBuilder(self._names, part.id).built(part.limits)
        arbitrate = built_arbitrate(part.arbitrate, self._names, self._conditions, head.journey)
        if trigger is None:
            return None
        context = () if arbitrate is None else tuple(condition for condition, _ in arbitrate.context)
        return Rule(
            id=part.id,
            journey=head.journey,
            trigger=trigger,
            program=program,
            title=part.title,
            when=when,
            exit_when=exits,
            limits=limits,
            arbitrate=arbitrate,
            lateness_ms=LATENESS_DEFAULT_MS if part.lateness is None else part.lateness,
            captures=self._captures(trigger, (when, *context), program, limits),
            anytime=part.acts == "anytime",
            restart=part.restart,
        )

    # ------------------------------------------------------------------------------------------ trigger

    def _trigger(self) -> Trigger | None:
        match self._part.on:
            case written.EventTrigger() as on:
                return OnEvent(on.event, self._conditions.where(on, "where", on.where))
            case written.EnterTrigger() as on:
                return OnEnter(on.enter) if self._stage_is_known(on.enter, on, "enter") else None
            case written.LeaveTrigger() as on:
                return OnLeave(on.leave) if self._stage_is_known(on.leave, on, "leave") else None
            case written.DwellTrigger(dwell=dwell):
                known = self._stage_is_known(dwell.stage, dwell, "stage")
                return OnDwell(dwell.stage, dwell.for_) if known else None
            case written.AbsenceTrigger(absence=absence):
                return self._absence(absence)
            case written.SequenceTrigger(sequence=sequence):
                return self._sequence(sequence)
            case written.ScheduleTrigger(schedule=schedule):
                check_zone(self._names, schedule, schedule.zone)
                days = sorted({WEEKDAYS.index(day) for day in schedule.days})
                return OnSchedule(schedule.at, tuple(days), schedule.zone)
            case written.FrictionTrigger(friction=friction):
                return self._friction(friction)
            case other:
                raise AssertionError(f"no trigger: {other!r}")

    def _stage_is_known(self, stage: str, part: Part, key: str) -> bool:
        if stage in self._head.stages:
            return True
        self._names.report.error(part.origin, key, unknown("stage", stage, self._head.stages))
        return False

    def _absence(self, part: written.Absence) -> OnAbsence:
        after_where = self._conditions.where(part, "after_where", part.after_where)
        of_where = self._conditions.where(part, "of_where", part.of_where)
        same = parsed_path(part.same) if part.same else None
        rearm = Rearm(part.rearm)
        name = canonical_name("absence", part.after, part.of, part.for_, rearm, same, after_where, of_where)
        return OnAbsence(name, part.after, part.of, part.for_, rearm, same, after_where, of_where)

    def _sequence(self, part: written.Sequence) -> OnSequence | None:
        steps: list[SequenceStep] = []
        without: tuple[str, ...] = ()
        for one in part.steps:
            if isinstance(one, written.SequenceGap):
                without += tuple(one.not_)
                continue
            steps.append(SequenceStep(one.event, self._conditions.where(one, "where", one.where), without))
            without = ()
        if without or len(steps) < 2 or steps[0].without:
            message = "a sequence needs two events or more, and `not` stands between two of them"
            self._names.report.error(part.origin, "steps", message)
            return None
        same = parsed_path(part.same) if part.same else None
        return OnSequence(canonical_name("sequence", steps, part.within, same), tuple(steps), part.within, same)

    def _friction(self, part: written.Friction) -> OnEvent | None:
        """A crossing: the score that the engine reports has reached the threshold and was below it before."""
        if not self._stage_is_known(part.stage, part, "stage"):
            return None
        crossing = (
            Compare(Path(Root.EVENT, ("journey",)), Op.EQ, self._head.journey),
            Compare(Path(Root.EVENT, ("stage",)), Op.EQ, part.stage),
            Compare(Path(Root.EVENT, ("score",)), Op.GTE, part.over),
            Compare(Path(Root.EVENT, ("score_before",)), Op.LT, part.over, default=0),
        )
        return OnEvent(FRICTION_SCORED, AllOf(crossing))

    # ----------------------------------------------------------------------------------------- captures

    def _captures(
        self, trigger: Trigger, conditions: Iterable[Condition | None], program: tuple[Step, ...], limits: Limits
    ) -> tuple[str, ...]:
        """Return the event properties that anything reads after the triggering event has gone by."""
        paths: list[Path] = [path for condition in conditions for path in condition_paths(condition)]
        if self._head.key:
            paths.append(parsed_path(self._head.key))
        if isinstance(trigger, (OnAbsence, OnSequence)) and trigger.same is not None:
            paths.append(trigger.same)
        found = {path.parts[0] for path in paths if path.root is Root.EVENT}
        for step in program:
            found |= _step_captures(step)
        if _asks_local_time(limits, program):
            found |= _ZONE_FACTS
        return tuple(sorted(found))


#: Properties from which the core learns the customer's zone when the profile does not tell it.
_ZONE_FACTS = frozenset({"phone", "timezone"})


def _asks_local_time(limits: Limits, program: tuple[Step, ...]) -> bool:
    calendar = any(cap.period is not None for cap in limits.caps)
    waits = any(isinstance(step, Wait) and step.until_min is not None for step in program)
    return limits.quiet_hours is not None or calendar or waits


def _step_captures(step: Step) -> set[str]:
    match step:
        case Send():
            reads = step.template.reads if isinstance(step.template, LiquidTemplate) else Reads()
            return _read_captures(reads).union(*(_step_captures(one) for one in step.fallback))
        case SetTrait(text=TraitTemplate(text=text)):
            return _read_captures(text.reads)
        case Branch():
            return {path.parts[0] for path in condition_paths(step.when) if path.root is Root.EVENT}
        case Wait(until_path=Path(root=Root.EVENT) as path):
            return {path.parts[0]}
        case _:
            return set()


def _read_captures(reads: Reads) -> set[str]:
    """Return the properties of the event that a text reads, those that tell the customer's clock included."""
    own = {path[1] for path in reads.paths if path[0] == Root.EVENT.value and len(path) > 1}
    goes_by_clock = reads.local_time or any(path[0] == "customer" for path in reads.paths)
    return own | _ZONE_FACTS if goes_by_clock else own


def condition_paths(condition: Condition | None) -> Iterator[Path]:
    """Yield every field that a condition reads of the stimulus (not those that aggregates read of their events)."""
    match condition:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from condition_paths(part)
        case Not(part) | InSegment(_, part):
            yield from condition_paths(part)
        case Compare(path, _, value):
            yield path
            if isinstance(value, FieldValue):
                yield value.path
        case _:
            return
