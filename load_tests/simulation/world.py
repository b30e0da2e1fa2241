"""The world of one seed: the log, the store, the queue and the receivers that outlive processes, and the processes.

``World(seed).run()`` tells one story under one choice of faults, heals everything, waits until nothing is left to do
and checks what must hold then. One seed decides everything.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from dataclasses import dataclass
from random import Random  # noqa: TID251 - the one seeded source of chance of a run.

from load_tests.simulation import rules
from load_tests.simulation.checks import Checks
from load_tests.simulation.clock import ClockOfMachine
from load_tests.simulation.dispatcher_process import DispatcherProcess
from load_tests.simulation.faults import Faults
from load_tests.simulation.group import Group
from load_tests.simulation.loop import SimulationLoop
from load_tests.simulation.make import Make
from load_tests.simulation.network import Link, LinkedLog, Peer, Weather
from load_tests.simulation.receiver import Receiver
from load_tests.simulation.shown_log import PARTITIONS, ShownLog
from load_tests.simulation.small import constants, error_log, policies
from load_tests.simulation.story import Message, Story
from load_tests.simulation.trace import Trace
from load_tests.simulation.witness import WitnessedQueue
from load_tests.simulation.worker_process import WorkerProcess
from orchestrator.errors import LogUnavailable
from orchestrator.runtime.ports import EVENTS, Outgoing, Record
from orchestrator.runtime.surroundings import Extent

START_MS = 1_772_433_000_000  # 2026-03-02T06:30:00Z
#: When everything is mended, and how long the world then has to come to rest. Virtual seconds.
HEAL_S = 13.0
REST_S = 180.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a seed: ``violated`` names the invariant that did not hold, '' when all did."""

    seed: int
    violated: str
    message: str
    counts: Counter[str]
    trace: Trace


