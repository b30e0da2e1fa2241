"""Surroundings: what the partitions of a worker share, and how they notice that their log is another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from orchestrator.core.rulebook import Rulebook
from orchestrator.errors import PositionLost
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import EVENTS, Clock, EventLog, StateStore
from orchestrator.runtime.producers import Producers


class Extent(msgspec.Struct, frozen=True):
    """What a log holds of a partition: its identity, first offset and the offset after the last."""

    log_id: str
    first: int
    end: int


class LogExtent(Protocol):
    """Tells what the log of events holds, so that a lost position is noticed and never papered over."""

    async def extent(self, partition: int) -> Extent:
        """Return the extent of a partition of ``journey.events``."""
        ...


class Rulebooks(Protocol):
    """The rulebook in force; a switch takes effect between two batches, never within one."""

    @property
    def current(self) -> Rulebook:
        """Return the rulebook in force."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every partition of a worker shares."""

    store: StateStore
    log: EventLog
    extents: LogExtent
    intake: Intake
    rulebooks: Rulebooks
    clock: Clock
    grace_ms: int = 100
    customers_cached_max: int = 20_000
    producers: Producers = field(default_factory=Producers)


def check_position(partition: int, next_offset: int | None, log_id: str, extent: Extent) -> None:
    """Refuse to go on from an offset that means nothing in this log."""
    where = f"Partition {partition} of {EVENTS}"
    if next_offset is None:
        return
    if log_id and log_id != extent.log_id:
        raise PositionLost(
            f"{where}: the topic was recreated (its id was {log_id}, now it is {extent.log_id}), so the stored offset "
            f"{next_offset} means nothing. Restore the topic, or give the worker an empty state store."
        )
    if next_offset < extent.first:
        raise PositionLost(
            f"{where}: events {next_offset} to {extent.first - 1} fell out of retention before they were applied. "
            "Restore them, or give the worker an empty state store, which forgets every customer."
        )
    if next_offset > extent.end:
        raise PositionLost(
            f"{where}: the stored offset {next_offset} lies beyond the log's end {extent.end}: the log has lost events "
            "that were applied. Restore the log, or give the worker an empty state store."
        )
