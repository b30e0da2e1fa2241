"""A producer that keeps to a plan: events at a steady rate, from a process of its own.

    python -m load_tests.pacer --bootstrap 127.0.0.1:9092 --partitions 4 --rate 5000 --seconds 20

The plan says when each event is to be sent, in ticks of 5 ms. Every event carries that moment as its property
``sent_at``, whether or not it could be kept, so that a stall of the system under test is measured by all the events
that came during it and not only by the one that met it (no coordinated omission). Prints one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec
from aiokafka import AIOKafkaProducer

from load_tests.shoppers import MINUTE_MS, Arrival, Shoppers
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.runtime.ports import EVENTS

TICK_MS = 5
#: Delays under way are cut to this, so that an event's time stays near the moment at which it is sent.
DELAY_MS_MAX = 1_000

_encode = msgspec.json.Encoder().encode


class Plan:
    """Which arrivals are due in which tick."""

    def __init__(self, arrivals: Sequence[Arrival], rate: float) -> None:
        """Spread the arrivals evenly, ``rate`` a second."""
        self._arrivals = arrivals
        self._per_tick = rate * TICK_MS / 1000

    def __iter__(self) -> Iterator[Sequence[Arrival]]:
        """Yield each tick's arrivals."""
        done, tick = 0, 0
        while done < len(self._arrivals):
            tick += 1
            end = round(tick * self._per_tick)
            yield self._arrivals[done:end]
            done = end


class Pacer:
    """Sends a plan; ``behind_ms_max`` is how far it ever fell behind it."""

    def __init__(self, producer: AIOKafkaProducer, partitions: int) -> None:
        self._producer = producer
        self._partitions = partitions
        self._clock = SystemClock()
        self._pending: set[asyncio.Future[object]] = set()
        self.sent = 0
        self.behind_ms_max = 0.0
        self.began_at_ms = 0

    async def send(self, plan: Plan) -> None:
        """Send every tick at its moment, or at once when that has passed; return when all is acknowledged."""
        began, self.began_at_ms = time.perf_counter(), self._clock.now_ms()
        for number, arrivals in enumerate(plan):
            ahead_s = began + number * TICK_MS / 1000 - time.perf_counter()
            self.behind_ms_max = max(self.behind_ms_max, -ahead_s * 1000)
            # Even a pacer that is late lets its producer's own work go on.
            await asyncio.sleep(max(0.0, ahead_s))
            await self._send_tick(arrivals, self.began_at_ms + number * TICK_MS)
        await asyncio.gather(*self._pending)

    async def _send_tick(self, arrivals: Sequence[Arrival], sent_at_ms: int) -> None:
        records: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        for arrival in arrivals:
            event = arrival.event
            key = event["customer_id"].encode()
            properties = event["properties"]
            if event["type"] != "identify":
                properties = {**properties, "sent_at": sent_at_ms}
            occurred_at = sent_at_ms - min(arrival.delay_ms, DELAY_MS_MAX)
            value = _encode({**event, "properties": properties, "occurred_at": occurred_at})
            records[partition_of(key, self._partitions)].append((key, value))
        for partition, pairs in records.items():
            batch = self._producer.create_batch()
            for key, value in pairs:
                if batch.append(key=key, value=value, timestamp=None) is None:
                    await self._send_batch(batch, partition)
                    batch = self._producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            await self._send_batch(batch, partition)
        self.sent += len(arrivals)

    async def _send_batch(self, batch: object, partition: int) -> None:
        sending = await self._producer.send_batch(batch, EVENTS, partition=partition)
        self._pending.add(sending)
        sending.add_done_callback(self._pending.discard)


async def main() -> None:
    """Make the events, tell that they are ready, send them and report."""
    given = _options()
    number = round(given.rate * given.seconds)
    shoppers = Shoppers(
        seed=given.seed,
        customers=given.customers,
        start_ms=SystemClock().now_ms(),
        span_ms=20 * MINUTE_MS,
        run=given.run,
        newcomers=given.newcomers,
        consents=given.consents,
    )
    plan = Plan(shoppers.arrivals(number), given.rate)
    producer = AIOKafkaProducer(bootstrap_servers=given.bootstrap, linger_ms=0, max_batch_size=200_000)
    await producer.start()
    pacer = Pacer(producer, given.partitions)
    try:
        await pacer.send(plan)
    finally:
        await producer.stop()
    result = {"sent": pacer.sent, "behind_ms_max": round(pacer.behind_ms_max), "began_at_ms": pacer.began_at_ms}
    sys.stdout.write(json.dumps(result) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m load_tests.pacer", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="where Kafka is")
    parser.add_argument("--partitions", type=int, required=True, help="partitions of journey.events")
    parser.add_argument("--rate", type=float, required=True, help="events a second")
    parser.add_argument("--seconds", type=float, required=True, help="how long")
    parser.add_argument("--customers", type=int, default=20_000, help="customers who come again")
    parser.add_argument("--newcomers", type=float, default=0.2, help="share of sessions of people never seen before")
    parser.add_argument("--consents", type=float, default=0.9, help="share of customers who want offers")
    parser.add_argument("--run", default="paced", help="what customers' ids begin with")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
