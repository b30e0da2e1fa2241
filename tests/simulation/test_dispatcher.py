"""The dispatcher over a virtual clock: what it sends when, and what it says about it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from connectors.callback import OutcomeType
from connectors.protocol import Finding, Receipt, Result
from orchestrator.adapters.memory_dispatch_queue import MemoryDispatchQueue
from orchestrator.core.action import Action, QuietWindow
from orchestrator.core.opening import OpeningHours, Window
from orchestrator.errors import StoreUnavailable
from orchestrator.rulebook.capacity import Capacity
from orchestrator.runtime.dispatch import DeliveryPolicy
from orchestrator.runtime.dispatch.policy import backoff_ms
from orchestrator.runtime.ports import DEAD_LETTERS, EVENTS, LedgerEntry, Occupancy, Outgoing, Queued, Record
from tests.simulation.dispatch_world import (
    AGAIN,
    HOUR,
    MINUTE,
    NOW,
    REFUSED,
    SECOND,
    UNKNOWN,
    Log,
    Power,
    Receiver,
    World,
    action,
    cancel,
    everything_happens,
    said,
)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()


# -------------------------------------------------------------------------------------------- delivery


async def test_an_action_is_sent_at_once_and_reported(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.clock.advance(10 * MINUTE)
    await world.accept(action("a", params={"text": "hello"}, deadline_at=NOW + HOUR))

    assert sms.calls == [("a", NOW + 10 * MINUTE, 1)]  # No time has passed since it was accepted.
    assert await world.outcome("a") == "delivered"
    assert world.log.of(EVENTS) == [
        {
            "id": "a:action_delivered",
            "type": "action_delivered",
            "customer_id": "customer-of-a",
            "occurred_at": NOW + 10 * MINUTE,
            "properties": {
                "action_id": "a",
                "connector": "sms",
                "kind": "sms",
                "rule": "r",
                "journey": "j",
                "detail": "taken",
                "reference": "ref-a",
                "attempts": 1,
            },
            "source": "dispatcher",
        }
    ]


async def test_a_refusal_that_closes_the_channel_tells_so_before_it_tells_of_the_failure(world: World) -> None:
    sms = world.receiver()
    finding = Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unknown_number", error_code=30005)
    sms.script["a"] = [Receipt(result=Result.REFUSED, detail="no such number", finding=finding)]
    await world.start()
    await world.accept(action("a"))

    assert [(event["id"], event["customer_id"]) for event in world.log.of(EVENTS)] == [
        ("a:message_bounced", "customer-of-a"),
        ("a:action_failed", "customer-of-a"),
    ]
    assert world.log.of(EVENTS)[0]["properties"] == {
        "action_id": "a",
        "connector": "sms",
        "kind": "sms",
        "reason": "unknown_number",
        "error_code": 30005,
    }
    assert [letter["reason"] for letter in world.log.of(DEAD_LETTERS)] == ["refused"]


async def test_an_action_that_is_read_again_is_not_sent_again(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.accept(action("a"), action("a"))
    await world.accept(action("a"))

    assert sms.sent == ["a"]


async def test_what_another_process_queued_is_noticed_within_a_second(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.queue.put([Queued(id="a", connector="sms", priority=1, not_before=0, deadline_at=None, body=BODY)])
    await world.clock.advance(SECOND)

    assert sms.sent == ["a"]


BODY = msgspec.json.encode(action("a"))


async def test_an_action_waits_for_its_moment(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.accept(action("a", not_before=NOW + 10 * MINUTE + 7))
    await world.clock.advance(20 * MINUTE)

    assert sms.calls == [("a", NOW + 10 * MINUTE + 7, 1)]


async def test_no_more_than_the_slots_are_under_way_and_the_highest_priority_goes_first(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(concurrency=3))
    sms.takes_s = 1
    await world.start()
    await world.accept(*(action(f"{number}", priority=number) for number in range(10)))
    await world.clock.advance(10 * SECOND)

    assert sms.most_under_way == 3
    assert sms.sent == ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]
    assert [moment - NOW for _, moment, _ in sms.calls] == [0, 0, 0, 1000, 1000, 1000, 2000, 2000, 2000, 3000]


async def test_two_dispatchers_share_a_queue_without_sending_anything_twice(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(concurrency=2))
    sms.takes_s = 5
    await world.start()
    await world.start()
    await world.accept(*(action(f"{number:02d}") for number in range(20)))
    await world.clock.advance(MINUTE)

    assert sorted(sms.sent) == [f"{number:02d}" for number in range(20)]
    assert sms.most_under_way == 2  # The slots are of both together.


async def test_a_flood_at_the_end_of_quiet_hours_keeps_to_rate_slots_and_priority(world: World) -> None:
    """800 callbacks wait for 12:10; the line takes 100 in six minutes and 20 at once."""
    sms = world.receiver(policy=DeliveryPolicy(concurrency=20, rate_max=100, rate_per_s=360))
    sms.takes_s = 12
    await world.start()
    quiet = QuietWindow(11 * 60, 12 * 60 + 10, "UTC")
    await world.accept(*(action(f"{number:03d}", priority=number % 4, quiet_hours=quiet) for number in range(800)))
    await world.clock.advance(10 * MINUTE - 1)
    assert sms.calls == []

    converted = [f"{number:03d}" for number in range(3, 800, 8)]
    await world.accept(*map(cancel, converted))
    await world.clock.advance(9 * MINUTE)

    moments = [moment for _, moment, _ in sms.calls]
    assert 130 <= len(moments) <= 150
    assert min(moments) >= NOW + 10 * MINUTE
    assert sms.most_under_way <= 20
    assert max(bisect_left(moments, moment + 6 * MINUTE) - index for index, moment in enumerate(moments)) <= 100
    wanted = [f"{number:03d}" for number in range(800) if f"{number:03d}" not in converted]
    assert sms.sent == sorted(wanted, key=lambda name: (-(int(name) % 4), name))[: len(moments)]


# -------------------------------------------------------------------------------------------- retries


async def test_an_attempt_that_was_not_taken_is_repeated_after_its_back_off(world: World) -> None:
    sms = world.receiver(a=[AGAIN, UNKNOWN, AGAIN])
    policy = world.policies["sms"]
    await world.start()
    await world.accept(action("a"))
    await world.clock.advance(15 * MINUTE)

    moments, moment = [NOW], NOW
    for attempts in (1, 2, 3):
        moment += backoff_ms(policy, "a", attempts)
        moments.append(moment)
    assert sms.calls == [("a", moment, attempt) for attempt, moment in enumerate(moments, start=1)]
    assert world.receipts() == ["a:action_delivered"]
    assert world.log.of(EVENTS)[0]["properties"]["attempts"] == 4


async def test_retry_after_is_honoured(world: World) -> None:
    sms = world.receiver(a=[said(Result.RETRY, status=429, retry_after_s=600)])
    await world.start()
    await world.accept(action("a"))
    await world.clock.advance(15 * MINUTE)

    assert [moment - NOW for _, moment, _ in sms.calls] == [0, 600 * SECOND]


async def test_a_delivery_is_given_up_after_its_attempts_and_can_be_redriven(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(attempts_max=2), a=[said(Result.RETRY, detail="busy", status=503)] * 2)
    await world.start()
    await world.accept(action("a"))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a", "a"]
    assert await world.outcome("a") == "failed"
    assert world.receipts() == ["a:action_failed"]
    (letter,) = world.log.of(DEAD_LETTERS)
    assert (letter["origin"], letter["reason"], letter["detail"]) == (
        "dispatcher",
        "attempts_exhausted",
        "retry: busy",
    )
    assert [(one["result"], one["status"]) for one in letter["history"]] == [("retry", 503)] * 2
    assert letter["action"] == msgspec.to_builtins(action("a"))

    assert await world.dispatcher.redrive(["a", "unknown"]) == ["a"]
    await everything_happens()
    assert sms.effects == ["a"]
    assert sms.calls[-1][2] == 1  # A fresh budget.
    assert await world.dispatcher.redrive(["a"]) == []
    assert world.receipts() == ["a:action_failed", "a:action_delivered"]


async def test_a_refused_action_is_not_repeated(world: World) -> None:
    sms = world.receiver(a=[said(Result.REFUSED, status=400, detail="no such number")])
    await world.start()
    await world.accept(action("a"))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a"]
    assert world.log.of(EVENTS)[0]["properties"]["detail"] == "refused: no such number"
    assert [letter["reason"] for letter in world.log.of(DEAD_LETTERS)] == ["refused"]


async def test_an_unknown_outcome_is_dropped_aloud_where_the_policy_says_so(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(on_unknown="drop"), a=[said(Result.UNKNOWN, detail="timeout")])
    await world.start()
    await world.accept(action("a", fallback=(action("f"),)))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a"]
    assert await world.outcome("a") == "dropped"
    assert world.log.of(EVENTS)[0]["type"] == "action_failed"
    assert world.log.of(EVENTS)[0]["properties"]["detail"] == "outcome_unknown: timeout"


#: Ends of a delivery of which nobody knows whether the first attempt arrived: the policy, what comes after it, the
#: deadline, and the word.
UNKNOWN_ENDS: list[tuple[str, DeliveryPolicy, list[Receipt], int | None, str]] = [
    ("deadline passed", DeliveryPolicy(attempts_max=99), [UNKNOWN] * 99, NOW + MINUTE, "expired"),
    (
        "deadline passed while the breaker was open",
        DeliveryPolicy(breaker_after=1, breaker_open_s=600),
        [],
        NOW + MINUTE,
        "expired",
    ),
    ("deadline unreachable", DeliveryPolicy(), [said(Result.RETRY, retry_after_s=600)], NOW + MINUTE, "expired"),
    ("attempts used up", DeliveryPolicy(attempts_max=3), [AGAIN] * 2, None, "failed"),
    ("budget used up", DeliveryPolicy(budget_s=60), [said(Result.RETRY, retry_after_s=61)], None, "failed"),
    ("refused, as a receiver does that has it already", DeliveryPolicy(), [REFUSED], None, "failed"),
    ("dropped", DeliveryPolicy(on_unknown="drop"), [], None, "dropped"),
]


@pytest.mark.parametrize("wants_both", [False, True])
@pytest.mark.parametrize(
    ("policy", "then", "deadline_at", "outcome"),
    [row[1:] for row in UNKNOWN_ENDS],
    ids=[row[0] for row in UNKNOWN_ENDS],
)
async def test_a_fallback_follows_an_unknown_outcome_only_where_its_author_says_so(
    world: World, policy: DeliveryPolicy, then: list[Receipt], deadline_at: int | None, outcome: str, wants_both: bool
) -> None:
    world.receiver("voice", policy, a=[UNKNOWN, *then])
    sms = world.receiver()
    await world.start()
    fallback = (action("f"),)
    call = action("a", connector="voice", deadline_at=deadline_at, fallback=fallback, fallback_on_unknown=wants_both)
    await world.accept(call)
    await world.clock.advance(15 * MINUTE)

    assert await world.outcome("a") == outcome
    assert sms.sent == (["f"] if wants_both else [])
    (told,) = [event["properties"] for event in world.log.of(EVENTS) if event["properties"]["action_id"] == "a"]
    assert (told["certain"], told.get("fallback")) == (False, "f" if wants_both else None)


async def test_a_place_that_closes_for_good_says_nothing_of_the_attempt_before(world: World) -> None:
    hours = OpeningHours((Window(frozenset(range(7)), 720, 780),), "UTC")  # From noon to one.
    voice = world.receiver(
        "voice",
        DeliveryPolicy(capacity=Capacity(lines=1, hours=hours), budget_s=36_000),
        a=[UNKNOWN, said(Result.RETRY, retry_after_s=2 * 3600)],
    )
    sms = world.receiver()
    await world.start()
    await world.accept(action("a", connector="voice", deadline_at=NOW + 5 * HOUR, fallback=(action("f"),)))
    await world.clock.advance(6 * HOUR)

    assert voice.sent == ["a", "a"]
    (told,) = [event["properties"] for event in world.log.of(EVENTS)]
    assert (told["detail"], told["certain"]) == ("promise_unkeepable: nobody is there before the deadline", False)
    assert sms.sent == []


async def test_a_redriven_action_is_as_uncertain_as_it_was(world: World) -> None:
    world.receiver("voice", DeliveryPolicy(attempts_max=1), a=[UNKNOWN, AGAIN])
    sms = world.receiver()
    await world.start()
    await world.accept(action("a", connector="voice", fallback=(action("f"),)))
    assert await world.dispatcher.redrive(["a"]) == ["a"]
    await world.clock.advance(MINUTE)

    assert sms.sent == []
    assert [event["properties"]["certain"] for event in world.log.of(EVENTS)] == [False, False]
    *_, letter = world.log.of(DEAD_LETTERS)
    assert [one if isinstance(one, str) else one["result"] for one in letter["history"]] == ["tried_before", "retry"]


async def test_what_an_earlier_release_dropped_is_redriven_as_uncertain(world: World) -> None:
    world.receiver("voice", DeliveryPolicy(attempts_max=1), a=[AGAIN])
    sms = world.receiver()
    await world.start()
    dropped = action("a", connector="voice", fallback=(action("f"),))
    detail = {"cause": "outcome_unknown", "attempts": 1, "action": msgspec.to_builtins(dropped)}
    await world.queue.settle(LedgerEntry(id="a", connector="voice", outcome="dropped", at_ms=NOW, detail=detail))
    assert await world.dispatcher.redrive(["a"]) == ["a"]
    await world.clock.advance(MINUTE)

    assert await world.outcome("a") == "failed"
    assert sms.sent == []


async def test_who_died_while_settling_what_was_late_leaves_its_fallback(world: World) -> None:
    sms = world.receiver()
    late = action("a", deadline_at=NOW, fallback=(action("f"),))
    for cut in (2, 1, 1):  # Put and claimed, or claimed: and nothing more.
        feeding = asyncio.create_task((await world.start(Power(cut))).accept([world.record(late)]))
        await world.clock.advance(SECOND)
        feeding.cancel()
        await world.kill()
        await world.clock.advance(2 * MINUTE)
    await world.start()
    await world.clock.advance(2 * MINUTE)

    assert (await world.outcome("a"), sms.sent) == ("expired", ["f"])
    assert world.log.of(EVENTS)[0]["properties"]["certain"] is True


async def test_what_may_have_arrived_is_withdrawn_without_claiming_that_it_was_in_time(world: World) -> None:
    sms = world.receiver(a=[UNKNOWN])
    sms.takes_s = 1
    await world.start()
    await world.accept(action("a", fallback=(action("f"),)))
    await world.clock.advance(SECOND)
    await world.accept(cancel("a"))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a"]
    assert world.receipts() == ["a:action_cancel_too_late", "a:action_cancelled"]
    assert [event["properties"].get("certain") for event in world.log.of(EVENTS)] == [None, False]
    await world.accept(cancel("a"))
    assert world.log.of(EVENTS)[-1]["properties"]["certain"] is False


async def test_a_connector_that_raises_has_an_unknown_outcome(world: World, caplog: pytest.LogCaptureFixture) -> None:
    sms = world.receiver(a=[ValueError("a fault of the connector")])
    await world.start()
    await world.accept(action("a"))
    await world.clock.advance(MINUTE)

    assert sms.sent == ["a", "a"]
    assert await world.outcome("a") == "delivered"
    assert caplog.messages == ["The connector sms raised instead of returning a receipt."]


# ------------------------------------------------------------------------------------------ the breaker


async def test_a_broken_connector_is_left_alone_and_holds_up_no_other(world: World) -> None:
    policy = DeliveryPolicy(concurrency=1, breaker_after=3, breaker_open_s=15, backoff_first_s=0.01, backoff_max_s=0.01)
    voice = world.receiver("voice", policy, **{"*": [AGAIN] * 4})
    sms = world.receiver("sms")
    await world.start()
    await world.accept(action("v1", connector="voice"), action("v2", connector="voice"))
    await world.clock.advance(14 * SECOND)
    assert len(voice.calls) == 3

    await world.accept(action("s"))
    assert sms.effects == ["s"]

    await world.clock.advance(30 * SECOND)
    opened = [moment - NOW for _, moment, _ in voice.calls]
    assert len(opened) == 6  # A probe failed; the next was answered, and let the other action through.
    assert opened[3] - opened[2] == 15 * SECOND
    assert opened[4] - opened[3] == 15 * SECOND
    assert sorted(voice.effects) == ["v1", "v2"]


async def test_a_fallback_comes_in_time_while_the_connector_is_broken(world: World) -> None:
    policy = DeliveryPolicy(breaker_after=1, breaker_open_s=600)
    voice = world.receiver("voice", policy, **{"*": [AGAIN] * 50})
    sms = world.receiver("sms")
    await world.start()
    await world.accept(action("first", connector="voice"))
    lead = action("lead", connector="voice", deadline_at=NOW + 5 * MINUTE, fallback=(action("text"),))
    await world.accept(lead)
    await world.clock.advance(10 * MINUTE - 1)

    assert voice.sent == ["first"]
    (call,) = sms.calls
    assert call[0] == "text"
    assert 5 * MINUTE <= call[1] - NOW <= 5 * MINUTE + SECOND
    assert await world.outcome("lead") == "expired"


# --------------------------------------------------------------------------------- deadlines, quiet hours


async def test_an_action_past_its_deadline_gives_way_to_its_fallbacks_in_turn(world: World) -> None:
    sms = world.receiver()
    await world.start()
    late = {"deadline_at": NOW}
    await world.accept(action("a", **late, fallback=(action("b", **late), action("c"))))
    await world.clock.advance(SECOND)

    assert sms.sent == ["c"]
    assert world.receipts() == ["a:action_expired", "b:action_expired", "c:action_delivered"]
    assert world.log.of(DEAD_LETTERS) == []


async def test_quiet_hours_are_not_an_attempt(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.accept(action("a", quiet_hours=QuietWindow(11 * 60, 12 * 60 + 10, "UTC")))
    await world.clock.advance(20 * MINUTE)

    assert sms.calls == [("a", NOW + 10 * MINUTE, 1)]


async def test_quiet_hours_beyond_the_deadline_give_way_to_the_fallback_at_once(world: World) -> None:
    sms = world.receiver()
    await world.start()
    quiet = QuietWindow(11 * 60, 12 * 60 + 10, "UTC")
    await world.accept(action("a", deadline_at=NOW + 10 * MINUTE, quiet_hours=quiet, fallback=(action("f"),)))

    assert sms.calls == [("f", NOW, 1)]


# ------------------------------------------------------------------------------------------- withdrawal


async def test_a_queued_action_is_withdrawn(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.accept(action("a", not_before=NOW + 10 * MINUTE))
    await world.accept(cancel("a"))
    await world.clock.advance(20 * MINUTE)

    assert sms.calls == []
    assert world.receipts() == ["a:action_cancelled"]
    assert world.log.of(EVENTS)[0]["properties"]["connector"] == "sms"


async def test_withdrawing_a_delivered_action_is_too_late(world: World) -> None:
    world.receiver()
    await world.start()
    await world.accept(action("a"))
    await world.accept(cancel("a"))

    assert world.receipts() == ["a:action_delivered", "a:action_cancel_too_late"]
    assert await world.outcome("a") == "delivered"


@pytest.mark.parametrize("result", [Result.REFUSED, Result.RETRY, Result.UNKNOWN])
async def test_what_was_withdrawn_under_way_and_fails_takes_its_fallback_with_it(world: World, result: Result) -> None:
    finding = Finding(type=OutcomeType.MESSAGE_BOUNCED) if result is Result.REFUSED else None
    sms = world.receiver(
        policy=DeliveryPolicy(attempts_max=1, on_unknown="drop"),
        a=[Receipt(result=result, detail="no", finding=finding)],
    )
    sms.takes_s = 5
    await world.start()
    await world.accept(action("a", fallback=(action("f"),)))
    await world.accept(cancel("a"))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a"]
    assert (await world.outcome("a"), await world.outcome("f")) == ("cancelled", None)
    assert await world.dispatcher.redrive(["a"]) == []
    bounced = ["a:message_bounced"] if finding else []
    assert world.receipts() == ["a:action_cancel_too_late", *bounced, "a:action_cancelled"]
    details = [event["properties"].get("detail", "") for event in world.log.of(EVENTS)]
    assert ("nobody knows" in details[-1]) == (result is Result.UNKNOWN)


async def test_a_withdrawal_is_told_to_be_too_late_for_what_only_waits_to_tell_of_its_failure(world: World) -> None:
    sms = world.receiver(a=[REFUSED])
    await world.start()
    world.log.unavailable = True
    await world.accept(action("a", fallback=(action("f", not_before=NOW + HOUR),)))
    world.log.unavailable = False
    await world.accept(cancel("a"))
    await world.clock.advance(MINUTE)

    # The journey hears which action has taken its place, and withdraws that one.
    assert world.receipts() == ["a:action_cancel_too_late", "a:action_failed"]
    assert world.log.of(EVENTS)[1]["properties"]["fallback"] == "f"
    await world.accept(cancel("f"))
    await world.clock.advance(2 * HOUR)
    assert sms.sent == ["a"]
    assert world.receipts()[2:] == ["f:action_cancelled"]


async def test_a_delivery_whose_receipt_waits_for_the_log_beyond_its_lease_is_not_withdrawn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sms = world.receiver(policy=DeliveryPolicy(lease_s=0.5, concurrency=1))
    append, log = world.log.append, asyncio.Event()

    async def slow(records: Sequence[Outgoing]) -> None:
        await log.wait()
        await append(records)

    monkeypatch.setattr(world.log, "append", slow)
    await world.start()
    await world.accept(action("a"))
    await asyncio.sleep(0.1)  # A tenth of the lease, in the loop's own time; then the queue knows of the delivery.
    await world.clock.advance(SECOND)
    withdrawing = asyncio.create_task(world.dispatcher.accept([world.record(cancel("a"))]))
    await everything_happens()
    log.set()
    await withdrawing
    await world.clock.advance(MINUTE)

    assert sms.sent == ["a"]
    assert await world.outcome("a") == "delivered"
    assert set(world.receipts()) == {"a:action_cancel_too_late", "a:action_delivered"}


async def test_who_slept_over_its_lease_says_nothing_about_what_another_has_settled(world: World) -> None:
    sms = world.receiver(a=[REFUSED])
    sms.takes_s = 5
    await world.start()
    await world.accept(action("a", fallback=(action("f"),)))
    await world.queue.settle(LedgerEntry(id="a", connector="sms", outcome="cancelled", at_ms=NOW))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a"]
    assert (await world.outcome("a"), await world.outcome("f")) == ("cancelled", None)
    assert world.receipts() == []


async def test_withdrawing_an_action_under_way_is_too_late_but_it_is_not_repeated(world: World) -> None:
    sms = world.receiver(a=[AGAIN])
    sms.takes_s = 5
    await world.start()
    await world.accept(action("a"))
    await world.accept(cancel("a"))
    await world.clock.advance(15 * MINUTE)

    assert sms.sent == ["a"]
    assert world.receipts() == ["a:action_cancel_too_late", "a:action_cancelled"]


async def test_withdrawing_an_action_withdraws_the_fallback_that_took_its_place(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.accept(action("a", deadline_at=NOW, fallback=(action("f", not_before=NOW + 10 * MINUTE),)))
    await world.accept(cancel("a"))
    await world.clock.advance(20 * MINUTE)

    assert sms.calls == []
    assert world.receipts() == ["a:action_expired", "f:action_cancelled"]


async def test_a_failed_action_that_was_withdrawn_cannot_be_redriven(world: World) -> None:
    world.receiver(a=[REFUSED])
    await world.start()
    await world.accept(action("a"))
    await world.accept(cancel("a"))

    assert await world.outcome("a") == "cancelled"
    assert await world.dispatcher.redrive(["a"]) == []
    assert world.receipts() == ["a:action_failed"]


async def test_a_crash_at_any_point_of_a_withdrawal_withdraws_the_fallback_all_the_same(world: World) -> None:
    sms = world.receiver(a=[REFUSED])
    for cut in range(1, 9):
        gives_way = action("a", fallback=(action("f", not_before=world.clock.now_ms() + HOUR),))
        await world.start()
        await world.accept(gives_way)
        await world.kill()
        withdrawing = asyncio.create_task((await world.start(Power(cut))).accept([world.record(cancel("a"))]))
        await everything_happens()
        withdrawing.cancel()
        await world.kill()
        await world.start()
        await world.accept(cancel("a"))
        await world.clock.advance(2 * HOUR)

        assert (await world.outcome("a"), await world.outcome("f")) == ("cancelled", "cancelled"), f"after step {cut}"
        assert set(world.receipts()) == {"a:action_failed", "f:action_cancelled"}
        assert sms.sent == ["a"]
        await world.kill()
        world.queue, world.log = MemoryDispatchQueue(), Log()
        sms.script["a"], sms.calls = [REFUSED], []


async def test_what_is_redriven_while_it_is_withdrawn_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sms = world.receiver(a=[REFUSED])
    await world.start()
    await world.accept(action("a"))
    withdraw, redriven = world.queue.withdraw, []

    async def overtaken(action_ids: Sequence[str], now_ms: int) -> list[str]:
        taken = await withdraw(action_ids, now_ms)
        redriven.extend([] if redriven else await world.dispatcher.redrive(["a"]))
        return taken

    monkeypatch.setattr(world.queue, "withdraw", overtaken)
    await world.accept(cancel("a"))
    await world.clock.advance(HOUR)

    assert redriven == ["a"]
    assert sms.sent == ["a"]
    assert (await world.outcome("a"), world.receipts()) == ("cancelled", ["a:action_failed", "a:action_cancelled"])


async def test_a_withdrawal_that_comes_first_keeps_the_action_from_being_sent(world: World) -> None:
    sms = world.receiver()
    await world.start()
    await world.accept(cancel("a"))
    await world.accept(action("a"))

    assert sms.calls == []
    assert world.receipts() == ["a:action_cancelled"]


# ------------------------------------------------------------------------------ intake and dependencies


async def test_records_that_cannot_be_read_are_dead_letters_and_hold_up_nothing(world: World) -> None:
    sms = world.receiver()
    dispatcher = await world.start()
    await dispatcher.accept([world.record(b"{"), world.record(action("a"))])
    await everything_happens()

    assert sms.sent == ["a"]
    assert [letter["reason"] for letter in world.log.of(DEAD_LETTERS)] == ["malformed"]


async def test_an_action_for_an_unknown_connector_fails_once_and_is_sent_when_redriven_later(world: World) -> None:
    sms = world.receiver()
    await world.start()
    lost = action("a", connector="fax", fallback=(action("f"),))
    await world.accept(lost)
    await world.accept(lost)

    assert sms.sent == ["f"]
    assert [letter["reason"] for letter in world.log.of(DEAD_LETTERS)] == ["connector_unknown"]
    assert world.log.of(DEAD_LETTERS)[0]["detail"] == "No connector is named 'fax'. Configured: sms."
    assert world.receipts() == ["f:action_delivered", "a:action_failed"] or world.receipts() == [
        "a:action_failed",
        "f:action_delivered",
    ]

    fax = world.receiver("fax")
    await world.kill()
    await world.start()
    assert await world.dispatcher.redrive(["a"]) == ["a"]
    await everything_happens()
    assert fax.sent == ["a"]


async def test_an_outage_of_the_log_delays_receipts_but_repeats_no_delivery(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(lease_s=5), refused=[REFUSED])
    await world.start()
    world.log.unavailable = True
    await world.accept(action("a"), action("refused"))
    await world.clock.advance(10 * MINUTE)
    assert sorted(sms.sent) == ["a", "refused"]
    assert world.receipts() == []

    world.log.unavailable = False
    await world.clock.advance(5 * SECOND)
    assert sorted(world.receipts()) == ["a:action_delivered", "refused:action_failed"]
    assert sorted(sms.sent) == ["a", "refused"]


async def test_an_outage_of_the_queue_is_waited_out(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(lease_s=5))
    sms.takes_s = 1
    await world.start()
    await world.accept(action("a"))
    world.front.unavailable = True
    await world.clock.advance(MINUTE)
    with pytest.raises(StoreUnavailable):
        await world.accept(action("b"))
    world.front.unavailable = False
    await world.accept(action("b"))
    await world.clock.advance(MINUTE)

    assert sms.sent == ["a", "b"]
    assert world.receipts() == ["a:action_delivered", "b:action_delivered"]


# ------------------------------------------------------------------------------------------------ stopping


async def test_stopping_waits_for_what_is_under_way_and_claims_nothing_more(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(concurrency=1))
    sms.takes_s = 5
    dispatcher = await world.start()
    await world.accept(action("a"), action("b"))
    stopping = asyncio.create_task(dispatcher.stop(drain_s=10))
    await world.clock.advance(4 * SECOND)
    assert not stopping.done()

    await world.clock.advance(1 * SECOND)
    assert stopping.done()
    assert sms.sent == ["a"]
    assert await world.outcome("a") == "delivered"
    # The other one is free for the next dispatcher.
    load = (await world.queue.occupancy("sms", world.clock.now_ms())).groups[""]
    assert (load.ready, load.busy, load.oldest_ready_at_ms) == (1, 0, NOW)


async def test_stopping_lets_go_of_what_takes_longer_than_its_bound(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(lease_s=60))
    sms.takes_s = 50
    dispatcher = await world.start()
    await world.accept(action("a"))
    stopping = asyncio.create_task(dispatcher.stop(drain_s=10))
    await world.clock.advance(10 * SECOND)
    assert stopping.done()

    sms.takes_s = 0
    await world.start()
    await world.clock.advance(2 * MINUTE)
    assert [(moment - NOW, attempt) for _, moment, attempt in sms.calls] == [(0, 1), (60 * SECOND, 2)]


async def test_join_ends_with_stop_even_where_there_is_no_connector(world: World) -> None:
    dispatcher = await world.start()
    joining = asyncio.create_task(dispatcher.join())
    await world.clock.advance(MINUTE)
    assert not joining.done()

    await dispatcher.stop()
    await joining


async def test_join_tells_of_a_loop_that_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.receiver()
    dispatcher = await world.start()

    async def broken(*arguments: Any) -> int:
        raise TypeError("a fault of the queue")

    monkeypatch.setattr(world.queue, "occupancy", broken)
    joining = asyncio.create_task(dispatcher.join())
    await world.clock.advance(MINUTE)
    with pytest.raises(TypeError, match=r"^a fault of the queue$"):
        await joining


# ------------------------------------------------------------------------------------------------- crashes

#: A little of everything that can happen to an action, in two batches of records.
BATCHES: list[list[Action | bytes]] = [
    [
        action("delivered"),
        action("retried"),
        action("refused"),
        action("unknown"),
        action("expired", deadline_at=NOW, fallback=(action("fallback"),)),
        action("withdrawn", not_before=NOW + 5 * MINUTE),
        b"not an action",
    ],
    [cancel("withdrawn"), action("later", not_before=NOW + MINUTE)],
]
SCRIPT = {"retried": [AGAIN], "refused": [REFUSED] * 9, "unknown": [UNKNOWN]}
EFFECTS = {"delivered", "retried", "unknown", "fallback", "later"}
OUTCOMES = dict.fromkeys(EFFECTS, "delivered") | {
    "refused": "failed",
    "expired": "expired",
    "withdrawn": "cancelled",
}
RECEIPTS = {f"{name}:action_{outcome}" for name, outcome in OUTCOMES.items()}


async def _live(world: World, batches: list[list[Record]], power: Power) -> None:
    """Run a dispatcher until all is settled, or until its power is out. Batches leave the list when acknowledged."""
    dispatcher = await world.start(power)

    async def feed() -> None:
        while batches:
            await dispatcher.accept(batches[0])
            # The acknowledgement is a durable step as well.
            await power.step(asyncio.sleep(0))
            batches.pop(0)
            await world.clock.sleep(10)

    feeding = asyncio.create_task(feed())
    for _ in range(30 * 60):
        if power.out or await _all_settled(world):
            break
        await world.clock.advance(SECOND)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await world.kill()


async def _all_settled(world: World) -> bool:
    entries: list[LedgerEntry | None] = await world.queue.ledger(list(OUTCOMES))
    return all(entries)


async def _assert_nothing_lost(world: World, sms: Receiver) -> None:
    assert sorted(sms.effects) == sorted(EFFECTS)
    assert {name: await world.outcome(name) for name in OUTCOMES} == OUTCOMES
    assert set(world.receipts()) == RECEIPTS
    assert {letter["reason"] for letter in world.log.of(DEAD_LETTERS)} == {"malformed", "refused"}
    assert await world.queue.occupancy("sms", world.clock.now_ms()) == Occupancy({})


async def _survive(*cuts: int) -> tuple[World, Receiver, int]:
    """Lose power after each number of durable steps in turn, then run to the end; return the steps of the end."""
    world = World()
    sms = world.receiver(
        policy=DeliveryPolicy(concurrency=2), **{name: list(script) for name, script in SCRIPT.items()}
    )
    batches = [[world.record(one) for one in batch] for batch in BATCHES]
    for cut in cuts:
        await _live(world, batches, Power(cut))
    power = Power()
    await _live(world, batches, power)
    return world, sms, power.steps


async def test_without_a_crash_every_receipt_is_written_once() -> None:
    world, sms, steps = await _survive()

    await _assert_nothing_lost(world, sms)
    assert sorted(world.receipts()) == sorted(RECEIPTS)
    assert len(sms.calls) == len(EFFECTS) + 3  # One refusal and two attempts that had to be repeated.
    assert steps > 30


async def test_a_crash_after_any_durable_step_loses_nothing_and_repeats_no_effect() -> None:
    _, _, steps = await _survive()
    for cut in range(1, steps + 1):
        world, sms, _ = await _survive(cut)
        try:
            await _assert_nothing_lost(world, sms)
        except AssertionError as error:
            raise AssertionError(f"A crash after durable step {cut} of {steps} is not survived.") from error


@pytest.mark.parametrize(
    ("wants_both", "neither"),
    [
        (False, {()}),  # A dispatcher died that may have sent the action, so the refusal of another proves nothing.
        (True, set()),
    ],
)
async def test_a_crash_while_an_action_gives_way_never_sends_both_it_and_its_fallback(
    wants_both: bool, neither: set[tuple[str, ...]]
) -> None:
    seen: set[tuple[str, ...]] = set()
    for cut in range(1, 14):
        world = World()
        # Only the dispatcher that dies hears the refusal: a second attempt would be taken.
        sms = world.receiver(first=[REFUSED])
        wanted = world.record(action("first", fallback=(action("instead"),), fallback_on_unknown=wants_both))
        feeding = asyncio.create_task((await world.start(Power(cut))).accept([wanted]))
        await world.clock.advance(10 * SECOND)
        feeding.cancel()
        await world.kill()
        await (await world.start()).accept([wanted])
        await world.clock.advance(10 * MINUTE)

        effects = tuple(sms.effects)
        outcomes = await world.outcome("first"), await world.outcome("instead")
        assert outcomes == {
            ("first",): ("delivered", None),
            ("instead",): ("failed", "delivered"),
            (): ("failed", None),
        }.get(effects), f"A crash after durable step {cut} is not survived: {effects}."
        seen.add(effects)
        await world.close()
    assert seen == {("first",), ("instead",)} | neither


async def test_a_crash_during_recovery_loses_nothing_either() -> None:
    _, _, steps = await _survive()
    for cut in range(1, steps + 1, 3):
        for second in (1, 4, 9):
            world, sms, _ = await _survive(cut, second)
            try:
                await _assert_nothing_lost(world, sms)
            except AssertionError as error:
                raise AssertionError(f"Crashes after {cut} and then {second} steps are not survived.") from error


@pytest.mark.parametrize(
    ("on_unknown", "calls", "outcome", "receipt"),
    [("retry", 2, "delivered", "a:action_delivered"), ("drop", 1, "dropped", "a:action_failed")],
)
async def test_a_crash_between_the_answer_and_the_ledger_follows_the_policy(
    world: World, on_unknown: Any, calls: int, outcome: str, receipt: str
) -> None:
    sms = world.receiver(policy=DeliveryPolicy(on_unknown=on_unknown))
    await world.start(Power(3))  # Put, claim, send: and the answer is lost.
    await world.accept(action("a"))
    await world.clock.advance(SECOND)
    assert sms.effects == ["a"]
    await world.kill()
    await world.start()
    await world.clock.advance(2 * MINUTE)

    assert len(sms.calls) == calls
    assert sms.effects == ["a"]
    assert await world.outcome("a") == outcome
    assert world.receipts() == [receipt]


async def test_an_action_that_kills_every_dispatcher_is_given_up(world: World) -> None:
    sms = world.receiver(policy=DeliveryPolicy(attempts_max=3))
    for _ in range(3):
        await world.start(Power(2 if sms.calls else 3))
        await world.accept(*([] if sms.calls else [action("a")]))
        await world.clock.advance(2 * MINUTE)
        await world.kill()
    await world.start()
    await world.clock.advance(2 * MINUTE)

    assert len(sms.calls) == 3
    assert await world.outcome("a") == "failed"
    (letter,) = world.log.of(DEAD_LETTERS)
    assert (letter["reason"], letter["history"]) == ("attempts_exhausted", ["lease_ended"] * 3)
