"""A dispatch queue in Redis, shared by any number of dispatchers, safe in a Redis Cluster.

Everything about one connector lies under the hash tag ``{journey:<workspace>:q:<connector>}``: its queue and the
ledger of its ids. So whatever must be atomic (queueing unless settled, settling, withdrawing) is one script over one
tag. The words of ``withdraw`` and ``ledger`` are ids without a connector, which a directory turns into one: a key of
its own per id, ``journey:<workspace>:action:<id>``, that holds the name of the connector whose tag to ask.

The directory is a pointer, never a fact about the action, and that makes two steps crash-safe:

* ``put`` points first (SET NX), then queues. A crash between leaves a pointer to a tag that knows nothing: the ledger
  answers None, a repeated put queues, a withdrawal is remembered in that very tag, where the put will find it.
* ``withdraw`` of an id without a pointer points it at the tag of no connector (''), then writes the cancellation
  there. SET NX decides the race with a put: whoever points first, both then work in the same tag or the put
  sees that the id is not its own.
* ``settle`` writes the ledger first and then gives the pointer the ledger's time to live. While an action is queued its
  pointer does not expire. A crash between leaves one small key behind that no longer expires, and no wrong answer.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.dispatch.queue import LEASE_ENDED, WITHDRAWN
from orchestrator.runtime.ports import LedgerEntry, Put, Queued

LEDGER_TTL_S = 7 * 86_400

#: Settled entries that ``recent`` can tell of, per connector.
RECENT_MAX = 1000

#: Actions that one script takes, so that a large batch does not hold up the server.
_BATCH = 200

_STRUCTURES = ("ready", "waiting", "leases", "deadlines", "ranks", "entries", "lapses", "withdrawn", "recent")
_SCRIPT = files(__package__).joinpath("redis_dispatch_queue.lua").read_text(encoding="utf-8")

#: The tag that holds what was withdrawn before anybody had heard of it.
_NOWHERE = ""

_NEVER = 9_999_999_999_999_999

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Queued)
_ledger_encoder = msgspec.json.Encoder()
_ledger_decoder = msgspec.json.Decoder(LedgerEntry)


class RedisDispatchQueue:
    """``DeliveryQueue`` over one workspace of a Redis 7 server or cluster.

    ``client`` must not decode responses. The ledger remembers settled ids for ``ledger_ttl_s``.
    """

    def __init__(self, client: Redis | RedisCluster, workspace: str, ledger_ttl_s: int = LEDGER_TTL_S) -> None:
        self._client = client
        self._workspace = workspace
        self._ledger_ttl_s = ledger_ttl_s
        self._script = client.register_script(_SCRIPT)

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled; atomic per action."""
        queued = 0
        for batch in _batched(actions):
            with _translated():
                owners = await self._point(batch)
                # An id belongs to one connector for ever; one that points elsewhere is known there.
                own = [one for one, owner in zip(batch, owners, strict=True) if owner == one.connector]
                for connector, group in _grouped(own, lambda one: one.connector).items():
                    queued += await self._run(connector, "put", *_placed(group), ids=[one.id for one in group])
        return Put(queued=queued, known=len(actions) - queued)

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Settle unclaimed actions as cancelled; mark claimed ones; remember unknown ones."""
        taken: set[str] = set()
        for batch in _batched(action_ids):
            with _translated():
                owners = dict(zip(batch, await self._point_nowhere(batch), strict=True))
                for connector, ids in _grouped(list(owners), owners.__getitem__).items():
                    entries = [
                        LedgerEntry(id=one, connector=connector, outcome="cancelled", at_ms=now_ms) for one in ids
                    ]
                    words = [word for entry in entries for word in (entry.id, _ledger_encoder.encode(entry))]
                    limits = (now_ms, self._ledger_ttl_s, RECENT_MAX)
                    done = [one.decode() for one in await self._run(connector, "withdraw", *limits, *words, ids=ids)]
                    await self._expire(done)
                    taken.update(done)
        return [one for one in action_ids if one in taken]

    async def claim(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease ready actions by rank."""
        if limit < 1:
            return []
        with _translated():
            # The script moves what has become ready in bounded steps and leases only when all of it has been moved,
            # so a flood neither blocks the server nor lets a low priority overtake a high one.
            while (leased := await self._run(connector, "claim", limit, now_ms, now_ms + lease_ms)) is None:
                pass
        return _leased(leased)

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease unclaimed actions whose deadline has come, earliest first."""
        with _translated():
            return _leased(await self._run(connector, "overdue", limit, now_ms, now_ms + lease_ms))

    async def settle(self, entry: LedgerEntry) -> None:
        """Take the action out of the queue and write its ledger entry."""
        words = (entry.id, _ledger_encoder.encode(entry), entry.at_ms, self._ledger_ttl_s, RECENT_MAX)
        with _translated():
            await self._run(entry.connector, "settle", *words, ids=[entry.id])
            # Written, not only given an end: an action that never was in a queue has no pointer yet.
            pipeline = self._client.pipeline(transaction=False)
            pipeline.set(self._pointer(entry.id), entry.connector, ex=self._ledger_ttl_s)
            pipeline.sadd(self._connectors, entry.connector)
            await pipeline.execute()

    async def retry(self, queued: Queued, at_ms: int) -> None:
        """Give a claimed action back; one that was settled meanwhile stays settled."""
        again = msgspec.structs.replace(queued, not_before=at_ms)
        with _translated():
            await self._run(queued.connector, "retry", *_placed([again]))

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue settled actions again, unless they were delivered."""
        again: list[str] = []
        for batch in _batched(actions):
            with _translated():
                # The pointer loses its end before the action is queued, so that it does not expire under it.
                pipeline = self._client.pipeline(transaction=False)
                for one in batch:
                    pipeline.set(self._pointer(one.id), one.connector)
                    pipeline.sadd(self._connectors, one.connector)
                await pipeline.execute()
                for connector, group in _grouped(batch, lambda one: one.connector).items():
                    ids = [one.id for one in group]
                    again += [one.decode() for one in await self._run(connector, "redrive", *_placed(group), ids=ids)]
        return again

    async def next_ready_ms(self, connector: str) -> int | None:
        """Return the earliest moment at which an action is ready or its lease ends."""
        with _translated():
            moment = await self._run(connector, "next_ready")
        return None if moment is None else int(moment)

    async def ledger(self, action_ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the settled entries, in the order asked."""
        with _translated():
            owners = await self._get_all([self._pointer(one) for one in action_ids])
            keys = [
                None if owner is None else self._ledger_key(owner.decode(), one)
                for one, owner in zip(action_ids, owners, strict=True)
            ]
            entries = iter(await self._get_all([key for key in keys if key is not None]))
        found = [None if key is None else next(entries) for key in keys]
        return [None if one is None else _ledger_decoder.decode(one) for one in found]

    async def recent(self, limit: int) -> list[LedgerEntry]:
        """Return the latest settled entries, newest first; at most ``RECENT_MAX`` of a connector."""
        if limit < 1:
            return []
        with _translated():
            connectors = sorted(map(_text, await self._client.smembers(self._connectors)))
            pipeline = self._client.pipeline(transaction=False)
            for connector in connectors:
                pipeline.zrange(f"{self._tag(connector)}:recent", 0, limit - 1, desc=True)
            keys = [
                self._ledger_key(connector, one.decode())
                for connector, ids in zip(connectors, await pipeline.execute(), strict=True)
                for one in ids
            ]
            entries = [_ledger_decoder.decode(one) for one in await self._get_all(keys) if one is not None]
        return sorted(entries, key=lambda entry: (-entry.at_ms, entry.id))[:limit]

    async def depth(self, connector: str) -> int:
        """Return how many actions are queued or leased."""
        with _translated():
            return int(await self._client.hlen(f"{self._tag(connector)}:ranks"))

    # ------------------------------------------------------------------------------------------------ keys

    def _tag(self, connector: str) -> str:
        return f"{{journey:{self._workspace}:q:{connector}}}"

    def _ledger_key(self, connector: str, action_id: str) -> str:
        return f"{self._tag(connector)}:done:{action_id}"

    def _pointer(self, action_id: str) -> str:
        return f"journey:{self._workspace}:action:{action_id}"

    @property
    def _connectors(self) -> str:
        return f"journey:{self._workspace}:connectors"

    # ------------------------------------------------------------------------------------------------ calls

    async def _run(self, connector: str, operation: str, *arguments: str | bytes | int, ids: Sequence[str] = ()) -> Any:
        tag = self._tag(connector)
        keys = [f"{tag}:{structure}" for structure in _STRUCTURES]
        keys += [self._ledger_key(connector, one) for one in ids]
        return await self._script(keys=keys, args=[operation, *arguments])

    async def _point(self, actions: Sequence[Queued]) -> list[str]:
        """Point ids without a pointer at their connectors; return where each points."""
        pipeline = self._client.pipeline(transaction=False)
        for connector in {one.connector for one in actions}:
            pipeline.sadd(self._connectors, connector)
        for one in actions:
            pipeline.set(self._pointer(one.id), one.connector, nx=True, get=True)
        before = (await pipeline.execute())[-len(actions) :]
        return [one.connector if old is None else old.decode() for one, old in zip(actions, before, strict=True)]

    async def _point_nowhere(self, action_ids: Sequence[str]) -> list[str]:
        """Point ids without a pointer at no connector, for the ledger's time; return where each points."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.sadd(self._connectors, _NOWHERE)
        for one in action_ids:
            pipeline.set(self._pointer(one), _NOWHERE, nx=True, get=True, ex=self._ledger_ttl_s)
        return [_NOWHERE if old is None else old.decode() for old in (await pipeline.execute())[1:]]

    async def _expire(self, action_ids: Sequence[str]) -> None:
        if action_ids:
            pipeline = self._client.pipeline(transaction=False)
            for one in action_ids:
                pipeline.expire(self._pointer(one), self._ledger_ttl_s)
            await pipeline.execute()

    async def _get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys that may lie in different slots."""
        if not keys:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
        return list(await pipeline.execute())


# ------------------------------------------------------------------------------------------------- encoding


def _placed(actions: Sequence[Queued]) -> list[str | bytes]:
    """Return id, rank and entry of each action, as the script takes them."""
    words: list[str | bytes] = []
    for one in actions:
        deadline = _NEVER if one.deadline_at is None else one.deadline_at
        rank = f"{one.priority}:{deadline:016d}:{one.not_before:016d}:{one.id}"
        words += (one.id, rank, _encoder.encode(one))
    return words


def _leased(words: Sequence[Any]) -> list[Queued]:
    """Return the actions of entries, lapses and withdrawn marks, as the script gives them."""
    leased: list[Queued] = []
    for index in range(0, len(words), 3):
        queued, lapses, withdrawn = _decoder.decode(words[index]), words[index + 1], words[index + 2]
        marks = (LEASE_ENDED,) * lapses + (WITHDRAWN,) * withdrawn
        leased.append(
            msgspec.structs.replace(queued, attempts=queued.attempts + lapses, history=(*queued.history, *marks))
        )
    return leased


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _grouped(items: Sequence[T], connector_of: Callable[[T], str]) -> Mapping[str, list[T]]:
    groups: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[connector_of(item)].append(item)
    return groups


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis: {error}") from error
