"""The commit protocol under faults: a crash, a pause, an outage at every call, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - seeded, to draw schedules.
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest
from prometheus_client import REGISTRY

from orchestrator.adapters import memory_state_store
from orchestrator.core.rulebook import Rulebook, build_rulebook
from orchestrator.core.seen import KEPT_ALWAYS
from orchestrator.errors import Fenced, LogUnavailable, PositionLost, StoreUnavailable
from orchestrator.rulebook.compile import compiled
from orchestrator.runtime import partition as partition_module
from orchestrator.runtime import worker as worker_module
from orchestrator.runtime.intake import decode_dead_letter
from orchestrator.runtime.partition import Partition, States
from orchestrator.runtime.ports import DEAD_LETTERS, ENGINE, EVENTS, Outgoing, Record
from orchestrator.runtime.sequencer import Outcome
from orchestrator.runtime.surroundings import Extent
from tests.simulation.partition_world import (
    HOUR,
    MINUTE,
    RULES,
    START_MS,
    Crash,
    Fault,
    Line,
    Logbook,
    World,
    check_against_replay,
    check_promise,
    rulebook_of,
)

UNTIL_MS = START_MS + 5 * HOUR
CUTS = (2, 5, 6)


@pytest.fixture(scope="module", autouse=True)
def quiet_log():
    """Outages are logged by the hundred here; nobody reads them."""
    partition_module.log.disabled = True
    yield
    partition_module.log.disabled = False


@cache
def rulebook() -> Rulebook:
    return rulebook_of()


@cache
def edited() -> Rulebook:
    """The same rules as another version that emits other actions: ids follow from rules and steps."""
    return rulebook_of(RULES.replace("id: winback", "id: winback-two").replace("id: help", "id: help-two"))


def story() -> list[Record]:
    """Timers, waits, a cap, a duplicate, late events and three kinds of poison, for two customers."""
    log = Logbook()
    log.event(0, "cart_updated", "ada", cart_id="k1", total=20)
    log.event(MINUTE, "payment_failed", "bob", amount=1)
    log.raw(MINUTE, b"bob", b"{not json")
    log.event(2 * MINUTE, "payment_failed", "bob", amount=1)
    log.event(2 * MINUTE, "payment_failed", "bob", amount=1, late_ms=MINUTE)
    log.event(3 * MINUTE, "cart_updated", "bob", cart_id="k2", total=50)
    log.event(36 * MINUTE, "email_opened", "ada")
    log.raw(36 * MINUTE, None, b'{"id": "x", "type": "email_opened", "customer_id": "ada", "occurred_at": 1}')
    log.event(36 * MINUTE, "payment_failed", "bob", id="e1", amount=1)
    log.event(40 * MINUTE, "order_completed", "bob", cart_id="k2", late_ms=20 * MINUTE)
    log.raw(41 * MINUTE, b"ada", b"[1]")
    log.event(4 * HOUR, "cart_updated", "ada", cart_id="k1", total=11)
    return log.records


async def undisturbed(cuts: Sequence[int] = CUTS) -> list[str]:
    """Return the names of the calls that a run makes when nothing goes wrong."""
    world, line = World(rulebook(), story()), Line()
    await world.run(world.worker(line), cuts, UNTIL_MS)
    done = await check_against_replay(world, UNTIL_MS)
    assert [(one.rule, one.cancel) for one in done.actions] == [
        ("help", False),
        ("entered", False),
        ("entered", False),
        ("winback", False),
        ("winback", False),
        ("entered", True),
        ("winback", True),
        ("entered", True),
        ("winback", True),
        ("entered", False),
        ("winback", False),
        ("winback", False),
    ]
    return line.calls


async def crash_and_recover(world: World, fault: Fault, cuts: Sequence[int] = CUTS) -> None:
    """Run until the fault strikes, and let another process finish."""
    try:
        await world.run(world.worker(Line(fault)), cuts, UNTIL_MS)
    except Crash:
        await world.run(world.worker(), (), UNTIL_MS)


async def crashed_everywhere(check: Callable[[World], object], *, with_edit: bool) -> int:
    """Crash at every call, before, after and half-way; return how many crashes there were."""
    points = 0
    for number, name in enumerate(await undisturbed()):
        for when in ("before", "after", *(("half",) if name == "append" else ())):
            world = World(rulebook(), story())
            try:
                await world.run(world.worker(Line(Fault(number, when, "crash"))), CUTS, UNTIL_MS)
                raise AssertionError(f"nothing struck {when} call {number}")
            except Crash:
                points += 1
            if with_edit:
                world.rulebooks.current = edited()
            await world.run(world.worker(), (), UNTIL_MS)
            await check(world)  # type: ignore[misc]
    return points


async def test_a_crash_at_any_call_changes_nothing_but_repeats() -> None:
    async def check(world: World) -> None:
        await check_against_replay(world, UNTIL_MS)

    assert await crashed_everywhere(check, with_edit=False) > 60


async def test_a_crash_with_an_edited_rulebook_after_it_publishes_what_was_decided_and_nothing_else() -> None:
    assert await crashed_everywhere(check_promise, with_edit=True) > 60


async def test_a_crash_during_recovery_from_a_crash_changes_nothing() -> None:
    calls = await undisturbed()
    appends = [number for number, name in enumerate(calls) if name == "append"]
    for first in appends:
        for number in range(7):
            for when in ("before", "after"):
                world = World(rulebook(), story())
                for fault in (Fault(first, "before", "crash"), Fault(number, when, "crash")):
                    with pytest.raises(Crash):
                        await world.run(world.worker(Line(fault)), CUTS, UNTIL_MS)
                await world.run(world.worker(), (), UNTIL_MS)
                await check_against_replay(world, UNTIL_MS)


async def test_an_outage_at_any_call_is_waited_out() -> None:
    for number, name in enumerate(await undisturbed()):
        for when in ("before", "after", *(("half",) if name == "append" else ())):
            world = World(rulebook(), story())
            await world.run(world.worker(Line(Fault(number, when, "unavailable", times=3))), CUTS, UNTIL_MS)
            assert world.clock.slept_s == [0.05, 0.1, 0.2], (number, name, when)
            await check_against_replay(world, UNTIL_MS)


async def taken_over(number: int, when: str) -> World:
    """Pause a worker at a call, let another one with newer rules take over and finish, and wake the first."""
    world = World(rulebook(), story())
    fault = Fault(number, when, "pause")
    line = Line(fault)
    old = asyncio.create_task(world.run(world.worker(line), CUTS, UNTIL_MS))
    paused = asyncio.create_task(fault.paused.wait())
    await asyncio.wait([old, paused], return_when=asyncio.FIRST_COMPLETED)
    assert paused.done()
    world.rulebooks.current = edited()
    await world.run(world.worker(), (), UNTIL_MS)
    fault.resumed.set()
    try:
        await old
    except Fenced:
        return world
    later = line.calls[number + 1 :]
    assert not {"commit", "trim"} & set(later), f"wrote on after call {number} without being fenced: {later}"
    return world


async def test_an_owner_that_was_paused_at_any_call_writes_nothing_and_publishes_nothing_new() -> None:
    for number, _ in enumerate(await undisturbed()):
        for when in ("before", "after"):
            world = await taken_over(number, when)
            await check_promise(world)


async def test_a_fenced_worker_gives_the_partition_up_and_may_take_it_again() -> None:
    world = World(rulebook(), story())
    old, new = world.worker(), world.worker()
    await old.assigned(0)
    await new.assigned(0)
    with pytest.raises(Fenced) as refusal:
        await old.process(0, world.records)
    assert str(refusal.value) == "Partition 0 was taken over: epoch 2 owns it, this write is of epoch 1."
    assert old.position(0) is None
    await old.process(0, world.records)
    await old.advance(0, UNTIL_MS)
    assert world.store.decided == []
    await world.run(old, (), UNTIL_MS)
    await check_against_replay(world, UNTIL_MS)


async def test_a_partition_that_was_given_up_is_left_alone() -> None:
    world = World(rulebook(), story())
    worker = world.worker()
    assert await worker.assigned(0) == 0
    assert worker.position(0) == 0
    await worker.revoked(0)
    await worker.process(0, world.records)
    assert (worker.position(0), world.store.decided) == (None, [])


async def test_records_that_were_applied_are_skipped() -> None:
    world = World(rulebook(), story())
    worker = world.worker()
    await world.run(worker, CUTS, UNTIL_MS)
    await worker.process(0, world.records[3:])
    assert worker.position(0) == len(world.records)
    await check_against_replay(world, UNTIL_MS)


# --------------------------------------------------------------------------------------------- many timers


@pytest.mark.parametrize("wakes_max", [1, 2, 3, 5])
@pytest.mark.parametrize("cuts", [(), (4,), tuple(range(1, 25))], ids=["one batch", "two", "each its own"])
async def test_more_timers_than_fit_a_commit_keep_their_order_among_the_events(monkeypatch, wakes_max, cuts) -> None:
    monkeypatch.setattr(partition_module, "WAKES_MAX", wakes_max)
    log = Logbook()
    for number in range(12):
        log.event(number // 4, "cart_updated", f"c{number:02}", cart_id="k", total=20)
    for number in range(12):
        # Half of them come within the very milliseconds in which timers are due.
        log.event(30 * MINUTE + number // 4, "payment_failed", f"c{11 - number:02}", amount=1)
    log.raw(30 * MINUTE + 2, b"c1", b"{}")
    world = World(rulebook(), log.records)
    await world.run(world.worker(), cuts, UNTIL_MS)
    done = await check_against_replay(world, UNTIL_MS)
    assert len([one for one in done.actions if one.rule == "winback" and not one.cancel]) == 24


async def test_more_timers_than_a_commit_takes_due_at_once_fire_once_each_in_order() -> None:
    log = Logbook()
    for number in range(1_150):
        log.event(0, "cart_updated", f"c{number:04}", cart_id="k", total=20)
    log.event(31 * MINUTE, "payment_failed", "c0000", amount=1)
    world = World(rulebook(), log.records, cached_max=500)
    await world.run(world.worker(), (500, 1_150), START_MS + 31 * MINUTE)
    done = await check_against_replay(world, START_MS + 31 * MINUTE)
    assert [one.customer_id for one in done.actions if one.rule == "winback"] == [f"c{n:04}" for n in range(1_150)]


async def test_a_crash_between_two_commits_of_a_batch_repeats_no_event(monkeypatch) -> None:
    """More events of one customer than it remembers ids of: only the offset keeps them from counting twice."""
    monkeypatch.setattr(partition_module, "WAKES_MAX", 3)
    log = Logbook()
    for number in range(6):
        log.event(number, "cart_updated", f"c{number}", cart_id="k", total=20)
    log.raw(6, b"x", b"poison")
    for number in range(KEPT_ALWAYS + 20):
        log.event(29 * MINUTE + number, "payment_failed", "d", amount=1)
    log.raw(30 * MINUTE, b"x", b"poison too")
    log.event(40 * MINUTE, "email_opened", "d")
    calls = Line()
    world = World(rulebook(), log.records)
    await world.run(world.worker(calls), (6,), UNTIL_MS)
    await check_against_replay(world, UNTIL_MS)
    for number, name in enumerate(calls.calls):
        if name == "commit":
            world = World(rulebook(), log.records)
            await crash_and_recover(world, Fault(number, "after", "crash"), (6,))
            await check_against_replay(world, UNTIL_MS)


# ------------------------------------------------------------------------------------- rules that raise


class Raises:
    """A template with a defect: it cannot render one basket."""

    name = "text"

    def render(self, facts):
        if facts["event"].get("total") == 13:
            raise ZeroDivisionError("thirteen")
        return {}


@cache
def defective() -> Rulebook:
    """The rules with a defect in what the win-back sends."""
    whole = rulebook()
    journey = whole.journeys["purchase"]
    rules = tuple(
        replace(
            rule,
            captures=("total",),
            program=tuple(
                replace(step, template=Raises()) if getattr(step, "connector", "") == "sms" else step
                for step in rule.program
            ),
        )
        for rule in journey.rules
    )
    aggregates = {one.aggregate.name: one.aggregate for plan in whole.plans.values() for one in plan.aggregates}
    return build_rulebook(
        version="defective",
        journeys=[replace(journey, rules=rules)],
        aggregates=list(aggregates.values()),
        conditions=compiled,
    )


async def test_a_rule_that_raises_costs_its_own_stimulus_and_no_other(caplog) -> None:
    log = Logbook()
    log.event(0, "cart_updated", "ada", cart_id="k1", total=13)
    log.event(0, "cart_updated", "bob", cart_id="k1", total=14)
    for number in range(3):
        log.event(MINUTE + number, "payment_failed", "ada", amount=1, total=13)
    log.event(2 * MINUTE, "email_opened", "bob")
    world = World(defective(), log.records)
    await world.run(world.worker(), (3,), UNTIL_MS)
    done = await check_against_replay(world, UNTIL_MS, failed=2)
    assert [(one.customer_id, one.rule) for one in done.actions if one.kind == "sms" and not one.cancel] == [
        ("bob", "winback")
    ]
    letters = [decode_dead_letter(value) for value in await world.published(DEAD_LETTERS)]
    assert [(one.code, one.key, one.refused_at_ms - START_MS) for one in letters] == [
        ("rule_failed", b"ada", MINUTE + 2),
        ("rule_failed", b"ada", 30 * MINUTE),
    ]
    assert letters[0].message == "ZeroDivisionError: thirteen"
    assert letters[0].value is not None and b'"e4"' in letters[0].value
    assert letters[1].message.startswith("timer absence|")
    assert letters[1].message.endswith("|k1: ZeroDivisionError: thirteen")
    assert letters[1].value is None


# ------------------------------------------------------------------------------- poison, and too much of it


async def test_poison_is_dead_lettered_once_each_with_its_reason_and_place() -> None:
    world = World(rulebook(), story())
    await world.run(world.worker(), CUTS, UNTIL_MS)
    letters = [decode_dead_letter(value) for value in await world.published(DEAD_LETTERS)]
    assert [(one.offset, one.code, one.key) for one in letters] == [
        (2, "not_json", b"bob"),
        (7, "key_mismatch", None),
        (10, "unknown_form", b"ada"),
    ]
    assert [one.value for one in letters] == [world.records[offset].value for offset in (2, 7, 10)]


FLOOD = 2_500


def flooded(producer: str) -> list[Record]:
    """One producer sends nothing but refusals, thousands, and some of the shop's events lie among them."""
    log = Logbook()
    for number in range(FLOOD):
        log.raw(number, b"c", b"{", producer=producer)
        if number % 100 == 0:
            log.event(number, "cart_updated", f"c{number}", producer="shop", cart_id="k", total=20)
    return log.records


