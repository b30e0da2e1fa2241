"""The routes of a customer's past, over plain lists."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.errors import StoreUnavailable
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.explain import RULES_EXPLAINED_MAX, explain_router
from orchestrator.gateway.page import PAGE_BYTES_MAX, Page
from orchestrator.gateway.past_views import TriggerView
from orchestrator.gateway.views import ActionView, action_view
from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.replay import replay
from orchestrator.runtime.rulebooks import compile_loaded
from orchestrator.runtime.timeline import History
from orchestrator.settings import Settings

START_MS = 1_772_425_800_000
NOW_MS = START_MS + 3_600_000

FILES = {
    "tracking_plan.yaml": "events: {cart_updated: {properties: {total: number}}}\nconsents: {marketing: Offers}\n",
    "connectors.yaml": "connectors: {sms: {type: webhook, kind: sms, settings: {url: 'http://127.0.0.1:1'}}}\n",
    "templates.yaml": "templates: {text: {kind: sms, params: {text: hello}}}\n",
    "rules.yaml": """
        journey: purchase
        title: From basket to order
        stages: {basket: {on: {event: cart_updated}}}
        rules:
          - id: big-basket
            title: Thank for a big basket
            on: {event: cart_updated}
            when: {field: event.total, op: gte, value: 40}
            do: [{send: {connector: sms, template: text}}]
    """,
}


class StandingClock:
    def now_ms(self) -> int:
        return NOW_MS

    async def sleep(self, seconds: float) -> None:
        pass


class AnyEvent:
    def check(self, event_type: str, properties: Any) -> None:
        return None


class Known:
    """One customer with two baskets; everything else a gateway needs is not asked for."""

    available = True

    def __init__(self) -> None:
        loaded = load_rulebook_files({name: textwrap.dedent(text).encode() for name, text in FILES.items()})
        assert loaded.ok, loaded.problems
        self._rulebook = compile_loaded(loaded, "default")
        self.events = [_basket("e1", 0, 80), _basket("e2", 60_000, 20)]
        self._done = replay(self._rulebook, self.events)
        self.customer_id = "c1"

    def rulebooks(self) -> Known:
        return self

    def in_force_at(self, at_ms: int) -> Rulebook:
        return self._rulebook

    def version(self, version: str) -> Rulebook | None:
        return self._rulebook if version == self._rulebook.version else None

    async def history(self, customer_id: str) -> History:
        if not self.available:
            raise StoreUnavailable("Redis does not answer.")
        known = customer_id == self.customer_id
        events, decisions = (self.events, self._done.records) if known else ([], [])
        return History(customer_id, events, decisions, [], bounded=False)

    async def state(self, customer_id: str) -> CustomerState | None:
        return self._done.states["c1"] if customer_id == self.customer_id else None

    async def recent(self, limit: int, customer_id: str | None, before: str | None = None) -> Page[ActionView]:
        return Page([action_view(action) for action in self._done.actions])


def _basket(event_id: str, after_ms: int, total: int) -> Event:
    at_ms = START_MS + after_ms
    return Event(
        id=event_id,
        type="cart_updated",
        customer_id="c1",
        occurred_at_ms=at_ms,
        received_at_ms=at_ms,
        properties={"total": total},
    )


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
async def client(known: Known) -> AsyncIterator[httpx.AsyncClient]:
    backend = Backend(
        log=known,  # type: ignore[arg-type]
        customers=known,
        journeys=known,  # type: ignore[arg-type]
        actions=known,
        dead_letters=known,  # type: ignore[arg-type]
        rulebooks=known,  # type: ignore[arg-type]
        readiness=known,  # type: ignore[arg-type]
    )
    router = explain_router(known, known, known, StandingClock())
    intake = Intake(AnyEvent(), "default", Limits())
    app = create_app(backend, intake, Settings(), StandingClock(), routers=[router])
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as connected:
        yield connected


async def test_the_timeline_has_events_and_decisions_newest_first(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/customers/c1/timeline")).json()
    assert [(entry["at"], entry["text"]) for entry in answer["entries"]] == [
        ("2026-03-02T04:31:00Z", "cart_updated: total 20"),
        ("2026-03-02T04:30:00Z", "big-basket sent: nothing stood in the way"),
        ("2026-03-02T04:30:00Z", "cart_updated: total 80"),
    ]
    assert answer["whole"] is True
    assert answer["entries"][1]["decision"]["action_id"]
    assert answer["entries"][2]["event"]["properties"] == {"total": 80}


async def test_a_timeline_may_be_cut_to_the_newest(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/customers/c1/timeline", params={"limit": 1})).json()
    assert [entry["text"] for entry in answer["entries"]] == ["cart_updated: total 20"]


@pytest.mark.parametrize("limit", [1, 3, 400])
async def test_pages_of_a_timeline_are_bounded_and_together_the_whole(
    client: httpx.AsyncClient, known: Known, limit: int
) -> None:
    known.events = [_basket(f"e{number}", number // 7 * 1_000, total=number) for number in range(100)]
    for event in known.events[::9]:
        event.properties["note"] = "x" * 300_000
    whole = (await client.get("/v1/customers/c1/export")).json()["timeline"]["entries"]
    shown: list[Any] = []
    following = f"/v1/customers/c1/timeline?limit={limit}"
    while following:
        response = await client.get(following)
        entries = response.json()["entries"]
        assert 0 < len(entries) <= limit
        assert len(entries) == 1 or len(response.content) < PAGE_BYTES_MAX + 1_000
        shown += entries
        following = response.links.get("next", {}).get("url", "")
    assert shown == whole
    assert len(shown) > 100


@pytest.mark.parametrize("before", ["", "x", "1", "1-", "-1", "1-x"])
async def test_a_timeline_begins_where_a_page_led_to(client: httpx.AsyncClient, before: str) -> None:
    response = await client.get("/v1/customers/c1/timeline", params={"before": before})
    assert (response.status_code, response.json()["field"]) == (400, "before")


async def test_an_explanation_has_the_sentence_the_conditions_and_the_moment(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/customers/c1/explain", params={"rule": "big-basket"})).json()
    (found,) = answer["explanations"]
    assert found["sentence"] == (
        "big-basket did not fire at 2026-03-02 04:31:00 UTC: event.total >= 40 is false (it is 20)."
    )
    assert (found["standing"], found["at"], found["cause"]) == ("conditions_failed", "2026-03-02T04:31:00Z", "e2")
    assert found["conditions"] == {
        "text": "event.total >= 40",
        "truth": "false",
        "reading": "it is 20",
        "because": "",
        "parts": [],
    }


@pytest.mark.parametrize("at", ["2026-03-02T10:00:30+05:30", str(START_MS + 30_000)])
async def test_an_earlier_moment_may_be_asked_about(client: httpx.AsyncClient, at: str) -> None:
    answer = (await client.get("/v1/customers/c1/explain", params={"at": at})).json()
    assert [one["standing"] for one in answer["explanations"]] == ["fired"]
    assert answer["at"] == "2026-03-02T04:30:30Z"


async def test_the_first_moments_of_1970_are_no_seconds(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/customers/c1/explain", params={"at": "20000"})).json()
    assert answer["at"] == "1970-01-01T00:00:20Z"


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9" * 5_000, "\u00b2", "253402300800000", "-1"])
async def test_what_lies_outside_all_moments_cannot_be_asked_about(client: httpx.AsyncClient, at: str) -> None:
    answer = await client.get("/v1/customers/c1/explain", params={"at": at})
    assert (answer.status_code, answer.json()["field"], answer.json()["detail"]) == (
        400,
        "at",
        f"{at} is not a moment.",
    )
    assert answer.json()["remedy"] == (
        "Send RFC 3339 with its offset, such as 2026-03-02T10:30:00+05:30, or epoch milliseconds; "
        "no year before 1970 or after 9988."
    )


def test_a_moment_that_nothing_can_write_is_shown_as_the_last_that_can_be() -> None:
    """States of before may hold such a timer, and its customer's page must open all the same."""
    shown = TriggerView(text="dwell", state="armed", due_at_ms=10**15)
    assert shown.model_dump_json() == '{"text":"dwell","state":"armed","due_at":"9999-12-31T23:59:59.999000Z"}'


