"""A dispatch queue in memory, for simulations and tests of what stands above it. It outlives its dispatchers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import nsmallest

import msgspec

from orchestrator.runtime.dispatch.queue import LEASE_ENDED, WITHDRAWN
from orchestrator.runtime.ports import LedgerEntry, Put, Queued

LEDGER_TTL_MS = 7 * 86_400_000

_NEVER = 10**16


class _State(Enum):
    WAITING = "waiting"
    READY = "ready"
    LEASED = "leased"


@dataclass(slots=True)
class _Entry:
    """A queued action. ``at_ms`` is when its state changed or changes next: readiness, or the end of the lease."""

    queued: Queued
    at_ms: int
    state: _State = _State.WAITING
    lapses: int = 0
    withdrawn: bool = False

    def rank(self) -> tuple[int, int, int, str]:
        one = self.queued
        return (-one.priority, _NEVER if one.deadline_at is None else one.deadline_at, one.not_before, one.id)

    def lease(self, until_ms: int) -> Queued:
        self.state, self.at_ms = _State.LEASED, until_ms
        marks = (LEASE_ENDED,) * self.lapses + (WITHDRAWN,) * self.withdrawn
        return msgspec.structs.replace(
            self.queued,
            attempts=self.queued.attempts + self.lapses,
            history=(*self.queued.history, *marks),
        )


class MemoryDispatchQueue:
    """``DeliveryQueue`` in dictionaries; every call is atomic because none of them awaits."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._ledger: dict[str, LedgerEntry] = {}

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled."""
        queued = 0
        for action in actions:
            if action.id not in self._entries and action.id not in self._ledger:
                self._entries[action.id] = _Entry(action, action.not_before)
                queued += 1
        return Put(queued=queued, known=len(actions) - queued)

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Settle unclaimed actions as cancelled; mark claimed ones; remember unknown ones."""
        taken: list[str] = []
        for action_id in action_ids:
            entry = self._entries.get(action_id)
            if entry is not None and entry.state is _State.LEASED:
                entry.withdrawn = True
            elif entry is not None:
                taken.append(action_id)
                del self._entries[action_id]
                self._write(_cancelled(action_id, entry.queued.connector, now_ms))
            elif action_id not in self._ledger:
                self._write(_cancelled(action_id, "", now_ms))
        return taken

    async def claim(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease ready actions by rank."""
        self._promote(connector, now_ms)
        ready = (entry for entry in self._of(connector) if entry.state is _State.READY)
        return [entry.lease(now_ms + lease_ms) for entry in nsmallest(limit, ready, key=_Entry.rank)]

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease unclaimed actions whose deadline has come, earliest first."""
        self._promote(connector, now_ms)
        late = (entry for entry in self._of(connector) if entry.state is not _State.LEASED)
        missed = (entry for entry in late if (entry.queued.deadline_at or _NEVER) <= now_ms)
        chosen = nsmallest(limit, missed, key=lambda entry: (entry.queued.deadline_at, entry.queued.id))
        return [entry.lease(now_ms + lease_ms) for entry in chosen]

    async def settle(self, entry: LedgerEntry) -> None:
        """Take the action out of the queue and write its ledger entry."""
        self._entries.pop(entry.id, None)
        self._write(entry)

    async def retry(self, queued: Queued, at_ms: int) -> None:
        """Give a claimed action back; one that was settled meanwhile stays settled."""
        entry = self._entries.get(queued.id)
        if entry is not None:
            entry.queued = msgspec.structs.replace(queued, not_before=at_ms)
            entry.state, entry.at_ms, entry.lapses = _State.WAITING, at_ms, 0

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue settled actions again, unless they were delivered."""
        again: list[str] = []
        for action in actions:
            settled = self._ledger.get(action.id)
            if action.id in self._entries or (settled is not None and settled.outcome == "delivered"):
                continue
            self._ledger.pop(action.id, None)
            self._entries[action.id] = _Entry(action, action.not_before)
            again.append(action.id)
        return again

    async def next_ready_ms(self, connector: str) -> int | None:
        """Return the earliest moment at which an action is ready or its lease ends."""
        return min((entry.at_ms for entry in self._of(connector)), default=None)

    async def ledger(self, action_ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the settled entries, in the order asked."""
        return [self._ledger.get(action_id) for action_id in action_ids]

    async def recent(self, limit: int) -> list[LedgerEntry]:
        """Return the latest settled entries, newest first."""
        return sorted(self._ledger.values(), key=lambda entry: (-entry.at_ms, entry.id))[:limit]

    async def depth(self, connector: str) -> int:
        """Return how many actions are queued or leased."""
        return sum(1 for _ in self._of(connector))

    def _of(self, connector: str) -> Iterator[_Entry]:
        return (entry for entry in self._entries.values() if entry.queued.connector == connector)

    def _promote(self, connector: str, now_ms: int) -> None:
        for entry in self._of(connector):
            if entry.state is not _State.READY and entry.at_ms <= now_ms:
                entry.lapses += entry.state is _State.LEASED
                entry.state = _State.READY

    def _write(self, entry: LedgerEntry) -> None:
        before = self._ledger.get(entry.id)
        if before is None or before.outcome != "delivered":
            self._ledger.pop(entry.id, None)  # Keeps the dictionary in the order of writing, so the oldest is first.
            self._ledger[entry.id] = entry
        while (oldest := next(iter(self._ledger.values()))).at_ms < entry.at_ms - LEDGER_TTL_MS:
            del self._ledger[oldest.id]


def _cancelled(action_id: str, connector: str, at_ms: int) -> LedgerEntry:
    return LedgerEntry(id=action_id, connector=connector, outcome="cancelled", at_ms=at_ms)
