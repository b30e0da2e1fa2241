"""The distributed worker as a Faust app: Faust joins the group, polls and delivers; the handler does the work.

Faust owns the consumer group, the assignment of partitions, delivery, timers and the life of the process. It
owns no state: positions, states and outbox live in the handler's store, so none of Faust's tables, changelogs,
acknowledgements or transactions take part. See ``faust_transport`` for what is bent, ``partition_lane`` for the order
of work within a partition.

A revoked partition's call under way is finished (or cut off, which the epoch makes harmless) before the
group is told that this worker has let go of it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import faust
from aiokafka.errors import KafkaError
from faust.auth import SASLCredentials, SSLCredentials
from faust.types import TP

from orchestrator import metrics
from orchestrator.adapters.faust_transport import BatchScheduler, Transport
from orchestrator.adapters.kafka_client import Brokers
from orchestrator.adapters.log_partitions import check_position
from orchestrator.adapters.partition_lane import PartitionHandler, PartitionLane
from orchestrator.errors import LogUnavailable
from orchestrator.runtime.ports import EVENTS
from orchestrator.settings import Settings

T = TypeVar("T")

#: How often each partition's handler may fire what is due.
_TICK_S = 0.05
_RETRY_S = 0.5
#: Batches between Faust's conductor and the lanes.
_BUFFERED_MAX = 8
_LEAVE_TIMEOUT_S = 4.0

log = logging.getLogger(__name__)


class WorkerApp(faust.App):  # type: ignore[misc]
    """A Faust app that reads one topic in batches and starts every partition at the handler's position."""

    def __init__(self, settings: Settings, handler: PartitionHandler) -> None:
        super().__init__(
            settings.group(settings.kafka_group),
            broker_credentials=_credentials(settings),
            broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap.split(",")],
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.session_timeout_s / 4,
            broker_request_timeout=max(30.0, settings.session_timeout_s),
            # Longer than a partition may take to be closed; a member that is slower than this is not waited for.
            broker_rebalance_timeout=max(10.0, 2 * settings.session_timeout_s),
            consumer_auto_offset_reset="earliest",
            ConsumerScheduler=BatchScheduler,
            stream_buffer_maxsize=_BUFFERED_MAX,
            stream_recovery_delay=0.0,
            store="memory://",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
        )
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handler = handler
        self._settings = settings
        self._lanes: dict[int, PartitionLane] = {}
        self._source = _Source(self)
        self._taking: asyncio.Task[None] | None = None
        self._connect()

    def positions(self) -> dict[TP, int]:
        """Return the next offset of every partition that this worker has taken."""
        return {TP(EVENTS, partition): lane.position for partition, lane in self._lanes.items()}

    async def let_go(self) -> dict[TP, int]:
        """Finish what is under way, give up every partition and return where each was left."""
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.wait([self._taking])
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(self._close(lane) for lane in lanes.values()))
        return {TP(EVENTS, partition): lane.position for partition, lane in lanes.items()}

    # ------------------------------------------------------------------------- what Faust calls

    def _connect(self) -> None:
        events = self.topic(
            EVENTS, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )
        self.agent(events, name="decide")(self._deliver)
        self.timer(_TICK_S, name="tick")(self._tick)
        self.on_partitions_revoked.connect(self._revoked)
        self.on_rebalance_complete.connect(self._assigned)

    async def _deliver(self, batches: Any) -> None:
        async for event in batches.events():
            lane = self._lanes.get(event.message.partition)
            if lane is not None:
                await lane.offer(event.value)

    async def _tick(self) -> None:
        for lane in self._lanes.values():
            lane.tick()
            end = self.consumer.log_ends.end_of(EVENTS, lane.partition)
            if end is not None:
                metrics.PARTITION_LAG.labels(str(lane.partition)).set(max(0, end - lane.position))

    async def _revoked(self, _app: object, _revoked: object, **_: object) -> None:
        await self.let_go()

    async def _assigned(self, _app: object, **_: object) -> None:
        """Take the partitions that the group has given, before Faust seeks and delivers.

        Taking a partition shuts out its former owner, so it is given up at once when the group moves on.
        """
        owned = [where.partition for where in self.consumer.assignment() if where.topic == EVENTS]
        self._taking = asyncio.create_task(self._take_all(owned))
        await asyncio.wait([self._taking])

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Create none: this app keeps no files."""

    # ---------------------------------------------------------------------------------- partitions

    async def _take_all(self, partitions: list[int]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for partition in partitions:
                    group.create_task(self._take(partition))
        except* Exception as errors:
            self._fail(errors.exceptions[0])

    async def _take(self, partition: int) -> None:
        position = await self._handler.assigned(partition)
        try:
            first, end = await self._source.bounds(partition)
            if position is None:
                position = first
            check_position(EVENTS, partition, position, first=first, end=end)
        except BaseException:
            await self._handler.revoked(partition)
            raise
        self._lanes[partition] = PartitionLane(
            partition,
            position,
            handler=self._handler,
            source=self._source,
            batch_events_max=self._settings.batch_events_max,
            failed=self._fail,
        )

    async def _close(self, lane: PartitionLane) -> None:
        await lane.close(self._settings.session_timeout_s)
        await self._handler.revoked(lane.partition)

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)


class _Source:
    """``PartitionSource`` over the app's consumer."""

    def __init__(self, app: WorkerApp) -> None:
        self._app = app
        self._fresh_s = app._settings.grace_ms / 1000

    async def seek(self, partition: int, offset: int) -> None:
        await _persistently(lambda: self._app.consumer.seek_wait({TP(EVENTS, partition): offset}))

    async def bounds(self, partition: int) -> tuple[int, int]:
        where = TP(EVENTS, partition)
        first = await _persistently(lambda: self._app.consumer.earliest_offsets(where))
        end = await _persistently(lambda: self._app.consumer.highwaters(where))
        return first[where], end[where]

    def holds_nothing_after(self, partition: int, position: int) -> bool:
        return bool(self._app.consumer.log_ends.ends_at(EVENTS, partition, position, self._fresh_s))


