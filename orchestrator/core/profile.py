"""The profile: traits and consent, each kept with the event time that set it.

A late event never overwrites a newer value ("last write wins" by arrival would). Consent that is given and
refused at the same moment is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core import channel
from orchestrator.core.event import CONSENT_CHANGED, IDENTIFY, OUTCOMES, Event
from orchestrator.core.state import CustomerState

TRAITS_MAX = 200


def learn(state: CustomerState, event: Event, at_ms: int) -> list[str]:
    """Apply an event to traits and consents; return the consents that it withdrew: purposes and channels' entries."""
    if event.type == IDENTIFY:
        for name, value in event.properties.items():
            if set_trait(state, name, value, at_ms) and name in channel.ADDRESSES:
                _readdress(state, name, at_ms)
        if "timezone" in event.context and "timezone" not in state.traits:
            # The libraries send the zone of the device; a zone that is known of the customer counts before it.
            set_trait(state, "timezone", event.context["timezone"], at_ms)
    elif not event.context and event.type != CONSENT_CHANGED and event.type not in OUTCOMES:
        return []
    withdrawn: list[str] = []
    for purpose, granted in _consents(event).items():
        if isinstance(granted, bool) and set_consent(state, purpose, granted, at_ms) and not granted:
            withdrawn.append(purpose)
    if event.type in OUTCOMES:
        for entry, granted in channel.changes(event, state.consents).items():
            if set_consent(state, entry, granted, at_ms) and not granted:
                withdrawn.append(entry)
    return withdrawn


def set_trait(state: CustomerState, name: str, value: Any, at_ms: int) -> bool:
    """Set a trait unless a newer value is known; return whether it has another value now.

    Null removes it; beyond the ceiling new names are ignored.
    """
    known = state.traits.get(name)
    if known is not None and known[1] > at_ms:
        return False
    if known is None and len(state.traits) >= TRAITS_MAX:
        return False
    state.traits[name] = (value, at_ms)
    return known is None or bool(known[0] != value)


def _readdress(state: CustomerState, trait: str, at_ms: int) -> None:
    """Open the channels that were closed because nobody was at the address before this one."""
    if state.traits[trait][0] is None:
        return
    for kind in channel.ADDRESSES[trait]:
        _, reachable = channel.entries(kind.value)
        if reachable in state.consents:
            set_consent(state, reachable, True, at_ms)


def _consents(event: Event) -> Mapping[str, Any]:
    """Return the consent an event carries: Segment's context form, or ``consent_changed`` with a purpose each."""
    if event.type == CONSENT_CHANGED:
        return event.properties
    consent = event.context.get("consent")
    preferences = consent.get("categoryPreferences") if isinstance(consent, dict) else None
    return preferences if isinstance(preferences, dict) else {}


def set_consent(state: CustomerState, purpose: str, granted: bool, at_ms: int) -> bool:
    """Give or refuse consent unless a newer word is known; return whether the consent in force changed."""
    known = state.consents.get(purpose)
    if known is not None and (known[1] > at_ms or (known[1] == at_ms and not known[0])):
        return False
    state.consents[purpose] = (granted, at_ms)
    return known is None or known[0] != granted
