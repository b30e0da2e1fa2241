"""Event to action under a steady load: the whole engine on this machine, at shares of what it can carry at most.

The capacity is that of the machine with everything on it - producer, broker, Redis, worker, dispatcher and the stub -
since they share its cores: the rate that the worker keeps up when it is offered as much as it could drain alone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_tests.bench.figures import Figures
from load_tests.bench.probe import SPANS, STALLED_AFTER_S, Latencies, measured, probe_rules
from load_tests.bench.sizes import Sizes
from load_tests.bench.stage import Stage
from load_tests.processes import ROOT, RoleProcess, arrivals_of, until
from load_tests.servers import free_port
from load_tests.servers.process import Say

#: Actions a second that the loads are made to bring about, whatever their rate: a stub is no mail provider.
ACTIONS_PER_S = 60
#: Roughly how many actions an event brings about when every customer wants offers.
ACTIONS_PER_EVENT = 0.06
_WARM_S = 2.0
#: When nothing has arrived at the stub for this long, nothing more will.
_QUIET_S = 4.0


@dataclass(frozen=True, slots=True)
class Paced:
    """What a pacer reports."""

    sent: int
    behind_ms_max: float
    began_at_ms: int


class LatencyRun:
    """One stage with the roles that take an action to the stub."""

    def __init__(self, stage: Stage, sizes: Sizes, say: Say) -> None:
        self._stage = stage
        self._sizes = sizes
        self._say = say
        self._record = stage.folder / "received.jsonl"

    def run(self, figures: Figures, *, offered_per_s: float) -> None:
        """Find the capacity and measure the latencies at shares of it."""
        with self._roles():
            capacity = self._capacity(offered_per_s)
            figures.add(capacity__per_s=capacity)
            self._say(f"the machine carries {capacity:,.0f} events/s")
            for share in self._sizes.paced_shares:
                self._measure(figures, share, capacity)

    # ---------------------------------------------------------------------------------------- details

    @contextmanager
    def _roles(self) -> Iterator[None]:
        stage, port = self._stage, free_port()
        stage.fill([], partitions=self._sizes.partitions)
        stage.rules = probe_rules(stage.folder / "probe", rules=self._sizes.rules, stub_url=f"http://127.0.0.1:{port}")
        receiver = ("receiver", "--port", str(port), "--record", str(self._record))
        settings = stage.settings(private_targets=f"127.0.0.1:{port}")
        roles = [
            RoleProcess(name, *options, folder=stage.folder / f"paced-{name}", environment=settings)
            for name, *options in (receiver, ("dispatcher",), ("worker",))
        ]
        try:
            for role in roles:
                role.launch()
            for role in roles:
                role.await_ready()
            yield
        finally:
            for role in roles:
                role.stop()

    def _capacity(self, offered_per_s: float) -> float:
        """Return the rate at which the worker applies events while it is offered more than it can take."""
        seconds = self._sizes.capacity_s
        with self._pacer("capacity", rate=offered_per_s, seconds=seconds) as pacer:
            until(lambda: self._stage.applied() > 0, within_s=120, because="the first events are applied")
            time.sleep(seconds / 4)
            first, began = self._stage.applied(), time.perf_counter()
            time.sleep(seconds / 2)
            rate = (self._stage.applied() - first) / (time.perf_counter() - began)
            self._caught_up(self._finished(pacer))
        return rate

    def _measure(self, figures: Figures, share: float, capacity: float) -> None:
        name, rate = f"{share:.0%}", share * capacity
        seconds = self._sizes.paced_s + _WARM_S
        with self._pacer(f"paced{share * 100:.0f}", rate=rate, seconds=seconds) as pacer:
            paced = self._finished(pacer)
        self._caught_up(paced)
        from_ms = paced.began_at_ms + round(_WARM_S * 1000)
        found = asyncio.run(
            measured(self._stage.kafka.bootstrap, self._stage.partitions, self._record, from_ms=from_ms)
        )
        self._keep(figures, found, name=f"at_{share * 100:.0f}", behind_ms=paced.behind_ms_max)
        self._say(
            f"at {name}, {rate:,.0f} events/s: {found.count('stub')} actions, p50 {found.at('stub', 50):.0f} ms, "
            f"p99 {found.at('stub', 99):.0f} ms; {found.count('timer')} timers, p99 {found.at('timer', 99):.0f} ms; "
            f"the producer was at most {paced.behind_ms_max:.0f} ms late"
        )

    def _keep(self, figures: Figures, found: Latencies, *, name: str, behind_ms: float) -> None:
        for span in SPANS:
            figures.add(
                **{
                    f"{name}__{span}_ms_p50": found.at(span, 50),
                    f"{name}__{span}_ms_p99": found.at(span, 99),
                    f"{name}__{span}_ms_max": found.at(span, 100),
                    f"{name}__{span}_count": found.count(span),
                }
            )
            for percentile, value in found.points(span):
                figures.point(f"{name}.{span}_ms", percentile=percentile, ms=value)
        figures.add(**{f"{name}__producer_behind_ms": behind_ms})

    @contextmanager
    def _pacer(self, run: str, *, rate: float, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
        consents = min(0.9, ACTIONS_PER_S / (rate * ACTIONS_PER_EVENT))
        options: dict[str, Any] = {
            "bootstrap": self._stage.kafka.bootstrap,
            "partitions": self._stage.partitions,
            "rate": rate,
            "seconds": seconds,
            "consents": consents,
            "customers": self._sizes.customers,
            "run": run,
        }
        self._before = self._stage.applied()
        arguments = [f"--{name}={value}" for name, value in options.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "load_tests.pacer", *arguments], cwd=ROOT, stdout=subprocess.PIPE
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def _finished(self, pacer: subprocess.Popen[bytes]) -> Paced:
        said, _ = pacer.communicate(timeout=600)
        if pacer.returncode != 0:
            raise RuntimeError(f"the pacer ended with {pacer.returncode}")
        return Paced(**json.loads(said))

    def _caught_up(self, paced: Paced) -> None:
        """Return when every event is applied, every timer has fired and every action has arrived."""
        until(
            lambda: self._stage.applied() >= self._before + paced.sent, within_s=300, because="every event is applied"
        )
        time.sleep(STALLED_AFTER_S + 1)
        arrived = -1
        while (latest := len(arrivals_of(self._record))) > arrived:
            arrived = latest
            time.sleep(_QUIET_S)


def run_latency(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure on a stage of its own; what is offered first is what the worker drains, or a guess without a contest."""
    with Stage(folder, rules=sizes.rules, say=say) as stage:
        LatencyRun(stage, sizes, say).run(figures, offered_per_s=figures.of("worker.per_s") or 10_000)