async def test_an_export_has_profile_state_timeline_and_actions(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/customers/c1/export")).json()
    assert answer["customer"]["customer_id"] == "c1"
    assert answer["state"]["runs"]["purchase/"]["stage"] == "basket"
    assert len(answer["state"]["seen"]) == 2 * 16
    assert len(answer["timeline"]["entries"]) == 3
    assert [action["rule"] for action in answer["actions"]] == ["big-basket"]


@pytest.mark.parametrize(
    ("path", "status", "code", "detail"),
    [
        ("nobody/timeline", 404, "unknown_customer", 'There is no customer "nobody".'),
        ("nobody/explain", 404, "unknown_customer", 'There is no customer "nobody".'),
        ("nobody/export", 404, "unknown_customer", 'There is no customer "nobody".'),
        ("c1/explain?rule=bigbasket", 404, "unknown_rule", 'There is no rule "bigbasket" in force.'),
        ("c1/explain?at=yesterday", 400, "invalid_request", "yesterday is not a moment."),
        ("c1/explain?at=2026-03-02T10:00:00", 400, "invalid_request", "2026-03-02T10:00:00 is not a moment."),
        ("c1/explain?at=2036-03-02T10:00:00Z", 400, "invalid_request", "2036-03-02T10:00:00Z lies in the future."),
        (
            "c1/timeline?limit=0",
            400,
            "invalid_request",
            "limit: Input should be greater than or equal to 1.",
        ),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(
    client: httpx.AsyncClient, path: str, status: int, code: str, detail: str
) -> None:
    answer = await client.get(f"/v1/customers/{path}")
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["detail"]) == (status, f"urn:journey:problem:{code}", detail)


@pytest.mark.parametrize("route", ["timeline", "explain", "export"])
@pytest.mark.parametrize("customer", ["a/b", "x/timeline", "c1/", "..", "a%2Fb"])
async def test_an_id_with_slashes_is_one_part_of_the_path(
    client: httpx.AsyncClient, known: Known, customer: str, route: str
) -> None:
    known.customer_id = customer
    encoded = quote(customer, safe="").replace(".", "%2E")
    answer = await client.get(f"/v1/customers/{encoded}/{route}")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["timeline"] if route == "export" else found)["customer_id"] == customer
    known.customer_id = "c1"
    assert (await client.get(f"/v1/customers/{encoded}/{route}")).json()["detail"] == (
        f'There is no customer "{customer}".'
    )


async def test_a_timeline_that_does_not_answer_is_unavailable(client: httpx.AsyncClient, known: Known) -> None:
    known.available = False
    assert (await client.get("/v1/customers/c1/explain")).status_code == 503


async def test_the_openapi_document_describes_the_routes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for path in ("timeline", "explain", "export"):
        assert "get" in document["paths"][f"/v1/customers/{{customer_id}}/{path}"]
    schema = document["components"]["schemas"]["ExplanationView"]
    assert all("description" in field for field in schema["properties"].values())


class TestManyRules:
    @pytest.fixture
    def known(self) -> Known:
        known, files = Known(), {name: textwrap.dedent(text) for name, text in FILES.items()}
        (journey,) = (name for name, text in files.items() if "big-basket" in text)
        head, _, rule = files[journey].partition("  - id: big-basket")
        rules = [f"  - id: basket-{number:03}{rule}" for number in range(RULES_EXPLAINED_MAX + 50)]
        files[journey] = head + "".join(rules)
        loaded = load_rulebook_files({name: text.encode() for name, text in files.items()})
        assert loaded.ok, loaded.problems
        known._rulebook = compile_loaded(loaded, "default")
        return known

    async def test_explanations_of_all_rules_come_in_pages_and_together_are_whole(
        self, client: httpx.AsyncClient, known: Known
    ) -> None:
        shown, numbers, following = [], [], "/v1/customers/c1/explain"
        while following:
            response = await client.get(following)
            found = response.json()["explanations"]
            shown += [one["rule"] for one in found]
            numbers.append(len(found))
            assert len(response.content) < PAGE_BYTES_MAX + 2_000
            following = response.links.get("next", {}).get("url", "")
        assert shown == list(known.in_force_at(NOW_MS).rules)
        assert len(numbers) > 1
        refused = await client.get("/v1/customers/c1/explain", params={"before": "nothing"})
        assert (refused.status_code, refused.json()["field"]) == (400, "before")

    async def test_a_refusal_does_not_name_all_the_rules_there_are(self, client: httpx.AsyncClient) -> None:
        refused = await client.get("/v1/customers/c1/explain", params={"rule": "nothing"})
        assert refused.status_code == 404
        assert refused.json()["remedy"].endswith("basket-048, basket-049 and 200 more.")
