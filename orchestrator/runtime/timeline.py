"""The timeline: what is kept of one customer's recent past, per topic, bounded.

In the embedded engine the log itself is the timeline, read by key. In the distributed engine a projector follows
``journey.events`` and ``journey.decisions`` and keeps the newest records of every customer; a worker's decisions
never wait for it.

What a customer's erasure has forgotten is never given, and a keeper removes it: see ``marks_erasure``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Protocol

import msgspec

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.erasure import begins_nobody
from orchestrator.core.event import CUSTOMER_ERASED, RECEIPTS, Event
from orchestrator.core.reason import Reason
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import DECISIONS, EVENTS, Record

#: Records that are kept of one customer and topic.
ENTRIES_MAX = 200
#: A customer of whom nothing was heard for so long is forgotten by a projected timeline.
KEPT_MS = 90 * 86_400_000


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

        A record that ``marks_erasure`` removes what is kept of its key and topic before it.
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


def _since(erasure: Event, events: Sequence[Event], decisions: Sequence[DecisionRecord]) -> list[Event]:
    """Return the events that belong to the customer who began after the erasure, as the core sees it."""
    own = {record.action_id for record in decisions}
    later = [
        event
        for event in events
        if event.occurred_at_ms > erasure.received_at_ms
        and (event.type not in RECEIPTS or event.properties.get("action_id") in own)
    ]
    return list(dropwhile(begins_nobody, later))


class _Mark(msgspec.Struct):
    """As much of an event or a ledger line as tells an erasure."""

    type: str = ""
    reason: str = ""


_decode_mark = msgspec.json.Decoder(_Mark).decode
_MARKS = {EVENTS: CUSTOMER_ERASED, DECISIONS: Reason.ERASED.value}


def marks_erasure(topic: str, value: bytes | None) -> bool:
    """Return whether a record says that its customer was erased: the event on one topic, its line on the other.

    Both follow, within their topic, all that the erasure forgets and precede what belongs to the new customer.
    """
    word = _MARKS.get(topic)
    if word is None or value is None or word.encode() not in value:
        return False
    try:
        mark = _decode_mark(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return word == (mark.type if topic == EVENTS else mark.reason)


def unforgotten(topic: str, records: Sequence[Record]) -> Sequence[Record]:
    """Return the records of one customer and topic from the latest erasure on, with it; all when there is none."""
    for place in range(len(records) - 1, -1, -1):
        if marks_erasure(topic, records[place].value):
            return records[place:]
    return records


async def history_of(timeline: Timeline, intake: Intake, customer_id: str) -> History:
    """Return what is kept of a customer. Raises ``Unavailable``."""
    key = intake.key(customer_id)
    events: list[Event] = []
    refused: list[RefusedRecord] = []
    records = await timeline.recent(EVENTS, key)
    remembered = unforgotten(EVENTS, records)
    for record in remembered:
        try:
            events += intake.events_from_record(record)
        except EventRefused as reason:
            refused.append(RefusedRecord(record.stamp_ms, f"{reason} {reason.remedy}"))
    decided = await timeline.recent(DECISIONS, key)
    decisions = [_decode_decision(record.value or b"{}") for record in unforgotten(DECISIONS, decided)]
    if decisions and decisions[0].reason is Reason.ERASED:
        del decisions[0]
    if events and events[0].type == CUSTOMER_ERASED:
        events = _since(events[0], events[1:], decisions)
    return History(
        customer_id=customer_id,
        events=events,
        decisions=decisions,
        refused=refused,
        bounded=len(records) >= ENTRIES_MAX,
    )
