"""The clocks of the machines that processes run on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orchestrator.adapters.clock import SteadyTime

if TYPE_CHECKING:
    from load_tests.simulation.world import World


class ClockOfMachine:
    """A machine's clock: its wall may be stepped by ``off_ms``, which the engine's own clock is to withstand.

    ``believed`` is a clock that is wrong in a way that nothing on the machine can notice.
    """

    def __init__(self, world: World, *, believed: bool) -> None:
        self.off_ms = 0

        def wall_ms() -> int:
            return world.now_ms() + self.off_ms

        steady = SteadyTime(wall_ms, elapsed_ms=lambda: round(world.loop.time() * 1000))
        self.now_ms = wall_ms if believed else steady.now_ms

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller; how long does not depend on what the clock shows."""
        await asyncio.sleep(seconds)
