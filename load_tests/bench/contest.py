"""The main table: the worker and its baselines drain the same topic, in turns, each on the same core of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from load_tests.bench import machine
from load_tests.bench.figures import Figures
from load_tests.bench.sizes import Sizes
from load_tests.bench.stage import Drained, Stage
from load_tests.processes import ROOT
from load_tests.servers.process import Say
from load_tests.shoppers import MINUTE_MS, Event, Shoppers
from orchestrator.adapters.clock import SystemClock

#: The interpreter with Quix Streams, which ``make bench`` sets up.
QUIX_PYTHON = ROOT / ".cache" / "quix" / "bin" / "python"
_CONTENDERS = "load_tests.bench.contenders"
_TIMEOUT_S = 300

Contender = Callable[[int], Drained]


def backlog(
    sizes: Sizes, *, events: int, customers: int | None = None, seed: int = 1, skew: float = 1.0
) -> list[Event]:
    """Return events of the last forty minutes, ready to be written."""
    span_ms = 40 * MINUTE_MS
    start_ms = SystemClock().now_ms() - span_ms - MINUTE_MS
    shoppers = Shoppers(
        seed=seed, customers=customers or sizes.customers, start_ms=start_ms, span_ms=span_ms, skew=skew
    )
    return [arrival.event for arrival in shoppers.arrivals(events)]


class Contest:
    """One stage and those who compete on it."""

    def __init__(self, stage: Stage, sizes: Sizes, say: Say) -> None:
        self._stage = stage
        self._sizes = sizes
        self._say = say
        self._runs = 0

    def contenders(self) -> Mapping[str, Contender]:
        """Return who takes part, by the name of their figures; Quix Streams only where it is installed."""
        writes = ("--redis-port", str(self._stage.redis.port))
        sizes = self._sizes
        found: dict[str, Contender] = {
            "read": lambda number: self._peer("read_only", sizes.read_events),
            "read_write": lambda number: self._peer("read_only", sizes.read_events, *writes),
            "worker": lambda number: self._worker(),
            "faust": lambda number: self._peer("faust_agent", sizes.faust_events),
        }
        if QUIX_PYTHON.exists():
            found["quix"] = lambda number: self._peer("quix_streams", sizes.quix_events, python=QUIX_PYTHON)
        return found

    def run(self, figures: Figures) -> None:
        """Hold every round. Each begins with another contender, so that no one always comes first."""
        events = backlog(self._sizes, events=self._sizes.worker_events)
        figures.add(event__bytes=sum(len(json.dumps(one, separators=(",", ":"))) for one in events) / len(events))
        self._stage.fill(events, partitions=self._sizes.partitions)
        figures.add(kafka__write_us=self._stage.write_us)
        contenders = list(self.contenders().items())
        for number in range(self._sizes.rounds):
            turn = number % len(contenders)
            for name, contender in contenders[turn:] + contenders[:turn]:
                found = contender(number)
                figures.add(**{f"{name}__per_s": found.per_s, f"{name}__per_cpu_s": found.per_cpu_s})
                if name == "worker":
                    _note_servers(figures, found)
                self._say(f"round {number + 1}: {name} {found.per_s:,.0f}/s, {found.per_cpu_s:,.0f} per CPU second")

    def _worker(self) -> Drained:
        self._stage.store.flushall()
        with self._stage.workers() as workers:
            return self._stage.drained(workers, warm_share=self._sizes.warm_share)

    def _peer(self, module: str, events: int, *more: str, python: Path = Path(sys.executable)) -> Drained:
        self._stage.store.flushall()
        self._runs += 1
        name = f"{module.replace('_', '-')}-{self._runs}"
        folder = self._stage.folder / name
        folder.mkdir()
        self._stage.create_topic(f"{name}-actions")
        options = {
            "--bootstrap": self._stage.kafka.bootstrap,
            "--partitions": str(self._stage.partitions),
            "--events": str(events),
            "--warm": str(round(events * self._sizes.warm_share)),
            "--name": name,
            "--folder": str(folder),
        }
        command = [str(python), "-m", f"{_CONTENDERS}.{module}", *(part for one in options.items() for part in one)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
            machine.pin(process.pid, machine.contender_cores())
            try:
                said, _ = process.communicate(timeout=_TIMEOUT_S)
            except BaseException:
                process.kill()
                process.communicate()
                raise
        if process.returncode != 0 or not said.strip():
            raise RuntimeError(f"{module} ended with {process.returncode}:\n{(folder / 'log').read_text()[-3000:]}")
        found = json.loads(said.splitlines()[-1])
        return Drained(found["events"], found["wall_s"], found["cpu_s"])


def _note_servers(figures: Figures, found: Drained) -> None:
    """Keep what an event takes of the servers, for the model of capacity."""
    figures.add(
        kafka__read_us=found.kafka_cpu_s / found.events * 1e6,
        redis__us=found.redis_cpu_s / found.events * 1e6,
        redis__bytes_per_event=found.redis_bytes / found.events,
    )
