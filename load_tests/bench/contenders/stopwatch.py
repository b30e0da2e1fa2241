"""How every contender is timed: from the end of its warm-up to its last event, on the wall and in processor time."""

from __future__ import annotations

import argparse
import json
import sys
import time


class Stopwatch:
    """Counts events. ``done`` is true from the last one on; then ``report`` tells the result on standard output."""

    def __init__(self, *, warm: int, events: int) -> None:
        """The watch starts once ``warm`` of the ``events`` have passed."""
        self._warm = warm
        self._events = events
        self._passed = 0
        self._started: tuple[int, float, float] | None = None
        self._ended: tuple[int, float, float] | None = None

    @property
    def done(self) -> bool:
        """Whether all events have passed."""
        return self._ended is not None

    def passed(self, number: int = 1) -> None:
        """Count events."""
        self._passed += number
        if self._started is None:
            if self._passed >= self._warm:
                self._started = self._now()
        elif self._passed >= self._events and self._ended is None:
            self._ended = self._now()

    def report(self, **more: int | float) -> None:
        """Print one line of JSON: events, wall and processor seconds, and ``more``."""
        if self._started is None or self._ended is None:
            raise RuntimeError("the events ended before the watch did")
        events, wall_s, cpu_s = (end - start for start, end in zip(self._started, self._ended, strict=True))
        sys.stdout.write(json.dumps({"events": events, "wall_s": wall_s, "cpu_s": cpu_s, **more}) + "\n")
        sys.stdout.flush()

    def _now(self) -> tuple[int, float, float]:
        return self._passed, time.perf_counter(), time.process_time()


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the options that every contender has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap", required=True, help="where Kafka is")
    parser.add_argument("--topic", default="journey.events", help="topic to drain")
    parser.add_argument("--partitions", type=int, required=True, help="how many partitions it has")
    parser.add_argument("--events", type=int, required=True, help="events after which to stop")
    parser.add_argument("--warm", type=int, required=True, help="events before the watch starts")
    parser.add_argument("--name", required=True, help="name of the run: group, application id")
    parser.add_argument("--folder", required=True, help="folder for files")
    return parser