@pytest.mark.parametrize("producer", ["partner", "", ENGINE], ids=["a key", "nobody's key", "the engine itself"])
async def test_a_flood_of_refusals_stops_nobody_and_neither_does_a_restart_in_it(producer: str) -> None:
    world = World(rulebook(), flooded(producer))
    cuts = range(500, len(world.records), 500)
    with pytest.raises(Crash):
        await world.run(world.worker(Line(Fault(12, "half", "crash"))), cuts, UNTIL_MS)
    assert 0 < len(world.store.decided) < FLOOD
    await world.run(world.worker(), cuts, UNTIL_MS)
    done = await check_against_replay(world, UNTIL_MS)
    assert {one.customer_id for one in done.actions} == {f"c{number}" for number in range(0, FLOOD, 100)}
    letters = [decode_dead_letter(value) for value in await world.published(DEAD_LETTERS)]
    assert ({one.producer for one in letters}, len({one.offset for one in letters})) == ({producer}, FLOOD)


async def test_a_worker_that_gives_its_last_partition_up_tells_of_no_producer_any_more() -> None:
    def share() -> float | None:
        return REGISTRY.get_sample_value("journey_producer_refused_share", {"producer": "partner"})

    world = World(rulebook(), flooded("partner"))
    worker = world.worker()
    await world.run(worker)
    assert (share() or 0) > 0.9
    await worker.revoked(0)
    assert share() is None


