"""The sequencer: events and timers of one partition, decided one by one in log order.

Before an event stamped S is decided, every timer of the partition that is due at or before S has fired, in
the order (due, customer). The order does not depend on how records fall into batches, so a live worker, a
restarted one and a replay decide alike. No I/O, no clock: callers bring states and tell the time.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field

from orchestrator.core.action import Action
from orchestrator.core.decide import Stimulus, TimerDue, decide, due_timers
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.core.propensity import BetaBernoulli, Propensity
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.seen import RING_BYTES_MAX
from orchestrator.core.state import CustomerState
from orchestrator.core.turn import forked, timer_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A stimulus that a rule could not be decided for: a defect of the rule or of the engine, never of the data."""

    stimulus: Stimulus
    message: str


@dataclass(slots=True)
class Outcome:
    """What a run of stimuli came to; ``stamps`` has one entry per action, the log time behind it.

    ``touched`` are the customers whose state changed, each with when its earliest timer was due before.
    """

    actions: list[Action] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    fired: list[TimerDue] = field(default_factory=list)
    lessons: int = 0
    touched: dict[str, int | None] = field(default_factory=dict)
    events_applied: int = 0  # duplicates among them
    duplicates: int = 0
    crowded: int = 0  # events of customers of whose ids no more can be remembered


class Sequencer:
    """Decides stimuli against ``states``, which must hold every customer it is asked about.

    ``model_of`` tells the learned propensity of a customer's partition; what a decision teaches it is learned before
    the next decision.
    """

    def __init__(
        self,
        rulebook: Rulebook,
        states: MutableMapping[str, CustomerState],
        model_of: Callable[[str], Propensity] | None = None,
    ) -> None:
        self.rulebook = rulebook
        self.states = states
        alone = BetaBernoulli()
        self._model_of = model_of or (lambda customer_id: alone)
        self.outcome = Outcome()
        self._wakes: list[tuple[int, str]] = []
        self._end: tuple[int, str] | None = None

    def expect(self, wakes: Iterable[tuple[int, str]], end: tuple[int, str] | None = None) -> None:
        """Take over wake-ups (due, customer). With an ``end``, timers from that wake-up on are left to a later run."""
        self._wakes = list(wakes)
        self._end = end
        heapq.heapify(self._wakes)

    def apply(self, event: Event, stamp_ms: int) -> None:
        """Decide an event, after every timer that is due by its stamp."""
        if self._wakes and self._wakes[0][0] <= stamp_ms:
            self.advance(stamp_ms)
        self.outcome.events_applied += 1
        self._decide(event.customer_id, event, stamp_ms)

    def advance(self, until_ms: int) -> None:
        """Fire every timer that is due by ``until_ms``, in due order."""
        while self._wakes and self._wakes[0][0] <= until_ms:
            due_ms, customer_id = heapq.heappop(self._wakes)
            due = due_timers(self.states[customer_id], customer_id, due_ms)
            if due:
                self.outcome.fired.append(due[0])
                self._decide(customer_id, due[0], due_ms)

    def next_wake_ms(self) -> int | None:
        """Return when the next expected timer is due, or None."""
        return self._wakes[0][0] if self._wakes else None

    def _decide(self, customer_id: str, stimulus: Stimulus, now_ms: int) -> None:
        before = self.states[customer_id]
        outcome = self.outcome
        try:
            decision = decide(self.rulebook, before, stimulus, now_ms, self._model_of(customer_id))
        except Exception as error:
            log.exception("deciding failed for customer %r", customer_id)
            outcome.failures.append(Failure(stimulus, f"{type(error).__name__}: {error}"))
            self._set(customer_id, before, _without(before, stimulus))
            return
        if decision.duplicate:
            outcome.duplicates += 1
            return
        if len(decision.state.seen) >= RING_BYTES_MAX:
            outcome.crowded += 1
        if decision.actions:
            outcome.actions += decision.actions
            outcome.stamps += [now_ms] * len(decision.actions)
        if decision.records:
            outcome.records += decision.records
        if decision.events:
            outcome.events += decision.events
        if decision.lessons:
            for lesson in decision.lessons:
                self._model_of(customer_id).learn(lesson)
            outcome.lessons += len(decision.lessons)
        self._set(customer_id, before, decision.state)

    def _set(self, customer_id: str, before: CustomerState, state: CustomerState) -> None:
        touched = self.outcome.touched
        if customer_id not in touched:
            touched[customer_id] = before.next_wake_ms()
        self.states[customer_id] = state
        if not state.timers:
            return
        wake_ms = min(state.timers.values())
        if self._end is None or (wake_ms, customer_id) < self._end:
            heapq.heappush(self._wakes, (wake_ms, customer_id))


def _without(state: CustomerState, stimulus: Stimulus) -> CustomerState:
    """Return the state after a failed stimulus: unchanged, but for a timer, which must not fire for ever.

    A play whose timer fails ends with it: nothing would ever wake it, and it would keep its rule from starting.
    """
    if isinstance(stimulus, Event):
        return state
    fork = forked(state)
    fork.timers.pop(stimulus.timer, None)
    kind, _, instance = timer_parts(stimulus.timer)
    if kind == "play":
        fork.plays.pop(instance, None)
    return fork
