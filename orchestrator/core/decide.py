"""The decision function: facts in, decision out.

    decide(rulebook, state, stimulus, now) -> Decision(state', actions, records)

The order of business is part of the language. First comes what an edit of the rulebook does to what is under way
(``edit``). For an event: profile and consent, receipts, aggregates, stages, exits and awaited events, absences;
only then is any ``when`` read. For a timer: what it stands for. Candidates whose run is open (see ``run``) then pass
eligibility and limits, experiment and arbitration, and the winners act.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from orchestrator.core import absence, edit, erasure, identity, play, run, sequence, stage, trial
from orchestrator.core.arbitration import Candidate, settled, slot_due, winner_of
from orchestrator.core.decision import Decision
from orchestrator.core.definition import HOLDOUT, OnSchedule, Rule
from orchestrator.core.ending import end_plays
from orchestrator.core.event import (
    ALIAS,
    CONSENT_CHANGED,
    CUSTOMER_ERASED,
    IDENTIFY,
    MERGE_REFUSED,
    MERGE_REQUESTED,
    OUTCOMES,
    PROFILE_MERGED,
    RECEIPTS,
    Event,
)
from orchestrator.core.limit import cooldown_left_ms
from orchestrator.core.profile import learn
from orchestrator.core.propensity import BetaBernoulli, Propensity
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import sender_of, settle, withdraw, withdraw_refused
from orchestrator.core.rulebook import EventPlan, Rulebook, SequenceWatch
from orchestrator.core.seen import mark_of, was_seen, with_mark
from orchestrator.core.state import CustomerState, Play
from orchestrator.core.turn import Transition, Turn, forked, timer_parts
from orchestrator.core.view import View


class TimerDue(msgspec.Struct, frozen=True):
    """The stimulus "this timer is due". Its ``now`` is its due time, whatever the clock says."""

    customer_id: str
    timer: str
    due_ms: int


Stimulus = Event | TimerDue

#: Events about the customer as a whole, which no rule reads.
_ANSWERS = {
    CUSTOMER_ERASED: erasure.erase,
    MERGE_REQUESTED: identity.hand_over,
    PROFILE_MERGED: identity.absorb,
    MERGE_REFUSED: identity.be_refused,
}
#: Events that may name another id of the same customer.
_NAMING = frozenset({ALIAS, IDENTIFY})

#: Events that tell of the profile, of consent or of an action whatever the tracking plan says.
_TELLING = RECEIPTS | OUTCOMES | {IDENTIFY, CONSENT_CHANGED}

#: How often programs that move runs may set off further programs, in one decision.
ROUNDS_MAX = 8

#: The model of callers that have none: it has learned nothing and is never taught.
_UNTAUGHT = BetaBernoulli()


def decide(
    rulebook: Rulebook, state: CustomerState, stimulus: Stimulus, now_ms: int, model: Propensity = _UNTAUGHT
) -> Decision:
    """Return what follows from one stimulus. Pure: the same arguments always give the same answer.

    ``now_ms`` is a fact of the log: the record's stamp for an event, the due time for a timer. ``state`` is not
    changed. An event that was applied before, or that belongs to a past that was erased, changes nothing and is
    answered with ``duplicate``. ``model`` is asked for learned propensities; the decision's ``lessons`` are for the
    caller to teach it afterwards.
    """
    if isinstance(stimulus, Event):
        return _decide_event(rulebook, state, stimulus, now_ms, model)
    return _decide_timer(rulebook, state, stimulus, model)


def due_timers(state: CustomerState, customer_id: str, until_ms: int) -> list[TimerDue]:
    """Return the customer's timers that are due by ``until_ms``, in due order."""
    due = sorted((moment, timer) for timer, moment in state.timers.items() if moment <= until_ms)
    return [TimerDue(customer_id, timer, moment) for moment, timer in due]


# ---------------------------------------------------------------------------------------------- an event


