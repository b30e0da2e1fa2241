"""How far a rule's trigger has come for a customer: never, armed, due, or prevented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from orchestrator.core.definition import (
    OnAbsence,
    OnDwell,
    OnEnter,
    OnEvent,
    OnLeave,
    OnSchedule,
    OnSequence,
    Rule,
)
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook, Watch
from orchestrator.core.run import again_from, last_of
from orchestrator.core.state import Arm, CustomerState
from orchestrator.runtime.explanation import TriggerLine
from orchestrator.runtime.wording import ended_text, moment_text, trigger_text


def trigger_line(rulebook: Rulebook, rule: Rule, state: CustomerState, events: Sequence[Event]) -> TriggerLine:
    """Return the trigger of a rule in words; ``events`` are those that are known, in log order."""
    state_text, due_at_ms = _progress(rulebook, rule, state, events)
    return TriggerLine(trigger_text(rule.trigger), state_text + _shut(rulebook, rule, state), due_at_ms)


def _shut(rulebook: Rulebook, rule: Rule, state: CustomerState) -> str:
    """Return that the rule cannot act since its run has ended; '' when one is open, or the rule acts anytime."""
    journey = rulebook.journeys.get(rule.journey)
    run = last_of(journey, state, f"{rule.journey}/")
    if rule.anytime or run is None or not run.ended_at:
        return ""
    return f"; {ended_text(run.ended_at, again_from(journey, run))}"


Progress = tuple[str, int | None]


def _progress(rulebook: Rulebook, rule: Rule, state: CustomerState, events: Sequence[Event]) -> Progress:
    trigger = rule.trigger
    match trigger:
        case OnEvent(event=event):
            return _seen(event, events), None
        case OnEnter(stage) | OnLeave(stage):
            return _stages(rule, stage, state), None
        case OnDwell(stage):
            due_ms = _timer(state, f"dwell|{rule.id}|")
            text = _stages(rule, stage, state)
            return (text, None) if due_ms is None else (f"{text}, due at {moment_text(due_ms)}", due_ms)
        case OnAbsence():
            return _absence(rulebook, rule, trigger, state, events)
        case OnSequence():
            return _sequence(trigger, events), None
        case OnSchedule():
            due_ms = _timer(state, f"schedule|{rule.id}|")
            if due_ms is None:
                return "no run is open, or nobody knows the customer's time zone", None
            return f"due at {moment_text(due_ms)}", due_ms
        case _:
            assert_never(trigger)


def _last(event_type: str, events: Sequence[Event]) -> Event | None:
    return next((event for event in reversed(events) if event.type == event_type), None)


def _seen(event_type: str, events: Sequence[Event]) -> str:
    last = _last(event_type, events)
    return f"no {event_type} was seen" if last is None else f"{event_type} was last seen at {_when(last)}"


def _when(event: Event) -> str:
    return moment_text(event.occurred_at_ms)


def _timer(state: CustomerState, prefix: str) -> int | None:
    return min((due_ms for timer, due_ms in state.timers.items() if timer.startswith(prefix)), default=None)


def _stages(rule: Rule, stage: str, state: CustomerState) -> str:
    runs = [run for key, run in state.runs.items() if key.startswith(rule.journey + "/")]
    if not runs:
        return f"no run of {rule.journey} has begun"
    newest = max(runs, key=lambda run: (not run.ended_at, run.stage == stage, run.entered_at))
    return f"the run has been in stage {newest.stage} since {moment_text(newest.entered_at)}"


def _sequence(trigger: OnSequence, events: Sequence[Event]) -> str:
    missing = [step.event for step in trigger.steps if _last(step.event, events) is None]
    if missing:
        return f"no {' and no '.join(dict.fromkeys(missing))} was seen"
    steps = ", ".join(
        f"{event.type} at {_when(event)}" for step in trigger.steps if (event := _last(step.event, events))
    )
    return f"last seen: {steps}"


# ------------------------------------------------------------------------------------------------- absences


def _absence(
    rulebook: Rulebook, rule: Rule, trigger: OnAbsence, state: CustomerState, events: Sequence[Event]
) -> Progress:
    watch = next(one for one in rulebook.watches.values() if any(each.id == rule.id for each in one.group.rules))
    arms = {key: arm for key, arm in state.arms.items() if key.startswith(watch.name + "|") and arm.armed_at}
    waiting = {key: arm for key, arm in arms.items() if f"absence|{key}" in state.timers}
    if waiting:
        soonest = min(waiting.values(), key=lambda arm: arm.due_at)
        others = f" ({len(waiting) - 1} more after it)" if len(waiting) > 1 else ""
        return f"armed by {trigger.after} at {moment_text(soonest.armed_at)}, {_due(soonest)}{others}", soonest.due_at
    if arms:
        return _settled(trigger, max(arms.values(), key=lambda arm: (arm.armed_at, arm.cause))), None
    return _unarmed(watch, trigger, events), None


def _due(arm: Arm) -> str:
    return f"due at {moment_text(arm.due_at)}"


def _settled(trigger: OnAbsence, arm: Arm) -> str:
    begun = f"{trigger.after} at {moment_text(arm.armed_at)}"
    if arm.prevented_at >= arm.armed_at:
        return f"{begun} was followed by {trigger.of} at {moment_text(arm.prevented_at)}"
    if arm.fired_by:
        return f"{begun} was not followed by {trigger.of} until {moment_text(arm.due_at)}"
    return f"{begun} is no longer watched: its run ended"


def _unarmed(watch: Watch, trigger: OnAbsence, events: Sequence[Event]) -> str:
    last = _last(trigger.after, events)
    if last is None:
        return f"no {trigger.after} was seen"
    late = last.received_at_ms - last.occurred_at_ms > watch.lateness_ms
    because = "it came too late" if late else f"{trigger.of} had come already, or what ties the two together is missing"
    return f"{trigger.after} at {_when(last)} did not arm it: {because}"
