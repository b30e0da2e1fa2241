"""A partition in a world that may fail at every call: stores and logs that outlive workers, and a clock on a string.

The crash of a process is an exception that nothing catches, before or after a call of a port (or half-way through
an append); what the stores hold by then is all that the next worker finds.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.adapters.memory_state_store import MemoryStateStore
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.errors import EventRefused, LogUnavailable, StoreUnavailable
from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.runtime.intake import Intake, Limits, encode_event
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, DECISIONS, Commit, Outgoing, Record
from orchestrator.runtime.replay import Replayed, replay
from orchestrator.runtime.rulebooks import compile_loaded
from orchestrator.runtime.surroundings import Extent, Surroundings
from orchestrator.runtime.worker import Worker

T = TypeVar("T")
START_MS = 1_772_433_000_000  # 2026-03-02T06:30:00Z
MINUTE = 60_000
HOUR = 60 * MINUTE
GRACE_MS = 100

COMPANIONS = {
    "tracking_plan.yaml": """
        events:
          cart_updated: {properties: {cart_id: string, total: number}}
          order_completed: {properties: {cart_id: string}}
          payment_failed: {properties: {amount: number}}
          email_opened: {}
        traits: {timezone: string}
        consents: {marketing: Offers}
    """,
    "connectors.yaml": """
        connectors:
          sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1/sms"}}
          push: {type: webhook, kind: push, settings: {url: "http://127.0.0.1:1/push"}}
    """,
    "templates.yaml": """
        templates:
          text: {kind: sms, params: {text: "hello"}}
          note: {kind: push, params: {title: "hello"}}
    """,
}
RULES = """
    journey: purchase
    title: From basket to order
    key: event.cart_id
    stages:
      basket:    {on: {event: cart_updated}}
      ordered:   {on: {event: order_completed}, goal: true}
      abandoned: {on: {dwell: 3h}}
    reentry: {after: 1h}
    rules:
      - id: winback
        title: Win back a basket
        on: {absence: {after: cart_updated, of: order_completed, for: 30m, rearm: latest}}
        when: {field: event.total, op: gte, value: 10}
        do:
          - send: {connector: sms, template: text}
            wait_for: {event: email_opened, within: 20m, else: [{send: {connector: push, template: note}}]}
        exit_when: {event: order_completed}
        limits: {cap: {max: 3, per: 2h, of: "kind:sms"}}
      - id: help
        title: Help after three failures
        on: {event: payment_failed}
        acts: anytime
        when: {count: payment_failed, within: 10m, op: gte, value: 3}
        do: [{send: {connector: sms, template: text}}]
        limits: {cooldown: 15m}
      - id: entered
        title: Greet a basket
        on: {enter: basket}
        do: [{wait: 5m}, {send: {connector: push, template: note}}]
"""


def rulebook_of(rules: str = RULES) -> Rulebook:
    texts = {**COMPANIONS, "rules.yaml": rules}
    loaded = load_rulebook_files({name: textwrap.dedent(text).encode() for name, text in texts.items()})
    assert loaded.ok, "\n".join(map(str, loaded.problems))
    return compile_loaded(loaded, "default")


class TakesAll:
    """A tracking plan that every event passes."""

    def check(self, event_type: str, properties: Any, /) -> None:
        return None


class Crash(BaseException):
    """The process is gone."""


class StringClock:
    """Moves when it is pulled, and when somebody sleeps."""

    def __init__(self) -> None:
        self.at_ms = START_MS
        self.slept_s: list[float] = []

    def now_ms(self) -> int:
        return self.at_ms

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


@dataclass
class Fault:
    """What happens at the call numbered ``at``: ``when`` is before, after or, for an append, half."""

    at: int
    when: str
    kind: str  # crash, unavailable or pause
    times: int = 1
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """The line between one process and the world: numbers its calls and strikes at the one that is asked for."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.calls: list[str] = []

    async def call(self, name: str, work: Callable[[], Awaitable[T]], half: Callable[[], Awaitable[Any]]) -> T:
        number = len(self.calls)
        self.calls.append(name)
        struck = self.fault is not None and self.fault.times > 0 and self.fault.at == number
        if not struck:
            return await work()
        assert self.fault is not None
        if self.fault.when == "before":
            await self._strike(name)
            return await work()
        if self.fault.when == "half":
            await half()
            await self._strike(name)
            return await work()
        result = await work()
        await self._strike(name)
        return result

    async def _strike(self, name: str) -> None:
        assert self.fault is not None
        self.fault.times -= 1
        if self.fault.kind == "crash":
            raise Crash
        if self.fault.kind == "unavailable":
            self.fault.at += 1  # The repeated call is the next one.
            raise (LogUnavailable if name in {"append", "extent"} else StoreUnavailable)("down for a test")
        self.fault.paused.set()
        await self.fault.resumed.wait()


