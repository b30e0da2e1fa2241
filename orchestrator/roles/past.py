"""The past of customers, as the gateway asks for it, and the projector that keeps it in the distributed engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from fastapi import APIRouter

from orchestrator.adapters.kafka_client import Brokers
from orchestrator.adapters.kafka_group import KafkaGroupReader
from orchestrator.core.decision import DecisionRecord
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.explain import explain_router
from orchestrator.roles.stopping import until_first_ends
from orchestrator.runtime.contacts import ContactBook
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import DECISIONS, EVENTS, Clock, Record
from orchestrator.runtime.timeline import History, Timeline, TimelineKeeper, history_of, marks_erasure
from orchestrator.runtime.walk import RulebookPast
from orchestrator.runtime.workspace import KeySpace
from orchestrator.settings import Settings

#: The projector's consumer groups: one a topic, named after it.
GROUP = "journey-timeline"


class StoredPast:
    """What a timeline has kept, and the rulebooks that decided it."""

    def __init__(self, timeline: Timeline, intake: Intake, rulebooks: RulebookPast) -> None:
        self._timeline = timeline
        self._intake = intake
        self._rulebooks = rulebooks

    async def history(self, customer_id: str) -> History:
        """Return what is kept of a customer."""
        return await history_of(self._timeline, self._intake, customer_id)

    def rulebooks(self) -> RulebookPast:
        """Return what knows which rulebook was in force when."""
        return self._rulebooks


def past_router(
    timeline: Timeline, intake: Intake, rulebooks: RulebookPast, backend: Backend, clock: Clock
) -> APIRouter:
    """Return the routes of customers' past over a timeline and the gateway's other look-ups."""
    return explain_router(StoredPast(timeline, intake, rulebooks), backend.customers, backend.actions, clock)


_decode_line = msgspec.json.Decoder(DecisionRecord).decode

Keep = Callable[[Sequence[Record]], Awaitable[None]]


async def _keep_own(keys: KeySpace, keep: Keep, records: Sequence[Record]) -> None:
    """Keep the records of one workspace: what passes by of others is none of its business."""
    if own := keys.own(records):
        await keep(own)


async def keep_timeline(settings: Settings, timeline: TimelineKeeper, contacts: ContactBook) -> None:
    """Follow events and decisions into the timeline, for ever, as one of several gateways.

    An erasure's line in the ledger also removes the customer from the contact book. Outages of Kafka and of the
    stores are waited out; what comes again after one changes nothing.
    """

    async def keep_decisions(records: Sequence[Record]) -> None:
        await timeline.keep(DECISIONS, records)
        for record in records:
            if marks_erasure(DECISIONS, record.value):
                await contacts.forget(_decode_line(record.value or b"{}").customer_id)

    keys = KeySpace(settings.workspace, settings.neighbours)
    keepers: dict[str, Keep] = {
        EVENTS: partial(timeline.keep, EVENTS),
        DECISIONS: keep_decisions,
    }
    readers = [
        KafkaGroupReader(
            Brokers.of(settings),
            group=settings.group(f"{GROUP}-{topic}"),
            topic=topic,
            session_timeout_s=settings.session_timeout_s,
        ).run(partial(_keep_own, keys, keep))
        for topic, keep in keepers.items()
    ]
    await until_first_ends(*readers)
