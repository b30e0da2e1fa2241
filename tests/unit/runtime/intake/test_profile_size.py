"""A customer's state may be larger than an event of a producer; nothing else may."""

from __future__ import annotations

from base64 import b64decode, b64encode

import msgspec
import pytest

from orchestrator.core.event import Event
from orchestrator.core.state import CustomerState, decode_state, encode_state
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
        properties={"previous_id": "anon", "state": b64encode(encode_state(CustomerState(seen=bytes(size)))).decode()},
    )
    return Record(0, 0, event.received_at_ms, b"c1", encode_event(event))


def test_a_state_that_is_handed_over_may_be_large() -> None:
    (event,) = Intake(TakesAll(), "default", Limits()).events_from_record(record("profile_merged:1", 200_000))
    assert len(decode_state(b64decode(event.properties["state"])).seen) == 200_000


@pytest.mark.parametrize("carried", [None, 7, "", "x", "AAAA", "!"])
def test_a_profile_that_is_none_is_refused_before_anybody_takes_it_in(carried: object) -> None:
    value = msgspec.json.encode(
        {
            "id": "profile_merged:1",
            "type": "profile_merged",
            "customer_id": "c1",
            "occurred_at": 1_772_425_800_000,
            "properties": {"previous_id": "anon", "state": carried},
        }
    )
    with pytest.raises(EventRefused, match=r"^properties\.state is not the state of a customer\.$"):
        Intake(TakesAll(), "default", Limits()).from_record(Record(0, 0, 1_772_425_800_000, b"c1", value))


@pytest.mark.parametrize(("event_id", "size"), [("other", 200_000), ("profile_merged:1", PROFILE_BYTES_MAX)])
def test_anything_else_that_is_as_large_is_refused(event_id: str, size: int) -> None:
    with pytest.raises(EventRefused, match="bytes"):
        Intake(TakesAll(), "default", Limits()).events_from_record(record(event_id, size))
