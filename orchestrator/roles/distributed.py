"""What the distributed roles share: clients of Kafka and Redis from the settings, and the look-ups over them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_client import Brokers, Where, client_tls
from orchestrator.adapters.kafka_log import KafkaEventLog, KafkaLogReader
from orchestrator.adapters.kafka_topics import KafkaTopics, wrong_partitions
from orchestrator.adapters.redis_connection import cluster_client, packed_client
from orchestrator.adapters.redis_round_trip import Client
from orchestrator.errors import ConfigurationError
from orchestrator.runtime.ports import EVENTS, RULEBOOKS, Clock, EventLog, Record
from orchestrator.runtime.rulebooks import PublishedRulebooks
from orchestrator.runtime.surroundings import Extent
from orchestrator.settings import Settings

#: A command takes Redis far less than a millisecond, so that a few connections serve many waiting tasks.
CONNECTIONS_MAX = 16
_TIMEOUTS: Mapping[str, Any] = {"socket_timeout": 10, "socket_connect_timeout": 5}


def redis_client(settings: Settings) -> Client:
    """Return a client; a broken connection is tried anew, and then the caller hears of it."""
    url = settings.redis_url.get_secret_value()
    tls = _redis_tls(url, settings)
    try:
        if settings.redis_cluster:
            return cluster_client(url, **tls, **_TIMEOUTS)
        retry = Retry(ExponentialBackoff(), 1)
        return packed_client(url, **tls, **_TIMEOUTS, max_connections=CONNECTIONS_MAX, timeout=10, retry=retry)
    except ValueError as error:
        # The library's message may quote the address, and the address may hold a password.
        said = "user, password or port cannot be read" if "@" in url else str(error)
        raise ConfigurationError(f"JOURNEY_REDIS_URL is no address of a Redis: {said}.") from None


def _redis_tls(url: str, settings: Settings) -> dict[str, Any]:
    """Return what a connection over TLS is told; rediss:// asks for one, which verifies the other side."""
    if not url.startswith("rediss://"):
        if settings.redis_ca_file or settings.redis_certificate:
            raise ConfigurationError(
                "JOURNEY_REDIS_CA_FILE and _CERTIFICATE are for TLS, but JOURNEY_REDIS_URL does not begin with rediss://"
            )
        return {}
    client_tls("REDIS", settings.redis_ca_file, settings.redis_certificate, settings.redis_key)
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_certificate,
        "ssl_keyfile": settings.redis_key,
    }
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True} | {
        name: str(path) for name, path in files.items() if path is not None
    }


def masked(url: str) -> str:
    """Return an address without what is secret in it: user, password and parameters."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme and host else "(an address that cannot be read)"


def topics_of(settings: Settings) -> KafkaTopics:
    """Return the deployment's topics."""
    return KafkaTopics(Brokers.of(settings), partitions=settings.partitions, replication=settings.kafka_replication)


def event_log(settings: Settings) -> KafkaEventLog:
    """Return the producer."""
    return KafkaEventLog(Brokers.of(settings))


def system_clock() -> Clock:
    """Return the machine's clock."""
    return SystemClock()


async def rulebooks_of(settings: Settings, log: EventLog) -> PublishedRulebooks:
    """Return the rulebook in force, as the topic says it; the folder's as long as nothing was ever published."""
    topic = KafkaRulebookTopic(Brokers.of(settings))
    return await PublishedRulebooks.opened(topic, log, settings.workspace, settings.rules)


def relayed(batches: AsyncIterator[list[Record]]) -> aclosing[AsyncGenerator[list[Record], None]]:
    """Return a context that ends a log's reading when it is left."""
    return aclosing(cast(AsyncGenerator[list[Record], None], batches))


class KafkaRulebookTopic:
    """``journey.rulebooks`` in Kafka."""

    def __init__(self, bootstrap: Where) -> None:
        self._reader = KafkaLogReader(bootstrap)

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset and the end."""
        firsts, ends = await self._reader.beginning_offsets(RULEBOOKS), await self._reader.end_offsets(RULEBOOKS)
        return firsts[0], ends[0]

    async def read(self, offset: int) -> AsyncGenerator[list[Record], None]:
        """Yield records for ever."""
        async with relayed(self._reader.read(RULEBOOKS, 0, offset)) as batches:
            async for batch in batches:
                yield batch


class KafkaExtents:
    """What ``journey.events`` holds, asked of the brokers."""

    def __init__(self, settings: Settings) -> None:
        self._topics = topics_of(settings)
        self._partitions = settings.partitions
        self._reader = KafkaLogReader(Brokers.of(settings))

    async def extent(self, partition: int) -> Extent:
        """Return identity, first and end offset of a partition.

        Raises ``ConfigurationError`` when the topic has another number of partitions than the settings say: customers
        would be decided apart from their states.
        """
        log_id = await self._topics.log_id(EVENTS)
        firsts, ends = await self._reader.beginning_offsets(EVENTS), await self._reader.end_offsets(EVENTS)
        if len(ends) != self._partitions:
            raise ConfigurationError(wrong_partitions(EVENTS, self._partitions, len(ends)))
        return Extent(log_id, firsts[partition], ends[partition])
