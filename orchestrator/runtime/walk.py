"""A walk through one customer's past: the production core decides every stimulus again, and someone looks on.

Twice, so that talkativeness costs nothing where nobody asks: the first pass decides as a worker does and notes at
which stimulus each rule's conditions were last read; only those stimuli are decided once more, with traces.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from orchestrator.core.arbitration import Candidate, Score, score_of
from orchestrator.core.decide import Stimulus, decide, due_timers
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import OnEvent, Rule
from orchestrator.core.event import Event
from orchestrator.core.explain import Trace, trace
from orchestrator.core.interpret import evaluate
from orchestrator.core.limit_trace import LimitTrace, limit_traces
from orchestrator.core.propensity import BetaBernoulli
from orchestrator.core.rulebook import EventPlan, Rulebook, RuleGroup, SequenceWatch, both
from orchestrator.core.state import CustomerState
from orchestrator.core.turn import Turn, forked
from orchestrator.core.view import View

log = logging.getLogger(__name__)
K = TypeVar("K")


class RulebookPast(Protocol):
    """Knows which rulebook was in force when."""

    def in_force_at(self, at_ms: int, /) -> Rulebook:
        """Return the rulebook in force at a log time (epoch ms), and that knows since when it counts what."""
        ...

    def version(self, version: str, /) -> Rulebook | None:
        """Return a version as it was when it was last in force, None when it cannot be had."""
        ...


RunOf = Callable[[Rule, View], str]
#: Told of every wanted rule whose conditions are about to be read: the rule, what they read, the run concerned.
Hear = Callable[[Rule, View, str], None]


@dataclass(frozen=True, slots=True)
class Point:
    """A stimulus at which rules' conditions were read, the state before it, and the rulebook that decided."""

    stimulus: Stimulus
    before: CustomerState
    now_ms: int
    rulebook: Rulebook

    @property
    def at_ms(self) -> int:
        """The event time of the stimulus."""
        return min(self.stimulus.occurred_at_ms, self.now_ms) if isinstance(self.stimulus, Event) else self.now_ms

    @property
    def cause(self) -> str:
        """The id under which the ledger knows the stimulus."""
        return cause_of(self.stimulus)


