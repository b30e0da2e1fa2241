"""The past of customers, as the gateway asks for it, and the projector that keeps it in the distributed engine."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from orchestrator.adapters.kafka_group import KafkaGroupReader
from orchestrator.core.rulebook import Rulebook
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.explain import explain_router
from orchestrator.roles.stopping import until_first_ends
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import Clock
from orchestrator.runtime.surroundings import Rulebooks
from orchestrator.runtime.timeline import TOPICS, History, Timeline, TimelineKeeper, history_of
from orchestrator.settings import Settings

#: The projector's consumer groups: one a topic, named after it.
GROUP = "journey-timeline"


class StoredPast:
    """What a timeline has kept, under the rulebook in force."""

    def __init__(self, timeline: Timeline, intake: Intake, rulebooks: Rulebooks) -> None:
        self._timeline = timeline
        self._intake = intake
        self._rulebooks = rulebooks

    async def history(self, customer_id: str) -> History:
        """Return what is kept of a customer."""
        return await history_of(self._timeline, self._intake, customer_id)

    def rulebook(self) -> Rulebook:
        """Return the rulebook in force."""
        return self._rulebooks.current


def past_router(timeline: Timeline, intake: Intake, rulebooks: Rulebooks, backend: Backend, clock: Clock) -> APIRouter:
    """Return the routes of customers' past over a timeline and the gateway's other look-ups."""
    return explain_router(StoredPast(timeline, intake, rulebooks), backend.customers, backend.actions, clock)


async def keep_timeline(settings: Settings, timeline: TimelineKeeper) -> None:
    """Follow events and decisions into the timeline, for ever, as one of several gateways.

    Outages of Kafka and of the timeline are waited out; what comes again after one changes nothing.
    """
    readers = [
        KafkaGroupReader(
            settings.kafka_bootstrap,
            group=f"{GROUP}-{topic}",
            topic=topic,
            session_timeout_s=settings.session_timeout_s,
        ).run(partial(timeline.keep, topic))
        for topic in TOPICS
    ]
    await until_first_ends(*readers)
