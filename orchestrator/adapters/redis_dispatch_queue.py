"""A dispatch queue in Redis, shared by any number of dispatchers, safe in a Redis Cluster.

Everything about one connector lies under the hash tag ``{journey:<workspace>:q:<connector>}``: its queue, the use of
its quota, its bookings, and the ledger of its ids. So whatever must be atomic (queueing unless settled, claiming
within the quota, settling, withdrawing) is one script over one tag. Withdrawals, releases and look-ups name
ids without a connector, which a directory turns into one: a key of its own per id,
``journey:<workspace>:action:<id>``, that holds the name of the connector whose tag to ask.

The directory is a pointer, never a fact about the action, and that makes two steps crash-safe:

* ``put`` and ``book`` point first (SET NX), then queue or book. A crash between leaves a pointer to a tag that knows
  nothing: the ledger answers None, a repeated put queues, a withdrawal is remembered in that very tag, where the put
  will find it.
* ``withdraw`` of an id without a pointer points it at the tag of no connector (''), then writes the cancellation
  there. SET NX decides the race with a put: whoever points first, both then work in the same tag or the put
  sees that the id is not its own.
* ``settle`` writes the ledger first and then gives the pointer the ledger's time to live. While an action is queued its
  pointer does not expire. A crash between leaves one small key behind that no longer expires, and no wrong answer.

Settlements and retries that finish at the same time share a round trip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

import msgspec

from orchestrator.adapters.redis_dispatch_words import Keys, below, encoded, leased_of, placed, quota_words
from orchestrator.adapters.redis_round_trip import Client, Command, Script, SharedTrip, Word, pipelined, translated
from orchestrator.runtime.dispatch.attempt import is_kept
from orchestrator.runtime.dispatch.queue import BOOKING_KEPT_MS
from orchestrator.runtime.ports import Claim, GroupLoad, LedgerEntry, Noted, Occupancy, Put, Queued, Quota

LEDGER_TTL_S = 7 * 86_400

#: Settled entries that ``recent`` can tell of, per connector.
RECENT_MAX = 1000

#: Actions that one script takes, so that a large batch does not hold up the server.
_BATCH = 200

_SCRIPT = "".join(
    files(__package__).joinpath(f"redis_dispatch_{part}.lua").read_text(encoding="utf-8")
    for part in ("queue", "operations")
)

#: The tag that holds what was withdrawn before anybody had heard of it.
_NOWHERE = ""

T = TypeVar("T")

_ledger_encoder = msgspec.json.Encoder()
_ledger_decoder = msgspec.json.Decoder(LedgerEntry)


@dataclass(frozen=True, slots=True)
class _Change:
    """A settlement or a retry on its way: the script's words for it, and the id to point at its ledger, if any."""

    connector: str
    operation: str
    words: tuple[Word, ...]
    settled_id: str = ""