async def test_what_a_partition_says_on_the_topic_is_the_engines_own_also_out_of_a_predecessors_outbox() -> None:
    log = Logbook()
    log.event(0, "alias", "known", producer="shop", previous_id="anon")
    undisturbed, line = World(rulebook(), log.records), Line()
    await undisturbed.run(undisturbed.worker(line))
    resumed = World(rulebook(), log.records)
    await crash_and_recover(resumed, Fault(line.calls.index("append"), "before", "crash"), cuts=())
    for world in (undisturbed, resumed):
        assert [one.producer for one in await world.out.read_range(EVENTS, 0, 0, 10)] == [ENGINE]


# -------------------------------------------------------------------------------------- positions that are lost


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        (
            Extent("events-2", 0, 12),
            "Partition 0 of journey.events: the topic was recreated (its id was events-1, now it is events-2), so the "
            "stored offset 12 means nothing. Restore the topic, or give the worker an empty state store.",
        ),
        (
            Extent("events-1", 15, 20),
            "Partition 0 of journey.events: events 12 to 14 fell out of retention before they were applied. "
            "Restore them, or give the worker an empty state store, which forgets every customer.",
        ),
        (
            Extent("events-1", 0, 11),
            "Partition 0 of journey.events: the stored offset 12 lies beyond the log's end 11: the log has lost events "
            "that were applied. Restore the log, or give the worker an empty state store.",
        ),
    ],
    ids=["the topic was recreated", "out of retention", "beyond the end"],
)
async def test_a_lost_position_is_refused_with_what_to_do(extent: Extent, message: str) -> None:
    world = World(rulebook(), story())
    await world.run(world.worker(), CUTS, UNTIL_MS)
    before = await world.states()
    world.extent = extent
    worker = world.worker()
    with pytest.raises(PositionLost) as refusal:
        await worker.assigned(0)
    assert str(refusal.value) == message
    assert worker.position(0) is None
    assert await world.states() == before


