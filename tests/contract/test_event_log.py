"""What every log of a single process promises to the gateway, the runtime and the dispatcher."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.errors import ConfigurationError, PositionLost
from orchestrator.runtime.ports import ACTIONS, ANONYMOUS, ENGINE, EVENTS, Outgoing, Record

DEADLINE_S = 10
START_MS = 1_772_000_000_000


def event(value: str, key: str = "customer") -> Outgoing:
    return Outgoing(topic=EVENTS, key=key.encode(), value=value.encode())


async def values(log: Any, topic: str = EVENTS, partition: int = 0) -> list[str]:
    start = await log.start_offset(topic, partition)
    return [record.value.decode() for record in await log.read_range(topic, partition, start, 100_000)]


async def take(log: Any, number: int, offset: int = 0, partition: int = 0) -> list[Record]:
    """Read until ``number`` records have come."""
    taken: list[Record] = []
    batches = log.read(EVENTS, partition, offset)
    async with asyncio.timeout(DEADLINE_S):
        async for batch in batches:
            taken += batch
            if len(taken) >= number:
                break
    await batches.aclose()
    return taken


async def blocked(task: asyncio.Task[Any], log: Any) -> bool:
    """Whether the task still waits after everything the log had under way is done."""
    for _ in range(20):
        await log.end_offset(EVENTS, 0)
        await asyncio.sleep(0)
    return not task.done()


# --------------------------------------------------------------------------------------- offsets and order


async def test_a_record_is_read_as_it_was_appended_under_the_logs_stamp(log: Any) -> None:
    await log.append([Outgoing(EVENTS, b"\x00key\xff", bytes(range(256)))])
    assert await log.read_range(EVENTS, 0, 0, 10) == [Record(0, 0, START_MS, b"\x00key\xff", bytes(range(256)))]


async def test_a_record_says_whom_it_is_from(log: Any) -> None:
    for producer in ("shop", ENGINE, ANONYMOUS, ""):
        await log.append([Outgoing(EVENTS, b"k", b"{}", producer)])
    assert [one.producer for one in await take(log, 4)] == ["shop", ENGINE, ANONYMOUS, ""]


async def test_offsets_count_from_zero_without_gaps(log: Any) -> None:
    await log.append([event("a"), event("b")])
    await log.append([])
    await log.append([event("c")])
    assert [record.offset for record in await log.read_range(EVENTS, 0, 0, 10)] == [0, 1, 2]
    assert await log.end_offset(EVENTS, 0) == 3


async def test_records_keep_the_order_they_were_appended_in(log: Any) -> None:
    await log.append([event("a", "k1"), event("b", "k2"), event("c", "k1")])
    await log.append([event("d", "k2")])
    assert await values(log) == ["a", "b", "c", "d"]


async def test_topics_are_numbered_apart(log: Any) -> None:
    await log.append([event("e1"), Outgoing(ACTIONS, b"k", b"a1"), event("e2"), Outgoing(ACTIONS, b"k", b"a2")])
    assert await values(log, EVENTS) == ["e1", "e2"]
    assert await values(log, ACTIONS) == ["a1", "a2"]
    assert await log.end_offset(ACTIONS, 0) == 2


async def test_records_of_one_key_stay_in_one_partition_and_in_order(logs: Any) -> None:
    log = await logs.open({EVENTS: 4})
    appended = [event(f"{key}:{turn}", f"customer-{key}") for turn in range(5) for key in range(40)]
    await log.append(appended[:77])
    await log.append(appended[77:])

    found: dict[bytes, list[tuple[int, str]]] = {}
    for partition in range(4):
        records = await log.read_range(EVENTS, partition, 0, 1_000)
        assert [record.offset for record in records] == list(range(len(records)))
        assert {record.partition for record in records} == {partition}, "every partition takes some of forty keys"
        for record in records:
            found.setdefault(record.key, []).append((partition, record.value.decode()))

    assert len(found) == 40
    for key, records_of_key in found.items():
        number = key.decode().removeprefix("customer-")
        assert [value for _, value in records_of_key] == [f"{number}:{turn}" for turn in range(5)]
        assert len({partition for partition, _ in records_of_key}) == 1


async def test_a_key_belongs_to_the_same_partition_after_a_restart(logs: Any) -> None:
    log = await logs.open({EVENTS: 4})
    await log.append([event("before", f"customer-{n}") for n in range(8)])
    await logs.close()
    log = await logs.open({EVENTS: 4})
    await log.append([event("after", f"customer-{n}") for n in range(8)])
    for partition in range(4):
        records = await log.read_range(EVENTS, partition, 0, 100)
        before = {record.key for record in records if record.value == b"before"}
        after = {record.key for record in records if record.value == b"after"}
        assert before == after


async def test_a_topic_that_is_not_named_has_one_partition(logs: Any) -> None:
    log = await logs.open({EVENTS: 4})
    await log.append([Outgoing(ACTIONS, f"k{n}".encode(), b"a") for n in range(8)])
    assert await log.end_offset(ACTIONS, 0) == 8
    with pytest.raises(ConfigurationError) as refusal:
        await log.end_offset(ACTIONS, 1)
    assert str(refusal.value) == "Topic journey.actions has no partition 1: it has 1, counted from 0."


async def test_many_appenders_at_once_lose_nothing_and_keep_their_own_order(log: Any) -> None:
    async def appender(name: int) -> None:
        for turn in range(25):
            await log.append([event(f"{name}:{turn}", f"k{name}")])

    async with asyncio.timeout(60):
        await asyncio.gather(*(appender(name) for name in range(40)))

    records = await log.read_range(EVENTS, 0, 0, 2_000)
    assert [record.offset for record in records] == list(range(1_000))
    for name in range(40):
        mine = [record.value.decode() for record in records if record.key == f"k{name}".encode()]
        assert mine == [f"{name}:{turn}" for turn in range(25)]


# ------------------------------------------------------------------------------------------------ stamps


async def test_a_record_is_stamped_with_the_present(log: Any, clock: Any) -> None:
    await log.append([event("a")])
    clock.moment_ms += 250
    await log.append([event("b")])
    assert [record.stamp_ms for record in await log.read_range(EVENTS, 0, 0, 10)] == [START_MS, START_MS + 250]
    assert await log.last_stamp_ms(EVENTS, 0) == START_MS + 250


async def test_stamps_never_run_backwards_even_when_the_clock_jumps_back(log: Any, clock: Any) -> None:
    moments = [0, 86_400_000, 86_400_000 - 3_600_000, -86_400_000, 86_400_001]
    for moment in moments:
        clock.moment_ms = START_MS + moment
        await log.append([event("a")])
    stamps = [record.stamp_ms - START_MS for record in await log.read_range(EVENTS, 0, 0, 10)]
    assert stamps == [0, 86_400_000, 86_400_000, 86_400_000, 86_400_001]


async def test_stamps_do_not_run_backwards_across_a_restart_or_retention(logs: Any, clock: Any) -> None:
    log = await logs.open()
    await log.append([event("a")])
    await log.trim(EVENTS, START_MS + 1)
    await logs.close()
    clock.moment_ms -= 3_600_000
    log = await logs.open()
    await log.append([event("b")])
    assert await log.read_range(EVENTS, 0, 1, 10) == [Record(0, 1, START_MS, b"customer", b"b")]


async def test_a_log_without_records_ends_at_zero_and_has_no_stamp(log: Any) -> None:
    assert await log.start_offset(EVENTS, 0) == 0
    assert await log.end_offset(EVENTS, 0) == 0
    assert await log.last_stamp_ms(EVENTS, 0) == 0
    assert await log.read_range(EVENTS, 0, 0, 10) == []


# ----------------------------------------------------------------------------------------------- reading


async def test_a_range_starts_where_asked_and_is_no_longer_than_asked(log: Any) -> None:
    await log.append([event(letter) for letter in "abcdef"])
    assert [record.value for record in await log.read_range(EVENTS, 0, 2, 3)] == [b"c", b"d", b"e"]
    assert [record.value for record in await log.read_range(EVENTS, 0, 5, 3)] == [b"f"]
    assert await log.read_range(EVENTS, 0, 6, 3) == []


async def test_a_reader_is_given_what_is_there_in_bounded_batches(log: Any) -> None:
    await log.append([event(str(n)) for n in range(1_201)])
    batches = log.read(EVENTS, 0, 0)
    sizes = [len(await anext(batches)) for _ in range(3)]
    await batches.aclose()
    assert sizes == [500, 500, 201]


async def test_a_reader_starts_at_its_offset(log: Any) -> None:
    await log.append([event("a"), event("b"), event("c")])
    assert [record.value for record in await take(log, 2, offset=1)] == [b"b", b"c"]


async def test_a_reader_that_has_caught_up_wakes_when_a_record_is_appended(log: Any) -> None:
    await log.append([event("a")])
    batches = log.read(EVENTS, 0, 0)
    async with asyncio.timeout(DEADLINE_S):
        assert [record.value for record in await anext(batches)] == [b"a"]
        waiting = asyncio.create_task(anext(batches))
        assert await blocked(waiting, log)
        await log.append([event("b"), event("c")])
        assert [record.value for record in await waiting] == [b"b", b"c"]
    await batches.aclose()


async def test_a_record_of_another_topic_does_not_end_a_readers_wait(log: Any) -> None:
    waiting = asyncio.create_task(take(log, 1))
    await log.append([Outgoing(ACTIONS, b"k", b"a1")])
    assert await blocked(waiting, log)
    await log.append([event("e1")])
    assert [record.value for record in await waiting] == [b"e1"]


async def test_every_reader_sees_every_record(log: Any) -> None:
    readers = [asyncio.create_task(take(log, 50)) for _ in range(3)]
    for n in range(50):
        await log.append([event(str(n))])
    expected = [str(n).encode() for n in range(50)]
    for reader in readers:
        assert [record.value for record in await reader] == expected


async def test_readers_wake_although_the_appender_was_cancelled(log: Any) -> None:
    await log.append([event("first")])
    waiting = asyncio.create_task(take(log, 1, offset=1))
    assert await blocked(waiting, log)

    appending = asyncio.create_task(log.append([event("second")]))
    await asyncio.sleep(0)  # The appender has handed its record over and waits for the answer.
    appending.cancel()

    assert [record.value for record in await waiting] == [b"second"]


@pytest.mark.parametrize("reading", ["read", "read_range"])
async def test_an_offset_beyond_the_end_is_refused(log: Any, reading: str) -> None:
    await log.append([event("a")])
    with pytest.raises(PositionLost) as refusal:
        await (take(log, 1, offset=2) if reading == "read" else log.read_range(EVENTS, 0, 2, 10))
    assert str(refusal.value) == (
        "Offset 2 of journey.events, partition 0, lies beyond the end of the log, 1. "
        "The log was created anew or restored from an older copy; restore the store that goes with it."
    )


# --------------------------------------------------------------------------------------------- retention


async def test_retention_forgets_records_stamped_before_a_moment_and_keeps_offsets(log: Any, clock: Any) -> None:
    for value in "abc":
        await log.append([event(value)])
        clock.moment_ms += 1_000
    assert await log.trim(EVENTS, START_MS + 2_000) == 2
    assert await log.trim(EVENTS, START_MS + 2_000) == 0
    assert await log.start_offset(EVENTS, 0) == 2
    assert await log.read_range(EVENTS, 0, 2, 10) == [Record(0, 2, START_MS + 2_000, b"customer", b"c")]


async def test_offsets_go_on_after_everything_was_forgotten(log: Any) -> None:
    await log.append([event("a"), event("b")])
    assert await log.trim(EVENTS, START_MS + 1) == 2
    assert (await log.start_offset(EVENTS, 0), await log.end_offset(EVENTS, 0)) == (2, 2)
    assert await log.read_range(EVENTS, 0, 2, 10) == []
    await log.append([event("c")])
    assert [(record.offset, record.value) for record in await log.read_range(EVENTS, 0, 2, 10)] == [(2, b"c")]


async def test_an_offset_out_of_retention_is_refused_and_never_skipped_over(log: Any) -> None:
    await log.append([event("a"), event("b")])
    await log.trim(EVENTS, START_MS + 1)
    with pytest.raises(PositionLost) as refusal:
        await log.read_range(EVENTS, 0, 1, 10)
    assert str(refusal.value) == (
        "Offset 1 of journey.events, partition 0, is out of retention: the earliest is 2. "
        "Records were lost to this reader; keep them for longer, or start it at 2 on purpose."
    )


async def test_retention_covers_every_partition_of_one_topic_only(logs: Any) -> None:
    log = await logs.open({EVENTS: 4})
    await log.append([event("e", f"customer-{n}") for n in range(40)])
    await log.append([Outgoing(ACTIONS, b"k", b"a")])
    assert await log.trim(EVENTS, START_MS + 1) == 40
    assert await values(log, ACTIONS) == ["a"]


async def test_more_records_than_one_transaction_removes_are_forgotten(log: Any, clock: Any) -> None:
    await log.append([event("old")] * 4_500)
    clock.moment_ms += 1
    await log.append([event("new")] * 10)
    assert await log.trim(EVENTS, START_MS + 1) == 4_500
    assert await values(log) == ["new"] * 10


# -------------------------------------------------------------------------------- permanence and identity


async def test_what_was_appended_is_readable_after_a_restart(logs: Any) -> None:
    log = await logs.open()
    await log.append([event("a"), event("b")])
    before = await log.read_range(EVENTS, 0, 0, 10)
    await logs.close()

    log = await logs.open()
    assert await log.read_range(EVENTS, 0, 0, 10) == before
    await log.append([event("c")])
    assert await values(log) == ["a", "b", "c"]


async def test_a_log_keeps_its_identity_over_a_restart(logs: Any) -> None:
    log = await logs.open()
    identity = await log.log_id(EVENTS)
    await log.append([event("a")])
    await logs.close()
    log = await logs.open()
    assert identity
    assert await log.log_id(EVENTS) == identity
    assert await log.log_id(ACTIONS) != identity
