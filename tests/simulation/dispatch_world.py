"""A world for dispatchers: a virtual clock, receivers that answer by script, and processes that lose power."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any

import msgspec

from connectors.protocol import Delivery, Receipt, Result
from orchestrator.adapters.memory_dispatch_queue import MemoryDispatchQueue
from orchestrator.core.action import Action
from orchestrator.errors import LogUnavailable, StoreUnavailable
from orchestrator.runtime.dispatch import DeliveryPolicy, Dispatcher
from orchestrator.runtime.ports import EVENTS, Claim, Outgoing, Record

NOW = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp() * 1000)
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

#: Turns of the loop without the clock moving that mean somebody is busy for nothing.
TURNS_MAX = 100_000


class VirtualClock:
    """Time passes only in ``advance``, from one sleeper's moment to the next."""

    def __init__(self) -> None:
        self._now_ms = NOW
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        wakes = asyncio.get_running_loop().create_future()
        self._count += 1
        heappush(self._sleepers, (self._now_ms + max(1, round(seconds * 1000)), self._count, wakes))
        await wakes

    async def advance(self, span_ms: int) -> None:
        until_ms = self._now_ms + span_ms
        await everything_happens()
        while self._sleepers and self._sleepers[0][0] <= until_ms:
            due_ms, _, wakes = heappop(self._sleepers)
            if not wakes.done():
                self._now_ms = due_ms
                wakes.set_result(None)
                await everything_happens()
        self._now_ms = until_ms
        await everything_happens()


async def everything_happens() -> None:
    """Return when nothing is left to do but to wait for the clock."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined] - the one place that knows who is next.
    for _ in range(TURNS_MAX):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError(f"Something is still busy after {TURNS_MAX} turns in which no time has passed.")


class Power:
    """Runs out after a number of durable steps: the step is done, and nobody hears of it or anything after it."""

    def __init__(self, steps: int | None = None) -> None:
        self.left = steps
        self.steps = 0

    @property
    def out(self) -> bool:
        return self.left is not None and self.steps >= self.left

    async def step(self, work: Awaitable[Any], *, durable: bool = True) -> Any:
        if self.out:
            asyncio.ensure_future(work).cancel()
            await asyncio.get_running_loop().create_future()
        result = await work
        # A claim that finds nothing changes nothing.
        self.steps += durable and result != [] and not (isinstance(result, Claim) and not result.actions)
        if self.out:
            await asyncio.get_running_loop().create_future()
        return result


class PoweredQueue:
    """The queue of a process that may lose power."""

    READS = frozenset({"ledger", "recent", "occupancy", "ahead"})

    def __init__(self, queue: MemoryDispatchQueue, power: Power) -> None:
        self._queue = queue
        self._power = power
        self.unavailable = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._queue, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if self.unavailable:
                raise StoreUnavailable("the store of a test is down")
            return await self._power.step(method(*arguments, **named), durable=name not in self.READS)

        return call


class Log:
    """Keeps what is appended."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.appends = 0
        self.unavailable = False

    async def append(self, records: Sequence[Outgoing]) -> None:
        if self.unavailable:
            raise LogUnavailable("the log of a test is down")
        self.records.extend(records)
        self.appends += 1

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(one.value) for one in self.records if one.topic == topic]


class PoweredLog:
    def __init__(self, log: Log, power: Power) -> None:
        self._log = log
        self._power = power

    async def append(self, records: Sequence[Outgoing]) -> None:
        await self._power.step(self._log.append(records))


