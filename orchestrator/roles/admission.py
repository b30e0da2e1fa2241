"""The intake as the settings and the rulebook in force make it, in every role that reads events."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import EventRefused
from orchestrator.rulebook.load import Loaded
from orchestrator.rulebook.tracking_plan import TrackingPlan
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import Clock
from orchestrator.runtime.rulebooks import RulebookInForce
from orchestrator.runtime.shelf import SWITCH_WITHIN_MS
from orchestrator.settings import Settings


class HandoverPlan:
    """Two tracking plans while processes switch from one to the other: what either refuses is refused.

    A worker that has not switched yet, or has before the gateway, would refuse for good what the gateway accepted.
    """

    def __init__(self, before: TrackingPlan, after: TrackingPlan, clock: Clock) -> None:
        self._before = before
        self._after = after
        self._clock = clock
        self._until_ms = clock.now_ms() + SWITCH_WITHIN_MS

    def check(self, event_type: str, properties: dict[str, Any]) -> EventRefused | None:
        """Return why the event is refused, or None."""
        refused = self._after.check(event_type, properties)
        if refused is None and self._clock.now_ms() < self._until_ms:
            refused = self._before.check(event_type, properties)
        return refused


def intake_of(settings: Settings, rulebooks: RulebookInForce, *, beside_others: Clock | None = None) -> Intake:
    """Return the intake for the tracking plan in force; it follows the rulebook when that is switched.

    With a clock (``beside_others``) it hands over between the plans as ``HandoverPlan`` does.
    """
    limits = Limits(
        event_bytes_max=settings.event_bytes_max,
        depth_max=settings.depth_max,
        future_tolerance_ms=round(settings.future_tolerance_s * 1000),
        nobody=frozenset(one.strip().casefold() for one in settings.nobody_ids),
    )
    intake = Intake(rulebooks.loaded.plan, settings.workspace, limits, settings.neighbours)

    def follow(loaded: Loaded) -> None:
        before = rulebooks.loaded.plan
        intake.plan = loaded.plan if beside_others is None else HandoverPlan(before, loaded.plan, beside_others)

    rulebooks.listeners.append(follow)
    return intake
