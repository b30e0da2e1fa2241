"""Lines, opening hours and promises over a virtual clock, with dispatchers that share one queue."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY

from connectors.protocol import Delivery, Receipt
from orchestrator.core.action import Action, QuietWindow
from orchestrator.core.opening import OpeningHours, Window
from orchestrator.rulebook.capacity import Capacity, LineGroup
from orchestrator.runtime.dispatch import DeliveryPolicy
from orchestrator.runtime.dispatch.rate import Rate
from orchestrator.runtime.ports import EVENTS
from tests.simulation.dispatch_world import (
    HOUR,
    MINUTE,
    NOW,
    REFUSED,
    SECOND,
    UNKNOWN,
    Receiver,
    World,
    action,
    cancel,
    everything_happens,
)

DAILY = frozenset(range(7))


def at(clock: str, day: int = 2) -> int:
    hour, minute = map(int, clock.split(":"))
    return int(datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp() * 1000)


def hours(begin: str, end: str) -> OpeningHours:
    first, last = (int(one[:2]) * 60 + int(one[3:]) for one in (begin, end))
    return OpeningHours((Window(DAILY, first, last),), "UTC")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()


def call(action_id: str, **fields: Any) -> Action:
    return action(action_id, **({"connector": "voice", "kind": "call"} | fields))


def voice(world: World, capacity: Capacity, **fields: Any) -> Receiver:
    world.receiver("sms")
    return world.receiver("voice", DeliveryPolicy(capacity=capacity, **fields))


def text(action_id: str) -> Action:
    return action(f"text-{action_id}")


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"connector": "voice", **labels}) or 0.0


def of_type(world: World, event_type: str) -> list[dict[str, Any]]:
    return [event for event in world.log.of(EVENTS) if event["type"] == event_type]


def most_at_once(calls: list[tuple[str, int, int]], hold_ms: int) -> int:
    """How many lines are taken at the busiest moment when each call keeps its own for ``hold_ms``."""
    moments = [moment for _, moment, _ in calls]
    return max(bisect_left(moments, moment + hold_ms) - index for index, moment in enumerate(moments))


# ------------------------------------------------------------------------------------------------ lines


async def test_a_line_stays_taken_until_its_time_has_passed(world: World) -> None:
    phone = voice(world, Capacity(lines=2, hold_ms=5 * MINUTE))
    await world.start()
    await world.accept(*(call(f"{number}") for number in range(5)))
    await world.clock.advance(20 * MINUTE)

    assert [moment - NOW for _, moment, _ in phone.calls] == [0, 0, 5 * MINUTE, 5 * MINUTE, 10 * MINUTE]


async def test_a_line_is_free_once_the_outcome_has_come_back(world: World) -> None:
    phone = voice(world, Capacity(lines=1, hold_ms=5 * MINUTE))
    await world.start()
    await world.accept(call("a"), call("b"))
    await world.clock.advance(30 * SECOND)
    assert phone.sent == ["a"]

    assert await world.queue.release("a")
    await world.clock.advance(SECOND)
    assert phone.sent == ["a", "b"]
    assert not await world.queue.release("a")


async def test_a_call_that_was_not_taken_keeps_no_line_and_one_that_may_have_been_does(world: World) -> None:
    phone = voice(world, Capacity(lines=1, hold_ms=5 * MINUTE), on_unknown="drop")
    phone.script.update(refused=[REFUSED], unknown=[UNKNOWN])
    await world.start()
    await world.accept(call("refused", priority=90), call("unknown", priority=80), call("third"))
    await world.clock.advance(20 * MINUTE)

    assert [(name, moment - NOW) for name, moment, _ in phone.calls] == [
        ("refused", 0),
        ("unknown", 0),
        ("third", 5 * MINUTE),
    ]


async def test_a_group_keeps_to_its_own_lines_and_holds_up_no_other(world: World) -> None:
    capacity = Capacity(lines=6, hold_ms=MINUTE, groups={"sales": LineGroup(lines=2), "support": LineGroup(lines=3)})
    phone = voice(world, capacity)
    await world.start()
    await world.start()
    agents = {"a": "sales", "b": "support", "c": "others"}
    await world.accept(
        *(call(f"{kind}{number}", params={"agent": agents[kind]}) for number in range(9) for kind in "abc")
    )
    await world.clock.advance(30 * SECOND)

    assert Counter(name[0] for name in phone.sent) == {"a": 2, "b": 3, "c": 1}
    assert sample("journey_lines", group="sales") == 2
    assert sample("journey_lines_busy", group="sales") == 2
    assert sample("journey_lines_busy", group="") == 6
    assert sample("journey_queue_depth") == 21
    assert 25 <= sample("journey_queue_oldest_ready_seconds") <= 30

    await world.clock.advance(6 * MINUTE)
    assert len(phone.effects) == 27
    for kind, lines in {"a": 2, "b": 3, "": 6}.items():
        assert most_at_once([one for one in phone.calls if one[0].startswith(kind)], MINUTE) == lines


async def test_a_flood_of_callbacks_is_released_by_two_dispatchers_as_one(world: World) -> None:
    """800 callbacks for 20 lines and 100 an hour, at 120 times the speed: never over either, in the order of priority.

    Every eighth converts while it waits, is taken back, and says so.
    """
    hold_ms, window_ms = 6_500, 30 * SECOND
    phone = voice(world, Capacity(lines=20, hold_ms=hold_ms), rate_max=100, rate_per_s=30)
    await world.start()
    await world.start()
    quiet = QuietWindow(11 * 60, 12 * 60 + 1, "UTC")
    await world.accept(*(call(f"{number:03d}", priority=number % 4, quiet_hours=quiet) for number in range(800)))
    await world.clock.advance(MINUTE - 1)
    assert phone.calls == []

    converted = [f"{number:03d}" for number in range(800) if number % 8 == 3]
    await world.accept(*map(cancel, converted))
    await world.clock.advance(5 * MINUTE)

    moments = [moment for _, moment, _ in phone.calls]
    wanted = [f"{number:03d}" for number in range(800) if f"{number:03d}" not in converted]
    assert phone.sent == sorted(wanted, key=lambda name: (-(int(name) % 4), name))
    assert min(moments) == NOW + MINUTE
    assert most_at_once(phone.calls, hold_ms) <= 20
    assert most_at_once(phone.calls, window_ms) <= 100
    assert len(wanted) / ((moments[-1] - moments[0]) / window_ms) > 85  # Of some 91 that the rate lets through.
    cancelled = of_type(world, "action_cancelled")
    assert sorted(event["properties"]["action_id"] for event in cancelled) == converted
    assert {event["properties"]["detail"] for event in cancelled} == {"withdrawn"}


async def test_a_rate_is_not_used_up_by_what_is_not_sent(world: World) -> None:
    phone = voice(world, Capacity(lines=5), rate_max=10, rate_per_s=60)
    await world.start()
    await world.clock.advance(MINUTE)
    quiet = QuietWindow(12 * 60, 13 * 60, "UTC")
    await world.accept(*(call(f"{number}", quiet_hours=quiet) for number in range(20)))
    await world.accept(call("now"))

    assert phone.sent == ["now"]


# ------------------------------------------------------------------------------------------ opening hours


async def test_outside_of_the_hours_an_action_is_given_a_slot_and_says_so(world: World) -> None:
    capacity = Capacity(lines=1, hold_ms=5 * MINUTE, hours=hours("12:10", "13:10"))
    phone = voice(world, capacity)
    booked = sample("journey_slots_booked_total", group="")
    await world.start()
    await world.accept(
        *(call(f"{number}", deadline_at=at("12:55"), fallback=(text(f"{number}"),)) for number in range(10))
    )
    assert phone.calls == []
    # A slot of a quarter of an hour takes three calls of five minutes; the tenth has none before its deadline.
    slots = {
        event["properties"]["action_id"]: event["properties"]["slot_at"] for event in of_type(world, "action_scheduled")
    }
    assert slots == {f"{number}": at("12:10") + number // 3 * 15 * MINUTE for number in range(9)}
    assert of_type(world, "action_scheduled")[0] == {
        "id": f"0:action_scheduled:{at('12:10')}",
        "type": "action_scheduled",
        "customer_id": "customer-of-0",
        "occurred_at": NOW,
        "properties": {
            "action_id": "0",
            "slot_at": at("12:10"),
            "connector": "voice",
            "kind": "call",
            "rule": "r",
            "journey": "j",
        },
        "source": "dispatcher",
    }
    assert sample("journey_slots_booked_total", group="") - booked == 9
    assert world.receivers["sms"].sent == ["text-9"]

    await world.clock.advance(50 * MINUTE)
    assert phone.sent == [f"{number}" for number in range(9)]
    assert all(slots[name] <= moment < slots[name] + 15 * MINUTE for name, moment, _ in phone.calls)


async def test_an_action_that_is_read_again_keeps_its_slot_and_tells_of_it_under_the_same_id(world: World) -> None:
    voice(world, Capacity(lines=1, hold_ms=15 * MINUTE, hours=hours("13:00", "14:00")))
    await world.start()
    await world.accept(call("a"), call("b"))
    await world.accept(call("a"))

    assert [event["id"] for event in of_type(world, "action_scheduled")] == [
        f"a:action_scheduled:{at('13:00')}",
        f"b:action_scheduled:{at('13:15')}",
        f"a:action_scheduled:{at('13:00')}",
    ]


async def test_a_slot_of_a_withdrawn_action_is_free_for_the_next(world: World) -> None:
    voice(world, Capacity(lines=1, hold_ms=15 * MINUTE, hours=hours("13:00", "14:00")))
    await world.start()
    await world.accept(call("a"), cancel("a"), call("b"))
    await world.accept(call("a"))  # Settled: it is given no slot, and nobody is told of one.
    await world.accept(call("c"))

    slots = [
        (event["properties"]["action_id"], event["properties"]["slot_at"])
        for event in of_type(world, "action_scheduled")
    ]
    assert slots == [("a", at("13:00")), ("b", at("13:15")), ("c", at("13:00"))]


async def next_day(world: World, clock: str) -> None:
    """Let the night pass without dispatchers, which have nothing to do in it."""
    await world.close()
    await world.clock.advance(at(clock, 3) - world.clock.now_ms())
    await world.start()


def slots_of(world: World, action_id: str) -> list[int]:
    told = (event["properties"] for event in of_type(world, "action_scheduled"))
    return [one["slot_at"] for one in told if one["action_id"] == action_id]


async def test_what_is_left_when_it_closes_comes_first_thing_in_the_next_opening(world: World) -> None:
    phone = voice(world, Capacity(lines=1, hold_ms=2 * MINUTE, hours=hours("11:00", "12:03")))
    await world.start()
    await world.accept(*(call(f"{number}") for number in range(10)))
    await world.clock.advance(20 * MINUTE)

    assert [(name, moment - NOW) for name, moment, _ in phone.calls] == [("0", 0), ("1", 2 * MINUTE)]
    # A slot takes seven calls of two minutes.
    assert [slots_of(world, f"{number}") for number in range(2, 10)] == [
        *([at("11:00", 3)] for _ in range(7)),
        [at("11:15", 3)],
    ]
    await next_day(world, "10:59")
    await world.clock.advance(18 * MINUTE)
    assert [(name, moment) for name, moment, _ in phone.calls[2:]] == [
        *((f"{number}", at("11:00", 3) + (number - 2) * 2 * MINUTE) for number in range(2, 9)),
        ("9", at("11:15", 3)),
    ]


async def test_an_opening_that_was_missed_moves_everybody_to_the_next(world: World) -> None:
    phone = voice(world, Capacity(lines=2, hours=hours("13:00", "14:00")))
    await world.start()
    await world.accept(call("a"), call("b", deadline_at=at("20:00"), fallback=(text("b"),)))
    await world.kill()
    await world.clock.advance(3 * HOUR)
    await world.start()
    await world.clock.advance(2 * SECOND)

    assert phone.calls == []
    assert world.receivers["sms"].sent == ["text-b"]
    assert of_type(world, "action_expired")[0]["properties"]["detail"] == (
        "promise_unkeepable: nobody is there before the deadline"
    )
    assert slots_of(world, "a") == [at("13:00"), at("13:00", 3)]
    await next_day(world, "12:59")
    await world.clock.advance(2 * MINUTE)
    assert phone.calls == [("a", at("13:00", 3), 1)]


async def test_nothing_is_sent_while_the_group_is_away_though_others_are_there(world: World) -> None:
    capacity = Capacity(
        lines=4, groups={"sales": LineGroup(hours=hours("12:10", "15:00"))}, hours=hours("11:00", "18:00")
    )
    phone = voice(world, capacity)
    await world.start()
    await world.accept(call("sales", params={"agent": "sales"}), call("other", params={"agent": "care"}))
    assert phone.sent == ["other"]

    await world.clock.advance(20 * MINUTE)
    assert phone.calls[1] == ("sales", at("12:10"), 1)


async def test_an_outage_of_the_log_delays_the_move_to_another_slot_and_loses_nothing(world: World) -> None:
    phone = voice(world, Capacity(lines=1, hold_ms=HOUR, hours=hours("11:00", "12:03")))
    await world.start()
    await world.accept(call("a"), call("b"))
    await world.clock.advance(4 * MINUTE)
    assert await world.queue.release("a")
    world.log.unavailable = True
    await world.clock.advance(MINUTE)
    assert slots_of(world, "b") == []
    world.log.unavailable = False
    await world.clock.advance(2 * SECOND)
    assert slots_of(world, "b") == [at("11:00", 3)]
    await next_day(world, "10:59")
    await world.clock.advance(2 * MINUTE)

    assert phone.sent == ["a", "b"]


# ----------------------------------------------------------------------------------------------- promises


async def test_a_promise_that_cannot_be_kept_gives_way_to_its_fallback_at_once(world: World) -> None:
    """Ten wait for two lines of four minutes: who is promised a call in ten minutes can be the sixth at most."""
    phone = voice(world, Capacity(lines=2, hold_ms=4 * MINUTE, call_min_ms=4 * MINUTE))
    before = {
        outcome: sample("journey_promises_total", group="", outcome=outcome)
        for outcome in ("kept", "broken", "unkeepable")
    }
    await world.start()
    await world.accept(call("x"), call("y"))  # Both lines are taken for four minutes.
    await world.accept(
        *(call(f"{number}", deadline_at=NOW + 10 * MINUTE, fallback=(text(f"{number}"),)) for number in range(10))
    )

    # Of those ahead two each take four minutes: behind six of them it is twelve at the least.
    assert sorted(world.receivers["sms"].sent) == ["text-6", "text-7", "text-8", "text-9"]
    expired = of_type(world, "action_expired")
    assert {event["properties"]["detail"] for event in expired} == {"promise_unkeepable: a wait of 720 s at least"}
    assert {event["properties"]["action_id"]: event["properties"]["fallback"] for event in expired} == {
        f"{number}": f"text-{number}" for number in range(6, 10)
    }
    await world.clock.advance(20 * MINUTE)
    assert phone.sent == ["x", "y", "0", "1", "2", "3"]
    assert sorted(world.receivers["sms"].sent)[:2] == ["text-4", "text-5"]  # The lines were not free at once after all.
    gained = {
        outcome: sample("journey_promises_total", group="", outcome=outcome) - was for outcome, was in before.items()
    }
    assert gained == {"kept": 4, "broken": 2, "unkeepable": 4}


async def test_a_promise_is_judged_by_the_rate_as_well(world: World) -> None:
    policy: dict[str, Any] = {"rate_max": 60, "rate_per_s": 60}
    voice(world, Capacity(lines=50), **policy)
    await world.start()
    await world.clock.advance(MINUTE)
    now_ms = world.clock.now_ms()
    await world.accept(*(call(f"{number}") for number in range(12)))  # Six begin at once.
    await world.accept(call("in time", deadline_at=now_ms + MINUTE, priority=40))
    await world.accept(call("too late", deadline_at=now_ms + SECOND, priority=40))
    rate = Rate.of(DeliveryPolicy(**policy).quota)
    assert rate is not None

    wait_s = (7 + 1 - rate.burst) * rate.interval_us // 1_000_000
    assert [event["properties"]["detail"] for event in of_type(world, "action_expired")] == [
        f"promise_unkeepable: a wait of {wait_s} s at least"
    ]


async def test_those_of_a_lower_priority_are_not_in_the_way(world: World) -> None:
    phone = voice(world, Capacity(lines=1, hold_ms=4 * MINUTE, call_min_ms=4 * MINUTE))
    await world.start()
    await world.accept(*(call(f"{number}", priority=10) for number in range(10)))
    await world.accept(call("urgent", priority=90, deadline_at=NOW + 5 * MINUTE))
    await world.clock.advance(5 * MINUTE)

    assert phone.sent == ["0", "urgent"]


async def test_how_long_customers_waited_for_their_call_is_measured(world: World) -> None:
    voice(world, Capacity(lines=1, hold_ms=2 * MINUTE))
    count, total = (sample(f"journey_callback_wait_seconds_{what}", group="") for what in ("count", "sum"))
    await world.start()
    await world.accept(call("a"), call("b"))
    await world.clock.advance(10 * MINUTE)

    assert sample("journey_callback_wait_seconds_count", group="") - count == 2
    assert sample("journey_callback_wait_seconds_sum", group="") - total == 120


# ---------------------------------------------------------------------------------------------- isolation


class Hanging(Receiver):
    """Takes ten seconds for every call."""

    async def answer(self, delivery: Delivery) -> Receipt:
        self.takes_s = 10
        return await super().answer(delivery)


async def test_a_connector_that_hangs_does_not_move_the_others(world: World) -> None:
    """A text every 100 ms for two minutes, beside a voice system whose ten slots are all waiting for it."""
    sms = world.receiver("sms")
    world.receivers["voice"] = Hanging(world.clock)
    world.policies["voice"] = DeliveryPolicy(concurrency=10)
    await world.start()
    await world.accept(*(call(f"v{number}") for number in range(200)))
    decided: dict[str, int] = {}
    for number in range(1_200):
        decided[f"s{number}"] = world.clock.now_ms()
        await world.accept(action(f"s{number}", decided_at=world.clock.now_ms()))
        await world.clock.advance(100)

    assert len(sms.calls) == 1_200
    assert {moment - decided[name] for name, moment, _ in sms.calls} == {0}
    receipts = {event["properties"]["action_id"]: event["occurred_at"] for event in of_type(world, "action_delivered")}
    assert {receipts[name] - moment for name, moment in decided.items()} == {0}
    assert world.receivers["voice"].most_under_way == 10


async def test_records_that_are_ready_together_share_an_append(world: World) -> None:
    world.receiver("sms", DeliveryPolicy(concurrency=50))
    await world.start()
    await world.accept(action("alone"))
    assert world.log.appends == 1
    await world.accept(*(action(f"{number}") for number in range(50)))
    await everything_happens()

    assert len(world.receipts()) == 51
    assert world.log.appends == 2
