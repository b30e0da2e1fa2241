"""How much is measured: the full run of ``make bench``, and a small one that only shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of events and customers. Slow contenders get fewer events: what is compared is a rate.

    Spans are seconds. ``warm_share`` of a contest's events pass before the watch starts.
    """

    rounds: int = 3
    rules: int = 100
    partitions: int = 4
    warm_share: float = 0.2
    customers: int = 20_000
    worker_events: int = 120_000
    read_events: int = 120_000
    faust_events: int = 20_000
    quix_events: int = 40_000
    core_events: int = 30_000
    rulebooks: tuple[int, ...] = (10, 100, 1_000, 5_000)
    history: tuple[int, ...] = (100, 1_000, 10_000)
    populations: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    curve_events: int = 60_000
    partitions_curve: tuple[int, ...] = (1, 2, 3, 4)
    workers_curve: tuple[int, ...] = (1, 2)
    backtest_events: int = 150_000
    embedded_events: int = 20_000
    gateway_batches: int = 600
    gateway_batch_events: int = 100
    gateway_singles: int = 8_000
    capacity_s: float = 8
    paced_s: float = 20
    paced_shares: tuple[float, ...] = (0.2, 0.8)


FULL = Sizes()
SMALL = Sizes(
    rounds=1,
    customers=2_000,
    worker_events=12_000,
    read_events=12_000,
    faust_events=2_000,
    quix_events=4_000,
    core_events=6_000,
    rulebooks=(10, 100, 1_000),
    history=(100, 1_000),
    populations=(2_000, 20_000),
    curve_events=6_000,
    partitions_curve=(1, 4),
    backtest_events=8_000,
    embedded_events=2_000,
    gateway_batches=40,
    gateway_singles=400,
    capacity_s=3,
    paced_s=5,
)