def _decide_event(rulebook: Rulebook, state: CustomerState, event: Event, now_ms: int, model: Propensity) -> Decision:
    mark = mark_of(event.id)
    if was_seen(state.seen, mark) or (state.erased_at_ms and erasure.is_forgotten(state, event)):
        return Decision(state, [], [], duplicate=True)
    # Comparing costs half of what min() and max() do, here and below.
    now_ms = now_ms if now_ms > state.clock_ms else state.clock_ms
    at_ms = event.occurred_at_ms if event.occurred_at_ms < now_ms else now_ms
    fork = forked(state)
    fork.clock_ms = now_ms
    fork.seen, fork.seen_days = with_mark(fork.seen, fork.seen_days, mark, now_ms)
    turn = Turn(rulebook, fork, event.customer_id, now_ms, at_ms, event.id, event.properties, event.context, model)
    if state.merged_into and event.type != CUSTOMER_ERASED:
        return identity.forward(turn, event)
    if (answer := _ANSWERS.get(event.type)) is not None:
        return _answered(turn, event, answer)
    if not fork.known:
        identity.note_standing(fork, event)
    fork.frontier_ms = at_ms if at_ms > fork.frontier_ms else fork.frontier_ms
    fork.first_seen_ms = fork.first_seen_ms or now_ms
    _apply(turn, event, rulebook.plan(event.type))
    events = identity.ask(turn, event) if event.type in _NAMING else []
    return Decision(fork, turn.actions, turn.records, False, turn.lessons, events)


def _answered(turn: Turn, event: Event, answer: Callable[[Turn, Event], Decision]) -> Decision:
    """Return the answer to an event about the customer as a whole; a merge may have changed what plays wait for."""
    decision = answer(turn, event)
    if not turn.traits_changed or not turn.state.plays:
        return decision
    edit.catch_up(turn)
    _follow_traits(turn)
    return Decision(turn.state, turn.actions, turn.records, lessons=turn.lessons, events=decision.events)


def _apply(turn: Turn, event: Event, plan: EventPlan) -> None:
    state = turn.state
    if state.plays or state.edition != turn.rulebook.edition:
        edit.catch_up(turn)
    if state.pending and "action_id" in event.properties:
        turn.sender = sender_of(state, event.properties)
    if event.type in _TELLING or "consent" in event.context:
        _be_told(turn, event)
    view = turn.view()
    if plan.aggregates:
        _count(turn, plan, view)
    for entry in plan.stages:
        stage.follow_event(turn, entry, view)
    if state.plays or state.pending:
        _continue_all_plays(turn, plan, event, view)
    if state.trials:
        for rule_id in trial.rewarding(turn.rulebook, event.type):
            trial.reward(turn, rule_id, view)
    for watch in plan.preventing:
        absence.prevent(turn, watch, view)
    for watch in plan.arming:
        absence.arm(turn, watch, event, view)
    if candidates := _candidates(turn, plan, event, view):
        _act(turn, candidates)
    if turn.traits_changed:
        _follow_traits(turn)


def _follow_traits(turn: Turn) -> None:
    """Let waits follow the traits that they last until, and rules the runs that are moved by it."""
    for _ in range(ROUNDS_MAX):
        play.follow_traits(turn)
        if not turn.moves:
            return
        _act(turn, _moved_candidates(turn))


def _be_told(turn: Turn, event: Event) -> None:
    """Take in what an event says about the profile, consent, and what became of an action."""
    withdrawn = learn(turn.state, event, turn.at_ms)
    settle(turn, event)
    if withdrawn:
        withdraw_refused(turn, withdrawn)
    if event.type == IDENTIFY:
        turn.traits_changed = bool(turn.state.plays)
        if turn.state.runs:
            stage.follow_profile(turn)


def _candidates(turn: Turn, plan: EventPlan, event: Event, view: View) -> list[Candidate]:
    """Return the rules whose ``when`` is true, after everything that the event changed."""
    candidates = [_candidate(turn, rule, view) for rule in plan.group.candidates(view)]
    for ordered in plan.sequences:
        candidates += _sequence_candidates(turn, ordered, event, view)
    if turn.moves:
        candidates += _moved_candidates(turn)
    return candidates


def _count(turn: Turn, plan: EventPlan, view: View) -> None:
    aggregates, at_ms, properties = turn.state.aggregates, turn.at_ms, turn.event
    for aggregate, holds, update in plan.aggregates:
        if holds is None or holds(view):
            name = aggregate.name
            aggregates[name] = update(aggregates.get(name), at_ms, properties)


