"""A member of a consumer group, over a real Kafka."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from orchestrator.adapters.kafka_group import KafkaGroupReader
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.runtime.ports import ACTIONS, Outgoing, Record

pytestmark = pytest.mark.integration

GROUP = "settling"
#: Enough that every partition has some.
OTHERS = [Outgoing(ACTIONS, b"c%d" % number, b"other") for number in range(20)]


async def read(bootstrap: str, *, first: bytes, seconds: float) -> None:
    """Read as a member of the group: ``first`` comes first. Go on for a while, then end."""
    taken: list[bytes] = []
    something = asyncio.Event()

    async def take(records: Sequence[Record]) -> None:
        taken.extend(record.value for record in records)
        something.set()

    reader = KafkaGroupReader(bootstrap, group=GROUP, topic=ACTIONS, session_timeout_s=6)
    task = asyncio.create_task(reader.run(take))
    try:
        async with asyncio.timeout(30):
            await something.wait()
        await asyncio.sleep(seconds)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert taken[0] == first


async def test_what_was_taken_a_moment_ago_comes_again_and_what_is_settled_does_not(
    kafka_bootstrap: str, fresh_topics: Any
) -> None:
    """A power cut can undo the last second of the store that the records went to."""
    await fresh_topics(1)
    log = KafkaEventLog(kafka_bootstrap)
    await log.append([Outgoing(ACTIONS, b"c1", b"first")])
    await read(kafka_bootstrap, first=b"first", seconds=0.5)
    await read(kafka_bootstrap, first=b"first", seconds=4.5)
    await log.append([Outgoing(ACTIONS, b"c1", b"second")])
    await read(kafka_bootstrap, first=b"second", seconds=0)
    await log.close()


async def test_when_the_store_was_started_again_what_is_not_acknowledged_is_taken_again(
    kafka_bootstrap: str, fresh_topics: Any
) -> None:
    await fresh_topics(2)
    log = KafkaEventLog(kafka_bootstrap)
    await log.append([Outgoing(ACTIONS, b"c1", b"settled")])
    taken: list[bytes] = []
    lives = ["one"]

    async def take(records: Sequence[Record]) -> None:
        taken.extend(record.value or b"" for record in records)

    async def life() -> str:
        return lives[-1]

    async def until_taken(number: int) -> None:
        async with asyncio.timeout(30):
            while len(taken) < number:  # noqa: ASYNC110 - there is nobody who would tell.
                await asyncio.sleep(0.02)

    reader = KafkaGroupReader(kafka_bootstrap, group="stepping", topic=ACTIONS, session_timeout_s=6, life=life)
    task = asyncio.create_task(reader.run(take))
    await until_taken(1)
    await asyncio.sleep(4)
    await log.append([Outgoing(ACTIONS, b"c1", b"lost"), Outgoing(ACTIONS, b"c2", b"lost"), *OTHERS])
    await until_taken(3 + len(OTHERS))
    lives.append("two")
    await until_taken(2 * (2 + len(OTHERS)) + 1)
    await asyncio.sleep(2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await log.close()
    assert Counter(taken) == {b"settled": 1, b"lost": 4, b"other": 2 * len(OTHERS)}
