"""What no worker can beat: reading and decoding each event; with ``--redis-port`` also one atomic write a batch.

The decoding makes whole objects of the events, as whoever reads their properties must.
The write sets, for every customer of the batch, a state of ``--state-bytes`` bytes, and the next offset, in one script.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import redis.asyncio as redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from load_tests.bench.contenders.stopwatch import Stopwatch, options

BATCH_EVENTS_MAX = 500

_WRITE = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('HSET', KEYS[2], 'next_offset', ARGV[1])
"""


class Event(msgspec.Struct, gc=False):
    """An event in normal form."""

    id: str
    type: str
    customer_id: str
    occurred_at: int
    properties: dict[str, Any]
    context: dict[str, Any]
    source: str = ""


async def run(bootstrap: str, watch: Stopwatch, partitions: list[TopicPartition], write: Any) -> None:
    """Drain the topic until the watch is done."""
    decode = msgspec.json.Decoder(Event).decode
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        while not watch.done:
            fetched = await consumer.getmany(timeout_ms=1_000, max_records=BATCH_EVENTS_MAX)
            for where, records in fetched.items():
                events = [decode(record.value) for record in records]
                if write is not None:
                    await write(where.partition, events, records[-1].offset + 1)
                watch.passed(len(records))
    finally:
        await consumer.stop()


def writer(client: redis.Redis, state: bytes) -> Any:
    """Return a call that writes one state for each customer of a batch, and the offset, atomically."""
    script = client.register_script(_WRITE)

    async def write(partition: int, events: list[Event], next_offset: int) -> None:
        changes: list[Any] = []
        for customer_id in {event.customer_id for event in events}:
            changes += (customer_id, state)
        keys = [f"{{bench:p{partition}}}:states", f"{{bench:p{partition}}}:meta"]
        await script(keys=keys, args=[next_offset, *changes])

    return write


async def main() -> None:
    """Drain and report."""
    parser = options(__doc__)
    parser.add_argument("--redis-port", type=int, help="write every batch to this Redis")
    parser.add_argument("--state-bytes", type=int, default=480, help="size of a state")
    given = parser.parse_args()
    watch = Stopwatch(warm=given.warm, events=given.events)
    partitions = [TopicPartition(given.topic, number) for number in range(given.partitions)]
    client = None if given.redis_port is None else redis.Redis(port=given.redis_port)
    try:
        write = None if client is None else writer(client, bytes(given.state_bytes))
        await run(given.bootstrap, watch, partitions, write)
    finally:
        if client is not None:
            await client.aclose()
    watch.report()


if __name__ == "__main__":
    asyncio.run(main())
