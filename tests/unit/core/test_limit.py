"""Limits in numbers: what is reserved, what is released, and which zones a customer may be in."""

from __future__ import annotations

import pytest

from orchestrator.core.limit import release, zones_of
from orchestrator.core.state import CustomerState


@pytest.mark.parametrize(
    ("stamps", "decided_at", "left"),
    [([5, 7], 7, [5]), ([5, 5], 5, [5]), ([5], 5, None), ([5], 6, [5]), (None, 5, None)],
)
def test_a_release_takes_back_one_reservation(stamps, decided_at, left):
    state = CustomerState(sent={} if stamps is None else {"cap": stamps})
    release(state, ["cap"], decided_at)
    assert state.sent.get("cap") == left


@pytest.mark.parametrize(
    ("zone", "traits", "facts", "zones"),
    [
        ("Europe/Berlin", {"timezone": "Asia/Kolkata"}, {}, ["Europe/Berlin"]),
        ("Mars/Phobos", {"timezone": "Asia/Kolkata"}, {}, []),
        ("profile", {"timezone": "Asia/Kolkata"}, {"timezone": "Europe/Berlin"}, ["Asia/Kolkata"]),
        ("profile", {}, {"timezone": "Europe/Berlin"}, ["Europe/Berlin"]),
        ("profile", {"timezone": None}, {"timezone": "Europe/Berlin"}, ["Europe/Berlin"]),
        ("profile", {"timezone": "nowhere", "phone": "+14155550100"}, {}, ["America/Los_Angeles"]),
        ("profile", {"timezone": 5}, {"phone": "+14155550100"}, ["America/Los_Angeles"]),
        ("profile", {"phone": 4155550100}, {}, []),
        ("profile", {}, {}, []),
    ],
)
def test_the_zone_is_the_profiles_else_the_events_else_the_phones_else_nobody_knows(zone, traits, facts, zones):
    state = CustomerState(traits={name: (value, 0) for name, value in traits.items()})
    assert [one.key for one in zones_of(state, zone, facts)] == zones
