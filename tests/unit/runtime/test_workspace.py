"""Whose a record is, on topics that several workspaces share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from orchestrator.core.action import Action
from orchestrator.errors import EventRefused
from orchestrator.runtime.dispatch import own_records
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import Record
from orchestrator.runtime.workspace import KeySpace

WHOSE = [
    # workspace  neighbours            key          foreign
    ("default", (), b"c1", False),
    ("default", (), b"acme:c1", False),
    ("default", ("acme",), b"acme:c1", True),
    ("default", ("acme",), b"acme", False),
    ("default", ("acme",), b"acme2:c1", False),
    ("default", ("acme",), None, False),
    ("acme", (), b"acme:c1", False),
    ("acme", (), b"acme:globex:c1", False),
    ("acme", (), b"globex:c1", True),
    ("acme", (), b"acme2:c1", True),
    ("acme", (), b"c1", False),
    ("acme", (), b"C1:x", False),
    ("acme", (), None, False),
    ("acme", ("default",), b"c1", True),
    ("acme", ("default", "acme"), b"acme:c1", False),
]


@pytest.mark.parametrize(("workspace", "neighbours", "key", "foreign"), WHOSE)
def test_a_record_is_told_by_its_key(
    workspace: str, neighbours: tuple[str, ...], key: bytes | None, foreign: bool
) -> None:
    assert KeySpace(workspace, neighbours).foreign(key) is foreign


def test_the_same_customer_id_has_another_key_in_every_workspace() -> None:
    spaces = [KeySpace(name) for name in ("default", "acme", "globex")]
    assert [space.key("c1") for space in spaces] == [b"c1", b"acme:c1", b"globex:c1"]
    assert [[one.foreign(other.key("c1")) for other in spaces] for one in spaces[1:]] == [
        [False, False, True],
        [False, True, False],
    ]


class AnyEvent:
    def check(self, event_type: str, properties: Mapping[str, Any]) -> None:
        return None


def record(key: bytes, value: object, offset: int = 0) -> Record:
    return Record(0, offset, 1_772_425_800_000, key, msgspec.json.encode(value))


def test_a_customer_id_of_the_default_workspace_cannot_lie_in_anothers_key_space() -> None:
    event = {"id": "e1", "type": "signed_up", "customer_id": "acme:c1", "occurred_at": 1_772_425_800_000}
    alone, beside = (Intake(AnyEvent(), "default", Limits(), names) for names in ((), ("acme",)))
    assert alone.from_record(record(b"acme:c1", event)).customer_id == "acme:c1"
    with pytest.raises(EventRefused) as refused:
        beside.from_record(record(b"acme:c1", event))
    assert str(refused.value) == 'customer_id begins with "acme:", which marks the customers of another workspace.'


def test_another_workspace_does_not_take_what_is_keyed_as_its_own_but_says_otherwise() -> None:
    """The default workspace of a deployment that does not know of acme can only write what acme refuses."""
    event = {"id": "e1", "type": "signed_up", "customer_id": "acme:c1", "occurred_at": 1_772_425_800_000}
    with pytest.raises(EventRefused) as refused:
        Intake(AnyEvent(), "acme", Limits()).from_record(record(b"acme:c1", event))
    assert refused.value.code == "key_mismatch"


def test_a_dispatcher_takes_the_actions_of_its_workspace_whatever_their_key() -> None:
    ours = record(b"acme:c1", Action(id="a", customer_id="c1", connector="sms", workspace="acme"), 1)
    theirs = record(b"globex:c1", Action(id="b", customer_id="c1", connector="sms", workspace="globex"), 2)
    bare = record(b"c1", Action(id="c", customer_id="c1", connector="sms"), 3)
    broken = Record(0, 4, 0, b"acme:c1", b"{")
    their_broken = Record(0, 5, 0, b"globex:c1", b"{")
    everything = [ours, theirs, bare, broken, their_broken]
    assert own_records(everything, KeySpace("acme")) == [ours, broken]
    assert own_records(everything, KeySpace("globex")) == [theirs, their_broken]
    assert own_records(everything, KeySpace("default", ("acme", "globex"))) == [bare]
