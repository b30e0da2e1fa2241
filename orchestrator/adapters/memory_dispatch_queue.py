"""A dispatch queue in memory, for simulations and tests of what stands above it. It outlives its dispatchers only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from heapq import nsmallest

import msgspec

from orchestrator.runtime.dispatch.attempt import is_kept
from orchestrator.runtime.dispatch.queue import BOOKING_KEPT_MS, LEASE_ENDED, REDRIVABLE, WITHDRAWN
from orchestrator.runtime.dispatch.rate import Bucket, Rate
from orchestrator.runtime.ports import Claim, GroupLoad, LedgerEntry, Noted, Occupancy, Put, Queued, Quota

LEDGER_TTL_MS = 7 * 86_400_000

_NEVER = 10**16


class _State(Enum):
    WAITING = "waiting"
    READY = "ready"
    LEASED = "leased"


@dataclass(slots=True)
class _Entry:
    """A queued action. ``at_ms`` is when its state changed or changes next: readiness, or the end of the lease.

    ``busy`` tells that its lease takes a slot, ``stamp_us`` which token of the rate it took, ``released`` that its
    settlement is to hold no slot.
    """

    queued: Queued
    at_ms: int
    state: _State = _State.WAITING
    lapses: int = 0
    withdrawn: bool = False
    busy: bool = False
    stamp_us: int | None = None
    released: bool = False

    def rank(self) -> tuple[int, int, int, str]:
        one = self.queued
        return (-one.priority, _NEVER if one.deadline_at is None else one.deadline_at, one.not_before, one.id)

    def lease(self, until_ms: int, *, busy: bool, stamp_us: int | None = None) -> Queued:
        self.state, self.at_ms = _State.LEASED, until_ms
        self.busy, self.stamp_us, self.released = busy, stamp_us, False
        marks = (LEASE_ENDED,) * self.lapses + (WITHDRAWN,) * self.withdrawn
        return msgspec.structs.replace(
            self.queued,
            attempts=self.queued.attempts + self.lapses,
            history=(*self.queued.history, *marks),
        )

    def free(self) -> None:
        self.busy, self.stamp_us = False, None


@dataclass(slots=True)
class _Hold:
    """A slot that stays taken until ``until_ms`` after its action was settled."""

    group: str
    until_ms: int


@dataclass(slots=True)
class _Line:
    """One connector's actions, and what is used of its capacity beyond their leases.

    Nothing changes its state by itself before ``change_ms``. ``bookings`` has group and start of each id.
    """

    entries: dict[str, _Entry] = field(default_factory=dict)
    change_ms: int = _NEVER
    bucket: Bucket | None = None
    holds: dict[str, _Hold] = field(default_factory=dict)
    bookings: dict[str, tuple[str, int]] = field(default_factory=dict)

    def prune(self, now_ms: int) -> None:
        self.holds = {one: hold for one, hold in self.holds.items() if hold.until_ms > now_ms}
        oldest_ms = now_ms - BOOKING_KEPT_MS
        self.bookings = {one: booked for one, booked in self.bookings.items() if booked[1] >= oldest_ms}


class MemoryDispatchQueue:
    """``DeliveryQueue`` in dictionaries; every call is atomic because none of them awaits."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._ledger: dict[str, LedgerEntry] = {}
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)

    async def put(self, actions: Sequence[Queued]) -> Put:
        """Queue actions that are neither queued nor settled."""
        queued = 0
        for action in actions:
            if action.id not in self._entries and action.id not in self._ledger:
                self._place(action)
                queued += 1
        return Put(queued=queued, known=len(actions) - queued)

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Settle unclaimed actions as cancelled; mark claimed ones; remember unknown ones."""
        taken: list[str] = []
        for action_id in action_ids:
            entry = self._entries.get(action_id)
            if entry is not None and (entry.state is _State.LEASED or entry.lapses or is_kept(entry.queued.history)):
                entry.withdrawn = True
                continue
            if entry is not None:
                taken.append(action_id)
                self._remove(action_id)
                self._write(_cancelled(action_id, entry.queued.connector, now_ms))
            elif action_id not in self._ledger:
                self._write(_cancelled(action_id, "", now_ms))
            self._unbook(action_id)
        return taken

    # ---------------------------------------------------------------------------------------------- claims

    async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Claim:
        """Lease ready actions by rank, as far as slots and rate allow."""
        line, rate = self._lines[connector], Rate.of(quota)
        self._bound_leases(connector, now_ms, lease_ms)
        self._promote(connector, now_ms)
        line.prune(now_ms)
        if rate is not None and line.bucket is None:
            line.bucket = Bucket.fresh(rate, now_ms)
        busy = self._busy(connector)
        room = quota.slots - busy.total()
        if rate is not None and line.bucket is not None:
            room = min(room, line.bucket.room(rate, now_ms))
        actions: list[Queued] = []
        ready = [one for one in self._of(connector) if one.state is _State.READY] if room > 0 else []
        for entry in sorted(ready, key=_Entry.rank):
            group = entry.queued.group
            if len(actions) >= min(room, limit):
                break
            if busy[group] < quota.group_slots.get(group, quota.slots):
                busy[group] += 1
                late = (entry.queued.deadline_at or _NEVER) <= now_ms
                stamp_us = line.bucket.take(rate, now_ms) if rate is not None and line.bucket and not late else None
                actions.append(entry.lease(now_ms + lease_ms, busy=not late, stamp_us=stamp_us))
                line.change_ms = min(line.change_ms, entry.at_ms)
        return Claim(actions=actions, again_at_ms=self._again_at_ms(connector, quota, busy, now_ms))

    def _bound_leases(self, connector: str, now_ms: int, lease_ms: int) -> None:
        line = self._lines[connector]
        for entry in self._of(connector):
            if entry.state is _State.LEASED and entry.at_ms > now_ms + 2 * lease_ms:
                entry.at_ms = now_ms + lease_ms
                line.change_ms = min(line.change_ms, entry.at_ms)

    def _again_at_ms(self, connector: str, quota: Quota, busy: Mapping[str, int], now_ms: int) -> int | None:
        entries, line, rate = list(self._of(connector)), self._lines[connector], Rate.of(quota)
        full = sum(busy.values()) >= quota.slots
        ready = {one.queued.group for one in entries if one.state is _State.READY}
        if not full and any(busy.get(one, 0) < quota.group_slots.get(one, quota.slots) for one in ready):
            next_ms = now_ms
        else:
            moments = [one.at_ms for one in entries if one.state is not _State.READY]
            if ready:  # What is ready waits for a slot.
                moments += [hold.until_ms for hold in line.holds.values()]
            if not moments:
                return None
            next_ms = min(moments)
        if rate is None or line.bucket is None:
            return next_ms
        return max(next_ms, line.bucket.next_at_ms(rate, now_ms))

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease unclaimed actions whose deadline has come, earliest first."""
        self._promote(connector, now_ms)
        late = (entry for entry in self._of(connector) if entry.state is not _State.LEASED)
        missed = (entry for entry in late if (entry.queued.deadline_at or _NEVER) <= now_ms)
        chosen = nsmallest(limit, missed, key=lambda entry: (entry.queued.deadline_at, entry.queued.id))
        if chosen:
            line = self._lines[connector]
            line.change_ms = min(line.change_ms, now_ms + lease_ms)
        return [entry.lease(now_ms + lease_ms, busy=False) for entry in chosen]

    async def settle(self, entry: LedgerEntry, *, hold_until_ms: int | None = None, unspent: bool = False) -> None:
        """Take the action out of the queue and write its ledger entry."""
        held = self._remove(entry.id)
        if held is not None and held.busy:
            line = self._lines[held.queued.connector]
            if unspent:
                _give_back(line, held)
            if hold_until_ms is not None and not held.released:
                line.holds[entry.id] = _Hold(held.queued.group, hold_until_ms)
        self._unbook(entry.id)
        self._write(entry)

    async def retry(self, queued: Queued, at_ms: int, *, unspent: bool = False) -> None:
        """Give a claimed action back; one that was settled meanwhile stays settled."""
        entry = self._entries.get(queued.id)
        if entry is not None:
            if unspent and entry.busy:
                _give_back(self._lines[entry.queued.connector], entry)
            entry.free()
            entry.queued = msgspec.structs.replace(queued, not_before=at_ms)
            entry.state, entry.at_ms, entry.lapses = _State.WAITING, at_ms, 0
            line = self._lines[entry.queued.connector]
            line.change_ms = min(line.change_ms, at_ms)

    async def note(self, queued: Queued) -> Noted:
        """Write attempts and history of a claimed action down, unless it was withdrawn or settled meanwhile."""
        entry = self._entries.get(queued.id)
        if entry is None:
            return Noted.GONE
        if entry.withdrawn:
            return Noted.WITHDRAWN
        entry.queued = msgspec.structs.replace(entry.queued, attempts=queued.attempts, history=queued.history)
        entry.lapses = 0
        return Noted.WRITTEN

    # -------------------------------------------------------------------------------------------- capacity

    async def release(self, action_id: str) -> bool:
        """Free the slot that a settled action holds."""
        entry = self._entries.get(action_id)
        if entry is not None and entry.busy:
            entry.released = True
            return True
        return any(line.holds.pop(action_id, None) for line in self._lines.values())

    async def book(
        self, connector: str, group: str, action_id: str, starts: Sequence[int], per_slot: int
    ) -> int | None:
        """Book the first start that is not full."""
        bookings = self._lines[connector].bookings
        if (known := bookings.get(action_id)) is not None:
            return known[1]
        if action_id in self._ledger:
            return starts[0] if starts else None
        taken = Counter(start for its_group, start in bookings.values() if its_group == group)
        start = next((one for one in starts if taken[one] < per_slot), None)
        if start is not None:
            bookings[action_id] = (group, start)
        return start

    async def occupancy(self, connector: str, now_ms: int) -> Occupancy:
        """Return the load per group."""
        self._promote(connector, now_ms)
        self._lines[connector].prune(now_ms)
        busy, queued, since = self._busy(connector), Counter[str](), defaultdict[str, list[int]](list)
        for entry in self._of(connector):
            queued[entry.queued.group] += entry.state is not _State.LEASED
            if entry.state is _State.READY:
                since[entry.queued.group].append(entry.queued.not_before)
        return Occupancy(
            {
                group: GroupLoad(
                    queued=queued[group],
                    ready=len(since[group]),
                    busy=busy[group],
                    oldest_ready_at_ms=min(since[group], default=None),
                )
                for group in sorted(busy.keys() | queued.keys())
                if busy[group] or queued[group]
            }
        )

    async def ahead(self, connector: str, group: str, priority: int, now_ms: int) -> int:
        """Count ready actions of the group whose priority is as high or higher."""
        self._promote(connector, now_ms)
        ready = (entry.queued for entry in self._of(connector) if entry.state is _State.READY)
        return sum(one.group == group and one.priority >= priority for one in ready)

    # ---------------------------------------------------------------------------------------------- ledger

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Queue actions again that were given up."""
        again: list[str] = []
        for action in actions:
            settled = self._ledger.get(action.id)
            if action.id in self._entries or (settled is not None and settled.outcome not in REDRIVABLE):
                continue
            self._ledger.pop(action.id, None)
            self._place(action)
            again.append(action.id)
        return again

    async def ledger(self, action_ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the settled entries, in the order asked."""
        return [self._ledger.get(action_id) for action_id in action_ids]

    async def recent(self, limit: int) -> list[LedgerEntry]:
        """Return the latest settled entries, newest first."""
        return sorted(self._ledger.values(), key=lambda entry: (-entry.at_ms, entry.id))[:limit]

    # --------------------------------------------------------------------------------------------- entries

    def _place(self, queued: Queued) -> None:
        entry, line = _Entry(queued, queued.not_before), self._lines[queued.connector]
        self._entries[queued.id] = line.entries[queued.id] = entry
        line.change_ms = min(line.change_ms, entry.at_ms)

    def _remove(self, action_id: str) -> _Entry | None:
        entry = self._entries.pop(action_id, None)
        if entry is not None:
            del self._lines[entry.queued.connector].entries[action_id]
        return entry

    def _of(self, connector: str) -> Iterable[_Entry]:
        return self._lines[connector].entries.values()

    def _busy(self, connector: str) -> Counter[str]:
        """Return the slots taken per group, as of the last promotion."""
        leased = Counter(entry.queued.group for entry in self._of(connector) if entry.busy)
        return leased + Counter(hold.group for hold in self._lines[connector].holds.values())

    def _promote(self, connector: str, now_ms: int) -> None:
        line = self._lines[connector]
        if line.change_ms > now_ms:
            return
        line.change_ms = _NEVER
        for entry in line.entries.values():
            if entry.state is _State.READY:
                continue
            if entry.at_ms <= now_ms:
                entry.lapses += entry.busy
                entry.state = _State.READY
                entry.free()
            else:
                line.change_ms = min(line.change_ms, entry.at_ms)

    def _unbook(self, action_id: str) -> None:
        for line in self._lines.values():
            line.bookings.pop(action_id, None)

    def _write(self, entry: LedgerEntry) -> None:
        before = self._ledger.get(entry.id)
        if before is None or before.outcome != "delivered":
            self._ledger.pop(entry.id, None)  # Keeps the dictionary in the order of writing, so the oldest is first.
            self._ledger[entry.id] = entry
        while (oldest := next(iter(self._ledger.values()))).at_ms < entry.at_ms - LEDGER_TTL_MS:
            del self._ledger[oldest.id]


def _give_back(line: _Line, entry: _Entry) -> None:
    if line.bucket is not None and entry.stamp_us is not None:
        line.bucket.give_back(entry.stamp_us)


def _cancelled(action_id: str, connector: str, at_ms: int) -> LedgerEntry:
    return LedgerEntry(id=action_id, connector=connector, outcome="cancelled", at_ms=at_ms)