class Receiver:
    """A system behind a connector that honours the idempotency key, and answers by script."""

    def __init__(self, clock: VirtualClock, script: dict[str, list[Receipt | Exception]] | None = None) -> None:
        self.clock = clock
        self.script = script or {}
        self.calls: list[tuple[str, int, int]] = []  # id, moment, attempt
        self.effects: list[str] = []
        self.under_way = self.most_under_way = 0
        self.takes_s = 0.0

    async def answer(self, delivery: Delivery) -> Receipt:
        self.calls.append((delivery.id, self.clock.now_ms(), delivery.attempt))
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            if self.takes_s:
                await self.clock.sleep(self.takes_s)
        finally:
            self.under_way -= 1
        answers = self.script.get(delivery.id) or self.script.get("*")
        receipt = answers.pop(0) if answers else Receipt(result=Result.DELIVERED, reference=f"ref-{delivery.id}")
        if isinstance(receipt, Exception):
            raise receipt
        if receipt.result is Result.DELIVERED and delivery.id not in self.effects:
            self.effects.append(delivery.id)
        return receipt

    @property
    def sent(self) -> list[str]:
        return [call[0] for call in self.calls]


class Line:
    """The connector of one process to a receiver."""

    def __init__(self, name: str, receiver: Receiver, power: Power) -> None:
        self.name = name
        self._receiver = receiver
        self._power = power

    async def send(self, delivery: Delivery) -> Receipt:
        return await self._power.step(self._receiver.answer(delivery))

    async def check(self) -> str | None:
        return None

    async def close(self) -> None:
        return None


class World:
    """What outlives a dispatcher, and the dispatchers that come and go."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.queue = MemoryDispatchQueue()
        self.log = Log()
        self.receivers: dict[str, Receiver] = {}
        self.policies: dict[str, DeliveryPolicy] = {}
        self.front: PoweredQueue
        self.dispatcher: Dispatcher
        self._running: list[Dispatcher] = []
        self._offset = 0

    def receiver(self, name: str = "sms", policy: DeliveryPolicy | None = None, **script: list[Any]) -> Receiver:
        self.receivers[name] = Receiver(self.clock, script)
        self.policies[name] = policy or DeliveryPolicy()
        return self.receivers[name]

    async def start(self, power: Power | None = None) -> Dispatcher:
        power = power or Power()
        self.front = PoweredQueue(self.queue, power)
        self.dispatcher = Dispatcher(
            queue=self.front,  # type: ignore[arg-type] - it forwards every method of the queue.
            log=PoweredLog(self.log, power),
            clock=self.clock,
            connectors={name: Line(name, receiver, power) for name, receiver in self.receivers.items()},
            policies=self.policies,
        )
        await self.dispatcher.start()
        self._running.append(self.dispatcher)
        return self.dispatcher

    async def accept(self, *actions: Action) -> None:
        await self.dispatcher.accept([self.record(one) for one in actions])
        await everything_happens()

    def record(self, action: Action | bytes) -> Record:
        self._offset += 1
        value = action if isinstance(action, bytes) else msgspec.json.encode(action)
        return Record(partition=0, offset=self._offset, stamp_ms=NOW, key=b"c", value=value)

    async def kill(self) -> None:
        """End the last dispatcher as a power cut does: at once, whatever it was doing."""
        await _kill(self._running.pop())

    async def close(self) -> None:
        while self._running:
            await self.kill()

    def receipts(self) -> list[str]:
        return [event["id"] for event in self.log.of(EVENTS)]

    async def outcome(self, action_id: str) -> str | None:
        (entry,) = await self.queue.ledger([action_id])
        return entry and entry.outcome


async def _kill(dispatcher: Dispatcher) -> None:
    tasks = [
        *dispatcher._loops,
        *dispatcher._postbag.tasks,
        *(task for lane in dispatcher._lanes.values() for task in lane.in_flight),
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def action(action_id: str = "a", **fields: Any) -> Action:
    ordinary: dict[str, Any] = {
        "customer_id": f"customer-of-{action_id}",
        "connector": "sms",
        "kind": "sms",
        "decided_at": NOW,
        "rule": "r",
        "journey": "j",
    }
    return Action(id=action_id, **(ordinary | fields))


def cancel(action_id: str) -> Action:
    return Action(id=action_id, customer_id=f"customer-of-{action_id}", rule="r", cancel=True)


def said(result: Result, **fields: Any) -> Receipt:
    return Receipt(result=result, **fields)


AGAIN, REFUSED, UNKNOWN = (said(result) for result in (Result.RETRY, Result.REFUSED, Result.UNKNOWN))
