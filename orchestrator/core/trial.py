"""Trials: actions whose success somebody wants to learn from, until the reward comes or the horizon is over."""

from __future__ import annotations

from orchestrator.core.arbitration import Candidate, segment_of
from orchestrator.core.propensity import Lesson
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import TRIALS_MAX, Trial
from orchestrator.core.turn import Turn, timer_id
from orchestrator.core.view import View


def begin(turn: Turn, winner: Candidate) -> None:
    """Watch the outcome of a rule that acts, when its propensity is learned; an open trial goes on as it is."""
    terms = winner.rule.arbitrate
    key = f"{winner.rule.id}|{winner.run}"
    if terms is None or not terms.learn or key in turn.state.trials or len(turn.state.trials) >= TRIALS_MAX:
        return
    turn.state.trials[key] = Trial(winner.rule.id, winner.run, terms.learn, segment_of(turn, winner))
    turn.state.timers[timer_id("trial", winner.rule.id, winner.run)] = turn.now_ms + terms.horizon_ms


def reward(turn: Turn, rule_id: str, view: View) -> None:
    """Conclude the trials of a rule whose reward has happened, for the run that the event concerns."""
    for key, trial in list(turn.state.trials.items()):
        if trial.rule == rule_id and view.concerns(trial.run):
            _conclude(turn, key, trial, success=True)


def expire(turn: Turn, rule_id: str, run: str) -> None:
    """Conclude a trial whose horizon is over: the reward did not come."""
    trial = turn.state.trials.get(f"{rule_id}|{run}")
    if trial is not None:
        _conclude(turn, f"{rule_id}|{run}", trial, success=False)


def _conclude(turn: Turn, key: str, trial: Trial, *, success: bool) -> None:
    del turn.state.trials[key]
    turn.state.timers.pop(timer_id("trial", trial.rule, trial.run), None)
    turn.lessons.append(Lesson(trial.action, trial.segment, success, turn.now_ms))


def rewarding(rulebook: Rulebook, event_type: str) -> tuple[str, ...]:
    """Return the rules whose reward an event is."""
    return rulebook.rewards.get(event_type, ())
