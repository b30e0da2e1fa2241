"""A turn: the working memory of one decision. It starts from a copy, so the caller's state never changes.

Collections of the copy are fresh; the values in them are shared with the original and are replaced, never
changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import Journey, Rule
from orchestrator.core.propensity import Lesson, Propensity
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.core.view import Properties, View


def forked(state: CustomerState) -> CustomerState:
    """Return a copy whose collections may be changed."""
    return CustomerState(
        state.clock_ms,
        state.frontier_ms,
        state.first_seen_ms,
        state.seen,
        state.traits.copy(),
        state.consents.copy(),
        state.runs.copy(),
        state.aggregates.copy(),
        state.arms.copy(),
        state.plays.copy(),
        state.timers.copy(),
        state.sent.copy(),
        state.pending.copy(),
        state.trials.copy(),
        state.bids.copy(),
        state.erased_at_ms,
        state.merged_into,
        state.aliases.copy(),
        state.edition,
        state.known,
        state.named_at_ms,
        state.asked.copy(),
        state.seen_days.copy(),
    )


@dataclass(frozen=True, slots=True)
class Transition:
    """A run has moved. ``left`` is '' when it has just started."""

    journey: Journey
    run: str
    left: str
    entered: str


class Turn(msgspec.Struct, gc=False):
    """One stimulus being decided.

    ``now_ms`` is log time, the ``now`` of limits and deadlines. ``at_ms`` is the stimulus's own event time and
    ``cause`` its id. ``event`` and ``context`` are what conditions and templates read. ``sender`` is the run whose
    action the event tells of, '' for every other stimulus. ``moves`` are those of runs that no rule has seen yet,
    ``closed`` the runs that the stimulus has ended. ``traits_changed`` says that waits until a trait are to follow it.
    """

    rulebook: Rulebook
    state: CustomerState
    customer_id: str
    now_ms: int
    at_ms: int
    cause: str
    event: Properties
    context: Properties
    model: Propensity
    actions: list[Action] = []
    records: list[DecisionRecord] = []
    lessons: list[Lesson] = []
    moves: list[Transition] = []
    sender: str = ""
    closed: tuple[str, ...] = ()
    traits_changed: bool = False

    def view(self, event: Properties | None = None, pinned: str = "") -> View:
        """Return what conditions read now: aggregates as of the customer's frontier."""
        state, at_ms = self.state, self.at_ms
        as_of_ms = at_ms if at_ms > state.frontier_ms else state.frontier_ms
        if event is None:
            return View(self.rulebook, state, as_of_ms, self.event, self.context, pinned or self.sender)
        return View(self.rulebook, state, as_of_ms, event, {}, pinned)

    def record(  # noqa: PLR0913 - the columns of the ledger.
        self,
        rule: Rule,
        run: str,
        outcome: Outcome,
        reason: Reason,
        *,
        step: str = "",
        action_id: str = "",
        variant: str = "",
        cause: str = "",
        **detail: Any,
    ) -> None:
        """Write one line of the ledger."""
        held = self.state.runs.get(run)
        self.records.append(
            DecisionRecord(
                customer_id=self.customer_id,
                at=self.now_ms,
                rule=rule.id,
                outcome=outcome,
                reason=reason,
                journey=rule.journey,
                run=run,
                stage="" if held is None else held.stage,
                cause=cause or self.cause,
                step=step,
                action_id=action_id,
                variant=variant,
                rulebook_version=self.rulebook.version,
                detail=detail,
            )
        )


def timer_id(kind: str, name: str, instance: str) -> str:
    """Return the id of a timer; ``kind`` and ``name`` never contain a bar, ``instance`` may."""
    return f"{kind}|{name}|{instance}"


def timer_parts(timer: str) -> tuple[str, str, str]:
    """Return a timer's kind, name and instance."""
    kind, name, instance = timer.split("|", 2)
    return kind, name, instance
