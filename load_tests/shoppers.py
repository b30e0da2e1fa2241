"""Believable shoppers for load: few buy often and many seldom, in sessions, more in the evening than at night.

What they do is the shop of ``many_rules``. Arrivals are out of order, because phones were offline, and some come
twice, because clients repeat. The same seed, numbers and moments give the same events to the byte.
"""

from __future__ import annotations

import random  # noqa: TID251 - a seeded source of traffic, which decides nothing.
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from typing import Any

MINUTE_MS = 60_000

#: Relative numbers of sessions that begin in each hour of the day: a low before dawn, a peak in the evening.
DIURNAL = (5, 3, 2, 2, 2, 3, 5, 8, 11, 13, 14, 15, 16, 15, 14, 14, 15, 17, 20, 24, 26, 24, 17, 10)

#: Parts of an arrival's delay: (share of the events, longest delay in ms); within a part it is drawn evenly.
DELAYS = ((0.97, 1_500), (0.025, MINUTE_MS), (0.005, 20 * MINUTE_MS))

_AGENT = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36"
_COUNTRIES = ("IN", "SG", "AE", "US")
_CATEGORIES = ("shoes", "jackets", "tents", "lamps")

Event = dict[str, Any]
#: What a customer does next: type, properties, context.
_Step = tuple[str, dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event in normal form, and when it reaches the log."""

    at_ms: int
    event: Event

    @property
    def delay_ms(self) -> int:
        """How long it was under way."""
        return self.at_ms - int(self.event["occurred_at"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shoppers:
    """Customers ``{run}-0`` and on over ``span_ms`` from ``start_ms``; one day's curve is laid over the span.

    ``skew`` is Zipf's exponent: the n-th customer has 1/n^skew of the first one's sessions. ``newcomers`` is the
    share of the sessions that belong to somebody who was never there before, ``consents`` the share of customers who
    want offers, ``repeats`` the share of arrivals that come a second time within a minute.
    """

    seed: int
    customers: int
    start_ms: int
    span_ms: int
    run: str = "shopper"
    skew: float = 1.0
    newcomers: float = 0.0
    consents: float = 0.9
    repeats: float = 0.01
    delays: Sequence[tuple[float, int]] = DELAYS

    def arrivals(self, events: int) -> list[Arrival]:
        """Return ``events`` arrivals, repeats among them, in the order in which they reach the log."""
        draw = random.Random(self.seed)
        found: list[Arrival] = []
        for session in self._sessions(draw):
            found += session
            if len(found) >= events:
                break
        found.sort(key=lambda one: one.at_ms)
        return found[:events]

    # ---------------------------------------------------------------------------------------- details

    def _sessions(self, draw: random.Random) -> Iterator[list[Arrival]]:
        """Yield the arrivals of one session after the other, without end and in no order of time."""
        weights = list(accumulate(1 / rank**self.skew for rank in range(1, self.customers + 1)))
        known: set[int] = set()
        newest = count(self.customers)
        while True:
            if draw.random() < self.newcomers:
                customer = next(newest)
            else:
                customer = draw.choices(range(self.customers), cum_weights=weights)[0]
            steps = list(self._visit(draw))
            if customer not in known:
                known.add(customer)
                steps.insert(0, ("identify", _traits(customer), self._consent(draw)))
            yield self._arriving(draw, f"{self.run}-{customer}", steps)

    def _visit(self, draw: random.Random) -> Iterator[_Step]:
        """Yield what one customer does in one visit."""
        basket: dict[str, Any] = {"cart_id": f"cart-{draw.getrandbits(48):012x}", "currency": "INR", "channel": "web"}
        page = {"path": f"/c/{draw.choice(_CATEGORIES)}", "referrer": "https://search.example/"}
        context = {"page": page, "userAgent": _AGENT, "locale": "en-IN"}
        for _ in range(draw.randint(2, 5)):
            yield "product_viewed", _product(draw), context
        if draw.random() > 0.75:
            return
        basket["total"] = 0
        for _ in range(draw.randint(1, 4)):
            basket["total"] = draw.randint(20, 300)
            yield "cart_updated", {**basket, **_product(draw)}, context
        if draw.random() < 0.75:
            yield "checkout_started", dict(basket), context
            if draw.random() < 0.5:
                yield "order_completed", dict(basket), context

    def _arriving(self, draw: random.Random, customer_id: str, steps: Sequence[_Step]) -> list[Arrival]:
        """Give each step its moment, its id and its delay; repeat some."""
        hour = draw.choices(range(len(DIURNAL)), weights=DIURNAL)[0]
        at_ms = self.start_ms + round((hour + draw.random()) / len(DIURNAL) * self.span_ms)
        session = f"{draw.getrandbits(64):016x}"
        found = []
        for place, (event_type, properties, context) in enumerate(steps):
            event = {
                "id": f"{session}-{place}",
                "type": event_type,
                "customer_id": customer_id,
                "occurred_at": at_ms,
                "properties": properties,
                "context": context,
                "source": "web",
            }
            arrives_ms = at_ms + self._delay(draw)
            found.append(Arrival(arrives_ms, event))
            if draw.random() < self.repeats:
                found.append(Arrival(arrives_ms + draw.randint(0, MINUTE_MS), event))
            at_ms += min(40_000, round(draw.lognormvariate(8.5, 1.0)))
        return found

    def _delay(self, draw: random.Random) -> int:
        shares, longest_ms = zip(*self.delays, strict=True)
        return draw.randint(0, draw.choices(longest_ms, shares)[0])

    def _consent(self, draw: random.Random) -> dict[str, Any]:
        return {"consent": {"categoryPreferences": {"marketing": draw.random() < self.consents}}}


def _traits(customer: int) -> dict[str, Any]:
    return {"country": _COUNTRIES[customer % len(_COUNTRIES)], "tier": "gold", "timezone": "Asia/Kolkata"}


def _product(draw: random.Random) -> dict[str, Any]:
    return {
        "product_id": f"sku-{draw.randrange(500)}",
        "category": draw.choice(_CATEGORIES),
        "price": draw.randint(10, 200),
        "quantity": draw.randint(1, 3),
    }
