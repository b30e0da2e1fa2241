"""A lane over a source that repeats, skips and reorders: records reach the handler once, in order, or the lane ends."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - a seeded source of mischief.
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.adapters.partition_lane import PartitionLane
from orchestrator.errors import PositionLost
from orchestrator.runtime.ports import Record


def taken(offset: int) -> Any:
    """A record as the client library hands it over."""
    return SimpleNamespace(partition=0, offset=offset, timestamp=offset, key=b"k", value=b"v", headers=())


@dataclass
class Seen:
    """A handler that keeps offsets and ticks."""

    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ticks: list[bool] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def assigned(self, partition: int) -> int | None:
        return None

    async def revoked(self, partition: int) -> None:
        pass

    async def process(self, partition: int, records: Sequence[Record]) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.offsets += [record.offset for record in records]
        self.sizes.append(len(records))

    async def advance(self, partition: int, caught_up: Callable[[], bool]) -> None:
        self.ticks.append(caught_up())


@dataclass
class Log:
    """The offsets that the log holds; notes where it was asked to go on."""

    offsets: list[int]
    first: int = 0
    fresh: bool = True
    seeks: list[int] = field(default_factory=list)

    async def seek(self, partition: int, offset: int) -> None:
        self.seeks.append(offset)

    async def bounds(self, partition: int) -> tuple[int, int]:
        return self.first, self.offsets[-1] + 1

    def holds_nothing_after(self, partition: int, position: int) -> bool:
        return self.fresh and position == self.offsets[-1] + 1


class Lane:
    """A lane with its surroundings."""

    def __init__(self, log: Log, position: int = 0, batch_events_max: int = 100, seen: Seen | None = None) -> None:
        self.seen = seen or Seen()
        self.log = log
        self.failures: list[BaseException] = []
        self.lane = PartitionLane(
            0,
            position,
            handler=self.seen,
            source=log,
            batch_events_max=batch_events_max,
            failed=self.failures.append,
        )

    async def take(self, *offsets: int) -> None:
        await self.lane.offer([taken(offset) for offset in offsets])
        await self.settle()

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def __aenter__(self) -> Lane:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.lane.close(1)


async def test_what_was_handled_is_not_handled_again() -> None:
    async with Lane(Log(list(range(10))), position=3) as lane:
        await lane.take(0, 1, 2, 3, 4)
        await lane.take(2, 3)
        await lane.take(4, 5, 6)
        assert lane.seen.offsets == [3, 4, 5, 6]
        assert lane.log.seeks == []


async def test_what_was_skipped_is_fetched_again_and_later_batches_are_dropped_until_then() -> None:
    async with Lane(Log(list(range(10)))) as lane:
        await lane.take(0, 1)
        await lane.take(4, 5)
        await lane.take(6, 7)
        assert (lane.seen.offsets, lane.log.seeks) == ([0, 1], [2])
        await lane.take(2, 3)
        await lane.take(4, 5, 6, 7)
        assert lane.seen.offsets == list(range(8))


async def test_a_true_gap_is_passed_once_the_log_has_confirmed_it() -> None:
    async with Lane(Log([0, 1, 5, 6])) as lane:
        await lane.take(0, 1)
        await lane.take(5)
        assert (lane.seen.offsets, lane.log.seeks) == ([0, 1], [2])
        await lane.take(5, 6)
        assert lane.seen.offsets == [0, 1, 5, 6]
        assert lane.lane.position == 7


async def test_records_that_fell_out_of_retention_end_the_lane() -> None:
    async with Lane(Log([5, 6], first=5), position=2) as lane:
        await lane.take(5, 6)
        await lane.take(5, 6)
        assert [str(failure) for failure in lane.failures] == [
            "Offset 2 of journey.events, partition 0, is out of retention: the earliest is 5. "
            "Records were lost to this reader; keep them for longer, or start it at 5 on purpose."
        ]
        assert lane.seen.offsets == []


async def test_a_log_that_begins_anew_ends_the_lane() -> None:
    async with Lane(Log([0, 1]), position=50) as lane:
        await lane.take(0, 1)
        (failure,) = lane.failures
        assert isinstance(failure, PositionLost)
        assert lane.seen.offsets == []


async def test_batches_are_cut_to_their_bound_and_ticks_come_between() -> None:
    async with Lane(Log(list(range(10))), batch_events_max=4) as lane:
        lane.lane.tick()
        await lane.take(*range(10))
        assert lane.seen.sizes == [4, 4, 2]
        lane.lane.tick()
        await lane.settle()
        assert lane.seen.ticks == [False, True]


async def test_what_came_while_a_call_was_under_way_is_handled_together_as_far_as_a_batch_may_hold_it() -> None:
    seen = Seen(hold=asyncio.Event())
    async with Lane(Log(list(range(10))), batch_events_max=3, seen=seen) as lane:
        for offsets in ((0,), (1,), (2, 3), (4,)):
            await lane.take(*offsets)
        assert seen.hold is not None
        seen.hold.set()
        await lane.settle()
        assert (seen.offsets, seen.sizes) == ([0, 1, 2, 3, 4], [1, 3, 1])


async def test_batches_with_a_gap_between_are_not_taken_for_one() -> None:
    seen = Seen(hold=asyncio.Event())
    async with Lane(Log(list(range(10))), seen=seen) as lane:
        for offsets in ((0,), (1, 2), (5, 6)):
            await lane.take(*offsets)
        assert seen.hold is not None
        seen.hold.set()
        await lane.settle()
        assert (seen.offsets, seen.sizes, lane.log.seeks) == ([0, 1, 2], [1, 2], [3])


async def test_who_offers_more_than_may_wait_waits_for_room() -> None:
    seen = Seen(hold=asyncio.Event())
    async with Lane(Log(list(range(10))), batch_events_max=2, seen=seen) as lane:
        for offset in range(5):
            await lane.take(offset)
        offering = asyncio.create_task(lane.take(5))
        await lane.settle()
        assert not offering.done()
        assert seen.hold is not None
        seen.hold.set()
        await offering
        await lane.settle()
        assert seen.offsets == [0, 1, 2, 3, 4, 5]


async def test_caught_up_is_said_only_on_fresh_word_from_the_log() -> None:
    log = Log(list(range(2)), fresh=False)
    async with Lane(log) as lane:
        await lane.take(0, 1)
        lane.lane.tick()
        await lane.settle()
        log.fresh = True
        lane.lane.tick()
        await lane.settle()
        assert lane.seen.ticks == [False, True]


async def test_closing_finishes_the_call_under_way_and_drops_the_rest() -> None:
    seen = Seen(hold=asyncio.Event())
    lane = Lane(Log(list(range(10))), batch_events_max=2, seen=seen)
    await lane.take(0, 1, 2, 3)
    await lane.take(4, 5)
    closing = asyncio.create_task(lane.lane.close(5))
    await lane.settle()
    assert seen.hold is not None
    seen.hold.set()
    await closing
    assert seen.offsets == [0, 1]
    assert lane.lane.position == 2


async def test_closing_cuts_off_a_call_that_does_not_end() -> None:
    seen = Seen(hold=asyncio.Event())
    lane = Lane(Log(list(range(10))), seen=seen)
    await lane.take(0, 1)
    await lane.lane.close(0.01)
    assert (seen.offsets, lane.lane.position, lane.failures) == ([], 0, [])


@pytest.mark.parametrize("seed", range(200))
async def test_any_mischief_of_the_source_is_made_good(seed: int) -> None:
    chance = random.Random(seed)
    log = Log(sorted(chance.sample(range(60), 40)))
    async with Lane(log, position=log.offsets[0], batch_events_max=chance.randint(1, 9)) as lane:
        at = 0
        for _ in range(2_000):
            if lane.lane.position > log.offsets[-1]:
                break
            if log.seeks:
                at = next(i for i, offset in enumerate(log.offsets) if offset >= log.seeks[-1])
                log.seeks.clear()
            elif chance.random() < 0.3:
                at = max(0, at + chance.randint(-8, 8))
            size = chance.randint(1, 12)
            if batch := log.offsets[at : at + size]:
                await lane.take(*batch)
                at += size
            else:
                at = 0
        assert lane.seen.offsets == log.offsets
        assert lane.failures == []
