"""A lane: the delivery loop of one connector, with its slots, its rate, its breaker and its bookkeeping."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import assert_never

from connectors.protocol import Connector, Delivery, Receipt, Result
from orchestrator.core.action import Action
from orchestrator.errors import Unavailable
from orchestrator.metrics import (
    DECISION_TO_DELIVERY_SECONDS,
    DELIVERY_ATTEMPTS,
    DELIVERY_SECONDS,
    IN_FLIGHT,
    QUEUE_DEPTH,
    STORE_RETRIES,
)
from orchestrator.runtime.dispatch.attempt import with_attempt
from orchestrator.runtime.dispatch.breaker import Breaker
from orchestrator.runtime.dispatch.intake import action_of
from orchestrator.runtime.dispatch.patience import patiently
from orchestrator.runtime.dispatch.policy import DeliveryPolicy
from orchestrator.runtime.dispatch.queue import DeliveryQueue
from orchestrator.runtime.dispatch.rate import RateLimit
from orchestrator.runtime.dispatch.settlement import Settlement
from orchestrator.runtime.dispatch.step import Send, Settle, Step, Wait, next_step
from orchestrator.runtime.ports import Queued

_logger = logging.getLogger(__name__)

#: Longest rest of a loop: what other processes put is noticed within it.
REST_MAX_MS = 1000

#: How many missed deadlines are taken at once.
OVERDUE_MAX = 100

#: The share of a lease that a send may take; the rest is for writing down what came of it.
SEND_SHARE = 0.8


class Lane:
    """Delivers the actions of one connector.

    ``name`` is the connector's name in actions. A lane owns nothing durable: what it knows is in the queue, and a
    lane that dies is succeeded by any other over the same queue once its leases end.
    """

    def __init__(
        self, name: str, connector: Connector, policy: DeliveryPolicy, queue: DeliveryQueue, settlement: Settlement
    ) -> None:
        self.name = name
        self._connector = connector
        self._policy = policy
        self._queue = queue
        self._settlement = settlement
        self._clock = settlement.clock
        self._rate = RateLimit(policy.rate_max, policy.rate_per_s) if policy.rate_max is not None else None
        self._breaker = Breaker(policy.breaker_after, round(policy.breaker_open_s * 1000))
        self._lease_ms = round(policy.lease_s * 1000)
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Look into the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; ``deliver`` and ``watch`` return as soon as their current call does."""
        self._stopping.set()
        self._wake.set()

    @property
    def in_flight(self) -> list[asyncio.Task[None]]:
        """The deliveries under way."""
        return list(self._in_flight.values())

    async def deliver(self) -> None:
        """Claim and deliver until ``stop``; sleeps exactly while there is nothing to do."""
        while not self._stopping.is_set():
            self._wake.clear()
            span_ms = await self._steadily(self._turn)
            await self._rest(span_ms, self._wake)

    async def watch(self) -> None:
        """Settle actions whose deadline has come while they were queued, until ``stop``; also count the queue.

        Runs beside ``deliver`` because a connector that is broken or at its limit claims nothing, and exactly then
        fallbacks are needed in time.
        """
        while not self._stopping.is_set():
            span_ms = await self._steadily(self._expire)
            await self._rest(span_ms, self._stopping)

    # ------------------------------------------------------------------------------------------- one turn

    async def _steadily(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do one round of a loop; when the queue does not answer, return how long to rest before the next."""
        try:
            return await work()
        except Unavailable as error:
            STORE_RETRIES.labels("dispatch_queue").inc()
            _logger.warning("The dispatch queue of %s does not answer: %s", self.name, error)
            return REST_MAX_MS

    async def _turn(self) -> int:
        """Claim what can be sent at once and start it; return how long to rest, in milliseconds."""
        now_ms = self._clock.now_ms()
        room = self._room(now_ms)
        if room == 0:
            return self._until_room_ms(now_ms)
        # No more is claimed than can be sent now: an action that waited here with its lease running would look,
        # after a crash, as if it might have been sent.
        claimed = await self._queue.claim(self.name, room, now_ms, self._lease_ms)
        for queued in claimed:
            self._begin(queued)
        if len(claimed) == room:
            return 0
        ready_ms = await self._queue.next_ready_ms(self.name)
        return REST_MAX_MS if ready_ms is None else ready_ms - self._clock.now_ms()

    def _room(self, now_ms: int) -> int:
        """Return how many sends may begin now: the tightest of slots, rate and breaker."""
        room = self._policy.concurrency - len(self._in_flight)
        if self._rate is not None:
            room = min(room, self._rate.available(now_ms))
        allowed = self._breaker.room(now_ms)
        return max(0, room if allowed is None else min(room, allowed))

    def _until_room_ms(self, now_ms: int) -> int:
        """Return when rate and breaker allow more; a slot that becomes free wakes the loop by itself."""
        next_ms = self._breaker.next_at_ms(now_ms)
        if self._rate is not None:
            next_ms = max(next_ms, self._rate.next_at_ms(now_ms))
        return next_ms - now_ms if next_ms > now_ms else REST_MAX_MS

    async def _rest(self, span_ms: int, until: asyncio.Event) -> None:
        """Sleep for ``span_ms`` within its bound, or until woken."""
        if span_ms <= 0 or self._stopping.is_set():
            await asyncio.sleep(0)
            return
        sleeper = asyncio.ensure_future(self._clock.sleep(min(span_ms, REST_MAX_MS) / 1000))
        waker = asyncio.ensure_future(until.wait())
        try:
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    # ----------------------------------------------------------------------------------------- one action

    def _begin(self, queued: Queued) -> None:
        """Decide the next step of a claimed action and start it as a task of its own."""
        if queued.id in self._in_flight:
            return  # Its lease ran out while we still hold it; the claim has just renewed it.
        now_ms = self._clock.now_ms()
        action = action_of(queued)
        step = next_step(queued, action, self._policy, now_ms)
        if isinstance(step, Send):
            self._breaker.begin()
            if self._rate is not None:
                self._rate.take(now_ms)
        task = asyncio.create_task(self._take(queued, action, step), name=f"deliver {self.name} {queued.id}")
        self._in_flight[queued.id] = task
        task.add_done_callback(lambda done: self._end(queued.id, done))

    def _end(self, action_id: str, task: asyncio.Task[None]) -> None:
        del self._in_flight[action_id]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("Delivering %s failed; its lease gives it back.", action_id, exc_info=error)

    async def _take(self, queued: Queued, action: Action, step: Step) -> None:
        """Carry out a step, and the one that follows from it."""
        if isinstance(step, Send):
            queued = await self._attempt(queued, action)
            now_ms = self._clock.now_ms()
            step = next_step(queued, action, self._policy, now_ms)
            if isinstance(step, Send):  # The back-off is over already: once more through the queue, by rank.
                step = Wait(now_ms)
        await self._conclude(queued, action, step)

    async def _conclude(self, queued: Queued, action: Action, step: Wait | Settle) -> None:
        match step:
            case Wait(at_ms):
                await patiently(self._clock, "dispatch_queue", lambda: self._queue.retry(queued, at_ms))
            case Settle():
                await self._settlement.conclude(action, queued, step)
            case _:
                assert_never(step)

    async def _attempt(self, queued: Queued, action: Action) -> Queued:
        """Send once; return the action with the attempt in its history."""
        started = perf_counter()
        with IN_FLIGHT.labels(self.name).track_inprogress():
            receipt = await self._send(delivery_of(action, queued.attempts + 1))
        DELIVERY_SECONDS.labels(self.name).observe(perf_counter() - started)
        DELIVERY_ATTEMPTS.labels(self.name, receipt.result.value).inc()
        now_ms = self._clock.now_ms()
        self._breaker.note(answered=receipt.result in {Result.DELIVERED, Result.REFUSED}, now_ms=now_ms)
        if receipt.result is Result.DELIVERED:
            since_ms = max(action.decided_at, action.not_before)
            DECISION_TO_DELIVERY_SECONDS.labels(self.name).observe(max(0, now_ms - since_ms) / 1000)
        return with_attempt(queued, receipt, now_ms)

    async def _send(self, delivery: Delivery) -> Receipt:
        try:
            async with asyncio.timeout(self._policy.lease_s * SEND_SHARE):
                return await self._connector.send(delivery)
        except TimeoutError:
            return Receipt(result=Result.UNKNOWN, detail="No answer within the time that the lease leaves.")
        except Exception as error:  # A fault of the connector itself: nobody knows how far it came.
            _logger.exception("The connector %s raised instead of returning a receipt.", self.name)
            return Receipt(result=Result.UNKNOWN, detail=f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------------------------------ missed deadlines

    async def _expire(self) -> int:
        QUEUE_DEPTH.labels(self.name).set(await self._queue.depth(self.name))
        now_ms = self._clock.now_ms()
        for queued in await self._queue.overdue(self.name, OVERDUE_MAX, now_ms, self._lease_ms):
            if queued.id in self._in_flight:
                continue
            action = action_of(queued)
            step = next_step(queued, action, self._policy, now_ms)
            if isinstance(step, Send) or self._stopping.is_set():
                step = Wait(now_ms)
            await self._conclude(queued, action, step)
        return REST_MAX_MS

    async def drain(self, bound: asyncio.Future[None]) -> None:
        """Wait for the deliveries under way, at most until ``bound``; then let go of the rest.

        What is let go keeps its lease, so no other dispatcher sends it before it has had its time.
        """
        while self._in_flight and not bound.done():
            await asyncio.wait((*self._in_flight.values(), bound), return_when=asyncio.FIRST_COMPLETED)
        for task in self.in_flight:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def delivery_of(action: Action, attempt: int) -> Delivery:
    """Return an action in the words of the connectors' protocol."""
    return Delivery(
        id=action.id,
        customer_id=action.customer_id,
        kind=action.kind,
        params=action.params,
        decided_at_ms=action.decided_at,
        deadline_at_ms=action.deadline_at,
        attempt=attempt,
        facts={
            "rule": action.rule,
            "version": action.rulebook_version,
            "journey": action.journey,
            "stage": action.stage,
            "variant": action.variant,
            "reason": action.reason,
        },
    )
