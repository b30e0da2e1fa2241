"""A worker process: the real ``Worker`` over the simulated network, fed as a consumer of the group would feed it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from load_tests.simulation import rules
from load_tests.simulation.network import Link, LinkedLog, Peer, Ported
from orchestrator.core.rulebook import Rulebook
from orchestrator.errors import Fenced, LogUnavailable
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import EVENTS, Commit
from orchestrator.runtime.surroundings import Surroundings

if TYPE_CHECKING:
    from load_tests.simulation.world import World

BATCH_MAX = 5
POLL_S = 1.0
GRACE_MS = 100
#: How long a partition that is given up may finish what is under way.
PARTING_S = 1.5


class BooksOfProcess:
    """The rulebook in force in one process."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.current = rulebook


class _StoreOfWorker(Ported):
    """Notes by which version each commit was decided: nothing is awaited between that and the call."""

    def __init__(self, link: Link, books: BooksOfProcess) -> None:
        super().__init__(link, "store", link.world.store)
        self._books = books

    async def commit(self, partition: int, commit: Commit) -> None:
        store = self._link.world.store
        store.decided_by.setdefault((partition, commit.epoch, commit.sequence), self._books.current)
        await self._link.call("store", "commit", lambda: store.commit(partition, commit), told=(partition, commit))


def intake() -> Intake:
    """Return an intake as workers have it."""
    return Intake(rules.loaded().plan, "default", Limits(future_tolerance_ms=rules.FUTURE_MS))


class WorkerProcess:
    """One worker, from its start to its death. Its supervisor is the world."""

    def __init__(self, world: World, process: Peer) -> None:
        self.process = process
        self.books = BooksOfProcess(world.published)
        self._world = world
        self._link = Link(world, process)
        self._log = LinkedLog(self._link)
        self._clock = world.clock_of(process.name)
        self._worker = world.make.worker(
            Surroundings(
                store=_StoreOfWorker(self._link, self.books),  # type: ignore[arg-type]  # it forwards every method.
                log=self._log,
                extents=self._log,
                intake=intake(),
                rulebooks=self.books,
                clock=self._clock,
                grace_ms=GRACE_MS,
                customers_cached_max=world.customers_cached_max,
            )
        )
        self._lanes: dict[int, asyncio.Task[None]] = {}
        self._closing: set[int] = set()

    def start(self) -> None:
        """Join the group."""
        self._world.workers.join(self)

    def assign(self, partition: int, generation: int) -> None:
        """Take a partition and read it from its offset of record."""
        self._lanes[partition] = self._world.loop.spawn(self.process, self._follow(partition))

    async def revoke(self, partitions: Sequence[int]) -> None:
        """Finish the call under way of each partition, or cut it off, and give it up."""
        for partition in partitions:
            lane = self._lanes.pop(partition, None)
            if lane is not None:
                self._closing.add(partition)
                await asyncio.wait([lane], timeout=PARTING_S)
                lane.cancel()
                await asyncio.wait([lane])
                self._closing.discard(partition)
            await self._worker.revoked(partition)

    def put_out(self) -> None:
        """The process ends and is started again, as its supervisor does."""
        self._world.kill(self.process, "was put out of the group")

    async def stop(self) -> None:
        """Give everything up and end, as after SIGTERM."""
        await self.revoke(list(self._lanes))
        self._world.workers.leave(self, "leaves")
        self._world.kill(self.process, "stopped by request")

    async def _follow(self, partition: int) -> None:
        try:
            offset = await self._worker.assigned(partition)
            while partition not in self._closing:
                offset = await self._turn(partition, offset)
        except Fenced as fenced:
            self._world.counts["owner fenced"] += 1
            self._world.kill(self.process, f"is fenced: {fenced}")

    async def _turn(self, partition: int, offset: int) -> int:
        """Apply what the log holds, or let time pass; return the next offset."""
        # The moment before the question is the latest of which the answer "nothing more" can be believed.
        observed_ms = self._clock.now_ms()
        arrival = self._world.arrival(EVENTS, partition)
        try:
            records = await self._log.fetch(EVENTS, partition, offset, BATCH_MAX)
        except LogUnavailable:
            await asyncio.sleep(0.1)
            return offset
        if records:
            await self._worker.process(partition, records)
            return records[-1].offset + 1
        await self._worker.advance(partition, observed_ms)
        await self._world.either(arrival, POLL_S)
        return offset