class RedisDispatchQueue:
    """``DeliveryQueue`` over one workspace of a Redis 7 server or cluster.

    ``client`` must not decode responses. The ledger remembers settled ids for ``ledger_ttl_s``.
    """

    def __init__(self, client: Client, workspace: str, ledger_ttl_s: int = LEDGER_TTL_S) -> None:
        self._client = client
        self._keys = Keys(workspace)
        self._ledger_ttl_s = ledger_ttl_s
        self._script = Script(client, _SCRIPT)
        self._changes = SharedTrip(self._apply, _BATCH)

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled; atomic per action."""
        queued = 0
        for batch in _batched(actions):
            with translated():
                owners = await self._point([(one.id, one.connector) for one in batch])
                # An id belongs to one connector for ever; one that points elsewhere is known there.
                own = [one for one, owner in zip(batch, owners, strict=True) if owner == one.connector]
                calls = [
                    self._call(connector, "put", *placed(group), ids=[one.id for one in group])
                    for connector, group in _grouped(own, lambda one: one.connector).items()
                ]
                queued += sum(await self._script.call_all(calls))
        return Put(queued=queued, known=len(actions) - queued)

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Settle unclaimed actions as cancelled; mark claimed ones; remember unknown ones."""
        taken: set[str] = set()
        for batch in _batched(action_ids):
            with translated():
                owners = dict(zip(batch, await self._point_nowhere(batch), strict=True))
                for connector, ids in _grouped(list(owners), owners.__getitem__).items():
                    entries = [
                        LedgerEntry(id=one, connector=connector, outcome="cancelled", at_ms=now_ms) for one in ids
                    ]
                    words = [word for entry in entries for word in (entry.id, _ledger_encoder.encode(entry))]
                    limits = (now_ms, self._ledger_ttl_s, RECENT_MAX)
                    done = [one.decode() for one in await self._run(connector, "withdraw", *limits, *words, ids=ids)]
                    await pipelined(
                        self._client, [("EXPIRE", self._keys.pointer(one), self._ledger_ttl_s) for one in done]
                    )
                    taken.update(done)
        return [one for one in action_ids if one in taken]

    # ---------------------------------------------------------------------------------------------- claims

    async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Claim:
        """Lease ready actions by rank, as far as slots and rate allow."""
        moments = (now_ms, now_ms + lease_ms, now_ms - BOOKING_KEPT_MS)
        again_at_ms, *leased = await self._moved(connector, "claim", limit, *moments, *quota_words(quota))
        return Claim(actions=leased_of(leased), again_at_ms=again_at_ms)

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease unclaimed actions whose deadline has come, earliest first."""
        with translated():
            return leased_of(await self._run(connector, "overdue", limit, now_ms, now_ms + lease_ms))

    async def settle(self, entry: LedgerEntry, *, hold_until_ms: int | None = None, unspent: bool = False) -> None:
        """Take the action out of the queue and write its ledger entry."""
        until: Word = "" if hold_until_ms is None else hold_until_ms
        words = (entry.id, _ledger_encoder.encode(entry), entry.at_ms, until, int(unspent))
        await self._changes.add(_Change(entry.connector, "settle", words, entry.id))

    async def retry(self, queued: Queued, at_ms: int, *, unspent: bool = False) -> None:
        """Give a claimed action back; one that was settled meanwhile stays settled."""
        again = msgspec.structs.replace(queued, not_before=at_ms)
        words = (*placed([again]), int(unspent), int(is_kept(queued.history)))
        await self._changes.add(_Change(queued.connector, "retry", words))

    async def note(self, queued: Queued) -> Noted:
        """Write attempts and history of a claimed action down, unless it was withdrawn or settled meanwhile."""
        with translated():
            words = (queued.id, encoded(queued), int(is_kept(queued.history)))
            return Noted((await self._run(queued.connector, "note", *words)).decode())

    # -------------------------------------------------------------------------------------------- capacity

    async def release(self, action_id: str) -> bool:
        """Free the slot that a settled action holds."""
        with translated():
            (owner,) = await self._get_all([self._keys.pointer(action_id)])
            return owner is not None and bool(await self._run(owner.decode(), "release", action_id))

    async def book(
        self, connector: str, group: str, action_id: str, starts: Sequence[int], per_slot: int
    ) -> int | None:
        """Book the first start that is not full."""
        with translated():
            await self._point([(action_id, connector)])
            words: list[Word] = [action_id, group, per_slot, *(f"{start:016d}" for start in starts)]
            start = await self._run(connector, "book", *words, ids=[action_id])
        return None if start is None else int(start)

    async def occupancy(self, connector: str, now_ms: int) -> Occupancy:
        """Return the load per group."""
        words = await self._moved(connector, "occupancy", now_ms)
        return Occupancy(
            {
                group.decode(): GroupLoad(
                    queued=queued, ready=ready, busy=busy, oldest_ready_at_ms=int(oldest) if oldest else None
                )
                for group, queued, ready, busy, oldest in zip(*(words[part::5] for part in range(5)), strict=True)
            }
        )

    async def ahead(self, connector: str, group: str, priority: int, now_ms: int) -> int:
        """Count ready actions of the group whose priority is as high or higher."""
        return int(await self._moved(connector, "ahead", now_ms, group, below(priority)))

    # ---------------------------------------------------------------------------------------------- ledger

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue actions again that were given up."""
        again: list[str] = []
        for batch in _batched(actions):
            with translated():
                # The pointer loses its end before the action is queued, so that it does not expire under it.
                connectors = {one.connector for one in batch}
                commands: list[Command] = [("SADD", self._keys.connectors, *connectors)]
                commands += [("SET", self._keys.pointer(one.id), one.connector) for one in batch]
                await pipelined(self._client, commands)
                for connector, group in _grouped(batch, lambda one: one.connector).items():
                    ids = [one.id for one in group]
                    again += [one.decode() for one in await self._run(connector, "redrive", *placed(group), ids=ids)]
        return again

    async def ledger(self, action_ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the settled entries, in the order asked."""
        with translated():
            owners = await self._get_all([self._keys.pointer(one) for one in action_ids])
            keys = [
                None if owner is None else self._keys.ledger(owner.decode(), one)
                for one, owner in zip(action_ids, owners, strict=True)
            ]
            entries = iter(await self._get_all([key for key in keys if key is not None]))
        found = [None if key is None else next(entries) for key in keys]
        return [None if one is None else _ledger_decoder.decode(one) for one in found]

    async def recent(self, limit: int) -> list[LedgerEntry]:
        """Return the latest settled entries, newest first; at most ``RECENT_MAX`` of a connector."""
        if limit < 1:
            return []
        with translated():
            connectors = sorted(map(_text, await self._client.smembers(self._keys.connectors)))
            newest = [("ZREVRANGE", self._keys.recent(connector), 0, limit - 1) for connector in connectors]
            keys = [
                self._keys.ledger(connector, one.decode())
                for connector, ids in zip(connectors, await pipelined(self._client, newest), strict=True)
                for one in ids
            ]
            entries = [_ledger_decoder.decode(one) for one in await self._get_all(keys) if one is not None]
        return sorted(entries, key=lambda entry: (-entry.at_ms, entry.id))[:limit]

    # ----------------------------------------------------------------------------------------------- calls

    def _call(
        self, connector: str, operation: str, *words: Word, ids: Sequence[str] = ()
    ) -> tuple[list[bytes], tuple[Word, ...]]:
        """Return keys and words of a call to the script."""
        keys = [*self._keys.structures(connector), *(self._keys.ledger(connector, one) for one in ids)]
        return keys, (operation, *words)

    async def _run(self, connector: str, operation: str, *words: Word, ids: Sequence[str] = ()) -> Any:
        return await self._script.call(*self._call(connector, operation, *words, ids=ids))

    async def _moved(self, connector: str, operation: str, *words: Word) -> Any:
        """Run an operation that answers nothing until everything that has become ready has been moved.

        The script moves it in bounded steps, so a flood neither blocks the server nor lets a low priority overtake a
        high one.
        """
        call = self._call(connector, operation, *words)
        with translated():
            while (answer := await self._script.call(*call)) is None:
                pass
        return answer

    async def _apply(self, changes: list[_Change]) -> None:
        """Make settlements and retries durable in one trip, in the order they came for each connector."""
        groups: defaultdict[tuple[str, str], list[_Change]] = defaultdict(list)
        for change in changes:
            groups[change.connector, change.operation].append(change)
        settled = [change for change in changes if change.settled_id]
        then: list[Command] = []
        if settled:
            # Written, not only given an end: an action that never was in a queue has no pointer yet.
            then = [
                ("SET", self._keys.pointer(one.settled_id), one.connector, "EX", self._ledger_ttl_s) for one in settled
            ]
            then.append(("SADD", self._keys.connectors, *{one.connector for one in settled}))
        with translated():
            await self._script.call_all([self._changed(*key, group) for key, group in groups.items()], then)

    def _changed(
        self, connector: str, operation: str, changes: Sequence[_Change]
    ) -> tuple[list[bytes], tuple[Word, ...]]:
        limits = (self._ledger_ttl_s, RECENT_MAX) if operation == "settle" else ()
        words = (word for change in changes for word in change.words)
        ids = [change.settled_id for change in changes if change.settled_id]
        return self._call(connector, operation, *limits, *words, ids=ids)

    async def _point(self, ids: Sequence[tuple[str, str]]) -> list[str]:
        """Point ids without a pointer at their connectors; return where each points."""
        commands: list[Command] = [("SADD", self._keys.connectors, *{connector for _, connector in ids})]
        commands += [("SET", self._keys.pointer(one), connector, "NX", "GET") for one, connector in ids]
        before = (await pipelined(self._client, commands, get=True))[1:]
        return [connector if old is None else old.decode() for (_, connector), old in zip(ids, before, strict=True)]

    async def _point_nowhere(self, action_ids: Sequence[str]) -> list[str]:
        """Point ids without a pointer at no connector, for the ledger's time; return where each points."""
        commands: list[Command] = [("SADD", self._keys.connectors, _NOWHERE)]
        commands += [
            ("SET", self._keys.pointer(one), _NOWHERE, "NX", "GET", "EX", self._ledger_ttl_s) for one in action_ids
        ]
        before = (await pipelined(self._client, commands, get=True))[1:]
        return [_NOWHERE if old is None else old.decode() for old in before]

    async def _get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys that may lie in different slots."""
        return await pipelined(self._client, [("GET", key) for key in keys])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _grouped(items: Sequence[T], connector_of: Callable[[T], str]) -> Mapping[str, list[T]]:
    groups: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[connector_of(item)].append(item)
    return groups
