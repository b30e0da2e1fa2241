"""The present: what a rule would see in a customer's current state, where the past cannot be decided again."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.definition import OnAbsence, OnEvent, Rule
from orchestrator.core.event import Event
from orchestrator.core.receipt import sender_of
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.core.view import View
from orchestrator.runtime.walk import Glimpse, Point, glimpse


def present_glimpse(
    rulebook: Rulebook, rule: Rule, state: CustomerState, events: Sequence[Event], customer_id: str, now_ms: int
) -> Glimpse | None:
    """Return what the rule would see now; None when its trigger cannot have begun.

    A rule on an event reads the last such event of ``events``; one on an absence what its newest arm has kept; every
    other one the journey's newest run and no event.
    """
    if isinstance(rule.trigger, OnEvent):
        event = next((one for one in reversed(events) if one.type == rule.trigger.event), None)
        if event is None:
            return None
        sender = sender_of(state, event.properties)
        view = View(rulebook, state, state.frontier_ms, event.properties, event.context, sender)
        run = view.run_key(rule.journey) or f"{rule.journey}/"
    else:
        run, facts = _newest(rulebook, rule, state)
        if not run:
            return None
        event = _moment(customer_id, now_ms)
        view = View(rulebook, state, state.frontier_ms, facts, {}, run)
    point = Point(event, state, max(now_ms, state.clock_ms), rulebook)
    return glimpse(customer_id, point, rule, view, run)


def _newest(rulebook: Rulebook, rule: Rule, state: CustomerState) -> tuple[str, dict[str, object]]:
    """Return the run that the trigger concerned last and the facts it keeps; no run when there is none."""
    if isinstance(rule.trigger, OnAbsence):
        watched = [name for name, watch in rulebook.watches.items() if rule in watch.group.rules]
        arms = [arm for key, arm in state.arms.items() if key.partition("|")[0] in watched and arm.armed_at]
        arm = max(arms, key=lambda one: (one.armed_at, one.cause), default=None)
        return ("", {}) if arm is None else (f"{rule.journey}/{arm.run.partition('/')[2]}", arm.facts)
    runs = {key: run for key, run in state.runs.items() if key.startswith(rule.journey + "/")}
    return max(runs, key=lambda key: (runs[key].entered_at, key), default=""), {}


def _moment(customer_id: str, now_ms: int) -> Event:
    """Return a stand-in for a stimulus that is not an event."""
    return Event(id="", type="", customer_id=customer_id, occurred_at_ms=now_ms, received_at_ms=now_ms)
