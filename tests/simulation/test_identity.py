"""Merges and erasures through the commit protocol: whatever crashes, the ids of a customer end as one.

What a worker emits goes to the log of events and is read from there, so a crash may write it twice and put other
records between a step and its answer.
"""

from __future__ import annotations

import pytest

from orchestrator.core.state import CustomerState, encode_state
from orchestrator.runtime.intake import Intake, Limits, decode_dead_letter
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, EVENTS, Record
from orchestrator.runtime.replay import replay
from tests.simulation.partition_world import (
    HOUR,
    MINUTE,
    START_MS,
    Crash,
    Fault,
    Line,
    Logbook,
    TakesAll,
    World,
    rulebook_of,
)

UNTIL_MS = START_MS + 3 * HOUR


def story() -> list[Record]:
    """A basket of an anonymous customer, who becomes known and goes on under both ids; another one is erased."""
    log = Logbook()
    log.event(0, "cart_updated", "anon", cart_id="k1", total=20)
    log.event(MINUTE, "payment_failed", "known", amount=1)
    log.event(2 * MINUTE, "alias", "known", previous_id="anon")
    log.event(3 * MINUTE, "payment_failed", "anon", amount=1)
    log.event(4 * MINUTE, "payment_failed", "known", amount=1)
    log.event(4 * MINUTE, "cart_updated", "gone-anon", cart_id="k2", total=20)
    log.event(5 * MINUTE, "alias", "gone", previous_id="gone-anon")
    log.event(7 * MINUTE, "customer_erased", "gone")
    return log.records


def world() -> World:
    return World(rulebook_of(), story())


async def finished(world: World, fault: Fault | None = None) -> int:
    """Run until nothing new is emitted; return how many calls the first process made."""
    line = Line(fault)
    taken = await _run(world, line)
    while True:
        emitted = await world.out.read_range(EVENTS, 0, taken, 1_000)
        if not emitted:
            break
        taken += len(emitted)
        for one in emitted:
            stamp_ms = world.records[-1].stamp_ms + 1
            world.records.append(Record(0, len(world.records), stamp_ms, one.key, one.value))
        world.extent = type(world.extent)("events-1", 0, len(world.records))
        await world.run(world.worker())
    await world.run(world.worker(), until_ms=UNTIL_MS)
    return len(line.calls)


async def _run(world: World, line: Line) -> int:
    """Let a process read the log; another one takes over when it crashes."""
    try:
        await world.run(world.worker(line))
    except Crash:
        await world.run(world.worker())
    return 0


def check(states: dict[str, CustomerState]) -> None:
    known = states["known"]
    assert states["anon"].merged_into == "known"
    assert (known.aliases, list(known.runs)) == (["anon"], ["purchase/k1"])
    (failures,) = [stored for stored in known.aggregates.values() if len(stored) == 3]
    assert failures == [START_MS + MINUTE, START_MS + 3 * MINUTE, START_MS + 4 * MINUTE]
    for name in ("gone", "gone-anon"):
        assert (states[name].first_seen_ms, states[name].runs, states[name].aliases) == (0, {}, [])
        assert states[name].erased_at_ms


async def test_a_merge_goes_through_the_log_and_a_replay_of_that_log_ends_alike() -> None:
    live = world()
    await finished(live)
    states = await live.states()
    check(states)
    replayed = replay(live.rulebooks.current, live.events(), until_ms=UNTIL_MS, emits=False)
    assert replayed.states == states
    actions = {one.id for one in replayed.actions}
    assert len(await live.published(ACTIONS)) == len(replayed.actions) >= len(actions) > 0


async def test_a_replay_of_what_producers_sent_ends_with_the_same_customers() -> None:
    check(replay(rulebook_of(), world().events(), until_ms=UNTIL_MS).states)


@pytest.mark.parametrize("when", ["before", "half", "after"])
async def test_a_crash_at_any_call_loses_no_step_and_doubles_none(when: str) -> None:
    calls = await finished(world())
    assert calls > 4
    for at in range(calls):
        crashed = world()
        await finished(crashed, Fault(at, when, "crash"))
        check(await crashed.states())


async def test_what_is_about_another_workspaces_id_becomes_a_dead_letter_and_never_its_record() -> None:
    """An older release took in what names another workspace's customer; its state still says so."""
    log = Logbook()
    log.event(MINUTE, "customer_erased", "known")
    erasing = World(rulebook_of(), log.records)
    erasing.intake = Intake(TakesAll(), "default", Limits(), ("acme",))
    old = CustomerState(first_seen_ms=START_MS, aliases=["acme:c1", "anon"])
    erasing.store._of(0).states["known"] = encode_state(old)
    await erasing.run(erasing.worker())
    emitted = await erasing.out.read_range(EVENTS, 0, 0, 10)
    (letter,) = await erasing.published(DEAD_LETTERS)
    assert [one.key for one in emitted] == [b"anon"]
    assert decode_dead_letter(letter).message.startswith('customer_id begins with "acme:"')
