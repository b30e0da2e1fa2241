"""Replay: a log of events through the production core, on a virtual clock, in memory.

``journey test`` and ``journey backtest`` are replays. A replay of the log that a worker has read, under the same
rulebook, makes the same decisions to the byte, because both go through the same ``Sequencer``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.core.propensity import BetaBernoulli
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.runtime.sequencer import Failure, Sequencer


class _States(MutableMapping[str, CustomerState]):
    """Customers, each with the empty state until something happens to them.

    Kept encoded, as a worker keeps them: what lies all over memory takes longer to reach than to decode.
    """

    def __init__(self, states: Mapping[str, CustomerState]) -> None:
        self._encoded = {customer_id: encode_state(state) for customer_id, state in states.items()}

    def __getitem__(self, customer_id: str) -> CustomerState:
        return decode_state(self._encoded.get(customer_id))

    def __setitem__(self, customer_id: str, state: CustomerState) -> None:
        self._encoded[customer_id] = encode_state(state)

    def __delitem__(self, customer_id: str) -> None:
        del self._encoded[customer_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to."""

    actions: list[Action]
    records: list[DecisionRecord]
    failures: list[Failure]
    states: Mapping[str, CustomerState]
    events: int
    duplicates: int

    def in_force(self) -> list[Action]:
        """Return the actions that were not withdrawn, in the order of their decision."""
        withdrawn = {action.id for action in self.actions if action.cancel}
        return [action for action in self.actions if not action.cancel and action.id not in withdrawn]


def replay(
    rulebook: Rulebook,
    log: Iterable[Event],
    *,
    until_ms: int | None = None,
    partition_of: Callable[[str], int] = lambda customer_id: 0,
    states: Mapping[str, CustomerState] | None = None,
    emits: bool = True,
) -> Replayed:
    """Decide a log from its beginning. Events come in log order: their ``received_at_ms`` never runs backwards.

    Timers fire up to ``until_ms``; without it, up to the last event. ``states`` are what is known before.
    ``partition_of`` tells a customer's partition, since what is learned from outcomes is learned per partition.
    Events that decisions emit (merges of customers) follow the event behind them; without ``emits`` they do not, for a
    log that a worker has written them to.
    """
    kept = _States(states or {})
    models: defaultdict[int, BetaBernoulli] = defaultdict(BetaBernoulli)
    sequencer = Sequencer(rulebook, kept, lambda customer_id: models[partition_of(customer_id)])
    sequencer.expect(
        (wake_ms, customer) for customer, state in kept.items() if (wake_ms := state.next_wake_ms()) is not None
    )
    last_ms = 0
    for event in log:
        last_ms = event.received_at_ms
        sequencer.apply(event, last_ms)
        while emits and (emitted := sequencer.outcome.events):
            follow_up = emitted.pop(0)
            sequencer.apply(msgspec.structs.replace(follow_up, received_at_ms=last_ms), last_ms)
    sequencer.advance(max(last_ms, until_ms or 0))
    outcome = sequencer.outcome
    return Replayed(
        actions=outcome.actions,
        records=outcome.records,
        failures=outcome.failures,
        states=kept,
        events=outcome.events_applied,
        duplicates=outcome.duplicates,
    )
