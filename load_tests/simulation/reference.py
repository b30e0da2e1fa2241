"""The reference: one undisturbed pass over a partition's log by the engine's own core, without batches or crashes.

Where a rulebook was published meanwhile, each stretch of the log is decided by the version that decided it in
the run: which one that is, is the runtime's to choose, once a commit.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from load_tests.simulation.worker_process import intake
from orchestrator.core.event import Event
from orchestrator.core.propensity import BetaBernoulli
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import encode_event
from orchestrator.runtime.ports import ACTIONS, DECISIONS, EVENTS, Record
from orchestrator.runtime.sequencer import Sequencer

if TYPE_CHECKING:
    from load_tests.simulation.world import World

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reference:
    """What a pass came to: states, and encoded decisions by topic."""

    states: dict[str, CustomerState]
    decided: dict[str, list[bytes]]


class _States(defaultdict[str, CustomerState]):
    def __init__(self) -> None:
        super().__init__(CustomerState)


def pass_over(world: World, partition: int) -> Reference:
    """Decide a partition's log once more."""
    events: list[tuple[int, Event]] = []
    read = intake()
    for record in world.records_from(partition, 0):
        # What is refused is judged by the story.
        with suppress(EventRefused):
            events += [(record.offset, one) for one in read.events_from_record(record)]
    states = _States()
    model = BetaBernoulli()
    sequencer = Sequencer(world.published, states, lambda customer_id: model)
    position = 0
    for end, clock_ms, rulebook in _stretches(world, partition):
        sequencer.rulebook = rulebook
        while position < len(events) and events[position][0] < end:
            event = events[position][1]
            sequencer.apply(event, event.received_at_ms)
            position += 1
        sequencer.advance(clock_ms)
    outcome = sequencer.outcome
    decided = {
        ACTIONS: [_encode(one) for one in outcome.actions],
        DECISIONS: [_encode(one) for one in outcome.records],
        EVENTS: [encode_event(one) for one in outcome.events],
    }
    kept = {one: decode_state(encode_state(states[one])) for one in outcome.touched}
    return Reference(kept, decided)


def _stretches(world: World, partition: int) -> list[tuple[int, int, Rulebook]]:
    """Return where each stretch ends (offset and clock) and by which version it is decided."""
    applied = world.store.applied[partition]
    if world.edited:
        return [(one.next_offset, one.clock_ms, one.rulebook) for one in applied]
    end: list[Record] = world.records_from(partition, 0)
    return [(len(end), applied[-1].clock_ms if applied else 0, world.published)]
