"""Ids at the gateway: no other workspace's in a URL, and known people made one only by who may say so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator.gateway.keys import hash_of, new_key
from orchestrator.runtime.ports import EVENTS
from orchestrator.settings import Settings

NOW_MS = 1_772_425_805_000
KEYS = {name: new_key() for name in ("write", "both")}
ALIAS = {
    "id": "e1",
    "type": "alias",
    "customer_id": "alicia",
    "occurred_at": NOW_MS,
    "properties": {"previous_id": "alice"},
}
CALL = {"type": "alias", "messageId": "e1", "userId": "alicia", "previousId": "alice"}


class TestUrls:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(neighbours=("acme",))

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/customers/{}"),
            ("GET", "/v1/customers/{}/timeline"),
            ("DELETE", "/v1/customers/{}"),
            ("GET", "/v1/actions?customer_id={}"),
        ],
    )
    @pytest.mark.parametrize("sent", ["acme%3Ac1", "acme:c1", "x%01", "x" * 201])
    async def test_an_id_that_no_customer_here_can_have_is_refused(
        self, client: httpx.AsyncClient, log: Any, method: str, path: str, sent: str
    ) -> None:
        answer = await client.request(method, path.format(sent))
        assert (answer.status_code, answer.json()["field"]) == (400, "customer_id")
        assert answer.json()["remedy"]
        assert await log.values(EVENTS) == []

    @pytest.mark.parametrize("sent", ["undefined", "guest", "%20"])
    async def test_who_was_taken_in_as_nobody_can_be_forgotten(self, client: httpx.AsyncClient, sent: str) -> None:
        assert (await client.delete(f"/v1/customers/{sent}")).status_code == 202


class TestWhoVouches:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        roles = {"write": ["write"], "both": ["write", "operator"]}
        keys = [{"name": one, "roles": roles[one], "hash": hash_of(key.encode())} for one, key in KEYS.items()]
        (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
        return Settings(keys_file=tmp_path / "keys.yaml")

    @pytest.mark.parametrize(("key", "granted"), [("write", None), ("both", "both")])
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/events", ALIAS),
            ("/v1/events", [ALIAS]),
            ("/v1/events", CALL),
            ("/v1/alias", CALL),
            ("/v1/batch", {"batch": [CALL]}),
        ],
        ids=["an event", "a list", "a call among events", "a call", "a batch"],
    )
    async def test_an_alias_says_which_key_vouches_for_it(
        self, client, log, *, caplog: pytest.LogCaptureFixture, path: str, body: Any, key: str, granted: str | None
    ) -> None:
        caplog.set_level(logging.INFO, "orchestrator.gateway.ingest")
        answer = await client.post(path, json=body, headers={"authorization": f"Bearer {KEYS[key]}"})
        assert answer.status_code in {200, 202}, answer.text
        (event,) = await log.values(EVENTS)
        assert event.get("granted") == granted
        said = "both vouched that 'alicia' and 'alice' are one customer"
        assert (said in caplog.messages) is (granted is not None)

    @pytest.mark.parametrize("key", list(KEYS))
    @pytest.mark.parametrize("field", ["granted", "via"])
    async def test_nobody_says_so_themselves(self, client, log, key: str, field: str) -> None:
        body = {**ALIAS, field: "both"}
        answer = await client.post("/v1/events", json=body, headers={"authorization": f"Bearer {KEYS[key]}"})
        assert (answer.status_code, answer.json()["detail"]) == (400, f"{field} is the engine's own.")
        assert await log.values(EVENTS) == []


async def test_on_an_open_gateway_everybody_vouches(client, log) -> None:
    assert (await client.post("/v1/alias", json=CALL)).status_code == 200
    (event,) = await log.values(EVENTS)
    assert event["granted"] == "anybody"
