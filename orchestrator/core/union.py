"""Union: what one customer's state becomes when that of another id of the same person joins it.

============  ==========================================================================================
traits        the newer value by event time
consents      the most restrictive: refused by either is refused, as of the later of the two moments
runs          per key the further stage, with the clocks of its side
aggregates    as if all events had been one customer's
sent          all stamps, so that caps survive
ids           known by itself if either was; all aliases, as far as there is room
arms, plays   those of the other id come along where the customer has none of the same key, with their timers
============  ==========================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from orchestrator.core.channel import closing
from orchestrator.core.definition import SUM_BUCKETS, Aggregate, AggregateKind
from orchestrator.core.profile import TRAITS_MAX
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.seen import united
from orchestrator.core.sequence import EVENTS_MAX
from orchestrator.core.state import (
    ALIASES_MAX,
    BIDS_MAX,
    INSTANCES_MAX,
    PENDING_MAX,
    RUNS_PER_JOURNEY_MAX,
    STAMPS_MAX,
    TRIALS_MAX,
    CustomerState,
    Play,
    Run,
)
from orchestrator.core.turn import Turn, timer_parts

V = TypeVar("V")


def unite(turn: Turn, other: CustomerState) -> set[str]:
    """Bring ``other`` into the turn's state; return the consents that one side had and the union refuses.

    A channel that either side has closed is among them: the other side may have used it without any entry.
    """
    state = turn.state
    if other.first_seen_ms:
        state.first_seen_ms = min(state.first_seen_ms or other.first_seen_ms, other.first_seen_ms)
    state.frontier_ms = max(state.frontier_ms, other.frontier_ms)
    state.seen, state.seen_days = united(other.seen, state.seen, turn.now_ms)
    state.known = state.known or other.known
    state.named_at_ms = max(state.named_at_ms, other.named_at_ms)
    state.aliases = with_room(state.aliases, other.aliases)
    state.asked = with_room(state.asked, other.asked)
    _unite_traits(state, other)
    refused = _unite_consents(state, other)
    moved = _unite_runs(turn.rulebook, state, other)
    if moved and state.edition != other.edition:
        state.edition = 0
    _unite_aggregates(turn.rulebook, state, other)
    for counter, stamps in other.sent.items():
        state.sent[counter] = sorted([*state.sent.get(counter, ()), *stamps])[-STAMPS_MAX:]
    _adopt(state.pending, other.pending, PENDING_MAX)
    _adopt_clocks(turn, other, moved)
    return refused | closing(state.consents)


def with_room(ids: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return ids with those of ``others`` that are not among them, up to ``ALIASES_MAX``.

    An erasure reaches those that find no room all the same: each id knows those that have joined it.
    """
    fresh = [one for one in dict.fromkeys(others) if one not in ids]
    return [*ids, *fresh[: max(0, ALIASES_MAX - len(ids))]]


def _unite_traits(state: CustomerState, other: CustomerState) -> None:
    for name, (value, at_ms) in other.traits.items():
        known = state.traits.get(name)
        if (known is None and len(state.traits) < TRAITS_MAX) or (known is not None and known[1] < at_ms):
            state.traits[name] = (value, at_ms)


def _unite_consents(state: CustomerState, other: CustomerState) -> set[str]:
    refused: set[str] = set()
    for purpose, (granted, at_ms) in other.consents.items():
        known = state.consents.get(purpose)
        if known is None:
            state.consents[purpose] = (granted, at_ms)
            continue
        state.consents[purpose] = (granted and known[0], max(at_ms, known[1]))
        if granted != known[0]:
            refused.add(purpose)
    return refused


def _unite_runs(rulebook: Rulebook, state: CustomerState, other: CustomerState) -> set[str]:
    """Unite the runs; return the keys of those that now stand where the other id stood."""
    moved: set[str] = set()
    for key, run in other.runs.items():
        known = state.runs.get(key)
        if known is None:
            prefix = key.partition("/")[0] + "/"
            if sum(one.startswith(prefix) for one in state.runs) >= RUNS_PER_JOURNEY_MAX:
                continue
            state.runs[key] = run
            moved.add(key)
            continue
        further, behind = (run, known) if _place(rulebook, key, run) > _place(rulebook, key, known) else (known, run)
        if further is run:
            moved.add(key)
        state.runs[key] = msgspec.structs.replace(
            further,
            started_at=min(further.started_at, behind.started_at),
            visited=list(dict.fromkeys([*behind.visited, *further.visited])),
        )
    return moved


