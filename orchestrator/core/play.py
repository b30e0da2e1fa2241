"""Plays: a rule's program being carried out for one customer and one run.

A program is a list of steps with jump targets. It runs until it must wait, and then it is a ``Play`` in the
customer's state with exactly one timer. A play that never waits leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import assert_never

from orchestrator.core import stage
from orchestrator.core.chance import choose_arm
from orchestrator.core.condition import Root
from orchestrator.core.definition import (
    HOLDOUT,
    Branch,
    Case,
    Exit,
    IfPast,
    Jump,
    MissingTemplateValue,
    Rule,
    Send,
    SetConsent,
    SetStage,
    SetTrait,
    Split,
    Step,
    Wait,
    WaitFor,
)
from orchestrator.core.emission import Outlook, deliver, emitted_by, outlook_of, record_missing
from orchestrator.core.ending import end_plays, forget_play, rule_of
from orchestrator.core.limit import zones_of
from orchestrator.core.localtime import next_local_minute
from orchestrator.core.moment import parse_moment
from orchestrator.core.profile import set_consent, set_trait
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw, withdraw_refused
from orchestrator.core.state import Play
from orchestrator.core.turn import Turn, timer_id
from orchestrator.core.view import Properties

#: Steps that one stimulus may carry out in one play; beyond it the play ends and says so.
STEPS_MAX = 64


@dataclass(slots=True)
class Progress:
    """A play while its program runs."""

    rule: Rule
    run: str
    cause: str
    facts: Properties
    started_at: int
    variant: str = ""
    pc: int = 0
    triggered_at: int = 0  # event time of the trigger

    @property
    def key(self) -> str:
        """Return the name of the play in the customer's state."""
        return play_key(self.rule, self.run)


def play_key(rule: Rule, run: str) -> str:
    """Return the name of a play: one per rule and run."""
    return f"{rule.id}|{run}"


def start(turn: Turn, rule: Rule, run: str, facts: Properties, cause: str) -> None:
    """Start the rule's program, in place of an open play of this rule and run where there is one."""
    _replace(turn, rule, run)
    kept = {name: facts[name] for name in rule.captures if name in facts}
    _carry_on(turn, Progress(rule, run, cause, kept, turn.now_ms, triggered_at=turn.at_ms))


def may_start(turn: Turn, rule: Rule, run: str, cause: str) -> bool:
    """Return whether no play of the rule and run is open, or a newer trigger may replace it."""
    open_play = turn.state.plays.get(play_key(rule, run))
    if open_play is None:
        return True
    return rule.restart and open_play.cause != cause and open_play.triggered_at <= turn.at_ms


def _replace(turn: Turn, rule: Rule, run: str) -> None:
    """End the open play of a rule that begins anew, and take back what it sent and was not delivered yet."""
    replaced = turn.state.plays.get(play_key(rule, run))
    if replaced is None:
        return
    end_plays(turn, lambda play: play is replaced, Reason.RESTARTED)
    sent = emitted_by(turn, rule_of(turn, replaced), run, replaced.cause)
    withdraw(turn, lambda action_id, _: action_id in sent, Reason.RESTARTED)


def wake(turn: Turn, key: str) -> None:
    """Go on with a play whose timer has come due."""
    play = turn.state.plays.pop(key, None)
    if play is None:
        return
    with under(turn, play.version):
        progress = _resumed(turn, play)
        if play.deferred:
            _carry_on(turn, progress, Reason.REVALIDATED)
            return
        step = progress.rule.program[progress.pc]
        progress.pc = step.else_pc if isinstance(step, WaitFor) else progress.pc + 1
        _carry_on(turn, progress, Reason.RESUMED)


def hear(turn: Turn, rule: Rule, pc: int, runs: Callable[[str], bool], waiting: Mapping[str, Play]) -> None:
    """Go on with the plays of ``rule`` that wait at ``pc`` for the event that has just happened.

    ``waiting`` are the plays as the event found them: one that the event has moved on does not hear it again.
    """
    for key, play in waiting.items():
        concerned = play.rule == rule.id and play.pc == pc and not play.deferred and runs(play.run)
        if concerned and play.version == turn.rulebook.version and turn.state.plays.get(key) is play:
            forget_play(turn, key)
            progress = _resumed(turn, play)
            progress.pc += 1
            _carry_on(turn, progress, Reason.RESUMED)


def versions(turn: Turn) -> list[str]:
    """Return the versions that open plays go on with: the one in force, then those that some are pinned to."""
    current = turn.rulebook.version
    return [current, *sorted({play.version for play in turn.state.plays.values()} - {current})]


@contextmanager
def under(turn: Turn, version: str) -> Iterator[None]:
    """Decide by an earlier version that plays are pinned to; by the one in force when it is that."""
    current = turn.rulebook
    if version != current.version:
        turn.rulebook = current.earlier[version]
    try:
        yield
    finally:
        turn.rulebook = current


