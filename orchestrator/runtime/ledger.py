"""The ledger of one decision: which lines belong to it, and what they came to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.reason import Outcome, Reason
from orchestrator.runtime.explanation import LedgerLine, Standing
from orchestrator.runtime.wording import reason_text

#: Outcomes whose lines name the stimulus that began the play; the others name the one that moved it.
_OF_THE_CAUSE = frozenset({Outcome.SENT, Outcome.BLOCKED, Outcome.DEFERRED, Outcome.LOST})

_STANDINGS = {
    Outcome.BLOCKED: Standing.BLOCKED,
    Outcome.DEFERRED: Standing.DEFERRED,
    Outcome.WAITING: Standing.WAITING,
    Outcome.LOST: Standing.LOST,
    Outcome.ENDED: Standing.ENDED,
}


def lines_of(
    records: Iterable[DecisionRecord], rule: str, run: str, cause: str, from_ms: int, until_ms: int
) -> list[DecisionRecord]:
    """Return what a ledger says of one decision of a rule: the lines of its cause, and of the play it began."""
    lines: list[DecisionRecord] = []
    for record in records:
        if record.rule != rule or record.run != run or not from_ms <= record.at <= until_ms:
            continue
        begun = bool(lines) and lines[0].outcome not in {Outcome.BLOCKED, Outcome.LOST}
        if record.cause == cause or (begun and _follows(record, lines)):
            lines.append(record)
    return lines


def _follows(record: DecisionRecord, lines: Sequence[DecisionRecord]) -> bool:
    if record.outcome in _OF_THE_CAUSE:
        return False
    return not record.action_id or any(record.action_id == line.action_id for line in lines)


def latest_decision(records: Sequence[DecisionRecord], rule: str, until_ms: int) -> list[DecisionRecord]:
    """Return the lines of a rule's latest decision, by the ledger alone."""
    first = next(
        (one for one in reversed(records) if one.rule == rule and one.at <= until_ms and one.outcome in _OF_THE_CAUSE),
        None,
    )
    return [] if first is None else lines_of(records, rule, first.run, first.cause, 0, until_ms)


def standing_of(lines: Sequence[DecisionRecord]) -> Standing | None:
    """Return what the lines of one decision came to; None when they do not say."""
    sent = {line.action_id for line in lines if line.outcome is Outcome.SENT}
    if sent:
        withdrawn = {line.action_id for line in lines if line.outcome is Outcome.WITHDRAWN}
        return Standing.WITHDRAWN if sent <= withdrawn else Standing.FIRED
    last = next((line for line in reversed(lines) if line.outcome in _STANDINGS), None)
    if last is None:
        return None
    return Standing.BLOCKED if last.reason is Reason.HOLDOUT else _STANDINGS[last.outcome]


def telling(lines: Sequence[DecisionRecord], standing: Standing) -> DecisionRecord:
    """Return the line that says why a decision stands where it does."""
    if standing is Standing.FIRED:
        return next(line for line in reversed(lines) if line.outcome is Outcome.SENT)
    if standing is Standing.WITHDRAWN:
        return next(line for line in reversed(lines) if line.outcome is Outcome.WITHDRAWN)
    return next(line for line in reversed(lines) if line.outcome in _STANDINGS)


def ledger_line(record: DecisionRecord, *, recorded: bool) -> LedgerLine:
    """Return a line with its reason in words."""
    return LedgerLine(
        at_ms=record.at,
        outcome=record.outcome.value,
        reason=record.reason.value,
        text=reason_text(record.reason, record.detail),
        step=record.step,
        action_id=record.action_id,
        variant=record.variant,
        rulebook_version=record.rulebook_version,
        detail=record.detail,
        recorded=recorded,
    )
