"""Replay: a log of events through the production core, on a virtual clock, in memory.

``journey test`` and ``journey backtest`` are replays. A replay of the log that a worker has read, under the same
rulebook, makes the same decisions to the byte, because both go through the same ``Sequencer``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.core.propensity import BetaBernoulli
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.runtime.deliveries import Deliveries, Delivery, Fate
from orchestrator.runtime.sequencer import Failure, Sequencer

#: When a customer was first seen of whom only that is known.
_LONG_AGO_MS = 1


class _States(MutableMapping[str, CustomerState]):
    """Customers, each with the state ``unseen`` until something happens to them.

    Kept encoded, as a worker keeps them: what lies all over memory takes longer to reach than to decode.
    """

    def __init__(self, states: Mapping[str, CustomerState], unseen: CustomerState) -> None:
        self._unseen = encode_state(unseen)
        self._encoded = {customer_id: encode_state(state) for customer_id, state in states.items()}

    def __getitem__(self, customer_id: str) -> CustomerState:
        return decode_state(self._encoded.get(customer_id, self._unseen))

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
    """What a replay came to. ``deliveries`` is empty where none were assumed; ``events`` are those of the log."""

    actions: list[Action]
    records: list[DecisionRecord]
    failures: list[Failure]
    states: Mapping[str, CustomerState]
    events: int
    duplicates: int
    deliveries: Sequence[Delivery] = ()

    def sent(self) -> list[Action]:
        """Return the actions that reached their customers, in the order of their decisions."""
        return [one.action for one in self.deliveries if one.fate is Fate.SENT]


def replay(  # noqa: PLR0913 - each is a fact about the log, with the usual one as default.
    rulebook: Rulebook,
    log: Iterable[Event],
    *,
    until_ms: int | None = None,
    after_ms: int = 0,
    partition_of: Callable[[str], int] = lambda customer_id: 0,
    states: Mapping[str, CustomerState] | None = None,
    emits: bool = True,
    told: Mapping[str, int] | None = None,
    cold: bool = False,
) -> Replayed:
    """Decide a log from its beginning. Events come in log order: their ``received_at_ms`` never runs backwards.

    Timers fire for ``after_ms`` after the last event, or up to ``until_ms`` where that is later. ``states`` are what is
    known before. ``partition_of`` tells a customer's partition, since what is learned from outcomes is learned per
    partition. Events that decisions emit (merges of customers) follow the event behind them; without ``emits`` they do
    not, for a log that a worker has written them to. ``told`` is what ``receipts_in`` finds in this log: every action
    that it does not name is assumed to be delivered (see ``deliveries``). Without ``told`` the journeys hear of no
    delivery but those in the log. ``cold`` takes everybody for known before the log, and the rulebook for published at
    its beginning: a count is unknown until its window has passed since, as it would be live.
    """
    log = iter(log)
    first = next(log, None)
    if cold and first is not None:
        rulebook = replace(rulebook, aggregates_since=dict.fromkeys(rulebook.kept_aggregates(), first.received_at_ms))
    kept = _States(states or {}, CustomerState(first_seen_ms=_LONG_AGO_MS if cold else 0))
    models: defaultdict[int, BetaBernoulli] = defaultdict(BetaBernoulli)
    sequencer = Sequencer(rulebook, kept, lambda customer_id: models[partition_of(customer_id)])
    sequencer.expect(
        (wake_ms, customer) for customer, state in kept.items() if (wake_ms := state.next_wake_ms()) is not None
    )
    deliveries = None if told is None else Deliveries(told)
    playback = _Playback(sequencer, deliveries)
    last_ms = 0
    for event in log if first is None else chain((first,), log):
        last_ms = event.received_at_ms
        playback.apply(event, emits)
    playback.advance(max(last_ms + after_ms, until_ms or 0))
    outcome = sequencer.outcome
    return Replayed(
        actions=outcome.actions,
        records=outcome.records,
        failures=outcome.failures,
        states=kept,
        events=outcome.events_applied - playback.receipts,
        duplicates=outcome.duplicates,
        deliveries=() if deliveries is None else deliveries.results(),
    )


class _Playback:
    """Brings the events of a log, timers and assumed receipts into one order; ``receipts`` counts the latter.

    A timer that is due in the same millisecond as a receipt fires before it, as it does before an event.
    """

    def __init__(self, sequencer: Sequencer, deliveries: Deliveries | None) -> None:
        self._sequencer = sequencer
        self._deliveries = deliveries
        self._added = 0
        self.receipts = 0

    def apply(self, event: Event, emits: bool) -> None:
        """Decide an event of the log after all that is due by its stamp; apply what that emits if it ``emits``."""
        if self._deliveries is not None:
            self.advance(event.received_at_ms)
            self._deliveries.hear(event)
        self._decide(event, emits)

    def advance(self, until_ms: int) -> None:
        """Fire timers and apply assumed receipts that are due by ``until_ms``, in due order."""
        deliveries, sequencer = self._deliveries, self._sequencer
        if deliveries is None:
            sequencer.advance(until_ms)
            return
        while True:
            wake_ms, receipt_ms = sequencer.next_wake_ms(), deliveries.next_ms()
            if wake_ms is not None and wake_ms <= until_ms and (receipt_ms is None or wake_ms <= receipt_ms):
                sequencer.advance(wake_ms)
                self._add_actions(deliveries)
            elif receipt_ms is not None and receipt_ms <= until_ms:
                if (receipt := deliveries.take()) is not None:
                    self.receipts += 1
                    # No log has what an assumed receipt leads to, whoever wrote the log.
                    self._decide(receipt, emits=True)
            else:
                return

    def _decide(self, event: Event, emits: bool) -> None:
        sequencer = self._sequencer
        emitted = sequencer.outcome.events
        known = len(emitted)
        sequencer.apply(event, event.received_at_ms)
        while emits and len(emitted) > known:
            follow_up = msgspec.structs.replace(emitted.pop(known), received_at_ms=event.received_at_ms)
            sequencer.apply(follow_up, event.received_at_ms)
        if self._deliveries is not None:
            self._add_actions(self._deliveries)

    def _add_actions(self, deliveries: Deliveries) -> None:
        actions = self._sequencer.outcome.actions
        for place in range(self._added, len(actions)):
            deliveries.add(actions[place])
        self._added = len(actions)
