"""Believable events, drawn from a seed: people who browse, fill baskets, buy, and ask to be called back.

The same seed, size and moment give the same events to the byte, so that a run can be repeated and reconciled.
"""

from __future__ import annotations

import random  # noqa: TID251 - a seeded source of traffic, which decides nothing.
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

SECOND_MS, MINUTE_MS = 1_000, 60_000
#: After this long without an order a basket counts as forgotten (rules/ecommerce/cart_recovery.yaml).
FORGOTTEN_MS = 30 * MINUTE_MS
BROWSING_TYPE = "product_viewed"

_NAMES = ("Asha", "Ravi", "Mei", "Omar", "Fatima", "Jun", "Priya", "Kabir", "Lena", "Tom", "Noor", "Wei")
_COUNTRIES = ("IN", "SG", "AE")
_PRODUCTS = (("Trail shoes", 89.0), ("Rain jacket", 140.0), ("Day pack", 64.0), ("Head lamp", 35.0))
_PROJECTS = ("Lakeside Towers", "Palm Grove", "Harbour One")
_SOURCES = ("website", "portal", "meta_ads", "google_ads", "referral")

Event = dict[str, Any]
#: A step of a story: when it happened, its type, properties and context.
_Step = tuple[int, str, dict[str, Any], dict[str, Any]]
Item = TypeVar("Item")


def zone_with_hour(hour: int, now_ms: int) -> str:
    """Return a zone in which the local time now lies in ``hour``: 12 for noon, 2 for the dead of night."""
    utc_hour = datetime.fromtimestamp(now_ms / 1000, UTC).hour
    offset = (hour - utc_hour + 12) % 24 - 12
    # The Etc zones count westwards: Etc/GMT-5 is five hours ahead of Greenwich.
    return f"Etc/GMT{-offset:+d}" if offset else "Etc/GMT"


