"""What the distributed roles share: clients of Kafka and Redis from the settings, and the look-ups over them."""

from __future__ import annotations

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_log import KafkaEventLog, KafkaLogReader
from orchestrator.adapters.kafka_topics import KafkaTopics
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.partition import Extent
from orchestrator.runtime.ports import EVENTS, Clock
from orchestrator.runtime.rulebooks import FolderRulebooks
from orchestrator.settings import Settings

CONNECTIONS_MAX = 64


def redis_client(settings: Settings) -> redis.Redis:
    """Return a client; a broken connection is tried anew once, and then the caller hears of it."""
    return redis.Redis.from_url(
        settings.redis_url,
        max_connections=CONNECTIONS_MAX,
        socket_timeout=10,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(), 1),
    )


def topics_of(settings: Settings) -> KafkaTopics:
    """Return the deployment's topics."""
    return KafkaTopics(settings.kafka_bootstrap, partitions=settings.partitions, replication=settings.kafka_replication)


def event_log(settings: Settings) -> KafkaEventLog:
    """Return the producer."""
    return KafkaEventLog(settings.kafka_bootstrap)


def system_clock() -> Clock:
    """Return the machine's clock."""
    return SystemClock()


def intake_of(settings: Settings, rulebooks: FolderRulebooks) -> Intake:
    """Return the intake for the tracking plan in force; it follows the rulebook when that is switched."""
    limits = Limits(
        event_bytes_max=settings.event_bytes_max,
        depth_max=settings.depth_max,
        future_tolerance_ms=round(settings.future_tolerance_s * 1000),
    )
    intake = Intake(rulebooks.loaded.plan, settings.workspace, limits)
    rulebooks.on_switch = lambda loaded: setattr(intake, "plan", loaded.plan)
    return intake


class KafkaExtents:
    """What ``journey.events`` holds, asked of the brokers."""

    def __init__(self, settings: Settings) -> None:
        self._topics = topics_of(settings)
        self._reader = KafkaLogReader(settings.kafka_bootstrap)

    async def extent(self, partition: int) -> Extent:
        """Return identity, first and end offset of a partition."""
        log_id = await self._topics.log_id(EVENTS)
        firsts, ends = await self._reader.beginning_offsets(EVENTS), await self._reader.end_offsets(EVENTS)
        return Extent(log_id, firsts[partition], ends[partition])
