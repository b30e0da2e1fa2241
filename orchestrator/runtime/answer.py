"""The answer to one question about one rule: what was found, told as an ``Explanation``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import Rule
from orchestrator.core.explain import Trace, settling
from orchestrator.core.reason import Outcome, Reason
from orchestrator.runtime.explanation import (
    Arbitration,
    ConditionLine,
    Explanation,
    LimitLine,
    RivalLine,
    Standing,
    TriggerLine,
)
from orchestrator.runtime.ledger import ledger_line, standing_of, telling
from orchestrator.runtime.walk import Glimpse, Point
from orchestrator.runtime.wording import (
    condition_text,
    gap_text,
    limit_text,
    moment_text,
    reading_text,
    reason_text,
    settled_text,
    truth_text,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known about one rule. ``lines`` are those of its latest decision; ``decided`` those of its stimulus.

    ``missing``: a replay decides something at ``point`` of which the ledger has no line. ``lacked_by`` is the version
    that had no such rule when an event came that sets it off.
    """

    rule: Rule
    trigger: TriggerLine
    point: Point | None = None
    glimpse: Glimpse | None = None
    lines: Sequence[DecisionRecord] = ()
    recorded: bool = True
    missing: bool = False
    lacked_by: str = ""
    decided: Sequence[DecisionRecord] = ()
    notes: list[str] = field(default_factory=list)


def explanation_of(version_in_force: str, found: Finding) -> Explanation:
    """Return what was found in words; conditions and limits were read with the version in force."""
    standing = _standing(found)
    seen, first = found.glimpse, found.lines[0] if found.lines else None
    read_by = version_in_force if found.point is None else found.point.rulebook.version
    version = first.rulebook_version if first is not None else read_by
    if seen is not None and version != read_by:
        found.notes.append(
            f"Version {version} decided this; conditions and limits are shown as version {read_by} reads them."
        )
    return Explanation(
        rule=found.rule.id,
        title=found.rule.title,
        journey=found.rule.journey,
        standing=standing,
        sentence=_sentence(found, standing),
        at_ms=_at_ms(found),
        cause=found.point.cause if found.point is not None else "" if first is None else first.cause,
        run=seen.run if seen is not None else "" if first is None else first.run,
        stage=seen.stage if seen is not None else "" if first is None else first.stage,
        rulebook_version=version,
        trigger=found.trigger,
        conditions=None if seen is None or seen.conditions is None else condition_line(seen.conditions),
        limits=() if seen is None else tuple(_limit_lines(seen)),
        arbitration=_arbitration(found),
        ledger=tuple(ledger_line(line, recorded=found.recorded) for line in found.lines),
        notes=tuple(found.notes),
    )


def _at_ms(found: Finding) -> int | None:
    if found.point is not None:
        return found.point.now_ms
    return found.lines[0].at if found.lines else None


def _standing(found: Finding) -> Standing:
    if found.missing:
        return Standing.NOT_RECORDED
    of_the_ledger = standing_of(found.lines)
    failed = bool(_failures(found))
    ended_only = all(line.outcome is Outcome.ENDED for line in found.lines)
    if of_the_ledger is not None and not (failed and ended_only):
        return of_the_ledger
    if found.glimpse is None or (found.point is None and found.trigger.due_at_ms is not None):
        return Standing.NOT_TRIGGERED if found.trigger.due_at_ms is None else Standing.ARMED
    return Standing.CONDITIONS_FAILED if failed else Standing.CONDITIONS_HOLD


def _failures(found: Finding) -> str:
    """Return which conditions keep the rule from firing, in words; '' when none does."""
    conditions = None if found.glimpse is None else found.glimpse.conditions
    if conditions is None or conditions.truth is True:
        return ""
    return "; ".join(map(settled_text, settling(conditions))) or f"{condition_text(conditions.condition)} is not true"


def _sentence(found: Finding, standing: Standing) -> str:
    text = f"{found.rule.id} {_verdict(found, standing)}"
    if standing is Standing.ARMED or found.trigger.due_at_ms is None:
        return f"{text}."
    return f"{text}. Next: {found.trigger.state}."


def _verdict(found: Finding, standing: Standing) -> str:
    at_ms = _at_ms(found)
    when = "now" if at_ms is None else f"at {moment_text(at_ms)}"
    match standing:
        case Standing.NOT_TRIGGERED:
            lacked = f", when version {found.lacked_by} was in force, which had no such rule" if found.lacked_by else ""
            return f"was not triggered: {found.trigger.state}{lacked}"
        case Standing.ARMED:
            failures = _failures(found)
            return (
                f"has not fired: {found.trigger.state}{failures and f'; as things stand it will not, since {failures}'}"
            )
        case Standing.CONDITIONS_FAILED:
            return f"{'would' if at_ms is None else 'did'} not fire {when}: {_failures(found)}"
        case Standing.NOT_RECORDED:
            return f"has no decision {when} in the ledger, though its conditions held"
        case Standing.CONDITIONS_HOLD if at_ms is None:
            return "may fire: its conditions hold now, and the ledger has no decision of it"
        case Standing.CONDITIONS_HOLD:
            return f"was triggered {when} and had nothing to send"
        case _:
            return _decision_text(telling(found.lines, standing), standing, when)


def _decision_text(line: DecisionRecord, standing: Standing, when: str) -> str:
    why = reason_text(line.reason, line.detail)
    then = moment_text(line.at)
    match standing:
        case Standing.FIRED:
            over = line.detail.get("connector", "its connector")
            return f"fired {when}: sent over {over} at {then}, {why}"
        case Standing.WITHDRAWN:
            return f"fired {when}, and its action was withdrawn at {then}: {why}"
        case Standing.DEFERRED:
            return f"was triggered {when} and its action is deferred: {why}"
        case Standing.WAITING:
            return f"began {when} and is {why}"
        case Standing.ENDED:
            return f"began {when} and ended at {then}: {why}"
        case _:
            return f"did not fire at {then}: {why}"


def condition_line(traced: Trace) -> ConditionLine:
    """Return a trace in words."""
    return ConditionLine(
        text=condition_text(traced.condition),
        truth=truth_text(traced.truth),
        reading=reading_text(traced),
        because=gap_text(traced),
        parts=tuple(condition_line(part) for part in traced.parts),
    )


def _limit_lines(seen: Glimpse) -> Iterator[LimitLine]:
    for one in seen.limits:
        yield LimitLine(one.kind.value, limit_text(one), one.blocks, one.detail)


# ----------------------------------------------------------------------------------------------- arbitration

_FACTORS = ("propensity", "context", "value", "weight")


def _arbitration(found: Finding) -> Arbitration | None:
    """Return the competition for the rule's slot; the ledger's own factors where it has them."""
    terms = found.rule.arbitrate
    if terms is None or found.glimpse is None or found.glimpse.score is None:
        return None
    lost = [
        one for one in found.decided if one.reason is Reason.ARBITRATION_LOST and one.detail.get("slot") == terms.slot
    ]
    own = next((one for one in lost if one.rule == found.rule.id), None)
    detail = found.glimpse.score.as_detail() if own is None else own.detail
    rivals = [_rival(one) for one in lost if one.rule != found.rule.id]
    if own is not None:
        rivals.insert(0, RivalLine(str(own.detail["winner"]), own.detail["winning_score"], {}, won=True))
    return Arbitration(terms.slot, detail["score"], {name: detail[name] for name in _FACTORS}, tuple(rivals))


def _rival(line: DecisionRecord) -> RivalLine:
    return RivalLine(line.rule, line.detail["score"], {name: line.detail[name] for name in _FACTORS}, won=False)
