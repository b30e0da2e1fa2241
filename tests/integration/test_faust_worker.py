"""The Faust worker over a real Kafka: order, positions of record, sharing, takeover and leaving."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from redis.asyncio import Redis

from load_tests.servers import free_port
from orchestrator.adapters.faust_worker import run_worker
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.errors import Fenced, LogUnavailable, PositionLost
from orchestrator.runtime.ports import EVENTS, Outgoing, Record
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("faust_worker_process.py")
SESSION_TIMEOUT_S = 6.0


@dataclass
class Recorder:
    """A handler that keeps what it saw. ``positions`` is its store."""

    positions: dict[int, int] = field(default_factory=dict)
    seen: dict[int, list[Record]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    ticks: dict[int, list[bool]] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)
    refusal: Exception | None = None

    async def assigned(self, partition: int) -> int | None:
        return self.positions.get(partition)

    async def revoked(self, partition: int) -> None:
        assert partition not in self.busy

    async def process(self, partition: int, records: Sequence[Record]) -> None:
        async with self._alone(partition):
            if self.refusal is not None:
                raise self.refusal
            self.seen.setdefault(partition, []).extend(records)
            self.batches.append(len(records))
            self.positions[partition] = records[-1].offset + 1

    async def advance(self, partition: int, caught_up: Callable[[], bool]) -> None:
        async with self._alone(partition):
            self.ticks.setdefault(partition, []).append(caught_up())

    @asynccontextmanager
    async def _alone(self, partition: int) -> AsyncIterator[None]:
        assert partition not in self.busy, "two calls for one partition at once"
        self.busy.add(partition)
        await asyncio.sleep(0)
        try:
            yield
        finally:
            self.busy.discard(partition)

    def offsets(self) -> dict[int, list[int]]:
        return {partition: [record.offset for record in records] for partition, records in self.seen.items()}

    def count(self) -> int:
        return sum(len(records) for records in self.seen.values())


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return Settings(
        kafka_bootstrap=kafka_bootstrap,
        kafka_group=f"worker-{uuid.uuid4().hex[:8]}",
        session_timeout_s=SESSION_TIMEOUT_S,
        batch_events_max=100,
    )


@pytest.fixture
async def log(kafka_bootstrap: str) -> AsyncIterator[KafkaEventLog]:
    opened = KafkaEventLog(kafka_bootstrap)
    yield opened
    await opened.close()


async def until(condition: Callable[[], Any], *, within_s: float = 30, because: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"after {within_s} s still not: {because}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def working(settings: Settings, handler: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker in this process until the block ends; its error, if any, is the block's."""
    ready = asyncio.Event()

    async def on_ready() -> None:
        ready.set()

    task = asyncio.create_task(run_worker(settings, handler, on_ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield task
    finally:
        if not task.done():
            signal.raise_signal(signal.SIGTERM)
        await task


def numbered(count: int, start: int = 0) -> list[Outgoing]:
    return [Outgoing(EVENTS, f"c{n % 97}".encode(), str(n).encode()) for n in range(start, start + count)]


# ------------------------------------------------------------------------------------- order and positions


async def test_every_record_is_handled_once_in_order_in_bounded_batches(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog
) -> None:
    await fresh_topics(4)
    await log.append(numbered(3_000))
    handler = Recorder()
    async with working(settings, handler):
        await log.append(numbered(3_000, start=3_000))
        await until(lambda: handler.count() >= 6_000, because="6,000 records were handled")

    for partition, offsets in handler.offsets().items():
        assert offsets == list(range(len(offsets))), partition
    assert sorted(int(r.value or b"") for records in handler.seen.values() for r in records) == list(range(6_000))
    assert max(handler.batches) == 100
    first = handler.seen[0][0]
    assert (first.partition, first.key, first.headers) == (0, f"c{int(first.value or b'') % 97}".encode(), ())
    assert first.stamp_ms > 1_700_000_000_000


async def test_it_starts_where_the_store_says_and_not_where_the_group_is(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog
) -> None:
    await fresh_topics(2)
    await log.append(numbered(400))
    await commit_group_offsets(settings, {0: 90, 1: 10})

    handler = Recorder(positions={0: 50, 1: 60})
    async with working(settings, handler):
        await until(lambda: handler.positions.keys() and sum(handler.positions.values()) == 400, because="caught up")

    for partition, start in {0: 50, 1: 60}.items():
        assert handler.offsets()[partition] == list(range(start, handler.positions[partition]))


async def test_positions_are_committed_to_the_group_for_monitors(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog
) -> None:
    await fresh_topics(2)
    await log.append(numbered(200))
    handler = Recorder()
    async with working(settings, handler):
        await until(lambda: handler.count() == 200, because="200 records were handled")
    assert await group_offsets(settings) == handler.positions


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (
            900,
            "Offset 900 of journey.events, partition 0, lies beyond the end of the log, 10. "
            "The log was created anew or restored from an older copy; restore the store that goes with it.",
        ),
        (
            3,
            "Offset 3 of journey.events, partition 0, is out of retention: the earliest is 7. "
            "Records were lost to this reader; keep them for longer, or start it at 7 on purpose.",
        ),
    ],
    ids=["beyond the end", "out of retention"],
)
async def test_a_position_that_the_log_does_not_hold_ends_the_worker(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog, position: int, message: str
) -> None:
    await fresh_topics(1)
    await log.append(numbered(10))
    await delete_records_before(settings, 7)
    handler = Recorder(positions={0: position})
    with pytest.raises(PositionLost) as refusal:
        async with working(settings, handler) as worker:
            await until(worker.done, because="the worker ended")
    assert str(refusal.value) == message
    assert handler.seen == {}


