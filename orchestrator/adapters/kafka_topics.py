"""The topics of a deployment: created as they must be, and checked before anything relies on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, NoError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from orchestrator.adapters.kafka_client import Where, brokers, translated
from orchestrator.adapters.kafka_topic_id import TopicIdRequest, topic_id
from orchestrator.errors import ConfigurationError, LogUnavailable
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, DECISIONS, EVENTS, RULEBOOKS

#: Largest record that our own topics take: a rulebook travels as one record.
RECORD_BYTES_MAX = 8 * 1024 * 1024

_CREATED_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic as it must be: ``required`` is checked wherever it exists, ``initial`` is set when we create it."""

    name: str
    partitions: int
    required: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that takes the records of ``key``: murmur2, as Kafka's own producers and ours."""
    return _hash_of(key) % partitions


@lru_cache(maxsize=16_384)
def _hash_of(key: bytes) -> int:
    """Kafka's hash in Python costs more than all else about a record, and the same customers come again."""
    return int(murmur2(key)) & 0x7FFFFFFF


class KafkaTopics:
    """The topics of one deployment. Every call opens a connection of its own and closes it.

    All raise ``LogUnavailable`` when the brokers do not answer within ``timeout_s`` and may then be repeated.
    """

    def __init__(self, bootstrap: Where, *, partitions: int, replication: int = 1, timeout_s: float = 10) -> None:
        """``partitions`` is the number that journey.events, journey.actions and journey.decisions have."""
        self._bootstrap = brokers(bootstrap)
        self._replication = replication
        self._timeout_ms = round(timeout_s * 1000)
        # A deployment with copies refuses writes that only one of them would hold.
        durable = {"min.insync.replicas": "2"} if replication >= 3 else {}
        large = {"max.message.bytes": str(RECORD_BYTES_MAX)} | durable
        self._topics = (
            _Topic(EVENTS, partitions, {"message.timestamp.type": "LogAppendTime"}, durable),
            _Topic(ACTIONS, partitions, {}, large),
            _Topic(DECISIONS, partitions, {}, large),
            _Topic(RULEBOOKS, 1, {"cleanup.policy": "compact"}, large),
            _Topic(DEAD_LETTERS, 1, {}, large),
        )

    async def ensure(self) -> list[str]:
        """Create the topics that are missing, check the others, and return the names of those created.

        Raises ``ConfigurationError`` that names every topic which is not as it must be. Safe to repeat and to call
        from several processes at once.
        """
        async with self._admin() as admin:
            created = await self._create(admin, await self._missing(admin))
            if problems := await self._differences(admin):
                raise ConfigurationError("\n".join(problems))
        return created

    async def problems(self) -> list[str]:
        """Return what is wrong with the topics, each with its remedy; nothing when all is well. Changes nothing."""
        async with self._admin() as admin:
            missing = await self._missing(admin)
            return [
                *(f"Topic {topic.name} does not exist; run: journey topics create" for topic in missing),
                *await self._differences(admin),
                *await self._leaderless(admin),
            ]

    async def log_id(self, topic: str = EVENTS) -> str:
        """Return the topic's identity, which changes when it is deleted and created anew.

        Raises ``ConfigurationError`` when the brokers are older than Kafka 2.8 and give topics none.
        """
        async with self._admin() as admin:
            try:
                return topic_id(await admin._send_request(TopicIdRequest(topic)))
            except (IncompatibleBrokerVersion, NotImplementedError) as error:
                raise ConfigurationError(
                    f"Kafka at {self._bootstrap} gives topics no identity; use Kafka 2.8 or later."
                ) from error

    # ---------------------------------------------------------------------------------------- details

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        with translated(self._bootstrap):
            admin = AIOKafkaAdminClient(**self._bootstrap.options(), request_timeout_ms=self._timeout_ms)
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()

    async def _partitions(self, admin: AIOKafkaAdminClient) -> dict[str, int]:
        """Return how many partitions each of our topics has, leaving out those that do not exist."""
        described = await admin.describe_topics([topic.name for topic in self._topics])
        return {
            found["topic"]: len(found["partitions"]) for found in described if for_code(found["error_code"]) is NoError
        }

    async def _leaderless(self, admin: AIOKafkaAdminClient) -> list[str]:
        """Return the partitions that take no records now, as when the broker that has them is down or its disk full."""
        described = await admin.describe_topics([topic.name for topic in self._topics])
        return [
            f"Partition {partition['partition']} of {found['topic']} has no leader and takes no records; look at the "
            "brokers that have it, and at their disks"
            for found in described
            for partition in found["partitions"]
            if partition["leader"] < 0
        ]

    async def _missing(self, admin: AIOKafkaAdminClient) -> list[_Topic]:
        existing = await self._partitions(admin)
        return [topic for topic in self._topics if topic.name not in existing]

    async def _create(self, admin: AIOKafkaAdminClient, missing: Sequence[_Topic]) -> list[str]:
        if not missing:
            return []
        answer = await admin.create_topics(
            [
                NewTopic(
                    name=topic.name,
                    num_partitions=topic.partitions,
                    replication_factor=self._replication,
                    topic_configs=topic.required | topic.initial,
                )
                for topic in missing
            ]
        )
        created = []
        for name, code, *message in answer.topic_errors:
            error = for_code(code)
            if error is NoError:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                raise ConfigurationError(f"Topic {name} cannot be created: {message[0] if message else error.__name__}")
        await self._await_creation(admin)
        return created

    async def _await_creation(self, admin: AIOKafkaAdminClient) -> None:
        """Wait until every broker that is asked knows the topics; creation is answered a little earlier."""
        try:
            async with asyncio.timeout(_CREATED_WITHIN_S):
                while True:
                    if not await self._missing(admin):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise LogUnavailable(
                f"Kafka at {self._bootstrap} does not show the topics it created {_CREATED_WITHIN_S:.0f} s ago."
            ) from error

    async def _differences(self, admin: AIOKafkaAdminClient) -> list[str]:
        existing = await self._partitions(admin)
        problems = []
        for topic in self._topics:
            if topic.name not in existing:
                continue
            if existing[topic.name] != topic.partitions:
                problems.append(wrong_partitions(topic.name, topic.partitions, existing[topic.name]))
            actual = await _configuration(admin, topic.name) if topic.required else {}
            problems += [
                f"Topic {topic.name} has {name}={actual.get(name)}, but it must be {value}. Set it with: "
                f"kafka-configs.sh --alter --entity-type topics --entity-name {topic.name} --add-config {name}={value}"
                for name, value in topic.required.items()
                if actual.get(name) != value
            ]
        return problems


def wrong_partitions(topic: str, wanted: int, found: int) -> str:
    """Return what is wrong with a topic that has ``found`` partitions instead of ``wanted``, and what to do."""
    if wanted == 1:
        return f"Topic {topic} has {found} partitions, but it must have 1; delete it and create it again."
    return (
        f"Topic {topic} has {found} partitions, but JOURNEY_PARTITIONS is {wanted}. The partition of a "
        f"customer follows from that number: if the topic always had {found}, set JOURNEY_PARTITIONS={found}; "
        "if partitions were added, customers have moved away from their states, and the topic must be restored."
    )


async def _configuration(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