def _resumed(turn: Turn, play: Play) -> Progress:
    """Return the play's progress. An edit that leaves it no place has ended it before (see ``edit``)."""
    rule = turn.rulebook.rules[play.rule]
    return Progress(rule, play.run, play.cause, play.facts, play.started_at, play.variant, play.pc, play.triggered_at)


def first_outlook(turn: Turn, rule: Rule, run: str, facts: Properties) -> tuple[Outlook | None, str]:
    """Look ahead to the first action of the program without sending it.

    Returns its outlook (None when the program waits or ends before any action) and the arm that leads there.
    """
    variant = ""
    pc = 0
    for _ in range(STEPS_MAX):
        if pc >= len(rule.program):
            return None, variant
        step = rule.program[pc]
        match step:
            case Split():
                variant = choose_arm(step.id, turn.customer_id, step.arms)
                if variant == HOLDOUT:
                    return None, variant
                pc += 1
            case Send():
                return outlook_of(turn, rule, step, facts), variant
            case Jump() | Case() | Branch():
                pc = _next_pc(turn, rule, run, facts, variant, pc)
            case SetTrait() | SetConsent() | SetStage():
                pc += 1
            case _:
                return None, variant
    return None, variant


def _next_pc(turn: Turn, rule: Rule, run: str, facts: Properties, variant: str, pc: int) -> int:
    step = rule.program[pc]
    match step:
        case Jump():
            return step.pc
        case Case():
            return pc + 1 if step.arm == variant else step.else_pc
        case Branch():
            return pc + 1 if turn.rulebook.branches[rule.id, pc](turn.view(facts, run)) else step.else_pc
        case _:
            return pc + 1


def _carry_on(turn: Turn, progress: Progress, reason: Reason = Reason.TRIGGERED) -> None:
    """Run the program until it waits or ends."""
    told = len(turn.records)
    for _ in range(STEPS_MAX):
        if progress.pc >= len(progress.rule.program):
            # A play that came to nothing, such as one whose `if` was false, leaves its line as well.
            if reason is Reason.RESUMED or len(turn.records) == told:
                _record_end(turn, progress, Reason.COMPLETED)
            return
        step = progress.rule.program[progress.pc]
        if _perform(turn, progress, step, reason):
            return
    _record_end(turn, progress, Reason.STEP_CEILING)


def _record_end(turn: Turn, progress: Progress, reason: Reason) -> None:
    turn.record(progress.rule, progress.run, Outcome.ENDED, reason, variant=progress.variant, cause=progress.cause)


def _record_step(turn: Turn, progress: Progress, step: Step, reason: Reason, **detail: str) -> None:
    """Leave the line of a step that sends nothing and does not wait."""
    turn.record(
        progress.rule,
        progress.run,
        Outcome.NOTED,
        reason,
        step=step.step,
        variant=progress.variant,
        cause=progress.cause,
        **detail,
    )


def _perform(turn: Turn, progress: Progress, step: Step, reason: Reason) -> bool:
    """Carry out one step and move on; return whether the play stops here (it waits or has ended)."""
    match step:
        case Send():
            until_ms = deliver(turn, progress.rule, step, progress, reason)
            if until_ms is not None:
                _park(turn, progress, until_ms, deferred=True)
                return True
            progress.pc += 1
        case Wait() | WaitFor():
            return _wait(turn, progress, step)
        case Jump() | Case() | Branch():
            progress.pc = _next_pc(turn, progress.rule, progress.run, progress.facts, progress.variant, progress.pc)
        case Split():
            progress.variant = choose_arm(step.id, turn.customer_id, step.arms)
            if progress.variant == HOLDOUT:
                _record_end(turn, progress, Reason.HOLDOUT)
                return True
            progress.pc += 1
        case SetTrait():
            _set_trait(turn, progress, step)
            progress.pc += 1
        case SetConsent():
            _set_consent(turn, progress, step)
            progress.pc += 1
        case SetStage():
            _record_step(turn, progress, step, Reason.STAGE_SET, stage=step.stage)
            if (ended := stage.place(turn, progress.run, step.stage)) is not None:
                _record_end(turn, progress, ended)
                return True
            progress.pc += 1
        case Exit():
            _record_end(turn, progress, Reason.EXITED)
            return True
        case _:
            assert_never(step)
    return False


def _set_trait(turn: Turn, progress: Progress, step: SetTrait) -> None:
    """Set the trait, on record; where its text needs what is not there, the trait stays and the record says so."""
    value = step.value
    if step.text is not None:
        facts = turn.view(progress.facts, progress.run).template_facts(progress.rule.journey)
        try:
            value = step.text.render(facts)[step.trait]
        except MissingTemplateValue as missing:
            record_missing(turn, progress.rule, progress, step.step, step.text.name, missing)
            return
    turn.traits_changed |= set_trait(turn.state, step.trait, value, turn.at_ms)
    _record_step(turn, progress, step, Reason.TRAIT_SET, trait=step.trait)


