"""Where the contests take place: a Kafka and a Redis of our own, a topic full of events, workers beside them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import redis
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from load_tests.bench import machine
from load_tests.many_rules import write_rules
from load_tests.processes import RoleProcess, until
from load_tests.servers import LocalKafka, LocalRedis
from load_tests.servers.process import Say
from load_tests.shoppers import Event
from orchestrator.adapters.kafka_topics import KafkaTopics
from orchestrator.errors import JourneyError
from orchestrator.runtime.ports import EVENTS

_POLL_S = 0.01
#: The broker's stamps tell when an action was in the log, whoever wrote it.
_BROKER = {"log.message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class Drained:
    """How a backlog was worked off: events within the watch's time, wall and processor seconds.

    What it took of the servers is known where the stage looked: their processor seconds, and the bytes sent to Redis.
    """

    events: int
    wall_s: float
    cpu_s: float
    kafka_cpu_s: float = 0
    redis_cpu_s: float = 0
    redis_bytes: int = 0

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """Events a second of processor time."""
        return self.events / max(self.cpu_s, 1e-9)


class Stage:
    """Servers on their own cores. Used as a context manager they are started, and ended with every worker."""

    def __init__(self, folder: Path, *, rules: int, say: Say) -> None:
        """Prepare a stage whose data and logs lie in ``folder``, with a rulebook of ``rules`` rules."""
        self.folder = folder
        self.say = say
        self.rules = write_rules(folder / "rules", rules=rules)
        self.kafka = LocalKafka(folder / "kafka", settings=_BROKER, heap="768m", say=say)
        self.redis = LocalRedis(folder / "redis", say=say)
        self.partitions = 0
        self.events = 0
        #: Microseconds of the broker's processor time that an event of the latest ``write`` took.
        self.write_us = 0.0
        self._launched = 0

    def __enter__(self) -> Self:
        try:
            self.redis.start()
            self.kafka.start()
            for server in (self.redis, self.kafka):
                machine.pin(server.pid, machine.other_cores())
        except BaseException:
            self.__exit__()
            raise
        self.store = redis.Redis(port=self.redis.port)
        return self

    def __exit__(self, *_: object) -> None:
        self.kafka.kill()
        self.redis.stop()

    # ------------------------------------------------------------------------------------------- the log

    def fill(self, events: Iterable[Event], *, partitions: int) -> None:
        """Make the topics anew and write a backlog."""
        self.clear(partitions)
        self.write(events)

    def clear(self, partitions: int) -> None:
        """Make the topics anew. The store is emptied: it speaks of another log."""
        self.store.flushall()
        asyncio.run(self._new_topics(partitions))
        self.partitions, self.events = partitions, 0

    def write(self, events: Iterable[Event]) -> None:
        """Write events to the log; ``events`` counts all that it holds."""
        before = machine.cpu_s([self.kafka.pid])
        written = asyncio.run(write_events(self.kafka.bootstrap, events))
        self.events += written
        self.write_us = (machine.cpu_s([self.kafka.pid]) - before) / max(written, 1) * 1e6

    def create_topic(self, name: str) -> None:
        """Make a topic with as many partitions as the events have."""

        async def create() -> None:
            async with self._admin() as admin:
                await admin.create_topics([NewTopic(name, self.partitions, 1)])

        asyncio.run(create())

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def _new_topics(self, partitions: int) -> None:
        topics = KafkaTopics(self.kafka.bootstrap, partitions=partitions)
        async with self._admin() as admin:
            ours = [name for name in await admin.list_topics() if not name.startswith("__")]
            if ours:
                await admin.delete_topics(ours)
        deadline = time.monotonic() + 30
        while True:
            try:
                await topics.ensure()
                return
            except JourneyError:
                # The controller deletes in the background and refuses the name until it has.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    # ---------------------------------------------------------------------------------------- the roles

    def settings(self, **more: str) -> dict[str, str]:
        """Return the settings of roles on this stage; ``more`` by their names (``customers_cached_max="100"``)."""
        return {
            "JOURNEY_RULES": str(self.rules),
            "JOURNEY_DATA": str(self.folder / "unused"),
            "JOURNEY_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "JOURNEY_REDIS_URL": self.redis.url,
            "JOURNEY_PARTITIONS": str(self.partitions),
            "JOURNEY_SESSION_TIMEOUT_S": "6",
            "JOURNEY_METRICS_PORT": "0",
            **{f"JOURNEY_{name.upper()}": value for name, value in more.items()},
        }

    def role(self, name: str, *options: str, **settings: str) -> RoleProcess:
        """Launch a role; it is not ready yet."""
        self._launched += 1
        folder = self.folder / f"{name}-{self._launched}"
        role = RoleProcess(name, *options, folder=folder, environment=self.settings(**settings), say=self.say)
        role.launch()
        return role

    @contextmanager
    def workers(self, number: int = 1, *, pinned: bool = True, **settings: str) -> Iterator[list[RoleProcess]]:
        """Give the body ``number`` workers that have been launched, on the contenders' core when ``pinned``."""
        found: list[RoleProcess] = []
        try:
            for _ in range(number):
                found.append(self.role("worker", **settings))
                if pinned:
                    machine.pin(found[-1].pid, machine.contender_cores())
            yield found
        finally:
            for worker in found:
                worker.stop()

    def applied(self) -> int:
        """Return how many records the workers have applied: the offsets of record, which are the store's."""
        with self.store.pipeline(transaction=False) as pipeline:
            for partition in range(self.partitions):
                pipeline.hget(f"{{journey:default:p{partition}}}:meta", "next_offset")
            return sum(int(offset or 0) for offset in pipeline.execute())

    def used_memory(self) -> int:
        """Return the bytes that Redis holds."""
        return int(self.store.info("memory")["used_memory"])

    def drained(self, workers: Sequence[RoleProcess], *, warm_share: float) -> Drained:
        """Watch the workers apply the backlog; the watch starts once ``warm_share`` of it has been applied."""
        pids = [worker.pid for worker in workers]
        until(lambda: self.applied() >= self.events * warm_share, within_s=120, because="warm workers", pause_s=_POLL_S)
        first, began, before = self.applied(), time.perf_counter(), self._spent(pids)
        until(lambda: self.applied() >= self.events, within_s=600, because="the backlog is worked off", pause_s=_POLL_S)
        wall_s, after = time.perf_counter() - began, self._spent(pids)
        cpu_s, kafka_s, redis_s, redis_bytes = (end - start for start, end in zip(before, after, strict=True))
        return Drained(self.events - first, wall_s, cpu_s, kafka_s, redis_s, round(redis_bytes))

    def _spent(self, pids: Sequence[int]) -> tuple[float, float, float, float]:
        received = float(self.store.info("stats")["total_net_input_bytes"])
        return machine.cpu_s(pids), machine.cpu_s([self.kafka.pid]), machine.cpu_s([self.redis.pid]), received


async def write_events(bootstrap: str, events: Iterable[Event]) -> int:
    """Write events to ``journey.events`` as any producer would; return how many the broker has acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=200_000)
    await producer.start()
    try:
        pending = []
        for event in events:
            value = json.dumps(event, separators=(",", ":")).encode()
            pending.append(await producer.send(EVENTS, value, key=event["customer_id"].encode()))
        await asyncio.gather(*pending)
        return len(pending)
    finally:
        await producer.stop()
