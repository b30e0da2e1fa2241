"""Outcomes over HTTP: a provider's signed report is an event in the log, or something that says what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from connectors import clock
from connectors.callback import Callback, CallbackReader, Outcome, OutcomeType, Reading
from connectors.signature import parse_secrets, signed_headers
from orchestrator.adapters.memory_contact_book import MemoryContactBook
from orchestrator.core.event import OUTCOMES
from orchestrator.errors import EventRefused, StoreUnavailable
from orchestrator.gateway.app import create_app
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.in_flight import InFlight
from orchestrator.gateway.outcomes import Reception
from orchestrator.roles.callbacks import desks_of
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.runtime.contacts import Contact, place_of
from orchestrator.runtime.intake import Intake, Limits, decode_dead_letter
from orchestrator.runtime.outcomes import Desk, OutcomeIntake, attributed
from orchestrator.runtime.ports import DEAD_LETTERS, ENGINE, EVENTS
from orchestrator.settings import Settings

SECRET = "whsec_" + "c2VjcmV0IG9mIGEgdGVzdCwgMjQgYnl0ZXMh"
OTHER = "whsec_" + "YW5vdGhlciBzZWNyZXQgb2YgYSB0ZXN0ISEh"
ADDRESS = "+4915112345678"
PATH = "/v1/outcomes/sms"
STOP = {"id": "m1", "type": "unsubscribed", "customer_id": "c1", "at_ms": 1_772_425_800_000}

ENTRIES = (
    ConnectorEntry("sms", "webhook", "sms", {"url": "https://sms.example/", "callback_secret_env": "SMS_SECRET"}),
    ConnectorEntry("voice", "voice", "call", {"base_url": "https://v.example/", "callback_secret_env": "SMS_SECRET"}),
    ConnectorEntry("broken", "webhook", "sms", {"url": "https://sms.example/", "callback_secret_env": "NOWHERE"}),
    ConnectorEntry("mute", "webhook", "sms", {"url": "https://sms.example/"}),
    ConnectorEntry("quiet", "webhook", "sms", {"url": "https://s.example/", "callback_secret_env": "${NAMED:-}"}),
    ConnectorEntry("log", "log", "webhook"),
)


class Plan:
    """A tracking plan that knows everything, but refuses what a test names."""

    refused: frozenset[str] = frozenset()

    def check(self, event_type: str, properties: Mapping[str, Any]) -> EventRefused | None:
        if event_type in self.refused:
            return EventRefused("wrong_property", "properties.x", "x is wrong", "Send another x.")
        return None


class Contacts(MemoryContactBook):
    available = True

    async def find(self, connector: str, address: str) -> Contact | None:
        if not self.available:
            raise StoreUnavailable("Redis does not answer.")
        return await super().find(connector, address)


class Lines:
    """Whose lines were freed; a switch for their being out of reach."""

    def __init__(self) -> None:
        self.freed: list[str] = []
        self.available = True

    async def release(self, action_id: str) -> bool:
        if not self.available:
            raise StoreUnavailable("Redis does not answer.")
        self.freed.append(action_id)
        return True


class Faulty:
    """A reader with a bug."""

    def read(self, callback: Callback) -> Reading:
        raise ZeroDivisionError


class Page:
    """A reader that answers as a mail program's page does, and shows what it was given."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []

    def read(self, callback: Callback) -> Reading:
        self.callbacks.append(callback)
        return Reading(body=b"<h1>Sure?</h1>", media_type="text/html; charset=utf-8")


@pytest.fixture
def plan() -> Plan:
    return Plan()


@pytest.fixture
def contacts() -> Contacts:
    return Contacts()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def intake(plan: Plan) -> Intake:
    return Intake(plan, "default", Limits(event_bytes_max=4_000))


