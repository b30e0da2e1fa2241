"""The casebook: runs the cases beside the rules through the production core, and says what no case reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from orchestrator.core.action import Action
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import HOLDOUT, Rule, Send, SetConsent, SetStage, SetTrait, Split, Wait, WaitFor
from orchestrator.core.event import Event
from orchestrator.core.limit import zones_of
from orchestrator.core.reason import Reason
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.rulebook.cases import CaseDefinition, CaseEvent, CaseFile, ExpectedDecision
from orchestrator.rulebook.tracking_plan import TrackingPlan
from orchestrator.runtime.case_text import (
    CameAction,
    CaseClock,
    action_text,
    decision_text,
    differing,
    expected_text,
    record_text,
    step_text,
    why_nothing,
)
from orchestrator.runtime.deliveries import receipts_in
from orchestrator.runtime.replay import Replayed, replay


@dataclass(frozen=True, slots=True)
class Difference:
    """What a case expected and what came instead, at the line of the expectation."""

    line: int
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case that was run."""

    case: CaseDefinition
    differences: tuple[Difference, ...]
    records: tuple[DecisionRecord, ...]

    @property
    def passed(self) -> bool:
        """Return whether everything came as expected."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the cases reach. ``unreached`` names rules, and branches of rules that are reached otherwise."""

    rules: int
    rules_reached: int
    branches: int
    branches_reached: int
    unreached: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reached:
    rules: set[str] = field(default_factory=set)
    branches: Counter[tuple[str, str]] = field(default_factory=Counter)


def run_cases(rulebook: Rulebook, plan: TrackingPlan, files: Iterable[CaseFile]) -> Iterator[CaseResult]:
    """Run every case of the files, in order."""
    for file in files:
        for case in file.cases:
            yield run_case(rulebook, plan, case)


def run_case(rulebook: Rulebook, plan: TrackingPlan, case: CaseDefinition) -> CaseResult:
    """Run one case on a virtual clock."""
    events = [_event(case.customer.id, one) for one in case.events]
    refused = tuple(_refusals(plan, case, events))
    if refused:
        return CaseResult(case, refused, ())
    start_ms = case.events[0].received_at_ms
    state = CustomerState(
        first_seen_ms=start_ms,
        traits={name: (value, 0) for name, value in case.customer.traits.items()},
        consents={purpose: (given, 0) for purpose, given in case.customer.consents.items()},
    )
    log = sorted(events, key=lambda event: event.received_at_ms)
    done = replay(rulebook, log, until_ms=case.until_ms, states={case.customer.id: state}, told=receipts_in(log))
    differences = (
        *_failures(case, done),
        *_action_differences(rulebook, case, done, _clock_of(case, done)),
        *_stage_differences(case, done),
        *_decision_differences(case, done.records),
    )
    return CaseResult(case, differences, tuple(done.records))


def _event(customer_id: str, one: CaseEvent) -> Event:
    return Event(
        id=one.id,
        type=one.type,
        customer_id=customer_id,
        occurred_at_ms=one.at_ms,
        received_at_ms=one.received_at_ms,
        properties=dict(one.properties),
        context=dict(one.context),
        source="case",
    )


def _refusals(plan: TrackingPlan, case: CaseDefinition, events: Sequence[Event]) -> Iterator[Difference]:
    for one, event in zip(case.events, events, strict=True):
        refused = plan.check(event.type, event.properties)
        if refused is not None:
            yield Difference(one.line, f"an acceptable {one.type}", f"{refused} {refused.remedy}")


def _failures(case: CaseDefinition, done: Replayed) -> Iterator[Difference]:
    for failure in done.failures:
        yield Difference(case.line, "a decision", failure.message)


# ------------------------------------------------------------------------------------------- comparison


def _clock_of(case: CaseDefinition, done: Replayed) -> CaseClock:
    zones = zones_of(done.states[case.customer.id], "profile", {})
    return CaseClock(case.events[0].at_ms, zones[0] if zones else None)


