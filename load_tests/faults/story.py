"""The story of a load: an endless, seeded stream of events of customers who come, act a dozen times, and go.

Some events come late, out of order, dated ahead of time or twice, as a share says. Customers' ids begin with
the run's name, so that what belongs to a run can be told from all else in the log.
"""

from __future__ import annotations

import random  # noqa: TID251 - a seeded source of traffic, which decides nothing.
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

#: Events of a customer before another one takes the place.
LIFE = 12
#: What happens, by weight.
WEIGHTS = {
    "identify": 2,
    "lead_submitted": 2,
    "payment_failed": 3,
    "receipt_requested": 1,
    "page_viewed": 2,
    "cart_updated": 3,
    "order_completed": 1,
}
#: How far event time lies from the sending when it is not on time: out of order, too late, dated ahead.
OFFSETS_MS = (-300, -1_500, -4_000, -9_000, 2_000)


@dataclass(slots=True)
class Story:
    """One stream. ``spread`` is the share of events that come out of time, ``repeats`` of those that come again."""

    run: str
    seed: int
    now_ms: Callable[[], int]
    at_once: int = 40
    spread: float = 0.15
    repeats: float = 0.03
    weights: dict[str, int] = field(default_factory=lambda: dict(WEIGHTS))
    _sent: deque[Event] = field(default_factory=lambda: deque(maxlen=300))

    def events(self) -> Iterator[Event]:
        """Yield events for ever; each is dated when it is asked for."""
        chance = random.Random(f"{self.run}{self.seed}")
        types, weights = list(self.weights), list(self.weights.values())
        lives = [0] * self.at_once
        names = list(range(self.at_once))
        number = 0
        while True:
            if self._sent and chance.random() < self.repeats:
                yield self._sent[chance.randrange(len(self._sent))]
                continue
            place = chance.randrange(self.at_once)
            number += 1
            event = self._event(chance, names[place], number, chance.choices(types, weights)[0])
            self._sent.append(event)
            yield event
            lives[place] += 1
            if lives[place] == LIFE:
                lives[place], names[place] = 0, max(names) + 1

    def _event(self, chance: random.Random, customer: int, number: int, event_type: str) -> Event:
        off_ms = chance.choice(OFFSETS_MS) if chance.random() < self.spread else 0
        numbered = event_type in {"identify", "lead_submitted"}
        return {
            "id": f"{self.run}-{number}",
            "type": event_type,
            "customer_id": f"{self.run}-{customer}",
            "occurred_at": self.now_ms() + off_ms,
            "properties": {"number": number} if numbered else {},
        }
