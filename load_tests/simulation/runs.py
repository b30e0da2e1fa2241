"""Many runs: seeds over all cores, mutants until they are caught, and what all of them came to."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from load_tests.simulation.make import Make
from load_tests.simulation.mutant import Mutant
from load_tests.simulation.mutants import MUTANTS
from load_tests.simulation.world import Result, World

#: Seeds that a process takes at once.
CHUNK = 25
#: Seeds in which a mutant must be caught.
MUTANT_SEEDS_MAX = 150

#: Seeds by which it is counted what must have happened in them.
WANTED_SEEDS = 2_000
#: How often it must have happened over so many seeds, or the harness tests less than it says.
WANTED: dict[str, int] = {
    "action cancelled": 150,
    "action delivered": 1,
    "action dropped": 40,
    "action and fallback as wanted": 1,
    "action expired": 50,
    "action failed": 50,
    "action redriven": 100,
    "action taken back in time": 200,
    "all slots taken": 1,
    "append long given up": 100,
    "append partly taken": 40,
    "call in flight at a death": 1,
    "call in flight at a pause": 1,
    "commit repeated": 100,
    "commit unanswered": 200,
    "crash after a durable step": 1,
    "crash before a durable step": 1,
    "crash half a durable step": 5,
    "customer agreed with the oracle": 1,
    "customer forgotten for good": 100,
    "dispatcher stopped beyond its session": 1,
    "event erasure": 1,
    "event future-dated": 1,
    "event late": 1,
    "event late order": 100,
    "event merge": 1,
    "event order at the last moment": 50,
    "event out of order": 1,
    "event retried by the gateway": 1,
    "event ring": 100,
    "event sent again": 1,
    "event too late": 1,
    "event two in one record": 500,
    "fallback due": 80,
    "fallback due in doubt": 1,
    "fallback taken back since its action arrived": 1,
    "fallback withheld": 60,
    "fault: clock of a dispatcher stepped backward": 1,
    "fault: clock of a dispatcher stepped forward": 1,
    "fault: clock of a worker stepped backward": 1,
    "fault: clock of a worker stepped forward": 1,
    "fault: dispatcher killed at a step": 1,
    "fault: dispatcher stopped": 1,
    "fault: downtime of all workers": 1,
    "fault: invalid rulebook refused": 1,
    "fault: receiver has a bad day": 1,
    "fault: rolling restart": 1,
    "fault: rulebook published": 1,
    "fault: worker added and removed": 1,
    "fault: worker killed at a step": 1,
    "fault: worker stopped": 1,
    "lease ended": 100,
    "log answer lost": 1,
    "log down": 1,
    "log slow": 1,
    "owner fenced": 100,
    "poison record": 1,
    "put unanswered": 200,
    "queue answer lost": 1,
    "queue down": 1,
    "queue slow": 1,
    "rate used up": 1,
    "receiver 429": 50,
    "receiver 500": 1,
    "receiver refused": 50,
    "receiver repeat refused": 50,
    "receiver reset": 1,
    "receiver slow": 1,
    "receiver timeout after accept": 50,
    "receiver too slow": 1,
    "record published again": 1,
    "repeat recognised by the receiver": 1,
    "settle unanswered": 15,
    "store answer lost": 1,
    "store down": 1,
    "store slow": 1,
    "timer due in a downtime": 50,
    "withdraw unanswered": 10,
    "worker stopped beyond its session": 1,
    "workers rebalanced": 1,
}


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
        """Return what should have happened and never did, or too seldom for so many seeds."""
        return [name for name, least in WANTED.items() if self.counts[name] < least * self.seeds // WANTED_SEEDS]


def run_seed(seed: int, make: Make | None = None) -> Result:
    """Run one seed. Collecting garbage by the way would cost a third of it; a run ends before that matters."""
    gc.disable()
    try:
        return World(seed, make).run()
    finally:
        gc.enable()


def run_seeds(seeds: range, make: type[Make] = Make) -> Tally:
    """Run seeds one after the other."""
    tally = Tally()
    for seed in seeds:
        result = run_seed(seed, make())
        tally.seeds += 1
        tally.counts.update(result.counts)
        if result.violated:
            tally.failed.append((seed, result.violated, result.message))
    return tally


def run_all(first: int, count: int, jobs: int, make: type[Make] = Make) -> Iterator[Tally]:
    """Run seeds over ``jobs`` processes; yield each part's tally as it is done."""
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    if jobs == 1:
        yield from (run_seeds(chunk, make) for chunk in chunks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        for done in as_completed([pool.submit(run_seeds, chunk, make) for chunk in chunks]):
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
