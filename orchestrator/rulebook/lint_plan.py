"""Lint against the tracking plan: event types, properties, traits, and values that they can never have."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.condition import Op, Path, Root
from orchestrator.core.event import OUTCOMES, RECEIPTS
from orchestrator.rulebook.build_conditions import SCORES_TRAIT
from orchestrator.rulebook.condition_size import leaves
from orchestrator.rulebook.lint_templates import EventTypes, TemplateLint
from orchestrator.rulebook.meant_value import hint, meant_number
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models import trigger as triggers
from orchestrator.rulebook.models.journey import JourneyHead, RulePart, StageDwell
from orchestrator.rulebook.models.part import Part, shown
from orchestrator.rulebook.models.play import StepPart, WaitUntil
from orchestrator.rulebook.models.scalars import is_path, parsed_path
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import listed, unknown
from orchestrator.rulebook.send_templates import SendTemplates
from orchestrator.rulebook.template import is_template
from orchestrator.rulebook.tracking_plan import Property
from orchestrator.rulebook.value_fault import ORDERINGS, TYPE_WORDS, order_fault, path_in, value_fault

_OPS: Mapping[str, frozenset[Op]] = {
    "string": frozenset(Op),
    "number": frozenset(Op) - {Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES},
    "integer": frozenset(Op) - {Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES},
    "boolean": frozenset({Op.EQ, Op.NE, Op.IN, Op.NOT_IN, Op.EXISTS, Op.MISSING}),
    "array": frozenset({Op.CONTAINS, Op.EXISTS, Op.MISSING}),
    "object": frozenset({Op.EXISTS, Op.MISSING}),
}
_RUN_TYPES = {
    "stage": Property("string"),
    "key": Property("string"),
    "started_at": Property("integer"),
    "entered_at": Property("integer"),
}


def lint_plan(names: Names, templates: SendTemplates) -> None:
    """Check every name and value of the rulebook against the tracking plan."""
    linter = _PlanLint(names, templates)
    for segment in names.segments.values():
        linter.condition(segment.when, None)
    for template in names.templates.values():
        linter.templates.traits(template)
    for source in names.journeys.values():
        linter.journey(source.head)
        for rule in source.rules:
            linter.rule(source.head, rule)


class _PlanLint:
    def __init__(self, names: Names, templates: SendTemplates) -> None:
        self._names = names
        self.templates = TemplateLint(names, templates)
        self._plan = names.plan
        self._report = names.report

    # ------------------------------------------------------------------------------- journeys and rules

    def journey(self, head: JourneyHead) -> None:
        for stage in head.stages.values():
            if isinstance(stage.on, StageDwell):
                continue
            self._event(stage.on.event, stage.on, "event")
            self.condition(stage.on.where, (stage.on.event,))
            for key, owner, path in (("key", head, head.key), ("value", stage, stage.value)):
                if path is not None and not (key == "key" and self._tells_its_run(stage.on.event, path)):
                    self._property_of(path, owner, key, stage.on.event)

    def _tells_its_run(self, event: str, key: str) -> bool:
        """Return whether an event without the journey's key belongs to a run: that of the action that it tells of."""
        return event in OUTCOMES | RECEIPTS and self._plan.lacks(event, parsed_path(key).parts)

    def rule(self, head: JourneyHead, rule: RulePart) -> None:
        events = self._trigger(head, rule.on)
        self.condition(rule.when, events)
        if isinstance(rule.on, triggers.AbsenceTrigger):
            self._without_context(rule.when)
        for exit_event in rule.exit_when:
            self._event(exit_event.event, exit_event, "event")
            self.condition(exit_event.where, (exit_event.event,))
        self._steps(rule.do, events)
        if rule.arbitrate is not None and rule.arbitrate.context is not None:
            for lever in rule.arbitrate.context.levers:
                self.condition(lever.when, events)
                self._without_context(lever.when)

    def _trigger(self, head: JourneyHead, on: triggers.Trigger) -> EventTypes:
        """Check a trigger and return the events whose properties the rule can read."""
        match on:
            case triggers.EventTrigger():
                self._event(on.event, on, "event")
                self.condition(on.where, (on.event,))
                return (on.event,)
            case triggers.EnterTrigger():
                stage = head.stages.get(on.enter)
                return (stage.on.event,) if stage and isinstance(stage.on, triggers.EventTrigger) else ()
            case triggers.AbsenceTrigger(absence=absence):
                self._absence(absence, head)
                return (absence.after,)
            case triggers.SequenceTrigger(sequence=sequence):
                return self._sequence(sequence)
            case triggers.DwellTrigger() | triggers.ScheduleTrigger():
                return ()
            case _:
                return None

    def _absence(self, absence: triggers.Absence, head: JourneyHead) -> None:
        for key, event, where in (
            ("after", absence.after, absence.after_where),
            ("of", absence.of, absence.of_where),
        ):
            self._event(event, absence, key)
            self.condition(where, (event,))
            if absence.same is not None:
                self._property_of(absence.same, absence, "same", event)
            elif head.key is None or self._tells_its_run(event, head.key):
                continue
            elif self._plan.lacks(event, parsed_path(head.key).parts):
                message = f'{event} has no {head.key}, which ties it to a run; name another property with "same"'
                self._report.error(absence.origin, key, message)

    def _sequence(self, sequence: triggers.Sequence) -> EventTypes:
        events = []
        for step in sequence.steps:
            if isinstance(step, triggers.SequenceGap):
                for event in step.not_:
                    self._event(event, step, "not")
                continue
            self._event(step.event, step, "event")
            self.condition(step.where, (step.event,))
            events.append(step.event)
        return tuple(dict.fromkeys(events))

    def _steps(self, steps: list[StepPart], events: EventTypes) -> None:
        for step in steps:
            self.condition(step.if_, events)
            self._without_context(step.if_)
            if isinstance(step.wait, WaitUntil):
                self._until(step.wait, events)
            if step.wait_for is not None:
                self._event(step.wait_for.event, step.wait_for, "event")
                self.condition(step.wait_for.where, (step.wait_for.event,))
                self._steps(step.wait_for.else_, events)
            if step.set_trait:
                self._set_traits(step, events)
            for block in (step.do, step.then, step.else_):
                self._steps(block, events)
            for send in (step.send, *step.send.fallback) if step.send is not None else ():
                self.templates.send(send, events)

    def _until(self, waiting: WaitUntil, events: EventTypes) -> None:
        if not is_path(waiting.until):
            return  # A time of day; or neither, which is reported where the step is built.
        self._no_context(waiting.until, waiting, "until")
        declared = self._declared(waiting.until, waiting, "until", events)
        if declared is not None and declared.type not in ("string", "integer", "number"):
            self._report.error(
                waiting.origin, "until", f"{waiting.until} is {declared.type}; a moment is text or a number"
            )

    def _set_traits(self, step: StepPart, events: EventTypes) -> None:
        self.templates.set_traits(step, events)
        at = step.origin["set_trait"]
        for name, value in step.set_trait.items():
            declared = self._plan.traits.get(name)
            if isinstance(value, str) and is_template(value):
                continue  # Its type is known when it is rendered.
            if declared is not None and (fault := value_fault(declared, f"profile.{name}", value)):
                self._report.error(at, name, fault)

    # -------------------------------------------------------------------------------------- conditions

    def condition(self, part: written.Condition | None, events: EventTypes) -> None:
        """Check every leaf of a condition; ``events`` are those that ``event.`` may mean here."""
        for leaf in leaves(part):
            match leaf:
                case written.FieldCondition():
                    self._field(leaf, events)
                case written.CountCondition():
                    self._counted(leaf.count, leaf, "count", leaf.where)
                case written.SumCondition():
                    self._counted(leaf.sum, leaf, "sum", leaf.where)
                    self._summed(leaf)
                case written.SinceLastCondition():
                    self._counted(leaf.since_last, leaf, "since_last", leaf.where)
                case written.SinceFirstCondition():
                    self._counted(leaf.since_first, leaf, "since_first", leaf.where)
                case written.FirstCondition():
                    self._counted(leaf.first, leaf, "first", leaf.where)
                case written.ScoreCondition():
                    self._score(leaf)
                case _:
                    pass

    def _without_context(self, part: written.Condition | None) -> None:
        """Report what reads the context of an event when that is no longer known."""
        for leaf in leaves(part):
            if isinstance(leaf, written.FieldCondition):
                self._no_context(leaf.field, leaf, "field")
                if isinstance(leaf.value, written.OtherField):
                    self._no_context(leaf.value.field, leaf.value, "field")

    def _no_context(self, text: str, part: Part, key: str) -> None:
        if parsed_path(text).root is Root.CONTEXT:
            message = f"{text} is known only while its event is decided, and is not kept: send it as a property"
            self._report.error(part.origin, key, message)

    def _counted(self, event: str, part: Part, key: str, where: written.Condition | None) -> None:
        self._event(event, part, key)
        self.condition(where, (event,))

    def _summed(self, part: written.SumCondition) -> None:
        declared = self._property_of(part.of, part, "of", part.sum)
        if declared is not None and declared.type not in ("number", "integer"):
            self._report.error(part.origin, "of", f"{part.of} is {declared.type}; only numbers add up")

    def _field(self, part: written.FieldCondition, events: EventTypes) -> None:
        declared = self._declared(part.field, part, "field", events)
        if declared is None or declared.type not in _OPS:
            return
        op = Op(part.op)
        if isinstance(part.value, written.OtherField) and part.value.field == part.field:
            self._itself(part, part.value)
            return
        if op not in _OPS[declared.type]:
            allowed = listed((one.value for one in _OPS[declared.type]), most=20)
            message = f"{part.field} is {TYPE_WORDS.get(declared.type, f'an {declared.type}')}, which {part.op} cannot "
            self._report.error(part.origin, "op", f"{message}compare. Allowed: {allowed}.")
            return
        if isinstance(part.value, written.OtherField):
            self._other(part, declared, part.value, events)
            return
        if declared.type in ("array", "object") or op in (Op.EXISTS, Op.MISSING):
            return
        if declared.type == "string" and op in ORDERINGS:
            self._order(part)
        if "default" in part.origin and (fault := value_fault(declared, part.field, part.default, enum=False)):
            self._report.error(part.origin, "default", f"default: {fault}")
        checks_enum = op in (Op.EQ, Op.NE, Op.IN, Op.NOT_IN)
        for index, value in enumerate(part.value if isinstance(part.value, list) else [part.value]):
            at, key = (part.origin["value"], index) if isinstance(part.value, list) else (part.origin, "value")
            if fault := value_fault(declared, part.field, value, enum=checks_enum):
                self._report.error(at, key, fault)
            elif (path := path_in(value)) is not None:
                message = (
                    f"compares with the text {shown(value)} itself; write {{field: {path}}} for what that field holds"
                )
                self._report.warning(at, key, message)

    def _other(
        self, part: written.FieldCondition, own: Property, other: written.OtherField, events: EventTypes
    ) -> None:
        declared = self._declared(other.field, other, "field", events)
        if declared is None:
            return
        if declared.type == own.type == "string":
            if "times" in other.origin:
                self._report.error(other.origin, "times", f"{other.field} is text, which cannot be multiplied")
            elif Op(part.op) in ORDERINGS:
                self._report.warning(part.origin, "op", order_fault(part.field, part.op, None)[0])
        numbers = {"number", "integer"}
        if own.type != declared.type and not {own.type, declared.type} <= numbers:
            message = f"{part.field} is {own.type} and {other.field} is {declared.type}; they never compare"
            self._report.error(other.origin, "field", message)

    def _itself(self, part: written.FieldCondition, other: written.OtherField) -> None:
        if other.times == 1:
            answer = "always" if Op(part.op) in (Op.EQ, Op.LTE, Op.GTE) else "never"
            message = f"compares {part.field} with itself, which is {answer} true; name another field"
            self._report.error(other.origin, "field", message)
        else:
            message = f"compares {part.field} with {other.times:g} times itself, whatever it is; is that meant?"
            self._report.warning(other.origin, "field", message)

    def _order(self, part: written.FieldCondition) -> None:
        first = part.value[0] if isinstance(part.value, list) and part.value else part.value
        if not isinstance(first, str):
            return
        message, never = order_fault(part.field, part.op, first)
        report = self._report.error if never else self._report.warning
        report(part.origin, "value" if never else "op", message)

    def _score(self, part: written.ScoreCondition) -> None:
        self._names.known("trait", SCORES_TRAIT, part.origin, "score")
        given = part.value if isinstance(part.value, list) else [part.value]
        for value in given:
            if isinstance(value, (str, bool)):
                message = f"a score is a number, never {shown(value)}{hint(_share(value))}"
                self._report.error(part.origin, "value", message)

    # ------------------------------------------------------------------------------------------- names

    def _event(self, event: str, part: Part, key: str) -> None:
        self._names.known("event type", event, part.origin, key)

    def _declared(self, text: str, part: Part, key: str, events: EventTypes) -> Property | None:
        """Return what the plan says of a field, after reporting a field that cannot be there."""
        path = parsed_path(text)
        match path.root:
            case Root.PROFILE:
                if not self._names.known("trait", path.parts[0], part.origin, key):
                    return None
                return self._plan.traits[path.parts[0]].inside(path.parts[1:])
            case Root.EVENT:
                return self._event_property(text, path, part, key, events)
            case Root.RUN:
                return _RUN_TYPES.get(path.parts[0])
            case Root.CONTEXT:
                if events == ():
                    self._report.warning(part.origin, key, f"{text} is never there: no event sets this rule off")
                return None

    def _event_property(self, text: str, path: Path, part: Part, key: str, events: EventTypes) -> Property | None:
        if events is None:
            return None
        if not events:
            self._report.error(part.origin, key, f"{text} is never there: no event sets this rule off")
            return None
        found = [one for event in events if (one := self._plan.property_of(event, path.parts)) is not None]
        if found:
            return found[0] if len(found) == 1 else None
        if all(self._plan.lacks(event, path.parts) for event in events):
            known = {name for event in events for name in self._plan.described[event].properties}
            names = " or ".join(events)
            message = unknown(f"property of {names}", path.parts[0], known)
            self._report.error(part.origin, key, message)
        return None

    def _property_of(self, text: str, part: Part, key: str, event: str) -> Property | None:
        path = parsed_path(text)
        if self._plan.lacks(event, path.parts):
            known = self._plan.described[event].properties
            self._report.error(part.origin, key, unknown(f"property of {event}", path.parts[0], known))
        return self._plan.property_of(event, path.parts)


def _share(value: object) -> str:
    """Return a percentage as the share that it is, another numeral as it is."""
    number = meant_number(value)
    return f"{float(number) / 100:g}" if number and str(value).strip().endswith("%") else number
