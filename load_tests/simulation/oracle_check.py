"""The oracle's word on simple customers: stages, absences and limits, worked out from the log alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from load_tests.simulation import rules
from load_tests.simulation.oracle import Arrival, Effect, absences_latest, distinct, sends, stages_walked
from load_tests.simulation.reference import Reference
from load_tests.simulation.story import PLAIN
from orchestrator.core.action import Action, action_id
from orchestrator.core.event import ACTION_CANCELLED, ACTION_EXPIRED, ACTION_FAILED, Event
from orchestrator.core.state import decode_state
from orchestrator.runtime.ports import ACTIONS

if TYPE_CHECKING:
    from load_tests.simulation.world import World

_RELEASING = frozenset({ACTION_FAILED, ACTION_EXPIRED, ACTION_CANCELLED})
_decode_action = msgspec.json.Decoder(Action).decode


def check_oracle(world: World, passes: Sequence[Reference]) -> None:
    """Compare what was decided for the simple customers with what the oracle says."""
    for partition, reference in enumerate(passes):
        decided = [
            _decode_action(one.value)
            for commit in world.store.applied[partition]
            for one in commit.outbox
            if one.topic == ACTIONS
        ]
        for customer in PLAIN:
            events = [event for _, event in reference.events if event.customer_id == customer]
            if events:
                actions = [one for one in decided if one.customer_id == customer]
                _check(world, partition, customer, events, actions)


def _check(world: World, partition: int, customer: str, events: list[Event], actions: list[Action]) -> None:
    until_ms = world.now_ms()
    log = distinct([_arrival(one) for one in events])
    helped = sends(_with_receipts(log, events, customer), "payment_failed", [rules.HELP])
    expected = {
        "winback": [(one.at_ms, one.what) for one in _absences(log, until_ms)],
        "help": [(one.at_ms, "fire") for one in helped],
    }
    for rule, wanted in expected.items():
        fired = [one.decided_at for one in actions if one.rule == rule and not one.cancel]
        if fired != (due := [at_ms for at_ms, what in wanted if what == "fire"]):
            world.violated("oracle", f"{customer}, {rule}: sent {_offsets(fired, log)} instead of {_offsets(due, log)}")
        # What was delivered by then is not taken back, of which the oracle knows nothing.
        back = {one.decided_at for one in actions if one.rule == rule and one.cancel}
        if surplus := back - {at_ms for at_ms, what in wanted if what == "withdraw"}:
            world.violated("oracle", f"{customer}, {rule}: taken back {_offsets(sorted(surplus), log)}")
    run, _ = stages_walked(log, rules.STAGES, rules.REENTRY_MS, until_ms)
    kept = decode_state(world.store._of(partition).states.get(customer)).runs.get(rules.PURCHASE)
    want = None if run is None else (rules.STAGES[run.place].name, run.started_ms, run.entered_ms, run.ended)
    have = None if kept is None else (kept.stage, kept.started_at, kept.entered_at, bool(kept.ended_at))
    if have != want:
        world.violated("oracle", f"{customer}, stage: {have} instead of {want}")
    world.counts["customer agreed with the oracle"] += 1


def _absences(log: list[Arrival], until_ms: int) -> list[Effect]:
    return absences_latest(log, "cart_updated", "order_completed", rules.ABSENCE_MS, rules.LATENESS_MS, until_ms)


def _arrival(event: Event) -> Arrival:
    return Arrival(event.id, event.type, event.received_at_ms, event.occurred_at_ms)


def _with_receipts(log: list[Arrival], events: list[Event], customer: str) -> list[Arrival]:
    """Return the log with the failures of what the oracle itself expects to have been sent by then."""
    receipts = {one.id: one for one in events if one.type in _RELEASING}
    told: list[Arrival] = []
    for one in log:
        event_type = one.type
        if one.id in receipts:
            sent = sends(told, "payment_failed", [rules.HELP])
            ids = [action_id("default", customer, rules.CONTACT, rules.HELP.id, "0", each.cause) for each in sent]
            named = receipts[one.id].properties["action_id"]
            event_type = f"failed:{ids.index(named)}" if named in ids else "other"
        told.append(Arrival(one.id, event_type, one.stamp_ms, one.occurred_at_ms))
    return told


def _offsets(moments: list[int], log: list[Arrival]) -> list[int]:
    start_ms = min(one.stamp_ms for one in log)
    return [at_ms - start_ms for at_ms in moments]
