"""The gateway's role: HTTP in, Kafka behind it, look-ups over Redis and the topics' ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator import __version__, metrics
from orchestrator.adapters.kafka_group import KafkaTail
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.adapters.redis_dispatch_queue import RedisDispatchQueue
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.errors import Unavailable
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.server import GatewayServer
from orchestrator.roles.distributed import event_log, intake_of, redis_client, system_clock, topics_of
from orchestrator.roles.lookups import RecentActions, RulebookJourneys, StoredCustomers, StoredDeadLetters
from orchestrator.runtime.dispatch import redrive
from orchestrator.runtime.intake import HttpIntake
from orchestrator.runtime.rulebooks import FolderRulebooks
from orchestrator.settings import Settings


class _TopicsThere:
    """Ready when the topics are as they must be."""

    def __init__(self, settings: Settings) -> None:
        self._topics = topics_of(settings)

    async def obstacle(self) -> str | None:
        """Return the first thing that is wrong."""
        try:
            problems = await self._topics.problems()
        except Unavailable as error:
            return str(error)
        return problems[0] if problems else None


async def run_gateway(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until cancelled."""
    metrics.PROCESS.info({"role": "gateway", "version": __version__, "workspace": settings.workspace})
    rulebooks = FolderRulebooks(settings.rules, settings.workspace)
    intake = intake_of(settings, rulebooks)
    log, client, clock = event_log(settings), redis_client(settings), system_clock()
    queue = RedisDispatchQueue(client, settings.workspace)
    tail = KafkaTail(settings.kafka_bootstrap)
    journeys = RulebookJourneys(rulebooks, clock.now_ms())

    async def redrive_actions(action_ids: Sequence[str]) -> Sequence[object]:
        return await redrive(queue, action_ids)

    backend = Backend(
        log=log,
        customers=StoredCustomers(
            RedisStateStore(client, settings.workspace), intake.key, lambda key: partition_of(key, settings.partitions)
        ),
        journeys=journeys,
        actions=RecentActions(tail, queue),
        dead_letters=StoredDeadLetters(tail, log, HttpIntake(intake), clock, redrive_actions),
        rulebooks=journeys,
        readiness=_TopicsThere(settings),
    )
    await log.start()
    try:
        app = create_app(backend, intake, settings, clock)
        async with GatewayServer(app, settings.host, settings.port) as server:
            on_ready(server.url)
            await server.wait()
    finally:
        await log.close()
        await client.aclose()