@pytest.mark.parametrize("extent", [Extent("events-1", 12, 12), Extent("events-1", 0, 12), Extent("events-1", 3, 99)])
async def test_a_position_within_the_log_or_at_its_end_is_taken(extent: Extent) -> None:
    world = World(rulebook(), story())
    await world.run(world.worker(), CUTS, UNTIL_MS)
    world.extent = extent
    assert await world.worker().assigned(0) == 12


async def test_a_partition_never_processed_begins_where_the_log_begins() -> None:
    world = World(rulebook(), story())
    world.extent = Extent("events-1", 7, 12)
    assert await world.worker().assigned(0) == 7


# ----------------------------------------------------------------------------------------------- by seeds


def drawn_log(chance: random.Random) -> list[Record]:
    log = Logbook()
    at_ms = 0
    sent: list[Record] = []
    for _ in range(chance.randint(20, 60)):
        at_ms += chance.choice([0, 0, 1, 1_000, MINUTE, 5 * MINUTE, 29 * MINUTE])
        customer = chance.choice("abcd")
        late_ms = chance.choice([0, 0, 0, 1_000, 10 * MINUTE])
        match chance.randrange(10):
            case 0:
                log.raw(at_ms, customer.encode(), chance.choice([b"{", None, b"[]", b'{"id": 3}']))
            case 1 if sent:
                again = chance.choice(sent)
                log.raw(at_ms, again.key, again.value)
            case 2 | 3 | 4:
                log.event(at_ms, "payment_failed", customer, late_ms=late_ms, amount=1)
            case 5:
                log.event(at_ms, "order_completed", customer, late_ms=late_ms, cart_id=chance.choice("kl"))
            case 6:
                log.event(at_ms, "email_opened", customer, late_ms=late_ms)
            case _:
                cart, total = chance.choice("kl"), chance.randint(8, 14)
                log.event(at_ms, "cart_updated", customer, late_ms=late_ms, cart_id=cart, total=total)
        sent.append(log.records[-1])
    return log.records


