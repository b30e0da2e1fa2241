"""Absence: A happened, and then no B for a span. The trigger behind every "they did not come back" rule.

One arm is kept per watched pair and instance (a cart, an application, or the customer). Everything is
measured in event time, so the order of arrival does not matter. (With ``first``, an A that found the clock running
leaves no trace: should a late B stop that clock between the two, the next A starts it again, not this one.)

====================  =============================================================================
stimulus              effect
====================  =============================================================================
A                     arm, or move the arm to the later (``latest``) or keep the earlier (``first``),
                      unless a B at or after it is known already
B at or after A       disarm; if the arm has fired already, take back what it sent ("late event")
timer                 fire: the watched span is over and its log has been read
====================  =============================================================================
"""

from __future__ import annotations

import msgspec

from orchestrator.core.definition import Rearm, Rule
from orchestrator.core.emission import emitted_by
from orchestrator.core.ending import end_plays
from orchestrator.core.event import Event
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw
from orchestrator.core.rulebook import Watch
from orchestrator.core.state import FIRINGS_MAX, INSTANCES_MAX, Arm, Firing
from orchestrator.core.turn import Turn
from orchestrator.core.view import View, tied_key


def arm_key(watch: Watch, instance: str) -> str:
    """Return the name of an arm in the customer's state; its timer is ``absence|`` plus this name."""
    return f"{watch.name}|{instance}"


def _timer(key: str) -> str:
    return f"absence|{key}"


def _instance(watch: Watch, view: View) -> str | None:
    return "" if watch.tie is None else tied_key(view, watch.group.rules[0].journey, watch.tie)


def prevent(turn: Turn, watch: Watch, view: View) -> None:
    """Apply the event that must not be missing."""
    instance = _instance(watch, view)
    if instance is None or (watch.of_holds is not None and not watch.of_holds(view)):
        return
    key = arm_key(watch, instance)
    arm = turn.state.arms.get(key)
    if arm is None:
        _make_room(turn, watch)
        turn.state.arms[key] = Arm(armed_at=0, cause="", prevented_at=turn.at_ms)
        return
    turn.state.arms[key] = msgspec.structs.replace(arm, prevented_at=max(arm.prevented_at, turn.at_ms))
    if arm.armed_at and turn.at_ms >= arm.armed_at:
        turn.state.timers.pop(_timer(key), None)
    for firing in _firings(arm):
        if firing.armed_at <= turn.at_ms < firing.armed_at + watch.trigger.for_ms:
            _take_back(turn, watch, firing)


def _firings(arm: Arm) -> list[Firing]:
    return [*arm.earlier, Firing(arm.armed_at, arm.fired_by, arm.actions)] if arm.fired_by else arm.earlier


def _take_back(turn: Turn, watch: Watch, firing: Firing) -> None:
    """Undo a firing that this event, had it come in time, would have prevented: its plays and all that they sent."""
    rules = {rule.id for rule in watch.group.rules}
    end_plays(turn, lambda play: play.rule in rules and play.cause == firing.timer, Reason.LATE_EVENT)
    # What a play sent later, after quiet hours or a wait, is known by the cause that its id is made of.
    emitted = set(firing.actions)
    for rule_id, run in {(entry.rule, entry.run) for entry in turn.state.pending.values() if entry.rule in rules}:
        for rule in _editions(turn, rule_id):
            emitted |= emitted_by(turn, rule, run, firing.timer)
    withdraw(turn, lambda action_id, _: action_id in emitted, Reason.LATE_EVENT)


def _editions(turn: Turn, rule_id: str) -> list[Rule]:
    """Return a rule as the version in force and those that plays may be pinned to have it."""
    books = (turn.rulebook, *turn.rulebook.earlier.values())
    return [book.rules[rule_id] for book in books if rule_id in book.rules]


