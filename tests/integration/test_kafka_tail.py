"""The newest records of a topic, as look-ups read them, over a real Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.adapters.kafka_group import KafkaTail
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.errors import LogUnavailable
from orchestrator.runtime.ports import ACTIONS, Outgoing

pytestmark = pytest.mark.integration

PARTITIONS = 4


@pytest.fixture
async def log(kafka_bootstrap: str, fresh_topics: Any) -> AsyncIterator[KafkaEventLog]:
    await fresh_topics(PARTITIONS)
    opened = KafkaEventLog(kafka_bootstrap)
    yield opened
    await opened.close()


def action(customer: str, number: int) -> Outgoing:
    return Outgoing(ACTIONS, customer.encode(), b"%d" % number)


def elsewhere(customer: str) -> str:
    """A customer of another partition."""
    own = partition_of(customer.encode(), PARTITIONS)
    return next(one for one in map(str, range(100)) if partition_of(one.encode(), PARTITIONS) != own)


async def test_the_newest_records_of_all_partitions_come_newest_first(kafka_bootstrap: str, log: KafkaEventLog) -> None:
    for number in range(5):
        await log.append([action(f"c{number}", number)])
    found = await KafkaTail(kafka_bootstrap).latest(ACTIONS, 3)
    assert [record.value for record in found] == [b"4", b"3", b"2"]


async def test_the_records_of_one_customer_are_found_behind_any_number_of_other_partitions(
    kafka_bootstrap: str, log: KafkaEventLog
) -> None:
    await log.append([action("asha", 1), action("asha", 2)])
    await log.append([action(elsewhere("asha"), number) for number in range(300)])
    found = await KafkaTail(kafka_bootstrap).latest_of(ACTIONS, b"asha", 100)
    assert [record.value for record in found] == [b"2", b"1"]


async def test_a_tail_goes_on_before_the_offsets_that_were_reached(kafka_bootstrap: str, log: KafkaEventLog) -> None:
    for number in range(30):
        await log.append([action(f"c{number % 5}", number)])
    tail, ends, found = KafkaTail(kafka_bootstrap), dict[int, int](), list[bytes | None]()
    while records := await tail.latest(ACTIONS, 7, ends):
        found += [record.value for record in records]
        ends |= {record.partition: record.offset for record in records}
        await log.append([action("c1", 100)])
    assert found == [b"%d" % number for number in reversed(range(30))]


async def test_nobody_has_no_records(kafka_bootstrap: str, log: KafkaEventLog) -> None:
    tail = KafkaTail(kafka_bootstrap)
    assert await tail.latest(ACTIONS, 10) == []
    await log.append([action("asha", 1)])
    assert await tail.latest_of(ACTIONS, b"nobody", 10) == []


async def test_a_tail_of_a_broker_that_is_away_is_unavailable() -> None:
    with pytest.raises(LogUnavailable):
        await KafkaTail("127.0.0.1:9", timeout_s=1).latest(ACTIONS, 1)
