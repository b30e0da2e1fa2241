"""Which web pages may send events: told by what browsers say of themselves, and answered so that they may read it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import REGISTRY
from pydantic import ValidationError

from orchestrator.errors import ConfigurationError
from orchestrator.gateway.keys import KeyFile, hash_of, read_keys, write_keys
from orchestrator.gateway.roles import TABLE, Role
from orchestrator.runtime.ports import EVENTS
from orchestrator.settings import Settings

SHOP, BLOG, EVIL, OWN = "https://shop.example", "https://blog.example", "https://evil.example", "http://127.0.0.1:8080"
EVENT = {"id": "e1", "type": "lead_submitted", "customer_id": "c1", "occurred_at": 1_772_425_800_000}
JSON, PLAIN, FORM = "application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"


def code(response: httpx.Response) -> str:
    if response.is_success:
        return ""
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).removeprefix("urn:journey:problem:")


async def send(client: httpx.AsyncClient, media: str, path: str = "/v1/events", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = json.dumps(EVENT).encode()
    return await client.post(path, content=content, headers={"content-type": media, **named})


async def ask(
    client: httpx.AsyncClient, path: str, origin: str, method: str = "POST", **headers: str
) -> httpx.Response:
    asked = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "content-type",
    }
    return await client.request("OPTIONS", path, headers={**asked, **headers})


# ------------------------------------------------------------------------------------------ the open gateway

#: What browsers send for pages, to the gateway on this machine that has no keys.
PAGES = [
    ("text of another site, which a browser sends without asking", PLAIN, {"origin": EVIL}, 415, "not_json"),
    ("the same, where it says whence", PLAIN, {"origin": EVIL, "sec_fetch_site": "cross-site"}, 415, "not_json"),
    ("a form of another site", FORM, {"origin": EVIL, "sec_fetch_mode": "navigate"}, 415, "not_json"),
    ("a body without a type", "", {"origin": EVIL}, 415, "not_json"),
    ("JSON of another site", JSON, {"origin": EVIL}, 403, "other_origin"),
    ("CloudEvents of another site", "application/cloudevents+json", {"origin": EVIL}, 403, "other_origin"),
    ("a page that hides its origin", PLAIN, {"origin": "null"}, 415, "not_json"),
    ("the same with JSON", JSON, {"origin": "null"}, 403, "other_origin"),
    ("a page without an origin", JSON, {"sec_fetch_site": "cross-site"}, 403, "other_origin"),
    (
        "another server of this machine",
        JSON,
        {"origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"},
        403,
        "other_origin",
    ),
    ("another scheme", JSON, {"origin": "https://127.0.0.1:3000"}, 403, "other_origin"),
    ("a browser that says only how it fetches", PLAIN, {"sec_fetch_mode": "no-cors"}, 415, "not_json"),
    ("a browser that says only what for", PLAIN, {"sec_fetch_dest": "empty"}, 415, "not_json"),
    ("text of a page of the gateway", PLAIN, {"origin": OWN, "sec_fetch_site": "same-origin"}, 415, "not_json"),
    ("JSON of a page of the gateway", JSON, {"origin": OWN, "sec_fetch_site": "same-origin"}, 202, ""),
]
#: What is no browser sends as it likes.
SERVERS = [
    ("curl --data", FORM, {}, 202, ""),
    ("a client that names no type", "", {}, 202, ""),
    ("a client that sends text", PLAIN, {}, 202, ""),
    ("Node's own fetch", FORM, {"sec_fetch_mode": "cors"}, 202, ""),
    ("a client that sends XML", "text/xml", {}, 415, "not_json"),
]


@pytest.mark.parametrize("sent", PAGES + SERVERS, ids=lambda sent: sent[0])
async def test_the_open_gateway_takes_events_of_servers_and_of_no_foreign_page(
    client: httpx.AsyncClient, log: Any, sent: tuple[str, str, dict[str, str], int, str]
) -> None:
    _, media, headers, status, kind = sent
    response = await send(client, media, **headers)
    assert (response.status_code, code(response)) == (status, kind)
    assert len(await log.values(EVENTS)) == (status == 202)
    assert "access-control-allow-origin" not in response.headers


async def test_a_library_may_gzip_under_the_content_type_of_a_form(client: httpx.AsyncClient) -> None:
    batch = gzip.compress(json.dumps({"batch": [{"type": "page", "userId": "c1"}]}).encode())
    headers = {"content-type": FORM, "content-encoding": "gzip"}
    assert (await client.post("/v1/batch", content=batch, headers=headers)).json() == {"accepted": 1, "success": True}


async def test_a_refusal_says_how_to_let_a_page_in_and_is_counted(client: httpx.AsyncClient) -> None:
    def refusals() -> float:
        return REGISTRY.get_sample_value("journey_key_refusals_total", {"reason": "origin"}) or 0.0

    before = refusals()
    for media in (PLAIN, JSON):
        assert (await send(client, media, origin=EVIL)).json()["remedy"] == (
            "Name the page's origin where the key is made (`journey keys create --origin https://shop.example`), or in "
            "JOURNEY_ALLOWED_ORIGINS; or send application/json from your own server."
        )
    assert refusals() == before + 2


@pytest.mark.parametrize("path", [row.path for row in TABLE if row.role is Role.WRITE])
async def test_no_route_of_events_forgets_to_ask_for_the_origin(client: httpx.AsyncClient, path: str) -> None:
    assert (await send(client, PLAIN, path, origin=EVIL)).status_code == 415
    assert (await send(client, JSON, path, origin=EVIL)).status_code == 403
    assert (await ask(client, path, EVIL)).status_code == 403


class TestOriginsOfTheSetting:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(allowed_origins=(SHOP,), body_bytes_max=20_000)

    @pytest.mark.parametrize("media", [PLAIN, JSON])
    async def test_a_page_that_is_named_sends_events_and_reads_the_answer(
        self, client: httpx.AsyncClient, media: str
    ) -> None:
        response = await send(client, media, origin=SHOP, sec_fetch_site="cross-site")
        assert response.status_code == 202
        assert response.headers["access-control-allow-origin"] == SHOP
        assert (response.headers["vary"], response.headers["access-control-expose-headers"]) == (
            "Origin",
            "Retry-After",
        )

    @pytest.mark.parametrize("origin", [EVIL, "https://shop.example.evil.example", "http://shop.example", "null", ""])
    async def test_any_other_does_not(self, client: httpx.AsyncClient, origin: str) -> None:
        response = await send(client, JSON, origin=origin, sec_fetch_site="cross-site")
        assert (response.status_code, response.headers["vary"]) == (403, "Origin")
        assert "access-control-allow-origin" not in response.headers

    async def test_a_page_may_read_why_it_is_refused(self, client: httpx.AsyncClient) -> None:
        for content, status in ((b"{", 400), (b"x" * 20_001, 413)):
            response = await client.post("/v1/events", content=content, headers={"origin": SHOP, "content-type": JSON})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, SHOP)

    async def test_a_page_may_read_nothing_but_what_became_of_its_events(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/v1/actions", headers={"origin": SHOP})
        assert (response.status_code, "access-control-allow-origin" in response.headers) == (403, False)

    async def test_a_preflight_is_answered_with_that_origin_and_what_may_be_sent(
        self, client: httpx.AsyncClient
    ) -> None:
        response = await ask(client, "/v1/batch", SHOP)
        assert (response.status_code, response.content) == (204, b"")
        told = {name: value for name, value in response.headers.items() if name.startswith(("access-", "vary"))}
        assert told == {
            "access-control-allow-origin": SHOP,
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": "authorization, content-encoding, content-type",
            "access-control-max-age": "600",
            "access-control-expose-headers": "Retry-After",
            "vary": "Origin",
        }

    @pytest.mark.parametrize(
        ("asked", "status", "kind"),
        [
            (("/v1/events", EVIL, "POST", "127.0.0.1"), 403, "other_origin"),
            (("/v1/events", "null", "POST", "127.0.0.1"), 403, "other_origin"),
            (("/v1/events", SHOP, "GET", "127.0.0.1"), 405, "method_not_allowed"),
            (("/v1/actions", SHOP, "GET", "127.0.0.1"), 403, "other_origin"),
            (("/v1/customers/c1", SHOP, "DELETE", "127.0.0.1"), 403, "other_origin"),
            (("/v1/outcomes/crm", SHOP, "POST", "127.0.0.1"), 403, "other_origin"),
            (("/v1/nothing", SHOP, "POST", "127.0.0.1"), 404, "unknown_path"),
            (("/v1/events", SHOP, "POST", "evil.example"), 403, "unknown_host"),
        ],
    )
    async def test_a_preflight_for_anything_else_is_refused(
        self, client: httpx.AsyncClient, asked: tuple[str, str, str, str], status: int, kind: str
    ) -> None:
        path, origin, method, host = asked
        response = await ask(client, path, origin, method, host=host)
        assert (response.status_code, code(response)) == (status, kind)
        assert "access-control-allow-origin" not in response.headers

    async def test_options_without_an_origin_is_no_preflight(self, client: httpx.AsyncClient) -> None:
        response = await client.request("OPTIONS", "/v1/events")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")

    async def test_a_name_that_was_bent_to_this_machine_gets_nothing(self, client: httpx.AsyncClient, log: Any) -> None:
        response = await send(client, JSON, origin=SHOP, host="shop.example")
        assert (response.status_code, code(response)) == (403, "unknown_host")
        assert await log.values(EVENTS) == []


# ------------------------------------------------------------------------------------------------- with keys


class TestOriginsOfKeys:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        slow = {"events_per_s": 0.001, "burst": 1}
        keys = [
            {"name": "shop", "roles": ["write"], "hash": hash_of(b"shop-key"), "origins": [SHOP], "rate": slow},
            {"name": "blog", "roles": ["write"], "hash": hash_of(b"blog-key"), "origins": [BLOG]},
            {"name": "till", "roles": ["write"], "hash": hash_of(b"till-key")},
        ]
        (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
        return Settings(keys_file=tmp_path / "keys.yaml", write_keys=("plain",))

    @pytest.mark.parametrize(
        ("key", "origin", "status", "readable"),
        [
            ("shop-key", SHOP, 202, True),
            ("shop-key", BLOG, 403, True),
            ("shop-key", EVIL, 403, False),
            ("blog-key", BLOG, 202, True),
            ("till-key", SHOP, 403, True),
            ("plain", SHOP, 403, True),
            ("unknown", SHOP, 401, True),
            ("unknown", EVIL, 401, False),
        ],
    )
    async def test_a_request_is_judged_by_its_own_key(
        self, client: httpx.AsyncClient, key: str, origin: str, status: int, readable: bool
    ) -> None:
        response = await send(client, JSON, origin=origin, authorization=f"Bearer {key}", host="journey.example")
        assert response.status_code == status
        assert response.headers.get("access-control-allow-origin") == (origin if readable else None)

    @pytest.mark.parametrize(("origin", "status"), [(SHOP, 204), (BLOG, 204), (EVIL, 403), ("null", 403)])
    async def test_a_preflight_carries_no_key_so_any_key_may_name_its_origin(
        self, client: httpx.AsyncClient, origin: str, status: int
    ) -> None:
        assert (await ask(client, "/v1/batch", origin, host="journey.example")).status_code == status

    async def test_a_page_may_read_that_it_sends_too_much(self, client: httpx.AsyncClient) -> None:
        headers = {"origin": SHOP, "authorization": "Bearer shop-key"}
        first, second = [await send(client, PLAIN, **headers) for _ in range(2)]
        assert (first.status_code, second.status_code) == (202, 429)
        assert second.headers["access-control-allow-origin"] == SHOP
        assert second.headers["retry-after"]

    async def test_a_server_needs_no_origin(self, client: httpx.AsyncClient) -> None:
        assert (await send(client, JSON, authorization="Bearer till-key")).status_code == 202


# ------------------------------------------------------------------------------------------------ their names


@pytest.mark.parametrize(
    "origin",
    [SHOP, "http://localhost:3000", "http://[::1]:8080", "capacitor://localhost", "https://xn--bcher-kva.example:8443"],
)
def test_an_origin_is_written_as_browsers_name_it(origin: str) -> None:
    assert Settings(allowed_origins=(origin,)).allowed_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "*", "", "shop.example", "https://*.shop.example", "https://shop.example/", "https://shop.example/a"),
        *("HTTPS://shop.example", "https://Shop.example", "https://shop.example:443", "http://shop.example:80"),
        *("https://bücher.example", "https://a b", "https://shop.example\n", "https://user@shop.example"),
    ],
)
def test_what_no_browser_would_name_is_refused_at_the_start(origin: str, tmp_path: Path) -> None:
    said = "is no origin of a page: write it as browsers do, such as https://shop.example, in lower case"
    with pytest.raises(ValidationError, match=said):
        Settings(allowed_origins=(origin,))
    key = {"name": "shop", "roles": ["write"], "hash": hash_of(b"k"), "origins": [origin]}
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": [key]}))
    with pytest.raises(ConfigurationError, match=said):
        read_keys(tmp_path / "keys.yaml")


def test_a_key_that_sends_no_events_names_no_origins(tmp_path: Path) -> None:
    key = {"name": "ops", "roles": ["operator"], "hash": hash_of(b"k"), "origins": [SHOP]}
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": [key]}))
    with pytest.raises(ConfigurationError, match="origins are of pages that send events: the key needs the role write"):
        read_keys(tmp_path / "keys.yaml")


def test_a_key_file_keeps_origins_and_says_nothing_where_there_are_none(tmp_path: Path) -> None:
    keys = [
        {"name": "shop", "roles": ["write"], "hash": hash_of(b"a"), "origins": [SHOP]},
        {"name": "till", "roles": ["write"], "hash": hash_of(b"b")},
    ]
    write_keys(tmp_path / "keys.yaml", KeyFile.model_validate({"keys": keys}))
    assert yaml.safe_load((tmp_path / "keys.yaml").read_text()) == {"keys": keys}