def arm(turn: Turn, watch: Watch, event: Event, view: View) -> None:
    """Apply the event after which the other one is expected."""
    instance = _instance(watch, view)
    if instance is None or (watch.after_holds is not None and not watch.after_holds(view)):
        return
    if turn.now_ms - turn.at_ms > watch.lateness_ms:
        return
    key = arm_key(watch, instance)
    known = turn.state.arms.get(key)
    if known is None:
        _make_room(turn, watch)
    elif _prevented(turn, watch, known, event, view) or not _rearms(turn, watch, known, key):
        return
    journey = watch.group.rules[0].journey
    due_ms = max(turn.at_ms + watch.trigger.for_ms, turn.now_ms)
    turn.state.arms[key] = Arm(
        armed_at=turn.at_ms,
        cause=event.id,
        prevented_at=0 if known is None else known.prevented_at,
        due_at=due_ms,
        facts={name: event.properties[name] for name in watch.captures if name in event.properties},
        run=view.run_key(journey) or f"{journey}/",
        earlier=[] if known is None else _firings(known)[-FIRINGS_MAX:],
    )
    turn.state.timers[_timer(key)] = due_ms


def _prevented(turn: Turn, watch: Watch, known: Arm, event: Event, view: View) -> bool:
    """Return whether a B at or after this A is known; where A and B are of one type, an event is not its own B."""
    its_own = event.type == watch.trigger.of and (watch.of_holds is None or watch.of_holds(view))
    return known.prevented_at > turn.at_ms if its_own else known.prevented_at >= turn.at_ms


def _rearms(turn: Turn, watch: Watch, known: Arm, key: str) -> bool:
    """Return whether a further A starts the clock anew."""
    if not known.armed_at or known.prevented_at >= known.armed_at:
        return True
    waiting = _timer(key) in turn.state.timers
    if watch.trigger.rearm is Rearm.LATEST:
        return turn.at_ms > known.armed_at
    if waiting:
        return turn.at_ms < known.armed_at or _before_its_run(turn, watch, known)
    # A late A within the span that has fired belongs to that firing; it begins no other.
    return turn.at_ms > known.armed_at if not known.fired_by else turn.at_ms >= known.armed_at + watch.trigger.for_ms


def _before_its_run(turn: Turn, watch: Watch, known: Arm) -> bool:
    """Return whether an A came before the run had begun, so that it does not count; the first one within it does."""
    run = turn.state.runs.get(known.run)
    return not watch.anytime and run is not None and known.armed_at < run.started_at <= turn.at_ms


def fired(turn: Turn, key: str) -> tuple[Watch, Arm] | None:
    """Return the watch and arm whose timer has come due; None when the rulebook no longer has them."""
    watch = turn.rulebook.watches.get(key.partition("|")[0])
    known = turn.state.arms.get(key)
    if watch is None or known is None or not known.armed_at:
        turn.state.arms.pop(key, None)
        return None
    return watch, known


def remember(turn: Turn, key: str, known: Arm, first_action: int) -> None:
    """Keep which actions a firing emitted, so that a late event can still take them back."""
    emitted = [action.id for action in turn.actions[first_action:] if not action.cancel]
    turn.state.arms[key] = msgspec.structs.replace(known, actions=emitted, fired_by=turn.cause)


def _make_room(turn: Turn, watch: Watch) -> None:
    """Forget arms of this watch that no tolerated event can concern any more, then the oldest above the ceiling."""
    prefix = watch.name + "|"
    span = watch.trigger.for_ms + watch.lateness_ms
    quiet = {
        key: max(one.armed_at, one.prevented_at)
        for key, one in turn.state.arms.items()
        if key.startswith(prefix) and _timer(key) not in turn.state.timers
    }
    for key, newest in quiet.items():
        if newest + span < turn.now_ms:
            del turn.state.arms[key]
    kept = [key for key in turn.state.arms if key.startswith(prefix)]
    if len(kept) >= INSTANCES_MAX:
        # What nobody waits for goes first, and without a word: nothing is lost with it but a late event's effect.
        oldest = min(kept, key=lambda key: (_timer(key) in turn.state.timers, turn.state.arms[key].armed_at, key))
        forgotten = turn.state.arms.pop(oldest)
        if turn.state.timers.pop(_timer(oldest), None) is not None:
            for rule in watch.group.rules:
                turn.record(rule, forgotten.run, Outcome.BLOCKED, Reason.INSTANCE_CEILING, cause=forgotten.cause)
