"""The demo stream: believable customers, so that a fresh installation has something to show.

Everything is drawn from a seed. It begins with the last forty minutes (baskets that were filled then and left),
so that the first nudges leave within a minute, and goes on with a few events a second.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - a seeded source of traffic, which decides nothing.
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.runtime.ports import EVENTS, Clock, EventLog, Outgoing

MINUTE_MS = 60_000
_PEOPLE = ("Asha", "Ravi", "Mei", "Omar", "Fatima", "Jun", "Priya", "Kabir", "Lena", "Tom", "Noor", "Wei")
_PLACES = (("IN", "Asia/Kolkata", "+9198"), ("SG", "Asia/Singapore", "+659"), ("AE", "Asia/Dubai", "+97150"))
_PRODUCTS = (("Trail shoes", 89.0), ("Rain jacket", 140.0), ("Day pack", 64.0), ("Head lamp", 35.0))
_PROJECTS = ("Lakeside Towers", "Palm Grove", "Harbour One")
_SOURCES = ("website", "portal", "meta_ads", "google_ads", "referral")


@dataclass(frozen=True, slots=True)
class _Planned:
    """An event that will happen ``after_ms`` the start of its story."""

    after_ms: int
    type: str
    properties: dict[str, Any]
    context: dict[str, Any]


class _Customers:
    """Draws customers and their stories."""

    def __init__(self, seed: int, run: str) -> None:
        self._run = run
        self._draw = random.Random(seed)
        self._number = 0

    def story(self) -> tuple[str, list[_Planned]]:
        """Return a customer and what they are about to do."""
        self._number += 1
        draw = self._draw
        name, (country, zone, prefix) = draw.choice(_PEOPLE), draw.choice(_PLACES)
        customer = f"demo-{self._run}-{self._number:04d}-{name.lower()}"
        phone = prefix + "".join(draw.choices("0123456789", k=12 - len(prefix)))
        consent = {
            "consent": {"categoryPreferences": {"marketing": draw.random() < 0.8, "callback": True, "sms": True}}
        }
        traits = {"first_name": name, "country": country, "timezone": zone, "phone": phone}
        known = _Planned(0, "identify", traits, consent)
        tale = self._lead(name, phone) if draw.random() < 0.25 else self._shopper()
        return customer, [known, *tale]

    def _lead(self, name: str, phone: str) -> list[_Planned]:
        draw = self._draw
        lead = {
            "lead_id": f"lead-{self._number}",
            "phone": phone,
            "name": name,
            "project": draw.choice(_PROJECTS),
            "source": draw.choice(_SOURCES),
        }
        tale = [_Planned(2_000, "lead_submitted", lead, {})]
        if draw.random() < 0.4:
            tale.append(_Planned(9 * MINUTE_MS, "lead_qualified", {"lead_id": lead["lead_id"]}, {}))
        return tale

    def _shopper(self) -> list[_Planned]:
        draw = self._draw
        item, price = draw.choice(_PRODUCTS)
        cart = {"cart_id": f"cart-{self._number}", "total": price, "item_name": item}
        views = [
            _Planned(
                number * 5_000, "product_viewed", {"product_id": item.lower().replace(" ", "-"), "price": price}, {}
            )
            for number in range(1, draw.randint(2, 4))
        ]
        tale = [*views, _Planned(20_000, "cart_updated", cart, {})]
        if draw.random() < 0.5:
            tale.append(_Planned(40_000, "checkout_started", {"cart_id": cart["cart_id"]}, {}))
        if draw.random() < 0.45:
            tale.append(_Planned(75_000, "order_completed", {"cart_id": cart["cart_id"], "total": price}, {}))
        return tale


async def play_demo(
    log: EventLog, key: Callable[[str], bytes], clock: Clock, *, seed: int = 7, history: int = 60
) -> None:
    """Append demo events until cancelled: ``history`` customers of the last forty minutes, then about one a second."""
    now_ms = clock.now_ms()
    customers = _Customers(seed, run=f"{now_ms // 1000 % 1_000_000:06d}")
    past: list[Outgoing] = []
    later: list[tuple[int, Outgoing]] = []
    for number in range(history):
        began_ms = now_ms - 40 * MINUTE_MS + number * 40 * MINUTE_MS // history
        for at_ms, record in _records(customers, key, began_ms, now_ms):
            if at_ms <= now_ms:
                past.append(record)
            else:
                later.append((at_ms, record))
    await log.append(past)
    while True:
        await asyncio.sleep(0.5)
        now_ms = clock.now_ms()
        if now_ms // 1000 % 2:
            later += _records(customers, key, now_ms, now_ms)
        due = [record for at_ms, record in later if at_ms <= now_ms]
        later = [entry for entry in later if entry[0] > now_ms]
        if due:
            await log.append(due)


def _records(
    customers: _Customers, key: Callable[[str], bytes], began_ms: int, run_ms: int
) -> Iterator[tuple[int, Outgoing]]:
    customer, tale = customers.story()
    for number, planned in enumerate(tale):
        at_ms = began_ms + planned.after_ms
        event = {
            "id": f"{customer}-{run_ms}-{number}",
            "type": planned.type,
            "customer_id": customer,
            "occurred_at": at_ms,
            "properties": planned.properties,
            "context": planned.context,
            "source": "demo",
        }
        yield at_ms, Outgoing(EVENTS, key(customer), msgspec.json.encode(event))
