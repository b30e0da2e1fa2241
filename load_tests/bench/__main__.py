"""Measure everything and print the table.

    python -m load_tests.bench [--rounds 3] [--only contest latency ...] [--json FILE] [--plots DIR] [--write-docs]

Everything runs on loopback and stops by itself. The machine should have nothing else to do: figures of a busy one are
worthless, and even then only ratios within one run compare.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from load_tests.bench import documents, machine, plots
from load_tests.bench.contest import QUIX_PYTHON, Contest
from load_tests.bench.core import run_history, run_rules
from load_tests.bench.figures import Figures
from load_tests.bench.latency import run_latency
from load_tests.bench.population import run_populations
from load_tests.bench.progress import Telling
from load_tests.bench.report import print_table
from load_tests.bench.scaling import run_scaling
from load_tests.bench.sizes import FULL, SMALL, Sizes
from load_tests.bench.stage import Stage
from load_tests.bench.throughput import run_backtest, run_embedded, run_gateway
from load_tests.servers import KAFKA_VERSION
from load_tests.servers.process import Say
from orchestrator.adapters.clock import SystemClock
from orchestrator.core.moment import format_moment

Part = Callable[[Path, Sizes, Figures, Say], None]


def _core(_folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    run_rules(sizes, figures, say)
    run_history(sizes, figures, say)


def _contest(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    if not QUIX_PYTHON.exists():
        say(f"Quix Streams is left out: there is no {QUIX_PYTHON} (make bench sets it up)")
    with Stage(folder, rules=sizes.rules, say=say) as stage:
        figures.about["redis"] = stage.redis.version
        Contest(stage, sizes, say).run(figures)


def _gateway(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    with Stage(folder, rules=sizes.rules, say=say) as stage:
        run_gateway(stage, sizes, figures, say)


#: In this order: what a later part needs to know, an earlier one has measured.
PARTS: Mapping[str, tuple[str, Part]] = {
    "core": ("The core alone: rules and history", _core),
    "contest": ("Worker and baselines in turns", _contest),
    "latency": ("Event to action under steady load", run_latency),
    "scaling": ("Partitions and workers", run_scaling),
    "customers": ("Customers, memory, recovery", run_populations),
    "backtest": ("Backtest of a file", run_backtest),
    "embedded": ("The embedded engine", run_embedded),
    "gateway": ("The gateway", _gateway),
}


def main() -> None:
    """Run what was asked for."""
    given = _options()
    figures = Figures.load(given.from_json) if given.from_json else _measured(given)
    if given.json:
        figures.save(given.json)
    if given.plots:
        plots.draw(figures, given.plots)
    print_table(figures, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120))
    if given.write_docs:
        for path in documents.write(figures):
            sys.stderr.write(f"written: {path}\n")


def _measured(given: argparse.Namespace) -> Figures:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sizes = SMALL if given.small else FULL
    if given.rounds:
        sizes = replace(sizes, rounds=given.rounds)
    figures = Figures(about=_about(sizes))
    wanted = [name for name in PARTS if not given.only or name in given.only]
    with (
        tempfile.TemporaryDirectory(prefix="journey-bench-", ignore_cleanup_errors=True) as folder,
        Telling(len(wanted)) as telling,
    ):
        for name in wanted:
            words, part = PARTS[name]
            telling.step(words)
            own = Path(folder) / name
            own.mkdir()
            part(own, sizes, figures, telling.say)
    return figures


def _about(sizes: Sizes) -> dict[str, Any]:
    return {
        "machine": machine.described(),
        "versions": machine.versions(),
        "kafka": KAFKA_VERSION,
        "redis": "not asked",
        "rounds": sizes.rounds,
        "load_before": machine.load_average(),
        "day": format_moment(SystemClock().now_ms())[:10],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="rounds of the contest and of the core (default: 3)")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"parts: {', '.join(PARTS)}")
    parser.add_argument(
        "--small", action="store_true", help="tiny sizes: shows that everything works, measures nothing"
    )
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--plots", type=Path, help="folder for pictures of the curves")
    parser.add_argument("--from-json", type=Path, help="measure nothing: take the results of an earlier run")
    parser.add_argument("--write-docs", action="store_true", help="put the figures into the documents")
    return parser.parse_args()


if __name__ == "__main__":
    main()
