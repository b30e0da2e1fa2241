"""What every state store promises to the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from orchestrator.errors import Fenced
from orchestrator.runtime.ports import ACTIONS, DECISIONS, Commit, OutboxEntry, Outgoing, Ownership, StateStore, Wake

PARTITION = 3


def commit(sequence: int, *, epoch: int = 1, **changes: Any) -> Commit:
    """A commit that changes nothing but the position, unless told otherwise."""
    nothing: dict[str, Any] = {
        "next_offset": sequence * 10,
        "clock_ms": sequence * 1_000,
        "states": {},
        "wakes": {},
        "outbox": [],
    }
    return Commit(epoch=epoch, sequence=sequence, **(nothing | changes))


def action(name: str) -> Outgoing:
    return Outgoing(topic=ACTIONS, key=b"customer", value=name.encode())


async def contents(store: StateStore, customer_ids: Sequence[str], partition: int = PARTITION) -> tuple[Any, ...]:
    """Everything about a partition that can be seen without taking it."""
    return (
        await store.load(partition, customer_ids),
        await store.due(partition, 2**53, 1_000),
        await store.outbox(partition),
    )


# --------------------------------------------------------------------------------------------- ownership


async def test_a_partition_never_processed_has_no_offset_of_record(store: StateStore) -> None:
    assert await store.acquire(PARTITION) == Ownership(epoch=1, next_offset=None, sequence=0, clock_ms=0, log_id="")


async def test_each_acquisition_gives_the_next_epoch(store: StateStore) -> None:
    assert [(await store.acquire(PARTITION)).epoch for _ in range(3)] == [1, 2, 3]


async def test_a_new_owner_finds_position_clock_and_log_as_the_last_commit_left_them(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, next_offset=7, clock_ms=1_772_000_000_123, log_id="log-a"))
    await store.commit(PARTITION, commit(2, next_offset=9, clock_ms=1_772_000_000_456, log_id="log-a"))

    assert await store.acquire(PARTITION) == Ownership(
        epoch=2, next_offset=9, sequence=2, clock_ms=1_772_000_000_456, log_id="log-a"
    )


async def test_an_offset_of_record_of_zero_is_not_taken_for_none(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, next_offset=0, clock_ms=0))
    assert (await store.acquire(PARTITION)).next_offset == 0


async def test_a_commit_under_an_old_epoch_is_refused_and_changes_nothing(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(
        PARTITION, commit(1, log_id="log-a", states={"c1": b"one"}, wakes={"c1": 5}, outbox=[action("a1")])
    )
    await store.acquire(PARTITION)
    before = await contents(store, ["c1", "c2"])

    with pytest.raises(Fenced) as refusal:
        await store.commit(
            PARTITION,
            commit(2, epoch=1, states={"c1": None, "c2": b"two"}, wakes={"c1": None, "c2": 6}, outbox=[action("a2")]),
        )

    assert str(refusal.value) == "Partition 3 was taken over: epoch 2 owns it, this write is of epoch 1."
    assert await contents(store, ["c1", "c2"]) == before
    assert await store.acquire(PARTITION) == Ownership(
        epoch=3, next_offset=10, sequence=1, clock_ms=1_000, log_id="log-a", outbox_end=1
    )


async def test_even_a_repeated_commit_is_refused_under_an_old_epoch(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1))
    await store.acquire(PARTITION)
    with pytest.raises(Fenced):
        await store.commit(PARTITION, commit(1, epoch=1))


async def test_trimming_under_an_old_epoch_is_refused_and_forgets_nothing(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, outbox=[action("a1")]))
    await store.acquire(PARTITION)

    with pytest.raises(Fenced) as refusal:
        await store.trim(PARTITION, epoch=1, through=1)

    assert str(refusal.value) == "Partition 3 was taken over: epoch 2 owns it, this write is of epoch 1."
    assert await store.outbox(PARTITION) == [OutboxEntry(1, action("a1"))]


async def test_an_epoch_that_was_never_given_is_refused(store: StateStore) -> None:
    await store.acquire(PARTITION)
    with pytest.raises(Fenced) as refusal:
        await store.commit(PARTITION, commit(1, epoch=4, states={"c1": b"one"}))
    assert str(refusal.value) == (
        "Partition 3 was never given under epoch 4; the latest is 1. "
        "The store was replaced by an older one; acquire the partition again."
    )
    assert await store.load(PARTITION, ["c1"]) == [None]


async def test_any_epoch_may_read(stores: Any) -> None:
    owner, onlooker = await stores.open(), await stores.open()
    await owner.acquire(PARTITION)
    await owner.commit(PARTITION, commit(1, states={"c1": b"one"}, wakes={"c1": 5}, outbox=[action("a1")]))
    assert await contents(onlooker, ["c1"]) == (
        [b"one"],
        [Wake(due_ms=5, customer_id="c1")],
        [OutboxEntry(1, action("a1"))],
    )


async def test_of_two_processes_the_one_that_acquired_last_may_write(stores: Any) -> None:
    first, second = await stores.open(), await stores.open()
    old, new = await first.acquire(PARTITION), await second.acquire(PARTITION)
    await second.commit(PARTITION, commit(1, epoch=new.epoch, states={"c1": b"second"}))
    with pytest.raises(Fenced):
        await first.commit(PARTITION, commit(1, epoch=old.epoch, states={"c1": b"first"}))
    assert await first.load(PARTITION, ["c1"]) == [b"second"]


# ----------------------------------------------------------------------------------------------- commits


async def test_a_repeated_commit_is_applied_once(store: StateStore) -> None:
    await store.acquire(PARTITION)
    same = commit(1, states={"c1": b"one"}, wakes={"c1": 5}, outbox=[action("a1"), action("a2")])
    await store.commit(PARTITION, same)
    once = await contents(store, ["c1"])
    await store.commit(PARTITION, same)
    assert await contents(store, ["c1"]) == once
    assert len(once[2]) == 2


async def test_a_repeated_commit_does_not_bring_back_what_was_trimmed(store: StateStore) -> None:
    await store.acquire(PARTITION)
    same = commit(1, outbox=[action("a1")])
    await store.commit(PARTITION, same)
    await store.trim(PARTITION, epoch=1, through=1)
    await store.commit(PARTITION, same)
    assert await store.outbox(PARTITION) == []


async def test_a_commit_of_the_past_is_not_applied_over_a_later_one(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": b"one"}))
    await store.commit(PARTITION, commit(2, states={"c1": b"two"}))
    await store.commit(PARTITION, commit(1, states={"c1": b"one"}))
    assert await store.load(PARTITION, ["c1"]) == [b"two"]
    assert (await store.acquire(PARTITION)).next_offset == 20


async def test_a_commit_that_leaves_a_gap_is_refused_and_changes_nothing(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": b"one"}))

    with pytest.raises(Fenced) as refusal:
        await store.commit(PARTITION, commit(3, states={"c1": b"three"}, outbox=[action("a3")]))

    assert str(refusal.value) == (
        "Commit 3 of partition 3 does not follow the last one stored, 1. "
        "The store has lost commits; acquire the partition again and go on from its offset of record."
    )
    assert await contents(store, ["c1"]) == ([b"one"], [], [])
    assert (await store.acquire(PARTITION)).sequence == 1


async def test_the_sequence_goes_on_across_owners(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1))
    taken = await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(taken.sequence + 1, epoch=taken.epoch))
    assert (await store.acquire(PARTITION)).sequence == 2


class Breaking(Sequence[Outgoing]):
    """An outbox whose second entry cannot be had."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Outgoing]:
        yield action("a1")
        raise RuntimeError("the second entry cannot be had")


