"""Example events for the first minutes with the shipped rules, dated as of now: what a reader would have to compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.core.moment import format_moment

Events = list[dict[str, Any]]

_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS


def example_events(name: str, now_ms: int) -> Events:
    """Return the events of an example, the last of them now or about to have its effect. Raise ``KeyError``.

    They are dated by whole seconds, and so is what a timer of them decides.
    """
    return _EXAMPLES[name](now_ms - now_ms % _SECOND_MS)


def _lead(now_ms: int) -> Events:
    """Asha asks to be called back, at noon where she is."""
    return _asked(now_ms, local_hour=12)


def _lead_at_night(now_ms: int) -> Events:
    """The same at eleven in the evening."""
    return _asked(now_ms, local_hour=23)


def _asked(now_ms: int, *, local_hour: int) -> Events:
    lead = f"lead-{now_ms}"
    consent = {"consent": {"categoryPreferences": {"callback": True, "sms": True}}}
    told = {"first_name": "Asha", "phone": "+919812345678", "timezone": _zone_in_which_it_is(local_hour, now_ms)}
    enquiry = {
        "lead_id": lead,
        "phone": "+919812345678",
        "name": "Asha",
        "project": "Palm Grove",
        "source": "website",
    }
    return [
        _event(f"{lead}-who", "identify", "asha", now_ms, told),
        _event(lead, "lead_submitted", "asha", now_ms, enquiry, consent),
    ]


def _basket(now_ms: int) -> Events:
    """Ravi has filled a basket twenty-nine minutes and fifty seconds ago."""
    left_ms = now_ms - 30 * _MINUTE_MS + 10 * _SECOND_MS
    basket = f"basket-{now_ms}"
    ravi = {
        "first_name": "Ravi",
        "email": "ravi@example.com",
        "country": "IN",
        "phone": "+919812345679",
        "timezone": _zone_in_which_it_is(12, now_ms),
    }
    viewed = {"product_id": "shoes"}
    filled = {"cart_id": basket, "total": 80, "item_name": "Trail shoes"}
    consent = {"consent": {"categoryPreferences": {"marketing": True}}}
    return [
        _event(f"{basket}-seen", "product_viewed", "ravi", left_ms - 2 * _MINUTE_MS, viewed, consent),
        _event(f"{basket}-again", "product_viewed", "ravi", left_ms - _MINUTE_MS, viewed),
        _event(f"{basket}-who", "identify", "ravi", left_ms - _MINUTE_MS, ravi),
        _event(basket, "cart_updated", "ravi", left_ms, filled),
    ]


_EXAMPLES: Mapping[str, Callable[[int], Events]] = {
    "lead": _lead,
    "lead-at-night": _lead_at_night,
    "basket": _basket,
}
EXAMPLES = tuple(_EXAMPLES)


def _event(
    event_id: str,
    event_type: str,
    customer_id: str,
    at_ms: int,
    properties: Mapping[str, Any],
    context: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    event = {
        "id": event_id,
        "type": event_type,
        "customer_id": customer_id,
        "occurred_at": format_moment(at_ms),
        "properties": dict(properties),
    }
    return event if context is None else {**event, "context": dict(context)}


def _zone_in_which_it_is(hour: int, now_ms: int) -> str:
    """Return a zone whose clock shows that hour now; its sign is the other way round, as POSIX has it."""
    ahead = (hour - datetime.fromtimestamp(now_ms / 1000, UTC).hour + 11) % 24 - 11
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"
