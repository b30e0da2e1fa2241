"""What a trigger says of the moment in which its rule is decided: what has happened, and where the run stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from orchestrator.core.condition import Op
from orchestrator.rulebook.claims import STAGE, Claim, filter_name
from orchestrator.rulebook.event_count import EventCount
from orchestrator.rulebook.models import condition as written
from orchestrator.rulebook.models import trigger as triggers
from orchestrator.rulebook.models.journey import JourneyHead, StageDwell
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.span import shown_span
from orchestrator.rulebook.value_set import Comparison


def final_stages(head: JourneyHead) -> frozenset[str]:
    """Return the stages that end a run."""
    return frozenset(
        name
        for name, stage in head.stages.items()
        if stage.goal or (isinstance(stage.on, StageDwell) if stage.final is None else stage.final)
    )


class TriggerClaims:
    """Reads one trigger of a journey.

    ``moved`` says that plays move runs, whose stage is then not the trigger's; ``anytime`` that the rule acts without
    an open run as well.
    """

    def __init__(self, head: JourneyHead, on: triggers.Trigger, *, moved: bool, anytime: bool) -> None:
        self._head = head
        self._on = on
        self._moved = moved
        self._anytime = anytime

    def own_filter(self) -> written.Condition | None:
        """Return the filter of the event whose properties the rule reads, or None."""
        match self._on:
            case triggers.EventTrigger(where=where):
                return where
            case triggers.AbsenceTrigger(absence=absence):
                return absence.after_where
            case _:
                return None

    def other_filters(self) -> Iterator[written.Condition]:
        """Yield the filters of the trigger's other events."""
        match self._on:
            case triggers.AbsenceTrigger(absence=absence):
                found = [absence.of_where]
            case triggers.SequenceTrigger(sequence=sequence):
                found = [one.where for one in sequence.steps if isinstance(one, triggers.SequenceEvent)]
            case _:
                found = []
        yield from (one for one in found if one is not None)

    def needs_open_run(self) -> bool:
        """Return whether nothing can set the rule off once its run has ended.

        The clock of an absence stops with the run. One that begins at the end of a run, or after it, runs on.
        """
        if self._anytime:
            return False
        match self._on:
            case triggers.DwellTrigger() | triggers.ScheduleTrigger():
                return True
            case triggers.EnterTrigger(enter=stage):
                return stage not in final_stages(self._head)
            case triggers.AbsenceTrigger(absence=absence):
                entered = {
                    name
                    for name, stage in self._head.stages.items()
                    if isinstance(stage.on, triggers.EventTrigger) and stage.on.event == absence.after
                }
                return bool(entered) and not entered & final_stages(self._head)
            case _:
                return False

    def claims(self) -> list[Claim]:
        """Return what holds whenever the rule is decided."""
        match self._on:
            case triggers.EventTrigger() as on:
                return [_happened(on, "event", on.event, on.where, 0, "sets the rule off")]
            case triggers.EnterTrigger() as on:
                return self._entered(on)
            case triggers.LeaveTrigger() as on:
                return self._standing(on, "leave", Op.NOT_IN, on.leave, f"leaving {on.leave}")
            case triggers.DwellTrigger(dwell=dwell):
                return self._standing(dwell, "stage", Op.IN, dwell.stage, f"a dwell in {dwell.stage}")
            case triggers.AbsenceTrigger(absence=absence):
                return self._absent(absence)
            case triggers.SequenceTrigger(sequence=sequence):
                return _in_order(sequence)
            case _:
                return []

    def _standing(self, at: Part, key: str, op: Op, stage: str, words: str) -> list[Claim]:
        says = Comparison(op, [stage], if_missing=op is Op.NOT_IN)
        return (
            [] if self._moved else [Claim(STAGE, says, at.origin, key, own_words=f"{words}, which sets the rule off")]
        )

    def _entered(self, on: triggers.EnterTrigger) -> list[Claim]:
        found = self._standing(on, "enter", Op.IN, on.enter, f"entering {on.enter}")
        stage = self._head.stages.get(on.enter)
        if found and stage is not None and isinstance(stage.on, triggers.EventTrigger):
            entry = stage.on
            found.append(
                _happened(on, "enter", entry.event, entry.where, 0, f"enters {on.enter} and sets the rule off")
            )
        return found

    def _absent(self, absence: triggers.Absence) -> list[Claim]:
        """The first event lies as far back as the wait; nothing is known of other baskets, or other runs."""
        words = f"starts the wait of the rule, {shown_span(absence.for_)} before"
        found = [_happened(absence, "after", absence.after, absence.after_where, absence.for_ + 1, words)]
        if self._head.key is None and absence.same is None:
            says = EventCount(absence.of, filter_name(absence.of_where), absence.for_, most=0)
            said = f"{absence.of}, which has not come for {shown_span(absence.for_)} when the rule is set off"
            found.append(Claim(f"event {absence.of}", says, absence.origin, "of", own_words=said))
        return found


def _happened(at: Part, key: str, event: str, where: written.Condition | None, within_ms: float, words: str) -> Claim:
    says = EventCount(event, filter_name(where), within_ms, least=1)
    return Claim(f"event {event}", says, at.origin, key, own_words=f"{event}, which {words}")


def _in_order(sequence: triggers.Sequence) -> list[Claim]:
    steps = [one for one in sequence.steps if isinstance(one, triggers.SequenceEvent)]
    found = []
    for event, number in Counter(one.event for one in steps).items():
        within_ms: float = sequence.within + 1 if event in {one.event for one in steps[:-1]} else 0
        said = f"{event}, of which the sequence that sets the rule off has {number}"
        says = EventCount(event, "", within_ms, least=number)
        found.append(Claim(f"event {event}", says, sequence.origin, "steps", own_words=said))
    if steps:
        found.append(_happened(sequence, "steps", steps[-1].event, steps[-1].where, 0, "ends the sequence"))
    return found
