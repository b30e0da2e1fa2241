"""Lint of logic: conditions that can never be true, because two of them exclude each other, or one and the trigger.

What must hold together is compared quantity by quantity (``value_set``) and event by event (``event_count``). The
trigger counts as well: its event has just happened, its filter holds, and the run stands where it says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.rulebook.claims import STAGE, Alternatives, Claim, Claims, claims_of
from orchestrator.rulebook.event_count import EventCount
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models.journey import JourneyHead, RulePart
from orchestrator.rulebook.models.play import StepPart
from orchestrator.rulebook.models.trigger import EventTrigger
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import Report
from orchestrator.rulebook.trigger_claims import TriggerClaims, final_stages
from orchestrator.rulebook.value_set import Comparison, exclude_each_other

#: Claims of one event type that are compared with each other; nobody writes as many by hand.
_COUNTS_MAX = 64
#: Claims that a message names.
_NAMED_MAX = 3


def lint_logic(names: Names) -> None:
    """Check every condition of every rule and segment for parts that exclude each other."""
    checker = _Checker(names)
    for segment in names.segments.values():
        checker.check(segment.when, _Known())
    for source in names.journeys.values():
        moved = any(step.set_stage for rule in source.rules for step in steps_of(rule.do))
        for stage in source.head.stages.values():
            if isinstance(stage.on, EventTrigger) and stage.on.where is not None:
                checker.check(stage.on.where, _Known())
        for rule in source.rules:
            _RuleLogic(checker, source.head, rule, moved=moved).check()


def steps_of(steps: Sequence[StepPart]) -> Iterator[StepPart]:
    """Yield every step of a play, those inside of others as well."""
    for step in steps:
        yield step
        inner = [] if step.wait_for is None else step.wait_for.else_
        for block in (step.do, step.then, step.else_, inner):
            yield from steps_of(block)


class _RuleLogic:
    """Checks one rule; ``moved`` says that plays of its journey move runs from stage to stage."""

    def __init__(self, checker: _Checker, head: JourneyHead, rule: RulePart, *, moved: bool) -> None:
        self._checker = checker
        self._head = head
        self._rule = rule
        self._trigger = TriggerClaims(head, rule.on, moved=moved, anytime=rule.acts == "anytime")

    def check(self) -> None:
        for where in self._filters():
            self._checker.check(where, _Known())
        stands = self._trigger.claims()
        known = _Known(stands)
        if (own := self._trigger.own_filter()) is not None:
            known = self._checker.check(own, known)
        if self._rule.when is not None:
            self._finals(self._rule.when, placed=any(one.about == STAGE for one in stands))
            known = self._checker.check(self._rule.when, known)
        of_event = known.of_event()
        for step in steps_of(self._rule.do):
            if step.if_ is not None:
                self._finals(step.if_, placed=False)
                self._checker.check(step.if_, of_event)

    def _filters(self) -> Iterator[written.Condition]:
        yield from self._trigger.other_filters()
        yield from (one.where for one in self._rule.exit_when if one.where is not None)
        for step in steps_of(self._rule.do):
            if step.wait_for is not None and step.wait_for.where is not None:
                yield step.wait_for.where

    def _finals(self, condition: written.Condition, *, placed: bool) -> None:
        """Report final stages that a rule asks for which acts only while its run is open.

        Where the trigger has ``placed`` the run, that tells what can never be.
        """
        if not self._trigger.needs_open_run():
            return
        finals = final_stages(self._head)
        for part in stage_conditions(condition):
            ended = [stage for stage in part.in_stage if stage in finals]
            if not ended:
                continue
            stages = " and ".join(f'"{stage}"' for stage in ended)
            ends = "are final, and end" if len(ended) > 1 else "is final, and ends"
            message = f"{stages} {ends} the run and its plays"
            if len(ended) < len(part.in_stage):
                self._checker.report.warning(part.origin, "in_stage", f"{message}: leave it out, for it can never be")
            elif not placed:
                self._checker.report.error(part.origin, "in_stage", f"can never be true: {message}")


def stage_conditions(part: written.Condition, *, wanted: bool = True) -> Iterator[written.StageCondition]:
    """Yield what asks for a stage of the rule's own journey; what a ``not`` turns round does not ask for it."""
    match part:
        case written.AllCondition():
            for one in part.all:
                yield from stage_conditions(one, wanted=wanted)
        case written.AnyCondition():
            for one in part.any:
                yield from stage_conditions(one, wanted=wanted)
        case written.NotCondition():
            yield from stage_conditions(part.not_, wanted=not wanted)
        case written.StageCondition() if part.journey is None and wanted:
            yield part
        case _:
            return


