"""What every dispatch queue promises to the dispatcher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from orchestrator.adapters.redis_dispatch_queue import RedisDispatchQueue
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_dispatch_queue import SCHEMA, SqliteDispatchQueue
from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.dispatch import LEASE_ENDED, TAKEN, WITHDRAWN, DeliveryQueue
from orchestrator.runtime.dispatch.queue import GIVEN_UP
from orchestrator.runtime.ports import GroupLoad, LedgerEntry, Noted, Occupancy, Put, Queued, Quota

NOW = 1_772_000_000_000
LEASE = 60_000
DAY = 86_400_000


def queued(action_id: str = "a", connector: str = "sms", **fields: Any) -> Queued:
    ordinary: dict[str, Any] = {"priority": 50, "not_before": 0, "deadline_at": None, "body": b'{"n":"\xc3\xa9"}'}
    return Queued(id=action_id, connector=connector, **(ordinary | fields))


def entry(action_id: str = "a", outcome: str = "delivered", *, at_ms: int = NOW, **detail: Any) -> LedgerEntry:
    return LedgerEntry(id=action_id, connector="sms", outcome=outcome, at_ms=at_ms, detail=detail)


async def take(queue: DeliveryQueue, limit: int = 10, now_ms: int = NOW, connector: str = "sms") -> list[Queued]:
    """Claim under a quota that never binds."""
    return (await queue.claim(connector, Quota(slots=10_000), limit, now_ms, LEASE)).actions


async def claimed(queue: DeliveryQueue, limit: int = 10, now_ms: int = NOW, connector: str = "sms") -> list[str]:
    return [one.id for one in await take(queue, limit, now_ms, connector)]


# ---------------------------------------------------------------------------------------- put and claim


async def test_a_claim_returns_what_was_put(queue: DeliveryQueue) -> None:
    whole = queued(deadline_at=NOW + 5, attempts=2, history=("one", "two"), priority=7, not_before=NOW - 9)

    assert await queue.put([whole]) == Put(queued=1, known=0)
    assert await take(queue, 1, NOW) == [whole]


async def test_an_id_is_queued_once(queue: DeliveryQueue) -> None:
    assert await queue.put([queued("a"), queued("b"), queued("a")]) == Put(queued=2, known=1)
    assert await queue.put([queued("b"), queued("c")]) == Put(queued=1, known=1)
    assert await claimed(queue) == ["a", "b", "c"]


async def test_an_id_belongs_to_the_connector_that_had_it_first(queue: DeliveryQueue) -> None:
    await queue.put([queued("a", "sms")])

    assert await queue.put([queued("a", "voice")]) == Put(queued=0, known=1)
    assert await claimed(queue, connector="voice") == []


async def test_a_settled_id_is_not_queued_again(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await queue.settle(entry())

    assert await queue.put([queued()]) == Put(queued=0, known=1)
    assert await claimed(queue) == []


async def test_claims_go_by_priority_then_deadline_then_waiting_time_then_id(queue: DeliveryQueue) -> None:
    await queue.put(
        [
            queued("no deadline", priority=90),
            queued("low", priority=9, deadline_at=NOW + 1),
            queued("late deadline", priority=90, deadline_at=NOW + 10_000),
            queued("soon deadline", priority=90, deadline_at=NOW + 9_999),
            queued("highest", priority=100),
            queued("waits longer b", priority=50, not_before=1),
            queued("waits longer a", priority=50, not_before=1),
            queued("waits shorter", priority=50, not_before=2),
        ]
    )

    assert await claimed(queue, limit=3) == ["highest", "soon deadline", "late deadline"]
    assert await claimed(queue) == ["no deadline", "waits longer a", "waits longer b", "waits shorter", "low"]


async def test_a_flood_that_becomes_ready_at_once_is_claimed_in_order_of_priority(queue: DeliveryQueue) -> None:
    await queue.put([queued(f"{number:04d}", priority=number % 3, not_before=NOW) for number in range(2_500)])

    assert await claimed(queue, limit=3) == ["0002", "0005", "0008"]
    assert (await queue.occupancy("sms", NOW)).groups == {
        "": GroupLoad(queued=2_497, ready=2_497, busy=3, oldest_ready_at_ms=NOW)
    }


async def test_nothing_is_claimed_before_its_time(queue: DeliveryQueue) -> None:
    await queue.put([queued(not_before=NOW + 1)])

    assert await claimed(queue, now_ms=NOW) == []
    assert await claimed(queue, now_ms=NOW + 1) == ["a"]


async def test_a_claim_of_none_takes_none(queue: DeliveryQueue) -> None:
    await queue.put([queued()])

    assert await claimed(queue, limit=0) == []
    assert await claimed(queue) == ["a"]


async def test_connectors_have_queues_of_their_own(queue: DeliveryQueue) -> None:
    await queue.put([queued("a", "sms"), queued("b", "voice")])

    assert await claimed(queue, connector="voice") == ["b"]
    assert (await queue.occupancy("sms", NOW)).queued == 1
    assert await queue.occupancy("email", NOW) == Occupancy({})


# ----------------------------------------------------------------------------------------------- leases


async def test_a_claimed_action_is_invisible_until_its_lease_ends(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await claimed(queue)

    assert await claimed(queue, now_ms=NOW + LEASE - 1) == []
    assert await claimed(queue, now_ms=NOW + LEASE) == ["a"]


async def test_a_lease_of_a_clock_that_ran_ahead_ends_no_later_than_one_that_begins_now(queue: DeliveryQueue) -> None:
    await queue.put([queued("a")])
    assert await claimed(queue, now_ms=NOW + DAY) == ["a"]

    assert await claimed(queue, now_ms=NOW) == []
    assert await claimed(queue, now_ms=NOW + LEASE - 1) == []
    assert await claimed(queue, now_ms=NOW + LEASE) == ["a"]


async def test_each_lease_that_ends_in_silence_counts_as_an_attempt(queue: DeliveryQueue) -> None:
    await queue.put([queued(attempts=1, history=("first",))])
    await claimed(queue)
    await claimed(queue, now_ms=NOW + LEASE)

    (again,) = await take(queue, 1, NOW + 2 * LEASE)
    assert (again.attempts, again.history) == (3, ("first", LEASE_ENDED, LEASE_ENDED))


async def test_what_a_retry_says_replaces_the_count_of_leases(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await claimed(queue)
    (lapsed,) = await take(queue, 1, NOW + LEASE)
    await queue.retry(msgspec.structs.replace(lapsed, attempts=2, history=(*lapsed.history, "503")), NOW + LEASE + 500)

    assert await claimed(queue, now_ms=NOW + LEASE + 499) == []
    (again,) = await take(queue, 1, NOW + LEASE + 500)
    assert (again.attempts, again.history, again.not_before) == (2, (LEASE_ENDED, "503"), NOW + LEASE + 500)


async def test_a_retry_keeps_rank_and_body(queue: DeliveryQueue) -> None:
    first = queued("first", priority=80, deadline_at=NOW + DAY)
    await queue.put([first, queued("second", priority=70)])
    (held,) = await take(queue, 1, NOW)
    await queue.retry(held, NOW)

    again = await take(queue, 2, NOW)
    assert [one.id for one in again] == ["first", "second"]
    assert again[0] == msgspec.structs.replace(first, not_before=NOW)


async def test_a_retry_does_not_revive_what_was_settled_meanwhile(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    (held,) = await take(queue, 1, NOW)
    await queue.settle(entry())
    await queue.retry(held, NOW)

    assert await claimed(queue, now_ms=NOW + DAY) == []
    assert await queue.occupancy("sms", NOW) == Occupancy({})


async def test_a_note_outlives_its_writer_and_leaves_the_action_claimed(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await claimed(queue)
    (held,) = await take(queue, 1, NOW + LEASE)
    again = msgspec.structs.replace(held, attempts=2, history=(*held.history, "503"))
    assert await queue.note(again) is Noted.WRITTEN

    assert await claimed(queue, now_ms=NOW + 2 * LEASE - 1) == []
    (again,) = await take(queue, 1, NOW + 2 * LEASE)
    assert (again.attempts, again.history) == (3, (LEASE_ENDED, "503", LEASE_ENDED))


async def test_a_noted_action_can_be_withdrawn_given_back_and_settled(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    (held,) = await take(queue, 1, NOW)
    noted = msgspec.structs.replace(held, history=("noted",))
    await queue.note(noted)
    await queue.withdraw(["a"], NOW)
    assert await queue.note(msgspec.structs.replace(held, history=("noted again",))) is Noted.WITHDRAWN
    await queue.retry(noted, NOW + 1)

    (again,) = await take(queue, 1, NOW + 1)
    assert (again.attempts, again.history) == (0, ("noted", WITHDRAWN))
    await queue.settle(entry())
    assert await queue.ledger(["a"]) == [entry()]
    assert await queue.occupancy("sms", NOW + 1) == Occupancy({})


async def test_a_note_does_not_revive_what_was_settled_meanwhile(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    (held,) = await take(queue, 1, NOW)
    await queue.settle(entry())
    assert await queue.note(held) is Noted.GONE

    assert await claimed(queue, now_ms=NOW + DAY) == []
    assert await queue.ledger(["a"]) == [entry()]
    assert await queue.occupancy("sms", NOW) == Occupancy({})


# ---------------------------------------------------------------------------------------------- overdue


async def test_missed_deadlines_are_given_whatever_their_rank_and_readiness(queue: DeliveryQueue) -> None:
    await queue.put(
        [
            queued("in time", deadline_at=NOW + 1, priority=100),
            queued("no deadline", priority=100),
            queued("waiting", deadline_at=NOW, not_before=NOW + DAY, priority=0),
            queued("ready", deadline_at=NOW - 1, priority=0),
            queued("held", deadline_at=NOW - 2, priority=100),
        ]
    )
    (held,) = await take(queue, 1, NOW - 5)
    assert held.id == "held"

    assert [one.id for one in await queue.overdue("sms", 10, NOW, LEASE)] == ["ready", "waiting"]
    assert await queue.overdue("sms", 10, NOW, LEASE) == []
    assert await claimed(queue) == ["in time", "no deadline"]


async def test_an_overdue_action_whose_lease_ended_is_given_with_its_mark(queue: DeliveryQueue) -> None:
    await queue.put([queued(deadline_at=NOW + 1)])
    await claimed(queue)

    assert await queue.overdue("sms", 10, NOW + LEASE - 1, LEASE) == []
    (late,) = await queue.overdue("sms", 10, NOW + LEASE, LEASE)
    assert (late.attempts, late.history) == (1, (LEASE_ENDED,))


async def test_a_lease_for_settling_what_is_late_hides_no_attempt(queue: DeliveryQueue) -> None:
    await queue.put([queued("watched", deadline_at=NOW), queued("claimed", deadline_at=NOW)])
    quota = Quota(slots=1, rate_max=1)
    assert [one.id for one in await queue.overdue("sms", 1, NOW, LEASE)] == ["claimed"]
    assert [one.id for one in (await queue.claim("sms", quota, 10, NOW, LEASE)).actions] == ["watched"]
    assert (await queue.occupancy("sms", NOW)).groups.get("") is None

    await queue.put([queued("in time")])
    assert [one.id for one in (await queue.claim("sms", quota, 10, NOW, LEASE)).actions] == ["in time"]
    again = await take(queue, now_ms=NOW + LEASE)
    assert {one.id: (one.attempts, one.history) for one in again} == {
        "watched": (0, ()),
        "claimed": (0, ()),
        "in time": (1, (LEASE_ENDED,)),
    }


async def test_missed_deadlines_come_earliest_first_up_to_the_limit(queue: DeliveryQueue) -> None:
    await queue.put([queued(f"{number}", deadline_at=NOW - number) for number in range(5)])

    assert [one.id for one in await queue.overdue("sms", 2, NOW, LEASE)] == ["4", "3"]


async def test_an_action_given_back_can_be_overdue_again(queue: DeliveryQueue) -> None:
    await queue.put([queued(deadline_at=NOW)])
    (held,) = await queue.overdue("sms", 1, NOW, LEASE)
    await queue.retry(held, NOW + DAY)

    assert [one.id for one in await queue.overdue("sms", 1, NOW, LEASE)] == ["a"]


# ------------------------------------------------------------------------------------------- withdrawal


async def test_a_queued_action_is_withdrawn_and_settled_as_cancelled(queue: DeliveryQueue) -> None:
    await queue.put([queued("a"), queued("b", "voice", not_before=NOW + DAY), queued("c")])

    assert await queue.withdraw(["b", "a"], NOW) == ["b", "a"]
    assert await claimed(queue) == ["c"]
    assert await queue.occupancy("voice", NOW) == Occupancy({})
    assert await queue.ledger(["a", "b", "c"]) == [
        LedgerEntry(id="a", connector="sms", outcome="cancelled", at_ms=NOW),
        LedgerEntry(id="b", connector="voice", outcome="cancelled", at_ms=NOW),
        None,
    ]


async def test_an_unknown_id_is_remembered_as_cancelled(queue: DeliveryQueue) -> None:
    assert await queue.withdraw(["a"], NOW) == []
    assert await queue.put([queued("a")]) == Put(queued=0, known=1)
    assert await claimed(queue) == []
    assert await queue.ledger(["a"]) == [LedgerEntry(id="a", connector="", outcome="cancelled", at_ms=NOW)]


async def test_withdrawing_again_changes_nothing(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await queue.withdraw(["a", "unknown"], NOW)
    before = await queue.ledger(["a", "unknown"])

    assert await queue.withdraw(["a", "unknown"], NOW + 1) == []
    assert await queue.ledger(["a", "unknown"]) == before


async def test_a_claimed_action_cannot_be_withdrawn_but_comes_back_marked(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    (held,) = await take(queue, 1, NOW)

    assert await queue.withdraw(["a"], NOW) == []
    assert await queue.ledger(["a"]) == [None]
    await queue.retry(msgspec.structs.replace(held, attempts=1, history=("503",)), NOW)
    (again,) = await take(queue, 1, NOW)
    assert (again.attempts, again.history) == (1, ("503", WITHDRAWN))


async def test_the_mark_of_a_withdrawal_survives_the_end_of_a_lease(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await claimed(queue)
    await queue.withdraw(["a"], NOW)

    (again,) = await take(queue, 1, NOW + LEASE)
    assert again.history == (LEASE_ENDED, WITHDRAWN)


async def test_what_the_other_side_has_taken_cannot_be_withdrawn_while_it_waits_for_its_receipt(
    queue: DeliveryQueue,
) -> None:
    await queue.put([queued("a"), queued("b")])
    for held in await take(queue):
        history = ("503", TAKEN) if held.id == "a" else ("503",)
        await queue.retry(msgspec.structs.replace(held, attempts=1, history=history), NOW + 1)

    assert await queue.withdraw(["a", "b"], NOW) == ["b"]
    (again,) = await take(queue, now_ms=NOW + 1)
    assert again.history == ("503", TAKEN, WITHDRAWN)


async def test_what_was_given_up_cannot_be_withdrawn_while_it_waits_for_its_receipt(queue: DeliveryQueue) -> None:
    await queue.put([queued("a"), queued("b")])
    history = (f"{GIVEN_UP}failed refused no",)
    for held in await take(queue):
        await queue.note(msgspec.structs.replace(held, attempts=1, history=history))
        if held.id == "a":
            await queue.retry(msgspec.structs.replace(held, attempts=1, history=history), NOW + LEASE)
    await queue.occupancy("sms", NOW + LEASE)  # The lease of b has ended.

    assert await queue.withdraw(["a", "b"], NOW + LEASE) == []
    assert {one.id: one.history for one in await take(queue, now_ms=NOW + LEASE)} == {
        "a": (*history, WITHDRAWN),
        "b": (*history, LEASE_ENDED, WITHDRAWN),
    }


async def test_what_may_have_arrived_is_not_withdrawn_but_comes_back_marked(queue: DeliveryQueue) -> None:
    await queue.put([queued("unanswered"), queued("not taken"), queued("silent")])
    unanswered, not_taken = ('{"at_ms":1,"result":"unknown"}',), ('{"at_ms":1,"result":"retry"}',)
    for held in await take(queue):
        history = {"unanswered": unanswered, "not taken": not_taken}.get(held.id)
        if history is not None:
            await queue.retry(msgspec.structs.replace(held, attempts=1, history=history), NOW + LEASE)
    await queue.occupancy("sms", NOW + LEASE)  # The lease of the silent one has ended.

    assert await queue.withdraw(["unanswered", "not taken", "silent"], NOW + LEASE) == ["not taken"]
    assert {one.id: one.history for one in await take(queue, now_ms=NOW + LEASE)} == {
        "unanswered": (*unanswered, WITHDRAWN),
        "silent": (LEASE_ENDED, WITHDRAWN),
    }


async def test_a_settled_action_cannot_be_withdrawn(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await queue.settle(entry())

    assert await queue.withdraw(["a"], NOW + 1) == []
    assert await queue.ledger(["a"]) == [entry()]


# ------------------------------------------------------------------------------------- ledger and redrive


async def test_a_settled_action_leaves_its_queue_for_the_ledger(queue: DeliveryQueue) -> None:
    await queue.put([queued()])
    await claimed(queue)
    word = entry(reference="SM1", action={"id": "a", "params": {"text": "héllo", "n": 1.5, "deep": [None, True]}})
    await queue.settle(word)

    assert await queue.ledger(["unknown", "a"]) == [None, word]
    assert await queue.occupancy("sms", NOW) == Occupancy({})
    assert await claimed(queue, now_ms=NOW + DAY) == []


async def test_an_action_that_was_never_queued_can_be_settled(queue: DeliveryQueue) -> None:
    await queue.settle(entry(outcome="failed"))

    assert await queue.ledger(["a"]) == [entry(outcome="failed")]
    assert await queue.put([queued()]) == Put(queued=0, known=1)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("failed", "delivered", "delivered"),
        ("delivered", "failed", "delivered"),
        ("failed", "cancelled", "cancelled"),
        ("expired", "expired", "expired"),
    ],
)
async def test_the_later_word_is_kept_except_that_delivered_is_final(
    queue: DeliveryQueue, first: str, second: str, kept: str
) -> None:
    await queue.put([queued()])
    await queue.settle(entry(outcome=first))
    await queue.settle(entry(outcome=second))

    assert [one.outcome for one in await queue.recent(10)] == [kept]
    assert await queue.ledger(["a"]) == [entry(outcome=kept)]


async def test_recent_is_newest_first_across_connectors(queue: DeliveryQueue) -> None:
    await queue.put([queued("v", "voice"), queued("x"), queued("y")])
    await queue.settle(entry("x", at_ms=NOW + 1))
    await queue.settle(entry("y", at_ms=NOW + 3))
    await queue.withdraw(["v"], NOW + 2)
    await queue.withdraw(["unknown"], NOW + 4)

    assert [one.id for one in await queue.recent(10)] == ["unknown", "y", "v", "x"]
    assert [one.id for one in await queue.recent(2)] == ["unknown", "y"]
    assert await queue.recent(0) == []


async def test_redrive_queues_again_what_was_given_up(queue: DeliveryQueue) -> None:
    outcomes = ("failed", "dropped", "delivered", "expired", "cancelled")
    await queue.put([queued(one) for one in (*outcomes, "queued")])
    for at_ms, one in enumerate(outcomes, NOW):
        await queue.settle(entry(one, one, at_ms=at_ms))
    again = [queued(one) for one in (*outcomes, "queued", "forgotten")]

    assert await queue.redrive(again) == ["failed", "dropped", "forgotten"]
    assert await queue.redrive(again) == []
    assert await claimed(queue) == ["dropped", "failed", "forgotten", "queued"]
    assert [one and one.outcome for one in await queue.ledger(outcomes)] == [None, None, *outcomes[2:]]
    assert [one.id for one in await queue.recent(10)] == ["cancelled", "expired", "delivered"]


async def test_a_redriven_action_can_be_settled_and_withdrawn_like_any_other(queue: DeliveryQueue) -> None:
    for one in ("a", "b"):
        await queue.settle(entry(one, "failed"))
    await queue.redrive([queued("a"), queued("b")])
    await queue.settle(entry("a", at_ms=NOW + 1))

    assert await queue.withdraw(["b"], NOW + 2) == ["b"]
    assert [one and one.outcome for one in await queue.ledger(["a", "b"])] == ["delivered", "cancelled"]


@pytest.mark.parametrize("implementation", ["memory", "sqlite"])
async def test_the_ledger_forgets_after_seven_days_and_not_before(queue: DeliveryQueue) -> None:
    await queue.settle(entry("old", at_ms=NOW))
    await queue.settle(entry("same week", at_ms=NOW + 7 * DAY))
    assert await queue.ledger(["old"]) == [entry("old", at_ms=NOW)]

    await queue.settle(entry("next week", at_ms=NOW + 7 * DAY + 1))
    assert await queue.ledger(["old"]) == [None]
    assert [one.id for one in await queue.recent(10)] == ["next week", "same week"]


async def test_empty_calls_are_answered(queue: DeliveryQueue) -> None:
    assert await queue.put([]) == Put(queued=0, known=0)
    assert await queue.withdraw([], NOW) == []
    assert await queue.ledger([]) == []
    assert await queue.redrive([]) == []


# --------------------------------------------------------------------------------- what only Redis can show


@pytest.mark.integration
async def test_redis_forgets_an_action_seven_days_after_its_settlement(
    redis: DeliveryQueue, client: Redis, workspace: str
) -> None:
    tag = f"{{journey:{workspace}:q:sms}}"
    pointer = f"journey:{workspace}:action:a"
    await redis.put([queued(not_before=NOW + 30 * DAY)])
    assert await client.ttl(pointer) == -1  # While it is queued it can be found, however long that is.

    await redis.settle(entry())
    week_s = 7 * 86_400
    assert week_s - 60 <= await client.ttl(f"{tag}:done:a") <= week_s
    assert week_s - 60 <= await client.ttl(pointer) <= week_s


@pytest.mark.integration
async def test_redis_keeps_nothing_of_a_settled_action_but_its_ledger(
    redis: DeliveryQueue, client: Redis, workspace: str
) -> None:
    await redis.put([queued(deadline_at=NOW)])
    await claimed(redis)
    await claimed(redis, now_ms=NOW + LEASE)
    await redis.withdraw(["a"], NOW)
    await redis.settle(entry())

    keys = sorted([key.decode() async for key in client.scan_iter(match=f"*journey:{workspace}:*")])
    tag = f"{{journey:{workspace}:q:sms}}"
    assert keys == [
        f"journey:{workspace}:action:a",
        f"journey:{workspace}:connectors",
        f"{tag}:done:a",
        f"{tag}:recent",
    ]


@pytest.mark.integration
async def test_redis_takes_up_a_put_that_crashed_between_its_two_steps(
    redis: DeliveryQueue, client: Redis, workspace: str
) -> None:
    await client.set(f"journey:{workspace}:action:put-again", "sms")
    await client.set(f"journey:{workspace}:action:withdrawn", "sms")

    assert await redis.ledger(["put-again"]) == [None]
    assert await redis.put([queued("put-again")]) == Put(queued=1, known=0)
    assert await redis.withdraw(["withdrawn"], NOW) == []
    assert await redis.put([queued("withdrawn")]) == Put(queued=0, known=1)
    assert await claimed(redis) == ["put-again"]


@pytest.mark.integration
async def test_redis_loads_its_script_again_when_the_server_has_forgotten_it(
    redis: DeliveryQueue, client: Redis
) -> None:
    await redis.put([queued("a")])
    await client.script_flush()

    assert await claimed(redis) == ["a"]


@pytest.mark.integration
async def test_redis_workspaces_do_not_see_each_other(redis: DeliveryQueue, client: Redis, workspace: str) -> None:
    other = RedisDispatchQueue(client, f"{workspace}:other")
    await redis.put([queued("a")])

    assert await other.put([queued("a")]) == Put(queued=1, known=0)
    assert await other.withdraw(["a"], NOW) == ["a"]
    assert await claimed(redis) == ["a"]


async def test_a_redis_that_does_not_answer_is_unavailable() -> None:
    client = Redis.from_url("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable, match=r"^Redis: Error .* connecting to 127\.0\.0\.1:1\."):
        await RedisDispatchQueue(client, "default").put([queued()])
    await client.aclose()


async def test_a_database_that_is_not_open_is_unavailable(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "queue.db", SCHEMA)
    with pytest.raises(StoreUnavailable):
        await SqliteDispatchQueue(database).put([queued()])


async def test_what_sqlite_holds_survives_the_process(tmp_path: Path) -> None:
    for wanted in (Put(queued=1, known=0), Put(queued=0, known=1)):
        database = SqliteDatabase(tmp_path / "queue.db", SCHEMA)
        await database.open()
        assert await SqliteDispatchQueue(database).put([queued()]) == wanted
        await database.close()
