"""The network between a process and what outlives it: requests and answers travel apart, and either may be lost.

A call takes effect when its request arrives, in one step, whatever has become of the caller by then. A crash strikes
before that step, after it, or for an append half-way through. An append may also be taken half-way while its producer
lives, and one that was given up may arrive seconds later.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - the one seeded source of chance of a run.
from typing import TYPE_CHECKING, Any

from load_tests.simulation.loop import Process, driven
from orchestrator.errors import JourneyError, LogUnavailable, StoreUnavailable
from orchestrator.runtime.ports import Outgoing, Record

if TYPE_CHECKING:
    from load_tests.simulation.world import World

#: What a port raises when it does not answer.
SILENCE: dict[str, type[JourneyError]] = {
    "store": StoreUnavailable,
    "log": LogUnavailable,
    "queue": StoreUnavailable,
}
#: Calls that change something: what "after each durable step" means.
DURABLE = frozenset(
    {"acquire", "commit", "trim", "append", "put", "withdraw", "claim", "overdue", "settle", "retry", "note", "send"}
)


@dataclass(slots=True)
class Weather:
    """How a port fares: until when it is down, flaky (requests or answers are lost) or slow, in virtual seconds."""

    down_until_s: float = 0.0
    flaky_until_s: float = 0.0
    slow_until_s: float = 0.0


@dataclass(slots=True)
class Strike:
    """A crash that waits for a process's next durable call but ``skip``: ``when`` is before, after or half."""

    when: str
    skip: int


class Peer(Process):
    """A process of the engine, with the crash that may be waiting for it."""

    def __init__(self, name: str, role: str) -> None:
        super().__init__(name)
        self.role = role
        self.strike: Strike | None = None


class Link:
    """A process's way to the world. Every call of every port goes through ``call``."""

    def __init__(self, world: World, process: Peer) -> None:
        self.world = world
        self.process = process

    async def call(
        self,
        port: str,
        name: str,
        effect: Callable[[], Coroutine[Any, Any, Any]],
        *,
        half: Callable[[], Coroutine[Any, Any, Any]] | None = None,
        told: tuple[Any, ...] = (),
    ) -> Any:
        """Make a call and return its answer; raise what the port raises, or that it does not answer."""
        world, loop = self.world, self.world.loop
        answer = loop.create_future()
        out_s, back_s, lost = self._fate(port, world.chance)

        def arrive() -> None:
            error: Exception | None = None
            result: Any = None
            when = self._struck(name)
            if lost and name in DURABLE:
                world.counts[f"{name} unanswered"] += 1
            if lost == "request":
                error = SILENCE[port]("down for a while")
                if half is not None and world.chance.random() < 0.2:
                    loop.world_later(world.chance.uniform(0.5, 3.0), self._arrive_late, effect)
            elif when == "before":
                world.kill(self.process, f"before {name}")
            else:
                world.caller = self.process
                try:
                    partly = when == "half" or (lost == "answer" and world.chance.random() < 0.3)
                    if partly and half is not None and not when:
                        world.counts["append partly taken"] += 1
                    result = driven(half() if partly and half is not None else effect())
                except JourneyError as refused:
                    error = refused
                world.caller = None
                if when:
                    world.kill(self.process, f"{when} {name}")
                if lost == "answer":
                    world.counts[f"{port} answer lost"] += 1
                    result, error = None, SILENCE[port]("the answer was lost")
            world.trace(self.process.name, name, *told, error or result)
            if name not in DURABLE:
                # Nobody can tell a slow answer to a question from a slow question.
                _settle(answer, result, error)
            elif not self.process.dead:
                loop.world_later(back_s, _settle, answer, result, error)

        loop.world_later(out_s, arrive)
        return await answer

    def _arrive_late(self, effect: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Let a request take effect that nobody waits for any more."""
        world = self.world
        world.counts["append long given up"] += 1
        world.caller = self.process
        driven(effect())
        world.caller = None
        world.trace(self.process.name, "append", "that was given up")

    def _fate(self, port: str, chance: Random) -> tuple[float, float, str]:
        """Draw how long request and answer travel, and which of them is lost ('' for none)."""
        out_s, back_s = chance.random() * 0.002, chance.random() * 0.002
        weather = self.world.weather.get(port)
        if weather is None:
            return out_s, back_s, ""
        now_s = self.world.loop.time()
        if now_s < weather.slow_until_s:
            self.world.counts[f"{port} slow"] += 1
            out_s, back_s = chance.random() * 0.8, chance.random() * 0.8
        if now_s < weather.down_until_s:
            self.world.counts[f"{port} down"] += 1
            return out_s, back_s, "request"
        if now_s < weather.flaky_until_s and chance.random() < 0.5:
            return out_s, back_s, chance.choice(["request", "answer"])
        return out_s, back_s, ""

    def _struck(self, name: str) -> str:
        """Return when within this call the process is to crash, '' for not at all."""
        process = self.process
        if process.dead:
            self.world.counts["call in flight at a death"] += 1
            return ""
        if process.paused:
            self.world.counts["call in flight at a pause"] += 1
            return ""
        strike = process.strike
        if strike is None or name not in DURABLE:
            return ""
        if strike.skip:
            strike.skip -= 1
            return ""
        process.strike = None
        when = "after" if strike.when == "half" and name != "append" else strike.when
        self.world.counts[f"crash {when} a durable step"] += 1
        return when


def _settle(answer: Any, result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


class Ported:
    """An adapter as one process reaches it: every method is a call over its link."""

    def __init__(self, link: Link, port: str, adapter: object) -> None:
        self._link = link
        self._port = port
        self._adapter = adapter

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._adapter, name)
        link, port = self._link, self._port

        async def call(*arguments: Any, **named: Any) -> Any:
            return await link.call(port, name, lambda: method(*arguments, **named), told=arguments)

        self.__dict__[name] = call
        return call


class LinkedLog:
    """The event log as one process reaches it; an append may be cut in half by a crash."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Append, as ``EventLog`` promises."""
        log, first_half = self._link.world.log, (len(records) + 1) // 2
        await self._link.call(
            "log",
            "append",
            lambda: log.append(records),
            half=lambda: log.append(records[:first_half]),
            told=(records,),
        )

    async def extent(self, partition: int) -> Any:
        """Tell what the log holds of a partition of events."""
        return await self._link.call("log", "extent", lambda: self._link.world.extent(partition))

    async def fetch(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return what the log holds from ``offset`` on, nothing at its end."""
        fetched: list[Record] = await self._link.call(
            "log",
            "fetch",
            lambda: self._link.world.log.read_range(topic, partition, offset, limit),
            told=(topic, partition, offset),
        )
        return fetched
