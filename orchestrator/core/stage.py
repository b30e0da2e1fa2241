"""Stages: the state machine of a journey run.

A run starts at the first stage that is entered and only ever moves forward. It ends at a goal or a final
stage; its plays, timers and pending actions end with it. When it stands where since is measured in event time: late,
repeated and shuffled events give the same moments, and a rule that waits for a standstill fires at the same one, as
long as all is known by then; what comes to be known later takes the firing back (``_take_back``).

=========================  ====================================================================
stimulus                   effect
=========================  ====================================================================
event of a later stage     leave the current stage, enter the later one (the latest that matches)
event of the same stage    none, but for a late one: the run has stood there since then, and its clocks tell
event of an earlier stage  none, but for a late one: the run has begun then
event, run ended           none until ``reentry_after_ms`` has passed, then a new run
dwell timer of a stage     enter that stage
``set_stage`` of a play    enter that stage, be it earlier or later
=========================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from orchestrator.core.definition import Journey, OnDwell, OnSchedule, Rule, Stage
from orchestrator.core.ending import STANDSTILL, drop_timers, end_plays, end_run
from orchestrator.core.limit import zone_gap, zones_of
from orchestrator.core.localtime import next_local_time
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.receipt import withdraw
from orchestrator.core.rulebook import StageEntry
from orchestrator.core.state import RUNS_PER_JOURNEY_MAX, Run
from orchestrator.core.turn import Transition, Turn, timer_id, timer_parts
from orchestrator.core.view import View


def follow_event(turn: Turn, entry: StageEntry, view: View) -> None:
    """Move the run that the event concerns, if the event enters a later stage of this journey."""
    key = entry.sole_run or view.run_key(entry.journey.id)
    if key is None:
        return
    open_run = turn.state.runs.get(key)
    if open_run is not None and open_run.ended_at:
        if not _may_reenter(entry.journey, open_run, turn.at_ms):
            return
        open_run = None
    if open_run is not None and turn.at_ms < open_run.since:
        return
    # A stage that an edit has removed counts as standing before the first.
    reached = -1 if open_run is None else entry.places.get(open_run.stage, -1)
    for stage, holds in entry.stages:
        if stage.index <= reached:
            if open_run is None or turn.at_ms >= open_run.entered_at:
                return
            if holds is None or holds(view):
                _backdate(turn, entry.journey, key, open_run, stage)
                return
            continue
        if stage.goal and not _goal_in_time(entry.journey, open_run, turn.at_ms):
            continue
        if holds is None or holds(view):
            _move(turn, entry.journey, key, open_run, stage)
            return


def _backdate(turn: Turn, journey: Journey, key: str, run: Run, stage: Stage) -> None:
    """Let an open run have begun, or have stood in its stage, since a late event that tells so; move its clocks."""
    entered_at = turn.at_ms if stage.name == run.stage and not run.placed else run.entered_at
    turn.state.runs[key] = msgspec.structs.replace(
        run, started_at=min(run.started_at, turn.at_ms), entered_at=min(run.entered_at, entered_at)
    )
    for timer, span_ms in _standstills(turn, journey, key, stage) if entered_at < run.entered_at else ():
        # One that has run out has been heard.
        if timer in turn.state.timers:
            turn.state.timers[timer] = max(entered_at + span_ms, turn.now_ms)


def follow_timer(turn: Turn, stage_name: str, key: str) -> None:
    """Move a run that has not moved for as long as the stage's ``dwell`` says."""
    journey = turn.rulebook.journeys.get(key.partition("/")[0])
    run = turn.state.runs.get(key)
    if journey is None or run is None or run.ended_at:
        return
    wanted = turn.rulebook.stage_maps.get(journey.id, {}).get(stage_name, stage_name)
    stage = journey.stage(wanted)
    if stage is not None and stage.on.dwell_ms:
        _move(turn, journey, key, run, stage, placed=True)


def place(turn: Turn, key: str, name: str) -> Reason | None:
    """Put an open run into a stage, as ``set_stage`` does; return why the run has ended, if that stage ends it."""
    journey = turn.rulebook.journeys.get(key.partition("/")[0])
    run = turn.state.runs.get(key)
    stage = None if journey is None else journey.stage(name)
    if journey is None or stage is None or run is None or run.ended_at or run.stage == name:
        return None
    _move(turn, journey, key, run, stage, placed=True)
    return _ending_of(stage)


