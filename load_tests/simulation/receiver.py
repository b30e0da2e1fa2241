"""The receivers behind the connectors: they honour the idempotency key, remember every attempt, and have bad days."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - the one seeded source of chance of a run.
from typing import TYPE_CHECKING

from connectors.protocol import Delivery, Receipt, Result
from load_tests.simulation.network import Peer

if TYPE_CHECKING:
    from load_tests.simulation.world import World

#: What a receiver may answer besides taking a delivery.
TROUBLES = ("429", "500", "reset", "timeout after accept", "slow", "refused", "repeat refused")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver says after ``takes_s``; None when the connection is reset."""

    takes_s: float
    receipt: Receipt | None


@dataclass(slots=True)
class Sent:
    """One attempt as the sender saw it. ``heard`` is the result that reached it, None when none did, with its wish."""

    process: Peer
    begun_ms: int
    attempt: int
    heard: Result | None = None
    wish_s: float | None = None
    ended_ms: int | None = None

    @property
    def end_ms(self) -> int:
        """When the attempt ended for its sender; of one that died with it, when it began."""
        return self.begun_ms if self.ended_ms is None else self.ended_ms


@dataclass(slots=True)
class Receiver:
    """A system that takes deliveries. ``effects`` counts what each id brought about, ``sends`` who tried when."""

    name: str
    world: World
    effects: dict[str, int] = field(default_factory=dict)
    sends: dict[str, list[Sent]] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()
    trouble_share: float = 0.0

    def begun(self, process: Peer, delivery: Delivery) -> Sent:
        """Note that a process begins to send."""
        sent = Sent(process, self.world.now_ms(), delivery.attempt)
        self.sends.setdefault(delivery.id, []).append(sent)
        self.world.checks.send_begins(self, delivery, process)
        return sent

    async def take(self, delivery: Delivery) -> Answer:
        """Answer a delivery as it goes today."""
        chance = self.world.chance
        trouble = ""
        if self.troubles and chance.random() < self.trouble_share:
            trouble = chance.choice(self.troubles)
            self.world.counts[f"receiver {trouble}"] += 1
        return self._answer(delivery, trouble, chance)

    def _answer(self, delivery: Delivery, trouble: str, chance: Random) -> Answer:
        match trouble:
            case "429":
                wish_s = chance.choice([None, 0.5, 2.0])
                return Answer(0, Receipt(result=Result.RETRY, status=429, retry_after_s=wish_s))
            case "500":
                return Answer(0, Receipt(result=Result.RETRY, status=500))
            case "refused":
                return Answer(0, Receipt(result=Result.REFUSED, status=400))
            case "reset":
                if chance.random() < 0.5:
                    self._effect(delivery)
                return Answer(0, None)
            case "repeat refused" if delivery.id in self.effects:
                return Answer(0, Receipt(result=Result.REFUSED, status=409))
        self._effect(delivery)
        taken = Receipt(result=Result.DELIVERED, reference=f"r-{delivery.id}")
        if trouble in {"timeout after accept", "repeat refused"}:
            return Answer(60.0, taken)
        return Answer(10.0 if trouble == "slow" else chance.random() * 0.02, taken)

    def _effect(self, delivery: Delivery) -> None:
        if delivery.id in self.effects:
            self.world.counts["repeat recognised by the receiver"] += 1
        self.effects.setdefault(delivery.id, self.world.now_ms())
