"""A lane: the delivery loop of one connector, with its quota, its breaker and its bookkeeping."""

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
from orchestrator.metrics import STORE_RETRIES
from orchestrator.runtime.dispatch.appointments import Appointments
from orchestrator.runtime.dispatch.attempt import last_attempt, with_attempt
from orchestrator.runtime.dispatch.breaker import Breaker
from orchestrator.runtime.dispatch.intake import action_of, queued_of
from orchestrator.runtime.dispatch.meter import Meter
from orchestrator.runtime.dispatch.patience import patiently
from orchestrator.runtime.dispatch.policy import DeliveryPolicy
from orchestrator.runtime.dispatch.queue import DeliveryQueue
from orchestrator.runtime.dispatch.settlement import REPORT_AGAIN_MS, Settlement
from orchestrator.runtime.dispatch.step import Book, Outcome, Send, Settle, Step, Wait, next_step
from orchestrator.runtime.dispatch.watchdog import Watchdog
from orchestrator.runtime.ports import Queued

_logger = logging.getLogger(__name__)

#: Longest rest of a loop: what other processes put, free or release is noticed within it.
REST_MAX_MS = 1000

#: How often the queue is measured; Prometheus looks less often.
MEASURE_MS = 5000

#: How many missed deadlines are taken at once.
OVERDUE_MAX = 100

#: The share of a lease that a send may take; the rest is for writing down what came of it.
SEND_SHARE = 0.8


