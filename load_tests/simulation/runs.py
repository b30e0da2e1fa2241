"""Many runs: seeds over all cores, mutants until they are caught, and what all of them came to."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from load_tests.simulation.mutants import MUTANTS, Mutant
from load_tests.simulation.world import Make, Result, World

#: Seeds that a process takes at once.
CHUNK = 25
#: Seeds in which a mutant must be caught.
MUTANT_SEEDS_MAX = 150

#: What must have happened over many seeds, or the harness tests less than it says.
WANTED = (
    "action cancelled",
    "action delivered",
    "action dropped",
    "action expired",
    "action failed",
    "action redriven",
    "all slots taken",
    "call in flight at a death",
    "call in flight at a pause",
    "commit repeated",
    "crash after a durable step",
    "crash before a durable step",
    "crash half a durable step",
    "customer agreed with the oracle",
    "dispatcher stopped beyond its session",
    "event erasure",
    "event future-dated",
    "event late",
    "event merge",
    "event out of order",
    "event retried by the gateway",
    "event sent again",
    "event too late",
    "event two in one record",
    "fault: clock of a dispatcher stepped backward",
    "fault: clock of a dispatcher stepped forward",
    "fault: clock of a worker stepped backward",
    "fault: clock of a worker stepped forward",
    "fault: dispatcher killed at a step",
    "fault: dispatcher stopped",
    "fault: downtime of all workers",
    "fault: invalid rulebook refused",
    "fault: receiver has a bad day",
    "fault: rolling restart",
    "fault: rulebook published",
    "fault: worker added and removed",
    "fault: worker killed at a step",
    "fault: worker stopped",
    "lease ended",
    "log answer lost",
    "log down",
    "log slow",
    "owner fenced",
    "poison record",
    "queue answer lost",
    "queue down",
    "queue slow",
    "rate used up",
    "receiver 429",
    "receiver 500",
    "receiver refused",
    "receiver reset",
    "receiver slow",
    "receiver timeout after accept",
    "receiver too slow",
    "record published again",
    "repeat recognised by the receiver",
    "store answer lost",
    "store down",
    "store slow",
    "timer due in a downtime",
    "worker stopped beyond its session",
    "workers rebalanced",
)


@dataclass(slots=True)
class Tally:
    """What runs came to. ``failed`` are the seeds with what they violated."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        self.seeds += other.seeds
        self.counts.update(other.counts)
        self.failed += other.failed

    def never(self) -> list[str]:
        """Return what should have happened and never did."""
        return [name for name in WANTED if not self.counts[name]]


def run_seed(seed: int, make: Make | None = None) -> Result:
    """Run one seed. Collecting garbage by the way would cost a third of it; a run ends before that matters."""
    gc.disable()
    try:
        return World(seed, make).run()
    finally:
        gc.enable()


def run_seeds(seeds: range) -> Tally:
    """Run seeds one after the other."""
    tally = Tally()
    for seed in seeds:
        result = run_seed(seed)
        tally.seeds += 1
        tally.counts.update(result.counts)
        if result.violated:
            tally.failed.append((seed, result.violated, result.message))
    return tally


def run_all(first: int, count: int, jobs: int) -> Iterator[Tally]:
    """Run seeds over ``jobs`` processes; yield each part's tally as it is done."""
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    if jobs == 1:
        yield from map(run_seeds, chunks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        for done in as_completed([pool.submit(run_seeds, chunk) for chunk in chunks]):
            yield done.result()


@dataclass(frozen=True, slots=True)
class Catch:
    """A mutant, and the first seed and invariant that caught it; '' when none did."""

    name: str
    seed: int
    invariant: str
    message: str
    expected: bool


def catch(mutant: type[Mutant]) -> Catch:
    """Run seeds until a mutant is caught."""
    for seed in range(MUTANT_SEEDS_MAX):
        result = run_seed(seed, mutant())
        if result.violated:
            expected = result.violated in mutant.caught_by
            return Catch(mutant.name, seed, result.violated, result.message, expected)
    return Catch(mutant.name, MUTANT_SEEDS_MAX, "", "", expected=False)


def catch_all(jobs: int) -> Iterator[Catch]:
    """Run every mutant, in the order of their list."""
    if jobs == 1:
        yield from map(catch, MUTANTS)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(catch, MUTANTS)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
