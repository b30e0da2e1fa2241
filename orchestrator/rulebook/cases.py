"""Cases: the tests that stand beside the rules, as facts with absolute moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.core.reason import Reason
from orchestrator.rulebook.gather import plain
from orchestrator.rulebook.models.case import CasePart, CasesFile, CustomerPart, ExpectPart
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.problem import Report, unknown
from orchestrator.rulebook.reading import read_part
from orchestrator.rulebook.source import Map
from orchestrator.rulebook.span import parsed_span_ms


@dataclass(frozen=True, slots=True)
class CaseCustomer:
    """Who the case is about; traits and consents hold from before the first event."""

    id: str
    traits: Mapping[str, Any]
    consents: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class CaseEvent:
    """One event. Moments are epoch milliseconds; ``received_at_ms`` is when the log takes it."""

    at_ms: int
    received_at_ms: int
    type: str
    properties: Mapping[str, Any]
    context: Mapping[str, Any]
    line: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedAction:
    """What an action must match; None (or no params) matches anything."""

    line: int
    connector: str | None = None
    rule: str | None = None
    template: str | None = None
    kind: str | None = None
    at_ms: int | None = None
    variant: str | None = None
    params: Mapping[str, Any] | None = None
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedDecision:
    """What a line of the ledger must match; None matches anything."""

    line: int
    rule: str | None = None
    outcome: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come of a case. ``actions`` None leaves them unchecked; ``stages`` are by ``journey/key``."""

    actions: tuple[ExpectedAction, ...] | None
    stages: Mapping[str, str]
    decisions: tuple[ExpectedDecision, ...]


@dataclass(frozen=True, slots=True)
class CaseDefinition:
    """One example: a customer, events, how far the clock runs, and what must come of it."""

    name: str
    file: str
    line: int
    customer: CaseCustomer
    events: tuple[CaseEvent, ...]
    until_ms: int
    expect: Expectation


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The cases of one file, in order."""

    file: str
    cases: tuple[CaseDefinition, ...]


def read_cases(source: Map, report: Report) -> CaseFile | None:
    """Return the cases of a file, or None after reporting what is wrong with it."""
    file = read_part(CasesFile, source, report)
    if file is None:
        return None
    before = len(report.problems)
    cases = tuple(_case(part, report) for part in file.cases)
    named: dict[str, CasePart] = {}
    for part in file.cases:
        if part.case in named:
            report.error(part.origin, "case", f'another case is called "{part.case}"; give it a name of its own')
        named[part.case] = part
    return CaseFile(source.file, cases) if len(report.problems) == before else None


def _case(part: CasePart, report: Report) -> CaseDefinition:
    events: list[CaseEvent] = []
    for number, one in enumerate(part.events, start=1):
        base = events[-1].at_ms if events else None
        at_ms = _moment(one.at, base, one, "at", report)
        received = at_ms if one.received is None else _moment(one.received, at_ms, one, "received", report)
        if received < at_ms:
            report.error(one.origin, "received", "an event cannot be received before it happened")
        facts = plain(one.properties), plain(one.context)
        events.append(CaseEvent(at_ms, received, one.type, *facts, one.origin.line, one.id or f"event-{number}"))
    start = events[0].at_ms
    until = max(event.received_at_ms for event in events)
    if part.until is not None:
        until = _moment(part.until, start, part, "until", report)
    return CaseDefinition(
        name=part.case,
        file=part.origin.file,
        line=part.origin.line,
        customer=_customer(part.customer),
        events=tuple(events),
        until_ms=until,
        expect=_expectation(part.expect, start, report),
    )


def _customer(part: CustomerPart | None) -> CaseCustomer:
    if part is None:
        return CaseCustomer("customer", {}, {})
    return CaseCustomer(part.id, plain(part.traits), dict(part.consents))


def _expectation(part: ExpectPart, start: int, report: Report) -> Expectation:
    actions = None
    if part.actions is not None:
        actions = tuple(
            ExpectedAction(
                line=one.origin.line,
                connector=one.connector,
                rule=one.rule,
                template=one.template,
                kind=one.kind,
                at_ms=None if one.at is None else _moment(one.at, start, one, "at", report),
                variant=one.variant,
                params=plain(one.params) or None,
                cancel=one.cancel,
            )
            for one in part.actions
        )
    words = [reason.value for reason in Reason]
    for decision in part.decisions:
        if decision.reason is not None and decision.reason not in words:
            report.error(decision.origin, "reason", unknown("reason", decision.reason, words))
    decisions = tuple(ExpectedDecision(one.origin.line, one.rule, one.outcome, one.reason) for one in part.decisions)
    return Expectation(actions, dict(part.stage), decisions)


def _moment(text: str, base_ms: int | None, part: Part, key: str, report: Report) -> int:
    """Return a moment in epoch ms: an RFC 3339 text with its offset, or ``+span`` after ``base_ms``."""
    if text.startswith("+") and base_ms is not None:
        span_ms = parsed_span_ms(text[1:])
        if span_ms is not None:
            return base_ms + span_ms
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return round(moment.timestamp() * 1000)
    first = "" if base_ms is None else ' or a span such as "+29m"'
    message = f'expected a moment with its offset such as "2026-03-02T10:00:00+05:30"{first}, got "{text}"'
    report.error(part.origin, key, f"{key}: {message}")
    return base_ms or 0