async def survive(seed: int) -> None:
    """Run a drawn log through workers that crash, pause for outages and cut batches as they please."""
    chance = random.Random(seed)
    world = World(rulebook(), drawn_log(chance), cached_max=chance.choice([0, 1, 20_000]))
    size = len(world.records)
    for _ in range(chance.randint(1, 6)):
        cuts = chance.sample(range(1, size + 1), chance.randint(0, 8))
        kind = chance.choice(["crash", "crash", "crash", "unavailable"])
        fault = Fault(chance.randrange(60), chance.choice(["before", "after", "half"]), kind)
        try:
            await world.run(world.worker(Line(fault)), cuts, UNTIL_MS if chance.random() < 0.2 else None)
        except Crash:
            continue
    await world.run(world.worker(), chance.sample(range(1, size + 1), chance.randint(0, size)), START_MS + 48 * HOUR)
    await check_against_replay(world, START_MS + 48 * HOUR)


@pytest.mark.parametrize("seed", range(100))
async def test_any_schedule_of_crashes_and_outages_comes_to_the_same(seed: int, monkeypatch) -> None:
    monkeypatch.setattr(partition_module, "WAKES_MAX", 1 + seed % 7)
    try:
        await survive(seed)
    except AssertionError as failure:
        command = f"pytest '{__file__}::test_any_schedule_of_crashes_and_outages_comes_to_the_same[{seed}]'"
        raise AssertionError(f"{failure}\nReplay it with: {command}") from failure


