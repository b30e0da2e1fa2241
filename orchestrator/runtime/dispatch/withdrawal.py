"""Withdrawal: taking back what is still queued, and saying so when it is too late."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.event import ACTION_CANCEL_TOO_LATE, ACTION_CANCELLED
from orchestrator.metrics import DELIVERIES
from orchestrator.runtime.dispatch.receipt import receipt_event
from orchestrator.runtime.dispatch.step import Cause, Outcome
from orchestrator.runtime.ports import Clock, DispatchQueue, EventLog, LedgerEntry, Outgoing

_CANCELLED = Outcome.CANCELLED.value
_DELIVERED = Outcome.DELIVERED.value

#: The outcome that an action had, and told of, before it was withdrawn.
_BEFORE = "before"


class Withdrawal:
    """Withdraws actions, and their fallbacks with them."""

    def __init__(self, queue: DispatchQueue, log: EventLog, clock: Clock) -> None:
        self._queue = queue
        self._log = log
        self._clock = clock

    async def withdraw(self, wanted: Sequence[Action]) -> None:
        """Withdraw every action that has not been sent, and append a receipt for each that was or was not.

        The receipt follows the ledger here, and nothing is lost by it: whoever repeats the call after a crash finds
        the cancellation in the ledger and appends the same receipt. Raises ``StoreUnavailable`` and ``LogUnavailable``.
        """
        remaining = list(wanted)
        while remaining:
            ids = list(dict.fromkeys(action.id for action in remaining))
            now_ms = self._clock.now_ms()
            taken, entries = await self._take_out(ids, now_ms)
            silent = [one for one, entry in entries.items() if entry is None]
            if silent:
                # They are being sent, or they had been given up and were redriven between the two calls.
                late_taken, late_entries = await self._take_out(silent, now_ms)
                taken, entries = taken | late_taken, entries | late_entries
            await self._log.append(
                [receipt for action in remaining if (receipt := _receipt(action, entries[action.id], now_ms))]
            )
            for action_id in taken:
                entry = entries[action_id]
                DELIVERIES.labels(entry.connector if entry else "", _CANCELLED).inc()
            await self._bury([entry for entry in entries.values() if entry], now_ms)
            remaining = [other for action in remaining for other in _fallbacks(action, entries[action.id])]

    async def _take_out(self, action_ids: Sequence[str], now_ms: int) -> tuple[set[str], dict[str, LedgerEntry | None]]:
        """Withdraw what is queued; return what was, and what the ledger says of each."""
        taken = set(await self._queue.withdraw(action_ids, now_ms))
        return taken, dict(zip(action_ids, await self._queue.ledger(action_ids), strict=True))

    async def _bury(self, entries: Sequence[LedgerEntry], now_ms: int) -> None:
        """Make sure that what failed and is no longer wanted cannot be redriven. Its fallback is still named."""
        for entry in entries:
            if "action" in entry.detail:
                detail = {"cause": Cause.WITHDRAWN.value, _BEFORE: entry.outcome}
                if "fallback" in entry.detail:
                    detail["fallback"] = entry.detail["fallback"]
                await self._queue.settle(
                    LedgerEntry(id=entry.id, connector=entry.connector, outcome=_CANCELLED, at_ms=now_ms, detail=detail)
                )


def _receipt(action: Action, entry: LedgerEntry | None, now_ms: int) -> Outgoing | None:
    """Return what the customer's journeys are to know; nothing when the action had already failed."""
    if entry is None:
        detail, event_type = "The action is being sent, or an attempt of it may have arrived.", ACTION_CANCEL_TOO_LATE
    elif entry.outcome == _DELIVERED:
        detail, event_type = "The action had been delivered.", ACTION_CANCEL_TOO_LATE
    elif entry.outcome == _CANCELLED and _BEFORE not in entry.detail:
        detail, event_type = Cause.WITHDRAWN.value, ACTION_CANCELLED
    else:
        return None
    if entry is not None and not action.connector:
        action = msgspec.structs.replace(action, connector=entry.connector)
    certain = entry is None or entry.detail.get("certain", True)
    more = {"certain": certain} if event_type == ACTION_CANCELLED else {}
    return receipt_event(action, event_type=event_type, at_ms=now_ms, detail=detail, more=more)


def _fallbacks(action: Action, entry: LedgerEntry | None) -> list[Action]:
    """Return the fallbacks that have taken the action's place, as withdrawals of their own."""
    fallback_id = entry.detail.get("fallback") if entry else None
    return [msgspec.structs.replace(action, id=fallback_id, connector="")] if fallback_id else []
