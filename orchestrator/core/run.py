"""Runs: when a rule may act for one.

A rule acts while its run is open, the event that opens or closes it included; ``acts: anytime`` says otherwise. What
is under way ends with the run (see ``ending``), so the question is asked when a rule is set off and not again.

==================  =======================================================================================
set off by          asks for
==================  =======================================================================================
an event, a move    a run that is open once the stages have moved, or that the event has just closed
a sequence          the same, when its last event completes it
an absence          a run that is open when the span is over and was when the span began, in event time
a clock of a run    nothing: dwells and schedules run while the run is open
==================  =======================================================================================

An event that names no run of a journey with a key concerns all of them: one that is open will do, and what the rule
does ends with the last of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.core.definition import Journey, Rule
from orchestrator.core.state import CustomerState, Run
from orchestrator.core.turn import Turn


def is_open_for(turn: Turn, rule: Rule, run: str, since_ms: int = 0) -> bool:
    """Return whether a rule may act for a run now; ``since_ms`` is when the run must have begun already, 0 anytime."""
    if rule.anytime:
        return True
    held = turn.state.runs.get(run)
    if held is not None and not held.ended_at and not since_ms:
        return True
    meant = _meant(turn.rulebook.journeys.get(rule.journey), turn.state, run)
    return any(
        (not held.ended_at or key in turn.closed) and (not since_ms or held.started_at <= since_ms)
        for key, held in meant
    )


def _meant(journey: Journey | None, state: CustomerState, run: str) -> Iterable[tuple[str, Run]]:
    """Return the runs that a run's name means: itself, or all of the journey's where it names none."""
    held = state.runs.get(run)
    if held is not None:
        return ((run, held),)
    if journey is None or journey.key is None or run != f"{journey.id}/":
        return ()
    return [(key, one) for key, one in state.runs.items() if key.startswith(run)]


def last_of(journey: Journey | None, state: CustomerState, run: str) -> Run | None:
    """Return the run that a name means; of several the open one, else the one that ended last."""
    runs = [held for _, held in _meant(journey, state, run)]
    return max(runs, key=lambda one: (not one.ended_at, one.ended_at), default=None)


def again_from(journey: Journey | None, run: Run) -> int | None:
    """Return the event time from which an ended run may start anew, None when it never may."""
    if journey is None or journey.reentry_after_ms is None:
        return None
    return run.ended_at + journey.reentry_after_ms


def standing(turn: Turn, rule: Rule, run: str) -> dict[str, Any]:
    """Return what the ledger says of a run that is not open: when it ended, and from when it may start anew."""
    journey = turn.rulebook.journeys.get(rule.journey)
    held = last_of(journey, turn.state, run)
    if held is None:
        return {}
    if not held.ended_at:
        return {"started_at": held.started_at}
    anew_ms = again_from(journey, held)
    return {"ended_at": held.ended_at} | ({} if anew_ms is None else {"again_from": anew_ms})


def ends_with(turn: Turn, key: str) -> frozenset[str]:
    """Return the names under which something lives by a run that ends: its own, and for the last one that of none."""
    journey_id = key.partition("/")[0]
    journey = turn.rulebook.journeys.get(journey_id)
    prefix = f"{journey_id}/"
    if journey is None or journey.key is None:
        return frozenset({key})
    others = (one for name, one in turn.state.runs.items() if name != key and name.startswith(prefix))
    return frozenset({key} if any(not one.ended_at for one in others) else {key, prefix})
