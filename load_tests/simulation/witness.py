"""Witnesses: the store and the queue of the world, which note what they are made to do and object at once."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from copy import deepcopy
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
        #: Every record that a commit has ever held: nothing else may be published.
        self.durable: set[tuple[str, bytes]] = set()
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
        rulebook = self.decided_by.get((partition, commit.epoch, commit.sequence), self._world.published)
        self.applied[partition].append(Applied(commit.next_offset, commit.clock_ms, rulebook, tuple(commit.outbox)))
        self.durable.update((one.topic, one.value) for one in commit.outbox)
        self._check_clock(partition, commit)

    async def trim(self, partition: int, epoch: int, through: int) -> None:
        """Trim, and check who does."""
        await super().trim(partition, epoch, through)
        if self._owner[partition] is not self._world.caller:
            self._world.violated("owner", f"{self._world.caller} trimmed partition {partition} of another owner")

    def kept(self) -> Callable[[], None]:
        """Return what takes the store back to what it holds now."""
        partitions, owner = deepcopy(self._partitions), dict(self._owner)
        applied = {partition: list(commits) for partition, commits in self.applied.items()}

        def restore() -> None:
            self._partitions, self._owner = partitions, owner
            # Epochs and numbers of commits are given once more.
            self.decided_by.clear()
            self.applied.clear()
            self.applied.update(applied)

        return restore

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


@dataclass(frozen=True, slots=True)
class Word:
    """A last word as it was written, at the true moment; ``lapses`` are leases to send that had ended in silence."""

    at_ms: int
    entry: LedgerEntry
    lapses: int
    since_ms: int  # when the action was last redriven; 0 for never


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
        self.redriven: dict[str, int] = {}
        #: Every last word there ever was, by id, in the order of writing.
        self.said: defaultdict[str, list[Word]] = defaultdict(list)
        #: When an action was withdrawn that had no last word; and when each process was last given one.
        self.withdrawn: dict[str, int] = {}
        self.given: dict[tuple[str, Peer | None], int] = {}
        self.lapses: Counter[str] = Counter()
        #: What a lease to send has ever ended of in silence; an operator who sends it again does not know more.
        self.silent: set[str] = set()
        #: What is claimed, and whether to be sent: what is late is claimed to be settled.
        self._held: dict[str, bool] = {}
        #: How often it was taken back to what it held before.
        self.life = 0

    async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Claim:
        """Claim, and check what was given."""
        claim = await super().claim(connector, quota, limit, now_ms, lease_ms)
        self._give(claim.actions, lambda one: not _late(one, now_ms))
        if self._world.clocks_agree:
            # What is allowed is what the policy says, whatever the claimer asked for.
            policy = self._world.policies[connector]
            for queued in claim.actions:
                self._lease(queued, now_ms, round(policy.lease_s * 1000), takes_slot=not _late(queued, now_ms))
            self._check_slots(connector, policy.quota, now_ms)
            self._check_rate(connector, policy.quota, claim, now_ms)
        return claim

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease missed deadlines, and check that nobody else holds them."""
        missed = await super().overdue(connector, limit, now_ms, lease_ms)
        self._give(missed, lambda one: False)
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

    async def withdraw(self, action_ids: Sequence[str], now_ms: int) -> list[str]:
        """Withdraw, and note what nobody may send who is given it from now on."""
        for action_id in action_ids:
            if action_id not in self._ledger:
                self.withdrawn.setdefault(action_id, self._world.now_ms())
        return await super().withdraw(action_ids, now_ms)

    async def redrive(self, actions: Sequence[Queued]) -> list[str]:
        """Note what gets another last word."""
        again = await super().redrive(actions)
        for action_id in again:
            self.redriven[action_id] = self._world.now_ms()
            self.withdrawn.pop(action_id, None)
            self.lapses.pop(action_id, None)
        return again

    def heeded(self, action_id: str) -> bool:
        """Return whether a withdrawal was taken in: the action has its last word, or is marked to get it."""
        entry = self._entries.get(action_id)
        return action_id in self._ledger if entry is None else entry.withdrawn

    def taken(self, action_id: str) -> bool:
        """Return whether an action is in the queue or has its last word."""
        return action_id in self._entries or action_id in self._ledger

    def kept(self) -> Callable[[], None]:
        """Return what takes the queue back to what it holds now. Whose leases those are, nobody can tell any more."""
        whole = deepcopy((self._entries, self._ledger, self._lines))
        said = {action_id: list(words) for action_id, words in self.said.items()}

        def restore() -> None:
            self._entries, self._ledger, self._lines = whole
            self.said.clear()
            self.said.update(said)
            self._world.clocks_agree, self._world.queue_cut = False, True
            self.life += 1
            self.withdrawn.clear()

        return restore

    def undelivered(self) -> int:
        """Return how many actions are queued or claimed."""
        return len(self._entries)

    def earliest_ms(self) -> int | None:
        """Return when the next queued action may be claimed, None without any."""
        return min((one.at_ms for one in self._entries.values()), default=None)

    def words(self) -> dict[str, LedgerEntry]:
        """Return the last word of every id."""
        return dict(self._ledger)

    def _write(self, entry: LedgerEntry) -> None:
        super()._write(entry)
        if self._ledger.get(entry.id) is entry:
            word = Word(self._world.now_ms(), entry, self.lapses[entry.id], self.redriven.get(entry.id, 0))
            self.said[entry.id].append(word)

    # ---------------------------------------------------------------------------------------- checks

    def _give(self, actions: Sequence[Queued], to_send: Callable[[Queued], bool]) -> None:
        for queued in actions:
            if self._held.get(queued.id):
                self.lapses[queued.id] += 1
                self.silent.add(queued.id)
            self._held[queued.id] = to_send(queued)
            self.given[queued.id, self._world.caller] = self._world.now_ms()

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
        self._held.pop(action_id, None)
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
        tokens.extend((now_ms, one.id) for one in claim.actions if not _late(one, now_ms))
        window_ms = round(quota.rate_per_s * 1000)
        latest_ms = max((at_ms for at_ms, _ in tokens), default=now_ms)
        while tokens and tokens[0][0] <= latest_ms - window_ms - 5_000:
            tokens.popleft()
        within = sum(now_ms - window_ms < at_ms <= now_ms for at_ms, _ in tokens)
        if within == quota.rate_max:
            self._world.counts["rate used up"] += 1
        if within > quota.rate_max:
            self._world.violated("rate", f"{connector}: {within} claims in {window_ms} ms, {quota.rate_max} allowed")


def _late(queued: Queued, now_ms: int) -> bool:
    """Return whether an action is claimed to be settled and not to be sent."""
    return queued.deadline_at is not None and queued.deadline_at <= now_ms
