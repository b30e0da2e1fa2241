"""Ends: of plays, and of all that lives by a run."""

from __future__ import annotations

from collections.abc import Callable, Collection

from orchestrator.core.definition import OnEvent, Rule
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw
from orchestrator.core.state import Play
from orchestrator.core.turn import Turn, timer_id, timer_parts

#: Kinds of timers that a run's standing still sets.
STANDSTILL = frozenset({"stage", "dwell"})
_SCHEDULE = frozenset({"schedule"})


def end_plays(turn: Turn, wanted: Callable[[Play], bool], reason: Reason) -> None:
    """End every open play that ``wanted`` picks, at once, even mid-wait."""
    for key, play in list(turn.state.plays.items()):
        if wanted(play):
            forget_play(turn, key)
            turn.record(_rule_of(turn, play), play.run, Outcome.ENDED, reason, variant=play.variant)


def end_run(turn: Turn, key: str, reason: Reason) -> None:
    """End everything that lives by the run: plays, watched absences, timers, actions of before not yet delivered."""
    end_plays(turn, lambda play: play.run == key, reason)
    drop_timers(turn, key, _SCHEDULE)
    for name, arm in list(turn.state.arms.items()):
        if arm.run == key:
            turn.state.timers.pop(f"absence|{name}", None)
    # What the same decision has sent, it has sent: a play may say good-bye and then end the run.
    sent = {action.id for action in turn.actions}
    withdraw(turn, lambda action_id, entry: entry.run == key and action_id not in sent, reason)


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


def _rule_of(turn: Turn, play: Play) -> Rule:
    """Return a play's rule; of one that no version here knows any more, as much as the play itself remembers."""
    rule = turn.rulebook.rules.get(play.rule)
    if rule is None and (earlier := turn.rulebook.earlier.get(play.version)) is not None:
        rule = earlier.rules.get(play.rule)
    return rule or Rule(play.rule, play.run.partition("/")[0], OnEvent(""), ())
