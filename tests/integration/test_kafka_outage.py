"""An outage of Kafka costs its clients little: they ask again at a pace, not as fast as they can."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from load_tests.servers import LocalKafka
from orchestrator.adapters.kafka_group import KafkaGroupReader
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.adapters.kafka_topics import KafkaTopics
from orchestrator.errors import LogUnavailable
from orchestrator.runtime.ports import ACTIONS, Outgoing, Record

pytestmark = pytest.mark.integration

OUTAGE_S = 4.0
#: Lines that one client may log about it in a second.
LINES_PER_S = 40


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    server = LocalKafka(tmp_path / "kafka")
    await asyncio.to_thread(server.start)
    await KafkaTopics(server.bootstrap, partitions=4).ensure()
    yield server
    await asyncio.to_thread(server.kill)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is nobody who would tell.
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("killed", [False, True])
async def test_clients_of_a_broker_that_is_away_ask_again_at_a_pace(
    kafka: LocalKafka, caplog: pytest.LogCaptureFixture, killed: bool
) -> None:
    taken: list[Record] = []

    async def take(records: Sequence[Record]) -> None:
        taken.extend(records)

    async def publish() -> None:
        while True:
            with suppress(LogUnavailable):
                await log.append([Outgoing(ACTIONS, b"c%d" % number, b"{}") for number in range(8)])
            await asyncio.sleep(0.05)

    log = KafkaEventLog(kafka.bootstrap)
    await log.start()
    reader = KafkaGroupReader(kafka.bootstrap, group="g", topic=ACTIONS, session_timeout_s=6)
    tasks = [asyncio.create_task(reader.run(take)), asyncio.create_task(publish())]
    await until(lambda: len(taken) >= 100)
    with caplog.at_level(logging.WARNING, logger="aiokafka"):
        caplog.clear()
        await asyncio.to_thread(kafka.kill if killed else kafka.stop)
        await asyncio.sleep(OUTAGE_S)
        lines = [record.getMessage() for record in caplog.records]
        await asyncio.to_thread(kafka.start)
    before = len(taken)
    await until(lambda: len(taken) >= before + 100)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await log.close()
    assert len(lines) < 2 * LINES_PER_S * OUTAGE_S, lines[-20:]
