"""A worker process for tests: it applies every record to a Redis store and tells what happened, a line each.

Usage: faust_worker_process.py BOOTSTRAP REDIS_URL WORKSPACE GROUP SESSION_TIMEOUT_S
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from orchestrator.adapters.faust_worker import run_worker
from orchestrator.adapters.redis_state_store import RedisStateStore
from orchestrator.errors import JourneyError
from orchestrator.runtime.ports import DECISIONS, Commit, Outgoing, Ownership, Record
from orchestrator.settings import Settings


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


class Journal:
    """Writes the value of every record it is given to the partition's outbox, once: the outbox is what was applied."""

    def __init__(self, store: RedisStateStore) -> None:
        self._store = store
        self._owned: dict[int, Ownership] = {}
        self._sequences: dict[int, int] = {}

    async def assigned(self, partition: int) -> int | None:
        owned = self._owned[partition] = await self._store.acquire(partition)
        self._sequences[partition] = owned.sequence
        tell("assigned", partition, owned.next_offset)
        return owned.next_offset

    async def revoked(self, partition: int) -> None:
        del self._owned[partition]
        tell("revoked", partition)

    async def process(self, partition: int, records: Sequence[Record]) -> None:
        self._sequences[partition] += 1
        await self._store.commit(
            partition,
            Commit(
                epoch=self._owned[partition].epoch,
                sequence=self._sequences[partition],
                next_offset=records[-1].offset + 1,
                clock_ms=records[-1].stamp_ms,
                states={},
                wakes={},
                outbox=[Outgoing(DECISIONS, record.key or b"", record.value or b"") for record in records],
            ),
        )
        tell("applied", partition, len(records))

    async def advance(self, partition: int, caught_up: Callable[[], bool]) -> None:
        pass


async def main(bootstrap: str, redis_url: str, workspace: str, group: str, session_timeout_s: str) -> None:
    settings = Settings(
        kafka_bootstrap=bootstrap,
        kafka_group=group,
        session_timeout_s=float(session_timeout_s),
        batch_events_max=50,
        partitions=4,
    )
    # Without a timeout: a process that was frozen would take its own pause for a silence of Redis.
    client = Redis.from_url(redis_url, socket_timeout=None)

    async def ready() -> None:
        tell("ready")

    try:
        await run_worker(settings, Journal(RedisStateStore(client, workspace)), ready)
        tell("left")
    finally:
        await client.aclose()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except JourneyError as error:
        sys.exit(f"{type(error).__name__}: {error}")
