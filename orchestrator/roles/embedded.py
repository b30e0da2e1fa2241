"""The embedded engine: gateway, worker, dispatcher and a local receiver in one process over one SQLite file.

``journey dev`` runs it. Every step is durable before the next: Ctrl-C and kill -9 lose nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from connectors.protocol import Connector
from connectors.receiver.reports import Reports
from orchestrator import __version__, metrics
from orchestrator.adapters import (
    sqlite_contact_book,
    sqlite_dispatch_queue,
    sqlite_log,
    sqlite_positions,
    sqlite_probe,
    sqlite_state_store,
)
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_contact_book import SqliteContactBook
from orchestrator.adapters.sqlite_dispatch_queue import SqliteDispatchQueue
from orchestrator.adapters.sqlite_erasure import SqliteErasure
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.adapters.sqlite_positions import SqlitePositions
from orchestrator.adapters.sqlite_probe import SqliteProbe
from orchestrator.adapters.sqlite_state_store import SqliteStateStore
from orchestrator.adapters.sqlite_timeline import SqliteTimeline
from orchestrator.errors import ConfigurationError, Unavailable
from orchestrator.gateway.access import refuse_exposure
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.rulebooks import rulebook_router
from orchestrator.gateway.server import GatewayServer, Terms
from orchestrator.roles.admission import intake_of
from orchestrator.roles.callbacks import reception_of, reporting
from orchestrator.roles.data_folder import DATABASE, RECORD, check_data, note_workspace, sole_owner
from orchestrator.roles.delivery import RunningConnectors, built, policies_of, refuse_unstartable
from orchestrator.roles.demo import play_demo
from orchestrator.roles.distributed import relayed
from orchestrator.roles.lookups import RecentActions, RulebookJourneys, StoredCustomers, StoredDeadLetters
from orchestrator.roles.past import past_router
from orchestrator.roles.receiver import receiver_app, shared_environment, shared_secret
from orchestrator.roles.rules_folder import RulesFolder
from orchestrator.roles.stopping import until_first_ends
from orchestrator.runtime.contacts import noting
from orchestrator.runtime.dispatch import Dispatcher
from orchestrator.runtime.intake import HttpIntake, Intake
from orchestrator.runtime.plan import Planner
from orchestrator.runtime.ports import ACTIONS, DECISIONS, EVENTS, RULEBOOKS, Record
from orchestrator.runtime.producers import Producers
from orchestrator.runtime.rulebooks import PublishedRulebooks
from orchestrator.runtime.surroundings import Extent, Surroundings
from orchestrator.runtime.timeline import marks_erasure
from orchestrator.runtime.worker import Worker
from orchestrator.settings import Settings

log = logging.getLogger(__name__)

SCHEMA = "\n".join(
    (
        sqlite_log.SCHEMA,
        sqlite_state_store.SCHEMA,
        sqlite_dispatch_queue.SCHEMA,
        sqlite_positions.SCHEMA,
        sqlite_contact_book.SCHEMA,
        sqlite_probe.SCHEMA,
    )
)
#: The embedded log has one partition: one writer has nothing to gain from more.
PARTITION = 0
TICK_S = 0.05
#: The local receiver shows what customers were sent: to nobody but this machine.
LOOPBACK = "127.0.0.1"
#: Between two attempts to write what the database could not take.
RETRY_S = 0.5
_READER = "dispatcher"
_ERASER = "eraser"
#: Ledger lines that are read again after a crash at most, for want of a saved position.
_ERASER_STRIDE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The parts of a running engine. ``run`` returns when one of them ends, or raises what ended it."""

    settings: Settings
    database: SqliteDatabase
    log: SqliteEventLog
    store: SqliteStateStore
    queue: SqliteDispatchQueue
    positions: SqlitePositions
    erasure: SqliteErasure
    contacts: SqliteContactBook
    environ: Mapping[str, str]  # what connectors see of the environment
    rulebooks: PublishedRulebooks
    folder: RulesFolder
    intake: Intake
    worker: Worker
    dispatcher: Dispatcher
    clock: SystemClock

    async def run(self) -> None:
        """Process events and deliver actions until cancelled."""
        offset = await self.worker.assigned(PARTITION)
        await self.queue.end_leases(self.clock.now_ms())  # This process has the folder to itself.
        await self.dispatcher.start()
        try:
            await until_first_ends(
                self._follow_events(offset),
                self._fire_timers(),
                self._follow_actions(),
                self._follow_erasures(),
                self.rulebooks.follow(),
                self.folder.follow(),
                self.dispatcher.join(),
            )
        finally:
            await self.dispatcher.stop()
            await self.worker.revoked(PARTITION)

    async def _follow_events(self, offset: int) -> None:
        async for records in self.log.read(EVENTS, PARTITION, offset):
            for batch in _slices(records, self.settings.batch_events_max):
                await self.worker.process(PARTITION, batch)

    async def _fire_timers(self) -> None:
        while True:
            observed_ms = self.clock.now_ms()
            end = await self.log.end_offset(EVENTS, PARTITION)
            caught_up = self.worker.position(PARTITION) == end
            await self.worker.advance(PARTITION, observed_ms if caught_up else None)
            lag = end - (self.worker.position(PARTITION) or 0)
            metrics.PARTITION_LAG.labels(str(PARTITION)).set(lag)
            await asyncio.sleep(TICK_S)

    async def _follow_actions(self) -> None:
        offset = await self.positions.load(_READER, ACTIONS, PARTITION)
        async for records in self.log.read(ACTIONS, PARTITION, offset):
            await self._take_actions(records)

    async def _take_actions(self, records: list[Record]) -> None:
        while True:
            try:
                await self.dispatcher.accept(records)
                await self.positions.save(_READER, ACTIONS, PARTITION, records[-1].offset + 1)
                return
            except Unavailable as error:
                log.warning("the dispatch queue cannot take %d actions yet: %s", len(records), error)
                await asyncio.sleep(RETRY_S)

    async def _follow_erasures(self) -> None:
        """Remove what erasures have forgotten. Their lines in the ledger follow all that is to be removed."""
        saved = await self.positions.load(_ERASER, DECISIONS, PARTITION)
        offset = max(saved, await self.log.start_offset(DECISIONS, PARTITION))
        async for records in self.log.read(DECISIONS, PARTITION, offset):
            lines = [record for record in records if marks_erasure(DECISIONS, record.value)]
            # A position is worth a write only when something was removed; going over the rest again changes nothing.
            if lines or records[-1].offset - saved >= _ERASER_STRIDE:
                saved = records[-1].offset + 1
                await self._erase(lines, saved)

    async def _erase(self, lines: list[Record], next_offset: int) -> None:
        while True:
            try:
                for line in lines:
                    await self.erasure.forget(line)
                await self.positions.save(_ERASER, DECISIONS, PARTITION, next_offset)
                return
            except Unavailable as error:
                log.warning("%d erased customers wait for the database: %s", len(lines), error)
                await asyncio.sleep(RETRY_S)


