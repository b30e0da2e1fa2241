"""The loop closes: a text goes out over Twilio's API, Twilio reports back, and the next text is not sent."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from load_tests.servers.providers.post import Post
from load_tests.servers.providers.twilio import TwilioServer
from orchestrator.adapters.clock import SystemClock
from orchestrator.gateway.server import GatewayServer
from orchestrator.roles.embedded import Embedded, app_of, embedded
from orchestrator.runtime.contacts import Contact
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

ACCOUNT, TOKEN, SENDER = "AC" + "0" * 32, "a token of a test", "+14155550100"
PHONE = "+4915112345678"
CALLBACK = "https://journeys.example/v1/outcomes/sms"
FILES = {
    "tracking_plan.yaml": """
        events: {payment_failed: {properties: {amount: number}}}
        traits: {phone: string}
        consents: {service: Service messages}
    """,
    "connectors.yaml": """
        connectors:
          sms:
            type: sms
            kind: sms
            settings:
              base_url: "${RECEIVER_URL}"
              account_sid: ACCOUNT
              auth_token_env: TWILIO_TOKEN
              sender: "SENDER"
              callback_url: CALLBACK
    """,
    "templates.yaml": """
        templates:
          reminder: {kind: sms, params: {to: "{{ profile.phone }}", text: "Your payment of {{ event.amount }} failed."}}
          farewell: {kind: sms, params: {to: "{{ profile.phone }}", text: "We cannot reach you."}}
    """,
    "payments.yaml": """
        journey: payments
        title: Payments
        stages: {failing: {on: {event: payment_failed}}}
        rules:
          - id: remind
            title: Remind of the payment
            on: {event: payment_failed}
            do: [{send: {connector: sms, template: reminder}}]
            limits: {consent: [service]}
          - id: lost-touch
            title: Nothing but a line in the ledger
            on: {event: message_bounced, where: {field: event.reason, op: eq, value: unknown_number}}
            do: [{send: {connector: sms, template: farewell}}]
            limits: {consent: [service]}
    """,
}

now_ms = SystemClock().now_ms


@dataclass(frozen=True)
class Shop:
    """A running engine, its gateway, and the Twilio behind it."""

    engine: Embedded
    client: httpx.AsyncClient
    twilio: TwilioServer

    @property
    def texts(self) -> list[dict[str, Any]]:
        return list(self.twilio.created.values())

    async def happens(self, name: str, event_type: str, **event: Any) -> None:
        body = {"id": name, "type": event_type, "customer_id": "jo", "occurred_at": now_ms(), **event}
        assert (await self.client.post("/v1/events", json=body)).status_code == 202

    async def called(self, post: Post) -> httpx.Response:
        url = httpx.URL(post.url)
        assert str(url).startswith(CALLBACK)
        return await self.client.post(url.raw_path.decode(), content=post.body, headers=post.headers)

    async def ledger(self) -> list[tuple[str, str, str]]:
        timeline = (await self.client.get("/v1/customers/jo/timeline")).json()
        decisions = [entry["decision"] for entry in timeline["entries"] if entry["decision"]]
        return [(one["rule"], one["outcome"], one["reason"]) for one in decisions]


async def until(condition: Callable[[], Awaitable[Any]], within_s: float = 15) -> Any:
    async with asyncio.timeout(within_s):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.02)


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """A shop that has texted Jo, who may be texted."""
    monkeypatch.setenv("TWILIO_TOKEN", TOKEN)
    rules = tmp_path / "rules"
    rules.mkdir()
    for name, text in FILES.items():
        filled = text.replace("ACCOUNT", ACCOUNT).replace("SENDER", SENDER).replace("CALLBACK", CALLBACK)
        (rules / name).write_text(textwrap.dedent(filled))
    twilio = TwilioServer(account_sid=ACCOUNT, auth_token=TOKEN, senders=[SENDER])
    settings = Settings(rules=rules, data=tmp_path / "data")
    async with GatewayServer(twilio) as served, embedded(settings, served.url) as engine:
        work = asyncio.create_task(engine.run())
        transport = httpx.ASGITransport(app=app_of(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            shop = Shop(engine, client, twilio)
            await shop.happens("e1", "identify", properties={"phone": PHONE})
            await shop.happens("e2", "consent_changed", properties={"service": True})
            await shop.happens("e3", "payment_failed", properties={"amount": 80})
            await until(lambda: engine.contacts.find("sms", PHONE))
            yield shop
        assert not work.done(), work.exception()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def undelivered(shop: Shop) -> Post:
    return shop.twilio.report(next(iter(shop.twilio.created)), "undelivered", ErrorCode="30005")


def stop(shop: Shop) -> Post:
    return shop.twilio.inbound(CALLBACK, sender=PHONE, text="Stop")


@pytest.mark.parametrize(
    ("said", "event_type", "words"),
    [
        (undelivered, "message_bounced", "the channel sms is closed: their address bounced on "),
        (stop, "unsubscribed", "the channel sms is closed: the customer unsubscribed from it on "),
    ],
)
async def test_what_twilio_reports_keeps_the_next_text_back(
    shop: Shop, said: Callable[[Shop], Post], event_type: str, words: str
) -> None:
    assert shop.texts[0]["form"]["Body"] == "Your payment of 80 failed."
    answer = await shop.called(said(shop))
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        200,
        "<Response/>",
        "text/xml; charset=utf-8",
    )
    await shop.happens("e4", "payment_failed", properties={"amount": 81})

    async def blocked() -> bool:
        return ("remind", "blocked", "channel_withdrawn") in await shop.ledger()

    await until(blocked)
    assert len(shop.texts) == 1
    timeline = (await shop.client.get("/v1/customers/jo/timeline")).json()
    (told,) = [one["event"] for one in timeline["entries"] if one["event"] and one["event"]["type"] == event_type]
    assert (told["properties"]["kind"], PHONE in str(told)) == ("sms", False)
    explained = (await shop.client.get("/v1/customers/jo/explain", params={"rule": "remind"})).json()
    assert words in explained["explanations"][0]["sentence"]


async def test_a_rule_hears_of_the_bounce_by_its_reason(shop: Shop) -> None:
    await shop.called(undelivered(shop))

    async def heard() -> bool:
        return ("lost-touch", "blocked", "channel_withdrawn") in await shop.ledger()

    await until(heard)


async def test_a_refusal_that_says_they_opted_out_keeps_the_next_text_back(shop: Shop) -> None:
    shop.twilio.opted_out.add(PHONE)
    await shop.happens("e4", "payment_failed", properties={"amount": 81})

    async def told() -> Any:
        timeline = (await shop.client.get("/v1/customers/jo/timeline")).json()
        return [one["event"] for one in timeline["entries"] if one["event"] and one["event"]["type"] == "unsubscribed"]

    (event,) = await until(told)
    assert event["properties"] | {"action_id": ""} == {
        "action_id": "",
        "connector": "sms",
        "kind": "sms",
        "reason": "opted_out",
        "error_code": 21610,
    }
    await shop.happens("e5", "payment_failed", properties={"amount": 82})

    async def blocked() -> bool:
        return ("remind", "blocked", "channel_withdrawn") in await shop.ledger()

    await until(blocked)
    assert len(shop.texts) == 1


async def test_a_report_of_nobody_finds_its_customer_when_it_is_sent_again(shop: Shop) -> None:
    other = "+4915199999999"
    await shop.called(shop.twilio.inbound(CALLBACK, sender=other, text="STOP"))
    again = "/v1/dead-letters/redrive"
    assert (await shop.client.post(again, json={})).json()["redriven"] == 0
    contact = Contact(connector="sms", address=other, customer_id="jo", at_ms=now_ms())
    await shop.engine.contacts.remember([contact])
    assert (await shop.client.post(again, json={})).json()["redriven"] == 1

    async def heard() -> bool:
        timeline = (await shop.client.get("/v1/customers/jo/timeline")).json()
        return any(one["event"] and one["event"]["type"] == "unsubscribed" for one in timeline["entries"])

    await until(heard)


async def test_a_forged_report_changes_nothing(shop: Shop) -> None:
    genuine = stop(shop)
    forged = replace(genuine, body=genuine.body.replace(b"Stop", b"Stap"))
    answer = await shop.called(forged)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    unsigned = replace(genuine, headers={})
    assert (await shop.called(unsigned)).status_code == 401
    await shop.happens("e4", "payment_failed", properties={"amount": 81})

    async def texted() -> bool:
        return len(shop.texts) == 2

    await until(texted)


async def test_a_stop_from_a_stranger_is_kept_for_people_to_look_at(shop: Shop) -> None:
    stranger = shop.twilio.inbound(CALLBACK, sender="+4915199999999", text="STOP")
    assert (await shop.called(stranger)).status_code == 200
    (letter,) = (await shop.client.get("/v1/dead-letters")).json()
    assert (letter["origin"], letter["code"]) == ("gateway", "customer_unknown")


async def test_an_erased_customer_is_nobody_who_answers(shop: Shop) -> None:
    assert (await shop.client.delete("/v1/customers/jo")).status_code == 202

    async def forgotten() -> bool:
        return await shop.engine.contacts.find("sms", PHONE) is None

    await until(forgotten)