def _place(rulebook: Rulebook, key: str, run: Run) -> tuple[int, bool]:
    journey = rulebook.journeys.get(key.partition("/")[0])
    stages = () if journey is None else journey.stages
    return next((stage.index for stage in stages if stage.name == run.stage), -1), bool(run.ended_at)


def _unite_aggregates(rulebook: Rulebook, state: CustomerState, other: CustomerState) -> None:
    known = {one.aggregate.name: one.aggregate for plan in rulebook.plans.values() for one in plan.aggregates}
    room = _with_room(state.aggregates, other.aggregates)
    for name, stored in other.aggregates.items():
        own = state.aggregates.get(name)
        if own is None:
            if name in room:
                state.aggregates[name] = stored
        elif (aggregate := known.get(name)) is not None:
            state.aggregates[name] = _united(aggregate, own, stored)
        elif "|" in name:
            # A sequence: when it last fired, and the events that may still belong to one.
            state.aggregates[name] = [max(own[0], stored[0]), sorted([*own[1], *stored[1]])[-EVENTS_MAX:]]


def _united(aggregate: Aggregate, own: Sequence[Any], stored: Sequence[Any]) -> list[Any]:
    match aggregate.kind:
        case AggregateKind.COUNT:
            return sorted([*own, *stored])[-aggregate.size :]
        case AggregateKind.SUM:
            sums: dict[int, float] = {}
            for bucket, total in (*own, *stored):
                sums[bucket] = sums.get(bucket, 0) + total
            return [[one, sums[one]] for one in sorted(sums)[-(SUM_BUCKETS + 1) :]]
        case AggregateKind.STAMPS:
            return [min(own[0], stored[0]), max(own[1], stored[1]), own[2] + stored[2]]


def _adopt_clocks(turn: Turn, other: CustomerState, moved: set[str]) -> None:
    """Take over what is under way, each with its timer; a run that has ended keeps only what lives by none."""
    state, rules = turn.state, turn.rulebook.rules

    def goes_on(play: Play) -> bool:
        anytime = play.rule in rules and rules[play.rule].anytime
        return anytime or play.run not in state.runs or not state.runs[play.run].ended_at

    plays = {key: play for key, play in other.plays.items() if goes_on(play)}
    owners = {
        "absence": _adopt(state.arms, _with_room(state.arms, other.arms)),
        "play": {f"|{key}" for key in _adopt(state.plays, plays)},
        "trial": _adopt(state.trials, other.trials, TRIALS_MAX),
        "slot": {f"{slot}|" for slot in _adopt(state.bids, other.bids, BIDS_MAX)},
    }
    for timer in list(state.timers):
        kind, _, instance = timer_parts(timer)
        if kind not in owners and instance in moved:
            del state.timers[timer]
    for timer, due_ms in other.timers.items():
        kind, name, instance = timer_parts(timer)
        if instance in moved if kind not in owners else f"{name}|{instance}" in owners[kind]:
            state.timers[timer] = due_ms


def _with_room(own: Mapping[str, Any], others: dict[str, V]) -> dict[str, V]:
    """Return the entries of "name|instance" for which their name has room, and all of names without instances."""
    held = Counter(key.partition("|")[0] for key in own)
    found: dict[str, V] = {}
    for key, value in others.items():
        name, bar, _ = key.partition("|")
        if not bar or key in own or held[name] < INSTANCES_MAX:
            found[key] = value
            held[name] += key not in own
    return found


def _adopt(own: dict[str, V], others: dict[str, V], at_most: int | None = None) -> set[str]:
    """Take over the entries whose keys are not there yet, while there is room; return their keys."""
    adopted: set[str] = set()
    for key, value in others.items():
        if key not in own and (at_most is None or len(own) < at_most):
            own[key] = value
            adopted.add(key)
    return adopted
