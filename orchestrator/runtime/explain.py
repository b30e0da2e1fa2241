"""Explain: why a rule did or did not act for a customer.

The customer's events are decided again by the production core, each by the version that was in force, and every rule
is asked what it saw at its latest decision point. What was really decided there, the ledger says, and nothing that the
replay finds contradicts it. When the timeline does not reach back to the customer's
first event, a replay would start from the wrong state: then the current state, which sums up everything, is asked
instead, and the answer says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import OnAbsence, OnEvent, Rule
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.runtime.answer import Finding, explanation_of
from orchestrator.runtime.explanation import Explained, Explanation, TriggerLine
from orchestrator.runtime.ledger import latest_decision, lines_of
from orchestrator.runtime.present import present_glimpse
from orchestrator.runtime.timeline import ENTRIES_MAX, History
from orchestrator.runtime.trigger_state import trigger_line
from orchestrator.runtime.walk import Glimpse, Point, RulebookPast, Walk
from orchestrator.runtime.wording import moment_text


def explain(
    past: RulebookPast,
    history: History,
    state: CustomerState | None,
    *,
    now_ms: int,
    at_ms: int | None = None,
    rules: Sequence[str] | None = None,
) -> Explained:
    """Return why each of ``rules`` (None: all that were in force) did or did not act, at or before ``at_ms``.

    ``state`` is the customer's stored state. Pure: no I/O, and nothing of the arguments changes. Decides each event and
    timer of the timeline once, and each rule's decision point once more. Raises ``KeyError`` for a rule that the
    rulebook of that moment does not have.
    """
    horizon_ms = now_ms if at_ms is None else at_ms
    rulebook = past.in_force_at(horizon_ms)
    wanted = [rulebook.rules[rule_id] for rule_id in (rulebook.rules if rules is None else rules)]
    events = [event for event in history.events if event.received_at_ms <= horizon_ms]
    ledger = _Ledger([record for record in history.decisions if record.at <= horizon_ms])
    asked = _Question(past, rulebook, history, events, horizon_ms, ledger)
    whole = is_whole(history, state)
    if whole:
        stimuli, explanations = _from_the_past(asked, wanted)
    else:
        stimuli, explanations = 0, [_from_the_present(asked, rule, state or CustomerState()) for rule in wanted]
    return Explained(
        customer_id=history.customer_id,
        at_ms=horizon_ms,
        rulebook_version=rulebook.version,
        whole_history=whole,
        explanations=tuple(explanations),
        notes=tuple(_notes(history, whole, at_ms)),
        stimuli=stimuli,
    )


def is_whole(history: History, state: CustomerState | None) -> bool:
    """Return whether the timeline reaches back to the customer's first event."""
    if state is None or not state.first_seen_ms:
        return not history.bounded
    return bool(history.events) and history.events[0].received_at_ms <= state.first_seen_ms


def _notes(history: History, whole: bool, at_ms: int | None) -> Iterator[str]:
    if not whole:
        yield (
            "The timeline does not reach back to the customer's first event: earlier history is known only as the "
            "current state sums it up, and conditions are read from that."
        )
        if at_ms is not None:
            yield "The current state cannot be taken back to an earlier moment; the ledger lines are of the time asked."
    for refused in history.refused[-3:]:
        yield f"A record of {moment_text(refused.at_ms)} decided nothing: {refused.message}"