class SqliteRulebookTopic:
    """``journey.rulebooks`` in the embedded log."""

    def __init__(self, event_log: SqliteEventLog) -> None:
        self._log = event_log

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset and the end."""
        first = await self._log.start_offset(RULEBOOKS, PARTITION)
        return first, await self._log.end_offset(RULEBOOKS, PARTITION)

    async def read(self, offset: int) -> AsyncGenerator[list[Record], None]:
        """Yield records for ever."""
        async with relayed(self._log.read(RULEBOOKS, PARTITION, offset)) as batches:
            async for batch in batches:
                yield batch


def _slices(records: list[Record], size: int) -> Iterator[list[Record]]:
    for start in range(0, len(records), size):
        yield records[start : start + size]


class _SqliteExtent:
    """The extent of the embedded log."""

    def __init__(self, event_log: SqliteEventLog) -> None:
        self._log = event_log

    async def extent(self, partition: int) -> Extent:
        """Return identity, first and end offset of ``journey.events``."""
        return Extent(
            await self._log.log_id(EVENTS),
            await self._log.start_offset(EVENTS, partition),
            await self._log.end_offset(EVENTS, partition),
        )


class _SqliteTail:
    """The newest records of the embedded log."""

    def __init__(self, event_log: SqliteEventLog, timeline: SqliteTimeline) -> None:
        self._log = event_log
        self._timeline = timeline

    async def latest_of(self, topic: str, key: bytes, limit: int) -> list[Record]:
        """Return the newest records of a key that the timeline gives, newest first."""
        return (await self._timeline.recent(topic, key, limit))[::-1]

    async def latest(self, topic: str, limit: int, ends: Mapping[int, int] | None = None) -> list[Record]:
        """Return up to ``limit`` records, newest first; those before an offset when one is given."""
        end = await self._log.end_offset(topic, PARTITION)
        end = min(end, (ends or {}).get(PARTITION, end))
        first = max(await self._log.start_offset(topic, PARTITION), end - limit)
        records: list[Record] = []
        while first < end and (some := await self._log.read_range(topic, PARTITION, first, end - first)):
            records += some
            first = some[-1].offset + 1
        return records[::-1]


@contextlib.asynccontextmanager
async def embedded(settings: Settings, receiver_url: str) -> AsyncIterator[Embedded]:
    """Put the engine together over ``settings.data``; closes everything at the end.

    Connectors that name ``RECEIVER_URL`` deliver to ``receiver_url``, unless the environment says otherwise.
    """
    with sole_owner(settings.data):
        async with _engine(settings, receiver_url) as engine:
            yield engine


@contextlib.asynccontextmanager
async def _engine(settings: Settings, receiver_url: str) -> AsyncIterator[Embedded]:
    """Put the engine together over a data folder that this process holds."""
    kept = check_data(settings.data, settings.workspace)
    database = SqliteDatabase(settings.data / DATABASE, SCHEMA, kept=kept)
    await database.open()
    connectors: dict[str, Connector] = {}
    try:
        note_workspace(settings.data, settings.workspace)
        event_log = SqliteEventLog(database, SystemClock())
        rulebooks = await PublishedRulebooks.opened(
            SqliteRulebookTopic(event_log), event_log, settings.workspace, settings.rules
        )
        environ = {**shared_environment(settings.data, receiver_url), **os.environ}
        folder = RulesFolder(rulebooks, settings.rules)
        if rulebooks.published():  # The first start has nothing else to run with: it fails by itself.
            rulebooks.gate = partial(refuse_unstartable, environ=environ)
            await folder.begin()
        entries = rulebooks.loaded.connectors
        made = built(rulebooks, environ, options=f" --data {settings.data}")
        connectors.update(noting(made, SqliteContactBook(database), SystemClock(), reporting(entries)))
        if not rulebooks.published():
            await folder.begin()
        rulebooks.gate = partial(refuse_unstartable, environ=environ)
        yield _assembled(settings, folder, database, event_log, connectors, environ)
    finally:
        for connector in connectors.values():
            await connector.close()
        await database.close()


async def roll_back(settings: Settings, version: str, author: str) -> None:
    """Put a published version into force in a data folder on which no engine runs.

    Raises ``ConfigurationError`` when the folder is not free or the version was never published there.
    """
    if not (settings.data / DATABASE).exists():
        raise ConfigurationError(f"There is no engine's database in {settings.data}. Name its folder with --data.")
    with sole_owner(settings.data):
        kept = check_data(settings.data, settings.workspace)
        database = SqliteDatabase(settings.data / DATABASE, SCHEMA, kept=kept)
        await database.open()
        try:
            log_of = SqliteEventLog(database, SystemClock())
            topic = SqliteRulebookTopic(log_of)
            rulebooks = await PublishedRulebooks.opened(topic, log_of, settings.workspace, settings.rules)
            if await rulebooks.activate(version, author=author) is None:
                known = ", ".join(one.version for one in rulebooks.published()) or "none"
                raise ConfigurationError(f'The version "{version}" was never published here. Published: {known}.')
        finally:
            await database.close()


def _assembled(
    settings: Settings,
    folder: RulesFolder,
    database: SqliteDatabase,
    event_log: SqliteEventLog,
    connectors: dict[str, Connector],
    environ: Mapping[str, str],
) -> Embedded:
    clock, rulebooks = SystemClock(), folder.rulebooks
    rulebooks.listeners.append(RunningConnectors(rulebooks.loaded.connectors, environ).listen)
    store = SqliteStateStore(database)
    queue = SqliteDispatchQueue(database)
    intake = intake_of(settings, rulebooks)
    surroundings = Surroundings(
        store=store,
        log=event_log,
        extents=_SqliteExtent(event_log),
        intake=intake,
        rulebooks=rulebooks,
        clock=clock,
        grace_ms=settings.grace_ms,
        customers_cached_max=settings.customers_cached_max,
        producers=Producers(settings.refused_share_alert),
    )
    dispatcher = Dispatcher(
        queue=queue,
        log=event_log,
        clock=clock,
        connectors=connectors,
        policies=policies_of(rulebooks.loaded.connectors),
    )
    return Embedded(
        settings=settings,
        database=database,
        log=event_log,
        store=store,
        queue=queue,
        positions=SqlitePositions(database),
        erasure=SqliteErasure(database),
        contacts=SqliteContactBook(database),
        environ=environ,
        rulebooks=rulebooks,
        folder=folder,
        intake=intake,
        worker=Worker(surroundings),
        dispatcher=dispatcher,
        clock=clock,
    )


def backend_of(engine: Embedded) -> Backend:
    """Return what the gateway needs of the engine."""
    tail = _SqliteTail(engine.log, SqliteTimeline(engine.database))
    journeys = RulebookJourneys(engine.rulebooks, engine.clock.now_ms())
    return Backend(
        log=engine.log,
        customers=StoredCustomers(engine.store, engine.intake.key, lambda _: PARTITION),
        journeys=journeys,
        actions=RecentActions(tail, engine.queue, engine.intake.keys),
        dead_letters=StoredDeadLetters(
            tail, engine.log, HttpIntake(engine.intake), engine.clock, engine.dispatcher.redrive, engine.contacts
        ),
        rulebooks=journeys,
        readiness=SqliteProbe(engine.database),
    )


def app_of(engine: Embedded) -> FastAPI:
    """Return the gateway's application over the engine."""
    backend = backend_of(engine)
    past = past_router(SqliteTimeline(engine.database), engine.intake, engine.rulebooks, backend, engine.clock)
    planner = Planner(engine.rulebooks, engine.store, [PARTITION])
    publishing = rulebook_router(engine.rulebooks, planner, engine.clock.now_ms)
    reception = reception_of(engine.rulebooks, engine.intake, engine.contacts, engine.queue.release, engine.environ)
    return create_app(
        backend, engine.intake, engine.settings, engine.clock, outcomes=reception, routers=[past, publishing]
    )


