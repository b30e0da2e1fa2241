"""The kafka connector against a real broker, the one that integration tests share, behind a relay."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from connectors.conformance.bench import Example, How
from tests.contract.connectors.kafka_relay import KafkaRelay
from tests.contract.connectors.servers import refusing_port

TOPIC, SMALL_TOPIC = "connectors.deliveries", "connectors.small"


@asynccontextmanager
async def topics(bootstrap: str, **settings: dict[str, str]) -> AsyncIterator[None]:
    """The topics of these names, new, for as long as the block lasts."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        made = await admin.create_topics([NewTopic(name, 1, 1, topic_configs=each) for name, each in settings.items()])
        assert all(error[1] == 0 for error in made.topic_errors), made
        yield
        await admin.delete_topics(list(settings))
    finally:
        await admin.close()


@asynccontextmanager
async def bench(kafka_bootstrap: str) -> AsyncIterator[KafkaRelay]:
    run = uuid.uuid4().hex[:8]
    topic, small = f"{TOPIC}-{run}", f"{SMALL_TOPIC}-{run}"
    relay = KafkaRelay(kafka_bootstrap, topic=topic, small_topic=small)
    with refusing_port() as port:
        async with (
            topics(kafka_bootstrap, **{topic: {}, small: {"max.message.bytes": "100"}}),
            relay.running(port),
        ):
            yield relay


EXAMPLE = Example(
    bench=bench,
    needs=("kafka_bootstrap",),
    settings=lambda bench: {"bootstrap": bench.base, "topic": bench.topic},
    kind="publish",
    params={"value": {"offer": "spring", "name": "Zoë 漢字", "text": "x" * 80}},
    id_of=lambda request: request["headers"]["id"],
    varies=frozenset({"topic"}),
    cannot={
        How.RETRY_LATER: "A broker throttles by answering late, and names no moment to come back.",
        How.BROKEN: "What a broker cannot take now the idempotent producer repeats until the timeout.",
        How.BAD_CREDENTIALS: "The shared broker asks for none; test_kafka_connector.py starts one that does.",
    },
)