class _Ledger:
    """Ledger lines, found by rule and by cause. ``decided_by`` is the version behind each cause."""

    def __init__(self, records: Sequence[DecisionRecord]) -> None:
        self._first_ms = records[0].at if len(records) >= ENTRIES_MAX else 0
        self.of_rule: defaultdict[str, list[DecisionRecord]] = defaultdict(list)
        self.of_cause: defaultdict[str, list[DecisionRecord]] = defaultdict(list)
        for record in records:
            self.of_rule[record.rule].append(record)
            self.of_cause[record.cause].append(record)
        self.decided_by = {record.cause: record.rulebook_version for record in records if record.rulebook_version}

    def reaches(self, at_ms: int) -> bool:
        """Return whether the ledger would have the lines of a moment."""
        return self._first_ms <= at_ms


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked: the rulebook in force at that moment, and what is known of the customer until then."""

    past: RulebookPast
    rulebook: Rulebook
    history: History
    events: Sequence[Event]
    horizon_ms: int
    ledger: _Ledger


# ------------------------------------------------------------------------------------ the past, or the present


def _from_the_past(asked: _Question, wanted: Sequence[Rule]) -> tuple[int, list[Explanation]]:
    walk = Walk(asked.past, asked.history.customer_id, [rule.id for rule in wanted], asked.ledger.decided_by)
    walk.go(asked.events, asked.horizon_ms)
    glimpses: dict[str, Glimpse] = {}
    for each in {id(point): point for point in walk.last.values()}.values():
        glimpses.update(walk.look(each, [rule_id for rule_id, one in walk.last.items() if one is each]))
    replayed = _Ledger(walk.records)
    explanations = []
    for rule in wanted:
        trigger = trigger_line(asked.rulebook, rule, walk.state, asked.events)
        point = walk.last.get(rule.id)
        latest = latest_decision(asked.ledger.of_rule[rule.id], rule.id, asked.horizon_ms)
        if latest and (point is None or point.now_ms < latest[0].at):
            # The ledger knows of a decision that the replay does not come to, and the ledger is what happened.
            found = Finding(rule, trigger, None, None, latest, decided=asked.ledger.of_cause[latest[0].cause])
        elif point is None:
            glimpse = _outlook(asked, trigger, rule, walk.state)
            found = Finding(rule, trigger, glimpse=glimpse, lacked_by=_lacked_by(rule, walk))
        else:
            decider = point.rulebook.rules.get(rule.id, rule)
            found = _decided(asked, replayed, Finding(decider, trigger, point, glimpses[rule.id]), point)
        explanations.append(explanation_of(asked.rulebook.version, found))
    return walk.stimuli, explanations


def _lacked_by(rule: Rule, walk: Walk) -> str:
    """Return the version that decided the latest event that could have set the rule off, if it had no such rule."""
    match rule.trigger:
        case OnEvent(event=event) | OnAbsence(after=event):
            decider = walk.deciders.get(event)
        case _:
            decider = None
    return "" if decider is None or rule.id in decider.rules else decider.version


def _outlook(asked: _Question, trigger: TriggerLine, rule: Rule, state: CustomerState) -> Glimpse | None:
    """Return what an armed rule would see as things stand."""
    if trigger.due_at_ms is None:
        return None
    return present_glimpse(asked.rulebook, rule, state, asked.events, asked.history.customer_id, asked.horizon_ms)


def _decided(asked: _Question, replayed: _Ledger, found: Finding, point: Point) -> Finding:
    """Return the finding with the lines of its decision: the ledger's own, or else the replay's."""
    assert found.glimpse is not None
    run, rule_id = found.glimpse.run, found.rule.id

    def lines(ledger: _Ledger) -> list[DecisionRecord]:
        return lines_of(ledger.of_rule[rule_id], rule_id, run, point.cause, point.now_ms, asked.horizon_ms)

    recorded = lines(asked.ledger)
    if recorded:
        return replace(found, lines=recorded, decided=asked.ledger.of_cause[point.cause])
    of_replay = lines(replayed)
    if not of_replay:
        return replace(found, decided=replayed.of_cause[point.cause])
    if asked.ledger.reaches(point.now_ms):
        found.notes.append(
            "The ledger has no line of this decision. It may have been decided in the last second, or before the rule "
            "was what it is now; the customer got nothing by it that the ledger does not show."
        )
        return replace(found, missing=True)
    found.notes.append("The ledger does not reach back to this decision: its lines are those of a replay.")
    return replace(found, lines=of_replay, recorded=False, decided=replayed.of_cause[point.cause])


def _from_the_present(asked: _Question, rule: Rule, state: CustomerState) -> Explanation:
    trigger = trigger_line(asked.rulebook, rule, state, asked.events)
    seen = present_glimpse(asked.rulebook, rule, state, asked.events, asked.history.customer_id, asked.horizon_ms)
    lines = latest_decision(asked.ledger.of_rule[rule.id], rule.id, asked.horizon_ms)
    decided = asked.ledger.of_cause[lines[0].cause] if lines else []
    return explanation_of(asked.rulebook.version, Finding(rule, trigger, None, seen, lines, decided=decided))