def _set_consent(turn: Turn, progress: Progress, step: SetConsent) -> None:
    """Set a consent, on record: what is pending and needs one that is refused now is taken back."""
    changed = set_consent(turn.state, step.purpose, step.granted, turn.at_ms)
    word = "given" if step.granted else "refused"
    _record_step(turn, progress, step, Reason.CONSENT_SET, purpose=step.purpose, consent=word)
    if changed and not step.granted:
        withdraw_refused(turn, [step.purpose])


def _wait(turn: Turn, progress: Progress, step: Wait | WaitFor) -> bool:
    """Park the play until its wait is over; a wait that is over already is passed."""
    if isinstance(step, WaitFor):
        _park(turn, progress, turn.now_ms + step.within_ms)
        turn.record(progress.rule, progress.run, Outcome.WAITING, Reason.WAITING_FOR_EVENT, step=step.step)
        return True
    until_ms = _wait_until(turn, progress, step)
    if isinstance(until_ms, Reason):
        _record_end(turn, progress, until_ms)
        return True
    if until_ms < turn.now_ms and step.until_path is not None:
        return _is_past(turn, progress, step, until_ms)
    if until_ms <= turn.now_ms:
        progress.pc += 1
        return False
    _park(turn, progress, until_ms)
    turn.record(progress.rule, progress.run, Outcome.WAITING, Reason.WAITING_FOR_TIME, step=step.step, until=until_ms)
    return True


def _is_past(turn: Turn, progress: Progress, step: Wait, until_ms: int) -> bool:
    """Do what a wait says of a moment that has passed, on record."""
    outcome = Outcome.ENDED if step.if_past is IfPast.END else Outcome.NOTED
    turn.record(
        progress.rule,
        progress.run,
        outcome,
        Reason.MOMENT_PASSED,
        step=step.step,
        variant=progress.variant,
        cause=progress.cause,
        until=until_ms,
        then=step.if_past.value,
    )
    match step.if_past:
        case IfPast.GO:
            progress.pc += 1
        case IfPast.SKIP:
            progress.pc = step.skip_pc
        case IfPast.END:
            return True
        case _:
            assert_never(step.if_past)
    return False


def follow_traits(turn: Turn) -> None:
    """Ask again the waits that last until a trait, where it has changed; one that has moved is begun anew.

    A play that goes on by it may set traits itself, so this is repeated while any does. It comes to an end: a play is
    only asked where it waits, and goes forward from there.
    """
    while turn.traits_changed:
        turn.traits_changed = False
        for version in versions(turn):
            with under(turn, version):
                for key, play in list(turn.state.plays.items()):
                    if turn.state.plays.get(key) is play and play.version == version:
                        _follow_trait(turn, key, play)


def _follow_trait(turn: Turn, key: str, play: Play) -> None:
    progress = _resumed(turn, play)
    step = progress.rule.program[play.pc]
    if (
        play.deferred
        or not isinstance(step, Wait)
        or step.until_path is None
        or step.until_path.root is not Root.PROFILE
    ):
        return
    if _wait_until(turn, progress, step) != turn.state.timers.get(timer_id("play", "", key)):
        forget_play(turn, key)
        _carry_on(turn, progress, Reason.RESUMED)


def _wait_until(turn: Turn, progress: Progress, step: Wait) -> int | Reason:
    """Return when a wait is over, or why nobody can tell: what comes after it would come at any time then."""
    moment = turn.now_ms
    if step.until_path is not None:
        found = parse_moment(turn.view(progress.facts, progress.run).read(step.until_path, progress.rule.journey))
        if found is None:
            return Reason.MOMENT_UNKNOWN
        moment = found
    moment += step.for_ms
    if step.until_min is None:
        return moment
    zones = zones_of(turn.state, step.zone, progress.facts)
    if not zones:
        return Reason.ZONE_UNKNOWN
    return max(next_local_minute(moment, step.until_min, zone) for zone in zones)


def _park(turn: Turn, progress: Progress, until_ms: int, *, deferred: bool = False) -> None:
    turn.state.plays[progress.key] = Play(
        rule=progress.rule.id,
        version=turn.rulebook.version,
        run=progress.run,
        pc=progress.pc,
        cause=progress.cause,
        started_at=progress.started_at,
        facts=dict(progress.facts),
        variant=progress.variant,
        deferred=deferred,
        step=progress.rule.program[progress.pc].step,
        triggered_at=progress.triggered_at,
    )
    turn.state.timers[timer_id("play", "", progress.key)] = until_ms
