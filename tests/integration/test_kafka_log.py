"""What the log promises over a real Kafka, also while the broker is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from load_tests.servers import LocalKafka
from orchestrator.adapters.kafka_log import KafkaEventLog, KafkaLogReader
from orchestrator.adapters.kafka_topics import KafkaTopics, partition_of
from orchestrator.errors import ConfigurationError, LogUnavailable, PositionLost
from orchestrator.runtime.ports import ACTIONS, ANONYMOUS, ENGINE, EVENTS, Outgoing, Record

pytestmark = pytest.mark.integration


@pytest.fixture
async def log(kafka_bootstrap: str) -> AsyncIterator[KafkaEventLog]:
    opened = KafkaEventLog(kafka_bootstrap)
    yield opened
    await opened.close()


@pytest.fixture
def reader(kafka_bootstrap: str) -> KafkaLogReader:
    return KafkaLogReader(kafka_bootstrap)


def event(key: str, value: bytes = b"{}") -> Outgoing:
    return Outgoing(EVENTS, key.encode(), value)


async def read(reader: KafkaLogReader, partition: int, offset: int, count: int, topic: str = EVENTS) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(30):
        async for records in reader.read(topic, partition, offset):
            found += records
            if len(found) >= count:
                return found
    raise AssertionError("a reader ended by itself")


async def test_what_was_appended_is_read_back_whole_and_stamped_by_the_log(
    fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader
) -> None:
    await fresh_topics(1)
    every = bytes(range(256))
    await log.append([Outgoing(EVENTS, every, every), event("c2", b"")])
    await log.append([event("c1", b"later")])

    first, second, third = await read(reader, 0, 0, 3)

    assert (first.partition, first.offset, first.key, first.value, first.headers) == (0, 0, every, every, ())
    assert (second.offset, second.key, second.value) == (1, b"c2", b"")
    assert first.stamp_ms == second.stamp_ms <= third.stamp_ms


@pytest.mark.parametrize("number", [1, 20], ids=["one by one", "in a batch of our own"])
async def test_a_record_says_whom_it_is_from_in_a_header_of_its_own(
    fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader, number: int
) -> None:
    await fresh_topics(1)
    producers = ["shop", "k" * 64, ENGINE, ANONYMOUS, ""]
    for producer in producers:
        await log.append([Outgoing(EVENTS, b"c1", b"{}", producer)] * number)
    found = await read(reader, 0, 0, number * len(producers))
    assert [one.producer for one in found[::number]] == producers
    assert {one.headers for one in found} == {()}


async def test_records_of_one_key_keep_their_order_in_the_partition_that_the_key_tells(
    fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader
) -> None:
    await fresh_topics(3)
    await log.append([event(f"c{n % 20}", str(n).encode()) for n in range(2_000)])

    ends = await reader.end_offsets(EVENTS)
    assert sum(ends.values()) == 2_000
    assert await reader.beginning_offsets(EVENTS) == {0: 0, 1: 0, 2: 0}
    for partition, end in ends.items():
        records = await read(reader, partition, 0, end)
        assert {partition_of(record.key or b"", 3) for record in records} == {partition}
        assert [record.offset for record in records] == list(range(end))
        for key in {record.key for record in records}:
            numbers = [int(record.value or b"") for record in records if record.key == key]
            assert numbers == sorted(numbers)


#: What Kafka's own client is tested with (UtilsTest.testMurmur2).
MURMUR2 = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "murmur2"), MURMUR2)
def test_the_partition_of_a_key_is_the_one_that_kafkas_own_clients_choose(key: bytes, murmur2: int) -> None:
    assert partition_of(key, 997) == (murmur2 & 0x7FFFFFFF) % 997


async def test_concurrent_appends_all_arrive_once(
    fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader
) -> None:
    await fresh_topics(1)
    await asyncio.gather(*(log.append([event("c1", str(n).encode())]) for n in range(200)))
    records = await read(reader, 0, 0, 200)
    assert sorted(int(record.value or b"") for record in records) == list(range(200))


async def test_a_reader_waits_for_records_to_come(
    fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader
) -> None:
    await fresh_topics(1)
    waiting = asyncio.create_task(read(reader, 0, 0, 1))
    await log.append([event("c1", b"late")])
    assert [record.value for record in await waiting] == [b"late"]


async def test_a_position_beyond_the_end_is_lost_not_reset(fresh_topics: Any, reader: KafkaLogReader) -> None:
    await fresh_topics(1)
    with pytest.raises(PositionLost) as refusal:
        await read(reader, 0, 5, 1)
    assert str(refusal.value) == (
        "Offset 5 of journey.events, partition 0, lies beyond the end of the log, 0. "
        "The log was created anew or restored from an older copy; restore the store that goes with it."
    )


async def test_a_partition_that_does_not_exist_is_named(fresh_topics: Any, reader: KafkaLogReader) -> None:
    await fresh_topics(2)
    with pytest.raises(ConfigurationError, match=r"^Topic journey\.events has no partition 2\.$"):
        await read(reader, 2, 0, 1)


@pytest.mark.parametrize("size", [2_000_000, 9_000_000], ids=["the broker refuses it", "the client refuses it"])
async def test_a_record_too_large_is_refused_and_the_log_goes_on(
    fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader, size: int
) -> None:
    await fresh_topics(1)
    with pytest.raises(ConfigurationError) as refusal:
        await log.append([event("c1"), event("c2", b"x" * size)])
    assert str(refusal.value) == (
        f"A record of {size} bytes for journey.events is larger than Kafka takes (8388608 bytes here, "
        "max.message.bytes there); let what produces it say less."
    )
    await log.append([event("c3", b"after")])
    last = (await reader.end_offsets(EVENTS))[0] - 1
    assert [record.value for record in await read(reader, 0, last, 1)] == [b"after"]


async def test_our_own_topics_take_large_records(fresh_topics: Any, log: KafkaEventLog, reader: KafkaLogReader) -> None:
    await fresh_topics(1)
    await log.append([Outgoing(ACTIONS, b"c1", b"x" * 3_000_000)])
    assert [len(record.value or b"") for record in await read(reader, 0, 0, 1, topic=ACTIONS)] == [3_000_000]


# ------------------------------------------------------------------------------------------ the broker away


@pytest.fixture(scope="module")
def own_kafka(say: Callable[[str], None]) -> Iterator[LocalKafka]:
    """A broker of this module's own, to be frozen and killed."""
    say("Starting a second Kafka, to be killed ...")
    with LocalKafka(say=say) as kafka:
        yield kafka


