"""A consumer group in memory: members, sessions, generations, and positions that the group keeps.

A member that is silent for a session is put out, whether it is dead or only stopped; what it owned goes to others. One
that only was stopped does not know: it goes on as an owner until it is refused or told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from load_tests.simulation.network import Peer

if TYPE_CHECKING:
    from load_tests.simulation.world import World

SESSION_S = 2.5


class Member(Protocol):
    """A process that reads partitions for the group."""

    process: Peer

    def assign(self, partition: int, generation: int) -> None:
        """Begin to read a partition."""
        ...

    async def revoke(self, partitions: Sequence[int]) -> None:
        """Finish what is under way in partitions and give them up."""
        ...

    def put_out(self) -> None:
        """Hear that the group went on without this member."""
        ...


class Group:
    """The coordinator of one group. It is part of the world: no fault touches it, only its members."""

    def __init__(self, world: World, name: str, partitions: int) -> None:
        self.name = name
        self.generation = 0
        self.owners: dict[int, Member] = {}
        self.positions: dict[int, int] = {}
        self._world = world
        self._partitions = partitions
        self._members: list[Member] = []
        self._dirty = False
        self._rebalancing = False

    def join(self, member: Member) -> None:
        """Take a member in and spread the partitions anew."""
        self._members.append(member)
        self._changed(f"{member.process} joins")

    def leave(self, member: Member, why: str) -> None:
        """Let a member go."""
        if member in self._members:
            self._members.remove(member)
            self.owners = {one: owner for one, owner in self.owners.items() if owner is not member}
            self._changed(f"{member.process} {why}")

    def silent(self, process: Peer) -> None:
        """Begin to count the session of a process that has fallen silent."""
        for member in self._members:
            if member.process is process:
                self._world.loop.world_later(SESSION_S, self._expire, member)

    def _expire(self, member: Member) -> None:
        process = member.process
        if member not in self._members or not (process.dead or process.paused):
            return
        if process.paused and not process.dead:
            self._world.counts[f"{process.role} stopped beyond its session"] += 1
        self.leave(member, "is put out")

    def awake(self, process: Peer, member: Member) -> None:
        """Answer the heartbeat of a process that was stopped: it may have been put out meanwhile."""
        if member not in self._members and not process.dead:
            # Its next heartbeat is refused; until then it goes on as if nothing had been.
            delay_s = self._world.chance.random()
            self._world.loop.call_later(delay_s, member.put_out, context=process.context.copy())

    def commit(self, partition: int, position: int, generation: int, member: Member) -> None:
        """Keep how far a member has come, unless the partition has gone to another."""
        if self.owners.get(partition) is member and generation <= self.generation:
            self.positions[partition] = position

    # -------------------------------------------------------------------------------------- rebalancing

    def _changed(self, why: str) -> None:
        self._world.trace(self.name, "group", why)
        self._dirty = True
        if not self._rebalancing:
            self._rebalancing = True
            self._world.loop.create_task(self._rebalance(), context=Context())

    async def _rebalance(self) -> None:
        while self._dirty:
            self._dirty = False
            self.generation += 1
            self._world.counts[f"{self.name} rebalanced"] += 1
            target = self._spread()
            await self._revoke({one: owner for one, owner in self.owners.items() if target.get(one) is not owner})
            for partition, member in target.items():
                if self.owners.get(partition) is not member and member in self._members:
                    self.owners[partition] = member
                    self._world.trace(self.name, "assign", f"{partition} to {member.process}")
                    self._world.loop.call_soon(
                        member.assign, partition, self.generation, context=member.process.context.copy()
                    )
        self._rebalancing = False

    def _spread(self) -> dict[int, Member]:
        """Deal the partitions out by chance, so that they move more often than a real group would move them."""
        if not self._members:
            return {}
        members = self._world.chance.sample(self._members, len(self._members))
        return {partition: members[partition % len(members)] for partition in range(self._partitions)}

    async def _revoke(self, moving: dict[int, Member]) -> None:
        """Have the partitions given up; whoever does not answer within a session is not waited for."""
        parting = []
        for member in dict.fromkeys(moving.values()):
            if member.process.dead:
                continue
            its_own = [one for one, owner in moving.items() if owner is member]
            parting.append(self._world.loop.spawn(member.process, member.revoke(its_own)))
        if parting:
            await asyncio.wait(parting, timeout=SESSION_S)
        for partition in moving:
            self.owners.pop(partition, None)