def _continue_all_plays(turn: Turn, plan: EventPlan, event: Event, view: View) -> None:
    """End or move on what is under way and the event concerns, each under the version that it goes on with."""
    _continue_plays(turn, plan, view)
    if turn.state.plays:
        for version in play.versions(turn)[1:]:
            with play.under(turn, version):
                _continue_plays(turn, turn.rulebook.plan(event.type), turn.view())


def _continue_plays(turn: Turn, plan: EventPlan, view: View) -> None:
    """End or move on the plays of the turn's version that the event concerns."""
    for rule, holds in plan.exits:
        if holds is None or holds(view):
            _exit(turn, rule, view)
    if plan.awaiting:
        waiting = turn.state.plays.copy()
        # The outcome of an action answers no other run, of whichever journey.
        concerns = turn.sender.__eq__ if turn.sender else view.concerns
        for rule, pc, holds in plan.awaiting:
            if holds is None or holds(view):
                play.hear(turn, rule, pc, concerns, waiting)


def _exit(turn: Turn, rule: Rule, view: View) -> None:
    def concerned(one: Play) -> bool:
        return one.rule == rule.id and one.version == turn.rulebook.version and view.concerns(one.run)

    end_plays(turn, concerned, Reason.EXITED)
    withdraw(turn, lambda _, entry: entry.rule == rule.id and view.concerns(entry.run), Reason.EXITED)


def _candidate(turn: Turn, rule: Rule, view: View) -> Candidate:
    return Candidate(rule, view.run_key(rule.journey) or f"{rule.journey}/", turn.event, turn.cause)


def _sequence_candidates(turn: Turn, watch: SequenceWatch, event: Event, view: View) -> list[Candidate]:
    if sequence.observe(turn, watch, event.type, view) is None:
        return []
    return [_candidate(turn, rule, view) for rule in watch.group.candidates(view)]


def _moved_candidates(turn: Turn) -> list[Candidate]:
    """Return the rules that watch for what runs have just left and entered."""
    moves, turn.moves = turn.moves, []
    return [one for move in moves for one in _stage_candidates(turn, move)]


def _stage_candidates(turn: Turn, move: Transition) -> list[Candidate]:
    left = turn.rulebook.leaves.get((move.journey.id, move.left))
    entered = turn.rulebook.enters.get((move.journey.id, move.entered))
    if left is None and entered is None:
        return []
    view = turn.view(pinned=move.run)
    rules = [rule for group in (left, entered) if group is not None for rule in group.candidates(view)]
    return [Candidate(rule, move.run, turn.event, turn.cause) for rule in rules]


def _in_run(turn: Turn, candidate: Candidate) -> bool:
    """Return whether the run is open that the rule acts for; record it otherwise."""
    rule = candidate.rule
    if run.is_open_for(turn, rule, candidate.run, candidate.armed_at):
        return True
    detail = run.standing(turn, rule, candidate.run)
    turn.record(rule, candidate.run, Outcome.BLOCKED, Reason.RUN_NOT_OPEN, **detail)
    return False


def _in_time(turn: Turn, candidate: Candidate) -> bool:
    """Return whether the event came early enough for the rule; record it otherwise."""
    late_ms = turn.now_ms - turn.at_ms
    if late_ms <= candidate.rule.lateness_ms:
        return True
    turn.record(
        candidate.rule,
        candidate.run,
        Outcome.BLOCKED,
        Reason.TOO_LATE,
        late_ms=late_ms,
        lateness_ms=candidate.rule.lateness_ms,
    )
    return False


# ---------------------------------------------------------------------------------------------- a timer


def _decide_timer(rulebook: Rulebook, state: CustomerState, due: TimerDue, model: Propensity) -> Decision:
    if state.timers.get(due.timer) != due.due_ms:
        return Decision(state, [], [])
    now_ms = max(due.due_ms, state.clock_ms)
    fork = forked(state)
    fork.clock_ms = now_ms
    del fork.timers[due.timer]
    kind, name, instance = timer_parts(due.timer)
    turn = Turn(rulebook, fork, due.customer_id, now_ms, now_ms, f"{due.timer}@{due.due_ms}", {}, {}, model)
    edit.catch_up(turn)
    match kind:
        case "absence":
            _absence_due(turn, f"{name}|{instance}")
        case "play":
            play.wake(turn, instance)
            _act(turn, _moved_candidates(turn))
        case "stage":
            stage.follow_timer(turn, name, instance)
            _act(turn, _moved_candidates(turn))
        case "dwell" | "schedule":
            _alone_due(turn, due.due_ms, name, instance)
        case "trial":
            trial.expire(turn, name, instance)
        case "slot":
            _slot_due(turn, name)
        case _:
            raise AssertionError(f"a timer of unknown kind: {due.timer}")
    if turn.traits_changed:
        _follow_traits(turn)
    return Decision(fork, turn.actions, turn.records, lessons=turn.lessons)


