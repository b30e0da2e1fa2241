"""A customer's state may be larger than an event of a producer; nothing else may."""

from __future__ import annotations

import pytest

from orchestrator.core.event import Event
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import Intake, Limits, encode_event
from orchestrator.runtime.intake.intake import PROFILE_BYTES_MAX
from orchestrator.runtime.ports import Record


class TakesAll:
    def check(self, event_type: str, properties: object, /) -> None:
        return None


def record(event_id: str, size: int) -> Record:
    event = Event(
        id=event_id,
        type="profile_merged",
        customer_id="c1",
        occurred_at_ms=1_772_425_800_000,
        received_at_ms=1_772_425_800_000,
        properties={"previous_id": "anon", "state": "A" * size},
    )
    return Record(0, 0, event.received_at_ms, b"c1", encode_event(event))


def test_a_state_that_is_handed_over_may_be_large() -> None:
    (event,) = Intake(TakesAll(), "default", Limits()).events_from_record(record("profile_merged:1", 200_000))
    assert len(event.properties["state"]) == 200_000


@pytest.mark.parametrize(("event_id", "size"), [("other", 200_000), ("profile_merged:1", PROFILE_BYTES_MAX)])
def test_anything_else_that_is_as_large_is_refused(event_id: str, size: int) -> None:
    with pytest.raises(EventRefused, match="bytes"):
        Intake(TakesAll(), "default", Limits()).events_from_record(record(event_id, size))