async def test_a_partition_never_processed_starts_at_the_earliest_record(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog
) -> None:
    await fresh_topics(1)
    await log.append(numbered(10))
    await delete_records_before(settings, 7)
    handler = Recorder()
    async with working(settings, handler):
        await until(lambda: handler.count() == 3, because="3 records were handled")
    assert handler.offsets() == {0: [7, 8, 9]}


async def test_an_error_of_the_handler_ends_the_worker_with_that_error(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog
) -> None:
    await fresh_topics(2)
    handler = Recorder(refusal=Fenced("Partition 0 was taken over: epoch 2 owns it, this write is of epoch 1."))
    with pytest.raises(Fenced, match=r"^Partition 0 was taken over: epoch 2 owns it, this write is of epoch 1\.$"):
        async with working(settings, handler) as worker:
            await log.append(numbered(10))
            await until(worker.done, because="the worker ended")


async def test_ticks_come_while_nothing_happens_and_say_that_the_log_was_read_to_its_end(
    fresh_topics: Any, settings: Settings, log: KafkaEventLog
) -> None:
    await fresh_topics(2)
    handler = Recorder()
    async with working(settings, handler):
        await until(lambda: len(handler.ticks) == 2, because="both partitions ticked")
        await until(lambda: all(ticks[-5:] == [True] * 5 for ticks in handler.ticks.values()), because="caught up")


async def commit_group_offsets(settings: Settings, offsets: dict[int, int]) -> None:
    async with group_member(settings) as consumer:
        await consumer.commit({TopicPartition(EVENTS, partition): offset for partition, offset in offsets.items()})


async def group_offsets(settings: Settings) -> dict[int, int]:
    async with group_member(settings) as consumer:
        partitions = [0, 1]
        return {partition: await consumer.committed(TopicPartition(EVENTS, partition)) for partition in partitions}


@asynccontextmanager
async def group_member(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, group_id=settings.kafka_group, enable_auto_commit=False
    )
    await consumer.start()
    consumer.assign([TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1)])
    yield consumer
    await consumer.stop()


async def delete_records_before(settings: Settings, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(EVENTS, 0): RecordsToDelete(offset)})
    await admin.close()


# ------------------------------------------------------------------------------------------- many processes


@dataclass
class Process:
    """One worker process and what it has told so far."""

    child: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

    def said(self, word: str) -> list[list[str]]:
        return [line.split() for line in self.lines if line.startswith(word)]

    def owned(self) -> set[int]:
        owned: set[int] = set()
        for line in self.lines:
            match line.split():
                case ["assigned", partition, _]:
                    owned.add(int(partition))
                case ["revoked", partition]:
                    owned.discard(int(partition))
        return owned

    async def ended(self) -> tuple[int, str]:
        assert self.child.stderr is not None
        errors = (await self.child.stderr.read()).decode()
        code = await self.child.wait()
        assert self.reading is not None
        await self.reading
        return code, errors


