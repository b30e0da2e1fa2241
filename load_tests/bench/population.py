"""The worker against the number of customers: speed, Redis' memory, its own memory, and how soon it is replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from load_tests.bench import machine
from load_tests.bench.contest import backlog
from load_tests.bench.figures import Figures
from load_tests.bench.sizes import Sizes
from load_tests.bench.stage import Stage
from load_tests.processes import RoleProcess, until
from load_tests.servers import free_port
from load_tests.servers.process import Say
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.core.state import decode_state

_CHUNK = 1_000
_SAMPLE_MAX = 3_000
#: Memory that is the same after so long has settled.
_SETTLED_S = 3.0
#: What each of the memory runs has: states a partition in memory at most, customers that come.
_MEMORY_SHARES = ((0.05, 0.3), (0.05, 1.0), (1.0, 1.0))


class Populations:
    """Redis filled with customers as real runs leave them, and a worker over them."""

    def __init__(self, stage: Stage, sizes: Sizes, say: Say) -> None:
        self._stage = stage
        self._sizes = sizes
        self._say = say

    def run(self, figures: Figures) -> None:
        """Measure every population, the smallest first."""
        typical = self._typical_states(figures)
        for customers in self._sizes.populations:
            self._stage.fill(
                backlog(self._sizes, events=self._sizes.curve_events, customers=customers, seed=3),
                partitions=self._sizes.partitions,
            )
            empty = self._stage.used_memory()
            self._populate(customers, typical)
            redis_bytes = (self._stage.used_memory() - empty) / customers
            with self._stage.workers() as workers:
                found = self._stage.drained(workers, warm_share=self._sizes.warm_share)
                recovery_s = self._replaced(workers)
            figures.point(
                "customers",
                customers=customers,
                per_s=found.per_s,
                per_cpu_s=found.per_cpu_s,
                redis_bytes=redis_bytes,
                recovery_s=recovery_s,
            )
            self._say(
                f"{customers:,} customers: {found.per_cpu_s:,.0f} events per CPU second, {redis_bytes:.0f} B of Redis "
                f"each, replaced within {recovery_s:.1f} s of a kill"
            )

    # ---------------------------------------------------------------------------------------- details

    def _typical_states(self, figures: Figures) -> list[bytes]:
        """Return states as a run leaves them, its actions delivered; note what they and their past take in Redis."""
        stage = self._stage
        stage.fill(
            backlog(self._sizes, events=self._sizes.curve_events, customers=self._sizes.customers),
            partitions=self._sizes.partitions,
        )
        with stage.workers() as workers:
            stage.drained(workers, warm_share=0)
            decided, memory = self._states(), stage.used_memory()
            with self._role("dispatcher"):
                until(lambda: not _waiting(self._states()), within_s=120, because="receipts", pause_s=1.0)
            states, delivered = self._states(), self._settled_memory()
        shrunk = sum(map(len, decided)) - sum(map(len, states))
        with self._role("gateway", "--port", str(free_port())):
            projected = self._settled_memory()
        figures.add(
            redis__state_bytes=sum(map(len, states)) / len(states),
            redis__ledger_bytes=(delivered - memory + shrunk) / _waiting(decided),
            redis__timeline_bytes=(projected - delivered) / self._timeline_records(),
        )
        return states[:_SAMPLE_MAX]

    @contextmanager
    def _role(self, name: str, *options: str) -> Iterator[None]:
        role = self._stage.role(name, *options)
        try:
            role.await_ready()
            yield
        finally:
            role.stop()

    def _states(self) -> list[bytes]:
        partitions = range(self._stage.partitions)
        scans = (self._stage.store.hscan_iter(_states_key(partition), count=_CHUNK) for partition in partitions)
        return [state for scan in scans for _, state in scan]

    def _settled_memory(self) -> int:
        """Return what Redis holds once that no longer changes."""
        before = -1
        while (now := self._stage.used_memory()) != before:
            before = now
            time.sleep(_SETTLED_S)
        return now

    def _timeline_records(self) -> int:
        store = self._stage.store
        with store.pipeline(transaction=False) as pipeline:
            for key in store.scan_iter("*:timeline:*", count=_CHUNK):
                pipeline.zcard(key)
            return sum(pipeline.execute())

    def _populate(self, customers: int, states: list[bytes]) -> None:
        store = self._stage.store
        # A rewrite of the file in the background would take processor time while something is measured.
        store.config_set("auto-aof-rewrite-percentage", 0)
        chosen: dict[int, dict[Any, Any]] = {number: {} for number in range(self._stage.partitions)}
        for number in range(customers):
            customer_id = f"shopper-{number}"
            partition = partition_of(customer_id.encode(), self._stage.partitions)
            chosen[partition][customer_id] = states[number % len(states)]
            if len(chosen[partition]) == _CHUNK:
                store.hset(_states_key(partition), mapping=chosen[partition])
                chosen[partition] = {}
        for partition, left in chosen.items():
            if left:
                store.hset(_states_key(partition), mapping=left)

    def _replaced(self, workers: list[RoleProcess]) -> float:
        """Kill the worker while events wait, start another, and return the seconds until they are applied."""
        workers[0].kill()
        began = time.perf_counter()
        workers[0].launch()
        self._stage.write(backlog(self._sizes, events=500, seed=2))
        until(lambda: self._stage.applied() >= self._stage.events, within_s=120, because="the events are applied")
        return time.perf_counter() - began


def run_memory(stage: Stage, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure the worker's memory against the states that it may keep and the customers that come."""
    for cap_share, customer_share in _MEMORY_SHARES:
        customers = round(sizes.curve_events * customer_share)
        cap = round(sizes.curve_events * cap_share / sizes.partitions)
        stage.fill(
            backlog(sizes, events=sizes.curve_events, customers=customers, skew=0.0), partitions=sizes.partitions
        )
        with stage.workers(customers_cached_max=str(cap)) as workers:
            stage.drained(workers, warm_share=0)
            resident = machine.resident_mib(workers[0].pid)
        figures.point("memory", cap=cap, customers=customers, mib=resident)
        say(f"{cap} states a partition, {customers:,} customers: {resident:.0f} MiB")


def _waiting(states: Sequence[bytes]) -> int:
    """Return how many actions wait for their receipt."""
    return sum(not pending.delivered for one in states for pending in decode_state(one).pending.values())


def _states_key(partition: int) -> str:
    return f"{{journey:default:p{partition}}}:states"


def run_populations(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure on a stage of its own."""
    with Stage(folder, rules=sizes.rules, say=say) as stage:
        Populations(stage, sizes, say).run(figures)
        run_memory(stage, sizes, figures, say)
