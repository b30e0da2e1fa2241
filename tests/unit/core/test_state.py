"""The state: stored and loaded without loss, by every release after the one that wrote it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orchestrator.core.state import (
    Arm,
    Bid,
    CustomerState,
    Firing,
    Pending,
    Play,
    Run,
    Standby,
    Trial,
    decode_state,
    encode_state,
)
from orchestrator.core.turn import forked

FULL = CustomerState(
    clock_ms=3,
    frontier_ms=2,
    first_seen_ms=1,
    seen=bytes(range(16)),
    traits={"plan": ("pro", 1), "tags": (["a", {"b": None}], 2)},
    consents={"sms": (True, 1)},
    runs={"j/k": Run("open", 1, 2, 3, ["open"], 1, True)},
    aggregates={"n": [1, 2], "s": [[1, 2.5]], "t": [1, 2, 3], "q|": [0, [[1, 2, 0]]]},
    arms={"w|k": Arm(1, "e1", 2, 3, {"total": 4.5}, ["a1"], "j/k", "t@3", [Firing(1, "t@2", ["a0"])])},
    plays={"r|j/k": Play("r", "v", "j/k", 2, "e1", 1, {"x": [1]}, "nudge", True, 4, "2", 1)},
    timers={"play||r|j/k": 9, "absence|w|k": 7},
    sent={"kind:sms/7d": [1, 2]},
    pending={
        "a1": Pending(
            "r", "j/k", 1, 2, ["kind:sms/7d"], ["sms"], True, True, "sms", [Standby("a2", "email", ["c"], ["m"], True)]
        )
    },
    trials={"r|j/k": Trial("r", "j/k", "call", "")},
    bids={"contact": [Bid("r", "j/k", "e1", {"x": 1})]},
    erased_at_ms=1,
    merged_into="c2",
    aliases=["c0"],
    edition=7,
    known=True,
    named_at_ms=4,
    seen_days=[5, 70, 3],
    asked=["c3"],
)

#: The field names of every release so far, in order. Fields are only ever appended: what is stored is read by place.
LAYOUT = {
    CustomerState: (
        "clock_ms frontier_ms first_seen_ms seen traits consents runs aggregates arms plays timers sent pending "
        "trials bids erased_at_ms merged_into aliases edition known named_at_ms asked"
    ),
    Run: "stage started_at entered_at ended_at visited since placed",
    Arm: "armed_at cause prevented_at due_at facts actions run fired_by earlier",
    Firing: "armed_at timer actions",
    Play: "rule version run pc cause started_at facts variant deferred visits step triggered_at",
    Pending: "rule run decided_at until counted consent delivered withdrawn kind standbys",
    Standby: "id kind counted consent withdrawn",
    Trial: "rule run action segment",
    Bid: "rule run cause facts",
}


def test_a_state_is_loaded_as_it_was_stored():
    assert decode_state(encode_state(FULL)) == FULL
    assert encode_state(decode_state(encode_state(FULL))) == encode_state(FULL)


def test_every_field_of_the_full_state_is_filled():
    """What the round trip is tested with leaves no field at its default."""
    for name, default in msgspec.structs.asdict(CustomerState()).items():
        assert getattr(FULL, name) != default, name


def test_a_customer_never_seen_has_the_empty_state():
    assert decode_state(None) == CustomerState()


@pytest.mark.parametrize("struct", LAYOUT, ids=lambda struct: struct.__name__)
def test_fields_are_only_appended(struct: Any):
    names = LAYOUT[struct].split()
    assert list(struct.__struct_fields__[: len(names)]) == names


def test_a_state_that_an_older_release_stored_is_loaded():
    """The shortest forms that were ever written: without the fields that came later."""
    old = [3, 2, 1, b"", {}, {}, {"j/": ["open", 1, 2]}, {}, {"w|": [1, "e1"]}, {}, {"t||": 4}]
    loaded = decode_state(msgspec.msgpack.encode(old))
    assert loaded.runs == {"j/": Run("open", 1, 2)}
    assert loaded.arms == {"w|": Arm(1, "e1")}
    assert (loaded.timers, loaded.pending, loaded.bids) == ({"t||": 4}, {}, {})


def test_a_state_that_a_newer_release_stored_is_loaded():
    newer = [*msgspec.msgpack.decode(encode_state(FULL)), {"what comes": "next"}]
    assert decode_state(msgspec.msgpack.encode(newer)) == FULL


def test_a_fork_holds_everything_and_shares_no_collection():
    fork = forked(FULL)
    assert fork == FULL
    for name in CustomerState.__struct_fields__:
        value = getattr(FULL, name)
        assert not isinstance(value, dict | list) or getattr(fork, name) is not value, name


@pytest.mark.parametrize(("timers", "wake"), [({}, None), ({"a||": 5, "b||": 3}, 3)])
def test_the_next_wake_is_the_earliest_timer(timers, wake):
    assert CustomerState(timers=timers).next_wake_ms() == wake
