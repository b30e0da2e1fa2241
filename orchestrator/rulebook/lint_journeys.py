"""Lint of journeys: stages that nothing reaches, rules that something of their own silences, ids used twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.core.definition import HOLDOUT
from orchestrator.rulebook.build_limits import limit_layers
from orchestrator.rulebook.lint_connectors import sends_of
from orchestrator.rulebook.models.journey import JourneyHead, RulePart, StageDwell
from orchestrator.rulebook.models.limit import CapPart, LimitsPart
from orchestrator.rulebook.models.play import StepPart
from orchestrator.rulebook.models.trigger import AbsenceTrigger, EventTrigger
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.source import Map
from orchestrator.rulebook.span import shown_span


def lint_journeys(names: Names) -> None:
    """Check every journey on its own, and all rules of the rulebook together."""
    for source in names.journeys.values():
        _Stages(names, source.head).check()
        for rule in source.rules:
            _RuleLint(names, rule).check()
    rules = [rule for source in names.journeys.values() for rule in source.rules]
    _unique_ids(names, rules)
    _slots(names, rules)
    _splits(names, rules)


class _Stages:
    """A run only moves forward, and an event enters the last stage that it fits."""

    def __init__(self, names: Names, head: JourneyHead) -> None:
        self._report = names.report
        self._head = head

    def check(self) -> None:
        self._migration()
        stages = self._head.stages
        at: Map = self._head.origin["stages"]
        if not any(isinstance(stage.on, EventTrigger) for stage in stages.values()):
            self._report.error(at, None, "no stage is entered by an event, so no run ever starts")
            return
        takers = self._takers()
        dwelling: tuple[str, int] | None = None
        for name, stage in stages.items():
            if isinstance(stage.on, StageDwell):
                if dwelling is not None and dwelling[1] <= stage.on.dwell:
                    message = f'never reached: a run that has not moved is in "{dwelling[0]}" by then, which is final'
                    self._report.error(at, name, message)
                if stage.final is not False and dwelling is None:
                    dwelling = (name, stage.on.dwell)
                continue
            if name in takers:
                later = takers[name]
                message = f'never reached: {stage.on.event} always moves the run on to "{later}", which comes later'
                self._report.error(at, name, message)

    def _migration(self) -> None:
        """Stages that are gone lead to stages that are here; so a migration may stay in the file for good."""
        if isinstance(self._head.on_edit, str):
            return
        at: Map = self._head.origin["on_edit"]["migrate"]
        for gone, taker in self._head.on_edit.items():
            if gone in self._head.stages:
                self._report.error(at, gone, f'"{gone}" is still a stage of this journey; migrate stages that are gone')
            if taker not in self._head.stages:
                self._report.error(at, gone, unknown("stage", taker, self._head.stages))

    def _takers(self) -> dict[str, str]:
        """Return the next later stage that takes every event a stage would take, for each stage that has one."""
        takers: dict[str, str] = {}
        ahead: dict[tuple[str, str], tuple[int, str]] = {}
        for place, (name, stage) in reversed(list(enumerate(self._head.stages.items()))):
            on = stage.on
            if not isinstance(on, EventTrigger):
                continue
            any_of, own = (on.event, repr(None)), (on.event, repr(on.where))
            if found := [ahead[key] for key in (any_of, own) if key in ahead]:
                takers[name] = min(found)[1]
            ahead[own] = (place, name)
        return takers


#: The longest that a calendar period can be.
_CALENDAR_MS = {"day": 25 * 3_600_000, "week": 169 * 3_600_000, "month": (31 * 24 + 1) * 3_600_000}


class _RuleLint:
    def __init__(self, names: Names, rule: RulePart) -> None:
        self._names = names
        self._report = names.report
        self._rule = rule

    def check(self) -> None:
        self._exits()
        self._caps()
        self._steps(self._rule.do)

    def _exits(self) -> None:
        on = self._rule.on
        for exit_event in self._rule.exit_when:
            if exit_event.where is not None:
                continue
            if isinstance(on, EventTrigger) and on.event == exit_event.event:
                message = f"{on.event} sets the rule off and ends it at once; exit on another event"
                self._report.error(exit_event.origin, "event", message)
            elif isinstance(on, AbsenceTrigger) and on.absence.after == exit_event.event:
                message = f"{exit_event.event} starts the wait of this rule and ends its play; is that meant?"
                self._report.warning(exit_event.origin, "event", message)

    def _caps(self) -> None:
        for part in limit_layers(self._rule.limits, self._names):
            for cap in part.cap:
                if cap.max == 0:
                    self._report.error(cap.origin, "max", "a cap of 0 lets the rule never act; delete the rule instead")
                elif part is self._rule.limits:
                    self._loose(part, cap)

    def _loose(self, limits: LimitsPart, cap: CapPart) -> None:
        """A cap that the cooldown keeps the rule below does nothing."""
        cooldown_ms = next((layer.cooldown for layer in limit_layers(limits, self._names) if layer.cooldown), None)
        if cap.of != "rule" or cooldown_ms is None:
            return
        span_ms = cap.per if isinstance(cap.per, int) else _CALENDAR_MS[cap.per]
        sends = sum(1 for _ in sends_of(self._rule.do))
        possible = -(-span_ms // cooldown_ms) * sends
        if cap.max > possible or (cap.max == possible and cooldown_ms >= span_ms):
            window = shown_span(span_ms) if isinstance(cap.per, int) else f"a {cap.per}"
            message = f"never reached: a cooldown of {shown_span(cooldown_ms)} allows at most {possible} in {window}"
            self._report.warning(cap.origin, "max", message)

    def _steps(self, steps: list[StepPart]) -> None:
        for index, step in enumerate(steps):
            if step.exit and step.case is None and index + 1 < len(steps):
                self._report.warning(steps[index + 1].origin, None, "never reached: the step before ends the play")
            inner = [] if step.wait_for is None else step.wait_for.else_
            for block in (step.do, step.then, step.else_, inner):
                self._steps(block)
            if step.split is not None:
                self._arms(step, steps[index + 1 :])

    def _arms(self, split: StepPart, after: list[StepPart]) -> None:
        """An arm for which nothing is done is a second holdout, which is hardly meant."""
        named = {step.case for step in _flat(after)}
        if any(step.case is None for step in after):
            return
        for arm in split.split or {}:
            if arm not in ("id", HOLDOUT) and arm not in named:
                message = f'nothing happens in the arm "{arm}": no later step has `case: {arm}`'
                self._report.warning(split.origin["split"], arm, message)


def _flat(steps: Iterable[StepPart]) -> Iterator[StepPart]:
    for step in steps:
        yield step
        inner = [] if step.wait_for is None else step.wait_for.else_
        for block in (step.do, step.then, step.else_, inner):
            yield from _flat(block)


# --------------------------------------------------------------------------------------------- across rules


def _unique_ids(names: Names, rules: Iterable[RulePart]) -> None:
    first: dict[str, RulePart] = {}
    for rule in rules:
        earlier = first.setdefault(rule.id, rule)
        if earlier is not rule:
            place = f"{earlier.origin.file}:{earlier.origin.line_of('id')}"
            message = f'the rule id "{rule.id}" is already used in {place}; ids are unique in the rulebook'
            names.report.error(rule.origin, "id", message)


def _slots(names: Names, rules: Iterable[RulePart]) -> None:
    """Two rules that compete with the same constant score are decided by their ids, which is hardly meant."""
    first: dict[tuple[str, float], RulePart] = {}
    for rule in rules:
        bid = rule.arbitrate
        if bid is None or not isinstance(bid.propensity, float) or bid.context is not None:
            continue
        score = bid.value * bid.weight * bid.propensity
        earlier = first.setdefault((bid.slot, score), rule)
        if earlier is not rule:
            message = (
                f'competes with rule "{earlier.id}" for the slot "{bid.slot}" with the same score {score:g};'
                " the id decides. Give one of them another value or weight"
            )
            names.report.warning(bid.origin, "slot", message)


def _splits(names: Names, rules: Iterable[RulePart]) -> None:
    """A split's id names an experiment: with other arms in another rule, a customer would be in two at once."""
    first: dict[str, tuple[RulePart, StepPart]] = {}
    for rule in rules:
        for step in _flat(rule.do):
            if step.split is None:
                continue
            earlier = first.setdefault(step.split["id"], (rule, step))
            if earlier[1].split != step.split:
                message = f'the split "{step.split["id"]}" has other arms in rule "{earlier[0].id}"; give it another id'
                names.report.error(step.origin["split"], "id", message)