class World:
    """Everything there is in one run."""

    def __init__(self, seed: int, make: Make | None = None) -> None:
        self.seed = seed
        self.make = make or Make()
        self.chance = Random(seed)
        self.loop = SimulationLoop()
        self.loop.failed = lambda name, error: self.violated("errors", f"{name} ended: {error!r}")
        self.counts: Counter[str] = Counter()
        self.trace = Trace(self.now_ms, START_MS)
        self.checks = Checks(self)
        self.log = ShownLog(self)
        self.store = self.make.store(self)
        self.queue = WitnessedQueue(self)
        self.workers = Group(self, "workers", PARTITIONS)
        self.dispatchers = Group(self, "dispatchers", PARTITIONS)
        self.weather: dict[str, Weather] = {}
        self.receivers = {name: Receiver(name, self) for name in ("voice", "sms", "push")}
        self.policies = policies(self.chance)
        self.timeouts_s = {name: self.chance.choice([1.5, 3.0, 60.0]) for name in self.receivers}
        self.published = rules.first()
        self.edited = False
        self.caller: Peer | None = None
        self.clocks_agree = True
        #: Whether the queue has lost what it had been told.
        self.queue_cut = False
        self.customers_cached_max = self.chance.choice([1, 3, 20_000])
        self.acknowledged: list[Message] = []
        self.running: dict[str, WorkerProcess | DispatcherProcess] = {}
        self.story = Story.told(self.chance, START_MS)
        self.violation: tuple[str, str] | None = None
        #: Since when and until when dispatching was disturbed.
        self.troubles: list[tuple[int, int]] = []
        self.clocks: dict[str, ClockOfMachine] = {}
        self._lives: Counter[str] = Counter()
        self._wanted: set[str] = set()
        #: The dead ones are kept as well: their tasks must not go before the run does.
        self._processes: list[Peer] = []
        self._faults = Faults(self)

    # ------------------------------------------------------------------------------------------- facts

    def now_ms(self) -> int:
        """Return the log's own time, which is the true one."""
        return START_MS + round(self.loop.time() * 1000)

    def clock_of(self, process: str) -> ClockOfMachine:
        """Return the clock that a process reads; each begins with a right one, for a wrong one would look the same."""
        if process not in self.clocks:
            self.clocks[process] = ClockOfMachine(self, believed=process.startswith("dispatcher"))
        return self.clocks[process]

    async def extent(self, partition: int) -> Extent:
        """Tell what the log holds of a partition of events."""
        return Extent("memory", 0, await self.log.end_offset(EVENTS, partition))

    def records_from(self, partition: int, offset: int) -> list[Record]:
        """Return the events of a partition from an offset on."""
        return self.log._of(EVENTS, partition).records[offset:]

    def records_of(self, topic: str) -> list[Record]:
        """Return all records of a topic, partition by partition."""
        partitions = range(self.log._partitions.count(topic))
        return [one for partition in partitions for one in self.log._of(topic, partition).records]

    def refused(self, record: Record) -> bool:
        """Return whether an event record must become a dead letter, as the story says; nothing of the engine's own."""
        message = self.story.by_value.get(record.value or b"")
        return message is not None and message.poison

    def troubled(self, process: Peer | None = None, until_s: float = 0.0) -> None:
        """Note what may keep the dispatchers from their work: one that comes or goes, a port that fails for a while."""
        if process is None or process.role == "dispatcher":
            self.troubles.append((self.now_ms(), max(self.now_ms(), START_MS + round(until_s * 1000))))

    def violated(self, invariant: str, message: str) -> None:
        """Note the first invariant that does not hold."""
        self.trace("world", "VIOLATED", f"{invariant}: {message}")
        self.violation = self.violation or (invariant, message)

    def arrival(self, topic: str, partition: int) -> asyncio.Future[None]:
        """Return a future that is done when the partition takes records."""
        arrival = self.loop.create_future()
        self.log.waiting.setdefault((topic, partition), []).append(arrival)
        return arrival

    async def either(self, arrival: asyncio.Future[None], timeout_s: float) -> None:
        """Wait for an arrival, at most for a while."""
        timer = self.loop.call_later(timeout_s, _done, arrival)
        await arrival
        timer.cancel()

    # --------------------------------------------------------------------------------------- processes

    def start(self, slot: str) -> None:
        """Start a process; as long as it is wanted, it is started again whenever it ends."""
        self._wanted.add(slot)
        if slot in self.running:
            return
        self._lives[slot] += 1
        role = slot.partition("-")[0]
        process = Peer(f"{slot}#{self._lives[slot]}", role)
        member = (WorkerProcess if role == "worker" else DispatcherProcess)(self, process)
        self.running[slot] = member
        self._processes.append(process)
        self.trace(process.name, "starts", "")
        self.troubled(process)
        self.loop.call_soon(member.start, context=process.context.copy())

    def dismiss(self, slot: str) -> None:
        """Want a process no longer: it is asked to stop and not started again."""
        self._wanted.discard(slot)
        self.ask_to_stop(slot)

    def ask_to_stop(self, slot: str) -> None:
        """Send a process SIGTERM."""
        member = self.running.get(slot)
        if member is not None and not member.process.paused:
            self.trace(member.process.name, "SIGTERM", "")
            self.loop.spawn(member.process, member.stop())

    def kill(self, process: Peer, why: str, *, again_s: float | None = None) -> None:
        """End a process at once."""
        if process.dead:
            return
        process.dead = True
        self.trace(process.name, "ENDS", why)
        self.troubled(process)
        slot = process.name.partition("#")[0]
        for group in (self.workers, self.dispatchers):
            group.silent(process)
        del self.running[slot]
        delay_s = self.chance.uniform(0.1, 2.0) if again_s is None else again_s
        self.loop.world_later(delay_s, self._restart, slot)

    def _restart(self, slot: str) -> None:
        if slot in self._wanted:
            self.start(slot)

    def pause(self, process: Peer, span_s: float) -> None:
        """Send a process SIGSTOP, and SIGCONT after a while."""
        if process.dead or process.paused:
            return
        process.paused = True
        self.trace(process.name, "SIGSTOP", f"for {span_s:.1f} s")
        self.troubled(process)
        for group in (self.workers, self.dispatchers):
            group.silent(process)
        self.loop.world_later(span_s, self.go_on, process)

    def go_on(self, process: Peer) -> None:
        """Send a process SIGCONT."""
        if process.dead or not process.paused:
            return
        self.trace(process.name, "SIGCONT", "")
        self.troubled(process)
        self.loop.resume(process)
        member = self.running[process.name.partition("#")[0]]
        (self.workers if process.role == "worker" else self.dispatchers).awake(process, member)

    # --------------------------------------------------------------------------------------------- run

    def run(self) -> Result:
        """Tell the story, mend everything, wait for rest, and check."""
        with self.make.in_place(), constants(self), error_log(self):
            try:
                self.loop.run_until_complete(self._whole())
            except AssertionError as error:
                self.violated("rest", str(error))
            finally:
                self._dispose()
        invariant, message = self.violation or ("", "")
        return Result(self.seed, invariant, message, self.counts, self.trace)

    async def _whole(self) -> None:
        for slot in ("worker-0", "worker-1", "dispatcher-0", "dispatcher-1"):
            self.start(slot)
        producing = [self.loop.create_task(self._produce(one)) for one in self.story.messages]
        self._faults.schedule()
        await asyncio.sleep(HEAL_S)
        self._faults.heal()
        await asyncio.wait(producing)
        await asyncio.sleep(1.0)
        await self._redrive()
        await self._come_to_rest()
        if self.violation is None:
            self.checks.at_rest()

    async def _produce(self, message: Message) -> None:
        """Send one record as the gateway does: it is accepted once the log has acknowledged it, tried until then."""
        await asyncio.sleep(message.at_ms / 1000)
        self.counts[f"event {message.what}"] += 1
        log = LinkedLog(Link(self, _GATEWAY))
        while True:
            try:
                await log.append([Outgoing(EVENTS, message.key, message.value)])
                break
            except LogUnavailable:
                self.counts["event retried by the gateway"] += 1
                await asyncio.sleep(0.3)
        self.acknowledged.append(message)

    async def _redrive(self) -> None:
        """Send some of what was given up again."""
        given_up = [one.id for one in self.queue.words().values() if one.outcome in {"failed", "dropped"}]
        slot = next((one for one in self.running.values() if isinstance(one, DispatcherProcess)), None)
        if given_up and slot is not None:
            chosen = [one for one in given_up if self.chance.random() < 0.7]
            again = await self.loop.spawn(slot.process, slot.dispatcher.redrive(chosen))
            self.counts["action redriven"] += len(again)

    async def _come_to_rest(self) -> None:
        """Return when nothing is left to do. What waits for long is waited for in a downtime, which costs nothing."""
        until_s = self.loop.time() + REST_S
        still = 0
        while self.violation is None and still < 3:
            await asyncio.sleep(0.4)
            left = self.checks.left()
            still = 0 if left else still + 1
            if left and self.loop.time() > until_s:
                self.violated("rest", "; ".join(left))
            earliest_ms = self.queue.earliest_ms()
            if earliest_ms is not None and earliest_ms > self.now_ms() + 100_000:
                gap_s = (earliest_ms - self.now_ms()) / 1000
                for member in list(self.running.values()):
                    self.kill(member.process, "downtime", again_s=gap_s)
                await asyncio.sleep(gap_s)
                until_s = self.loop.time() + REST_S

    def _dispose(self) -> None:
        """Let go of what the processes left behind, without a word of theirs."""
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # what is killed is meant to be pending.
            work = task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()
        self.loop.end()
        self.loop.close()


_GATEWAY = Peer("gateway", "gateway")


def _done(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)
