"""Cases for people: what a case expected and what came instead, in the customer's zone, and steps by what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never
from zoneinfo import ZoneInfo

from orchestrator.core.action import Action
from orchestrator.core.compare import same
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import (
    Branch,
    Case,
    Exit,
    Jump,
    Send,
    SetStage,
    SetTrait,
    Split,
    Step,
    Wait,
    WaitFor,
)
from orchestrator.core.moment import aware_moment
from orchestrator.core.reason import Outcome
from orchestrator.rulebook.cases import ExpectedAction, ExpectedDecision
from orchestrator.rulebook.span import shown_clock, shown_span
from orchestrator.runtime.wording import condition_text, value_text


@dataclass(frozen=True, slots=True)
class CaseClock:
    """Shows the moments of a case in ``zone``, that of its customer (None: UTC), and since its first event."""

    start_ms: int
    zone: ZoneInfo | None

    def text(self, at_ms: int) -> str:
        """Return ``2026-03-02 10:32:00 Asia/Kolkata (+32m)``."""
        moment = aware_moment(at_ms) if self.zone is None else aware_moment(at_ms).astimezone(self.zone)
        since = f"+{shown_span(at_ms - self.start_ms)}" if at_ms >= self.start_ms else "before the first event"
        fraction = f".{at_ms % 1000:03d}" if at_ms % 1000 else ""
        return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} {'UTC' if self.zone is None else self.zone.key} ({since})"


# ---------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class CameAction:
    """An action as it came, with the name of the template that rendered it."""

    action: Action
    template: str


def action_text(came: CameAction, clock: CaseClock) -> str:
    """Return what an action does, for whom nothing like it was expected."""
    action = came.action
    if action.cancel:
        return f"withdraw the action of {action.rule} at {clock.text(action.decided_at)}: {action.reason}"
    arm = f", arm {action.variant}" if action.variant else ""
    lines = [f"send {action.connector} {came.template} by {action.rule}{arm}", f"at {clock.text(action.decided_at)}"]
    return "\n".join([*lines, *_param_lines(action.params)])


def expected_text(expected: ExpectedAction, clock: CaseClock) -> str:
    """Return all that a case says of an action."""
    words = [
        "withdraw the action" if expected.cancel else "send",
        expected.connector or "",
        expected.template or "",
        f"of kind {expected.kind}" if expected.kind else "",
        f"by {expected.rule}" if expected.rule else "",
        f"arm {expected.variant}" if expected.variant else "",
    ]
    lines = [" ".join(word for word in words if word)]
    if expected.at_ms is not None:
        lines.append(f"at {clock.text(expected.at_ms)}")
    return "\n".join([*lines, *_param_lines(expected.params or {})])


def _param_lines(params: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {value_text(value)}" for name, value in params.items()]


def differing(expected: ExpectedAction, came: CameAction, clock: CaseClock) -> tuple[str, str]:
    """Return what was expected and what came, of that alone in which they differ; '' twice when they agree."""
    rows = list(_differing_rows(expected, came, clock))
    return "\n".join(wanted for wanted, _ in rows), "\n".join(got for _, got in rows)


def _differing_rows(expected: ExpectedAction, came: CameAction, clock: CaseClock) -> Iterator[tuple[str, str]]:
    action = came.action
    if expected.cancel != action.cancel:
        yield expected_text(expected, clock), action_text(came, clock)
        return
    named = (
        ("connector", expected.connector, action.connector),
        ("template", expected.template, came.template),
        ("kind", expected.kind, action.kind),
        ("rule", expected.rule, action.rule),
        ("variant", expected.variant, action.variant),
    )
    for name, wanted, got in named:
        if wanted not in {None, got}:
            yield f"{name}: {wanted}", f"{name}: {got or 'none'}"
    if expected.at_ms not in {None, action.decided_at}:
        assert expected.at_ms is not None
        yield f"at {clock.text(expected.at_ms)}", f"at {clock.text(action.decided_at)}"
    for name, value in (expected.params or {}).items():
        yield from _differing_values(name, value, action.params.get(name))


def _differing_values(path: str, wanted: Any, got: Any) -> Iterator[tuple[str, str]]:
    """Yield the values that differ, those within objects and lists by their path."""
    if same(got, wanted) or (got is None and wanted is None):
        return
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        for name in [*wanted, *(one for one in got if one not in wanted)]:
            yield from _differing_values(f"{path}.{name}", wanted.get(name), got.get(name))
    elif isinstance(wanted, Sequence) and isinstance(got, Sequence) and not isinstance(wanted, str):
        for place in range(max(len(wanted), len(got))):
            yield from _differing_values(f"{path}[{place}]", _at(wanted, place), _at(got, place))
    else:
        yield f"{path}: {_value(wanted)}", f"{path}: {_value(got)}"


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def _value(value: Any) -> str:
    return "nothing" if value is None else value_text(value)


# -------------------------------------------------------------------------------------------- decisions


def decision_text(expected: ExpectedDecision) -> str:
    """Return all that a case says of a decision."""
    return ", ".join(word for word in (expected.rule, expected.outcome, expected.reason) if word)


def record_text(record: DecisionRecord) -> str:
    """Return what was decided of a rule, in the words of a case."""
    return f"{record.rule}: {record.outcome.value}, {record.reason.value}"


def why_nothing(expected: ExpectedAction, records: Sequence[DecisionRecord]) -> str:
    """Return "nothing" with the latest decision that sent nothing, if there is one of the rule that was expected."""
    held = [one for one in records if one.outcome is not Outcome.SENT and expected.rule in {None, one.rule}]
    return f"nothing ({record_text(held[-1])})" if held else "nothing"


# ------------------------------------------------------------------------------------------------ steps


def step_text(step: Step) -> str:
    """Return what a step does, as its author would say it."""
    match step:
        case Send():
            return f"send {step.connector} {step.template.name}".rstrip()
        case Wait():
            return f"wait {_wait_text(step)}"
        case WaitFor():
            return f"wait for {step.event} within {shown_span(step.within_ms)}"
        case Branch():
            return f"if {condition_text(step.when)}"
        case Split():
            return f"split {step.id}"
        case Case():
            return f"case {step.arm}"
        case SetTrait():
            return f"set trait {step.trait}"
        case SetStage():
            return f"set stage {step.stage}"
        case Exit():
            return "exit"
        case Jump():
            return "go on"
        case _:
            assert_never(step)


def _wait_text(step: Wait) -> str:
    if step.until_path is not None:
        sign = "-" if step.for_ms < 0 else "+"
        return f"until {step.until_path}" + (f" {sign}{shown_span(abs(step.for_ms))}" if step.for_ms else "")
    return shown_span(step.for_ms) if step.until_min is None else f"until {shown_clock(step.until_min)}"
