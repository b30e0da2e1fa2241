"""Witnesses: the store and the queue of the world, which note what they are made to do and object at once."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from load_tests.simulation.network import Peer
from orchestrator.adapters.memory_dispatch_queue import MemoryDispatchQueue
from orchestrator.adapters.memory_state_store import MemoryStateStore
from orchestrator.core.rulebook import Rulebook
from orchestrator.runtime.ports import Claim, Commit, LedgerEntry, Outgoing, Ownership, Queued, Quota

if TYPE_CHECKING:
    from load_tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Applied:
    """A commit that was applied: what it decided, by which version, up to where."""

    next_offset: int
    clock_ms: int
    rulebook: Rulebook
    outbox: Sequence[Outgoing]


class WitnessedStore(MemoryStateStore):
    """The state store. Invariants ``owner``, ``sequence`` and ``clock`` are checked with every commit."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._owner: dict[int, Peer | None] = {}
        self.applied: defaultdict[int, list[Applied]] = defaultdict(list)
        self.decided_by: dict[tuple[int, int, int], Rulebook] = {}

    async def acquire(self, partition: int) -> Ownership:
        """Note who owns the partition from now on."""
        self._owner[partition] = self._world.caller
        return await super().acquire(partition)

    async def commit(self, partition: int, commit: Commit) -> None:
        """Apply a commit and check what it did."""
        kept = self._of(partition)
        before, offset = kept.sequence, kept.next_offset or 0
        await super().commit(partition, commit)
        if kept.sequence == before:
            self._world.counts["commit repeated"] += 1
            return
        if self._owner[partition] is not self._world.caller:
            self._world.violated("owner", f"{self._world.caller} wrote partition {partition} of another owner")
        if kept.sequence != before + 1 or (kept.next_offset or 0) < offset:
            self._world.violated("sequence", f"partition {partition}: commit {kept.sequence} after {before}")
        rulebook = self.decided_by[partition, commit.epoch, commit.sequence]
        self.applied[partition].append(Applied(commit.next_offset, commit.clock_ms, rulebook, tuple(commit.outbox)))
        self._check_clock(partition, commit)

    async def trim(self, partition: int, epoch: int, through: int) -> None:
        """Trim, and check who does."""
        await super().trim(partition, epoch, through)
        if self._owner[partition] is not self._world.caller:
            self._world.violated("owner", f"{self._world.caller} trimmed partition {partition} of another owner")

    def _check_clock(self, partition: int, commit: Commit) -> None:
        """A partition's clock never passes the log's own time, nor a record that has not been read."""
        if commit.clock_ms > self._world.now_ms():
            ahead_ms = commit.clock_ms - self._world.now_ms()
            self._world.violated("clock", f"partition {partition}: its clock is {ahead_ms} ms ahead of the log's")
        unread = self._world.records_from(partition, commit.next_offset)
        if unread and unread[0].stamp_ms < commit.clock_ms:
            self._world.violated(
                "clock", f"partition {partition}: its clock passed the unread record {unread[0].offset}"
            )


@dataclass(slots=True)
class _Lease:
    process: Peer | None
    until_ms: int
    takes_slot: bool
    token_at_ms: int


