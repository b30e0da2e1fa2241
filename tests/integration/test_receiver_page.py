"""The receiver's page closes the loop: a person says what came of a call, and the engine acts on it."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from load_tests.traffic import zone_with_hour
from orchestrator.adapters.clock import SystemClock
from orchestrator.roles.embedded import run_embedded
from orchestrator.settings import Settings
from tests.integration.browser import Page, browsing

pytestmark = pytest.mark.integration

RULES = Path(__file__).parents[2] / "rules"
PHONE = "+919812345678"
now_ms = SystemClock().now_ms


@dataclass(frozen=True)
class Shop:
    """An engine with its receiver, and a browser that shows the receiver's page."""

    client: httpx.AsyncClient
    page: Page

    async def asha_asks(self) -> None:
        identity = {"first_name": "Asha", "phone": PHONE, "timezone": zone_with_hour(12, now_ms())}
        consent = {"consent": {"categoryPreferences": {"callback": True, "sms": True}}}
        lead = {"lead_id": "l1", "phone": PHONE, "project": "Palm Grove"}
        events: list[dict[str, Any]] = [
            {"id": "e1", "type": "identify", "properties": identity},
            {"id": "e2", "type": "lead_submitted", "properties": lead, "context": consent},
        ]
        told = [{"customer_id": "asha", "occurred_at": now_ms(), **event} for event in events]
        assert (await self.client.post("/v1/events", json=told)).status_code == 202

    async def press(self, word: str) -> None:
        """Press the button of a word, whichever row has it."""
        wanted = f"[...document.querySelectorAll('[data-report]')].find((one) => one.textContent === '{word}')"
        await self.page.until(f"Boolean({wanted})")
        await self.page.evaluate(f"{wanted}.click()")

    async def events(self, event_type: str) -> list[dict[str, Any]]:
        timeline = (await self.client.get("/v1/customers/asha/timeline")).json()
        events = [entry["event"] for entry in timeline["entries"] if entry["event"]]
        return [event for event in events if event["type"] == event_type]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    settings = Settings(rules=RULES, data=tmp_path / "data", port=0, receiver_port=0)
    ready: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    work = asyncio.create_task(run_embedded(settings, demo=False, on_ready=lambda *urls: ready.set_result(urls)))
    try:
        await asyncio.wait((work, ready), return_when=asyncio.FIRST_COMPLETED)
        assert ready.done(), work.exception()
        gateway, receiver = ready.result()
        async with httpx.AsyncClient(base_url=gateway) as client, browsing(receiver) as page:
            yield Shop(client, page)
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def test_a_missed_call_is_said_on_the_page_and_followed_by_a_text(shop: Shop, tmp_path: Path) -> None:
    await shop.asha_asks()
    await shop.press("Missed")
    await shop.page.until("document.querySelectorAll('#rows tr').length === 2")
    assert await shop.page.evaluate("document.getElementById('notice').textContent") == (
        "The engine was told: Missed, for asha."
    )
    text = await shop.page.evaluate("document.querySelector('#rows tr').textContent")
    assert "missed-call" in text and "Hi Asha, we just tried to call you" in text
    [missed] = await shop.events("call_missed")
    assert missed["properties"] | {"action_id": ""} == {
        "reason": "no_answer",
        "connector": "voice",
        "kind": "call",
        "action_id": "",
    }
    secret = tmp_path / "data" / "receiver-secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text().strip() not in (tmp_path / "data" / "received.jsonl").read_text()


async def test_the_buttons_are_named_reached_by_keyboard_keep_the_focus_and_stop_closes_the_channel(shop: Shop) -> None:
    await shop.asha_asks()
    page = shop.page
    await page.until("document.querySelectorAll('[data-report]').length")
    names = "[...document.querySelectorAll('[data-report]')].map((one) => one.textContent)"
    assert await page.evaluate(names) == ["Answered", "Missed", "Qualified", "Booked", "STOP"]
    group = "document.querySelector('[role=group]').getAttribute('aria-label')"
    assert await page.evaluate(group) == "What came of call for asha"

    focused = "document.activeElement.textContent"
    for _ in range(20):
        await page.press("Tab", 9)
        if await page.evaluate(focused) == "Answered":
            break
    await page.press("Enter", 13, "\r")
    await page.until("document.activeElement.getAttribute('aria-pressed') === 'true'")
    assert await page.evaluate(focused) == "Answered"
    assert len(await shop.events("call_answered")) == 1

    await shop.press("STOP")
    async with asyncio.timeout(30):
        while True:
            customer = (await shop.client.get("/v1/customers/asha")).json()
            if "kind:call" in str(customer.get("consents")):
                break
            await asyncio.sleep(0.05)
    assert len(await shop.events("unsubscribed")) == 1
