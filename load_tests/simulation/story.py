"""The story: what the producers of a seed send, good and bad, and which customers are simple enough for the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from random import Random  # noqa: TID251 - the one seeded source of chance of a run.
from typing import Any

import msgspec

from load_tests.simulation.rules import ABSENCE_MS, FUTURE_MS

#: Customers of whom only ordinary events tell.
PLAIN = ("ada", "bob", "cyd")
#: Known customers who are said to be one, each by the next.
RING = ("rae", "ray", "rey")
SPAN_MS = 11_000
_TYPES = ("cart_updated", "cart_updated", "payment_failed", "payment_failed", "order_completed", "page_viewed")


@dataclass(frozen=True, slots=True)
class Told:
    """What a message tells of one customer; ``occurred_ms`` as its producer has it."""

    id: str
    type: str
    customer: str
    occurred_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """A record that a producer sends ``at_ms`` after the start; ``what`` says which kind of good or bad it is.

    ``told`` are the events in it, in order; none when it is poison.
    """

    at_ms: int
    key: bytes
    value: bytes
    what: str
    told: tuple[Told, ...] = ()

    @property
    def poison(self) -> bool:
        """Whether the engine must refuse it."""
        return not self.told


@dataclass
class Story:
    """All messages of a seed, in the order of sending."""

    start_ms: int
    chance: Random
    messages: list[Message] = field(default_factory=list)

    @classmethod
    def told(cls, chance: Random, start_ms: int) -> Story:
        """Return the story of a seed."""
        story = cls(start_ms, chance)
        for _ in range(chance.randint(8, 22)):
            story._happen(chance.choice(PLAIN))
        if chance.random() < 0.4:
            story._regret(chance.choice(PLAIN))
        if chance.random() < 0.35:
            story._merge()
        if chance.random() < 0.35:
            story._erase()
        for _ in range(chance.choice([0, 0, 1, 2])):
            story._spoil()
        if chance.random() < 0.2:
            story._close_a_ring()
        story.messages.sort(key=lambda one: one.at_ms)
        return story

    @cached_property
    def by_value(self) -> dict[bytes, Message]:
        """Return the messages by what the log has of them."""
        return {one.value: one for one in self.messages}

    def _happen(self, customer: str, at_ms: int | None = None, event_type: str = "", **more: Any) -> None:
        """Something happens to a customer: on time, late, dated ahead, sent twice."""
        chance = self.chance
        at_ms = chance.randrange(SPAN_MS) if at_ms is None else at_ms
        off_ms, what = chance.choice(_OFFSETS)
        event = self._event(customer, event_type or chance.choice(_TYPES), self.start_ms + at_ms + off_ms, **more)
        events = [event]
        if chance.random() < 0.12:
            events.append(self._event(customer, chance.choice(_TYPES), self.start_ms + at_ms))
            what = "two in one record"
        self._say(at_ms, customer, events, what)
        if chance.random() < 0.15:
            self._say(at_ms + chance.choice([0, 5, 900, 4_000]), customer, events, "sent again")

    def _regret(self, customer: str) -> None:
        """An order becomes known when the absence of it has been acted upon, or in the very moment of it."""
        chance = self.chance
        basket_ms = chance.randrange(SPAN_MS // 2)
        ordered_ms, known_ms, what = chance.choice(
            [
                (chance.randrange(500, ABSENCE_MS), ABSENCE_MS + chance.randrange(1, 150), "late order"),
                (chance.randrange(500, ABSENCE_MS), ABSENCE_MS + chance.randrange(1, 1_500), "late order"),
                (ABSENCE_MS + 2, ABSENCE_MS - 1, "order at the last moment"),
            ]
        )
        for event_type, occurred_ms, at_ms, said in (
            ("cart_updated", basket_ms, basket_ms, "on time"),
            ("order_completed", basket_ms + ordered_ms, basket_ms + known_ms, what),
        ):
            self._say(at_ms, customer, [self._event(customer, event_type, self.start_ms + occurred_ms)], said)

    def _event(self, customer: str, event_type: str, occurred_ms: int, **more: Any) -> dict[str, Any]:
        properties = {"cart_updated": {"total": 20}, "payment_failed": {"amount": 1}}.get(event_type, {})
        return {
            "id": f"e{len(self.messages)}-{self.chance.randrange(10**9)}",
            "type": event_type,
            "customer_id": customer,
            "occurred_at": occurred_ms,
            "properties": properties,
            **more,
        }

    def _say(self, at_ms: int, customer: str, events: list[dict[str, Any]], what: str) -> None:
        told = tuple(Told(one["id"], one["type"], one["customer_id"], one["occurred_at"]) for one in events)
        value = msgspec.json.encode(events[0] if len(events) == 1 else events)
        self.messages.append(Message(at_ms, customer.encode(), value, what, told))

    def _merge(self) -> None:
        """An anonymous customer, who turns out to be another one, and goes on under both ids."""
        known_ms = self.chance.randrange(2_000, SPAN_MS)
        for _ in range(self.chance.randint(1, 4)):
            self._happen("anon", self.chance.randrange(SPAN_MS))
        for _ in range(self.chance.randint(0, 3)):
            self._happen("known", self.chance.randrange(SPAN_MS))
        naming = self._event("known", "identify", self.start_ms + known_ms, context={"anonymous_id": "anon"})
        self._say(known_ms, "known", [naming], "merge")

    def _close_a_ring(self) -> None:
        """Three ids of a customer, each named by the next at about the same moment, by somebody who may."""
        closed_ms = self.chance.randrange(SPAN_MS - 1_000)
        for number, one in enumerate(RING):
            self._happen(one, self.chance.randrange(SPAN_MS))
            at_ms = closed_ms + self.chance.choice([0, 1, 40, 900])
            naming = self._event(one, "alias", self.start_ms + at_ms, granted="ops")
            self._say(at_ms, one, [{**naming, "properties": {"previous_id": RING[number - 1]}}], "ring")

    def _erase(self) -> None:
        """A customer who is to be forgotten, now and then in the middle of everything."""
        gone_ms = self.chance.randrange(3_000, SPAN_MS)
        for _ in range(self.chance.randint(1, 4)):
            self._happen("gone", self.chance.randrange(SPAN_MS))
        erasure = self._event("gone", "customer_erased", self.start_ms + gone_ms)
        self._say(gone_ms, "gone", [erasure], "erasure")

    def _spoil(self) -> None:
        """A record that is no event."""
        chance = self.chance
        at_ms = chance.randrange(SPAN_MS)
        ahead_ms = self.start_ms + at_ms + FUTURE_MS + 60_000
        key, value, what = chance.choice(
            [
                (b"ada", b"{not json", "not JSON"),
                (b"bob", b"[]", "empty batch"),
                (b"bob", b'{"id": "x", "type": "page_viewed", "customer_id": 7, "occurred_at": 1}', "wrong type"),
                (b"bob", msgspec.json.encode(self._event("ada", "page_viewed", self.start_ms)), "wrong key"),
                (b"cyd", msgspec.json.encode(self._event("cyd", "undeclared", self.start_ms)), "undeclared"),
                (b"cyd", b'{"a":' * 40 + b"1" + b"}" * 40, "too deep"),
                (b"ada", msgspec.json.encode(self._event("ada", "page_viewed", ahead_ms)), "dated ahead"),
                (b"ada", b'{"id": "' + b"x" * 40_000 + b'"}', "too large"),
            ]
        )
        self.messages.append(Message(at_ms, key, value, f"poison: {what}"))


#: How far event time lies from the sending, and what that is called.
_OFFSETS = (
    *[(0, "on time")] * 8,
    *[(-300, "out of order"), (-1_500, "out of order"), (-4_500, "late"), (-9_000, "too late")],
    *[(2_000, "future-dated"), (4_000, "future-dated")],
)
