"""Arbitration: of the rules that want the same slot of a customer, one acts.

score = propensity x context x value x weight. Context and weight are levers: +30 means times 1.3. Ties break
on the rule's id, so the outcome never depends on the order of files. Every loser is recorded with its
four factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.core.definition import Arbitrate, Rule
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.state import BIDS_MAX, Bid
from orchestrator.core.turn import Turn, timer_id
from orchestrator.core.view import Properties


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose conditions hold, for one run. ``facts`` are the properties of the event behind it."""

    rule: Rule
    run: str
    facts: Properties
    cause: str  # id of the event or timer behind it
    armed_at: int = 0  # event time at which an absence began; 0 for every other trigger


@dataclass(frozen=True, slots=True)
class Score:
    """The four factors of a candidate."""

    propensity: float
    context: float
    value: float
    weight: float

    @property
    def total(self) -> float:
        """Return their product."""
        return self.propensity * self.context * self.value * self.weight

    def as_detail(self) -> dict[str, Any]:
        """Return the factors and their product, for the ledger."""
        return {
            "score": self.total,
            "propensity": self.propensity,
            "context": self.context,
            "value": self.value,
            "weight": self.weight,
        }


def score_of(turn: Turn, candidate: Candidate) -> Score:
    """Return a candidate's factors. The rule has an ``arbitrate``."""
    terms = candidate.rule.arbitrate
    assert terms is not None
    view = turn.view(candidate.facts, candidate.run)
    match = turn.rulebook.conditions([(candidate.rule.journey, condition) for condition, _ in terms.context])
    context = 1.0
    for index in match(view):
        context *= terms.context[index][1]
    return Score(_propensity_of(turn, candidate), context, terms.value, terms.weight)


def _propensity_of(turn: Turn, candidate: Candidate) -> float:
    terms = candidate.rule.arbitrate
    assert terms is not None
    if not terms.learn:
        return terms.propensity
    decision = f"{turn.customer_id}\x1f{turn.cause}"  # The rivals' common one: they explore together or not at all.
    return turn.model.propensity(terms.learn, segment_of(turn, candidate), decision, turn.now_ms)


def segment_of(turn: Turn, candidate: Candidate) -> str:
    """Return the segment for which the candidate's propensity is learned: the first that holds, or ''."""
    terms = candidate.rule.arbitrate
    assert terms is not None
    match = turn.rulebook.conditions([(candidate.rule.journey, condition) for _, condition in terms.learn_segments])
    held = match(turn.view(candidate.facts, candidate.run))
    return terms.learn_segments[held[0]][0] if held else ""


def settled(turn: Turn, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that may act: all without a slot, and the winner of each slot; record the losers.

    Slots with a decision window collect their candidates first; ``slot_due`` settles them.
    """
    slots: dict[str, list[Candidate]] = {}
    free: list[Candidate] = []
    for candidate in candidates:
        if candidate.rule.arbitrate is None:
            free.append(candidate)
        elif candidate.rule.arbitrate.decision_window_ms:
            _collect(turn, candidate, candidate.rule.arbitrate)
        else:
            slots.setdefault(candidate.rule.arbitrate.slot, []).append(candidate)
    return [*free, *(_winner(turn, slot, rivals) for slot, rivals in slots.items())]


def _collect(turn: Turn, candidate: Candidate, terms: Arbitrate) -> None:
    """Keep a candidate until its slot's window closes; the first one opens it."""
    bids = turn.state.bids.get(terms.slot, [])
    if candidate.rule.restart:
        bids = [bid for bid in bids if (bid.rule, bid.run) != (candidate.rule.id, candidate.run)]
    elif any(bid.rule == candidate.rule.id and bid.run == candidate.run for bid in bids):
        turn.record(candidate.rule, candidate.run, Outcome.BLOCKED, Reason.ALREADY_IN_PLAY)
        return
    if len(bids) >= BIDS_MAX:
        turn.record(candidate.rule, candidate.run, Outcome.BLOCKED, Reason.INSTANCE_CEILING)
        return
    kept = {name: candidate.facts[name] for name in candidate.rule.captures if name in candidate.facts}
    turn.state.bids[terms.slot] = [*bids, Bid(candidate.rule.id, candidate.run, candidate.cause, kept)]
    turn.state.timers.setdefault(timer_id("slot", terms.slot, ""), turn.now_ms + terms.decision_window_ms)


def slot_due(turn: Turn, slot: str) -> list[Candidate]:
    """Return what was collected for a slot whose window has closed; rules that are gone have no say."""
    rules = turn.rulebook.rules
    bids = turn.state.bids.pop(slot, [])
    return [Candidate(rules[bid.rule], bid.run, bid.facts, bid.cause) for bid in bids if bid.rule in rules]


def winner_of(turn: Turn, slot: str, rivals: list[Candidate]) -> list[Candidate]:
    """Return the winner among eligible candidates of a slot, if there are any; record the losers."""
    return [_winner(turn, slot, rivals)] if rivals else []


def _winner(turn: Turn, slot: str, rivals: list[Candidate]) -> Candidate:
    if len(rivals) == 1:
        return rivals[0]
    scored = [(score_of(turn, rival), rival) for rival in rivals]
    scored.sort(key=lambda pair: (-pair[0].total, pair[1].rule.id, pair[1].run))
    winner = scored[0][1]
    for score, loser in scored[1:]:
        turn.record(
            loser.rule,
            loser.run,
            Outcome.LOST,
            Reason.ARBITRATION_LOST,
            slot=slot,
            winner=winner.rule.id,
            winning_score=scored[0][0].total,
            **score.as_detail(),
        )
    return winner
