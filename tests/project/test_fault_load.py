"""The load of harness B: it goes on while nothing is answered, keeps each customer's order, and tells every answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from load_tests.faults.load import REQUESTS_MAX, Load, Poster
from load_tests.faults.story import Event

Answer = Callable[[list[Event]], int]


class Gateway:
    """A gateway that answers when it is told to, and keeps what it took."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.taken: list[Event] = []
        self.under_way = 0
        self.open = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.under_way += 1
        await self.open.wait()
        self.under_way -= 1
        status = self.statuses.pop(0) if self.statuses else 202
        if status == 0:
            raise httpx.ConnectError("away")
        if status == 202:
            self.taken += json.loads(request.content)
        return httpx.Response(status)


def events(customers: int) -> Iterator[Event]:
    number = 0
    while True:
        number += 1
        yield {"id": f"e-{number}", "customer_id": f"c-{number % customers}", "number": number}


async def turns(number: int = 50) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def load_in(folder: Path) -> Load:
    return Load(folder, run="r", seed=1, rate=1, url="http://127.0.0.1:1")


def test_requests_go_on_while_none_is_answered_up_to_their_limit(tmp_path: Path) -> None:
    async def story() -> None:
        gateway = Gateway()
        async with httpx.AsyncClient(transport=httpx.MockTransport(gateway), base_url="http://gateway") as client:
            poster, due = Poster(client, tmp_path), events(10_000)
            for _ in range(REQUESTS_MAX + 50):
                poster.add(due, 1)
                poster.post()
            await turns()
            assert gateway.under_way == REQUESTS_MAX
            gateway.open.set()
            await poster.drain()
            poster.close()
        assert len(gateway.taken) == REQUESTS_MAX + 50

    asyncio.run(story())
    assert len(load_in(tmp_path).sent()) == len(load_in(tmp_path).acknowledged()) == REQUESTS_MAX + 50


def test_a_customers_events_come_in_order_whatever_is_refused_or_broken(tmp_path: Path) -> None:
    async def story() -> list[Event]:
        gateway = Gateway()
        gateway.statuses = [503, 0, 429, 202, 503]
        gateway.open.set()
        async with httpx.AsyncClient(transport=httpx.MockTransport(gateway), base_url="http://gateway") as client:
            poster, due = Poster(client, tmp_path, again_s=0), events(3)
            for _ in range(30):
                poster.add(due, 2)
                poster.post()
                await turns(2)
            await poster.drain()
            poster.close()
        return gateway.taken

    taken = asyncio.run(story())
    assert len(taken) == 60
    for customer in {one["customer_id"] for one in taken}:
        mine = [one["number"] for one in taken if one["customer_id"] == customer]
        assert mine == sorted(mine)
    answers = load_in(tmp_path).answers(0, float("inf"))
    assert (answers[503], answers[429], answers[0]) == (2, 1, 1)
    assert {one["id"] for one in load_in(tmp_path).sent()} == set(load_in(tmp_path).acknowledged())