def lead(customer: str, now_ms: int, **facts: Any) -> Event:
    """Return a lead whose call is due at once, wherever the sun stands; ``facts`` are further properties."""
    known = {"lead_id": f"{customer}-lead", "phone": "+919812345678", "timezone": zone_with_hour(12, now_ms)}
    return {
        "id": f"{customer}-asks",
        "type": "lead_submitted",
        "customer_id": customer,
        "occurred_at": now_ms,
        "properties": known | facts,
        "context": {"consent": {"categoryPreferences": {"callback": True}}},
    }


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield ``items`` in runs of ``size``, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Shares of what customers do, each from 0 to 1, and when forgotten baskets come due.

    ``due_soon`` of the baskets were filled so long ago that their half hour is over within ``soon_ms`` after now;
    the others were filled in the last few minutes.
    """

    shops: float = 0.8
    orders: float = 0.3
    asks_for_call: float = 0.3
    qualified: float = 0.3
    consents: float = 0.85
    sleeps: float = 0.1
    due_soon: float = 0.6
    soon_ms: int = 60 * SECOND_MS
    repeats: float = 0.01


@dataclass(slots=True)
class Traffic:
    """Customers ``{run}-1`` and on, and their events around ``now_ms``."""

    seed: int
    now_ms: int
    run: str = "customer"
    mix: Mix = field(default_factory=Mix)

    def events(self, number: int, customers: int) -> list[Event]:
        """Return ``number`` different events in normal form, ready to be sent in this order, and repeats among them.

        Customers take turns at random; each one's own events come in the order of their story. Repeats come on top.
        """
        draw = random.Random(self.seed)
        stories = [self._story(draw, one, number // customers) for one in range(1, customers + 1)]
        turns = [one for one, story in enumerate(stories) for _ in story]
        draw.shuffle(turns)
        ahead = [iter(story) for story in stories]
        sent: list[Event] = []
        for turn in turns[:number]:
            sent.append(next(ahead[turn]))
            if draw.random() < self.mix.repeats:
                sent.append(sent[draw.randrange(max(0, len(sent) - 2_000), len(sent))])
        return sent

    # ---------------------------------------------------------------------------------------- details

    def _story(self, draw: random.Random, number: int, length: int) -> list[Event]:
        """Return a customer's events; browsing fills the story up to ``length``."""
        mix, customer = self.mix, f"{self.run}-{number}"
        zone = zone_with_hour(2 if draw.random() < mix.sleeps else 12, self.now_ms)
        phone = "+9198" + "".join(draw.choices("0123456789", k=8))
        tale: list[_Step] = [
            (self.now_ms - 50 * MINUTE_MS, "identify", self._traits(draw, number, zone, phone), self._consent(draw))
        ]
        if draw.random() < mix.shops:
            tale += self._basket(draw, number)
        if draw.random() < mix.asks_for_call:
            tale += self._lead(draw, number, phone)
        while len(tale) < length:
            tale.insert(draw.randint(1, len(tale)), (self._moment(draw), BROWSING_TYPE, self._product(draw), {}))
        return [
            {
                "id": f"{customer}-{place}",
                "type": event_type,
                "customer_id": customer,
                "occurred_at": at_ms,
                "properties": properties,
                "context": context,
                "source": "traffic",
            }
            for place, (at_ms, event_type, properties, context) in enumerate(tale)
        ]

    def _traits(self, draw: random.Random, number: int, zone: str, phone: str) -> dict[str, Any]:
        return {
            "first_name": draw.choice(_NAMES),
            "country": draw.choice(_COUNTRIES),
            "timezone": zone,
            "phone": phone,
            "email": f"{self.run}-{number}@example.com",
        }

    def _consent(self, draw: random.Random) -> dict[str, Any]:
        given = {purpose: draw.random() < self.mix.consents for purpose in ("marketing", "callback", "sms")}
        return {"consent": {"categoryPreferences": given}}

    def _basket(self, draw: random.Random, number: int) -> list[_Step]:
        item, price = draw.choice(_PRODUCTS)
        cart = {"cart_id": f"{self.run}-cart-{number}", "total": price, "item_name": item}
        if draw.random() < self.mix.due_soon:
            filled_ms = self.now_ms - FORGOTTEN_MS + draw.randrange(self.mix.soon_ms)
        else:
            filled_ms = self.now_ms - draw.randrange(10 * MINUTE_MS)
        tale: list[_Step] = [
            (filled_ms - 90 * SECOND_MS, BROWSING_TYPE, self._product(draw), {}),
            (filled_ms - 40 * SECOND_MS, BROWSING_TYPE, self._product(draw), {}),
            (filled_ms, "cart_updated", cart, {}),
        ]
        if draw.random() < 0.5:
            tale.append((filled_ms + 20 * SECOND_MS, "checkout_started", {"cart_id": cart["cart_id"]}, {}))
        if draw.random() < self.mix.orders:
            order = {"cart_id": cart["cart_id"], "order_id": f"{self.run}-order-{number}", "total": price}
            tale.append((filled_ms + 45 * SECOND_MS, "order_completed", order, {}))
        return tale

    def _lead(self, draw: random.Random, number: int, phone: str) -> list[_Step]:
        lead_id = f"{self.run}-lead-{number}"
        form = {
            "lead_id": lead_id,
            "phone": phone,
            "project": draw.choice(_PROJECTS),
            "source": draw.choice(_SOURCES),
            "budget": draw.randrange(2_000_000, 20_000_000, 100_000),
        }
        tale: list[_Step] = [(self.now_ms, "lead_submitted", form, {})]
        if draw.random() < self.mix.qualified:
            tale.append((self.now_ms, "lead_qualified", {"lead_id": lead_id, "score": draw.randrange(1, 11)}, {}))
        return tale

    def _product(self, draw: random.Random) -> dict[str, Any]:
        item, price = draw.choice(_PRODUCTS)
        return {"product_id": item.lower().replace(" ", "-"), "price": price}

    def _moment(self, draw: random.Random) -> int:
        return self.now_ms - draw.randrange(45 * MINUTE_MS)
