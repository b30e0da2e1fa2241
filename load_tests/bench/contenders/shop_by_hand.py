"""The journey of ``many_rules`` and its five rules as somebody would write them by hand over a dict of state.

It imports nothing, so that every framework can run it. It leaves out what rules cost in a product: versions, reasons
and ledger, withdrawing what an order made pointless, late events. So it flatters those who run it.
"""

from __future__ import annotations

from typing import Any

DAY_MS = 86_400_000
STAGES = {"product_viewed": 0, "cart_updated": 1, "checkout_started": 2, "order_completed": 3}
GOAL = 3
RULES = 5
SEEN_MAX = 64
VIEWS_MAX = 100

State = dict[str, Any]


def applied(state: State | None, event: dict[str, Any]) -> tuple[State, list[dict[str, Any]]]:
    """Return the state after the event, and the actions that it brought about."""
    if state is None:
        state = {"seen": [], "traits": {}, "marketing": False, "stage": -1, "ended": 0, "views": [], "order": 0}
        state["sent"] = {}
    if event["id"] in state["seen"]:
        return state, []
    state["seen"] = [*state["seen"][1 - SEEN_MAX :], event["id"]]
    kind, at_ms = event["type"], event["occurred_at"]
    if kind == "identify":
        state["traits"] |= event["properties"]
        state["marketing"] = event["context"]["consent"]["categoryPreferences"]["marketing"]
    elif kind in STAGES:
        _move(state, STAGES[kind], at_ms)
        if kind == "product_viewed":
            state["views"] = [*state["views"][1 - VIEWS_MAX :], at_ms]
        elif kind == "order_completed":
            state["order"] = max(state["order"], at_ms)
    actions = []
    if kind == "cart_updated":
        actions = [action for number in range(RULES) if (action := _decided(state, event, number, at_ms)) is not None]
    return state, actions


def _move(state: State, stage: int, at_ms: int) -> None:
    """A run only moves forward; after its goal a new one begins a day later."""
    if state["stage"] == GOAL:
        if at_ms - state["ended"] < DAY_MS:
            return
        state["stage"] = -1
    if stage > state["stage"]:
        state["stage"] = stage
        if stage == GOAL:
            state["ended"] = at_ms


def _decided(state: State, event: dict[str, Any], number: int, at_ms: int) -> dict[str, Any] | None:
    total = event["properties"].get("total")
    if total is None or total < 100 + number:
        return None
    traits = state["traits"]
    if traits.get("country") not in ("IN", "SG", "AE") or traits.get("tier", "none") == "staff":
        return None
    if sum(1 for viewed in state["views"] if viewed > at_ms - 7 * DAY_MS) < 2 + number % 3:
        return None
    if state["order"] and at_ms - state["order"] < 30 * DAY_MS:
        return None
    rule = f"rule-{number}"
    if not state["marketing"] or at_ms - state["sent"].get(rule, -3 * DAY_MS) < 3 * DAY_MS:
        return None
    state["sent"][rule] = at_ms
    customer_id = event["customer_id"]
    return {
        "id": f"{customer_id}/{rule}/{event['id']}",
        "customer_id": customer_id,
        "rule": rule,
        "connector": "log",
        "params": {"text": f"Your basket of {total} waits."},
        "decided_at": at_ms,
    }
