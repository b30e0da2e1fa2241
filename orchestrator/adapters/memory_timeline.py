"""The timeline in memory: for simulation and tests."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.runtime.ports import Record
from orchestrator.runtime.timeline import ENTRIES_MAX, marks_erasure


class MemoryTimeline:
    """``TimelineKeeper`` over a dictionary."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], dict[tuple[int, int], Record]] = {}

    async def recent(self, topic: str, key: bytes, limit: int = ENTRIES_MAX) -> list[Record]:
        """Return the newest records of a key, oldest first."""
        kept = self._kept.get((topic, key), {})
        return sorted(kept.values(), key=lambda one: (one.stamp_ms, one.partition, one.offset))[-limit:]

    async def keep(self, topic: str, records: Sequence[Record]) -> None:
        """Keep records; those that are known, or older than the newest ``ENTRIES_MAX``, change nothing."""
        for record in records:
            if record.key is None:
                continue
            kept = self._kept.setdefault((topic, record.key), {})
            if marks_erasure(topic, record.value):
                for place in [one for one in kept if one < (record.partition, record.offset)]:
                    del kept[place]
            kept[record.partition, record.offset] = record
            if len(kept) > ENTRIES_MAX:
                del kept[min(kept, key=lambda place: (kept[place].stamp_ms, place))]
