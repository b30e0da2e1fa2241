"""The worker against partitions and worker processes, on whatever cores there are: nothing is pinned here."""

from __future__ import annotations

from pathlib import Path

from load_tests.bench.contest import backlog
from load_tests.bench.figures import Figures
from load_tests.bench.sizes import Sizes
from load_tests.bench.stage import Stage
from load_tests.servers.process import Say


def run_scaling(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure on a stage of its own. Workers join first and are held still while the backlog is written."""
    with Stage(folder, rules=sizes.rules, say=say) as stage:
        for partitions in sizes.partitions_curve:
            for number in sizes.workers_curve:
                if number > partitions:
                    continue
                stage.clear(partitions)
                with stage.workers(number, pinned=False, session_timeout_s="40") as workers:
                    for worker in workers:
                        worker.await_ready()
                    for worker in workers:
                        worker.pause()
                    stage.write(backlog(sizes, events=sizes.curve_events))
                    for worker in workers:
                        worker.resume()
                    found = stage.drained(workers, warm_share=sizes.warm_share)
                figures.point(
                    "scaling", partitions=partitions, workers=number, per_s=found.per_s, per_cpu_s=found.per_cpu_s
                )
                say(f"{partitions} partitions, {number} workers: {found.per_s:,.0f} events/s")
