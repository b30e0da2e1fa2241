"""A member of a consumer group, over a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from orchestrator.adapters.kafka_group import KafkaGroupReader
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.runtime.ports import ACTIONS, Outgoing, Record

pytestmark = pytest.mark.integration

GROUP = "settling"


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
