"""Who may do what: every route against every role, told before the route sees anything of the request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import SecretStr

from orchestrator.errors import ConfigurationError
from orchestrator.gateway.access import is_loopback, refuse_exposure
from orchestrator.gateway.keys import KeyRing, hash_of, new_key, read_keys
from orchestrator.gateway.roles import TABLE, Role, Row, Rows, with_implied
from orchestrator.settings import Settings

NOW_MS = 1_772_425_805_000
KEYS = {role: new_key() for role in Role}
EVENT = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": NOW_MS - 5_000}


def write_file(path: Path, *entries: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"keys": list(entries)}))
    return path


def entry(name: str, key: str, *roles: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "roles": list(roles), "hash": hash_of(key.encode()), **more}


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    return found


def code(response: httpx.Response) -> str:
    return str(problem(response)["type"]).removeprefix("urn:journey:problem:")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class TestRoles:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        entries = [entry(f"{role.value}-key", key, role.value) for role, key in KEYS.items()]
        return Settings(keys_file=write_file(tmp_path / "keys.yaml", *entries), body_bytes_max=20_000)

    @pytest.mark.parametrize("row", [row for row in TABLE if row.role], ids=lambda row: f"{row.method} {row.path}")
    async def test_a_route_lets_in_the_keys_of_its_role_and_no_others(
        self, client: httpx.AsyncClient, row: Row
    ) -> None:
        path = row.path.replace("{customer_id:path}", "c1").replace("{customer_id}", "c1").replace("{version}", "v1")
        let_in = set()
        for role, key in KEYS.items():
            response = await client.request(row.method, path.replace("{journey_id}", "j"), headers=bearer(key))
            if response.status_code != 403:
                let_in.add(role)
            else:
                assert code(response) == "role_missing"
        assert let_in == {role for role in Role if row.role in with_implied([role])}

    @pytest.mark.parametrize("row", [row for row in TABLE if row.role], ids=lambda row: f"{row.method} {row.path}")
    async def test_a_route_lets_in_nobody_without_a_key(self, client: httpx.AsyncClient, row: Row) -> None:
        response = await client.request(row.method, row.path.replace("{", "").replace("}", "").replace(":path", ""))
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Basic realm="journey", charset="UTF-8"'

    async def test_a_refusal_says_which_role_is_needed(self, client: httpx.AsyncClient) -> None:
        response = await client.delete("/v1/customers/c1", headers=bearer(KEYS[Role.PUBLISHER]))
        found = problem(response)
        assert (response.status_code, found["detail"], found["remedy"]) == (
            403,
            'The key "publisher-key" may not do this: it needs the role operator and has author, publisher, viewer.',
            "Use a key with the role operator; `journey keys create --role operator` makes one.",
        )

    async def test_the_key_is_asked_for_before_the_body_is_read(self, client: httpx.AsyncClient) -> None:
        async def endless() -> Any:
            raise AssertionError("The body was read.")
            yield b""

        response = await client.post("/v1/dead-letters/redrive", content=endless())
        assert response.status_code == 401

    async def test_a_body_that_a_framework_would_read_is_bounded(self, client: httpx.AsyncClient) -> None:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while True:
                sent += 5_000
                yield b"x" * 5_000

        headers = {**bearer(KEYS[Role.OPERATOR]), "content-type": "application/json"}
        response = await client.post("/v1/dead-letters/redrive", content=endless(), headers=headers)
        assert (response.status_code, sent) == (413, 25_000)

    async def test_a_body_within_the_bound_reaches_its_route(self, client: httpx.AsyncClient, known: Any) -> None:
        headers = bearer(KEYS[Role.OPERATOR])
        response = await client.post("/v1/dead-letters/redrive", json={"ids": ["0-1"]}, headers=headers)
        assert (response.json(), known.redriven) == ({"redriven": 1}, [["0-1"]])

    @pytest.mark.parametrize(
        "path", ["/v1/", "/v1/secrets", "/v1/customers", "/v1//events", "/v1/events/", "/v1/../v1"]
    )
    async def test_a_path_without_a_row_is_closed(self, client: httpx.AsyncClient, path: str) -> None:
        response = await client.get(path, headers=bearer(KEYS[Role.VIEWER]))
        assert response.status_code == 404

    async def test_an_answer_of_the_guard_is_counted_under_its_route(self, client: httpx.AsyncClient) -> None:
        def counts() -> list[float]:
            route = "/v1/customers/{customer_id}"
            return [
                counted("journey_http_responses_total", route=route, status="403"),
                counted("journey_key_refusals_total", reason="role"),
                counted("journey_key_refusals_total", reason="missing"),
                counted("journey_key_refusals_total", reason="unknown"),
            ]

        before = counts()
        await client.get("/v1/customers/c1", headers=bearer(KEYS[Role.WRITE]))
        await client.get("/v1/customers/c1")
        await client.get("/v1/customers/c1", headers=bearer("jrn_stranger"))
        assert [after - was for was, after in zip(before, counts(), strict=True)] == [1, 1, 1, 1]

    async def test_no_answer_repeats_the_key(self, client: httpx.AsyncClient) -> None:
        for key in (KEYS[Role.WRITE], "jrn_stranger"):
            response = await client.get("/v1/customers/c1", headers=bearer(key))
            assert key not in response.text + str(response.headers)


def test_every_route_of_the_gateway_has_a_row(app: FastAPI) -> None:
    rows = Rows()
    found = [(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item]
    guarded = [(method, path) for method, path in found if path.startswith("/v1/")]
    assert len(guarded) > 12
    assert [each for each in guarded if rows.find(*each) is None] == []


def test_roles_imply_what_the_table_of_the_module_says() -> None:
    assert {role.value: sorted(one.value for one in with_implied([role])) for role in Role} == {
        "write": ["write"],
        "viewer": ["viewer"],
        "author": ["author", "viewer"],
        "publisher": ["author", "publisher", "viewer"],
        "operator": ["operator", "viewer"],
    }


# ------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("more", "status", "kind"),
    [
        ({}, 202, ""),
        ({"expires_at": "2026-03-02T04:30:06Z"}, 202, ""),
        ({"expires_at": "2026-03-02T04:30:05Z"}, 401, "unauthorised"),
        ({"workspace": "default"}, 202, ""),
        ({"workspace": "acme"}, 403, "other_workspace"),
    ],
)
class TestOneKey:
    @pytest.fixture
    def settings(self, tmp_path: Path, more: dict[str, Any]) -> Settings:
        file = write_file(tmp_path / "keys.yaml", entry("shop", KEYS[Role.WRITE], "write", **more))
        return Settings(keys_file=file)

    async def test_a_key_opens_its_workspace_until_it_ends(
        self, client: httpx.AsyncClient, status: int, kind: str
    ) -> None:
        response = await client.post("/v1/events", json=EVENT, headers=bearer(KEYS[Role.WRITE]))
        assert response.status_code == status
        assert kind == "" or code(response) == kind


class TestWriteKeysOfTheEnvironment:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(write_keys=("spring", hash_of(b"autumn")))

    @pytest.mark.parametrize("key", ["spring", "autumn"])
    async def test_they_stand_there_plain_or_hashed_and_only_send_events(
        self, client: httpx.AsyncClient, key: str
    ) -> None:
        assert (await client.post("/v1/events", json=EVENT, auth=(key, ""))).status_code == 202
        assert (await client.get("/v1/customers/c1", auth=(key, ""))).status_code == 403

    async def test_a_hash_is_no_key(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/events", json=EVENT, auth=(hash_of(b"autumn"), ""))
        assert response.status_code == 401


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sha256:12", "JOURNEY_WRITE_KEYS, key 1: after sha256: stand 64 hexadecimal digits in lower case. "),
        ("", "JOURNEY_WRITE_KEYS, key 1 is empty; leave it out."),
    ],
)
def test_a_write_key_that_cannot_be_one_is_refused_at_the_start(key: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        KeyRing([SecretStr(key)])
    assert str(refused.value).startswith(said)


class Time:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TestRotation:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return write_file(tmp_path / "keys.yaml", entry("old", "old-key", "write"))

    def test_an_edit_is_taken_within_a_second_and_without_a_restart(self, file: Path) -> None:
        time = Time()
        ring = KeyRing(file=file, now_s=time)
        write_file(file, entry("new", "new-key", "write"))
        assert ring.find(b"new-key") is None
        time.now_s = 1.0
        found = ring.find(b"new-key")
        assert found is not None
        assert (found.name, ring.find(b"old-key")) == ("new", None)

    @pytest.mark.parametrize("text", ["keys: [", "keys: 1", "[]", "\x00", "keys:\n- name: x\n  roles: [boss]\n"])
    def test_a_broken_edit_leaves_the_keys_as_they_were(
        self, file: Path, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        time = Time()
        ring = KeyRing(file=file, now_s=time)
        assert counted("journey_key_file_broken") == 0
        file.write_text(text)
        time.now_s = 1.0
        assert ring.find(b"old-key") is not None
        assert counted("journey_key_file_broken") == 1
        assert f"the keys stay as they were: The key file {file}" in caplog.text

    def test_a_file_that_is_gone_leaves_them_too_and_its_return_is_noticed(self, file: Path) -> None:
        time = Time()
        ring = KeyRing(file=file, now_s=time)
        file.unlink()
        time.now_s = 1.0
        assert ring.find(b"old-key") is not None
        write_file(file, entry("new", "new-key", "write"))
        time.now_s = 2.0
        assert ring.find(b"old-key") is None

    def test_the_last_key_revoked_opens_the_gateway_to_nobody(self, file: Path) -> None:
        time = Time()
        ring = KeyRing(file=file, now_s=time)
        write_file(file)
        time.now_s = 1.0
        assert ring.find(b"old-key") is None
        assert ring.needed

    def test_a_reload_is_no_fresh_allowance(self, file: Path) -> None:
        time = Time()
        rate = {"events_per_s": 1, "burst": 10}
        write_file(file, entry("shop", "shop-key", "write", rate=rate))
        ring = KeyRing(file=file, now_s=time)
        before = ring.find(b"shop-key")
        write_file(file, entry("shop", "shop-key", "write", rate=rate), entry("other", "o", "write"))
        time.now_s = 1.0
        after = ring.find(b"shop-key")
        assert before is not None
        assert after is not None
        assert after.bucket is before.bucket

    def test_a_file_that_is_not_there_at_the_start_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError) as refused:
            KeyRing(file=tmp_path / "none.yaml")
        assert str(refused.value) == (
            f"The key file {tmp_path / 'none.yaml'} cannot be read (No such file or directory). Make one with "
            "`journey keys create`, or correct JOURNEY_KEYS_FILE."
        )


def test_two_keys_of_one_name_are_refused_and_no_hash_is_shown(tmp_path: Path) -> None:
    file = write_file(tmp_path / "keys.yaml", entry("a", "1", "write"), entry("a", "2", "write"))
    with pytest.raises(ConfigurationError) as refused:
        read_keys(file)
    assert str(refused.value) == f'The key file {file} is wrong.\nValue error, two keys have the name "a"'


def test_a_key_has_256_random_bits_and_a_mark_that_scanners_know() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("jrn_") and len(key) == 4 + 43 for key in keys)


# ------------------------------------------------------------------------------------------------------- rates


class TestRates:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        slow = entry("slow", "slow-key", "write", "viewer", rate={"events_per_s": 0.5, "burst": 3})
        return Settings(keys_file=write_file(tmp_path / "keys.yaml", slow, entry("free", "free-key", "write")))

    async def test_beyond_its_rate_a_key_is_told_when_to_come_back_and_nothing_is_taken(
        self, client: httpx.AsyncClient, log: Any
    ) -> None:
        two = [{**EVENT, "id": "e1"}, {**EVENT, "id": "e2"}]
        assert (await client.post("/v1/events", json=two, headers=bearer("slow-key"))).status_code == 202
        refused = await client.post("/v1/events", json=two, headers=bearer("slow-key"))
        assert (refused.status_code, code(refused), refused.headers["retry-after"]) == (429, "rate_exceeded", "2")
        assert problem(refused)["detail"] == 'The key "slow" has sent as much as it may for now.'
        assert [one["id"] for one in await log.values("journey.events")] == ["e1", "e2"]
        assert (await client.post("/v1/events", json=EVENT, headers=bearer("slow-key"))).status_code == 202
        assert (await client.post("/v1/events", json=EVENT, headers=bearer("free-key"))).status_code == 202

    async def test_a_key_whose_rate_is_used_up_does_not_get_its_body_read(self, client: httpx.AsyncClient) -> None:
        async def endless() -> Any:
            raise AssertionError("The body was read.")
            yield b""

        many = [{**EVENT, "id": f"e{number}"} for number in range(3)]
        assert (await client.post("/v1/events", json=many, headers=bearer("slow-key"))).status_code == 202
        refused = await client.post("/v1/events", content=endless(), headers=bearer("slow-key"))
        assert refused.status_code == 429

    async def test_what_is_refused_counts_as_what_is_taken(self, client: httpx.AsyncClient) -> None:
        bad = [{**EVENT, "type": "Not Snake"}] * 3
        first = await client.post("/v1/events", json=bad, headers=bearer("slow-key"))
        again = await client.post("/v1/events", json=bad, headers=bearer("slow-key"))
        assert (first.status_code, again.status_code) == (400, 429)

    async def test_a_body_that_is_no_events_counts_as_one(self, client: httpx.AsyncClient) -> None:
        answers = [
            (await client.post("/v1/events", content=b"{", headers=bearer("slow-key"))).status_code for _ in range(4)
        ]
        assert answers == [400, 400, 400, 429]

    async def test_look_ups_count_as_one_event_each(self, client: httpx.AsyncClient) -> None:
        answers = [(await client.get("/v1/actions", headers=bearer("slow-key"))).status_code for _ in range(4)]
        assert answers == [200, 200, 200, 429]


# ----------------------------------------------------------------------------------------------------- browsers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}, 200),
        ({"host": "localhost:8080", "sec-fetch-site": "none"}, 200),
        ({"host": "[::1]:8080", "origin": "http://[::1]:8080"}, 200),
        ({"host": "127.0.0.1:8080", "origin": "https://evil.example"}, 403),
        ({"host": "127.0.0.1:8080", "origin": "null"}, 403),
        ({"host": "127.0.0.1:8080", "sec-fetch-site": "cross-site"}, 403),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"}, 403),
    ],
)
async def test_a_page_of_another_origin_cannot_use_the_open_gateway_of_this_machine(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    response = await client.get("/v1/actions", headers=headers)
    assert response.status_code == status
    assert status == 200 or code(response) == "other_origin"


#: What a browser sends for a page of http://evil.example:8080 to that very name, once it leads to the gateway. Over
#: plain HTTP there is no Sec-Fetch-Site, and with a GET no Origin: only the Host header tells.
REBOUND = [
    ("GET", {}),
    ("GET", {"sec-fetch-site": "same-origin"}),
    ("GET", {"origin": "http://evil.example:8080"}),
    ("DELETE", {"origin": "http://evil.example:8080"}),
    ("DELETE", {"origin": "http://evil.example:8080", "sec-fetch-site": "same-origin"}),
]


@pytest.mark.parametrize("settings", [Settings(), Settings(host="0.0.0.0", allow_anonymous=True)], ids=["local", "any"])
@pytest.mark.parametrize(("method", "headers"), REBOUND)
async def test_a_page_whose_name_was_bent_to_a_gateway_without_keys_gets_nothing(
    client: httpx.AsyncClient, log: Any, method: str, headers: dict[str, str]
) -> None:
    before = counted("journey_key_refusals_total", reason="origin")
    for path in ("/v1/customers/c1", "/v1/events"):
        response = await client.request("POST" if path == "/v1/events" else method, path, headers=evil(headers))
        assert (response.status_code, code(response)) == (403, "unknown_host")
    assert problem(response)["remedy"] == "Call it by its address, name the host in JOURNEY_HOST_NAMES, or make keys."
    assert await log.values("journey.events") == []
    assert counted("journey_key_refusals_total", reason="origin") == before + 2


def evil(headers: Mapping[str, str]) -> dict[str, str]:
    return {"host": "evil.example:8080", **headers}


class TestHostNames:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(host="bound.internal", host_names=("gateway", "Journey.Example"), allow_anonymous=True)

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("127.0.0.1:8080", 200),
            ("localhost", 200),
            ("[::1]:8080", 200),
            ("10.0.0.7", 200),  # An address cannot be bent.
            ("gateway:8080", 200),
            ("GATEWAY", 200),
            ("journey.example:443", 200),
            ("bound.internal:8080", 200),
            ("gateway.evil.example", 403),
            ("evil.gateway", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 403),
        ],
    )
    async def test_a_gateway_without_keys_answers_to_addresses_and_its_own_names(
        self, client: httpx.AsyncClient, host: str, status: int
    ) -> None:
        assert (await client.get("/v1/actions", headers={"host": host})).status_code == status

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    async def test_probes_and_scrapers_call_it_by_any_name(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(path, headers={"host": "pod-7.cluster"})).status_code == 200

    @pytest.mark.parametrize("name", ["http://gateway", "gateway:8080", "*.example", ".example", "[::1]", ""])
    def test_a_name_that_no_request_could_have_is_refused_at_the_start(self, name: str) -> None:
        with pytest.raises(ValueError, match="is no name of a host: write it alone, without scheme, port or pattern"):
            Settings(host_names=(name,))


class TestNamesOfAGatewayWithKeys:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(write_keys=("spring",))

    async def test_it_answers_to_every_name_for_a_bent_one_has_no_key(self, client: httpx.AsyncClient) -> None:
        host = {"host": "journey.example"}
        assert (await client.post("/v1/events", json=EVENT, headers=host, auth=("spring", ""))).status_code == 202
        assert (await client.post("/v1/events", json=EVENT, headers=host)).status_code == 401


# ----------------------------------------------------------------------------------------------------- exposure


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("gateway.example", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_only_the_loopback_address_may_be_served_without_keys(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if loopback:
        refuse_exposure(Settings(host=host))
    else:
        with pytest.raises(ConfigurationError, match="without keys would let in everybody"):
            refuse_exposure(Settings(host=host))


@pytest.mark.parametrize("given", [{"write_keys": ("k",)}, {"keys_file": "keys.yaml"}, {"allow_anonymous": True}])
def test_keys_or_a_plain_word_open_other_addresses(given: dict[str, Any]) -> None:
    refuse_exposure(Settings(host="0.0.0.0", **given))