def _ending_of(stage: Stage) -> Reason | None:
    if stage.goal:
        return Reason.GOAL_REACHED
    return Reason.RUN_ENDED if stage.final else None


def rename(turn: Turn, journey: Journey, stage_map: Mapping[str, str]) -> None:
    """Let runs stand in the stages that took the place of their own in an edit.

    Nothing is entered or left by it, and clocks that run go on. A run whose new stage ends runs, ends.
    """
    prefix = f"{journey.id}/"
    for key, run in list(turn.state.runs.items()):
        if not key.startswith(prefix):
            continue
        for timer in [one for one in turn.state.timers if one.startswith("stage|") and one.endswith(f"|{key}")]:
            _, name, instance = timer_parts(timer)
            if instance == key and name in stage_map:
                turn.state.timers[timer_id("stage", stage_map[name], key)] = turn.state.timers.pop(timer)
        if run.stage in stage_map:
            _rename(turn, journey, key, run, stage_map[run.stage])


def _rename(turn: Turn, journey: Journey, key: str, run: Run, name: str) -> None:
    turn.state.runs[key] = msgspec.structs.replace(run, stage=name)
    stage = journey.stage(name)
    ends = None if stage is None else _ending_of(stage)
    if ends is not None and not run.ended_at:
        turn.state.runs[key] = msgspec.structs.replace(run, stage=name, ended_at=turn.at_ms)
        drop_timers(turn, key, STANDSTILL)
        end_run(turn, key, ends)


def _may_reenter(journey: Journey, run: Run, at_ms: int) -> bool:
    return journey.reentry_after_ms is not None and at_ms >= run.ended_at + journey.reentry_after_ms


def _goal_in_time(journey: Journey, run: Run | None, at_ms: int) -> bool:
    if journey.goal_window_ms is None or run is None:
        return True
    return at_ms - run.started_at <= journey.goal_window_ms


def _move(turn: Turn, journey: Journey, key: str, run: Run | None, stage: Stage, *, placed: bool = False) -> None:
    at_ms = turn.at_ms
    left = "" if run is None else run.stage
    ends = _ending_of(stage)
    turn.state.runs[key] = Run(
        stage=stage.name,
        started_at=at_ms if run is None else min(run.started_at, at_ms),
        entered_at=at_ms,
        ended_at=0 if ends is None else at_ms,
        since=_since(journey, turn.state.runs.get(key)) if run is None else run.since,
        placed=placed,
    )
    drop_timers(turn, key, STANDSTILL)
    if run is not None and at_ms < turn.now_ms:
        _take_back(turn, journey, key, run)
    if ends is not None:
        turn.closed += (key,)
        end_run(turn, key, ends)
    else:
        _set_dwell_timers(turn, journey, key, stage)
    if run is None:
        _make_room(turn, journey.id)
        for rule in turn.rulebook.scheduled.get(journey.id, ()):
            set_schedule(turn, rule, key)
    turn.moves.append(Transition(journey, key, left, stage.name))


def _since(journey: Journey, before: Run | None) -> int:
    """Return from when on a run may have begun: as soon as the one before it, which has ended, could start anew."""
    return 0 if before is None else before.ended_at + (journey.reentry_after_ms or 0)


def _take_back(turn: Turn, journey: Journey, key: str, run: Run) -> None:
    """Undo what rules did that saw the run stand where, as this late event tells, it did not stand so long."""
    for rule in turn.rulebook.dwelling.get((journey.id, run.stage), ()):
        assert isinstance(rule.trigger, OnDwell)
        fired_ms = run.entered_at + rule.trigger.for_ms
        if turn.at_ms < fired_ms <= turn.now_ms:
            _undo(turn, rule.id, key, fired_ms)


def _undo(turn: Turn, rule: str, key: str, since_ms: int) -> None:
    """Take back what a rule has begun in a run since a moment."""
    end_plays(
        turn, lambda play: (play.rule, play.run) == (rule, key) and play.started_at >= since_ms, Reason.LATE_EVENT
    )
    withdraw(
        turn, lambda _, sent: (sent.rule, sent.run) == (rule, key) and sent.decided_at >= since_ms, Reason.LATE_EVENT
    )


def _set_dwell_timers(turn: Turn, journey: Journey, key: str, stage: Stage) -> None:
    """Start the clocks of later stages that a standstill enters, and of rules that watch for one."""
    for timer, span_ms in _standstills(turn, journey, key, stage):
        turn.state.timers[timer] = max(turn.at_ms + span_ms, turn.now_ms)


