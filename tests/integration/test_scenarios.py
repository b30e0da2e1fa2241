"""The acceptance scenarios that need connectors, on the engine that ``journey dev`` runs, against servers that listen.

Calls go to a telephone exchange that records when each call began and ended, texts to Twilio's API, mails to an SMTP
server, all of them on loopback. Scenarios 1, 2, 3, 10, 11 and 12; tests/spec/test_scenarios.py tells the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import textwrap
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from load_tests.servers.providers.smtp import SmtpServer
from load_tests.servers.providers.twilio import TwilioServer
from load_tests.traffic import zone_with_hour
from orchestrator.adapters.clock import SystemClock
from orchestrator.gateway.server import GatewayServer
from orchestrator.roles.embedded import Embedded, app_of, embedded
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

ACCOUNT, TOKEN, SENDER = "AC" + "0" * 32, "a token of a test", "+14155550100"
LINES, RATE, PER_S = 20, 100, 2.0

FILES = {
    "tracking_plan.yaml": """
        events:
          lead_submitted: {properties: {lead_id: string, phone: string, source: string, timezone: string, vip: boolean}}
          visit_booked: {properties: {lead_id: string}}
          payment_failed: {properties: {amount: number}}
          newsletter_wanted: {properties: {issue: number}}
        traits: {phone: string, email: string, timezone: string}
        consents: {callback: Calls, service: Service messages}
    """,
    "connectors.yaml": """
        connectors:
          voice:
            type: voice
            kind: call
            settings: {base_url: "${EXCHANGE_URL}"}
            delivery:
              rate: {max: 100, per: 2s}
              attempts_max: 4
              backoff_first: 100ms
              backoff_max: 300ms
              breaker: {failures: 3, pause: 1s}
            capacity: {lines: 20}
          sms:
            type: sms
            kind: sms
            settings: {base_url: "${TWILIO_URL}", account_sid: ACCOUNT, auth_token_env: TWILIO_TOKEN, sender: "SENDER"}
            delivery: {backoff_first: 100ms, backoff_max: 300ms}
          email:
            type: email
            kind: email
            settings: {host: 127.0.0.1, port: SMTP_PORT, security: none, from_address: shop@example.com, timeout_s: 10}
            delivery: {attempts_max: 3, backoff_first: 100ms, backoff_max: 300ms}
    """,
    "templates.yaml": """
        templates:
          call:
            kind: call
            params:
              phone: "{{ event.phone }}"
              agent: sales
              context: {source: "{{ event.source }}", stage: "{{ run.stage }}"}
          sorry: {kind: sms, params: {to: "{{ event.phone }}", text: "We call you back in the morning."}}
          reminder: {kind: sms, params: {to: "{{ profile.phone }}", text: "Your payment of {{ event.amount }} failed."}}
          news: {kind: email, params: {to: "{{ profile.email }}", subject: "Issue {{ event.issue }}", text: "News."}}
    """,
    "lead.yaml": """
        journey: lead
        title: From lead to visit
        key: event.lead_id
        stages:
          new: {on: {event: lead_submitted}}
          booked: {on: {event: visit_booked}, goal: true}
        rules:
          - id: callback
            title: Call at once
            on: {enter: new}
            when: {field: event.vip, op: ne, value: true, default: false}
            do:
              - send:
                  connector: voice
                  template: call
                  deadline: 5m
                  fallback: [{connector: sms, template: sorry, consent: [service]}]
            limits:
              consent: [callback]
              quiet_hours: {from: "21:00", to: "08:00", zone: profile, then: defer, kinds: [call]}
          - id: callback-vip
            title: Call the best ones first
            on: {enter: new}
            when: {field: event.vip, op: eq, value: true}
            do: [{send: {connector: voice, template: call, priority: 90, deadline: 5m}}]
            limits: {consent: [callback]}
    """,
    "care.yaml": """
        journey: care
        title: Care
        stages: {touched: {on: {event: payment_failed}}}
        rules:
          - id: remind
            title: Remind of the payment, twice a week at most
            on: {event: payment_failed}
            do: [{send: {connector: sms, template: reminder}}]
            limits: {consent: [service], cap: {max: 2, per: 7d, of: "kind:sms"}}
          - id: news
            title: The newsletter
            on: {event: newsletter_wanted}
            acts: anytime
            do: [{send: {connector: email, template: news}}]
            limits: {consent: [service]}
    """,
}

now_ms = SystemClock().now_ms


@dataclass
class Exchange:
    """A telephone exchange over the voice API: it keeps ids, refuses when told to, and notes who rang when."""

    talks_s: float = 0.0
    answers: list[int] = field(default_factory=list)  # statuses to answer with before behaving
    takes_anyway: bool = False
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    spans: list[tuple[float, float]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/calls", self._call, methods=["POST"])])

    async def _call(self, request: Request) -> Response:
        body = await request.json()
        assert request.headers["idempotency-key"] == body["call_id"]
        began = time.monotonic()
        self.keys[body["call_id"]] += 1
        status = self.answers.pop(0) if self.answers else 202
        if status == 202 or self.takes_anyway:
            self.calls.setdefault(body["call_id"], body)
        await asyncio.sleep(self.talks_s)
        self.spans.append((began, time.monotonic()))
        return JSONResponse({"reference": f"r-{body['call_id']}"}, status)


@dataclass
class Town:
    """A running engine and the servers around it."""

    client: httpx.AsyncClient
    exchange: Exchange
    twilio: TwilioServer
    smtp: SmtpServer

    @property
    def texts(self) -> list[Mapping[str, str]]:
        return [one["form"] for one in self.twilio.created.values()]

    @property
    def rung(self) -> list[str]:
        return [call["customer_id"] for call in self.exchange.calls.values()]

    async def send(self, *events: dict[str, Any]) -> None:
        answer = await self.client.post("/v1/events", json=list(events))
        assert answer.status_code == 202, answer.text

    async def ledger(self, customer: str) -> list[tuple[str, str, str]]:
        timeline = (await self.client.get(f"/v1/customers/{customer}/timeline")).json()
        decisions = [entry["decision"] for entry in timeline["entries"] if entry["decision"]]
        return [(one["rule"], one["outcome"], one["reason"]) for one in decisions]

    async def happened(self, customer: str) -> list[dict[str, Any]]:
        timeline = (await self.client.get(f"/v1/customers/{customer}/timeline")).json()
        return [entry["event"] for entry in timeline["entries"] if entry["event"]]


async def until(condition: Callable[[], Any], within_s: float = 30) -> Any:
    async with asyncio.timeout(within_s):
        while True:
            found = condition()
            found = await found if isinstance(found, Awaitable) else found
            if found:
                return found
            await asyncio.sleep(0.02)


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    exchange, smtp = Exchange(), SmtpServer()
    twilio = TwilioServer(account_sid=ACCOUNT, auth_token=TOKEN, senders=[SENDER])
    async with (
        GatewayServer(exchange.app()) as exchange_server,
        GatewayServer(twilio) as twilio_server,
        smtp.served(),
    ):
        monkeypatch.setenv("TWILIO_TOKEN", TOKEN)
        monkeypatch.setenv("EXCHANGE_URL", exchange_server.url)
        monkeypatch.setenv("TWILIO_URL", twilio_server.url)
        settings = Settings(rules=rules_in(tmp_path / "rules", smtp.port), data=tmp_path / "data")
        async with running(settings) as engine:
            transport = httpx.ASGITransport(app=app_of(engine))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                yield Town(client, exchange, twilio, smtp)


def rules_in(folder: Path, smtp_port: int) -> Path:
    folder.mkdir()
    for name, text in FILES.items():
        filled = text.replace("ACCOUNT", ACCOUNT).replace("SENDER", SENDER).replace("SMTP_PORT", str(smtp_port))
        (folder / name).write_text(textwrap.dedent(filled))
    return folder


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Embedded]:
    async with embedded(settings, "http://127.0.0.1:9") as engine:
        work = asyncio.create_task(engine.run())
        yield engine
        assert not work.done(), work.exception()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def event(name: str, event_type: str, customer: str, context: Mapping[str, Any] | None = None, **said: Any) -> Any:
    return {
        "id": name,
        "type": event_type,
        "customer_id": customer,
        "occurred_at": now_ms(),
        "properties": said,
        "context": dict(context or {}),
    }


def lead(customer: str, *, hour: int = 12, zone: str | None = "", **said: Any) -> Any:
    """A lead at a local hour, who agrees to calls and texts; ``zone`` None leaves the zone to be guessed."""
    agreed = {"consent": {"categoryPreferences": {"callback": True, "service": True}}}
    known = {} if zone is None else {"timezone": zone or zone_with_hour(hour, now_ms())}
    facts = {"lead_id": f"{customer}-lead", "phone": "+919812345678", "source": "portal", **known, **said}
    return event(f"{customer}-asks", "lead_submitted", customer, agreed, **facts)


def customer_with(customer: str, **traits: str) -> list[Any]:
    return [
        event(f"{customer}-is", "identify", customer, **traits),
        event(f"{customer}-may", "consent_changed", customer, service=True),
    ]


# -------------------------------------------------------------------------------------------- 1: a lead at noon


async def test_a_lead_at_noon_is_called_with_everything_the_agent_needs(town: Town) -> None:
    await town.send(lead("asha"))
    await until(lambda: town.exchange.calls)
    ((call_id, call),) = town.exchange.calls.items()
    version = (await town.client.get("/v1/rulebooks")).json()[0]["version"]
    assert (call["to"], call["agent"], call["context"]) == (
        "+919812345678",
        "sales",
        {"source": "portal", "stage": "new"},
    )
    assert (call["metadata"]["rule"], call["metadata"]["version"], call["metadata"]["stage"]) == (
        "callback",
        version,
        "new",
    )
    assert call["deadline_at"] == call["decided_at"] + 5 * 60_000
    assert town.exchange.keys == {call_id: 1}


# ----------------------------------------------------------------------------------------- 2: a lead at ten


async def test_a_lead_at_ten_in_the_evening_is_texted_now_and_called_in_the_morning(town: Town) -> None:
    await town.send(lead("mei", hour=22), lead("jun", zone=None, phone="+999812345678"))
    await until(lambda: len(town.texts) == 2)
    assert {(text["To"], text["Body"]) for text in town.texts} == {
        ("+919812345678", "We call you back in the morning."),
        ("+999812345678", "We call you back in the morning."),
    }
    assert ("callback", "deferred", "quiet_hours") in await town.ledger("mei")
    wake = (await town.client.get("/v1/customers/mei")).json()["next_wake_at"]
    assert wake is not None
    # Nobody knows the other one's zone: that counts as quiet, and nobody knows when it ends.
    assert ("callback", "blocked", "zone_unknown") in await town.ledger("jun")
    assert town.exchange.calls == {}


# --------------------------------------------------------------------------------------------- 3: the flood


async def test_a_flood_of_callbacks_never_exceeds_lines_or_rate_and_keeps_its_order(town: Town) -> None:
    """800 callbacks over 20 lines and 100 in two seconds, which stand for an hour; 40 of them convert meanwhile."""
    town.exchange.talks_s = 0.3
    ordinary = [lead(f"plain-{number}") for number in range(700)]
    for start in range(0, len(ordinary), 100):
        await town.send(*ordinary[start : start + 100])
    best = [lead(f"vip-{number}", vip=True) for number in range(100)]
    await town.send(*best)
    converted = {f"plain-{number}" for number in range(660, 700)}
    await town.send(*(event(f"{one}-books", "visit_booked", one, lead_id=f"{one}-lead") for one in sorted(converted)))
    await until(lambda: len(town.exchange.calls) == 760, within_s=120)

    assert len(set(town.rung)) == 760
    assert converted.isdisjoint(town.rung)
    assert ("callback", "withdrawn", "goal_reached") in await town.ledger("plain-699")
    began = sorted(begin for begin, _ in town.exchange.spans)
    # The exchange sees a call later than the dispatcher sent it, by a moment that varies: that is the tolerance.
    for first, last in zip(began, began[RATE:], strict=False):
        assert last - first >= PER_S - 0.5
    moments = sorted([(begin, 1) for begin, _ in town.exchange.spans] + [(end, -1) for _, end in town.exchange.spans])
    busy = most = 0
    for _, change in moments:
        busy += change
        most = max(most, busy)
    assert most <= LINES
    # Once they stood in the queue the best went first: between them rang only who had been let through before.
    places = [place for place, one in enumerate(town.rung) if one.startswith("vip-")]
    assert places[-1] - places[0] < 100 + 2 * LINES
    assert places[-1] < 760 - 300


# -------------------------------------------------------------------------------------------------- 10: caps


async def test_fifty_events_at_once_make_two_texts_and_failed_ones_make_room(town: Town) -> None:
    town.twilio.landlines.add("+4915112345678")
    await town.send(*customer_with("lena", phone="+4915112345678"))
    await town.send(*(event(f"fails-{number}", "payment_failed", "lena", amount=number) for number in range(50)))

    async def both_failed() -> bool:
        failed = [one for one in await town.happened("lena") if one["type"] == "action_failed"]
        return len(failed) == 2

    await until(both_failed)
    assert town.texts == []
    ledger = Counter(await town.ledger("lena"))
    assert ledger["remind", "sent", "triggered"] == 2
    assert ledger["remind", "blocked", "cap_reached"] == 48

    await town.send(event("moves", "identify", "lena", phone="+4915187654321"))
    await town.send(*(event(f"again-{number}", "payment_failed", "lena", amount=number) for number in range(50)))
    await until(lambda: len(town.texts) == 2)

    async def settled() -> bool:
        return Counter(await town.ledger("lena"))["remind", "sent", "triggered"] == 4

    await until(settled)
    assert {text["Body"] for text in town.texts} == {"Your payment of 0 failed.", "Your payment of 1 failed."}


# ----------------------------------------------------------------------------------- 11: exactly one effect


async def test_duplicates_and_an_answer_that_was_lost_make_one_call_under_one_key(town: Town) -> None:
    town.exchange.answers, town.exchange.takes_anyway = [503], True
    asked = lead("omar")
    await town.send(asked, asked)
    await town.send(asked)
    await until(lambda: sum(town.exchange.keys.values()) == 2)

    async def delivered() -> bool:
        return "action_delivered" in [one["type"] for one in await town.happened("omar")]

    await until(delivered)
    assert town.rung == ["omar"]
    assert list(town.exchange.keys.values()) == [2]


# ---------------------------------------------------------------------------------------- 12: a connector down


async def test_a_mail_server_that_is_down_is_left_alone_and_its_mail_sent_again_later(town: Town) -> None:
    town.smtp.replies["DATA"] = "451 4.3.0 try later"
    await town.send(*customer_with("noor", email="noor@example.com"))
    await town.send(event("wants", "newsletter_wanted", "noor", issue=7), lead("tom"))
    await until(lambda: town.rung == ["tom"])

    async def letters() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await town.client.get("/v1/dead-letters")).json()
        return found

    (letter,) = await until(letters)
    assert (letter["origin"], letter["code"]) == ("dispatcher", "attempts_exhausted")
    history = json.loads(letter["value"])["history"]
    assert [one["result"] for one in history] == ["retry", "retry", "retry"]
    assert "451 4.3.0 try later" in history[0]["detail"]

    town.smtp.replies.clear()
    again = await town.client.post("/v1/dead-letters/redrive", json={"ids": [letter["id"]]})
    assert again.status_code == 200, again.text
    await until(lambda: town.smtp.mails)
    (mail,) = town.smtp.mails
    assert (mail.recipient, mail.message["Subject"]) == ("noor@example.com", "Issue 7")


async def test_a_refusal_is_not_tried_again_and_the_text_goes_out_instead(town: Town) -> None:
    town.exchange.answers = [422, 422, 422]
    await town.send(lead("wei"))
    await until(lambda: town.texts)
    assert list(town.exchange.keys.values()) == [1]
    assert [text["Body"] for text in town.texts] == ["We call you back in the morning."]


async def test_a_mail_server_that_hangs_holds_nobody_else_up(town: Town) -> None:
    """Every mail waits ten seconds for nothing; all texts and calls are through before the first of them gives up."""
    town.smtp.silent_at = "MAIL"
    names = [f"reader-{number}" for number in range(20)]
    for name in names:
        await town.send(*customer_with(name, email=f"{name}@example.com", phone="+4915112345678"))
    await town.send(*(event(f"{name}-wants", "newsletter_wanted", name, issue=1) for name in names))
    await until(lambda: [stage for stage, _ in town.smtp.commands].count("MAIL") >= 5)
    await town.send(*(event(f"{name}-fails", "payment_failed", name, amount=5) for name in names))
    await town.send(*(lead(f"caller-{number}") for number in range(20)))
    await until(lambda: len(town.texts) == 20 and len(town.exchange.calls) == 20)
    assert town.smtp.mails == []
    assert not [one for name in names for one in await town.happened(name) if one["type"] == "action_failed"]
