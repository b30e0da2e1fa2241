"""The load: a process of its own that posts a story's events at a steady pace, each until it is acknowledged.

    python -m load_tests.faults.load --url URL --run NAME --seed N --rate N --journal FILE

Every acknowledged id is a line of the journal before the next event is sent. A refusal that asks for patience (503,
429) or a broken connection is answered by sending the same events again, as a producer should. SIGTERM ends it after
the request that is under way.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from load_tests.faults.story import Event, Story
from load_tests.processes import ROOT
from load_tests.servers import ServerProcess
from load_tests.servers.process import Say, silent
from orchestrator.adapters.clock import SystemClock

#: Requests a second: each carries what has come due since the one before.
_BEATS = 10
_AGAIN_S = 0.2


class Load(ServerProcess):
    """The load as a process; ``stop`` returns after the last event was acknowledged or given up."""

    name = "load"

    def __init__(  # noqa: PLR0913 - the options of the command.
        self, folder: Path, *, run: str, seed: int, rate: int, url: str, disorder: bool = False, say: Say = silent
    ) -> None:
        """Prepare a load of ``rate`` events a second; with ``disorder`` most are out of time, and many come twice."""
        super().__init__(folder, say=say)
        self.run = run
        self.rate = rate
        self.journal = folder / "acknowledged.jsonl"
        self._options = ["--url", url, "--run", run, "--seed", str(seed), "--rate", str(rate)]
        self._options += ["--disorder"] if disorder else []

    def prepare(self) -> None:
        """Begin an empty journal."""
        self.journal.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "load_tests.faults.load", *self._options, "--journal", str(self.journal)]

    def environment(self) -> Mapping[str, str] | None:
        """Return an environment in which this package is found."""
        return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    def ready(self) -> bool:
        """Return whether a first event has been acknowledged."""
        return self.journal.exists() and self.journal.stat().st_size > 0

    def acknowledged(self) -> list[str]:
        """Return the ids that the gateway has answered for."""
        if not self.journal.exists():
            return []
        return [one for line in self.journal.read_text().splitlines() for one in json.loads(line)]


def main() -> None:
    """Post until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.faults.load", description=__doc__)
    parser.add_argument("--url", required=True, help="address of the gateway")
    parser.add_argument("--run", required=True, help="name that ids begin with")
    parser.add_argument("--seed", type=int, default=1, help="seed of the story")
    parser.add_argument("--rate", type=int, default=50, help="events a second")
    parser.add_argument("--journal", type=Path, required=True, help="file of acknowledged ids")
    parser.add_argument("--disorder", action="store_true", help="most events late, out of order, ahead or twice")
    options = parser.parse_args()
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    story = Story(options.run, options.seed, SystemClock().now_ms)
    if options.disorder:
        story.spread, story.repeats = 0.6, 0.3
    events = story.events()
    with httpx.Client(base_url=options.url, timeout=30) as client, options.journal.open("a") as journal:
        began, sent = time.monotonic(), 0
        while not ending:
            time.sleep(1 / _BEATS)
            due = int((time.monotonic() - began) * options.rate) - sent
            # After an outage the backlog is not made up for in one burst: the pace is the producer's own.
            batch = [next(events) for _ in range(min(due, options.rate))]
            if not batch:
                continue
            sent += due
            if _acknowledged(client, batch, ending):
                journal.write(json.dumps([one["id"] for one in batch]) + "\n")
                journal.flush()


def _acknowledged(client: httpx.Client, batch: Sequence[Event], ending: Sequence[int]) -> bool:
    """Post until it is acknowledged; False when the end was asked for before that."""
    while True:
        try:
            answer = client.post("/v1/events", json=list(batch))
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.is_success:
            return True
        if answer is not None and answer.status_code not in {429, 503}:
            sys.exit(f"the gateway answered {answer.status_code}: {answer.text}")
        if ending:
            return False
        time.sleep(_AGAIN_S)


if __name__ == "__main__":
    main()
