"""The dispatcher's role: from ``journey.actions`` to the connectors, over Redis queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from orchestrator import __version__, metrics
from orchestrator.adapters.kafka_client import Brokers
from orchestrator.adapters.kafka_group import KafkaGroupReader
from orchestrator.adapters.redis_contact_book import RedisContactBook
from orchestrator.adapters.redis_dispatch_queue import RedisDispatchQueue
from orchestrator.adapters.redis_format import check_format
from orchestrator.adapters.redis_probe import RedisProbe
from orchestrator.adapters.redis_round_trip import life_of
from orchestrator.gateway.server import GatewayServer
from orchestrator.roles.callbacks import reporting
from orchestrator.roles.delivery import RunningConnectors, built, policies_of
from orchestrator.roles.distributed import event_log, redis_client, rulebooks_of, system_clock
from orchestrator.roles.health import METRICS_PORT, health_app
from orchestrator.roles.readiness import once_begun
from orchestrator.roles.stopping import until_first_ends
from orchestrator.runtime.contacts import noting
from orchestrator.runtime.dispatch import Dispatcher, own_records
from orchestrator.runtime.ports import ACTIONS, Record
from orchestrator.runtime.workspace import KeySpace
from orchestrator.settings import Settings

GROUP = "journey-dispatcher"


async def run_dispatcher(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Deliver until cancelled; then drain what is under way."""
    metrics.PROCESS.info({"role": "dispatcher", "version": __version__, "workspace": settings.workspace})
    log, client = event_log(settings), redis_client(settings)
    await check_format(client, settings.workspace)
    rulebooks = await rulebooks_of(settings, log)
    contacts = RedisContactBook(client, settings.workspace)
    entries = rulebooks.loaded.connectors
    connectors = noting(built(rulebooks), contacts, system_clock(), reporting(entries))
    running = RunningConnectors(entries)
    rulebooks.listeners.append(running.listen)
    dispatcher = Dispatcher(
        queue=RedisDispatchQueue(client, settings.workspace),
        log=log,
        clock=system_clock(),
        connectors=connectors,
        policies=policies_of(entries),
    )
    reader = KafkaGroupReader(
        Brokers.of(settings),
        group=settings.group(GROUP),
        topic=ACTIONS,
        session_timeout_s=settings.session_timeout_s,
        life=partial(life_of, client),
    )
    keys = KeySpace(settings.workspace, settings.neighbours)
    joined = asyncio.Event()
    await log.start()
    await dispatcher.start()
    try:
        store = RedisProbe(client, settings.workspace)
        health = health_app(once_begun(joined.is_set, store.obstacle), lambda: running.notice)
        async with GatewayServer(health, settings.host, settings.metrics_port, port_named=METRICS_PORT) as server:

            async def accept(records: Sequence[Record]) -> None:
                await dispatcher.accept(own_records(records, keys))

            def ready() -> None:
                if not joined.is_set():
                    on_ready(server.url)
                joined.set()

            await until_first_ends(
                reader.run(accept, ready),
                dispatcher.join(),
                rulebooks.follow(),
                server.wait(),
            )
    finally:
        await dispatcher.stop()
        for connector in connectors.values():
            await connector.close()
        await log.close()
        await client.aclose()
