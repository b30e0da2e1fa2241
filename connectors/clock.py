"""The wall clock of this library, in one place: signatures and Retry-After dates speak of the real present."""

from __future__ import annotations

import time


def now_s() -> float:
    """Return the present as epoch seconds, UTC."""
    return time.time()  # noqa: TID251 - connectors imports nothing of orchestrator, so it has a clock of its own.
