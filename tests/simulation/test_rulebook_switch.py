"""A rulebook that is published in the middle of a batch, with a crash: the old or the new one decides, never a mix."""

from __future__ import annotations

import random  # noqa: TID251 - seeded, to draw schedules.
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
import pytest

from orchestrator.core.rulebook import Rulebook, with_earlier
from orchestrator.core.seen import MARK_BYTES
from orchestrator.core.state import decode_state
from orchestrator.runtime import partition as partition_module
from orchestrator.runtime.ports import ACTIONS, DECISIONS, Commit
from orchestrator.runtime.worker import Worker
from tests.simulation.partition_world import (
    HOUR,
    MINUTE,
    RULES,
    START_MS,
    Crash,
    Fault,
    Line,
    Logbook,
    WitnessedStore,
    World,
    check_promise,
    rulebook_of,
)

T = TypeVar("T")
UNTIL_MS = START_MS + 5 * HOUR
CUTS = (9, 17, 25)
SCHEDULES = 100


@pytest.fixture(scope="module", autouse=True)
def quiet_log():
    partition_module.log.disabled = True
    yield
    partition_module.log.disabled = False


def following(rules: str) -> str:
    """Every play goes on in the version in force, so that whatever a commit says is of one version."""
    return rules.replace("    stages:", "    on_edit: follow\n    stages:", 1)


@cache
def first() -> Rulebook:
    return rulebook_of(following(RULES))


@cache
def second() -> Rulebook:
    return with_earlier(rulebook_of(following(RULES).replace("value: 10}", "value: 15}")), [first()])


def log() -> Logbook:
    book = Logbook()
    for number in range(8):
        book.event(number * MINUTE, "cart_updated", f"c{number % 4}", cart_id=f"k{number}", total=20)
    for number in range(12):
        book.event((9 + number % 3) * MINUTE, "payment_failed", f"c{number % 4}", amount=1)
    book.event(35 * MINUTE, "email_opened", "c1")
    for number in range(8):
        book.event((40 + number) * MINUTE, "cart_updated", f"c{number % 4}", cart_id=f"m{number}", total=12)
    return book


class CommittedVersions(WitnessedStore):
    """Notes which versions speak in each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: list[set[str]] = []

    async def commit(self, partition: int, commit: Commit) -> None:
        known = len(self.decided)
        await super().commit(partition, commit)
        said = [one.value for one in self.decided[known:] if one.topic in {ACTIONS, DECISIONS}]
        if said:
            self.versions.append({msgspec.json.decode(value)["rulebook_version"] for value in said})


class SwitchingLine(Line):
    """Puts the second version into force while a call of the process is under way."""

    def __init__(self, world: World, switch_at: int, fault: Fault | None = None) -> None:
        super().__init__(fault)
        self._world = world
        self._switch_at = switch_at
        self.worker: Worker

    async def call(self, name: str, work: Callable[[], Awaitable[T]], half: Callable[[], Awaitable[Any]]) -> T:
        if len(self.calls) == self._switch_at:
            self._world.rulebooks.current = second()
            self.worker._surroundings.rulebooks.current = second()  # type: ignore[misc]
        return await super().call(name, work, half)


async def told(switch_at: int, fault: Fault | None = None) -> tuple[World, Line]:
    """Run the log to its end with a switch at one call and a crash at another."""
    world = World(first(), log().records)
    world.store = CommittedVersions()
    line = SwitchingLine(world, switch_at, fault)
    line.worker = world.worker(line)
    try:
        await world.run(line.worker, CUTS, UNTIL_MS)
    except Crash:
        await world.run(world.worker(), (), UNTIL_MS)
    await check_promise(world)
    return world, line


def check_versions(world: World) -> None:
    """Every commit is of one version, and after the second one has spoken the first is silent."""
    order = [first().version, second().version]
    assert isinstance(world.store, CommittedVersions)
    assert world.store.versions, "nothing was decided"
    assert all(len(said) == 1 for said in world.store.versions), world.store.versions
    spoke = [order.index(one) for said in world.store.versions for one in said]
    assert spoke == sorted(spoke), spoke


async def check_applied(world: World) -> None:
    """Every event was applied, whichever version was in force."""
    own = await world.store.acquire(0)
    assert own.next_offset == len(world.records)
    states = await world.states()
    seen = sum(len(state.seen) // MARK_BYTES for state in states.values())
    assert seen == len(world.records)
    assert all(decode_state(stored) is not None for stored in world.store._of(0).states.values())


async def test_a_switch_at_any_call_takes_effect_between_two_commits() -> None:
    calls = len((await told(-1))[1].calls)
    both = 0
    for switch_at in range(calls):
        world, _ = await told(switch_at)
        check_versions(world)
        await check_applied(world)
        both += {version for said in world.store.versions for version in said} == {  # type: ignore[attr-defined]
            first().version,
            second().version,
        }
    assert both > calls / 2


async def test_a_switch_and_a_crash_anywhere_leave_every_commit_to_one_version() -> None:
    calls = len((await told(-1))[1].calls)
    draw = random.Random(16)
    crashed = 0
    for schedule in range(SCHEDULES):
        switch_at, crash_at = draw.randrange(calls), draw.randrange(calls)
        fault = Fault(crash_at, draw.choice(["before", "after"]), "crash")
        world, _ = await told(switch_at, fault)
        crashed += fault.times == 0
        try:
            check_versions(world)
            await check_applied(world)
        except AssertionError as error:
            raise AssertionError(f"schedule {schedule}: switch at {switch_at}, {fault}") from error
    assert crashed == SCHEDULES
