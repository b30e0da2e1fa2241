"""The worker's role: a Faust app over Kafka, states in Redis, health and metrics on a port of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator import __version__, metrics
from orchestrator.adapters.faust_worker import run_worker
from orchestrator.adapters.redis_format import check_format
from orchestrator.adapters.redis_probe import RedisProbe
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.gateway.server import GatewayServer
from orchestrator.roles.admission import intake_of
from orchestrator.roles.distributed import (
    KafkaExtents,
    event_log,
    redis_client,
    rulebooks_of,
    system_clock,
)
from orchestrator.roles.health import METRICS_PORT, health_app
from orchestrator.roles.readiness import once_begun
from orchestrator.roles.stopping import until_first_ends
from orchestrator.runtime.ports import Clock, Record
from orchestrator.runtime.producers import Producers
from orchestrator.runtime.surroundings import Surroundings
from orchestrator.runtime.worker import Worker
from orchestrator.settings import Settings


class _Handler:
    """The runtime's worker as the handler that Faust's lanes call."""

    def __init__(self, worker: Worker, clock: Clock) -> None:
        self._worker = worker
        self._clock = clock

    async def assigned(self, partition: int) -> int | None:
        """Take ownership of a partition."""
        return await self._worker.assigned(partition)

    async def revoked(self, partition: int) -> None:
        """Give a partition up."""
        await self._worker.revoked(partition)

    async def process(self, partition: int, records: Sequence[Record]) -> None:
        """Apply records."""
        await self._worker.process(partition, records)

    async def advance(self, partition: int, caught_up: Callable[[], bool]) -> None:
        """Fire what is due. The broker said "nothing more" at most a grace ago: the present less it has been read."""
        now_ms = self._clock.now_ms()
        await self._worker.advance(partition, now_ms if caught_up() else None)


async def run_worker_role(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Work until SIGTERM or SIGINT; raises what ended the work otherwise."""
    metrics.PROCESS.info({"role": "worker", "version": __version__, "workspace": settings.workspace})
    log, client, clock = event_log(settings), redis_client(settings), system_clock()
    await check_format(client, settings.workspace)
    rulebooks = await rulebooks_of(settings, log)
    worker = Worker(
        Surroundings(
            store=RedisStateStore(client, settings.workspace),
            log=log,
            extents=KafkaExtents(settings),
            intake=intake_of(settings, rulebooks),
            rulebooks=rulebooks,
            clock=clock,
            grace_ms=settings.grace_ms,
            customers_cached_max=settings.customers_cached_max,
            producers=Producers(settings.refused_share_alert),
        )
    )
    joined: list[bool] = []
    await log.start()
    try:
        health = health_app(once_begun(lambda: bool(joined), RedisProbe(client, settings.workspace).obstacle))
        async with GatewayServer(health, settings.host, settings.metrics_port, port_named=METRICS_PORT) as server:

            async def ready() -> None:
                joined.append(True)
                on_ready(server.url)

            await until_first_ends(run_worker(settings, _Handler(worker, clock), ready), rulebooks.follow())
    finally:
        await log.close()
        await client.aclose()
