"""Arbitration: of the rules that want the same slot of a customer, one acts.

score = propensity x context x value x weight. Context and weight are levers: +30 means times 1.3. Ties break
on the rule's id, so the outcome never depends on the order of files. Every loser is recorded with its
four factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.core.definition import Rule
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.turn import Turn
from orchestrator.core.view import Properties


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose conditions hold, for one run. ``facts`` are the properties of the event behind it."""

    rule: Rule
    run: str
    facts: Properties


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
    return Score(terms.propensity, context, terms.value, terms.weight)


def settled(turn: Turn, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that may act: all without a slot, and the winner of each slot; record the losers."""
    slots: dict[str, list[Candidate]] = {}
    free: list[Candidate] = []
    for candidate in candidates:
        if candidate.rule.arbitrate is None:
            free.append(candidate)
        else:
            slots.setdefault(candidate.rule.arbitrate.slot, []).append(candidate)
    return [*free, *(_winner(turn, slot, rivals) for slot, rivals in slots.items())]


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
