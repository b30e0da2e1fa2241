"""The wall clock: the one module that may ask the machine what time it is."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return the present as epoch milliseconds, UTC."""
        return time.time_ns() // 1_000_000  # noqa: TID251 - this is the clock adapter.

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller for ``seconds``."""
        await asyncio.sleep(seconds)