class Unlisted(Mapping[str, int]):
    """Wakes that cannot be listed to their end."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, customer_id: str) -> int:
        return 5

    def __iter__(self) -> Iterator[str]:
        yield "c1"
        raise RuntimeError("the second wake cannot be had")


@pytest.mark.parametrize("broken", [{"outbox": Breaking()}, {"wakes": Unlisted()}], ids=["outbox", "wakes"])
async def test_a_commit_that_fails_half_way_changes_nothing_and_may_be_mended(
    store: StateStore, broken: dict[str, Any]
) -> None:
    await store.acquire(PARTITION)
    whole = {"states": {"c1": b"one", "c2": None}, "wakes": {"c1": 5}, "outbox": [action("a1")]}

    with pytest.raises(RuntimeError, match=r"^the second (entry|wake) cannot be had$"):
        await store.commit(PARTITION, commit(1, **(whole | broken)))

    assert await contents(store, ["c1"]) == ([None], [], [])
    await store.commit(PARTITION, commit(1, **whole))
    assert await contents(store, ["c1"]) == ([b"one"], [Wake(5, "c1")], [OutboxEntry(1, action("a1"))])


async def test_five_thousand_customers_go_into_one_commit(store: StateStore) -> None:
    await store.acquire(PARTITION)
    states = {f"customer-{n}": n.to_bytes(2, "big") * 200 for n in range(5_000)}
    wakes = {customer_id: n for n, customer_id in enumerate(states)}
    outbox = [action(f"a{n}") for n in range(2_000)]

    await store.commit(PARTITION, commit(1, states=states, wakes=wakes, outbox=outbox))

    assert await store.load(PARTITION, list(states)) == list(states.values())
    assert [wake.due_ms for wake in await store.due(PARTITION, 10_000, 10_000)] == list(range(5_000))
    assert [entry.record for entry in await store.outbox(PARTITION)] == outbox


# ------------------------------------------------------------------------------------------------ states


async def test_states_come_in_the_order_asked_with_none_for_strangers(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": b"one", "c2": b"two", "c3": b"three"}))
    assert await store.load(PARTITION, ["c3", "nobody", "c1", "c3"]) == [b"three", None, b"one", b"three"]
    assert await store.load(PARTITION, []) == []


async def test_a_state_is_replaced_as_a_whole(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": b"a long state"}))
    await store.commit(PARTITION, commit(2, states={"c1": b""}))
    assert await store.load(PARTITION, ["c1"]) == [b""]


async def test_a_state_of_none_deletes_and_may_delete_a_stranger(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": b"one", "c2": b"two"}))
    await store.commit(PARTITION, commit(2, states={"c1": None, "nobody": None}))
    assert await store.load(PARTITION, ["c1", "c2", "nobody"]) == [None, b"two", None]


@pytest.mark.parametrize("customer_id", ["", "a b", "{x}:y", "Zoë 顧客 🛒", "%_'\"\\", "n\x00ul", "x" * 500])
async def test_any_text_names_a_customer(store: StateStore, customer_id: str) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={customer_id: b"one"}, wakes={customer_id: 5}))
    assert await store.load(PARTITION, [customer_id]) == [b"one"]
    assert await store.due(PARTITION, 5, 10) == [Wake(5, customer_id)]
    await store.commit(PARTITION, commit(2, states={customer_id: None}, wakes={customer_id: None}))
    assert await contents(store, [customer_id]) == ([None], [], [])


async def test_every_byte_survives(store: StateStore) -> None:
    every = bytes(range(256))
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": every}, outbox=[Outgoing(DECISIONS, every, every)]))
    assert await contents(store, ["c1"]) == ([every], [], [OutboxEntry(1, Outgoing(DECISIONS, every, every))])


# ------------------------------------------------------------------------------------------------- wakes


async def test_wakes_are_due_in_order_of_moment_then_customer(store: StateStore) -> None:
    await store.acquire(PARTITION)
    wakes = {"b": 20, "a": 20, "z": 10, "é": 20, "Z": 20, "later": 31, "c": 30}
    await store.commit(PARTITION, commit(1, wakes=wakes))
    assert await store.due(PARTITION, until_ms=30, limit=100) == [
        Wake(10, "z"),
        Wake(20, "Z"),
        Wake(20, "a"),
        Wake(20, "b"),
        Wake(20, "é"),
        Wake(30, "c"),
    ]


async def test_a_limit_keeps_the_earliest_wakes(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, wakes={"c": 3, "b": 2, "a2": 1, "a1": 1}))
    assert await store.due(PARTITION, until_ms=9, limit=3) == [Wake(1, "a1"), Wake(1, "a2"), Wake(2, "b")]


async def test_a_real_moment_in_milliseconds_is_kept_exactly(store: StateStore) -> None:
    due_ms = 1_772_000_000_001
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, wakes={"c1": due_ms}))
    assert await store.due(PARTITION, due_ms - 1, 10) == []
    assert await store.due(PARTITION, due_ms, 10) == [Wake(due_ms, "c1")]


async def test_a_customer_has_one_wake_the_last_one_written(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, wakes={"c1": 10, "c2": 20}))
    await store.commit(PARTITION, commit(2, wakes={"c1": 30}))
    assert await store.due(PARTITION, 100, 10) == [Wake(20, "c2"), Wake(30, "c1")]


async def test_reading_what_is_due_does_not_take_it_away(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, wakes={"c1": 10}))
    assert await store.due(PARTITION, 100, 10) == await store.due(PARTITION, 100, 10) == [Wake(10, "c1")]


async def test_the_next_wake_is_the_earliest_or_none(store: StateStore) -> None:
    await store.acquire(PARTITION)
    assert await store.next_wake_ms(PARTITION) is None
    await store.commit(PARTITION, commit(1, wakes={"c1": 10, "c2": 20}))
    assert await store.next_wake_ms(PARTITION) == 10
    await store.commit(PARTITION, commit(2, wakes={"c1": None}))
    assert await store.next_wake_ms(PARTITION) == 20
    await store.commit(PARTITION, commit(3, wakes={"c2": None, "nobody": None}))
    assert await store.next_wake_ms(PARTITION) is None


async def test_a_commit_leaves_wakes_alone_that_it_does_not_name(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, states={"c1": b"one"}, wakes={"c1": 10}))
    await store.commit(PARTITION, commit(2, states={"c1": b"two"}))
    assert await store.due(PARTITION, 100, 10) == [Wake(10, "c1")]


# ------------------------------------------------------------------------------------------------ outbox


async def test_outbox_entries_are_numbered_from_one_without_gaps_in_order(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, outbox=[action("a1"), Outgoing(DECISIONS, b"k", b"d1")]))
    await store.commit(PARTITION, commit(2))
    await store.commit(PARTITION, commit(3, outbox=[action("a2")]))
    assert await store.outbox(PARTITION) == [
        OutboxEntry(1, action("a1")),
        OutboxEntry(2, Outgoing(DECISIONS, b"k", b"d1")),
        OutboxEntry(3, action("a2")),
    ]


async def test_trimming_forgets_up_to_a_number_and_may_be_repeated(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, outbox=[action("a1"), action("a2"), action("a3")]))
    for _ in range(2):
        await store.trim(PARTITION, epoch=1, through=2)
        assert await store.outbox(PARTITION) == [OutboxEntry(3, action("a3"))]
    await store.trim(PARTITION, epoch=1, through=1)
    assert await store.outbox(PARTITION) == [OutboxEntry(3, action("a3"))]


async def test_numbers_go_on_after_everything_was_trimmed(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, outbox=[action("a1"), action("a2")]))
    await store.trim(PARTITION, epoch=1, through=2)
    assert await store.outbox(PARTITION) == []
    await store.commit(PARTITION, commit(2, outbox=[action("a3")]))
    assert await store.outbox(PARTITION) == [OutboxEntry(3, action("a3"))]


async def test_more_than_ten_entries_keep_the_order_of_numbers(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, outbox=[action(f"a{n}") for n in range(1, 121)]))
    await store.trim(PARTITION, epoch=1, through=8)
    assert [entry.number for entry in await store.outbox(PARTITION)] == list(range(9, 121))


async def test_a_new_owner_finds_what_was_not_published(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.commit(PARTITION, commit(1, outbox=[action("a1"), action("a2")]))
    await store.trim(PARTITION, epoch=1, through=1)
    taken = await store.acquire(PARTITION)
    assert await store.outbox(PARTITION) == [OutboxEntry(2, action("a2"))]
    await store.trim(PARTITION, epoch=taken.epoch, through=2)
    assert await store.outbox(PARTITION) == []


# --------------------------------------------------------------------------------- separation, permanence


async def test_partitions_share_nothing(store: StateStore) -> None:
    await store.acquire(0)
    await store.commit(0, commit(1, states={"c1": b"one"}, wakes={"c1": 5}, outbox=[action("a1")]))
    assert await store.acquire(1) == Ownership(epoch=1, next_offset=None, sequence=0, clock_ms=0, log_id="")
    assert await contents(store, ["c1"], partition=1) == ([None], [], [])
    assert await store.next_wake_ms(1) is None

    await store.commit(1, commit(1, states={"c1": None}, wakes={"c1": None}, outbox=[action("b1")]))
    await store.trim(1, epoch=1, through=1)
    assert await contents(store, ["c1"], partition=0) == ([b"one"], [Wake(5, "c1")], [OutboxEntry(1, action("a1"))])


async def test_workspaces_share_nothing(stores: Any) -> None:
    ours, theirs = await stores.open("ours"), await stores.open("theirs")
    await ours.acquire(PARTITION)
    await ours.commit(PARTITION, commit(1, states={"c1": b"one"}, wakes={"c1": 5}, outbox=[action("a1")]))
    assert (await theirs.acquire(PARTITION)).epoch == 1
    assert await contents(theirs, ["c1"]) == ([None], [], [])
    assert (await ours.acquire(PARTITION)).epoch == 2


async def test_what_was_committed_is_there_after_a_restart(stores: Any) -> None:
    store = await stores.open()
    await store.acquire(PARTITION)
    await store.commit(
        PARTITION,
        commit(1, log_id="log-a", states={"c1": b"one"}, wakes={"c1": 5}, outbox=[action("a1"), action("a2")]),
    )
    await store.trim(PARTITION, epoch=1, through=1)
    before = await contents(store, ["c1"])
    await stores.close()

    store = await stores.open()
    assert await contents(store, ["c1"]) == before
    assert await store.acquire(PARTITION) == Ownership(
        epoch=2, next_offset=10, sequence=1, clock_ms=1_000, log_id="log-a", outbox_end=2
    )


# ---------------------------------------------------------------------------------------------- scanning


async def scanned(store: StateStore, partition: int = PARTITION) -> dict[str, bytes]:
    return {customer_id: state async for page in store.scan(partition) for customer_id, state in page}


async def test_a_partition_never_processed_has_nobody_to_scan(store: StateStore) -> None:
    assert await scanned(store) == {}


async def test_a_scan_brings_every_customer_of_the_partition_and_no_other(store: StateStore) -> None:
    await store.acquire(PARTITION)
    await store.acquire(PARTITION + 1)
    states = {f"customer-{number}": str(number).encode() for number in range(1_700)}
    await store.commit(PARTITION, commit(1, states=states))
    await store.commit(PARTITION, commit(2, states={"customer-3": None, "customer-4": b"changed", "ü": b"umlaut"}))
    await store.commit(PARTITION + 1, commit(1, states={"elsewhere": b"other"}))

    wanted = {**states, "customer-4": b"changed", "ü": b"umlaut"}
    del wanted["customer-3"]
    assert await scanned(store) == wanted


async def test_writing_goes_on_beside_a_scan(store: StateStore) -> None:
    await store.acquire(PARTITION)
    states = {f"customer-{number}": b"before" for number in range(1_200)}
    await store.commit(PARTITION, commit(1, states=states))
    found: dict[str, bytes] = {}
    sequence = 1
    async for page in store.scan(PARTITION):
        found.update(page)
        sequence += 1
        await store.commit(PARTITION, commit(sequence, states=dict.fromkeys(states, b"after")))
    assert found.keys() == states.keys()
    assert set(found.values()) <= {b"before", b"after"}
