"""A rulebook of any size: one journey through a shop, and rules of which a few listen to each event.

The rules differ in their numbers and are alike in their shape: a comparison, a trait, a count in a window, a
negation and a time since. What a rule costs when it does not listen to an event is what the size is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

#: The event types that customers of ``shop_events`` send, in the order of the journey.
STAGES = ("product_viewed", "cart_updated", "checkout_started", "order_completed")
PROPERTIES = {
    "total": "number",
    "cart_id": "string",
    "product_id": "string",
    "category": "string",
    "quantity": "number",
    "currency": "string",
    "channel": "string",
    "price": "number",
}
#: Rules of one file; the loader bounds the size of a file.
_FILE_MAX = 1_000


def write_rules(folder: Path, *, rules: int, listening: int = 5) -> Path:
    """Write a rulebook of ``rules`` rules and return its folder.

    ``listening`` of them listen to ``cart_updated``, the others to events that nobody sends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = [_rule(number, "cart_updated") for number in range(listening)]
    others = [_rule(number, f"other_{number % 50}") for number in range(listening, rules)]
    events = {
        name: {"properties": dict(PROPERTIES)} for name in (*STAGES, *(f"other_{number}" for number in range(50)))
    }
    _write(
        folder / "tracking_plan.yaml",
        {"events": events, "traits": {"country": "string", "tier": "string"}, "consents": {"marketing": "Offers."}},
    )
    _write(folder / "connectors.yaml", {"connectors": {"log": {"type": "log", "kind": "email"}}})
    template = {"templates": {"offer": {"params": {"text": "Your basket of {{ event.total }} waits."}}}}
    _write(folder / "templates.yaml", template)
    _write(folder / "shop.yaml", {"journey": "shop", "title": "Shop", **_stages(), "rules": own + others[:_FILE_MAX]})
    for number, start in enumerate(range(_FILE_MAX, len(others), _FILE_MAX)):
        _write(folder / f"elsewhere-{number}.yaml", _elsewhere(number, others[start : start + _FILE_MAX]))
    return folder


def _stages() -> dict[str, Any]:
    names = ("browsing", "basket", "checkout")
    stages: dict[str, Any] = {name: {"on": {"event": event}} for name, event in zip(names, STAGES, strict=False)}
    stages["ordered"] = {"on": {"event": STAGES[-1]}, "goal": True}
    return {"stages": stages, "reentry": {"after": "1d"}}


def _elsewhere(number: int, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a journey that nobody enters, for rules that a first file has no room for."""
    stages = {"stages": {"elsewhere": {"on": {"event": "other_0"}}}}
    return {"journey": f"elsewhere-{number}", "title": f"Elsewhere {number}", **stages, "rules": rules}


def _rule(number: int, event: str) -> dict[str, Any]:
    return {
        "id": f"rule-{number}",
        "title": f"Rule {number}",
        "on": {"event": event},
        "when": {
            "all": [
                {"field": "event.total", "op": "gte", "value": 100 + number % 400},
                {"field": "profile.country", "op": "in", "value": ["IN", "SG", "AE"]},
                {"count": "product_viewed", "within": "7d", "op": "gte", "value": 2 + number % 3},
                {"not": {"field": "profile.tier", "op": "eq", "value": "staff", "default": "none"}},
                {"since_last": "order_completed", "op": "gte", "value": "30d", "if_never": True},
            ]
        },
        "do": [{"send": {"connector": "log", "template": "offer"}}],
        "limits": {"consent": ["marketing"], "cooldown": "3d"},
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")
