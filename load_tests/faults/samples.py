"""Samples of what processes take: memory and descriptors over time, and whether they grow."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from operator import itemgetter

from load_tests.faults.machine import descriptors, own_mb

#: A series is judged from here on, in seconds of its process's life: caches and the allocator's pools fill first.
WARM_UP_S = 900.0
#: Fewer samples than this tell nothing.
SAMPLES_MIN = 30
#: Samples of a stretch whose lowest number of descriptors counts: pools of connections open and close in between.
_STRETCH = 30
#: Pairs are taken of at most this many samples of a series, evenly chosen.
_PAIRED_MAX = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process took ``at_s`` after the start of the watch."""

    at_s: float
    own_mb: float
    descriptors: int


@dataclass(slots=True)
class Series:
    """The samples of one process, by its role and process id."""

    role: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def settled(self) -> list[Sample]:
        """Return the samples after the warm-up."""
        began_s = self.samples[0].at_s if self.samples else 0.0
        return [one for one in self.samples if one.at_s >= began_s + WARM_UP_S]


@dataclass(frozen=True, slots=True)
class Growth:
    """How a settled series moved: per hour, and what the process took at the ends of its four quarters."""

    role: str
    pid: int
    samples: int
    minutes: float
    own_mb: list[float]
    own_mb_per_hour: float
    descriptors: list[int]
    descriptors_per_hour: float


def growth(series: Series) -> Growth | None:
    """Return how a series moved after its warm-up, None when it is too short to tell."""
    settled = series.settled()
    if len(settled) < SAMPLES_MIN:
        return None
    quarters = [settled[len(settled) * quarter // 4 - 1] for quarter in (1, 2, 3, 4)]
    return Growth(
        role=series.role,
        pid=series.pid,
        samples=len(settled),
        minutes=(settled[-1].at_s - settled[0].at_s) / 60,
        own_mb=[one.own_mb for one in quarters],
        own_mb_per_hour=slope_per_hour([(one.at_s, one.own_mb) for one in settled]),
        descriptors=[one.descriptors for one in quarters],
        descriptors_per_hour=slope_per_hour(_lowest([(one.at_s, float(one.descriptors)) for one in settled])),
    )


def _lowest(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the lowest point of each stretch, which only rises with what is never given back."""
    return [min(points[at : at + _STRETCH], key=itemgetter(1)) for at in range(0, len(points), _STRETCH)]


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope over all pairs of points (Theil and Sen), which single outliers do not move."""
    chosen = points[:: max(1, len(points) // _PAIRED_MAX)]
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in combinations(chosen, 2) if t > s]
    return statistics.median(slopes) * 3600 if slopes else 0.0


class Watch:
    """Samples processes every ``every_s`` seconds in a thread of its own; ``processes`` tells which there are now."""

    def __init__(self, processes: Callable[[], Mapping[str, int]], every_s: float = 10.0) -> None:
        self._processes = processes
        self._every_s = every_s
        self._began = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self.series: dict[tuple[str, int], Series] = {}

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Sample no more."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._every_s):
            for role, pid in self._processes().items():
                taken = Sample(time.monotonic() - self._began, own_mb(pid), descriptors(pid))
                if taken.own_mb:
                    self.series.setdefault((role, pid), Series(role, pid)).samples.append(taken)
