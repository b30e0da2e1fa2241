"""A dispatcher process: the real ``Dispatcher`` over the simulated network, fed from the topic of actions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from connectors.protocol import Delivery, Receipt, Result
from load_tests.simulation.network import Link, LinkedLog, Peer, Ported
from load_tests.simulation.receiver import Answer, Receiver
from orchestrator.errors import Unavailable
from orchestrator.runtime.ports import ACTIONS, Record

if TYPE_CHECKING:
    from load_tests.simulation.world import World

BATCH_MAX = 5
POLL_S = 2.0
#: Only what was taken so long ago is acknowledged: a queue that loses its latest second can be filled again.
ACKNOWLEDGED_AFTER_S = 2.0


class Line:
    """The connector of one process to a receiver: gives up on an answer after ``timeout_s``."""

    def __init__(self, name: str, receiver: Receiver, link: Link, timeout_s: float) -> None:
        self.name = name
        self._receiver = receiver
        self._link = link
        self._timeout_s = timeout_s

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt, as ``Connector`` promises."""
        world = self._link.world
        sent = self._receiver.begun(self._link.process, delivery)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer: Answer = await self._link.call(
                    "receiver", "send", lambda: self._receiver.take(delivery), told=(self.name, delivery.id)
                )
                if answer.takes_s:
                    await asyncio.sleep(answer.takes_s)
        except TimeoutError:
            world.counts["receiver too slow"] += 1
            return Receipt(result=Result.UNKNOWN, detail="no answer in time")
        finally:
            sent.ended_ms = world.now_ms()
        if answer.receipt is None:
            raise ConnectionResetError("the connection was reset")
        sent.heard, sent.wish_s = answer.receipt.result, answer.receipt.retry_after_s
        return answer.receipt

    async def check(self) -> str | None:
        """Always reachable."""
        return None

    async def close(self) -> None:
        """Nothing is held."""


class DispatcherProcess:
    """One dispatcher, from its start to its death."""

    def __init__(self, world: World, process: Peer) -> None:
        self.process = process
        self._world = world
        link = Link(world, process)
        self._log = LinkedLog(link)
        self.dispatcher = world.make.dispatcher(
            queue=world.make.queue(link, Ported(link, "queue", world.queue)),
            log=self._log,
            clock=world.clock_of(process.name),
            connectors={name: Line(name, one, link, world.timeouts_s[name]) for name, one in world.receivers.items()},
            policies=world.policies,
        )
        self._lanes: dict[int, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begin to deliver and join the group."""
        self._world.loop.spawn(self.process, self._run())

    async def _run(self) -> None:
        await self.dispatcher.start()
        self._world.dispatchers.join(self)
        await self.dispatcher.join()

    def assign(self, partition: int, generation: int) -> None:
        """Read a partition from where the group stands."""
        self._lanes[partition] = self._world.loop.spawn(self.process, self._follow(partition, generation))

    async def revoke(self, partitions: Sequence[int]) -> None:
        """Stop reading partitions; a batch that is cut off is read again by another."""
        for partition in partitions:
            lane = self._lanes.pop(partition, None)
            if lane is not None:
                lane.cancel()
                await asyncio.wait([lane])

    def put_out(self) -> None:
        """Join again; what is claimed is carried on with."""
        for lane in self._lanes.values():
            lane.cancel()
        self._lanes.clear()
        self._world.dispatchers.join(self)

    async def stop(self) -> None:
        """Finish what is under way and end, as after SIGTERM."""
        await self.revoke(list(self._lanes))
        self._world.dispatchers.leave(self, "leaves")
        await self.dispatcher.stop(drain_s=2.0)
        self._world.kill(self.process, "stopped by request")

    async def _follow(self, partition: int, generation: int) -> None:
        group = self._world.dispatchers
        offset, life = group.positions.get(partition, 0), self._world.queue.life
        while True:
            if life != self._world.queue.life:
                # What was taken and not acknowledged may be lost with what the queue has lost.
                offset, life = group.positions.get(partition, 0), self._world.queue.life
            arrival = self._world.arrival(ACTIONS, partition)
            try:
                records = await self._log.fetch(ACTIONS, partition, offset, BATCH_MAX)
                if records:
                    acknowledge = self._acknowledge(partition, generation, records)
                    await self._world.make.taken(self.dispatcher, records, acknowledge)
                    offset = records[-1].offset + 1
                    continue
            except Unavailable:
                await asyncio.sleep(0.2)
                continue
            await self._world.either(arrival, POLL_S)

    def _acknowledge(self, partition: int, generation: int, records: Sequence[Record]) -> Callable[[int], None]:
        def acknowledge(position: int) -> None:
            self._world.checks.taken(records)
            life = self._world.queue.life
            self._world.loop.call_later(ACKNOWLEDGED_AFTER_S, self._commit, partition, position, generation, life)

        return acknowledge

    def _commit(self, partition: int, position: int, generation: int, life: int) -> None:
        if life == self._world.queue.life:
            self._world.dispatchers.commit(partition, position, generation, self)
