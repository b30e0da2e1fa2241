"""The gateway's role: HTTP in, Kafka behind it, look-ups over Redis and the topics' ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from orchestrator import __version__, metrics
from orchestrator.adapters.kafka_client import Brokers
from orchestrator.adapters.kafka_group import KafkaTail
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.adapters.redis_contact_book import RedisContactBook
from orchestrator.adapters.redis_dispatch_queue import RedisDispatchQueue
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.adapters.redis_timeline import RedisTimeline
from orchestrator.errors import Unavailable
from orchestrator.gateway.access import refuse_exposure
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.customers import UnforgottenActions
from orchestrator.gateway.rulebooks import rulebook_router
from orchestrator.gateway.server import GatewayServer, Terms
from orchestrator.roles.admission import intake_of
from orchestrator.roles.callbacks import reception_of
from orchestrator.roles.delivery import refuse_unstartable
from orchestrator.roles.distributed import (
    event_log,
    redis_client,
    rulebooks_of,
    system_clock,
    topics_of,
)
from orchestrator.roles.lookups import RecentActions, RulebookJourneys, StoredCustomers, StoredDeadLetters
from orchestrator.roles.past import keep_timeline, past_router
from orchestrator.roles.stopping import until_first_ends
from orchestrator.runtime.dispatch import redrive
from orchestrator.runtime.intake import HttpIntake
from orchestrator.runtime.plan import Planner
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
    refuse_exposure(settings)
    metrics.PROCESS.info({"role": "gateway", "version": __version__, "workspace": settings.workspace})
    log, client, clock = event_log(settings), redis_client(settings), system_clock()
    rulebooks = await rulebooks_of(settings, log)
    rulebooks.gate = partial(refuse_unstartable, elsewhere=True)
    intake = intake_of(settings, rulebooks, beside_others=clock)
    queue = RedisDispatchQueue(client, settings.workspace)
    store, tail = RedisStateStore(client, settings.workspace), KafkaTail(Brokers.of(settings))
    journeys = RulebookJourneys(rulebooks, clock.now_ms())
    shard_of = partial(partition_of, partitions=settings.partitions)
    timeline = RedisTimeline(client, settings.workspace, shard_of, kept_ms=round(settings.timeline_days * 86_400_000))

    async def redrive_actions(action_ids: Sequence[str]) -> Sequence[object]:
        return await redrive(queue, action_ids)

    contacts = RedisContactBook(client, settings.workspace)
    customers = StoredCustomers(store, intake.key, shard_of)
    backend = Backend(
        log=log,
        customers=customers,
        journeys=journeys,
        actions=UnforgottenActions(RecentActions(tail, queue, intake.keys), customers),
        dead_letters=StoredDeadLetters(tail, log, HttpIntake(intake), clock, redrive_actions, contacts),
        rulebooks=journeys,
        readiness=_TopicsThere(settings),
    )
    reception = reception_of(rulebooks, intake, contacts, queue.release)
    await log.start()
    try:
        past = past_router(timeline, intake, rulebooks, backend, clock)
        publishing = rulebook_router(rulebooks, Planner(rulebooks, store, range(settings.partitions)), clock.now_ms)
        app = create_app(backend, intake, settings, clock, outcomes=reception, routers=[past, publishing])
        async with GatewayServer(app, settings.host, settings.port, Terms.of(settings)) as server:
            on_ready(server.url)
            await until_first_ends(server.wait(), rulebooks.follow(), keep_timeline(settings, timeline, contacts))
    finally:
        await log.close()
        await client.aclose()
