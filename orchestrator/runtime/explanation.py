"""Explanations: the answer to "why, or why not", for people and machines.

Moments are epoch milliseconds, UTC. Every ``text`` and ``sentence`` is made for people; the other fields are for
programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Standing(Enum):
    """Where a rule stands with a customer."""

    FIRED = "fired"
    WAITING = "waiting"
    DEFERRED = "deferred"
    BLOCKED = "blocked"
    LOST = "lost"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"
    CONDITIONS_FAILED = "conditions_failed"
    NOT_RECORDED = "not_recorded"  # a replay decides something that the ledger does not have
    CONDITIONS_HOLD = "conditions_hold"  # as things stand; nothing is known of a decision
    ARMED = "armed"
    NOT_TRIGGERED = "not_triggered"


@dataclass(frozen=True, slots=True)
class ConditionLine:
    """One node of a rule's conditions: its text, what it came to, what was read and why it is unknown."""

    text: str
    truth: str
    reading: str = ""
    because: str = ""
    parts: tuple[ConditionLine, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitLine:
    """What one limit said."""

    kind: str
    text: str
    blocks: bool
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TriggerLine:
    """What sets the rule off and how far that has come."""

    text: str
    state: str
    due_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RivalLine:
    """A rule that competed for the same slot, with its factors where they are known."""

    rule: str
    score: float | None
    factors: Mapping[str, float]
    won: bool


@dataclass(frozen=True, slots=True)
class Arbitration:
    """How a slot was settled."""

    slot: str
    score: float
    factors: Mapping[str, float]
    rivals: tuple[RivalLine, ...] = ()


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A line of the ledger, with its reason in words; ``recorded`` is False for one that only the replay has."""

    at_ms: int
    outcome: str
    reason: str
    text: str
    step: str
    action_id: str
    variant: str
    rulebook_version: str
    detail: Mapping[str, Any]
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one rule did or did not act for the customer, at its latest decision point."""

    rule: str
    title: str
    journey: str
    standing: Standing
    sentence: str
    at_ms: int | None = None
    cause: str = ""
    run: str = ""
    stage: str = ""
    rulebook_version: str = ""
    trigger: TriggerLine
    conditions: ConditionLine | None = None
    limits: tuple[LimitLine, ...] = ()
    arbitration: Arbitration | None = None
    ledger: tuple[LedgerLine, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The answer for one customer. ``stimuli`` is the number of events and timers that were decided to find it."""

    customer_id: str
    at_ms: int
    rulebook_version: str
    whole_history: bool
    explanations: tuple[Explanation, ...]
    notes: tuple[str, ...] = ()
    stimuli: int = 0
