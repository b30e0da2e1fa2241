"""``python -m load_tests.simulation``: thousands of small worlds in which everything goes wrong, by seed.

One seed decides everything that happens in a run, on every machine. A seed that fails prints the command that runs it
again, step by step.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import track

from load_tests.simulation.make import Make, PowerCuts
from load_tests.simulation.runs import Tally, catch_all, cores, run_all, run_seed

_REPLAY = "make simulate SEED={seed}"
#: Failing seeds that are shown.
_SHOWN_MAX = 10
_TRACE_LINES = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 0 when every invariant held, 1 when one did not or too little happened."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many seeds to run (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="run this one seed and print what happened, step by step")
    parser.add_argument(
        "--mutants", action="store_true", help="run the engine with known defects until they are caught"
    )
    parser.add_argument("--power-cuts", action="store_true", help="let Redis lose its latest second in every run")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes (all cores)")
    asked = parser.parse_args(arguments)
    make = PowerCuts if asked.power_cuts else Make
    if asked.seed is not None:
        return _one(asked.seed, make)
    if asked.mutants:
        return _mutants(asked.jobs)
    return _many(asked.first, asked.seeds, asked.jobs, make)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _one(seed: int, make: type[Make]) -> int:
    result = run_seed(seed, make())
    for line in result.trace.lines():
        _say(line)
    _say("")
    if result.violated:
        _say(f"seed {seed} violates {result.violated!r}: {result.message}")
        return 1
    _say(f"seed {seed}: every invariant holds, {len(result.trace)} steps")
    return 0


def _many(first: int, count: int, jobs: int, make: type[Make]) -> int:
    console = Console(stderr=True)
    # How long the whole took is told to people; nothing in a run depends on it.
    began_s = time.perf_counter()
    tally, parts = Tally(), run_all(first, count, jobs, make)
    total = -(-count // 25)
    for part in track(parts, "seeds", total, console=console) if console.is_terminal else parts:
        tally.add(part)
    took_s = time.perf_counter() - began_s
    for name, number in sorted(tally.counts.items()):
        _say(f"{number:>9,}  {name}")
    _say(f"{tally.seeds:,} seeds in {took_s:.0f} s on {jobs} processes: {len(tally.failed)} failed")
    for seed, invariant, message in sorted(tally.failed)[:_SHOWN_MAX]:
        _say(f"\nseed {seed} violates {invariant!r}: {message}\nReplay it with: {_replay(seed, make)}")
    if tally.failed:
        _say(f"\nThe end of seed {min(tally.failed)[0]}:")
        for line in run_seed(min(tally.failed)[0], make()).trace.lines(_TRACE_LINES):
            _say(line)
    if never := tally.never():
        _say(f"\nNever happened, or too seldom for {tally.seeds:,} seeds: {', '.join(never)}")
    return 1 if tally.failed or never else 0


def _replay(seed: int, make: type[Make]) -> str:
    return _REPLAY.format(seed=seed) + (" ARGS=--power-cuts" if make.power_cuts else "")


def _mutants(jobs: int) -> int:
    missed = 0
    _say(f"{'mutant':<28} {'caught by':<12} {'seed':>5}  how")
    for one in catch_all(jobs):
        missed += not one.expected
        caught = one.invariant or "NOTHING"
        _say(f"{one.name:<28} {caught:<12} {one.seed:>5}  {one.message[:140]}")
    return 1 if missed else 0


def _same_hashes() -> None:
    """Start again with hashes that are alike everywhere: the order of sets is a part of what a seed decides."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "load_tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )


if __name__ == "__main__":
    _same_hashes()
    sys.exit(main())