async def run_embedded(settings: Settings, *, demo: bool, on_ready: Callable[[str, str], None]) -> None:
    """Run until cancelled; ``on_ready`` gets the gateway's and the receiver's URL once both answer."""
    refuse_exposure(settings)
    metrics.PROCESS.info({"role": "dev", "version": __version__, "workspace": settings.workspace})
    reports = Reports()
    with sole_owner(settings.data):
        # Before the receiver begins its record there: that would look as if the folder had been in use.
        check_data(settings.data, settings.workspace)
        receiver = receiver_app(record_path=settings.data / RECORD, reports=reports)
        await _serve(settings, receiver, reports, demo=demo, on_ready=on_ready)


async def _serve(
    settings: Settings, receiver: ASGIApp, reports: Reports, *, demo: bool, on_ready: Callable[[str, str], None]
) -> None:
    async with (
        GatewayServer(receiver, LOOPBACK, settings.receiver_port, port_named="--receiver-port") as received,
        _engine(settings, received.url) as engine,
        GatewayServer(app_of(engine), settings.host, settings.port, Terms.of(settings)) as served,
    ):
        reports.connect(served.url, shared_secret(engine.environ))
        on_ready(served.url, received.url)
        work = [engine.run(), served.wait(), received.wait()]
        if demo:
            work.append(play_demo(engine.log, engine.intake.key, engine.clock))
        await until_first_ends(*work)