@dataclass(slots=True)
class _Known:
    """The claims that hold together so far, by what they are about."""

    claims: Sequence[Claim] = ()
    outer: _Known | None = None
    by_subject: dict[str, list[Claim]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_subject = {}
        for claim in self.claims:
            self.by_subject.setdefault(claim.about, []).append(claim)

    def about(self, subject: str) -> list[Claim]:
        """Return all claims about a subject, outermost first."""
        outer = [] if self.outer is None else self.outer.about(subject)
        return [*outer, *self.by_subject.get(subject, ())]

    def of_event(self) -> _Known:
        """Return the claims that stay true while a play goes on: those of the event that started it."""
        outer = None if self.outer is None else self.outer.of_event()
        return _Known([claim for claim in self.claims if claim.about.startswith("event.")], outer)


class _Checker:
    def __init__(self, names: Names) -> None:
        self.report = names.report
        # Segments that could not be built, such as those in a circle, are not written out.
        self._segments = {name: part for name, part in names.segments.items() if name in names.sizes}

    def check(self, condition: written.Condition, known: _Known) -> _Known:
        """Report what can never be true in a condition; return all that holds where it does."""
        claims = claims_of(condition, self._segments)
        for conflict in _conflicts(claims, known):
            _contradiction(self.report, conflict)
        return _Known(claims.single, known)


@dataclass(frozen=True, slots=True)
class _Conflict:
    """A claim that cannot hold with others. ``partly`` says that the condition has another way to be true."""

    claim: Claim
    others: tuple[Claim, ...]
    partly: bool = False


def _conflicts(claims: Claims, outer: _Known) -> list[_Conflict]:
    known = _Known(claims.single, outer)
    found = [one for subject, own in known.by_subject.items() for one in _of_subject(outer.about(subject), own)]
    for alternatives in claims.alternatives:
        found += _of_alternatives(alternatives, known)
    return found


def _of_subject(outer: list[Claim], own: list[Claim]) -> Iterator[_Conflict]:
    counts = isinstance(own[0].says, EventCount)
    if len(own) == 1 and not outer and not counts:
        return  # What stands alone excludes nothing; most claims do.
    for claim, others in _crowded(outer, own) if counts else _contradictory(outer, own):
        if not _of_one_segment(claim, others):
            yield _Conflict(claim, tuple(others))


def _of_alternatives(alternatives: Alternatives, known: _Known) -> list[_Conflict]:
    """Return the conflicts of all ways where none is left; else those of one way, where its author wrote it."""
    by_way = [(way, _conflicts(way, known)) for way in alternatives.ways]
    if all(any(not one.partly for one in found) for _, found in by_way):
        return [one for _, found in by_way for one in found]
    kept: list[_Conflict] = []
    for way, found in by_way:
        for one in found:
            if one.partly or all(any(other is own for own in way.single) for other in one.others):
                kept.append(one)
            elif alternatives.written:
                kept.append(replace(one, partly=True))
    return kept


def _of_one_segment(claim: Claim, others: list[Claim]) -> bool:
    """Return whether all of it is said by a segment: that is reported where the segment is, or where it is named."""
    return claim.via is not None and bool(others) and {one.segment for one in others} == {claim.segment}


def _contradictory(outer: list[Claim], own: list[Claim]) -> Iterator[tuple[Claim, list[Claim]]]:
    """Yield each claim that leaves nothing, with those before it that it stands against."""
    while _excluded([*outer, *own]):
        known = [*outer, *own]
        # The more claims, the less is left: the first that leaves nothing is found by halving.
        at = bisect_left(range(len(known)), True, key=lambda place: _excluded(known[: place + 1]))
        if at < len(outer):
            return  # It was so before, and has been said.
        claim, before = known[at], known[:at]
        single = next((one for one in before if _excluded([one, claim])), None)
        yield claim, before if single is None else [single]
        outer, own = [], known[at + 1 :]


def _excluded(claims: Sequence[Claim]) -> bool:
    return exclude_each_other(one.says for one in claims if isinstance(one.says, Comparison))


def _crowded(outer: list[Claim], own: list[Claim]) -> Iterator[tuple[Claim, list[Claim]]]:
    before = outer[:_COUNTS_MAX]
    for claim in own[:_COUNTS_MAX]:
        if isinstance(claim.says, EventCount) and claim.says.most < 0:
            yield claim, []
            continue
        against = next((one for one in before if _excludes(one, claim)), None)
        if against is not None:
            yield claim, [against]
        before.append(claim)


def _excludes(one: Claim, other: Claim) -> bool:
    return isinstance(one.says, EventCount) and isinstance(other.says, EventCount) and one.says.excludes(other.says)


def _contradiction(report: Report, conflict: _Conflict) -> None:
    claim = conflict.claim
    at, key = (claim.at, claim.key) if claim.via is None else (claim.via.origin, "in_segment")
    if not conflict.others:
        report.error(at, key, f"can never be true: {claim.words}")
        return
    named = [f"{one.words} ({_place(one, at.file)})" for one in conflict.others[-_NAMED_MAX:]]
    message = f"can never be true together with {' and '.join(named)}"
    if conflict.partly:
        report.warning(at, key, f"this part of `any` {message}")
    else:
        report.error(at, key, message)


def _place(claim: Claim, file: str) -> str:
    return f"line {claim.line}" if claim.file == file else f"{claim.file}:{claim.line}"
