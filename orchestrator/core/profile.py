"""The profile: traits and consent, each kept with the event time that set it.

A late event never overwrites a newer value ("last write wins" by arrival would). Consent that is given and
refused at the same moment is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.event import CONSENT_CHANGED, IDENTIFY, Event
from orchestrator.core.state import CustomerState

TRAITS_MAX = 200


def learn(state: CustomerState, event: Event, at_ms: int) -> list[str]:
    """Apply an event to traits and consents; return the purposes whose consent was withdrawn by it."""
    if event.type == IDENTIFY:
        for name, value in event.properties.items():
            set_trait(state, name, value, at_ms)
    withdrawn: list[str] = []
    for purpose, granted in _consents(event).items():
        if isinstance(granted, bool) and _set_consent(state, purpose, granted, at_ms) and not granted:
            withdrawn.append(purpose)
    return withdrawn


def set_trait(state: CustomerState, name: str, value: Any, at_ms: int) -> None:
    """Set a trait unless a newer value is known; null removes it; beyond the ceiling new names are ignored."""
    known = state.traits.get(name)
    if known is not None and known[1] > at_ms:
        return
    if known is None and len(state.traits) >= TRAITS_MAX:
        return
    state.traits[name] = (value, at_ms)


def _consents(event: Event) -> Mapping[str, Any]:
    """Return the consent an event carries: Segment's context form, or ``consent_changed`` with a purpose each."""
    if event.type == CONSENT_CHANGED:
        return event.properties
    consent = event.context.get("consent")
    preferences = consent.get("categoryPreferences") if isinstance(consent, dict) else None
    return preferences if isinstance(preferences, dict) else {}


def _set_consent(state: CustomerState, purpose: str, granted: bool, at_ms: int) -> bool:
    """Return whether the consent in force changed."""
    known = state.consents.get(purpose)
    if known is not None and (known[1] > at_ms or (known[1] == at_ms and not known[0])):
        return False
    state.consents[purpose] = (granted, at_ms)
    return known is None or known[0] != granted
