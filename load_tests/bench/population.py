"""The worker against the number of customers: speed, Redis' memory, its own memory, and how soon it is replaced."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from load_tests.bench import machine
from load_tests.bench.contest import backlog
from load_tests.bench.figures import Figures
from load_tests.bench.sizes import Sizes
from load_tests.bench.stage import Stage
from load_tests.processes import RoleProcess, until
from load_tests.servers.process import Say
from orchestrator.adapters.kafka_topics import partition_of

_CHUNK = 1_000
_SAMPLE_MAX = 3_000
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
        """Return states as a run leaves them, and note what they take in Redis."""
        self._stage.fill(
            backlog(self._sizes, events=self._sizes.curve_events, customers=self._sizes.customers),
            partitions=self._sizes.partitions,
        )
        with self._stage.workers() as workers:
            self._stage.drained(workers, warm_share=0)
        states = [
            state
            for partition in range(self._stage.partitions)
            for _, state in self._stage.store.hscan_iter(_states_key(partition), count=_CHUNK)
        ]
        figures.add(redis__state_bytes=sum(map(len, states)) / len(states))
        return states[:_SAMPLE_MAX]

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


def _states_key(partition: int) -> str:
    return f"{{journey:default:p{partition}}}:states"


def run_populations(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure on a stage of its own."""
    with Stage(folder, rules=sizes.rules, say=say) as stage:
        Populations(stage, sizes, say).run(figures)
        run_memory(stage, sizes, figures, say)
