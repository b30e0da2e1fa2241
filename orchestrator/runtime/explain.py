"""Explain: why a rule did or did not act for a customer.

The customer's events are decided again by the production core, and every rule is asked what it saw at its latest
decision point; the ledger says what was really decided there. When the timeline does not reach back to the customer's
first event, a replay would start from the wrong state: then the current state, which sums up everything, is asked
instead, and the answer says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import Rule
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.runtime.answer import Finding, explanation_of
from orchestrator.runtime.explanation import Explained, Explanation, TriggerLine
from orchestrator.runtime.ledger import latest_decision, lines_of
from orchestrator.runtime.present import present_glimpse
from orchestrator.runtime.timeline import History
from orchestrator.runtime.trigger_state import trigger_line
from orchestrator.runtime.walk import Glimpse, Point, Walk
from orchestrator.runtime.wording import moment_text


def explain(
    rulebook: Rulebook,
    history: History,
    state: CustomerState | None,
    *,
    now_ms: int,
    at_ms: int | None = None,
    rules: Sequence[str] | None = None,
) -> Explained:
    """Return why each of ``rules`` (None: all of the rulebook) did or did not act, at or before ``at_ms``.

    ``state`` is the customer's stored state. Pure: no I/O, and nothing of the arguments changes. Decides each event and
    timer of the timeline once, and each rule's decision point once more. Raises ``KeyError`` for a rule that the
    rulebook does not have.
    """
    horizon_ms = now_ms if at_ms is None else at_ms
    wanted = [rulebook.rules[rule_id] for rule_id in (rulebook.rules if rules is None else rules)]
    events = [event for event in history.events if event.received_at_ms <= horizon_ms]
    asked = _Question(rulebook, history, events, horizon_ms, _Ledger(history.decisions))
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
    """Ledger lines, found by rule and by cause."""

    def __init__(self, records: Sequence[DecisionRecord]) -> None:
        self.of_rule: defaultdict[str, list[DecisionRecord]] = defaultdict(list)
        self.of_cause: defaultdict[str, list[DecisionRecord]] = defaultdict(list)
        for record in records:
            self.of_rule[record.rule].append(record)
            self.of_cause[record.cause].append(record)


@dataclass(frozen=True, slots=True)
class _Question:
    rulebook: Rulebook
    history: History
    events: Sequence[Event]
    horizon_ms: int
    ledger: _Ledger


# ------------------------------------------------------------------------------------ the past, or the present


def _from_the_past(asked: _Question, wanted: Sequence[Rule]) -> tuple[int, list[Explanation]]:
    walk = Walk(asked.rulebook, asked.history.customer_id, [rule.id for rule in wanted])
    walk.go(asked.events, asked.horizon_ms)
    glimpses: dict[str, Glimpse] = {}
    for each in {id(point): point for point in walk.last.values()}.values():
        glimpses.update(walk.look(each, [rule_id for rule_id, one in walk.last.items() if one is each]))
    replayed = _Ledger(walk.records)
    explanations = []
    for rule in wanted:
        trigger = trigger_line(asked.rulebook, rule, walk.state, asked.events)
        point = walk.last.get(rule.id)
        if point is None:
            found = Finding(rule, trigger, glimpse=_outlook(asked, trigger, rule, walk.state))
        else:
            found = _decided(asked, replayed, Finding(rule, trigger, point, glimpses[rule.id]), point)
        explanations.append(explanation_of(asked.rulebook.version, found))
    return walk.stimuli, explanations


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

    recorded, of_replay = lines(asked.ledger), lines(replayed)
    if of_replay and not recorded:
        found.notes.append(
            "The ledger does not have this decision: another rulebook decided then, or its lines have not arrived yet."
        )
    source = asked.ledger if recorded else replayed
    decided = source.of_cause[point.cause]
    return replace(found, lines=recorded or of_replay, recorded=bool(recorded), decided=decided)


def _from_the_present(asked: _Question, rule: Rule, state: CustomerState) -> Explanation:
    trigger = trigger_line(asked.rulebook, rule, state, asked.events)
    seen = present_glimpse(asked.rulebook, rule, state, asked.events, asked.history.customer_id, asked.horizon_ms)
    lines = latest_decision(asked.ledger.of_rule[rule.id], rule.id, asked.horizon_ms)
    decided = asked.ledger.of_cause[lines[0].cause] if lines else []
    return explanation_of(asked.rulebook.version, Finding(rule, trigger, None, seen, lines, decided=decided))