def _action_differences(
    rulebook: Rulebook, case: CaseDefinition, done: Replayed, clock: CaseClock
) -> Iterator[Difference]:
    """Compare actions in order: every expected one must come, and no other."""
    wanted = case.expect.actions
    if wanted is None:
        return
    came = [CameAction(action, template_of(rulebook, action)) for action in done.actions]
    for number, expected in enumerate(wanted):
        if number >= len(came):
            yield Difference(expected.line, expected_text(expected, clock), why_nothing(expected, done.records))
            continue
        missed, got = differing(expected, came[number], clock)
        if missed:
            yield Difference(expected.line, missed, got)
    for extra in came[len(wanted) :]:
        yield Difference(case.line, "nothing more", action_text(extra, clock))


def template_of(rulebook: Rulebook, action: Action) -> str:
    """Return the name of the template that rendered an action, or ''."""
    rule = rulebook.rules.get(action.rule)
    sends = (
        [] if rule is None else [one for step in rule.program if isinstance(step, Send) for one in with_fallbacks(step)]
    )
    return next((send.template.name for send in sends if send.step == action.step), "")


def with_fallbacks(send: Send) -> Iterator[Send]:
    """Yield a send and what may go out in its place, in order."""
    yield send
    for fallback in send.fallback:
        yield from with_fallbacks(fallback)


def _stage_differences(case: CaseDefinition, done: Replayed) -> Iterator[Difference]:
    runs = done.states[case.customer.id].runs
    for name, stage in case.expect.stages.items():
        key = name if "/" in name else f"{name}/"
        got = runs[key].stage if key in runs else "no run"
        if got != stage:
            yield Difference(case.line, f"{name} in stage {stage}", got)


def _decision_differences(case: CaseDefinition, records: Sequence[DecisionRecord]) -> Iterator[Difference]:
    """Every expected decision must have been made; others may have been made as well."""
    for expected in case.expect.decisions:
        if not any(_decided(expected, record) for record in records):
            got = "\n".join(dict.fromkeys(record_text(one) for one in records if _concerns(expected, one)))
            yield Difference(expected.line, decision_text(expected), got or "no decision")


def _concerns(expected: ExpectedDecision, record: DecisionRecord) -> bool:
    return expected.rule in {None, record.rule}


def _decided(expected: ExpectedDecision, record: DecisionRecord) -> bool:
    return (
        _concerns(expected, record)
        and expected.outcome in {None, record.outcome.value}
        and expected.reason in {None, record.reason.value}
    )


# -------------------------------------------------------------------------------------------- coverage


def coverage_of(rulebook: Rulebook, results: Iterable[CaseResult]) -> Coverage:
    """Return which rules and branches the cases reach. A branch is a step that acts or waits, or a holdout arm."""
    reached = _Reached()
    for result in results:
        for record in result.records:
            reached.rules.add(record.rule)
            reached.branches[record.rule, _branch(record)] += 1
    wanted = {(rule.id, name): text for rule in rulebook.rules.values() for name, text in _branches(rule)}
    missing_rules = sorted(set(rulebook.rules) - reached.rules)
    missing = sorted(one for one in wanted if one not in reached.branches and one[0] in reached.rules)
    return Coverage(
        rules=len(rulebook.rules),
        rules_reached=len(rulebook.rules) - len(missing_rules),
        branches=len(wanted),
        branches_reached=len(wanted.keys() & reached.branches.keys()),
        unreached=(
            *(f"rule {rule}" for rule in missing_rules),
            *(f"rule {rule}, {wanted[rule, name]}" for rule, name in missing),
        ),
    )


def _branch(record: DecisionRecord) -> str:
    if record.reason is Reason.HOLDOUT:
        return f"arm {HOLDOUT}"
    return f"step {record.step}"


def _branches(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield the branches of a rule: a name, and what people call it. A line of the ledger tells each."""
    for step in rule.program:
        match step:
            case Send() | Wait() | WaitFor() | SetTrait() | SetConsent() | SetStage():
                yield f"step {step.step}", f"{step_text(step)} (step {step.step})"
            case Split() if any(arm == HOLDOUT for arm, _ in step.arms):
                yield f"arm {HOLDOUT}", f"arm {HOLDOUT}"
            case _:
                continue
