"""Patience: a call that a dependency did not answer is made again until it is answered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator.errors import Unavailable
from orchestrator.metrics import STORE_RETRIES
from orchestrator.runtime.ports import Clock

T = TypeVar("T")

_logger = logging.getLogger(__name__)

FIRST_S = 0.1
LONGEST_S = 2.0


async def patiently(clock: Clock, port: str, call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``call``, repeated after ``Unavailable`` for as long as it takes.

    Every repetition is counted under ``port``. Other errors pass through; so does cancellation.
    """
    pause_s = FIRST_S
    while True:
        try:
            return await call()
        except Unavailable as error:
            STORE_RETRIES.labels(port).inc()
            _logger.warning("%s does not answer, trying again in %.1f s: %s", port, pause_s, error)
        await clock.sleep(pause_s)
        pause_s = min(LONGEST_S, 2 * pause_s)
