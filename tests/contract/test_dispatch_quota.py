"""What every dispatch queue promises about capacity: slots, groups, rate, holds, bookings, and what it tells of them.

The limits are facts of the queue. ``another`` is the same contents through another process.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from load_tests.servers import LocalRedis
from orchestrator.adapters.redis_dispatch_queue import RedisDispatchQueue
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_dispatch_queue import SCHEMA, SqliteDispatchQueue
from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.dispatch import LEASE_ENDED, DeliveryQueue
from orchestrator.runtime.ports import Claim, GroupLoad, LedgerEntry, Occupancy, Put, Queued, Quota

NOW = 1_772_000_000_000
LEASE = 60_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

ONE = Quota(slots=1)
TWO = Quota(slots=2)

#: Twenty a minute: two at once, then one every 60 s / 19, rounded up: 3,158 ms.
RATE = Quota(slots=1_000, rate_max=20, rate_per_s=60)


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.integration)])
def implementation(request: pytest.FixtureRequest) -> str:
    """A cluster runs the same scripts: one test below shows that it takes them."""
    return request.param


def call(action_id: str, group: str = "", **fields: Any) -> Queued:
    ordinary: dict[str, Any] = {"priority": 50, "not_before": 0, "deadline_at": None, "body": b"{}"}
    return Queued(id=action_id, connector="voice", group=group, **(ordinary | fields))


def word(action_id: str, outcome: str = "delivered", at_ms: int = NOW) -> LedgerEntry:
    return LedgerEntry(id=action_id, connector="voice", outcome=outcome, at_ms=at_ms)


def numbered(count: int, group: str = "", **fields: Any) -> list[Queued]:
    return [call(f"{group}{number:03d}", group, **fields) for number in range(count)]


async def claim(queue: DeliveryQueue, quota: Quota, now_ms: int = NOW, limit: int = 100) -> Claim:
    return await queue.claim("voice", quota, limit, now_ms, LEASE)


async def ids(queue: DeliveryQueue, quota: Quota, now_ms: int = NOW, limit: int = 100) -> list[str]:
    return [one.id for one in (await claim(queue, quota, now_ms, limit)).actions]


# --------------------------------------------------------------------------------------------------- slots


async def test_no_more_is_claimed_than_there_are_slots_whoever_claims(
    queue: DeliveryQueue, another: DeliveryQueue
) -> None:
    await queue.put(numbered(5))

    assert await ids(queue, TWO, limit=1) == ["000"]
    assert await ids(another, TWO) == ["001"]
    assert await ids(queue, TWO) == []
    assert await ids(another, TWO) == []


async def test_claims_at_the_same_moment_share_the_slots(queue: DeliveryQueue, another: DeliveryQueue) -> None:
    await queue.put(numbered(30))
    quota = Quota(slots=7)

    claims = await asyncio.gather(*(ids(one, quota, limit=3) for one in (queue, another) * 4))
    assert sorted(action_id for claimed in claims for action_id in claimed) == [f"{number:03d}" for number in range(7)]


async def test_a_slot_is_free_when_its_action_is_settled_given_back_or_silent(queue: DeliveryQueue) -> None:
    await queue.put(numbered(5))
    (held,) = (await claim(queue, ONE)).actions
    await queue.settle(word("000"))
    assert held.id == "000"

    (held,) = (await claim(queue, ONE)).actions
    await queue.retry(held, NOW + DAY)
    assert held.id == "001"
    assert await ids(queue, ONE) == ["002"]
    assert await ids(queue, ONE, NOW + LEASE - 1) == []
    assert await ids(queue, ONE, NOW + LEASE) == ["002"]


async def test_a_repeated_settlement_or_retry_frees_one_slot_only(queue: DeliveryQueue) -> None:
    await queue.put(numbered(6))
    first, second = (await claim(queue, TWO)).actions
    for _ in range(3):
        await queue.settle(word(first.id))
        await queue.retry(second, NOW + DAY)

    assert await ids(queue, TWO) == ["002", "003"]
    assert await ids(queue, TWO) == []


async def test_missed_deadlines_are_taken_without_a_slot_and_without_the_rate(queue: DeliveryQueue) -> None:
    await queue.put([call("sent"), call("late", deadline_at=NOW), call("late too", deadline_at=NOW)])
    quota = Quota(slots=1, rate_max=1, rate_per_s=60)
    assert [one.id for one in await queue.overdue("voice", 10, NOW, LEASE)] == ["late", "late too"]
    assert (await queue.occupancy("voice", NOW)).busy == 0

    assert await ids(queue, quota) == ["sent"]
    await queue.settle(word("late", "expired"), hold_until_ms=NOW + DAY, unspent=True)
    await queue.settle(word("late too", "expired"), unspent=True)
    assert (await queue.occupancy("voice", NOW)).groups == {"": GroupLoad(busy=1)}


async def test_a_smaller_quota_takes_nothing_away_and_gives_nothing_more(queue: DeliveryQueue) -> None:
    await queue.put(numbered(5))
    await claim(queue, Quota(slots=3))

    assert await ids(queue, TWO) == []
    await queue.settle(word("000"))
    assert await ids(queue, TWO) == []
    await queue.settle(word("001"))
    assert await ids(queue, TWO) == ["003"]


# -------------------------------------------------------------------------------------------------- groups


async def test_a_full_group_does_not_block_the_others(queue: DeliveryQueue) -> None:
    quota = Quota(slots=10, group_slots={"gold": 1, "iron": 2})
    await queue.put([*numbered(50, "gold", priority=100), *numbered(3, "iron", priority=1), call("free", "other")])

    assert await ids(queue, quota) == ["gold000", "free", "iron000", "iron001"]
    assert await ids(queue, quota) == []
    await queue.settle(word("gold000"))
    assert await ids(queue, quota) == ["gold001"]


async def test_the_slots_of_the_connector_bound_its_groups_together(queue: DeliveryQueue) -> None:
    quota = Quota(slots=3, group_slots={"gold": 2, "iron": 2})
    await queue.put([*numbered(3, "gold"), *numbered(3, "iron", priority=51)])

    assert await ids(queue, quota) == ["iron000", "iron001", "gold000"]


async def test_the_order_holds_across_groups(queue: DeliveryQueue) -> None:
    await queue.put(
        [
            call("no deadline", "b", priority=90),
            call("low", "a", priority=9, deadline_at=NOW + 1),
            call("late deadline", "a", priority=90, deadline_at=NOW + 10_000),
            call("soon deadline", "b", priority=90, deadline_at=NOW + 9_999),
            call("highest", "", priority=100),
            call("waits shorter", "a", not_before=2),
            call("waits longer", "b", not_before=1),
        ]
    )
    order = ["highest", "soon deadline", "late deadline", "no deadline", "waits longer", "waits shorter", "low"]

    assert await ids(queue, Quota(slots=10), limit=4) == order[:4]
    assert await ids(queue, Quota(slots=10)) == order[4:]


@pytest.mark.parametrize("group", ["ünïcode", "a:b", "1:a", "0:", "a\x00b", "x" * 300])
async def test_any_text_names_a_group(queue: DeliveryQueue, group: str) -> None:
    quota = Quota(slots=10, group_slots={group: 1, "a": 1})
    await queue.put([call("1", group), call("2", group), call("3", "a"), call("4", "a"), call("5", "")])

    (first, *_) = (await claim(queue, quota)).actions
    assert first == call("1", group)
    assert await queue.occupancy("voice", NOW) == Occupancy(
        {
            group: GroupLoad(queued=1, ready=1, busy=1, oldest_ready_at_ms=0),
            "a": GroupLoad(queued=1, ready=1, busy=1, oldest_ready_at_ms=0),
            "": GroupLoad(busy=1),
        }
    )


async def test_a_retry_may_name_another_group(queue: DeliveryQueue) -> None:
    await queue.put([call("a", "gold")])
    (held,) = (await claim(queue, ONE)).actions
    await queue.retry(msgspec.structs.replace(held, group="iron"), NOW)

    assert await ids(queue, Quota(slots=1, group_slots={"iron": 0})) == []
    assert await ids(queue, Quota(slots=1, group_slots={"gold": 0})) == ["a"]


# --------------------------------------------------------------------------------------------------- holds


async def test_a_hold_keeps_the_slot_until_its_end(queue: DeliveryQueue, another: DeliveryQueue) -> None:
    await queue.put([*numbered(3, "gold"), *numbered(3, "iron")])
    quota = Quota(slots=2, group_slots={"gold": 1})
    assert await ids(queue, quota) == ["gold000", "iron000"]
    await queue.settle(word("gold000"), hold_until_ms=NOW + 300_000)
    await queue.settle(word("iron000"))

    assert await ids(another, quota) == ["iron001"]
    await another.settle(word("iron001"))
    assert (await another.occupancy("voice", NOW)).groups["gold"] == GroupLoad(
        queued=2, ready=2, busy=1, oldest_ready_at_ms=0
    )
    assert await ids(another, quota, NOW + 299_999) == ["iron002"]
    await another.settle(word("iron002"))
    assert await ids(another, quota, NOW + 300_000) == ["gold001"]


async def test_a_release_ends_a_hold_once(queue: DeliveryQueue, another: DeliveryQueue) -> None:
    await queue.put(numbered(5))
    await claim(queue, TWO)
    await queue.settle(word("000"), hold_until_ms=NOW + DAY)
    await queue.settle(word("001"), hold_until_ms=NOW + DAY)

    assert await another.release("000") is True
    assert await another.release("000") is False
    assert await queue.release("unknown") is False
    assert await ids(queue, TWO) == ["002"]
    assert await ids(queue, TWO) == []


async def test_a_release_that_comes_before_the_settlement_is_not_forgotten(queue: DeliveryQueue) -> None:
    await queue.put(numbered(3))
    await claim(queue, ONE)
    assert await queue.release("000") is True
    assert await queue.release("001") is False
    await queue.settle(word("000"), hold_until_ms=NOW + DAY)

    assert await ids(queue, ONE) == ["001"]


async def test_a_release_counts_for_the_claim_it_came_in(queue: DeliveryQueue) -> None:
    await queue.put([call("a"), call("b")])
    (held,) = (await claim(queue, ONE)).actions
    await queue.release("a")
    await queue.retry(held, 0)
    assert await ids(queue, ONE) == ["a"]
    await queue.settle(word("a"), hold_until_ms=NOW + MINUTE)

    assert await ids(queue, ONE) == []
    assert await ids(queue, ONE, NOW + MINUTE) == ["b"]


async def test_a_settlement_that_is_repeated_after_the_release_holds_nothing(queue: DeliveryQueue) -> None:
    await queue.put(numbered(2))
    await claim(queue, ONE)
    await queue.settle(word("000"), hold_until_ms=NOW + DAY)
    await queue.release("000")
    await queue.settle(word("000"), hold_until_ms=NOW + DAY)

    assert await ids(queue, ONE) == ["001"]


async def test_what_was_never_claimed_holds_nothing(queue: DeliveryQueue) -> None:
    await queue.put(numbered(2))
    await queue.settle(word("000", "failed"), hold_until_ms=NOW + DAY)
    await queue.settle(word("unknown", "failed"), hold_until_ms=NOW + DAY)

    assert await ids(queue, ONE) == ["001"]


async def test_an_id_that_is_redriven_while_it_holds_a_slot_holds_one_in_the_end(queue: DeliveryQueue) -> None:
    await queue.put([call("a")])
    for at_ms in (NOW, NOW + 1):
        await claim(queue, TWO, at_ms)
        await queue.settle(word("a", "dropped", at_ms), hold_until_ms=at_ms + HOUR)
        await queue.redrive([call("a")])

    assert (await queue.occupancy("voice", NOW + 2)).busy == 1
    await queue.release("a")
    assert (await queue.occupancy("voice", NOW + 2)).busy == 0


# --------------------------------------------------------------------------------------------------- rate


async def drained(queues: list[DeliveryQueue], quota: Quota, until_ms: int, start_ms: int = NOW) -> list[int]:
    """Claim and settle as soon as the queue says, by turns; return the moment of each."""
    moments: list[int] = []
    now_ms, turn = start_ms, 0
    while now_ms < until_ms:
        queue = queues[turn % len(queues)]
        claimed = await claim(queue, quota, now_ms, limit=3)
        for one in claimed.actions:
            await queue.settle(word(one.id, at_ms=now_ms))
            moments.append(now_ms)
        assert claimed.again_at_ms is not None
        assert claimed.again_at_ms > now_ms or claimed.actions
        now_ms, turn = max(now_ms, claimed.again_at_ms), turn + 1
    return moments


def most_in_any(span_ms: int, moments: list[int]) -> int:
    return max(bisect_left(moments, moment + span_ms) - index for index, moment in enumerate(moments))


async def test_the_rate_holds_over_all_who_claim(queue: DeliveryQueue, another: DeliveryQueue) -> None:
    await queue.put(numbered(200))
    moments = await drained([queue, another], RATE, NOW + 3 * MINUTE)

    assert most_in_any(MINUTE, moments) <= 20
    assert len(moments) == 57  # One at once, then one every interval, as a fresh queue has no burst.
    assert [moment - NOW for moment in moments[:3]] == [0, 3_158, 6_316]


async def test_a_burst_is_earned_by_rest(queue: DeliveryQueue) -> None:
    await queue.put(numbered(10))
    assert await ids(queue, RATE) == ["000"]
    await queue.settle(word("000"))
    later = NOW + 2 * MINUTE

    assert await ids(queue, RATE, later) == ["001", "002"]
    assert (await claim(queue, RATE, later)).again_at_ms == later + 3_158


async def test_a_claim_that_finds_nothing_lets_the_burst_begin_to_grow(queue: DeliveryQueue) -> None:
    await claim(queue, RATE)
    await queue.put(numbered(10))

    assert await ids(queue, RATE, NOW + MINUTE) == ["000", "001"]


@pytest.mark.parametrize("way", ["settle", "retry"])
async def test_a_token_that_was_not_spent_is_given_back_once(queue: DeliveryQueue, way: str) -> None:
    await queue.put(numbered(10))
    await claim(queue, RATE, NOW - HOUR, limit=0)
    first, second = (await claim(queue, RATE)).actions
    for _ in range(3):  # An answer that was lost is asked for again.
        if way == "settle":
            await queue.settle(word(first.id, "expired"), unspent=True)
        else:
            await queue.retry(first, NOW + DAY, unspent=True)

    assert await ids(queue, RATE) == ["002"]
    await queue.settle(word(second.id))
    assert await ids(queue, RATE) == []


async def test_what_was_sent_or_lapsed_is_not_given_back(queue: DeliveryQueue) -> None:
    quota = Quota(slots=10, rate_max=1, rate_per_s=3_600)
    await queue.put(numbered(3))
    (held,) = (await claim(queue, quota)).actions
    assert (await claim(queue, quota, NOW + LEASE)).again_at_ms == NOW + HOUR  # The lease has ended.
    await queue.retry(held, NOW, unspent=True)

    assert await ids(queue, quota, NOW + HOUR - 1) == []
    assert await ids(queue, quota, NOW + HOUR) == ["001"]


async def test_a_token_comes_back_only_as_far_as_the_flow_has_not_made_up_for_it(queue: DeliveryQueue) -> None:
    quota = Quota(slots=10, rate_max=1, rate_per_s=30)
    await queue.put(numbered(5))
    (held,) = (await claim(queue, quota)).actions
    assert await ids(queue, quota, NOW + 30_000) == ["001"]
    await queue.retry(held, NOW + DAY, unspent=True)

    assert await ids(queue, quota, NOW + 60_000 - 1) == []
    assert await ids(queue, quota, NOW + 60_000) == ["002"]


async def test_a_clock_that_was_set_back_costs_one_window_at_most(queue: DeliveryQueue) -> None:
    await queue.put(numbered(100))
    await claim(queue, RATE, NOW + DAY)
    (again_at_ms,) = {(await claim(queue, RATE, NOW)).again_at_ms}

    assert again_at_ms is not None
    assert NOW < again_at_ms <= NOW + MINUTE
    assert await ids(queue, RATE, again_at_ms) == ["001"]


# -------------------------------------------------------------------------------------------- the next claim


async def test_the_next_claim_is_when_time_brings_something(queue: DeliveryQueue) -> None:
    async def again(quota: Quota = ONE, now_ms: int = NOW, limit: int = 1) -> int | None:
        return (await claim(queue, quota, now_ms, limit)).again_at_ms

    assert await again() is None
    await queue.put([call("a", not_before=NOW + 5_000)])
    assert await again() == NOW + 5_000
    await queue.put([call("b"), call("c")])
    assert await again(TWO) == NOW  # Only the limit ended it.
    assert await again(TWO) == NOW + 5_000  # `c` is claimed; `a` is the next.
    assert await again(TWO, NOW + 5_000) == NOW + LEASE  # `a` is ready and waits for a slot.
    await queue.settle(word("b"), hold_until_ms=NOW + 20_000)
    assert await again(TWO, NOW + 5_000) == NOW + 20_000  # The end of the hold.
    await queue.settle(word("c"))
    assert await again(TWO, NOW + 5_000) == NOW + 5_000 + LEASE  # Only `a` is left, and claimed.
    await queue.settle(word("a"))
    assert await again(TWO, NOW + 5_000) is None  # A hold alone brings nothing.


async def test_a_quota_of_none_waits_for_no_moment(queue: DeliveryQueue) -> None:
    await queue.put(numbered(2))

    assert await claim(queue, Quota(slots=0)) == Claim(actions=[], again_at_ms=None)


async def test_a_claim_of_none_says_that_more_can_be_had(queue: DeliveryQueue) -> None:
    await queue.put(numbered(2))

    assert await claim(queue, ONE, limit=0) == Claim(actions=[], again_at_ms=NOW)


# ----------------------------------------------------------------------------------------------- bookings

TEN, ELEVEN, NOON = NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR
STARTS = [TEN, ELEVEN]


async def test_each_start_takes_its_number_of_bookings_per_group(queue: DeliveryQueue, another: DeliveryQueue) -> None:
    booked = [await one.book("voice", "gold", f"{number}", STARTS, 2) for number in range(3) for one in (queue,)]
    booked += [await another.book("voice", "gold", f"{number}", STARTS, 2) for number in range(3, 6)]

    assert booked == [TEN, TEN, ELEVEN, ELEVEN, None, None]
    assert await another.book("voice", "iron", "6", STARTS, 2) == TEN
    assert await another.book("other", "gold", "7", STARTS, 2) == TEN


async def test_bookings_at_the_same_moment_share_the_starts(queue: DeliveryQueue, another: DeliveryQueue) -> None:
    booked = await asyncio.gather(
        *((queue, another)[number % 2].book("voice", "", f"{number}", STARTS, 3) for number in range(8))
    )

    assert sorted(booked, key=lambda start: start or NOON) == [TEN] * 3 + [ELEVEN] * 3 + [None] * 2


async def test_a_repeated_booking_gets_the_same_answer(queue: DeliveryQueue) -> None:
    assert await queue.book("voice", "", "a", STARTS, 1) == TEN
    assert await queue.book("voice", "", "a", STARTS, 1) == TEN
    assert await queue.book("voice", "", "a", [NOON], 1) == TEN
    assert await queue.book("voice", "", "b", STARTS, 1) == ELEVEN


async def test_a_booking_is_freed_by_settlement_and_withdrawal(queue: DeliveryQueue) -> None:
    for action_id in ("settled", "withdrawn", "withdrawn before it was put"):
        assert await queue.book("voice", "", action_id, [TEN], 3) == TEN
    await queue.put([call("settled"), call("withdrawn")])
    assert await queue.book("voice", "", "full", [TEN], 3) is None

    await queue.settle(word("settled"))
    assert await queue.withdraw(["withdrawn", "withdrawn before it was put"], NOW) == ["withdrawn"]
    assert [await queue.book("voice", "", f"{number}", [TEN], 3) for number in range(4)] == [TEN, TEN, TEN, None]
    assert await queue.put([call("withdrawn before it was put")]) == Put(queued=0, known=1)


async def test_a_booking_outlives_claims_and_retries(queue: DeliveryQueue) -> None:
    await queue.book("voice", "", "a", [TEN], 1)
    await queue.put([call("a")])
    (held,) = (await claim(queue, ONE)).actions
    await queue.retry(held, NOW)

    assert await queue.book("voice", "", "b", [TEN], 1) is None


async def test_a_settled_id_books_nothing_and_is_told_the_first_start(queue: DeliveryQueue) -> None:
    await queue.settle(word("a"))

    assert await queue.book("voice", "", "a", STARTS, 1) == TEN
    assert await queue.book("voice", "", "b", STARTS, 1) == TEN
    assert await queue.book("voice", "", "a", STARTS, 1) == TEN


async def test_bookings_are_forgotten_a_day_after_their_start(queue: DeliveryQueue) -> None:
    await queue.book("voice", "", "a", [TEN], 1)
    await claim(queue, ONE, TEN + DAY)
    assert await queue.book("voice", "", "a", [NOON], 1) == TEN

    await claim(queue, ONE, TEN + DAY + 1)
    assert await queue.book("voice", "", "a", [NOON], 1) == NOON


async def test_without_starts_nothing_is_booked(queue: DeliveryQueue) -> None:
    assert await queue.book("voice", "", "a", [], 1) is None
    assert await queue.book("voice", "", "a", [TEN], 1) == TEN


# ------------------------------------------------------------------------------------- what may be known


async def test_occupancy_tells_of_each_group_what_waits_is_ready_and_is_busy(queue: DeliveryQueue) -> None:
    await queue.put(
        [
            *numbered(3, "gold", not_before=NOW - 7_000),
            call("newer", "gold", not_before=NOW - 5_000),
            call("tomorrow", "gold", not_before=NOW + DAY),
            call("other", "iron", not_before=NOW + 1),
        ]
    )
    await ids(queue, Quota(slots=2))
    await queue.settle(word("gold000"), hold_until_ms=NOW + 500)
    expected = {
        "gold": GroupLoad(queued=3, ready=2, busy=2, oldest_ready_at_ms=NOW - 7_000),
        "iron": GroupLoad(queued=1),
    }
    load = await queue.occupancy("voice", NOW)
    assert (load, load.queued, load.busy) == (Occupancy(expected), 4, 2)

    expected["gold"] = GroupLoad(queued=3, ready=2, busy=1, oldest_ready_at_ms=NOW - 7_000)
    expected["iron"] = GroupLoad(queued=1, ready=1, oldest_ready_at_ms=NOW + 1)
    assert await queue.occupancy("voice", NOW + 500) == Occupancy(expected)


async def test_nothing_is_left_of_a_group_that_is_done(queue: DeliveryQueue) -> None:
    await queue.put([call("settled", "gold"), call("withdrawn", "iron"), call("lapsed", "lead")])
    await ids(queue, Quota(slots=3, group_slots={"iron": 0}))
    await queue.withdraw(["withdrawn"], NOW)
    await queue.settle(word("settled"), hold_until_ms=NOW + MINUTE)
    later = await queue.occupancy("voice", NOW + MINUTE)
    assert later == Occupancy({"lead": GroupLoad(queued=1, ready=1, oldest_ready_at_ms=0)})

    (lapsed,) = (await claim(queue, ONE, NOW + MINUTE)).actions
    assert lapsed.history == (LEASE_ENDED,)
    await queue.settle(word("lapsed"))
    assert await queue.occupancy("voice", NOW + MINUTE) == Occupancy({})


async def test_ahead_counts_the_ready_of_the_group_with_as_high_a_priority(queue: DeliveryQueue) -> None:
    await queue.put(
        [
            *(call(f"{priority}", "gold", priority=priority) for priority in (0, 49, 50, 51, 100)),
            call("not yet", "gold", not_before=NOW + 1),
            call("other", "iron", priority=100),
        ]
    )

    assert [await queue.ahead("voice", "gold", priority, NOW) for priority in (0, 50, 51, 100)] == [5, 3, 2, 1]
    assert await queue.ahead("voice", "gold", 50, NOW + 1) == 4
    assert await queue.ahead("voice", "", 0, NOW) == 0
    await claim(queue, ONE, NOW + 1)
    assert await queue.ahead("voice", "gold", 0, NOW + 1) == 5


# ---------------------------------------------------------------------------------------- after a restart


async def use_up(queue: DeliveryQueue) -> None:
    """Take one of two slots, hold the other, spend the rate, book the only start."""
    await queue.put(numbered(9))
    await claim(queue, LIMITS, NOW - HOUR, limit=0)
    assert await ids(queue, LIMITS) == ["000", "001"]
    await queue.settle(word("000"), hold_until_ms=NOW + HOUR)
    assert await queue.book("voice", "", "008", [NOON], 1) == NOON


LIMITS = Quota(slots=2, rate_max=20, rate_per_s=600)


async def find_used_up(queue: DeliveryQueue) -> None:
    assert (await queue.occupancy("voice", NOW)).busy == 2
    assert await ids(queue, LIMITS) == []
    assert await queue.book("voice", "", "007", [NOON], 1) is None
    assert await queue.release("000") is True
    assert await claim(queue, LIMITS) == Claim(actions=[], again_at_ms=NOW + 31_579)  # The rate.
    assert await ids(queue, LIMITS, NOW + 31_579) == ["002"]


async def test_sqlite_keeps_what_is_used_of_the_quota_when_its_process_ends(tmp_path: Path) -> None:
    for step in (use_up, find_used_up):
        database = SqliteDatabase(tmp_path / "queue.db", SCHEMA)
        await database.open()
        await step(SqliteDispatchQueue(database))
        await database.close()


@pytest.mark.integration
async def test_what_one_client_of_a_cluster_uses_up_another_finds_used_up(
    cluster: DeliveryQueue, another_cluster: DeliveryQueue
) -> None:
    await use_up(cluster)
    await find_used_up(another_cluster)
    (held,) = (await claim(another_cluster, LIMITS, NOW + HOUR, limit=1)).actions
    await asyncio.gather(
        cluster.retry(held, NOW + DAY, unspent=True),
        *(cluster.settle(LedgerEntry(id=name, connector=name, outcome="failed", at_ms=NOW)) for name in "abc"),
    )

    assert [one and one.connector for one in await another_cluster.ledger(["a", "b", "c"])] == ["a", "b", "c"]
    assert await another_cluster.ahead("voice", "", 0, NOW + HOUR) == 7


@pytest.mark.integration
async def test_redis_keeps_what_is_used_of_the_quota_when_the_server_restarts(tmp_path: Path) -> None:
    for step in (use_up, find_used_up):
        with LocalRedis(tmp_path, appendfsync="always") as server:
            client = Redis.from_url(server.url)
            await step(RedisDispatchQueue(client, "default"))
            await client.aclose()


# ---------------------------------------------------------------------------------- what only Redis can show


@pytest.mark.integration
async def test_redis_keeps_nothing_of_capacity_that_is_free_again(
    redis: DeliveryQueue, client: Redis, workspace: str
) -> None:
    await redis.put([call("a", "gold", deadline_at=NOW + DAY)])
    await redis.book("voice", "gold", "a", [TEN], 1)
    (held,) = (await claim(redis, RATE)).actions
    await redis.release("a")
    await redis.retry(held, NOW, unspent=True)
    await claim(redis, RATE)
    await redis.settle(word("a"), hold_until_ms=NOW + DAY)
    await redis.release("a")

    keys = sorted([key.decode() async for key in client.scan_iter(match=f"*journey:{workspace}:*")])
    tag = f"{{journey:{workspace}:q:voice}}"
    assert keys == [
        f"journey:{workspace}:action:a",
        f"journey:{workspace}:connectors",
        f"{tag}:bucket",
        f"{tag}:done:a",
        f"{tag}:recent",
    ]


@pytest.mark.integration
async def test_redis_settles_what_ends_together_in_one_round_trip(redis: DeliveryQueue, client: Redis) -> None:
    await redis.put(numbered(60))
    claimed = (await claim(redis, Quota(slots=60))).actions
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await asyncio.gather(
        *(redis.settle(word(one.id)) for one in claimed[:40]), *(redis.retry(one, NOW + DAY) for one in claimed[40:])
    )

    after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 2  # One call for the settlements, one for the retries.
    assert await redis.occupancy("voice", NOW) == Occupancy({"": GroupLoad(queued=20)})
    assert [one and one.outcome for one in await redis.ledger([one.id for one in claimed])] == (
        ["delivered"] * 40 + [None] * 20
    )


async def test_everybody_who_shares_a_trip_to_a_redis_that_does_not_answer_is_told() -> None:
    client = Redis.from_url("redis://127.0.0.1:1/0")
    queue = RedisDispatchQueue(client, "default")
    told = await asyncio.gather(*(queue.settle(word(f"{number}")) for number in range(3)), return_exceptions=True)

    assert [type(one) for one in told] == [StoreUnavailable] * 3
    await client.aclose()