def _absence_due(turn: Turn, key: str) -> None:
    found = absence.fired(turn, key)
    if found is None:
        return
    watch, arm = found
    first_action = len(turn.actions)
    turn.event = arm.facts
    rules = watch.group.candidates(turn.view(pinned=arm.run))
    instance = arm.run.partition("/")[2]
    _act(turn, [Candidate(rule, f"{rule.journey}/{instance}", arm.facts, turn.cause, arm.armed_at) for rule in rules])
    absence.remember(turn, key, arm, first_action)


def _alone_due(turn: Turn, due_ms: int, rule_id: str, key: str) -> None:
    """Decide a rule that watches the clock by itself: a dwell or a schedule, if that is what the clock says."""
    rule = turn.rulebook.rules.get(rule_id)
    group = turn.rulebook.alone.get(rule_id)
    if rule is None or group is None:
        return
    due = stage.is_due(turn, rule, key, due_ms)
    if isinstance(rule.trigger, OnSchedule):
        stage.set_schedule(turn, rule, key)
    if due:
        _act(turn, [Candidate(one, key, {}, turn.cause) for one in group.candidates(turn.view({}, key))])


def _slot_due(turn: Turn, slot: str) -> None:
    """Settle a slot whose window has closed, among those that may still act now."""
    eligible = [one for one in slot_due(turn, slot) if _eligible(turn, one)]
    for winner in winner_of(turn, slot, eligible):
        _start(turn, winner)
    _act(turn, _moved_candidates(turn))


# ------------------------------------------------------------------------------------------- candidates


def _act(turn: Turn, candidates: Sequence[Candidate]) -> None:
    """Let the candidates pass eligibility, limits, experiment and arbitration; start the winners' programs.

    Where these move runs to other stages, the rules that watch for it follow.
    """
    for _ in range(ROUNDS_MAX):
        eligible = [one for one in candidates if _in_time(turn, one) and _in_run(turn, one) and _eligible(turn, one)]
        for winner in settled(turn, eligible):
            _start(turn, winner)
        if not turn.moves:
            return
        candidates = _moved_candidates(turn)
    for one in candidates:
        turn.record(one.rule, one.run, Outcome.BLOCKED, Reason.STEP_CEILING)


def _start(turn: Turn, winner: Candidate) -> None:
    trial.begin(turn, winner)
    play.start(turn, winner.rule, winner.run, winner.facts, winner.cause)


def _eligible(turn: Turn, candidate: Candidate) -> bool:
    rule, key = candidate.rule, candidate.run
    if not play.may_start(turn, rule, key, candidate.cause):
        turn.record(rule, key, Outcome.BLOCKED, Reason.ALREADY_IN_PLAY)
        return False
    left_ms = cooldown_left_ms(turn, rule, key)
    if left_ms:
        turn.record(rule, key, Outcome.BLOCKED, Reason.COOLDOWN, left_ms=left_ms)
        return False
    if rule.arbitrate is None:
        return True
    return _worth_competing(turn, candidate)


def _worth_competing(turn: Turn, candidate: Candidate) -> bool:
    """A rule that could not act anyway, or must not by experiment, does not take the slot from one that can."""
    rule, key = candidate.rule, candidate.run
    outlook, variant = play.first_outlook(turn, rule, key, candidate.facts)
    if variant == HOLDOUT:
        turn.record(rule, key, Outcome.BLOCKED, Reason.HOLDOUT, variant=variant)
        return False
    if outlook is not None and outlook.blocked and outlook.verdict.reason is not None:
        turn.record(rule, key, Outcome.BLOCKED, outlook.verdict.reason, variant=variant, **outlook.verdict.detail)
        return False
    return True
