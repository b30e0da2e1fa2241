"""The contact book of the distributed engine: one small hash an address, and one set of them a customer.

========================================  ==========================================================================
``journey:<workspace>:contact:<place>``   hash: ``customer`` and ``at``; ``place`` is the hashed address, in hexadecimal
``journey:<workspace>:contacts:<id>``     sorted set: the places of a customer by until when each is kept
``journey:<workspace>:contact-key``       the key of the hashes
========================================  ==========================================================================

Each step concerns one key, so a cluster may spread them as it likes. A place is in its customer's set before it is
itself written: a crash between leaves a name of nothing, which ``forget`` passes over, and no entry that it misses.
Names of what is no longer kept go when the customer gets another.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

from orchestrator.adapters.redis_round_trip import Client, translated
from orchestrator.runtime.contacts import KEY_BYTES, Contact, hashed

#: Names a place of a customer's (until when it is kept, and now), and has the set outlive all that it names.
_NAME = """
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', last - ARGV[3]))
"""
#: Keeps a contact unless a newer one is known.
_REMEMBER = """
local known = redis.call('HGET', KEYS[1], 'at')
if known and tonumber(known) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'customer', ARGV[1], 'at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
#: Forgets a contact that is still the customer's.
_FORGET = "if redis.call('HGET', KEYS[1], 'customer') == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

T = TypeVar("T")


class RedisContactBook:
    """``ContactBook`` over one workspace of a Redis server or cluster."""

    def __init__(self, client: Client, workspace: str) -> None:
        """The client belongs to the caller and must not decode responses."""
        self._client = client
        self._prefix = f"journey:{workspace}:"
        self._key = b""

    async def remember(self, contacts: Sequence[Contact]) -> None:
        """Keep contacts; the newer counts."""
        if not contacts:
            return
        key = await self._known_key()
        places = [(hashed(key, one.connector, one.address), one) for one in contacts]
        pipeline = self._client.pipeline(transaction=False)
        for place, contact in places:
            pipeline.eval(_NAME, 1, self._of_customer(contact.customer_id), place, contact.until_ms, contact.at_ms)
        await self._answer(pipeline.execute())
        pipeline = self._client.pipeline(transaction=False)
        for place, contact in places:
            kept_ms = contact.until_ms - contact.at_ms
            pipeline.eval(_REMEMBER, 1, self._at(place), contact.customer_id, contact.at_ms, kept_ms)
        await self._answer(pipeline.execute())

    async def find(self, connector: str, address: str) -> Contact | None:
        """Return the newest contact there, or None."""
        place = hashed(await self._known_key(), connector, address)
        customer, at_ms = await self._answer(cast(Any, self._client.hmget(self._at(place), ["customer", "at"])))
        if customer is None:
            return None
        return Contact(connector=connector, address=address, customer_id=customer.decode(), at_ms=int(at_ms))

    async def forget(self, customer_id: str) -> None:
        """Forget every contact of a customer."""
        own = self._of_customer(customer_id)
        places = await self._answer(cast(Any, self._client.zrange(own, 0, -1)))
        if not places:
            return
        pipeline = self._client.pipeline(transaction=False)
        for place in places:
            pipeline.eval(_FORGET, 1, self._at(place), customer_id)
        await self._answer(pipeline.execute())
        await self._answer(self._client.delete(own))

    async def _known_key(self) -> bytes:
        """Return the workspace's key, made on first use."""
        if not self._key:
            name = f"{self._prefix}contact-key"
            await self._answer(self._client.set(name, secrets.token_bytes(KEY_BYTES), nx=True))
            self._key = await self._answer(cast(Awaitable[bytes], self._client.get(name)))
        return self._key

    async def _answer(self, question: Awaitable[T]) -> T:
        with translated():
            return await question

    def _at(self, place: bytes) -> str:
        return f"{self._prefix}contact:{place.hex()}"

    def _of_customer(self, customer_id: str) -> str:
        return f"{self._prefix}contacts:{customer_id}"
