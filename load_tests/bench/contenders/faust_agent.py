"""A stock Faust agent with a table that does the same journey by hand: as its documentation shows, nothing bent."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import faust

from load_tests.bench.contenders.shop_by_hand import applied
from load_tests.bench.contenders.stopwatch import Stopwatch, options


async def main() -> None:
    """Drain and report."""
    given = options(__doc__).parse_args()
    logging.disable(logging.ERROR)
    watch = Stopwatch(warm=given.warm, events=given.events)
    app = faust.App(
        given.name,
        broker=f"kafka://{given.bootstrap}",
        store="memory://",
        topic_partitions=given.partitions,
        consumer_auto_offset_reset="earliest",
        stream_recovery_delay=0.0,
        web_enabled=False,
        datadir=given.folder,
    )
    events = app.topic(given.topic, key_type=bytes, value_serializer="json")
    sent = app.topic(f"{given.name}-actions", key_type=bytes, value_serializer="json")
    customers = app.Table("customers", partitions=given.partitions)
    finished = asyncio.Event()
    actions_sent = 0

    @app.agent(events)  # type: ignore[untyped-decorator]
    async def decide(stream: Any) -> None:
        nonlocal actions_sent
        async for event in stream:
            customer_id = event["customer_id"]
            customers[customer_id], actions = applied(customers.get(customer_id), event)
            for action in actions:
                await sent.send(key=customer_id.encode(), value=action)
            actions_sent += len(actions)
            watch.passed()
            if watch.done:
                finished.set()

    await app.start()
    await finished.wait()
    watch.report(actions=actions_sent)
    # What is left to do is of no interest, and Faust would take seconds to leave its group.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
