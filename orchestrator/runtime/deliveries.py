"""Deliveries of a replay: what became of each action, where no dispatcher runs.

Receipts in the log count for the actions that they name. Of every other action the replay assumes what a dispatcher
without trouble would have done: it is delivered at its ``not_before`` plus ``DELAY_MS``, cancelled when it is withdrawn
before that, and expired when its deadline comes first. The journeys are told by the same receipts as in production, so
that caps, withdrawals and goals follow.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import count

from orchestrator.core.action import Action
from orchestrator.core.event import (
    ACTION_CANCEL_TOO_LATE,
    ACTION_CANCELLED,
    ACTION_DELIVERED,
    ACTION_EXPIRED,
    ACTION_FAILED,
    RECEIPTS,
    Event,
)
from orchestrator.core.receipt import receipt_properties

#: How long a delivery is assumed to take, counted from when the action may be sent.
DELAY_MS = 1_000


class Fate(Enum):
    """What became of an action."""

    SENT = "sent"
    WITHDRAWN = "withdrawn"  # in time: the customer never got it
    EXPIRED = "expired"
    FAILED = "failed"


#: A delivery that comes to light stays one: ``action_cancel_too_late`` says that the action had arrived.
_FATES = {
    ACTION_DELIVERED: Fate.SENT,
    ACTION_CANCEL_TOO_LATE: Fate.SENT,
    ACTION_CANCELLED: Fate.WITHDRAWN,
    ACTION_EXPIRED: Fate.EXPIRED,
    ACTION_FAILED: Fate.FAILED,
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An action and what became of it."""

    action: Action
    fate: Fate


def receipts_in(log: Iterable[Event]) -> dict[str, int]:
    """Return the ids of the actions that receipts in a log name, each with the stamp of its last receipt."""
    named: dict[str, int] = {}
    for event in log:
        action_id = event.properties.get("action_id") if event.type in RECEIPTS else None
        if isinstance(action_id, str):
            named[action_id] = event.received_at_ms
    return named


class Deliveries:
    """The actions of a replay on their way. ``told`` is what ``receipts_in`` says of its log.

    The caller hands in every action in the order of decisions (``add``) and every event of the log (``hear``), and
    applies the receipts that come due (``next_ms``, ``take``).
    """

    def __init__(self, told: Mapping[str, int]) -> None:
        self._told = told
        self._actions: dict[str, Action] = {}
        self._fates: dict[str, Fate] = {}
        self._fallbacks: dict[str, Action] = {}
        self._receipts: list[tuple[int, int, Event]] = []
        self._numbers = count()
        self._awaited: dict[str, str] = {}

    def results(self) -> list[Delivery]:
        """Return every action with its fate, in the order of decisions; one that is still on its way counts as sent.

        A fallback that took the place of an action is in the list as well, once the receipt of that action names it.
        """
        return [Delivery(action, self._fates.get(action_id, Fate.SENT)) for action_id, action in self._actions.items()]

    def add(self, action: Action) -> None:
        """Take over an action, or the withdrawal of one."""
        if action.cancel:
            self._withdraw(action)
            return
        self._actions[action.id] = action
        self._fallbacks.update((one.id, one) for one in action.fallback)
        if self._told.get(action.id, -1) < action.decided_at:
            self._expect(action, action.decided_at)

    def hear(self, event: Event) -> None:
        """Take note of a receipt that the log has, or that was assumed."""
        fate = _FATES.get(event.type)
        action_id = event.properties.get("action_id")
        if fate is None or not isinstance(action_id, str) or action_id not in self._actions:
            return
        self._fates[action_id] = fate
        self._awaited.pop(action_id, None)
        fallback = self._fallbacks.get(str(event.properties.get("fallback") or ""))
        if fallback is not None and fallback.id not in self._actions:
            self._actions[fallback.id] = fallback
            self._fallbacks.update((one.id, one) for one in fallback.fallback)
            if self._told.get(fallback.id, -1) < event.received_at_ms:
                self._expect(fallback, event.received_at_ms)

    def next_ms(self) -> int | None:
        """Return when the next assumed receipt is due, or None."""
        return self._receipts[0][0] if self._receipts else None

    def take(self) -> Event | None:
        """Take the next assumed receipt; None where another receipt of its action has come before it."""
        _, _, receipt = heapq.heappop(self._receipts)
        action_id = receipt.properties["action_id"]
        if self._awaited.get(action_id) != receipt.type:
            return None
        self.hear(receipt)
        return receipt

    def _expect(self, action: Action, from_ms: int) -> None:
        sent_ms = max(action.not_before, from_ms) + DELAY_MS
        if action.deadline_at is not None and action.deadline_at < sent_ms:
            self._assume(action, ACTION_EXPIRED, max(action.deadline_at, from_ms))
        else:
            self._assume(action, ACTION_DELIVERED, sent_ms)

    def _withdraw(self, cancellation: Action) -> None:
        action = self._actions.get(cancellation.id)
        if action is not None and action.id in self._awaited:
            self._fates[action.id] = Fate.WITHDRAWN
            self._assume(action, ACTION_CANCELLED, cancellation.decided_at + DELAY_MS)

    def _assume(self, action: Action, event_type: str, at_ms: int) -> None:
        properties = receipt_properties(action, "assumed by the replay")
        if event_type == ACTION_EXPIRED and action.fallback:
            properties["fallback"] = action.fallback[0].id
        receipt = Event(
            id=f"{action.id}:{event_type}",
            type=event_type,
            customer_id=action.customer_id,
            occurred_at_ms=at_ms,
            received_at_ms=at_ms,
            properties=properties,
            source="replay",
        )
        self._awaited[action.id] = event_type
        heapq.heappush(self._receipts, (at_ms, next(self._numbers), receipt))
