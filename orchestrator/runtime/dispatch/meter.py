"""The meter of a connector: its figures among the dispatcher's metrics, looked up once."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter

from connectors.protocol import Receipt
from orchestrator.core.action import Action
from orchestrator.metrics import (
    CALLBACK_WAIT_SECONDS,
    DECISION_TO_DELIVERY_SECONDS,
    DELIVERIES,
    DELIVERY_ATTEMPTS,
    DELIVERY_SECONDS,
    IN_FLIGHT,
    LINES,
    LINES_BUSY,
    PROMISES,
    QUEUE_DEPTH,
    QUEUE_OLDEST_READY_SECONDS,
    SLOTS_BOOKED,
)
from orchestrator.rulebook.capacity import Capacity
from orchestrator.runtime.dispatch.attempt import last_attempt
from orchestrator.runtime.dispatch.step import Cause, Outcome, Settle
from orchestrator.runtime.ports import GroupLoad, Occupancy, Queued

_NOTHING = GroupLoad()


class Meter:
    """Counts and times what happens to the actions of one connector."""

    def __init__(self, connector: str, capacity: Capacity | None) -> None:
        self._connector = connector
        self._capacity = capacity
        self._in_flight = IN_FLIGHT.labels(connector)
        self._seconds = DELIVERY_SECONDS.labels(connector)
        self._to_delivery = DECISION_TO_DELIVERY_SECONDS.labels(connector)
        self._depth = QUEUE_DEPTH.labels(connector)
        self._oldest = QUEUE_OLDEST_READY_SECONDS.labels(connector)
        self._attempts: dict[str, Counter] = {}
        self._outcomes: dict[str, Counter] = {}
        if capacity is not None:
            for group in ("", *capacity.groups):
                LINES.labels(connector, group).set(capacity.lines_of(group))

    def began(self, action: Action, queued: Queued, now_ms: int) -> None:
        """Note that a call to the connector begins."""
        self._in_flight.inc()
        if self._capacity is not None and queued.attempts == 0:
            wait_s = max(0, now_ms - action.decided_at) / 1000
            CALLBACK_WAIT_SECONDS.labels(self._connector, queued.group).observe(wait_s)

    def ended(self, action: Action, receipt: Receipt, took_s: float, now_ms: int) -> None:
        """Note how a call to the connector ended."""
        self._in_flight.dec()
        self._seconds.observe(took_s)
        result = receipt.result.value
        counter = self._attempts.get(result)
        if counter is None:
            counter = self._attempts[result] = DELIVERY_ATTEMPTS.labels(self._connector, result)
        counter.inc()
        if result == "delivered":
            self._to_delivery.observe(max(0, now_ms - max(action.decided_at, action.not_before)) / 1000)

    def settled(self, queued: Queued, word: Settle) -> None:
        """Note the last word about an action, and whether its deadline was kept."""
        outcome = word.outcome.value
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = DELIVERIES.labels(self._connector, outcome)
        counter.inc()
        if queued.deadline_at is not None and (kept := _promise(queued, word)):
            PROMISES.labels(self._connector, queued.group, kept).inc()

    def booked(self, group: str) -> None:
        """Note that an action got a place in a slot."""
        SLOTS_BOOKED.labels(self._connector, group).inc()

    def occupied(self, occupancy: Occupancy, now_ms: int) -> None:
        """Take the queue's own figures; they are the same at every dispatcher."""
        self._depth.set(occupancy.queued)
        since = [at for one in occupancy.groups.values() if (at := one.oldest_ready_at_ms) is not None]
        self._oldest.set(max(0, now_ms - min(since)) / 1000 if since else 0)
        if self._capacity is not None:
            self._lines(occupancy.groups)

    def _lines(self, groups: Mapping[str, GroupLoad]) -> None:
        assert self._capacity is not None
        for name in self._capacity.groups:
            LINES_BUSY.labels(self._connector, name).set(groups.get(name, _NOTHING).busy)
        # The figure without a group is the connector's own: all of its lines, whoever uses them.
        LINES_BUSY.labels(self._connector, "").set(sum(one.busy for one in groups.values()))


def _promise(queued: Queued, word: Settle) -> str:
    """Return what became of a deadline: kept, broken, known not to be kept, or '' where it says nothing.

    An action that was withdrawn or refused says nothing about the lines.
    """
    if word.outcome is Outcome.DELIVERED:
        taken = last_attempt(queued.history)
        return "kept" if taken is None or taken.at_ms <= (queued.deadline_at or 0) else "broken"
    if word.outcome is Outcome.EXPIRED:
        return "broken" if word.cause is Cause.DEADLINE_PASSED else "unkeepable"
    return ""
