"""The state store of the distributed engine: Redis, one hash tag a partition, one script a write.

Keys of partition N of a workspace share the tag ``{journey:<workspace>:pN}``, so they live on one shard of a
Redis Cluster and a script may touch them all:

    ...:meta     hash    epoch, sequence, next_offset, clock_ms, log_id, outbox_end
    ...:states   hash    customer id -> encoded state
    ...:wakes    zset    customer id by due moment
    ...:outbox   list    encoded records; the last one has the number ``outbox_end``
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.adapters.ownership import check_epoch, follows
from orchestrator.adapters.redis_round_trip import Client, Script, translated
from orchestrator.runtime.ports import Commit, OutboxEntry, Outgoing, Ownership, Wake

_SCRIPTS = Path(__file__).parent

#: Customers that a scan asks for at once.
_SCAN_COUNT = 500

#: Customers asked for in one command, which keeps a single answer small enough not to delay other clients.
_LOAD_MAX = 2_000


class RedisStateStore:
    """``StateStore`` over Redis 6.2 or later, or a Redis Cluster.

    A write is atomic and applied once. It is as durable as Redis is told to be: with ``appendfsync always`` when
    the call returns, with ``everysec`` within a second, and then states, outbox and offset are lost together, which
    replaying the log repairs. Raises ``StoreUnavailable`` for whatever Redis answers or fails to answer; every
    call may then be repeated.
    """

    def __init__(self, client: Client, workspace: str) -> None:
        """The client belongs to the caller and must not decode responses."""
        self._client = client
        self._workspace = workspace
        self._acquire = Script(client, _script("acquire"))
        self._commit = Script(client, _script("commit"))
        self._outbox = Script(client, _script("outbox"))
        self._trim = Script(client, _script("trim"))
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[str, bytes, bytes]).decode

    async def acquire(self, partition: int) -> Ownership:
        """Take the partition under a new epoch, above every epoch given before."""
        with translated():
            answer = await self._acquire.call([self._key(partition, "meta")])
        epoch, next_offset, sequence, clock_ms, log_id, outbox_end = answer
        return Ownership(
            epoch=int(epoch),
            next_offset=int(next_offset) if next_offset else None,
            sequence=int(sequence),
            clock_ms=int(clock_ms),
            log_id=log_id.decode(),
            outbox_end=int(outbox_end),
        )

    async def load(self, partition: int, customer_ids: Sequence[str]) -> list[bytes | None]:
        """Return the stored states in the order asked, None for customers never seen or deleted."""
        key = self._key(partition, "states")
        found: list[bytes | None] = []
        with translated():
            for start in range(0, len(customer_ids), _LOAD_MAX):
                answer: Any = await self._client.hmget(key, list(customer_ids[start : start + _LOAD_MAX]))
                found += answer
        return found

    async def scan(self, partition: int) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Yield customers as HSCAN brings them: each at least once, while the hash is being written."""
        key, cursor = self._key(partition, "states"), 0
        while True:
            with translated():
                answer: Any = await self._client.hscan(key, cursor, count=_SCAN_COUNT)
            cursor, found = int(answer[0]), answer[1]
            if found:
                yield [(customer_id.decode(), state) for customer_id, state in found.items()]
            if not cursor:
                return

    async def due(self, partition: int, until_ms: int, limit: int) -> list[Wake]:
        """Return at most ``limit`` wakes with ``due_ms <= until_ms``, ordered by (due_ms, customer_id)."""
        with translated():
            rows: Any = await self._client.zrange(
                self._key(partition, "wakes"), "-inf", until_ms, byscore=True, offset=0, num=limit, withscores=True
            )
        return [Wake(int(due_ms), customer_id.decode()) for customer_id, due_ms in rows]

    async def next_wake_ms(self, partition: int) -> int | None:
        """Return the earliest wake of the partition, or None."""
        with translated():
            rows: Any = await self._client.zrange(self._key(partition, "wakes"), 0, 0, withscores=True)
        return int(rows[0][1]) if rows else None

    async def commit(self, partition: int, commit: Commit) -> None:
        """Write everything or nothing; a commit that was applied before changes nothing.

        Deleting a state ends its wake as well, unless the commit sets one. Raises ``Fenced`` under any epoch but
        the latest, and when commits between are missing from the store.
        """
        keys = [self._key(partition, name) for name in ("meta", "states", "wakes", "outbox")]
        arguments: list[Any] = [commit.epoch, commit.sequence, commit.next_offset, commit.clock_ms, commit.log_id]
        arguments += self._changes(commit)
        with translated():
            epoch, sequence = await self._commit.call(keys, arguments)
        check_epoch(partition, commit.epoch, epoch)
        follows(partition, commit.sequence, sequence)

    async def outbox(self, partition: int) -> list[OutboxEntry]:
        """Return what has not been trimmed, in order; numbers start at 1."""
        with translated():
            last, entries = await self._outbox.call([self._key(partition, "meta"), self._key(partition, "outbox")])
        first = last - len(entries) + 1
        return [OutboxEntry(number, Outgoing(*self._decode(body))) for number, body in enumerate(entries, start=first)]

    async def trim(self, partition: int, epoch: int, through: int) -> None:
        """Forget outbox entries up to number ``through``. Raise ``Fenced`` under any epoch but the latest."""
        keys = [self._key(partition, "meta"), self._key(partition, "outbox")]
        with translated():
            latest = await self._trim.call(keys, [epoch, through])
        check_epoch(partition, epoch, latest)

    def _key(self, partition: int, name: str) -> str:
        return f"{{journey:{self._workspace}:p{partition}}}:{name}"

    def _changes(self, commit: Commit) -> Iterable[Any]:
        """Return the five lists of the commit script, each with its length in front."""
        kept = [part for item in commit.states.items() if item[1] is not None for part in item]
        deleted = [customer_id for customer_id, state in commit.states.items() if state is None]
        woken = [part for customer_id, due in commit.wakes.items() if due is not None for part in (due, customer_id)]
        unwoken = [customer_id for customer_id, due in commit.wakes.items() if due is None]
        outbox = [self._encode((record.topic, record.key, record.value)) for record in commit.outbox]
        return [part for chosen in (kept, deleted, woken, unwoken, outbox) for part in (len(chosen), *chosen)]


def _script(name: str) -> str:
    return (_SCRIPTS / f"redis_{name}.lua").read_text(encoding="utf-8")