class Workers:
    """Starts worker processes of one group and one workspace."""

    def __init__(self, settings: Settings, redis_url: str, client: Redis) -> None:
        self.workspace = uuid.uuid4().hex[:12]
        self.store = RedisStateStore(client, self.workspace)
        self._settings = settings
        self._redis_url = redis_url
        self._started: list[Process] = []

    async def start(self) -> Process:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            self._settings.kafka_bootstrap,
            self._redis_url,
            self.workspace,
            self._settings.kafka_group,
            str(SESSION_TIMEOUT_S),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        process = Process(child)
        process.reading = asyncio.create_task(self._listen(process))
        self._started.append(process)
        await until(lambda: process.said("ready"), because="the worker is ready")
        return process

    async def _listen(self, process: Process) -> None:
        assert process.child.stdout is not None
        while line := await process.child.stdout.readline():
            process.lines.append(line.decode().strip())

    async def close(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.child.kill()
            await process.ended()

    async def applied(self, partition: int) -> list[int]:
        return [int(entry.record.value) for entry in await self.store.outbox(partition)]

    async def total(self) -> int:
        return sum([len(await self.store.outbox(partition)) for partition in range(4)])

    async def until_applied(self, count: int, within_s: float = 60) -> None:
        async with asyncio.timeout(within_s):
            while True:
                if await self.total() >= count:
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
async def workers(settings: Settings, redis_url: str) -> AsyncIterator[Workers]:
    client = Redis.from_url(redis_url)
    started = Workers(settings, redis_url, client)
    yield started
    await started.close()
    await client.aclose()


async def check_applied_once_in_order(workers: Workers, count: int) -> None:
    """Every number was applied exactly once, those of each partition in the order of the log."""
    by_partition = [await workers.applied(partition) for partition in range(4)]
    assert sorted(number for numbers in by_partition for number in numbers) == list(range(count))
    for numbers in by_partition:
        assert numbers == sorted(numbers)


async def test_two_workers_share_the_partitions_and_a_third_takes_part(
    fresh_topics: Any, workers: Workers, log: KafkaEventLog
) -> None:
    await fresh_topics(4)
    await log.append(numbered(2_000))
    first = await workers.start()
    assert first.owned() == {0, 1, 2, 3}
    second = await workers.start()
    await until(lambda: len(first.owned()) == len(second.owned()) == 2, because="two partitions each")
    assert first.owned() | second.owned() == {0, 1, 2, 3}
    await log.append(numbered(2_000, start=2_000))
    await workers.until_applied(4_000)
    await check_applied_once_in_order(workers, 4_000)


async def test_a_killed_workers_partitions_are_taken_over(
    fresh_topics: Any, workers: Workers, log: KafkaEventLog
) -> None:
    await fresh_topics(4)
    first, second = await workers.start(), await workers.start()
    await until(lambda: len(first.owned()) == len(second.owned()) == 2, because="two partitions each")
    feeding = asyncio.create_task(feed(log, 20_000))
    await workers.until_applied(3_000)

    first.child.kill()
    killed_at = time.monotonic()
    await until(lambda: second.owned() == {0, 1, 2, 3}, because="the second took over")
    taken_over_s = time.monotonic() - killed_at
    await feeding
    await workers.until_applied(20_000)

    await check_applied_once_in_order(workers, 20_000)
    assert taken_over_s < SESSION_TIMEOUT_S + 9


async def test_a_worker_told_to_end_finishes_its_batch_leaves_the_group_and_hands_over_at_once(
    fresh_topics: Any, workers: Workers, log: KafkaEventLog
) -> None:
    await fresh_topics(4)
    first, second = await workers.start(), await workers.start()
    await until(lambda: len(first.owned()) == len(second.owned()) == 2, because="two partitions each")
    feeding = asyncio.create_task(feed(log, 10_000))
    await workers.until_applied(2_000)

    first.child.terminate()
    asked_at = time.monotonic()
    await until(lambda: second.owned() == {0, 1, 2, 3}, because="the second took over")
    handed_over_s = time.monotonic() - asked_at
    code, errors = await first.ended()
    await feeding
    await workers.until_applied(10_000)

    assert (code, errors, first.lines[-1]) == (0, "", "left")
    assert handed_over_s < SESSION_TIMEOUT_S
    await check_applied_once_in_order(workers, 10_000)


async def test_a_worker_frozen_past_its_session_does_no_harm_and_rejoins_or_ends_saying_why(
    fresh_topics: Any, workers: Workers, log: KafkaEventLog
) -> None:
    await fresh_topics(4)
    first, second = await workers.start(), await workers.start()
    await until(lambda: len(first.owned()) == len(second.owned()) == 2, because="two partitions each")
    feeding = asyncio.create_task(feed(log, 30_000))
    await workers.until_applied(2_000)
    first.child.send_signal(signal.SIGSTOP)
    await until(lambda: second.owned() == {0, 1, 2, 3}, because="the second took over")
    taken = len(first.said("assigned"))
    first.child.send_signal(signal.SIGCONT)
    await until(
        lambda: first.child.returncode is not None or len(first.said("assigned")) > taken,
        because="the first has rejoined or ended",
    )

    await feeding
    await workers.until_applied(30_000)
    await check_applied_once_in_order(workers, 30_000)
    if first.child.returncode is not None:
        code, errors = await first.ended()
        assert code == 1
        assert errors.startswith("Fenced: Partition ")


async def test_a_worker_that_finds_no_kafka_says_so(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_port()}"})
    with pytest.raises(LogUnavailable) as refusal:
        async with working(nowhere, Recorder()) as worker:
            await until(worker.done, because="the worker ended")
    assert str(refusal.value).startswith(f"Kafka at {nowhere.kafka_bootstrap}: ")


async def feed(log: KafkaEventLog, count: int) -> None:
    """Append numbers in small steps, so that events come while the group changes."""
    for start in range(0, count, 100):
        await log.append(numbered(100, start=start))