async def _nothing() -> None:
    return None


class LinedStore:
    """The state store as one process reaches it."""

    def __init__(self, world: World, line: Line) -> None:
        self._world = world
        self._line = line

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._world.store, name)

        async def call(*arguments: Any) -> Any:
            return await self._line.call(name, lambda: method(*arguments), _nothing)

        return call


class LinedLog:
    """The log as one process reaches it; ``extent`` speaks of the events."""

    def __init__(self, world: World, line: Line) -> None:
        self._world = world
        self._line = line

    async def append(self, records: Sequence[Outgoing]) -> None:
        out = self._world.out
        await self._line.call(
            "append", lambda: out.append(records), lambda: out.append(records[: (len(records) + 1) // 2])
        )

    async def extent(self, partition: int) -> Extent:
        async def known() -> Extent:
            return self._world.extent

        return await self._line.call("extent", known, _nothing)


class WitnessedStore(MemoryStateStore):
    """Notes what was decided for good: the outbox entries of every commit that was applied."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: list[Outgoing] = []

    async def commit(self, partition: int, commit: Commit) -> None:
        before = self._of(partition).sequence
        await super().commit(partition, commit)
        if self._of(partition).sequence != before:
            self.decided += commit.outbox


@dataclass
class InForce:
    current: Rulebook


class World:
    """What outlives every worker: the log of events, the state store, what was published, and the time."""

    def __init__(self, rulebook: Rulebook, records: Sequence[Record] = (), *, cached_max: int = 20_000) -> None:
        self.clock = StringClock()
        self.store = WitnessedStore()
        self.out = MemoryEventLog(self.clock, identity="out")
        self.records = list(records)
        self.extent = Extent("events-1", 0, len(self.records))
        self.rulebooks = InForce(rulebook)
        self.cached_max = cached_max
        self.intake = Intake(TakesAll(), "default", Limits())

    def worker(self, line: Line | None = None) -> Worker:
        """A process that has just started."""
        line = line or Line()
        log = LinedLog(self, line)
        return Worker(
            Surroundings(
                store=LinedStore(self, line),  # type: ignore[arg-type]
                log=log,
                extents=log,
                intake=self.intake,
                rulebooks=InForce(self.rulebooks.current),
                clock=self.clock,
                grace_ms=GRACE_MS,
                customers_cached_max=self.cached_max,
            )
        )

    async def run(self, worker: Worker, cuts: Sequence[int] = (), until_ms: int | None = None) -> None:
        """Let a worker read the log from its offset of record on, in batches that end at ``cuts``, with ticks."""
        position = await worker.assigned(0)
        edges = [edge for edge in sorted({*cuts, len(self.records)}) if edge > position]
        for edge in edges:
            self.clock.at_ms = max(self.clock.at_ms, self.records[edge - 1].stamp_ms)
            await worker.process(0, self.records[position:edge])
            position = edge
            if edge < len(self.records):
                # The log was seen read to its end until just before the next record came.
                await worker.advance(0, self.records[edge].stamp_ms - 1)
        if until_ms is not None:
            self.clock.at_ms = max(self.clock.at_ms, until_ms + GRACE_MS)
            await worker.advance(0, until_ms + GRACE_MS)

    # ------------------------------------------------------------------------------------ what there is

    async def published(self, topic: str) -> list[bytes]:
        return [one.value or b"" for one in await self.out.read_range(topic, 0, 0, 1_000_000)]

    async def states(self) -> dict[str, CustomerState]:
        kept = self.store._of(0).states
        return {customer: decode_state(value) for customer, value in kept.items() if not customer.startswith("\0")}

    def events(self) -> list[Event]:
        """The acceptable events of the log."""
        events: list[Event] = []
        for record in self.records:
            try:
                events += self.intake.events_from_record(record)
            except EventRefused:
                continue
        return events


async def check_promise(world: World) -> None:
    """Whatever was decided for good was published, nothing else was, and nothing waits any more."""
    for topic in (ACTIONS, DECISIONS, DEAD_LETTERS):
        decided = [one.value for one in world.store.decided if one.topic == topic]
        published = await world.published(topic)
        assert set(published) - set(decided) == set(), f"{topic}: published, but never decided"
        assert set(decided) - set(published) == set(), f"{topic}: decided, but never published"
        missing = Counter(decided) - Counter(published)
        assert not missing, f"{topic}: published less often than decided: {missing}"
        assert _first_seen(published) == _first_seen(decided), f"{topic}: published out of order"
    assert await world.store.outbox(0) == [], "something is left in the outbox"


async def check_against_replay(world: World, until_ms: int, *, failed: int = 0) -> Replayed:
    """States, actions, ledger and dead letters are those of one undisturbed replay of the acceptable events."""
    await check_promise(world)
    done = replay(world.rulebooks.current, world.events(), until_ms=until_ms)
    expected = {customer: decode_state(encode_state(state)) for customer, state in done.states.items()}
    states = await world.states()
    assert states.keys() == expected.keys(), f"{states.keys()} instead of {expected.keys()}"
    for customer, state in expected.items():
        assert states[customer] == state, f"{customer}: {states[customer]} instead of {state}"
    encode = msgspec.json.Encoder().encode
    decided = world.store.decided
    for topic, replayed in ((ACTIONS, done.actions), (DECISIONS, done.records)):
        wanted = [encode(one) for one in replayed]
        got = [one.value for one in decided if one.topic == topic]
        assert got == wanted, f"{topic}: {got} instead of {wanted}"
    assert len(done.failures) == failed, done.failures
    poison = sum(not _acceptable(world, record) for record in world.records)
    letters = sum(one.topic == DEAD_LETTERS for one in decided)
    assert letters == poison + failed, f"{letters} dead letters for {poison} poison records and {failed} failures"
    wakes = {wake.customer_id: wake.due_ms for wake in await world.store.due(0, 2**62, 1_000_000)}
    due = {customer: wake for customer, state in expected.items() if (wake := state.next_wake_ms()) is not None}
    assert wakes == due, f"wakes {wakes} instead of {due}"
    return done


def _acceptable(world: World, record: Record) -> bool:
    try:
        world.intake.events_from_record(record)
    except EventRefused:
        return False
    return True


def _first_seen(values: Iterable[bytes]) -> list[bytes]:
    return list(dict.fromkeys(values))


# ------------------------------------------------------------------------------------------------ records


class Logbook:
    """Writes records as a log would take them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._stamp_ms = START_MS

    def event(
        self,
        at_ms: int,
        event_type: str,
        customer: str = "c1",
        *,
        late_ms: int = 0,
        id: str = "",
        producer: str = "",
        **properties: Any,
    ) -> Logbook:
        """Add an event that reaches the log at ``at_ms`` after the start, having happened ``late_ms`` before."""
        stamp_ms = START_MS + at_ms
        event = Event(
            id=id or f"e{len(self.records)}",
            type=event_type,
            customer_id=customer,
            occurred_at_ms=stamp_ms - late_ms,
            received_at_ms=stamp_ms,
            properties=properties,
        )
        return self.raw(at_ms, customer.encode(), encode_event(event), producer=producer)

    def raw(self, at_ms: int, key: bytes | None, value: bytes | None, *, producer: str = "") -> Logbook:
        """Add a record as it is."""
        self._stamp_ms = max(self._stamp_ms, START_MS + at_ms)
        self.records.append(Record(0, len(self.records), self._stamp_ms, key, value, producer=producer))
        return self