# -------------------------------------------------------------------------- the harness finds what is wrong


class ForgetsTheOutbox(Partition):
    """Does not publish what a predecessor left."""

    async def acquire(self) -> int:
        store = self._in.store
        own = await store.acquire(self.number)
        self._epoch, self._sequence, self._clock_ms = own.epoch, own.sequence, own.clock_ms
        self._outbox_end = own.outbox_end
        self._next_offset = own.next_offset or 0
        self._log_id = "events-1"
        self._next_wake_ms = await store.next_wake_ms(self.number)
        return self._next_offset


class PublishesFirst(Partition):
    """Publishes before it commits."""

    async def _commit(
        self, outcome: Outcome, states: States, clock_ms: int, next_offset: int, letters: Sequence[Outgoing]
    ) -> None:
        await self._publish([*self._outgoing(outcome), *letters])
        await super()._commit(outcome, states, clock_ms, next_offset, letters)


class TrimsFirst(Partition):
    """Forgets the outbox before it has been published."""

    async def _deliver(self, outbox) -> None:  # type: ignore[no-untyped-def]
        await self._persist("store", lambda: self._in.store.trim(self.number, self._epoch, self._outbox_end))
        await self._publish(outbox)


class CommitsInTwoSteps(Partition):
    """Writes the states first and the offset with the next commit."""

    async def _commit(
        self, outcome: Outcome, states: States, clock_ms: int, next_offset: int, letters: Sequence[Outgoing]
    ) -> None:
        await super()._commit(outcome, states, clock_ms, self._next_offset, letters)
        await super()._commit(Outcome(), states, clock_ms, next_offset, [])


@pytest.mark.parametrize("mutant", [ForgetsTheOutbox, PublishesFirst, TrimsFirst])
async def test_the_harness_notices_a_worker_that(mutant: type[Partition], monkeypatch) -> None:
    monkeypatch.setattr(worker_module, "Partition", mutant)
    with pytest.raises(AssertionError, match=r"decided|published"):
        await crashed_everywhere(check_promise, with_edit=True)


async def test_the_harness_notices_a_worker_that_writes_states_and_offset_apart(monkeypatch) -> None:
    monkeypatch.setattr(worker_module, "Partition", CommitsInTwoSteps)

    async def check(world: World) -> None:
        await check_against_replay(world, UNTIL_MS)

    with pytest.raises(AssertionError):
        await crashed_everywhere(check, with_edit=False)


async def test_the_harness_notices_a_store_that_ignores_epochs(monkeypatch) -> None:
    monkeypatch.setattr(memory_state_store, "check_epoch", lambda partition, epoch, latest: None)

    async def every_pause() -> None:
        for number, name in enumerate(await undisturbed()):
            if name in {"load", "commit", "due"}:
                await check_promise(await taken_over(number, "before"))

    with pytest.raises(AssertionError, match=r"decided|fenced"):
        await every_pause()


async def test_an_outage_is_told_by_the_port_that_had_it() -> None:
    """The two kinds of outage are both retriable, and nothing else is."""
    assert (StoreUnavailable.retriable, LogUnavailable.retriable, Fenced.retriable) == (True, True, False)
