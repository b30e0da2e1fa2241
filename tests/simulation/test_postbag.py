"""The postbag and the watchdog: appends that travel together, and calls that take too long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orchestrator.errors import LogUnavailable
from orchestrator.runtime.dispatch.postbag import Postbag
from orchestrator.runtime.dispatch.watchdog import Watchdog
from orchestrator.runtime.ports import EVENTS, Outgoing
from tests.simulation.dispatch_world import everything_happens


class Slow:
    """A log whose appends wait until they are let through."""

    def __init__(self) -> None:
        self.appends: list[list[str]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def append(self, records: Sequence[Outgoing]) -> None:
        self.appends.append([record.key.decode() for record in records])
        await self.gate.wait()
        if self.error is not None and any(record.key == b"bad" for record in records):
            raise self.error


def letter(name: str) -> Outgoing:
    return Outgoing(topic=EVENTS, key=name.encode(), value=b"")


async def test_what_comes_during_an_append_goes_out_together_and_in_order() -> None:
    log = Slow()
    bag = Postbag(log)
    waiting = [asyncio.create_task(bag.append([letter("first")]))]
    await everything_happens()
    waiting += [asyncio.create_task(bag.append([letter(f"{number}"), letter(f"{number}+")])) for number in range(3)]
    await everything_happens()
    assert log.appends == [["first"]]

    log.gate.set()
    await asyncio.gather(*waiting)
    assert log.appends == [["first"], ["0", "0+", "1", "1+", "2", "2+"]]
    assert bag.tasks == []


async def test_nothing_is_acknowledged_before_the_log_has_it() -> None:
    log = Slow()
    bag = Postbag(log)
    waiting = asyncio.create_task(bag.append([letter("a")]))
    await everything_happens()
    assert not waiting.done()
    log.gate.set()
    await waiting


async def test_no_records_are_no_append() -> None:
    log = Slow()
    await Postbag(log).append([])
    assert log.appends == []


async def test_an_outage_is_told_to_everybody_and_the_next_append_goes_out_again() -> None:
    log = Slow()
    log.gate.set()
    log.error = LogUnavailable("the log of a test is down")
    bag = Postbag(log)
    said = await asyncio.gather(bag.append([letter("bad")]), bag.append([letter("a")]), return_exceptions=True)
    assert [str(one) for one in said] == ["the log of a test is down"] * 2

    log.error = None
    await bag.append([letter("bad")])
    assert log.appends == [["bad", "a"], ["bad"]]


async def test_a_record_that_the_log_can_never_take_fails_alone() -> None:
    log = Slow()
    log.gate.set()
    log.error = ValueError("too large")
    bag = Postbag(log)
    said = await asyncio.gather(
        bag.append([letter("a")]), bag.append([letter("bad")]), bag.append([letter("b")]), return_exceptions=True
    )
    assert [one and str(one) for one in said] == [None, "too large", None]
    assert log.appends == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


async def test_somebody_who_no_longer_waits_takes_nobody_with_them() -> None:
    log = Slow()
    bag = Postbag(log)
    gone, stays = (asyncio.create_task(bag.append([letter(name)])) for name in ("gone", "stays"))
    await everything_happens()
    gone.cancel()
    log.gate.set()
    await stays
    assert gone.cancelled()


async def test_a_postbag_that_is_cancelled_leaves_nobody_waiting() -> None:
    log = Slow()
    bag = Postbag(log)
    waiting = [asyncio.create_task(bag.append([letter("a")]))]
    await everything_happens()
    waiting.append(asyncio.create_task(bag.append([letter("b")])))
    await everything_happens()
    for task in bag.tasks:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [task.cancelled() for task in waiting] == [True, True]


async def _watched(dog: Watchdog, work: asyncio.Event) -> str:
    try:
        with dog.watching():
            await work.wait()
    except TimeoutError:
        return "too long"
    return "done"


async def test_the_watchdog_ends_what_takes_too_long_and_nothing_else() -> None:
    dog, never, at_once = Watchdog(0.01), asyncio.Event(), asyncio.Event()
    at_once.set()
    tasks = [asyncio.create_task(_watched(dog, work)) for work in (never, at_once, never)]
    async with asyncio.timeout(5):
        assert await asyncio.gather(*tasks) == ["too long", "done", "too long"]


async def test_a_cancellation_of_somebody_else_is_not_the_watchdogs() -> None:
    task = asyncio.create_task(_watched(Watchdog(60), asyncio.Event()))
    await everything_happens()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
