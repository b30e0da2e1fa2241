"""The load: a process of its own that posts a story's events when they are due, whatever became of those before.

    python -m load_tests.faults.load --url URL --run NAME --seed N --rate N --folder FOLDER

Up to 200 requests are under way at once. A customer's next events wait until those before are acknowledged, so that
their order is kept; nobody else waits. A refusal that asks for patience (503, 429) or a broken connection is answered
by sending the same events again, as a producer should. SIGTERM ends it when all that was due is acknowledged.

``sent.jsonl`` holds every event as a list a request before it is first sent, ``acknowledged.jsonl`` the ids that were
answered for, ``answers.jsonl`` the moment (of the monotonic clock) and the status of each answer, 0 for none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import httpx

from load_tests.faults.story import Event, Story
from load_tests.processes import ROOT
from load_tests.servers import ServerProcess
from load_tests.servers.process import Say, silent
from orchestrator.adapters.clock import SystemClock

#: Looks a second at what has come due.
_BEATS = 10
REQUESTS_MAX = 200
_EVENTS_PER_REQUEST_MAX = 200
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.2, 1.0
#: How long the end may wait for acknowledgements.
_END_S = 120.0


class Load(ServerProcess):
    """The load as a process; ``stop`` returns after the last event was acknowledged or given up."""

    name = "load"

    def __init__(  # noqa: PLR0913 - the options of the command.
        self,
        folder: Path,
        *,
        run: str,
        seed: int,
        rate: int,
        url: str,
        customers: int = 40,
        disorder: bool = False,
        say: Say = silent,
    ) -> None:
        """Prepare a load of ``rate`` events a second; with ``disorder`` most are out of time, and many come twice."""
        super().__init__(folder, say=say)
        self.run = run
        self.rate = rate
        self._options = ["--url", url, "--run", run, "--seed", str(seed), "--rate", str(rate)]
        self._options += ["--customers", str(customers), *(["--disorder"] if disorder else [])]

    def prepare(self) -> None:
        """Begin empty journals."""
        for name in ("sent", "acknowledged", "answers"):
            self._journal(name).unlink(missing_ok=True)

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "load_tests.faults.load", *self._options, "--folder", str(self.folder)]

    def environment(self) -> Mapping[str, str] | None:
        """Return an environment in which this package is found."""
        return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    def ready(self) -> bool:
        """Return whether a first event has been acknowledged."""
        journal = self._journal("acknowledged")
        return journal.exists() and journal.stat().st_size > 0

    def sent(self) -> list[Event]:
        """Return the events that were sent, whether or not the gateway has answered for them."""
        return [one for line in self._lines("sent") for one in line]

    def acknowledged(self) -> list[str]:
        """Return the ids that the gateway has answered for."""
        return [one for line in self._lines("acknowledged") for one in line]

    def answers(self, since: float, until: float) -> Counter[int]:
        """Return how often each status was answered between two moments of ``time.monotonic``; 0 is no answer."""
        return Counter(status for at, status in self._lines("answers") if since <= at <= until)

    def _journal(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _lines(self, name: str) -> Iterator[list[Any]]:
        """Yield the whole lines of a journal; one that is being written now is left for later."""
        path = self._journal(name)
        if path.exists():
            with path.open() as journal:
                yield from (json.loads(line) for line in journal if line.endswith("\n"))


class Poster:
    """Posts what is due, in order per customer, up to ``REQUESTS_MAX`` requests at once."""

    def __init__(self, client: httpx.AsyncClient, folder: Path, *, again_s: float = _AGAIN_FIRST_S) -> None:
        """Keep the journals in ``folder``; what is refused is sent again after ``again_s``, then ever more slowly."""
        self._client = client
        self._again_s = again_s
        self._waiting: defaultdict[str, list[Event]] = defaultdict(list)
        self._under_way: set[str] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._sent, self._acknowledged, self._answers = (
            (folder / f"{name}.jsonl").open("a") for name in ("sent", "acknowledged", "answers")
        )

    def add(self, events: Iterator[Event], number: int) -> None:
        """Let the next ``number`` events come due."""
        for _ in range(number):
            event = next(events)
            self._waiting[event["customer_id"]].append(event)

    def post(self) -> None:
        """Begin to post whatever waits for nobody."""
        for done in [one for one in self._requests if one.done()]:
            self._requests.discard(done)
            done.result()
        batch: list[Event] = []
        for customer in [one for one in self._waiting if one not in self._under_way]:
            if len(self._requests) >= REQUESTS_MAX:
                return
            batch += self._waiting.pop(customer)
            self._under_way.add(customer)
            if len(batch) >= _EVENTS_PER_REQUEST_MAX:
                self._begin(batch)
                batch = []
        if batch:
            self._begin(batch)

    def close(self) -> None:
        """Close the journals."""
        for journal in (self._sent, self._acknowledged, self._answers):
            journal.close()

    async def drain(self) -> None:
        """Return when all that came due is acknowledged."""
        while self._waiting or self._requests:
            self.post()
            await asyncio.sleep(1 / _BEATS)

    def _begin(self, batch: list[Event]) -> None:
        _write(self._sent, batch)
        self._requests.add(asyncio.create_task(self._until_acknowledged(batch)))

    async def _until_acknowledged(self, batch: Sequence[Event]) -> None:
        again_s = self._again_s
        while not await self._taken(batch):
            await asyncio.sleep(again_s)
            again_s = min(_AGAIN_MAX_S, again_s * 2)
        _write(self._acknowledged, [one["id"] for one in batch])
        self._under_way -= {one["customer_id"] for one in batch}

    async def _taken(self, batch: Sequence[Event]) -> bool:
        try:
            answer = await self._client.post("/v1/events", json=list(batch))
        except httpx.TransportError:
            _write(self._answers, [time.monotonic(), 0])
            return False
        _write(self._answers, [time.monotonic(), answer.status_code])
        if not answer.is_success and answer.status_code not in {429, 503}:
            sys.exit(f"the gateway answered {answer.status_code}: {answer.text}")
        return answer.is_success


def _write(journal: TextIO, line: Sequence[object]) -> None:
    journal.write(json.dumps(line) + "\n")
    journal.flush()


def main() -> None:
    """Post until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.faults.load", description=__doc__)
    parser.add_argument("--url", required=True, help="address of the gateway")
    parser.add_argument("--run", required=True, help="name that ids begin with")
    parser.add_argument("--seed", type=int, default=1, help="seed of the story")
    parser.add_argument("--rate", type=int, default=50, help="events a second")
    parser.add_argument("--customers", type=int, default=40, help="customers at once")
    parser.add_argument("--folder", type=Path, required=True, help="where the journals lie")
    parser.add_argument("--disorder", action="store_true", help="most events late, out of order, ahead or twice")
    asyncio.run(_post(parser.parse_args()))


async def _post(options: argparse.Namespace) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    story = Story(options.run, options.seed, SystemClock().now_ms, at_once=options.customers)
    if options.disorder:
        story.spread, story.repeats = 0.6, 0.3
    events = story.events()
    limits = httpx.Limits(max_connections=REQUESTS_MAX, max_keepalive_connections=REQUESTS_MAX)
    async with httpx.AsyncClient(base_url=options.url, timeout=60, limits=limits) as client:
        with closing(Poster(client, options.folder)) as poster:
            began, due = time.monotonic(), 0
            while not ending.is_set():
                await asyncio.sleep(1 / _BEATS)
                before, due = due, int((time.monotonic() - began) * options.rate)
                poster.add(events, due - before)
                poster.post()
            try:
                await asyncio.wait_for(poster.drain(), _END_S)
            except TimeoutError:
                sys.exit(f"not everything was acknowledged within {_END_S:g} s of the end")


if __name__ == "__main__":
    main()
