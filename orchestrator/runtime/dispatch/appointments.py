"""Appointments: what is told an action that finds nobody there, or too many before it.

Both happens when an action arrives, and is looked at again when it is claimed: the place may have closed meanwhile.
The answer is durable before anybody hears of it. A booking is made under the action's id and so is made once; the
event that tells of it is appended before the records are acknowledged, under an id made of the action and the slot.
"""

from __future__ import annotations

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.localtime import quiet_until, zone_named
from orchestrator.rulebook.capacity import Capacity
from orchestrator.runtime.dispatch.attempt import UNKEEPABLE
from orchestrator.runtime.dispatch.capacity import (
    STARTS_MAX,
    Booked,
    Outlook,
    Unkeepable,
    outlook,
    room,
    shortest_wait_ms,
)
from orchestrator.runtime.dispatch.meter import Meter
from orchestrator.runtime.dispatch.policy import DeliveryPolicy
from orchestrator.runtime.dispatch.queue import DeliveryQueue
from orchestrator.runtime.dispatch.rate import Rate
from orchestrator.runtime.dispatch.receipt import scheduled_event
from orchestrator.runtime.dispatch.settlement import Settlement
from orchestrator.runtime.dispatch.step import Cause, Outcome, Settle, Wait
from orchestrator.runtime.ports import Queued

#: How long an action that is only to be settled stands aside; the watch takes it within a second.
ASIDE_MS = 60_000


class Appointments:
    """Gives the actions of one connector their places. Raises ``StoreUnavailable`` and ``LogUnavailable``."""

    def __init__(
        self,
        connector: str,
        policy: DeliveryPolicy,
        capacity: Capacity,
        queue: DeliveryQueue,
        settlement: Settlement,
        meter: Meter,
    ) -> None:
        self._connector = connector
        self._capacity = capacity
        self._rate = Rate.of(policy.quota)
        self._queue = queue
        self._log = settlement.log
        self._clock = settlement.clock
        self._meter = meter

    async def admit(self, queued: Queued, action: Action) -> None:
        """Queue an action for the moment at which it can be sent, if that is before its deadline.

        One whose deadline cannot be met is queued with a mark that says so, due at once: it is settled like any
        other that is late. May be repeated: what is queued or settled already stays as it is.
        """
        group, now_ms = self._capacity.group_of(action), self._clock.now_ms()
        due_ms = _allowed_ms(action, max(now_ms, queued.not_before))
        wait_ms = 0
        if due_ms <= now_ms and (queued.deadline_at is not None or self._capacity.hours_of(group)):
            before = await self._queue.ahead(self._connector, group, queued.priority, now_ms)
            wait_ms = shortest_wait_ms(self._capacity, group, self._rate, before)
        view = outlook(self._capacity, group, action, due_ms=due_ms, deadline_ms=queued.deadline_at, wait_ms=wait_ms)
        queued = msgspec.structs.replace(queued, group=group)
        overdue = queued.deadline_at is not None and queued.deadline_at <= now_ms
        start_ms = None if overdue else await self._book(queued, view)
        if start_ms is not None:
            queued = msgspec.structs.replace(queued, not_before=start_ms)
        elif not overdue and (why := _why(view)):
            # Due at once for those who settle what is late, and not in the way of those who can be sent.
            queued = msgspec.structs.replace(
                queued, deadline_at=now_ms, not_before=now_ms + ASIDE_MS, history=(f"{UNKEEPABLE}: {why}",)
            )
        new = (await self._queue.put([queued])).queued == 1
        if start_ms is not None and (new or await self._still_queued(queued.id)):
            await self._announce(action, group, start_ms, counts=new)

    async def move(self, queued: Queued, action: Action, due_ms: int) -> Wait | Settle:
        """Book a claimed action that finds nobody there; return until when it waits, or that it waits in vain."""
        view = outlook(self._capacity, queued.group, action, due_ms=due_ms, deadline_ms=queued.deadline_at, wait_ms=0)
        start_ms = await self._book(queued, view)
        if start_ms is None:
            why = _why(view)
            return Settle(Outcome.EXPIRED, Cause.PROMISE_UNKEEPABLE, why) if why else Wait(due_ms)
        await self._announce(action, queued.group, start_ms, counts=True)
        return Wait(start_ms)

    async def _book(self, queued: Queued, view: Outlook) -> int | None:
        """Return the start of the action's slot; None where it needs none or none has room before its deadline."""
        if not isinstance(view, Booked):
            return None
        per_slot = room(self._capacity, queued.group, self._rate)
        start_ms = await self._queue.book(self._connector, queued.group, queued.id, view.starts, per_slot)
        if start_ms is None:
            beyond = queued.deadline_at is None or len(view.starts) == STARTS_MAX
            return view.starts[-1] if beyond else None
        # A booking that was missed, through a long queue or an outage, is still the one that the queue knows. Such
        # an action comes first thing in the next opening, beside those that are booked there.
        return start_ms if start_ms in view.starts else view.starts[0]

    async def _still_queued(self, action_id: str) -> bool:
        return (await self._queue.ledger([action_id]))[0] is None

    async def _announce(self, action: Action, group: str, start_ms: int, *, counts: bool) -> None:
        await self._log.append([scheduled_event(action, slot_at_ms=start_ms, at_ms=self._clock.now_ms())])
        if counts:
            self._meter.booked(group)


def _why(view: Outlook) -> str:
    """Return why a deadline is missed where the outlook led to no slot; '' where nothing is in the way."""
    if isinstance(view, Unkeepable):
        return view.why
    return "no slot with room before the deadline" if isinstance(view, Booked) else ""


def _allowed_ms(action: Action, due_ms: int) -> int:
    """Move a moment out of the customer's quiet hours; a zone that is none is reported when the action is claimed."""
    window = action.quiet_hours
    zone = zone_named(window.zone) if window else None
    if window is None or zone is None:
        return due_ms
    return quiet_until(due_ms, window.start_min, window.end_min, [zone]) or due_ms