def cause_of(stimulus: Stimulus) -> str:
    """Return the id under which the ledger knows a stimulus."""
    return stimulus.id if isinstance(stimulus, Event) else f"{stimulus.timer}@{stimulus.due_ms}"


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What a rule saw at a decision point. ``conditions`` is None for a rule that has none."""

    run: str
    stage: str
    conditions: Trace | None
    limits: list[LimitTrace]
    score: Score | None


class Walk:
    """The past of one customer. ``last`` has the latest decision point of each wanted rule after ``go``.

    ``deciders`` has, by event type, the rulebook that decided its latest event.

    Every stimulus is decided by the version that the ledger names for it (``decided_by``, by cause), or else by the one
    that ``past`` says was in force.
    """

    def __init__(
        self, past: RulebookPast, customer_id: str, wanted: Collection[str], decided_by: Mapping[str, str]
    ) -> None:
        self.state = CustomerState()
        self.records: list[DecisionRecord] = []
        self.last: dict[str, Point] = {}
        self.stimuli = 0
        self.deciders: dict[str, Rulebook] = {}
        self._near: dict[str, Point] = {}
        self._customer_id = customer_id
        self._past = past
        self._decided_by = decided_by
        self._wanted = frozenset(wanted)
        self._observed: dict[str, Rulebook] = {}
        self._now: Point | None = None

    def go(self, events: Iterable[Event], until_ms: int) -> None:
        """Decide the events in log order, and every timer that is due by then, up to ``until_ms``."""
        for event in events:
            self._fire(event.received_at_ms)
            self._decide(event, max(event.received_at_ms, self.state.clock_ms))
        self._fire(until_ms)
        self.last = {**self._near, **self.last}

    def look(self, point: Point, rules: Collection[str]) -> dict[str, Glimpse]:
        """Decide a point again and return what each of ``rules`` saw."""
        seen: dict[str, Glimpse] = {}

        def hear(rule: Rule, view: View, run: str) -> None:
            seen[rule.id] = glimpse(self._customer_id, point, rule, view, run)

        self.stimuli += 1
        decide(observed(point.rulebook, rules, hear), point.before, point.stimulus, point.now_ms)
        return seen

    def _fire(self, until_ms: int) -> None:
        while due := due_timers(self.state, self._customer_id, until_ms):
            self._decide(due[0], max(due[0].due_ms, self.state.clock_ms))

    def _decide(self, stimulus: Stimulus, now_ms: int) -> None:
        self.stimuli += 1
        rulebook = self._book_of(stimulus, now_ms)
        self._now = Point(stimulus, self.state, now_ms, rulebook)
        if isinstance(stimulus, Event):
            self.deciders[stimulus.type] = rulebook
        try:
            decision = decide(self._listening(rulebook), self.state, stimulus, now_ms)
        except Exception as error:
            # A worker goes on without such a stimulus, and so does the walk.
            log.warning("a stimulus of customer %r cannot be decided again: %s", self._customer_id, error)
            if not isinstance(stimulus, Event):
                self.state = forked(self.state)
                del self.state.timers[stimulus.timer]
            return
        self.state = decision.state
        self.records += decision.records

    def _book_of(self, stimulus: Stimulus, now_ms: int) -> Rulebook:
        named = self._decided_by.get(cause_of(stimulus))
        found = None if named is None else self._past.version(named)
        return self._past.in_force_at(now_ms) if found is None else found

    def _listening(self, rulebook: Rulebook) -> Rulebook:
        """Return a rulebook that notes who asks, made once a version."""
        if rulebook.version not in self._observed:
            self._observed[rulebook.version] = observed(rulebook, self._wanted, self._note)
        return self._observed[rulebook.version]

    def _note(self, rule: Rule, view: View, run: str) -> None:
        assert self._now is not None
        trigger = rule.trigger
        passed = (
            not isinstance(trigger, OnEvent)
            or trigger.where is None
            or evaluate(trigger.where, view, rule.journey) is True
        )
        (self.last if passed else self._near)[rule.id] = self._now


def glimpse(customer_id: str, point: Point, rule: Rule, view: View, run: str) -> Glimpse:
    """Return what a rule sees through ``view``, whose state is not changed."""
    turn = Turn(
        point.rulebook,
        forked(view.state),
        customer_id,
        point.now_ms,
        point.at_ms,
        point.cause,
        view.event,
        view.context,
        BetaBernoulli(),
    )
    asked = both(rule.trigger.where, rule.when) if isinstance(rule.trigger, OnEvent) else rule.when
    held = view.state.runs.get(run)
    return Glimpse(
        run=run,
        stage="" if held is None else held.stage,
        conditions=None if asked is None else trace(asked, view, rule.journey),
        limits=limit_traces(turn, rule, run, view.event),
        score=None if rule.arbitrate is None else score_of(turn, Candidate(rule, run, view.event, point.cause)),
    )


# ------------------------------------------------------------------------------------------------ looking on


def observed(rulebook: Rulebook, wanted: Collection[str], hear: Hear) -> Rulebook:
    """Return the rulebook with an ear at every group that has a wanted rule; it decides exactly as before."""

    def group(one: RuleGroup, run_of: RunOf) -> RuleGroup:
        rules = [rule for rule in one.rules if rule.id in wanted]
        if not rules:
            return one

        def match(view: View) -> Sequence[int]:
            for rule in rules:
                hear(rule, view, run_of(rule, view))
            return one.match(view)

        return replace(one, match=match)

    def groups(one: Mapping[K, RuleGroup]) -> dict[K, RuleGroup]:
        return {name: group(member, _run_of_view) for name, member in one.items()}

    def sequence(watch: SequenceWatch) -> SequenceWatch:
        return replace(watch, group=group(watch.group, _run_of_view))

    def plan(one: EventPlan) -> EventPlan:
        return replace(one, group=group(one.group, _run_of_view), sequences=tuple(map(sequence, one.sequences)))

    return replace(
        rulebook,
        plans={event_type: plan(one) for event_type, one in rulebook.plans.items()},
        watches={
            name: replace(watch, group=group(watch.group, _run_of_view)) for name, watch in rulebook.watches.items()
        },
        enters=groups(rulebook.enters),
        leaves=groups(rulebook.leaves),
        alone=groups(rulebook.alone),
    )


def _run_of_view(rule: Rule, view: View) -> str:
    return view.run_key(rule.journey) or f"{rule.journey}/"
