"""The dispatcher: from ``journey.actions`` to the connectors, and the receipts back to ``journey.events``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from connectors.protocol import Connector
from orchestrator.core.action import Action
from orchestrator.metrics import DEAD_LETTERS
from orchestrator.runtime.dispatch.intake import queued_of, read_records
from orchestrator.runtime.dispatch.lane import Lane
from orchestrator.runtime.dispatch.policy import DeliveryPolicy
from orchestrator.runtime.dispatch.postbag import Postbag
from orchestrator.runtime.dispatch.queue import DeliveryQueue
from orchestrator.runtime.dispatch.receipt import DISPATCHER
from orchestrator.runtime.dispatch.redrive import redrive
from orchestrator.runtime.dispatch.settlement import Settlement
from orchestrator.runtime.dispatch.step import Cause, Outcome, Settle
from orchestrator.runtime.dispatch.withdrawal import Withdrawal
from orchestrator.runtime.ports import Clock, EventLog, Record


class Dispatcher:
    """Delivers every accepted action at least once under its id, and reports what became of it.

    ``connectors`` and ``policies`` are keyed by the names that actions use; a connector without a policy gets the
    default one. Several dispatchers may share a queue: an action is claimed by one of them at a time, and slots and
    rates hold over all of them. Breakers are each process's own.
    """

    def __init__(
        self,
        *,
        queue: DeliveryQueue,
        log: EventLog,
        clock: Clock,
        connectors: Mapping[str, Connector],
        policies: Mapping[str, DeliveryPolicy],
    ) -> None:
        self._queue = queue
        self._log = log
        self._clock = clock
        self._postbag = Postbag(log)
        policy_of = {name: policies.get(name, DeliveryPolicy()) for name in connectors}
        leases_s = {name: policy.lease_s for name, policy in policy_of.items()}
        self._settlement = Settlement(queue, self._postbag, clock, self._enqueue, leases_s)
        self._withdrawal = Withdrawal(queue, log, clock)
        self._lanes = {
            name: Lane(name, connector, policy_of[name], queue, self._settlement)
            for name, connector in connectors.items()
        }
        self._loops: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def accept(self, records: Sequence[Record]) -> None:
        """Take a batch of ``journey.actions`` into the queues; when this returns, the batch may be acknowledged.

        Withdrawals take effect after the batch's actions. Raises ``StoreUnavailable`` or ``LogUnavailable`` when
        some of the batch may not have been taken; taking it again takes nothing twice.
        """
        intake = read_records(records, self._clock.now_ms())
        if intake.dead_letters:
            await self._log.append(intake.dead_letters)
            DEAD_LETTERS.labels(DISPATCHER).inc(len(intake.dead_letters))
        if intake.actions:
            await self._enqueue(intake.actions)
        if intake.withdrawals:
            await self._withdrawal.withdraw(intake.withdrawals)

    async def redrive(self, action_ids: Sequence[str]) -> list[str]:
        """Send failed or dropped actions again under the same ids; return those that were queued."""
        again = await redrive(self._queue, action_ids)
        for name in {action.connector for action in again} & self._lanes.keys():
            self._lanes[name].wake()
        return [action.id for action in again]

    async def start(self) -> None:
        """Begin to deliver. Returns at once."""
        for lane in self._lanes.values():
            self._loops.add(asyncio.create_task(lane.deliver(), name=f"deliver {lane.name}"))
            self._loops.add(asyncio.create_task(lane.watch(), name=f"watch {lane.name}"))

    async def join(self) -> None:
        """Wait until ``stop``; raises the error of a loop that ended because of a fault of this software."""
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            done, _ = await asyncio.wait((stopped, *self._loops), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        for ended in done:
            if not ended.cancelled():
                ended.result()

    async def stop(self, drain_s: float = 10.0) -> None:
        """Claim nothing more, wait up to ``drain_s`` for the sends under way, and return.

        A send that takes longer is let go: its outcome is unknown, and its lease hands it to the next dispatcher,
        which follows the connector's ``on_unknown``.
        """
        self._stopped.set()
        bound = asyncio.ensure_future(self._clock.sleep(drain_s))
        for lane in self._lanes.values():
            lane.stop()
        # The loops come first: what a claim under way still brings is sent and waited for as well.
        running = {loop for loop in self._loops if not loop.done()}
        while running and not bound.done():
            await asyncio.wait((*running, bound), return_when=asyncio.FIRST_COMPLETED)
            running = {loop for loop in running if not loop.done()}
        await asyncio.gather(*(lane.drain(bound) for lane in self._lanes.values()))
        ending = (bound, *self._loops, *self._postbag.tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._loops.clear()

    async def _enqueue(self, actions: Sequence[Action]) -> None:
        by_connector: dict[str, list[Action]] = {}
        for action in actions:
            by_connector.setdefault(action.connector, []).append(action)
        for name, its_own in by_connector.items():
            if name in self._lanes:
                await self._lanes[name].put(its_own)
            else:
                for action in its_own:
                    await self._refuse(action)

    async def _refuse(self, action: Action) -> None:
        """Fail an action whose connector is not configured here; once it is, ``redrive`` sends it."""
        if (await self._queue.ledger([action.id]))[0] is not None:
            return
        have = ", ".join(sorted(self._lanes)) or "none"
        detail = f"No connector is named {action.connector!r}. Configured: {have}."
        word = Settle(Outcome.FAILED, Cause.CONNECTOR_UNKNOWN, detail)
        await self._settlement.refuse(action, queued_of(action), word)
