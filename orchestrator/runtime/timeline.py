"""The timeline: what is kept of one customer's recent past, per topic, bounded.

In the embedded engine the log itself is the timeline, read by key. In the distributed engine a projector follows
``journey.events`` and ``journey.decisions`` and keeps the newest records of every customer; a worker's decisions
never wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import DECISIONS, EVENTS, Record

#: Records that are kept of one customer and topic.
ENTRIES_MAX = 200
#: A customer of whom nothing was heard for so long is forgotten by a projected timeline.
KEPT_MS = 90 * 86_400_000
#: The topics of which a timeline is made.
TOPICS = (EVENTS, DECISIONS)


class Timeline(Protocol):
    """Reads the recent past of one customer. ``key`` is the record key of the customer."""

    async def recent(self, topic: str, key: bytes, limit: int = ENTRIES_MAX) -> list[Record]:
        """Return the newest ``limit`` records of a key, at most ``ENTRIES_MAX``, oldest first.

        Raises ``Unavailable``. A projected timeline trails its topics by a moment.
        """
        ...


class TimelineKeeper(Timeline, Protocol):
    """A timeline that is written by a projector."""

    async def keep(self, topic: str, records: Sequence[Record]) -> None:
        """Keep records of one topic, in log order; records that are known already change nothing.

        Records without a key belong to nobody and are left out. Raises ``StoreUnavailable``.
        """
        ...


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record of the customer that is no acceptable event: it decided nothing."""

    at_ms: int
    message: str


@dataclass(frozen=True, slots=True)
class History:
    """A customer's recent past, decoded; each list in log order. ``bounded``: earlier events may have been left out."""

    customer_id: str
    events: list[Event]
    decisions: list[DecisionRecord]
    refused: list[RefusedRecord]
    bounded: bool


_decode_decision = msgspec.json.Decoder(DecisionRecord).decode


async def history_of(timeline: Timeline, intake: Intake, customer_id: str) -> History:
    """Return what is kept of a customer. Raises ``Unavailable``."""
    key = intake.key(customer_id)
    events: list[Event] = []
    refused: list[RefusedRecord] = []
    records = await timeline.recent(EVENTS, key)
    for record in records:
        try:
            events += intake.events_from_record(record)
        except EventRefused as reason:
            refused.append(RefusedRecord(record.stamp_ms, f"{reason} {reason.remedy}"))
    decided = await timeline.recent(DECISIONS, key)
    return History(
        customer_id=customer_id,
        events=events,
        decisions=[_decode_decision(record.value or b"{}") for record in decided],
        refused=refused,
        bounded=len(records) >= ENTRIES_MAX,
    )
