"""The id of an action: the same for the same cause, another one for anything else."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.core.action import Action, action_id

IDENTITY = {"workspace": "default", "customer_id": "c1", "run": "j/k1", "rule": "r", "step": "1", "cause": "e1"}


def test_an_id_is_stable_across_releases():
    """Were it ever to change, actions decided before an upgrade would be sent again after it."""
    assert action_id(**IDENTITY) == "ee56631168327ec1bdc453a5522fcb02"


@pytest.mark.parametrize("part", IDENTITY)
def test_every_part_of_the_identity_counts(part):
    assert action_id(**{**IDENTITY, part: "other"}) != action_id(**IDENTITY)


def test_parts_do_not_run_into_each_other():
    assert action_id(**{**IDENTITY, "rule": "r1", "step": ""}) != action_id(**{**IDENTITY, "rule": "r", "step": "1"})
    assert len(action_id(**IDENTITY)) == 32


def test_an_action_survives_the_wire_with_its_fallbacks():
    text = Action(id="b", customer_id="c1", connector="sms", kind="sms", params={"text": "é"})
    call = Action(id="a", customer_id="c1", connector="voice", kind="call", deadline_at=7, fallback=(text,))
    assert msgspec.json.decode(msgspec.json.encode(call), type=Action) == call
