"""Round trips to Redis that carry much: calls of one script to several tags, and callers who share a trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from orchestrator.errors import StoreUnavailable

Client = Redis | RedisCluster

#: What the client raises when Redis does not answer, or answers with an error.
ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)

Word = str | bytes | int

Command = tuple[Word, ...]

T = TypeVar("T")


async def life_of(client: Client) -> str:
    """Return what names the present run of a Redis, or of all primaries of a cluster.

    After a restart, or when a replica takes over, it is another. Raises ``StoreUnavailable``.
    """
    with translated():
        if isinstance(client, RedisCluster):
            servers = list((await client.info("server", target_nodes=RedisCluster.PRIMARIES)).values())
        else:
            servers = [await client.info("server")]
    return " ".join(sorted(one["run_id"] for one in servers))


class Script:
    """A Lua script at a server or cluster, called by its digest; sent whole where the server does not have it.

    A call must have the effect of one when it is repeated. Raises ``RedisError``; blocks for one round trip.
    """

    def __init__(self, client: Client, text: str) -> None:
        self._client = client
        self._text = text
        # The digest is the script's name in the protocol, not a safeguard.
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

    async def call(self, keys: Sequence[str | bytes], words: Sequence[Word] = ()) -> Any:
        """Run the script over keys of one hash tag."""
        try:
            return await _execute(self._client, "EVALSHA", self._digest, len(keys), *keys, *words)
        except NoScriptError:
            return await _execute(self._client, "EVAL", self._text, len(keys), *keys, *words)

    async def call_all(
        self, calls: Sequence[tuple[Sequence[str | bytes], Sequence[Word]]], then: Sequence[Command] = ()
    ) -> list[Any]:
        """Run the script for each of the calls, then plain commands; return the answers of the calls.

        One round trip at a server. In a cluster, whose tags may lie on different nodes, the calls come first,
        side by side, and the commands after all of them have succeeded.
        """
        if isinstance(self._client, RedisCluster):
            answers = await asyncio.gather(*(self.call(keys, words) for keys, words in calls))
            await pipelined(self._client, then)
            return list(answers)
        commands = [("EVALSHA", self._digest, len(keys), *keys, *words) for keys, words in calls]
        try:
            return (await pipelined(self._client, [*commands, *then]))[: len(calls)]
        except NoScriptError:
            await self._client.script_load(self._text)
            return (await pipelined(self._client, [*commands, *then]))[: len(calls)]


async def _execute(client: Client, *command: Word) -> Any:
    execute: Callable[..., Awaitable[Any]] = client.execute_command
    return await execute(*command)


async def pipelined(client: Client, commands: Sequence[Command], **options: Any) -> list[Any]:
    """Send commands that may lie on different nodes at once; return their answers, or raise the first error.

    ``options`` tell the client how to read the answers (``get=True``: a SET answers with the value before).
    """
    if not commands:
        return []
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command, **options)
    return list(await pipeline.execute())


class SharedTrip(Generic[T]):
    """Lets callers who come while a round trip is under way share the next one.

    ``send`` takes the items of all of them, in the order they came, and has done every one when it returns. Its
    error is everybody's. A caller who is cancelled leaves the item to be sent.
    """

    def __init__(self, send: Callable[[list[T]], Awaitable[None]], items_max: int) -> None:
        self._send = send
        self._items_max = items_max
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    def add(self, item: T) -> asyncio.Future[None]:
        """Return the future of the trip that carries ``item``."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="shared round trip")
        return done

    async def _run(self) -> None:
        try:
            while self._waiting:
                trip, self._waiting = self._waiting[: self._items_max], self._waiting[self._items_max :]
                await self._carry(trip)
        finally:
            self._running = None
            for _, done in self._waiting:
                done.cancel()
            self._waiting = []

    async def _carry(self, trip: list[tuple[T, asyncio.Future[None]]]) -> None:
        failure: Exception | None = None
        try:
            await self._send([item for item, _ in trip])
        except Exception as error:
            failure = error
        except BaseException:
            for _, done in trip:
                done.cancel()
            raise
        for _, done in trip:
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the client into the port's."""
    try:
        yield
    except ERRORS as error:
        raise StoreUnavailable(f"Redis: {str(error) or type(error).__name__}") from error
