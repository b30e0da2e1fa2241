"""Edits: what another version of the rulebook does to what a customer has under way.

It is settled when the customer is next touched, before the stimulus is decided, so that publishing costs nothing
per customer. The journey's ``on_edit`` decides; the version in force says it, or, when that no longer has the
journey, the version that started the play:

==========  =======================================================================================
on_edit     effect
==========  =======================================================================================
pin         plays go on with the program, conditions and limits of the version that started them
follow      plays go on in the new program at the step of the same id; without one they end: step_gone
migrate     as follow, and runs in a stage of ``stage_map`` stand in the stage that it names
==========  =======================================================================================

Everything else belongs to no version: runs, timers of stages and rules, absences and counters are read by the version
in force from the moment it is in force. Clocks of open runs are set as it says, from when the run entered its stage; a
span that is over already sets none. A stage that it does not have counts as standing before its first. A play whose
version cannot be had any more follows.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from orchestrator.core import stage
from orchestrator.core.definition import OnEdit, Send, Wait, WaitFor
from orchestrator.core.ending import end_plays
from orchestrator.core.reason import Reason
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import Play
from orchestrator.core.turn import Turn


class Fate(Enum):
    """What becomes of a running play under a version of the rulebook."""

    GOES_ON = "goes on"  # the version started it, or has adopted it before
    PINNED = "pinned"
    FOLLOWS = "follows"
    ENDS = "ends"  # its step is gone


def catch_up(turn: Turn) -> None:
    """Bring what the customer has under way to the version in force."""
    rulebook = turn.rulebook
    if turn.state.edition != rulebook.edition:
        for journey, stage_map in rulebook.stage_maps.items():
            stage.rename(turn, rulebook.journeys[journey], stage_map)
        stage.set_clocks(turn)
        turn.state.edition = rulebook.edition
    for key, play in list(turn.state.plays.items()):
        if play.version == rulebook.version:
            continue
        fate, pc = fate_of(rulebook, play)
        if fate is Fate.ENDS:
            end_plays(turn, lambda one, gone=play: one is gone, Reason.STEP_GONE)  # type: ignore[misc]
        elif fate is Fate.FOLLOWS:
            turn.state.plays[key] = msgspec.structs.replace(play, version=rulebook.version, pc=pc)


def fate_of(rulebook: Rulebook, play: Play) -> tuple[Fate, int]:
    """Return what becomes of a play under ``rulebook``, and the step at which it goes on there."""
    if play.version == rulebook.version:
        return Fate.GOES_ON, play.pc
    mode = _mode(rulebook, play)
    if mode is OnEdit.PIN and play.version in rulebook.earlier:
        return Fate.PINNED, play.pc
    pc = _place(rulebook, play)
    return (Fate.ENDS, 0) if pc is None else (Fate.FOLLOWS, pc)


def _mode(rulebook: Rulebook, play: Play) -> OnEdit:
    journey_id = play.run.partition("/")[0]
    journey = rulebook.journeys.get(journey_id)
    if journey is None and (earlier := rulebook.earlier.get(play.version)) is not None:
        journey = earlier.journeys.get(journey_id)
    return OnEdit.PIN if journey is None else journey.on_edit


def _place(rulebook: Rulebook, play: Play) -> int | None:
    """Return where the program in force has the step that the play waits at; None when it has none of its kind."""
    rule = rulebook.rules.get(play.rule)
    if rule is None or rule.journey != play.run.partition("/")[0]:
        return None
    kinds = Send if play.deferred else (Wait, WaitFor)
    places = (pc for pc, step in enumerate(rule.program) if step.step == play.step and isinstance(step, kinds))
    return next(places, None)