@pytest.mark.parametrize("way", ["frozen", "killed"])
async def test_nothing_is_acknowledged_while_the_broker_is_away_and_the_log_goes_on_after(
    own_kafka: LocalKafka, way: str
) -> None:
    topics = KafkaTopics(own_kafka.bootstrap, partitions=1)
    await topics.ensure()
    log, reader = KafkaEventLog(own_kafka.bootstrap, timeout_s=1.5), KafkaLogReader(own_kafka.bootstrap)
    await log.append([event("c1", b"before")])
    start = (await reader.end_offsets(EVENTS))[0] - 1

    if way == "frozen":
        own_kafka.pause()
    else:
        own_kafka.kill()
    try:
        with pytest.raises(LogUnavailable) as refusal:
            await log.append([event("c1", b"during")])
        with pytest.raises(LogUnavailable):
            await KafkaTopics(own_kafka.bootstrap, partitions=1, timeout_s=1).log_id()
    finally:
        await asyncio.to_thread(own_kafka.resume if way == "frozen" else own_kafka.start)

    assert str(refusal.value) == f"Kafka at {own_kafka.bootstrap}: TimeoutError"
    async with asyncio.timeout(60):
        await append_when_possible(log, event("c1", b"after"))
        values = [record.value for record in await read(reader, 0, start, 2)]
    await log.close()
    assert values[0] == b"before"
    assert b"after" in values


async def append_when_possible(log: KafkaEventLog, record: Outgoing) -> None:
    while True:
        try:
            return await log.append([record])
        except LogUnavailable:
            continue