class WitnessedQueue(MemoryDispatchQueue):
    """The dispatch queue. Invariants ``lease``, ``slots`` and ``rate`` are checked with every claim.

    Time is what the claimers say; once a dispatcher's clock has jumped the three are no longer checked, since slots
    and leases are measured by it.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._leases: defaultdict[str, dict[str, _Lease]] = defaultdict(dict)
        self._tokens: defaultdict[str, deque[tuple[int, str]]] = defaultdict(deque)
        self.redriven: set[str] = set()

    async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Claim:
        """Claim, and check what was given."""
        claim = await super().claim(connector, quota, limit, now_ms, lease_ms)
        if self._world.clocks_agree:
            # What is allowed is what the policy says, whatever the claimer asked for.
            policy = self._world.policies[connector]
            for queued in claim.actions:
                self._lease(queued, now_ms, round(policy.lease_s * 1000), takes_slot=True)
            self._check_slots(connector, policy.quota, now_ms)
            self._check_rate(connector, policy.quota, claim, now_ms)
        return claim

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease missed deadlines, and check that nobody else holds them."""
        missed = await super().overdue(connector, limit, now_ms, lease_ms)
        if self._world.clocks_agree:
            for queued in missed:
                self._lease(queued, now_ms, lease_ms, takes_slot=False)
        return missed

    async def settle(self, entry: LedgerEntry, *, hold_until_ms: int | None = None, unspent: bool = False) -> None:
        """Settle, and forget the lease."""
        self._let_go(entry.id, unspent=unspent)
        await super().settle(entry, hold_until_ms=hold_until_ms, unspent=unspent)

    async def retry(self, queued: Queued, at_ms: int, *, unspent: bool = False) -> None:
        """Give back, and forget the lease."""
        self._let_go(queued.id, unspent=unspent)
        await super().retry(queued, at_ms, unspent=unspent)

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Note what gets another last word."""
        again = await super().redrive(actions)
        self.redriven.update(again)
        return again

    def undelivered(self) -> int:
        """Return how many actions are queued or claimed."""
        return len(self._entries)

    def earliest_ms(self) -> int | None:
        """Return when the next queued action may be claimed, None without any."""
        return min((one.at_ms for one in self._entries.values()), default=None)

    def words(self) -> dict[str, LedgerEntry]:
        """Return the last word of every id."""
        return dict(self._ledger)

    # ---------------------------------------------------------------------------------------- checks

    def _lease(self, queued: Queued, now_ms: int, lease_ms: int, *, takes_slot: bool) -> None:
        leases = self._leases[queued.connector]
        held = leases.get(queued.id)
        if held is not None and held.until_ms > now_ms:
            left_ms = held.until_ms - now_ms
            self._world.violated(
                "lease", f"{self._world.caller} got {queued.id}, which {held.process} holds for {left_ms} ms more"
            )
        if held is not None:
            self._world.counts["lease ended"] += 1
        leases[queued.id] = _Lease(self._world.caller, now_ms + lease_ms, takes_slot, now_ms)

    def _let_go(self, action_id: str, *, unspent: bool) -> None:
        for connector, leases in self._leases.items():
            held = leases.pop(action_id, None)
            if held is not None and unspent and held.takes_slot:
                tokens = self._tokens[connector]
                if (held.token_at_ms, action_id) in tokens:
                    tokens.remove((held.token_at_ms, action_id))

    def _check_slots(self, connector: str, quota: Quota, now_ms: int) -> None:
        taken = sum(one.takes_slot and one.until_ms > now_ms for one in self._leases[connector].values())
        if taken == quota.slots:
            self._world.counts["all slots taken"] += 1
        if taken > quota.slots:
            self._world.violated("slots", f"{connector}: {taken} claims at once, {quota.slots} slots")

    def _check_rate(self, connector: str, quota: Quota, claim: Claim, now_ms: int) -> None:
        if quota.rate_max is None:
            return
        tokens = self._tokens[connector]
        tokens.extend((now_ms, one.id) for one in claim.actions)
        window_ms = round(quota.rate_per_s * 1000)
        latest_ms = max((at_ms for at_ms, _ in tokens), default=now_ms)
        while tokens and tokens[0][0] <= latest_ms - window_ms - 5_000:
            tokens.popleft()
        within = sum(now_ms - window_ms < at_ms <= now_ms for at_ms, _ in tokens)
        if within == quota.rate_max:
            self._world.counts["rate used up"] += 1
        if within > quota.rate_max:
            self._world.violated("rate", f"{connector}: {within} claims in {window_ms} ms, {quota.rate_max} allowed")