def _standstills(turn: Turn, journey: Journey, key: str, stage: Stage) -> Iterator[tuple[str, int]]:
    """Yield the timers that watch a run for standing in a stage, each with its span."""
    for later in journey.stages:
        if later.on.dwell_ms and later.index > stage.index:
            yield timer_id("stage", later.name, key), later.on.dwell_ms
    for rule in turn.rulebook.dwelling.get((journey.id, stage.name), ()):
        assert isinstance(rule.trigger, OnDwell)
        yield timer_id("dwell", rule.id, key), rule.trigger.for_ms


def set_clocks(turn: Turn) -> None:
    """Set the clocks of open runs as the version in force has them.

    One that has not run out is set by the span of today, at the earliest to now. Another is set only where its span
    is still to end: who knows whether it has been heard.
    """
    for key, run in turn.state.runs.items():
        journey = turn.rulebook.journeys.get(key.partition("/")[0])
        stage = None if journey is None else journey.stage(run.stage)
        if journey is None or run.ended_at:
            continue
        for timer, span_ms in () if stage is None else _standstills(turn, journey, key, stage):
            due_ms = run.entered_at + span_ms
            if timer in turn.state.timers or due_ms > turn.now_ms:
                turn.state.timers[timer] = max(due_ms, turn.now_ms)
        for rule in turn.rulebook.scheduled.get(journey.id, ()):
            set_schedule(turn, rule, key)


def set_schedule(turn: Turn, rule: Rule, key: str) -> None:
    """Set the next local time of a schedule; while nobody knows the customer's zone there is none, on record."""
    trigger = rule.trigger
    assert isinstance(trigger, OnSchedule)
    zones = zones_of(turn.state, trigger.zone, turn.event)
    if not zones:
        gap = zone_gap(turn.state, trigger.zone, turn.event)
        turn.record(rule, key, Outcome.BLOCKED, Reason.ZONE_UNKNOWN, **gap)
        return
    due_ms = next_local_time(turn.now_ms, trigger.at_min, trigger.days, zones[0])
    turn.state.timers[timer_id("schedule", rule.id, key)] = due_ms


def is_due(turn: Turn, rule: Rule, key: str, due_ms: int) -> bool:
    """Return whether a clock that was set to ``due_ms``, perhaps by another version, is what the rule waits for."""
    run = turn.state.runs.get(key)
    if run is None or run.ended_at:
        return False
    match rule.trigger:
        case OnDwell(stage=stage, for_ms=for_ms):
            return run.stage == stage and run.entered_at + for_ms <= due_ms
        case OnSchedule() as trigger:
            zones = zones_of(turn.state, trigger.zone, turn.event)
            return bool(zones) and next_local_time(due_ms - 1, trigger.at_min, trigger.days, zones[0]) == due_ms
        case _:
            return False


def follow_profile(turn: Turn) -> None:
    """Set the schedules of open runs that had to wait for the customer's zone to be known."""
    for rules in turn.rulebook.scheduled.values():
        for rule in rules:
            for key, run in turn.state.runs.items():
                waits = key.startswith(f"{rule.journey}/") and not run.ended_at
                if waits and timer_id("schedule", rule.id, key) not in turn.state.timers:
                    set_schedule(turn, rule, key)


def _make_room(turn: Turn, journey: str) -> None:
    """Keep at most ``RUNS_PER_JOURNEY_MAX`` runs: the one that has stood still longest makes room, ended first."""
    prefix = journey + "/"
    runs = {key: run for key, run in turn.state.runs.items() if key.startswith(prefix)}
    if len(runs) > RUNS_PER_JOURNEY_MAX:
        oldest = min(runs, key=lambda key: (not runs[key].ended_at, runs[key].entered_at, key))
        for rule in _watching(turn, oldest):
            turn.record(rule, oldest, Outcome.BLOCKED, Reason.INSTANCE_CEILING)
        drop_timers(turn, oldest, STANDSTILL)
        end_run(turn, oldest, Reason.RUN_ENDED)
        del turn.state.runs[oldest]


def _watching(turn: Turn, key: str) -> list[Rule]:
    """Return the rules that wait for an absence in a run."""
    return [
        rule
        for name, arm in turn.state.arms.items()
        if arm.run == key and f"absence|{name}" in turn.state.timers
        if (watch := turn.rulebook.watches.get(name.partition("|")[0])) is not None
        for rule in watch.group.rules
    ]
