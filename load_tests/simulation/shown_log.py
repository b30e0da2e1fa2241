"""The log of a run, whose records are seen a moment after they were taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.runtime.ports import ACTIONS, EVENTS, Outgoing, Record

if TYPE_CHECKING:
    from load_tests.simulation.world import World

PARTITIONS = 2

#: Records are shown less than this after their stamps, as by a broker that waits for its followers.
SHOWN_AFTER_MAX_MS = 80


class ShownLog(MemoryEventLog):
    """The log, which shows a record a moment after its stamp, in order, and wakes those that wait for it."""

    def __init__(self, world: World) -> None:
        super().__init__(world, {EVENTS: PARTITIONS, ACTIONS: PARTITIONS})  # type: ignore[arg-type]  # it tells the time.
        self.waiting: dict[tuple[str, int], list[asyncio.Future[None]]] = {}
        self._world = world
        self._shown: dict[tuple[str, int], int] = {}

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Append, and show it in a moment."""
        if self._world.caller is not None:
            self._world.checks.appended(self._world.caller, records)
        await super().append(records)
        for where in {(one.topic, self._partitions.of_key(one.topic, one.key)): None for one in records}:
            delay_s = self._world.chance.randrange(SHOWN_AFTER_MAX_MS) / 1000
            self._world.loop.world_later(delay_s, self._show, where, self._of(*where).end)

    def _show(self, where: tuple[str, int], end: int) -> None:
        self._shown[where] = max(self._shown.get(where, 0), end)
        for arrival in self.waiting.pop(where, ()):
            if not arrival.done():
                arrival.set_result(None)

    async def read_range(self, topic: str, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Return what is shown by now."""
        records = await super().read_range(topic, partition, from_offset, limit)
        return [one for one in records if one.offset < self._shown.get((topic, partition), 0)]
