"""What makes a world small: policies that give up soon, and the engine's constants that it cannot live with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random  # noqa: TID251 - the one seeded source of chance of a run.
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.runtime import partition as partition_module
from orchestrator.runtime.dispatch import DeliveryPolicy
from orchestrator.runtime.dispatch import lane as lane_module

if TYPE_CHECKING:
    from load_tests.simulation.world import World

#: How often an idle lane looks into its queue; the real second would be most of a run.
LANE_REST_MS = 6_000


def policies(chance: Random) -> dict[str, DeliveryPolicy]:
    """Return how each connector is delivered to: quick to give up, and none like the other."""
    common: dict[str, Any] = {
        "attempts_max": chance.choice([2, 4]),
        "backoff_first_s": 0.2,
        "backoff_max_s": 2.0,
        "budget_s": chance.choice([30.0, 30.0, 2.5]),
        "breaker_after": chance.choice([1, 3]),
        "breaker_open_s": chance.choice([2.0, 30.0]),
        "lease_s": 5.0,
    }
    shapes: dict[str, dict[str, Any]] = {
        "voice": {"concurrency": 1},
        "sms": {"concurrency": 4, "rate_max": 2, "rate_per_s": 2.0},
        "push": {"concurrency": 2},
    }
    words: list[Literal["retry", "drop"]] = ["retry", "retry", "drop"]
    return {name: DeliveryPolicy(**common, **one, on_unknown=chance.choice(words)) for name, one in shapes.items()}


@contextmanager
def constants(world: World) -> Iterator[None]:
    """Set the engine's constants that a small world cannot live with, for one run."""
    wakes_max, rest_ms = partition_module.WAKES_MAX, lane_module.REST_MAX_MS
    partition_module.WAKES_MAX = world.checks.wakes_max
    lane_module.REST_MAX_MS = LANE_REST_MS
    try:
        yield
    finally:
        partition_module.WAKES_MAX, lane_module.REST_MAX_MS = wakes_max, rest_ms


class _Objects(logging.Handler):
    """Takes every error that the engine logs for a violation, but for what the receivers do to it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if "raised instead of returning a receipt" not in record.msg:
            cause = f": {record.exc_info[1]!r}" if record.exc_info else ""
            self._world.violated("errors", record.getMessage() + cause)


@contextmanager
def error_log(world: World) -> Iterator[None]:
    """Take errors that the engine logs for violations, for one run."""
    logger, handler = logging.getLogger("orchestrator"), _Objects(world)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
