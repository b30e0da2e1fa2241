"""A store that comes back without its last writes, as Redis may after a power cut: its owner notices, and replays."""

from __future__ import annotations

import copy

import pytest

from orchestrator.errors import Fenced
from orchestrator.runtime.worker import Worker
from tests.simulation.partition_world import START_MS, Logbook, World, check_against_replay, rulebook_of

SECOND = 1_000
MINUTE = 60 * SECOND


def world_of_one_basket() -> World:
    log = Logbook()
    log.event(0, "cart_updated", "ada", cart_id="k1", total=20)
    log.event(MINUTE, "payment_failed", "bob", amount=1)
    return World(rulebook_of(), log.records)


async def owner_of_a_store_that_stepped_back(world: World, until_ms: int) -> Worker:
    """Return the owner of a store that has lost what came after its first record."""
    owner = world.worker()
    await owner.assigned(0)
    await owner.process(0, world.records[:1])
    disk = copy.deepcopy(world.store._partitions)
    world.clock.at_ms = until_ms
    await owner.process(0, world.records[1:])
    world.store._partitions = disk
    return owner


async def test_an_idle_owner_notices_within_ten_seconds_and_whoever_follows_repairs_it() -> None:
    world, until_ms = world_of_one_basket(), START_MS + MINUTE
    owner = await owner_of_a_store_that_stepped_back(world, until_ms)

    world.clock.at_ms = until_ms + 9 * SECOND
    await owner.advance(0, None)
    world.clock.at_ms = until_ms + 11 * SECOND
    with pytest.raises(Fenced):
        await owner.advance(0, None)

    await world.run(world.worker(), (), until_ms)
    await check_against_replay(world, until_ms)
    assert set(await world.states()) == {"ada", "bob"}


async def test_an_idle_owner_of_a_store_that_holds_everything_goes_on() -> None:
    world, until_ms = world_of_one_basket(), START_MS + MINUTE
    owner = world.worker()
    await world.run(owner, (), until_ms)
    for seconds in (11, 22, 33):
        world.clock.at_ms = until_ms + seconds * SECOND
        await owner.advance(0, None)
    await check_against_replay(world, until_ms)


async def test_an_owner_whose_clock_was_set_back_notices_at_once() -> None:
    world, until_ms = world_of_one_basket(), START_MS + MINUTE
    owner = await owner_of_a_store_that_stepped_back(world, until_ms)

    world.clock.at_ms = until_ms - 120 * MINUTE
    with pytest.raises(Fenced):
        await owner.advance(0, None)
