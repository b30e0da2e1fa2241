"""Whom a record is from: the gateway says it by the key, and nothing that is sent can say otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator.gateway.keys import KeyEntry, hash_of, new_key
from orchestrator.gateway.roles import Role
from orchestrator.runtime.intake import decode_dead_letter
from orchestrator.runtime.ports import ANONYMOUS, DEAD_LETTERS, ENGINE, EVENTS
from orchestrator.settings import Settings

SHOP, OPERATOR = new_key(), new_key()
EVENT = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": 1_772_425_800_000}
TRACK = {"type": "track", "userId": "c1", "event": "Lead Submitted", "messageId": "m1"}
FORGED = {"journey-producer": "(engine)", "producer": "(engine)", "ce_producer": "(engine)", "x-producer": "(engine)"}
CLOUDEVENT = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "e1",
    "ce-source": "/x",
    "ce-type": "lead_submitted",
    "ce-subject": "c1",
    "ce-journeyproducer": "(engine)",
}


async def producers(log: Any, topic: str = EVENTS) -> list[str]:
    return [one.producer for one in await log.read_range(topic, 0, 0, 100)]


async def test_without_keys_records_are_from_nobody_in_particular(client: httpx.AsyncClient, log: Any) -> None:
    await client.post("/v1/events", json=[EVENT, EVENT])
    assert await producers(log) == [ANONYMOUS, ANONYMOUS]


class TestWithKeys:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        path = tmp_path / "keys.yaml"
        entries = [
            {"name": "shop", "roles": ["write"], "hash": hash_of(SHOP.encode())},
            {"name": "desk", "roles": ["operator"], "hash": hash_of(OPERATOR.encode())},
        ]
        path.write_text(yaml.safe_dump({"keys": entries}))
        return Settings(keys_file=path)

    @pytest.mark.parametrize(
        ("path", "request_of"),
        [
            ("/v1/events", {"json": EVENT | {"producer": "(engine)", "source": "(engine)"}}),
            ("/v1/events", {"content": b"{}", "headers": CLOUDEVENT}),
            ("/v1/track", {"json": TRACK | {"context": {"producer": "(engine)"}}}),
            ("/v1/batch", {"json": {"batch": [TRACK], "producer": "(engine)"}}),
        ],
        ids=["normal form", "binary CloudEvent", "Segment call", "Segment batch"],
    )
    async def test_the_record_of_every_form_is_from_the_key_whatever_is_sent(
        self, client: httpx.AsyncClient, log: Any, path: str, request_of: dict[str, Any]
    ) -> None:
        headers = {"authorization": f"Bearer {SHOP}", **FORGED, **request_of.get("headers", {})}
        response = await client.post(path, **{**request_of, "headers": headers})
        assert response.is_success, response.text
        assert await producers(log) == ["shop"]

    async def test_the_dead_letter_of_a_refused_call_says_whose_it_was(
        self, client: httpx.AsyncClient, log: Any
    ) -> None:
        sent = {"batch": [TRACK, {"type": "track", "userId": "c1"}]}
        await client.post("/v1/batch", json=sent, headers={"authorization": f"Bearer {SHOP}"})
        (record,) = await log.read_range(DEAD_LETTERS, 0, 0, 10)
        assert decode_dead_letter(record.value).producer == "shop"

    async def test_an_erasure_is_the_engines_own(self, client: httpx.AsyncClient, log: Any) -> None:
        response = await client.delete("/v1/customers/c1", headers={"authorization": f"Bearer {OPERATOR}"})
        assert response.status_code == 202
        assert await producers(log) == [ENGINE]


@pytest.mark.parametrize("name", [ENGINE, ANONYMOUS, "(direct)", "(other)"])
def test_no_key_can_have_the_name_of_what_is_nobodys_key(name: str) -> None:
    with pytest.raises(ValueError, match="String should match pattern"):
        KeyEntry(name=name, roles=(Role.WRITE,), hash=hash_of(b"k"))