@pytest.fixture
def reception(intake: Intake, contacts: Contacts, lines: Lines, page: Page) -> Reception:
    desks = desks_of(ENTRIES, {"SMS_SECRET": SECRET})
    odd: dict[str, CallbackReader] = {"faulty": Faulty(), "page": page}
    desks |= {name: Desk(connector=name, kind="email", reader=reader) for name, reader in odd.items()}
    return Reception(desks=lambda: desks, intake=OutcomeIntake(intake, contacts), release=lines.release)


@pytest.fixture
async def client(
    log: Any, known: Any, settings: Settings, in_flight: InFlight, intake: Intake, reception: Reception
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        Backend(
            log=log,
            customers=known,
            journeys=known,
            actions=known,
            dead_letters=known,
            rulebooks=known,
            readiness=known,
        ),
        intake,
        settings.model_copy(update={"allow_anonymous": True}),
        log_clock(log),
        in_flight=in_flight,
        outcomes=reception,
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as connected:
        yield connected


def log_clock(log: Any) -> Any:
    return log._clock


def signed(content: Any, secret: str = SECRET) -> dict[str, Any]:
    body = json.dumps(content).encode()
    return {"content": body, "headers": signed_headers(parse_secrets(secret), "msg", clock.now_s(), body)}


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def problem(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


def test_the_core_and_the_connectors_have_the_same_words() -> None:
    assert {one.value for one in OutcomeType} == OUTCOMES


async def test_a_signed_report_is_an_event_of_its_customer(client: httpx.AsyncClient, log: Any) -> None:
    before = counted("journey_outcomes_total", connector="sms", type="unsubscribed")
    response = await client.post(PATH, **signed({**STOP, "action_id": "a1", "properties": {"text": "STOP"}}))
    assert (response.status_code, response.content) == (200, b"")
    assert await log.values(EVENTS) == [
        {
            "id": "sms:m1",
            "type": "unsubscribed",
            "customer_id": "c1",
            "occurred_at": STOP["at_ms"],
            "properties": {"text": "STOP", "connector": "sms", "kind": "sms", "action_id": "a1"},
            "source": "connector:sms",
        }
    ]
    assert [one.producer for one in await log.read_range(EVENTS, 0, 0, 10)] == [ENGINE]
    assert counted("journey_outcomes_total", connector="sms", type="unsubscribed") == before + 1


async def test_a_provider_cannot_say_which_channel_it_is_nor_date_ahead(client: httpx.AsyncClient, log: Any) -> None:
    forged = {"kind": "email", "connector": "email"}
    await client.post(PATH, **signed({**STOP, "at_ms": 253_402_300_000_000, "properties": forged}))
    (event,) = await log.values(EVENTS)
    assert event["properties"] == {"kind": "sms", "connector": "sms"}
    assert event["occurred_at"] == log_clock(log).now_ms()


async def test_an_id_that_is_too_long_is_shortened_to_the_same_again(client: httpx.AsyncClient, log: Any) -> None:
    for _ in range(2):
        await client.post(PATH, **signed({**STOP, "id": "m" * 200}))
    first, second = await log.values(EVENTS)
    assert first["id"] == second["id"]
    assert len(first["id"]) == len("sms:") + 32


# ------------------------------------------------------------------------------------------------ whose it is


async def test_a_report_without_ids_is_its_of_whom_we_wrote_to_there(
    client: httpx.AsyncClient, log: Any, contacts: Contacts
) -> None:
    await contacts.remember([Contact(connector="sms", address=ADDRESS, customer_id="c7", at_ms=1)])
    response = await client.post(PATH, **signed({"id": "m1", "type": "unsubscribed", "address": ADDRESS}))
    assert response.status_code == 200
    (event,) = await log.values(EVENTS)
    assert event["customer_id"] == "c7"
    assert ADDRESS not in json.dumps(event)


async def test_a_report_of_an_action_is_its_of_whom_the_action_was_for(
    client: httpx.AsyncClient, log: Any, contacts: Contacts
) -> None:
    await contacts.remember([Contact(connector="sms", address=place_of("a1"), customer_id="c8", at_ms=1)])
    await contacts.remember([Contact(connector="sms", address=ADDRESS, customer_id="c7", at_ms=1)])
    report = {"id": "m1", "type": "message_bounced", "action_id": "a1", "address": ADDRESS}
    assert (await client.post(PATH, **signed(report))).status_code == 200
    (event,) = await log.values(EVENTS)
    assert (event["customer_id"], event["properties"]["action_id"]) == ("c8", "a1")
    assert ADDRESS not in json.dumps(event)


@pytest.mark.parametrize("known", [place_of("a1"), ADDRESS])
async def test_a_report_of_nobody_is_found_its_customer_when_it_is_sent_again(
    client: httpx.AsyncClient, log: Any, contacts: Contacts, known: str
) -> None:
    report = {"id": "m1", "type": "message_bounced", "action_id": "a1", "address": ADDRESS}
    await client.post(PATH, **signed(report))
    (written,) = await log.values(DEAD_LETTERS)
    letter = decode_dead_letter(json.dumps(written).encode())
    assert await attributed(letter, contacts) is letter
    await contacts.remember([Contact(connector="sms", address=known, customer_id="c8", at_ms=1)])
    claimed = json.loads((await attributed(letter, contacts)).value or b"")
    assert (claimed["id"], claimed["customer_id"]) == ("sms:m1", "c8")
    assert claimed["properties"] == {"connector": "sms", "kind": "sms", "action_id": "a1"}


@pytest.mark.parametrize(
    ("whom", "message"),
    [
        ({"address": ADDRESS}, "The report unsubscribed comes from an address that nobody has."),
        ({"action_id": "a1"}, "The report unsubscribed names an action that nobody knows."),
        ({"action_id": "a1", "address": ADDRESS}, "The report unsubscribed comes from an address that nobody has."),
    ],
)
async def test_a_report_of_nobody_is_kept_as_a_dead_letter(
    client: httpx.AsyncClient, log: Any, whom: dict[str, str], message: str
) -> None:
    before = counted("journey_events_refused_total", origin="gateway", code="customer_unknown")
    response = await client.post(PATH, **signed({"id": "m1", "type": "unsubscribed", **whom}))
    assert response.status_code == 200
    assert await log.values(EVENTS) == []
    (letter,) = await log.values(DEAD_LETTERS)
    assert (letter["origin"], letter["code"], letter["message"]) == ("gateway", "customer_unknown", message)
    assert letter["remedy"].startswith("Find the customer and send the event with their customer_id")
    assert counted("journey_events_refused_total", origin="gateway", code="customer_unknown") == before + 1


async def test_a_report_that_the_tracking_plan_refuses_is_kept_and_its_neighbours_are_taken(
    client: httpx.AsyncClient, log: Any, plan: Plan
) -> None:
    plan.refused = frozenset({"link_clicked"})
    reports = [STOP, {**STOP, "id": "m2", "type": "link_clicked"}, {**STOP, "id": "m3", "type": "message_read"}]
    assert (await client.post(PATH, **signed(reports))).status_code == 200
    assert [event["id"] for event in await log.values(EVENTS)] == ["sms:m1", "sms:m3"]
    assert [letter["code"] for letter in await log.values(DEAD_LETTERS)] == ["wrong_property"]


@pytest.mark.parametrize(
    ("case", "properties", "code"),
    [
        ("a surrogate on its own", {"text": "\ud800"}, "not_json"),
        ("nested too deeply", json.loads('{"a":' * 20 + "1" + "}" * 20), "too_deep"),
        ("too large", {"text": "x" * 4_000}, "too_large"),
        ("a number of 70 bits", {"n": 2**70}, "invalid_value"),
    ],
)
async def test_a_report_beyond_the_bounds_of_events_is_no_event(
    client: httpx.AsyncClient, log: Any, case: str, properties: dict[str, Any], code: str
) -> None:
    assert (await client.post(PATH, **signed({**STOP, "properties": properties}))).status_code == 200
    letters = [letter["code"] for letter in await log.values(DEAD_LETTERS)]
    assert letters == [code], case


# --------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("case", "request_", "status", "reason"),
    [
        ("unsigned", lambda: {"content": json.dumps(STOP)}, 401, "unsigned"),
        ("signed by another", lambda: signed(STOP, OTHER), 401, "unsigned"),
        ("of an unknown type", lambda: signed({**STOP, "type": "pigeon_arrived"}), 400, "not_understood"),
    ],
)
async def test_what_is_not_proved_or_not_understood_is_refused_and_counted(
    client: httpx.AsyncClient, log: Any, case: str, request_: Callable[[], dict[str, Any]], status: int, reason: str
) -> None:
    # A signature is good for five minutes, so each request is signed when it is sent.
    before = counted("journey_callbacks_refused_total", connector="sms", reason=reason)
    response = await client.post(PATH, **request_())
    assert response.status_code == status, case
    assert problem(response)["type"] == "urn:journey:problem:callback_refused"
    assert await log.values(EVENTS) == await log.values(DEAD_LETTERS) == []
    assert counted("journey_callbacks_refused_total", connector="sms", reason=reason) == before + 1


@pytest.mark.parametrize("connector", ["pigeon", "log", "mute", "quiet"])
async def test_a_connector_that_takes_no_reports_is_unknown_here(client: httpx.AsyncClient, connector: str) -> None:
    response = await client.post(f"/v1/outcomes/{connector}", **signed(STOP))
    assert response.status_code == 404
    assert problem(response)["detail"] == "No connector of this name takes reports."
    assert all(name not in response.text for name in ("broken", "faulty", "page", "sms", "voice"))


async def test_a_connector_whose_secret_is_missing_is_to_come_again_and_stops_nothing(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/v1/outcomes/broken", **signed(STOP))
    assert (response.status_code, problem(response)["detail"]) == (503, "Reports of broken cannot be read now.")
    event = {"id": "e", "type": "t", "customer_id": "c", "occurred_at": 1_772_425_800_000}
    assert (await client.post("/v1/events", json=event)).status_code == 202


def test_the_fault_of_a_desk_names_connector_setting_and_remedy() -> None:
    desks = desks_of(ENTRIES, {"SMS_SECRET": SECRET})
    assert desks["broken"].fault == (
        'connector "broken": setting "callback_secret_env" names the environment variable "NOWHERE", which is not '
        "set. Set NOWHERE, or leave callback_secret_env out."
    )
    assert [name for name, desk in desks.items() if desk.unconfigured] == ["mute", "quiet"]


def test_no_reader_gets_a_secret_of_the_engine() -> None:
    entry = ConnectorEntry("sms", "webhook", "sms", {"url": "https://x.example/", "callback_secret_env": "JOURNEY_KEY"})
    assert desks_of([entry], {"JOURNEY_KEY": SECRET})["sms"].reader is None


async def test_a_log_that_does_not_answer_acknowledges_nothing(client: httpx.AsyncClient, log: Any) -> None:
    log.available = False
    response = await client.post(PATH, **signed(STOP))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_contact_book_that_does_not_answer_acknowledges_nothing(
    client: httpx.AsyncClient, log: Any, contacts: Contacts
) -> None:
    contacts.available = False
    response = await client.post(PATH, **signed({"id": "m1", "type": "unsubscribed", "address": ADDRESS}))
    assert response.status_code == 503
    assert await log.values(DEAD_LETTERS) == []


async def test_a_reader_that_fails_is_to_be_called_again(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/outcomes/faulty", content=b"x")
    assert response.status_code == 500
    assert problem(response)["detail"] == ("The reader of faulty failed on this callback; the gateway's log says why.")


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [(b"x" * 20_001, {}, 413), (b"x", {"content-encoding": "gzip"}, 415)],
)
async def test_a_body_is_bounded_and_as_it_was_signed(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    response = await client.post(PATH, content=content, headers=headers)
    assert response.status_code == status
    problem(response)


async def test_beyond_what_the_route_holds_it_says_come_again(client: httpx.AsyncClient, reception: Reception) -> None:
    reception.in_flight.requests = reception.in_flight.requests_max
    response = await client.post(PATH, **signed(STOP))
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


async def test_those_who_send_reports_without_end_keep_no_event_out(
    client: httpx.AsyncClient, in_flight: InFlight, reception: Reception
) -> None:
    """Whoever reports shows nothing before the body, so anybody can begin one."""
    places = reception.in_flight.requests_max
    begun, rest = asyncio.Semaphore(0), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        begun.release()
        await rest.wait()

    slow = [asyncio.create_task(client.post(PATH, content=endless())) for _ in range(places)]
    for _ in slow:
        await begun.acquire()
    assert (await client.post(PATH, **signed(STOP))).status_code == 429
    assert in_flight.requests == 0
    event = {"id": "e", "type": "t", "customer_id": "c", "occurred_at": 1_772_425_800_000}
    assert (await client.post("/v1/events", json=event)).status_code == 202
    rest.set()
    assert {answer.status_code for answer in await asyncio.gather(*slow)} == {401}
    assert reception.in_flight.requests == 0


# ---------------------------------------------------------------------------------------------------- lines


def call(event_type: str, action_id: str, **properties: Any) -> dict[str, Any]:
    return {
        "id": f"{action_id}{event_type}",
        "type": event_type,
        "customer_id": "c1",
        "action_id": action_id,
        **properties,
    }


CALLS: Sequence[dict[str, Any]] = (
    call("call_answered", "a1"),
    call("call_ended", "a1", properties={"duration_s": 4, "result": "booked"}),
    call("call_missed", "a2", properties={"reason": "busy"}),
)


async def test_a_call_that_is_over_frees_its_line(client: httpx.AsyncClient, lines: Lines) -> None:
    assert (await client.post("/v1/outcomes/voice", **signed(list(CALLS)))).status_code == 200
    assert lines.freed == ["a1", "a2"]


async def test_a_line_that_cannot_be_freed_does_not_fail_the_report(
    client: httpx.AsyncClient, log: Any, lines: Lines
) -> None:
    lines.available = False
    assert (await client.post("/v1/outcomes/voice", **signed(list(CALLS)))).status_code == 200
    assert len(await log.values(EVENTS)) == 3


async def test_no_line_is_freed_before_the_log_has_the_event(client: httpx.AsyncClient, log: Any, lines: Lines) -> None:
    log.available = False
    assert (await client.post("/v1/outcomes/voice", **signed(list(CALLS)))).status_code == 503
    assert lines.freed == []


# ---------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_reader_sees_the_request_as_it_came_and_answers_with_its_own_page(
    client: httpx.AsyncClient, page: Page, method: str
) -> None:
    response = await client.request(method, "/v1/outcomes/page?u=a%20b&u=c", headers={"X-Name": "v"})
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.headers["referrer-policy"] == "no-referrer"
    (seen,) = page.callbacks
    assert (seen.method, seen.path, seen.query) == (method, "/v1/outcomes/page", "u=a%20b&u=c")
    assert seen.headers["x-name"] == "v"


async def test_the_route_is_described(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]["/v1/outcomes/{connector}"]
    assert set(described) == {"get", "post"}
    assert described["post"]["security"] == [{}]


async def test_an_outcome_without_a_moment_happened_now(client: httpx.AsyncClient, log: Any) -> None:
    report = Outcome(id="m1", type=OutcomeType.MESSAGE_READ, customer_id="c1")
    await client.post(PATH, **signed({"id": report.id, "type": report.type.value, "customer_id": "c1"}))
    (event,) = await log.values(EVENTS)
    assert event["occurred_at"] == log_clock(log).now_ms()
