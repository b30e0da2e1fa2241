"""Ends: of plays, and of all that lives by a run. What a rule does ``anytime`` lives by none."""

from __future__ import annotations

from collections.abc import Callable, Collection

from orchestrator.core.definition import OnEvent, Rule
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw
from orchestrator.core.run import ends_with
from orchestrator.core.state import Bid, Pending, Play
from orchestrator.core.turn import Turn, timer_id, timer_parts

#: Kinds of timers that a run's standing still sets.
STANDSTILL = frozenset({"stage", "dwell"})
_SCHEDULE = frozenset({"schedule"})


def end_plays(turn: Turn, wanted: Callable[[Play], bool], reason: Reason) -> None:
    """End every open play that ``wanted`` picks, at once, even mid-wait."""
    for key, play in list(turn.state.plays.items()):
        if wanted(play):
            forget_play(turn, key)
            turn.record(rule_of(turn, play), play.run, Outcome.ENDED, reason, variant=play.variant)


def end_run(turn: Turn, key: str, reason: Reason) -> None:
    """End everything that lives by the run: plays, watched absences, bids, timers, actions not yet delivered.

    What the same decision has sent, it has sent: a play may say good-bye and then end the run.
    """
    runs, rules = ends_with(turn, key), turn.rulebook.rules
    end_plays(turn, lambda play: play.run in runs and not rule_of(turn, play).anytime, reason)
    drop_timers(turn, key, _SCHEDULE)
    for name, arm in list(turn.state.arms.items()):
        watch = turn.rulebook.watches.get(name.partition("|")[0])
        if arm.run in runs and (watch is None or not watch.anytime):
            turn.state.timers.pop(f"absence|{name}", None)
    if turn.state.bids:
        _end_bids(turn, lambda bid: bid.run in runs and bid.rule in rules and not rules[bid.rule].anytime, reason)
    sent = {action.id for action in turn.actions}

    def lives_by_it(action_id: str, entry: Pending) -> bool:
        rule = rules.get(entry.rule)
        return entry.run in runs and action_id not in sent and (rule is None or not rule.anytime)

    withdraw(turn, lives_by_it, reason)


def _end_bids(turn: Turn, wanted: Callable[[Bid], bool], reason: Reason) -> None:
    """Take bids out of the slots whose windows are open."""
    for slot, bids in list(turn.state.bids.items()):
        for bid in filter(wanted, bids):
            turn.record(turn.rulebook.rules[bid.rule], bid.run, Outcome.BLOCKED, reason, cause=bid.cause)
        left = [bid for bid in bids if not wanted(bid)]
        if left:
            turn.state.bids[slot] = left
        else:
            del turn.state.bids[slot]
            turn.state.timers.pop(timer_id("slot", slot, ""), None)


def forget_play(turn: Turn, key: str) -> None:
    """Drop a play and its timer without a word."""
    turn.state.plays.pop(key, None)
    turn.state.timers.pop(timer_id("play", "", key), None)


def drop_timers(turn: Turn, key: str, kinds: Collection[str]) -> None:
    """Drop the run's timers of some kinds."""
    for timer in list(turn.state.timers):
        kind, _, instance = timer_parts(timer)
        if instance == key and kind in kinds:
            del turn.state.timers[timer]


def rule_of(turn: Turn, play: Play) -> Rule:
    """Return a play's rule; of one that no version here knows any more, as much as the play itself remembers."""
    rule = turn.rulebook.rules.get(play.rule)
    if rule is None and (earlier := turn.rulebook.earlier.get(play.version)) is not None:
        rule = earlier.rules.get(play.rule)
    return rule or Rule(play.rule, play.run.partition("/")[0], OnEvent(""), ())
