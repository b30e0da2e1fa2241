"""The timeline of the distributed engine: a bounded sorted set a customer and topic, written by a projector.

Keys are ``{journey:<workspace>:pN}:timeline:<topic>:<record key>``, under the tag of the customer's states, so one
script writes a whole batch of a partition. An entry is ordered by its stamp and begins with its partition and offset:
writing it again writes the same bytes, and one that is older than the oldest kept falls out at once.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.adapters.redis_round_trip import Client, Script, translated
from orchestrator.runtime.ports import Record
from orchestrator.runtime.timeline import ENTRIES_MAX, KEPT_MS, marks_erasure, unforgotten

_PLACE = struct.Struct(">IQ")


class RedisTimeline:
    """``TimelineKeeper`` over Redis 6.2 or later, or a Redis Cluster.

    ``shard_of`` says which partition of ``journey.events`` a record key belongs to. Raises ``StoreUnavailable`` for
    whatever Redis answers or fails to answer; every call may then be repeated.
    """

    def __init__(
        self, client: Client, workspace: str, shard_of: Callable[[bytes], int], kept_ms: int = KEPT_MS
    ) -> None:
        """The client belongs to the caller and must not decode responses."""
        self._client = client
        self._workspace = workspace
        self._shard_of = shard_of
        self._kept_ms = kept_ms
        self._keep = Script(client, Path(__file__).with_suffix(".lua").read_text(encoding="utf-8"))

    async def recent(self, topic: str, key: bytes, limit: int = ENTRIES_MAX) -> list[Record]:
        """Return the newest records of a key, oldest first."""
        with translated():
            rows: Any = await self._client.zrange(self._key(topic, key), -min(limit, ENTRIES_MAX), -1, withscores=True)
        return [_record(key, entry, int(stamp_ms)) for entry, stamp_ms in rows]

    async def keep(self, topic: str, records: Sequence[Record]) -> None:
        """Keep records; those that are known, or older than the newest ``ENTRIES_MAX``, change nothing."""
        shards: defaultdict[int, defaultdict[bytes, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in records:
            if record.key is not None:
                shards[self._shard_of(record.key)][record.key].append(record)
        for customers in shards.values():
            await self._keep_shard(topic, customers)

    async def _keep_shard(self, topic: str, customers: Mapping[bytes, Sequence[Record]]) -> None:
        arguments: list[Any] = [ENTRIES_MAX, self._kept_ms]
        for records in customers.values():
            newest = unforgotten(topic, records)[-ENTRIES_MAX:]
            forgotten = marks_erasure(topic, newest[0].value)
            arguments += (len(newest), newest[0].stamp_ms if forgotten else "")
            for record in newest:
                arguments += (record.stamp_ms, _PLACE.pack(record.partition, record.offset) + (record.value or b""))
        with translated():
            await self._keep.call([self._key(topic, key) for key in customers], arguments)

    def _key(self, topic: str, key: bytes) -> bytes:
        return f"{{journey:{self._workspace}:p{self._shard_of(key)}}}:timeline:{topic}:".encode() + key


def _record(key: bytes, entry: bytes, stamp_ms: int) -> Record:
    partition, offset = _PLACE.unpack_from(entry)
    return Record(partition, offset, stamp_ms, key, entry[_PLACE.size :])