class Lane:
    """Delivers the actions of one connector.

    ``name`` is the connector's name in actions. A lane owns nothing durable: what it knows is in the queue, and a
    lane that dies is succeeded by any other over the same queue once its leases end. Lanes share nothing that one of
    them could hold up: each waits for its own connector alone.
    """

    def __init__(
        self, name: str, connector: Connector, policy: DeliveryPolicy, queue: DeliveryQueue, settlement: Settlement
    ) -> None:
        self.name = name
        self._connector = connector
        self._policy = policy
        self._quota = policy.quota
        self._queue = queue
        self._settlement = settlement
        self._clock = settlement.clock
        self._meter = Meter(name, policy.capacity)
        self._breaker = Breaker(policy.breaker_after, round(policy.breaker_open_s * 1000))
        self._watchdog = Watchdog(policy.lease_s * SEND_SHARE)
        self._appointments = self._with_appointments()
        self._lease_ms = round(policy.lease_s * 1000)
        self._measure_at_ms = 0
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._missed = asyncio.Event()
        self._stopping = False

    def _with_appointments(self) -> Appointments | None:
        if self._policy.capacity is None:
            return None
        return Appointments(self.name, self._policy, self._policy.capacity, self._queue, self._settlement, self._meter)

    async def put(self, actions: list[Action]) -> None:
        """Queue new actions. Raises ``StoreUnavailable`` and ``LogUnavailable``; may be repeated."""
        now_ms = self._clock.now_ms()
        if self._appointments is None:
            await self._queue.put([queued_of(action, since_ms=now_ms) for action in actions])
        else:
            # One after another, so that each finds those before it in the queue.
            for action in actions:
                await self._appointments.admit(queued_of(action, since_ms=now_ms), action)
            self._missed.set()
        self._wake.set()

    def wake(self) -> None:
        """Look into the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; ``deliver`` and ``watch`` return as soon as their current call does."""
        self._stopping = True
        self._wake.set()
        self._missed.set()

    @property
    def in_flight(self) -> list[asyncio.Task[None]]:
        """The deliveries under way."""
        return list(self._in_flight.values())

    async def deliver(self) -> None:
        """Claim and deliver until ``stop``; sleeps exactly while there is nothing to do."""
        await self._loop(self._turn, self._wake)

    async def watch(self) -> None:
        """Settle actions whose deadline has come while they were queued, until ``stop``; also measure the queue.

        Runs beside ``deliver`` because a connector that is broken or at its limit claims nothing, and exactly then
        fallbacks are needed in time.
        """
        await self._loop(self._expire, self._missed)

    # ------------------------------------------------------------------------------------------- one turn

    async def _loop(self, work: Callable[[], Awaitable[int]], woken: asyncio.Event) -> None:
        while not self._stopping:
            woken.clear()
            try:
                span_ms = await work()
            except Unavailable as error:
                STORE_RETRIES.labels("dispatch_queue").inc()
                _logger.warning("The dispatch queue of %s does not answer: %s", self.name, error)
                span_ms = REST_MAX_MS
            await self._rest(span_ms, woken)

    async def _turn(self) -> int:
        """Claim what can be sent at once and start it; return how long to rest, in milliseconds."""
        now_ms = self._clock.now_ms()
        room = self._room(now_ms)
        if room == 0:
            # A slot that becomes free wakes the loop by itself.
            return self._breaker.next_at_ms(now_ms) - now_ms or REST_MAX_MS
        # No more is claimed than can be sent now: an action that waited here with its lease running would look,
        # after a crash, as if it might have been sent.
        claim = await self._queue.claim(self.name, self._quota, room, now_ms, self._lease_ms)
        for queued in claim.actions:
            self._begin(queued, now_ms)
        return REST_MAX_MS if claim.again_at_ms is None else claim.again_at_ms - self._clock.now_ms()

    def _room(self, now_ms: int) -> int:
        """Return how many sends may begin here now: this process never has more than all slots under way."""
        room = self._quota.slots - len(self._in_flight)
        allowed = self._breaker.room(now_ms)
        return max(0, room if allowed is None else min(room, allowed))

    async def _rest(self, span_ms: int, until: asyncio.Event) -> None:
        """Sleep for ``span_ms`` within its bound, or until woken."""
        if span_ms <= 0 or self._stopping or until.is_set():
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

    def _begin(self, queued: Queued, claimed_ms: int) -> None:
        """Decide the next step of a claimed action and start it as a task of its own.

        What was late when it was claimed is never sent, also when the clock has been put back since: the queue counts
        on it that its lease hides no attempt.
        """
        if queued.id in self._in_flight:
            return  # Its lease ran out while we still hold it; the claim has just renewed it.
        action = action_of(queued)
        step = next_step(queued, action, self._policy, max(claimed_ms, self._clock.now_ms()))
        if isinstance(step, Send):
            self._breaker.begin()
        self._in_flight[queued.id] = asyncio.create_task(self._take(queued, action, step))

    async def _take(self, queued: Queued, action: Action, step: Step) -> None:
        """Carry out a step, and the one that follows from it."""
        action_id, sent = queued.id, isinstance(step, Send)
        try:
            if isinstance(step, Send):
                queued = await self._attempt(queued, action)
                now_ms = self._clock.now_ms()
                step = next_step(queued, action, self._policy, now_ms)
                if isinstance(step, Send):  # The back-off is over already: once more through the queue, by rank.
                    step = Wait(now_ms)
            await self._conclude(queued, action, step, unspent=not sent)
        except Exception:
            _logger.exception("Delivering %s failed; its lease gives it back.", action_id)
        finally:
            del self._in_flight[action_id]
            self._wake.set()

    async def _conclude(self, queued: Queued, action: Action, step: Wait | Book | Settle, *, unspent: bool) -> None:
        """Write down what comes next. ``unspent`` says that this claim took a token of the rate and sent nothing."""
        if isinstance(step, Book):
            step = await self._moved(queued, action, step.due_ms)
        match step:
            case Wait(at_ms):
                await patiently(
                    self._clock, "dispatch_queue", lambda: self._queue.retry(queued, at_ms, unspent=unspent)
                )
            case Settle():
                hold_until_ms = self._hold_until_ms(queued, step)
                await self._settlement.conclude(
                    action, queued, step, self._meter, hold_until_ms=hold_until_ms, unspent=unspent
                )
            case _:
                assert_never(step)

    async def _moved(self, queued: Queued, action: Action, due_ms: int) -> Wait | Settle:
        """Book a slot; when the log or the queue is not there, look again in a moment."""
        if self._appointments is None:
            return Wait(due_ms)
        try:
            return await self._appointments.move(queued, action, due_ms)
        except Unavailable:
            STORE_RETRIES.labels("dispatch_queue").inc()
            return Wait(self._clock.now_ms() + REPORT_AGAIN_MS)

    def _hold_until_ms(self, queued: Queued, word: Settle) -> int | None:
        """Return until when a line stays taken by a call that was, or may have been, begun."""
        capacity = self._policy.capacity
        if capacity is None or not capacity.hold_ms:
            return None
        if word.outcome is not Outcome.DELIVERED and word.outcome is not Outcome.DROPPED:
            return None
        last = last_attempt(queued.history)
        began_ms = self._clock.now_ms() if last is None else last.at_ms
        return began_ms + capacity.hold_ms

    async def _attempt(self, queued: Queued, action: Action) -> Queued:
        """Send once; return the action with the attempt in its history."""
        started = perf_counter()
        self._meter.began(action, queued, self._clock.now_ms())
        receipt = Receipt(result=Result.UNKNOWN, detail="The send was let go.")
        try:
            receipt = await self._send(delivery_of(action, queued.attempts + 1))
        finally:
            now_ms = self._clock.now_ms()
            self._meter.ended(action, receipt, perf_counter() - started, now_ms)
        answered = receipt.result is Result.DELIVERED or receipt.result is Result.REFUSED
        self._breaker.note(answered=answered, now_ms=now_ms)
        return with_attempt(queued, receipt, now_ms)

    async def _send(self, delivery: Delivery) -> Receipt:
        try:
            with self._watchdog.watching():
                return await self._answer(delivery)
        except TimeoutError:
            return Receipt(result=Result.UNKNOWN, detail="No answer within the time that the lease leaves.")

    async def _answer(self, delivery: Delivery) -> Receipt:
        try:
            return await self._connector.send(delivery)
        except Exception as error:  # A fault of the connector itself: nobody knows how far it came.
            _logger.exception("The connector %s raised instead of returning a receipt.", self.name)
            return Receipt(result=Result.UNKNOWN, detail=f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------------------------------ missed deadlines

    async def _expire(self) -> int:
        now_ms = self._clock.now_ms()
        if now_ms >= self._measure_at_ms:
            self._meter.occupied(await self._queue.occupancy(self.name, now_ms), now_ms)
            self._measure_at_ms = now_ms + MEASURE_MS
        missed = await self._queue.overdue(self.name, OVERDUE_MAX, now_ms, self._lease_ms)
        for queued in missed:
            if queued.id in self._in_flight:
                continue
            action = action_of(queued)
            step = next_step(queued, action, self._policy, now_ms)
            if isinstance(step, Send) or self._stopping:
                step = Wait(now_ms)
            await self._conclude(queued, action, step, unspent=False)
        return 0 if len(missed) == OVERDUE_MAX else REST_MAX_MS

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
