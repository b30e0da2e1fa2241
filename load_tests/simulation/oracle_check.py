"""The oracle's word on simple customers: stages, absences, plays and limits, worked out from what was sent and the log.

What arrived is what the story sent, at the stamps and in the order of the log: nothing of the engine has read it. Of
what the engine itself wrote into the log, only receipts of actions concern these customers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from load_tests.simulation import rules
from load_tests.simulation.oracle import (
    Arrival,
    Effect,
    absences_latest,
    distinct,
    plays,
    sends,
    sends_in_run,
    stages_walked,
)
from load_tests.simulation.story import PLAIN
from orchestrator.core.action import Action, action_id
from orchestrator.core.event import ARRIVALS
from orchestrator.core.reason import Reason
from orchestrator.core.state import decode_state
from orchestrator.runtime.ports import ACTIONS

if TYPE_CHECKING:
    from load_tests.simulation.world import World

#: Receipts that say that an action never got there.
_GIVES_WAY = frozenset({"action_failed", "action_expired"})
_RELEASING = _GIVES_WAY | {"action_cancelled"}
#: Receipts after which nothing is released: it got there, whatever a dispatcher that does not know says later.
_REACHED = frozenset({"action_delivered", "action_cancel_too_late"})
_decode_action = msgspec.json.Decoder(Action).decode


@dataclass(slots=True)
class _Told:
    """What the log holds of one customer, in its order; ``named`` is which action a receipt is about, by its id.

    ``doubtful`` are the ids of receipts that say that their action may have arrived, and ``handed_on`` which fallback
    a receipt says is sent in its action's place.
    """

    log: list[Arrival] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    handed_on: dict[str, str] = field(default_factory=dict)

    def heard_ms(self, action_ids: set[str]) -> int | None:
        """Return when the first receipt of some actions arrived, None without any."""
        return min((one.stamp_ms for one in self.log if self.named.get(one.id) in action_ids), default=None)


def check_oracle(world: World, partitions: int) -> None:
    """Compare what was decided for the simple customers with what the oracle says."""
    for partition in range(partitions):
        decided = [
            _decode_action(one.value)
            for commit in world.store.applied[partition]
            for one in commit.outbox
            if one.topic == ACTIONS
        ]
        for customer, told in _arrivals(world, partition).items():
            if customer in PLAIN:
                _check(world, partition, customer, told, [one for one in decided if one.customer_id == customer])


def _arrivals(world: World, partition: int) -> dict[str, _Told]:
    messages = world.story.by_value
    arrivals: defaultdict[str, _Told] = defaultdict(_Told)
    for record in world.records_from(partition, 0):
        message = messages.get(record.value or b"")
        if message is not None:
            for one in message.told:
                arrivals[one.customer].log.append(Arrival(one.id, one.type, record.stamp_ms, one.occurred_ms))
            continue
        if world.refused(record):
            continue
        receipt = msgspec.json.decode(record.value or b"")
        told = arrivals[receipt["customer_id"]]
        told.log.append(Arrival(receipt["id"], receipt["type"], record.stamp_ms, record.stamp_ms))
        properties = receipt.get("properties", {})
        if receipt["id"] not in told.named and properties.get("certain") is False:
            told.doubtful.add(receipt["id"])
        told.named.setdefault(receipt["id"], properties.get("action_id", ""))
        told.handed_on.setdefault(receipt["id"], properties.get("fallback", ""))
    for told in arrivals.values():
        told.log = distinct(told.log)
    return arrivals


def _check(world: World, partition: int, customer: str, told: _Told, actions: list[Action]) -> None:
    until_ms, log = world.now_ms(), told.log
    run, walk = stages_walked(log, rules.STAGES, rules.REENTRY_MS, until_ms)
    helped = sends(_with_receipts(told, customer), "payment_failed", [rules.HELP])
    expected = {
        "winback": absences_latest(
            log, "cart_updated", "order_completed", rules.ABSENCE_MS, rules.LATENESS_MS, until_ms
        ),
        "soothe": sends_in_run(log, rules.STAGES, rules.REENTRY_MS, "payment_failed", rules.LATENESS_MS, until_ms),
        "greet": plays(log, rules.STAGES, walk, rules.GREET),
        "help": [Effect(one.at_ms, "fire", one.cause) for one in helped],
    }
    for rule, wanted in expected.items():
        its_own = [one for one in actions if one.rule == rule]
        fired = [one for one in wanted if one.what == "fire"]
        sent = [one.decided_at for one in its_own if not one.cancel]
        if sent != [one.at_ms for one in fired]:
            due = _offsets([one.at_ms for one in fired], log)
            world.violated("oracle", f"{customer}, {rule}: sent {_offsets(sent, log)} instead of {due}")
            continue
        back = {one.cause: one.at_ms for one in wanted if one.what == "withdraw"}
        for action, firing in zip((one for one in its_own if not one.cancel), fired, strict=True):
            _check_back(world, f"{customer}, {rule}", told, action, its_own, back.get(firing.cause))
    kept = decode_state(world.store._of(partition).states.get(customer)).runs.get(rules.PURCHASE)
    want = None if run is None else (rules.STAGES[run.place].name, run.started_ms, run.entered_ms, run.ended)
    have = None if kept is None else (kept.stage, kept.started_at, kept.entered_at, bool(kept.ended_at))
    if have != want:
        world.violated("oracle", f"{customer}, stage: {have} instead of {want}")
    world.counts["customer agreed with the oracle"] += 1


def _check_back(
    world: World, whose: str, told: _Told, action: Action, its_own: Sequence[Action], due_ms: int | None
) -> None:
    """Check that an action is taken back when, and only when, the oracle says so.

    One of which anything was heard before is left alone, or its fallback is taken back in its place. When it turns out
    that the fallback had taken its place already, that is taken back then. What is taken back because an action has
    arrived after all is checked apart.
    """
    ids = {action.id, *(one.id for one in action.fallback)}
    failed = {one.stamp_ms for one in told.log if one.type in _GIVES_WAY and told.named[one.id] == action.id}
    cancels = [one for one in its_own if one.cancel and one.id in ids]
    taken = [one for one in cancels if one.reason != Reason.ARRIVED_LATE.value]
    back = [one.decided_at for one in taken if one.id == action.id or one.decided_at not in failed]
    heard_ms = told.heard_ms(ids)
    due = [] if due_ms is None else _offsets([due_ms], told.log)
    world.counts["fallback taken back after its action"] += len(taken) - len(back)
    if back != [due_ms] and taken:
        world.violated("oracle", f"{whose}: taken back {_offsets(back, told.log)} instead of {due}")
    if due_ms is not None and (heard_ms is None or heard_ms > due_ms):
        world.counts["action taken back in time"] += 1
        if not back:
            world.violated("oracle", f"{whose}: not taken back {due}")
    _check_superfluous(world, whose, told, action, cancels)


def _check_superfluous(world: World, whose: str, told: _Told, action: Action, cancels: Sequence[Action]) -> None:
    """Check that a fallback is taken back when, and only when, an action before it has arrived after all.

    It must be when nothing was heard of it and nothing else took it back before.
    """
    before = {action.id}
    for fallback in action.fallback:
        arrived = [one.stamp_ms for one in told.log if one.type in ARRIVALS and told.named.get(one.id) in before]
        given_up = [one.stamp_ms for one in told.log if told.handed_on.get(one.id) == fallback.id]
        taken = [one for one in cancels if one.id == fallback.id]
        late = [one.decided_at for one in taken if one.reason == Reason.ARRIVED_LATE.value]
        world.counts["fallback taken back since its action arrived"] += len(late)
        if not set(late) <= {*arrived, *given_up} or (late and min(arrived, default=late[0] + 1) > late[0]):
            world.violated("oracle", f"{whose}: fallback taken back {_offsets(late, told.log)} though nothing arrived")
        if arrived and given_up:
            superfluous_ms = max(min(arrived), min(given_up))
            heard_ms = told.heard_ms({fallback.id})
            if not taken and (heard_ms is None or heard_ms > superfluous_ms):
                world.violated("oracle", f"{whose}: fallback not taken back {_offsets([superfluous_ms], told.log)}")
        before.add(fallback.id)


def _with_receipts(told: _Told, customer: str) -> list[Arrival]:
    """Return the log with the failures of what the oracle itself expects to have been sent by then."""
    before: list[Arrival] = []
    reached: set[str] = set()
    for one in told.log:
        event_type = one.type
        if one.type in _REACHED:
            reached.add(told.named[one.id])
        if one.type in _RELEASING and one.id not in told.doubtful:
            sent = sends(before, "payment_failed", [rules.HELP])
            ids = [action_id("default", customer, rules.CONTACT, rules.HELP.id, "0", each.cause) for each in sent]
            named = told.named[one.id]
            event_type = f"failed:{ids.index(named)}" if named in ids and named not in reached else "other"
        before.append(Arrival(one.id, event_type, one.stamp_ms, one.occurred_at_ms))
    return before


def _offsets(moments: list[int], log: list[Arrival]) -> list[int]:
    start_ms = min(one.stamp_ms for one in log)
    return [at_ms - start_ms for at_ms in moments]
