"""Topics are created as they must be, and found out when they are not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from orchestrator.adapters.kafka_topics import KafkaTopics
from orchestrator.errors import ConfigurationError
from orchestrator.runtime.ports import ACTIONS, EVENTS

pytestmark = pytest.mark.integration

ALL = ["journey.events", "journey.actions", "journey.decisions", "journey.rulebooks", "journey.dead-letters"]


@pytest.fixture
async def admin(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await client.start()
    yield client
    await client.close()


async def test_missing_topics_are_named_then_created_once(no_topics: None, kafka_bootstrap: str) -> None:
    topics = KafkaTopics(kafka_bootstrap, partitions=3)
    assert await topics.problems() == [f"Topic {name} does not exist; run: journey topics create" for name in ALL]
    assert await topics.ensure() == ALL
    assert await topics.problems() == []
    assert await topics.ensure() == []


async def test_several_processes_may_create_them_at_once(no_topics: None, kafka_bootstrap: str) -> None:
    created = await asyncio.gather(*(KafkaTopics(kafka_bootstrap, partitions=2).ensure() for _ in range(4)))
    assert sorted(name for names in created for name in names) == sorted(ALL)


async def test_partitions_added_are_found_out(
    fresh_topics: Any, admin: AIOKafkaAdminClient, kafka_bootstrap: str
) -> None:
    topics = await fresh_topics(2)
    await admin.create_partitions({EVENTS: NewPartitions(3)})
    async with asyncio.timeout(15):  # The controller answers before every broker has heard of the partition.
        while len((await admin.describe_topics([EVENTS]))[0]["partitions"]) < 3:  # noqa: ASYNC110 - it tells nobody.
            await asyncio.sleep(0.02)
    with pytest.raises(ConfigurationError) as refusal:
        await topics.ensure()
    assert str(refusal.value) == (
        "Topic journey.events has 3 partitions, but JOURNEY_PARTITIONS is 2. The partition of a customer follows from "
        "that number: if the topic always had 3, set JOURNEY_PARTITIONS=3; if partitions were added, customers have "
        "moved away from their states, and the topic must be restored."
    )


async def test_a_log_that_producers_stamp_and_a_list_that_is_not_compacted_are_refused(
    no_topics: None, admin: AIOKafkaAdminClient, kafka_bootstrap: str
) -> None:
    await admin.create_topics(
        [NewTopic(EVENTS, 2, 1), NewTopic("journey.rulebooks", 2, 1, topic_configs={"cleanup.policy": "compact"})]
    )
    with pytest.raises(ConfigurationError) as refusal:
        await KafkaTopics(kafka_bootstrap, partitions=2).ensure()
    assert str(refusal.value).splitlines() == [
        "Topic journey.events has message.timestamp.type=CreateTime, but it must be LogAppendTime. Set it with: "
        "kafka-configs.sh --alter --entity-type topics --entity-name journey.events "
        "--add-config message.timestamp.type=LogAppendTime",
        "Topic journey.rulebooks has 2 partitions, but it must have 1; delete it and create it again.",
    ]


async def test_a_topic_created_anew_has_another_identity(fresh_topics: Any) -> None:
    topics = await fresh_topics(1)
    first = await topics.log_id()
    assert first == await topics.log_id(EVENTS) == str(uuid.UUID(first))
    assert first != await topics.log_id(ACTIONS)
    assert await (await fresh_topics(1)).log_id() != first
