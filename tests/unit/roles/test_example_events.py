"""The examples of the first minutes: at every hour of a day they are what the README says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from orchestrator.roles.example_events import EXAMPLES, example_events
from orchestrator.rulebook.load import load_rulebook

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
NOW_MS = 1_772_409_612_345
RULES = Path(__file__).parents[3] / "rules"


@pytest.mark.parametrize(("name", "hour"), [("lead", 12), ("lead-at-night", 23), ("basket", 12)])
def test_it_is_the_hour_of_the_example_where_the_customer_is_whatever_the_time_is_here(name: str, hour: int) -> None:
    for now_ms in range(NOW_MS, NOW_MS + DAY_MS, HOUR_MS):
        zones = [one["properties"]["timezone"] for one in example_events(name, now_ms) if one["type"] == "identify"]
        assert [datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone)).hour for zone in zones] == [hour]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_tracking_plan_takes_every_event_and_ids_differ(name: str) -> None:
    plan = load_rulebook(RULES).plan
    events = example_events(name, NOW_MS)
    assert [plan.check(one["type"], dict(one["properties"])) for one in events] == [None] * len(events)
    ids = [one["id"] for moment_ms in (NOW_MS, NOW_MS + 1_000) for one in example_events(name, moment_ms)]
    assert len(set(ids)) == len(ids)