async def _persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call to Kafka until it succeeds; an outage is waited out."""
    while True:
        try:
            return await call()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("Kafka does not answer: %r", error)
            await asyncio.sleep(_RETRY_S)


async def run_worker(
    settings: Settings, handler: PartitionHandler, on_ready: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Work until SIGTERM or SIGINT; return after the calls under way are finished and the group is left.

    ``on_ready`` is called once, when the group has given this worker its first assignment (which may be empty).
    Raises what ended the work: ``Fenced`` or ``PositionLost`` of the handler, ``LogUnavailable`` when Kafka does not
    answer at the start or its client gives up. May be called once a process.
    """
    _quiet()
    app = WorkerApp(settings, handler)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await _work(app, stop, on_ready)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await _end(app)


async def _work(app: WorkerApp, stop: asyncio.Event, on_ready: Callable[[], Awaitable[None]] | None) -> None:
    started = asyncio.create_task(_start(app, on_ready))
    ends = [asyncio.create_task(stop.wait()), asyncio.create_task(app.wait_until_stopped()), app.failure]
    try:
        await asyncio.wait([started, *ends], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (started, *ends[:2]):
            task.cancel()
    if app.failure.done():
        app.failure.result()
    if app.crashed and not stop.is_set():
        raise LogUnavailable(f"The consumer of {EVENTS} gave up: {app.crash_reason!r}") from app.crash_reason


async def _end(app: WorkerApp) -> None:
    """Finish what is under way, then leave the group."""
    try:
        left = await app.let_go()
        if left and not app.crashed:
            await _briefly(app.consumer.commit_for_monitors(left))
    finally:
        await _briefly(app.stop())


async def _briefly(call: Awaitable[None]) -> None:
    """Await a call of the way out; a Kafka that does not answer is not waited for."""
    try:
        await asyncio.wait_for(call, _LEAVE_TIMEOUT_S)
    except TimeoutError:
        log.warning("Kafka did not answer while the group was being left; it will notice by silence.")


async def _start(app: WorkerApp, on_ready: Callable[[], Awaitable[None]] | None) -> None:
    try:
        await app.start()
    except KafkaError as error:
        raise LogUnavailable(f"Kafka at {app._settings.kafka_bootstrap}: {error}") from error
    if on_ready is not None:
        await on_ready()


def _credentials(settings: Settings) -> Any:
    """Return how Faust's own clients connect; None in the clear."""
    brokers = Brokers.of(settings)
    context = brokers.tls()
    if not brokers.security.startswith("SASL"):
        return None if context is None else SSLCredentials(context)
    return SASLCredentials(
        username=brokers.user,
        password=brokers.password.get_secret_value(),
        ssl_context=context,
        mechanism=brokers.mechanism,
    )


def _quiet() -> None:
    """Keep the inner life of Faust and its libraries out of our log; what matters reaches us as errors."""
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
