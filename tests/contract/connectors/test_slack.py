"""The slack connector beyond the suite: the Web API's errors, and the incoming webhook."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest

from connectors.conformance.bench import DELIVERY_ID, FACTS, LOOPBACK, NAME, NOW_S
from connectors.conformance.http_bench import served
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector, Delivery, Receipt, Result
from connectors.registry import build
from load_tests.servers.providers.slack import WEBHOOK_PATH, SlackServer
from tests.contract.connectors.example_slack import TOKEN
from tests.contract.connectors.servers import Scripted


def delivery(attempt: int = 1, **params: Any) -> Delivery:
    return Delivery(
        id=DELIVERY_ID,
        customer_id="c1",
        kind="chat",
        params={"text": "A lead waits", **params},
        decided_at_ms=int(NOW_S * 1000),
        attempt=attempt,
        facts=FACTS,
    )


@asynccontextmanager
async def bot(app: Any, **changes: Any) -> AsyncIterator[Connector]:
    async with served(app) as base:
        written = {"type": "slack", "base_url": f"{base}/api", "token_env": "TOKEN", "channel": "#sales"} | changes
        connector = build(NAME, written, environ={"TOKEN": TOKEN}, now_s=lambda: NOW_S, reach=LOOPBACK)
        yield connector
        await connector.close()


@asynccontextmanager
async def webhook(app: Any, path: str = WEBHOOK_PATH) -> AsyncIterator[Connector]:
    async with served(app) as base:
        written = {"type": "slack", "webhook_url_env": "URL"}
        environ = {"URL": f"{base}{path}"}
        connector = build(NAME, written, environ=environ, now_s=lambda: NOW_S, reach=LOOPBACK)
        yield connector
        await connector.close()


# ---------------------------------------------------------------------------------------------------- bot


async def test_a_message_lands_in_the_channel_and_names_its_action() -> None:
    server = SlackServer(token=TOKEN)
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*A lead* waits"}}]
    async with bot(server.app()) as connector:
        receipt = await connector.send(delivery(blocks=blocks, thread_ts="1772441000.000100"))
    assert receipt == Receipt(result=Result.DELIVERED, status=200, reference="C0001/1772442000.000001")
    assert server.posts == [
        {
            "client_msg_id": str(uuid5(NAMESPACE_OID, DELIVERY_ID)),
            "channel": "C0001",
            "text": "A lead waits",
            "blocks": blocks,
            "metadata": {
                "event_type": "journey_action",
                "event_payload": {"action_id": DELIVERY_ID, "rule": "lead-callback"},
            },
            "thread_ts": "1772441000.000100",
            "ts": "1772442000.000001",
        }
    ]


async def test_a_repeat_is_one_message() -> None:
    server = SlackServer(token=TOKEN)
    async with bot(server.app()) as connector:
        receipts = [await connector.send(delivery(attempt)) for attempt in (1, 2)]
    assert receipts[0] == receipts[1]
    assert len(server.posts) == 1


async def test_the_delivery_may_name_another_channel() -> None:
    server = SlackServer(token=TOKEN)
    async with bot(server.app()) as connector:
        await connector.send(delivery(channel="C0002"))
    assert server.posts[0]["channel"] == "C0002"


async def test_a_message_to_no_channel_is_refused_unsent() -> None:
    app = Scripted()
    async with bot(app, channel="") as connector:
        receipt = await connector.send(delivery())
    assert receipt == Receipt(
        result=Result.REFUSED,
        detail='param "channel" is missing, and the connector has none. Give it, or set channel.',
    )
    assert app.requests == []


@pytest.mark.parametrize(
    ("server", "params", "detail"),
    [
        (SlackServer(token=TOKEN), {"channel": "#nowhere"}, "channel_not_found"),
        (SlackServer(token=TOKEN, archived=frozenset({"C0001"})), {}, "is_archived"),
        (SlackServer(token=TOKEN, scopes=frozenset({"chat:read"})), {}, "missing_scope (needs chat:write)"),
        (SlackServer(token="xoxb-another"), {}, "invalid_auth"),
        (
            SlackServer(token=TOKEN),
            {"blocks": [{"type": "paragraph"}]},
            "invalid_blocks ([ERROR] must be one of the known types [json-pointer:/blocks/0/type])",
        ),
    ],
)
async def test_slacks_refusal_is_the_detail(server: SlackServer, params: dict[str, Any], detail: str) -> None:
    async with bot(server.app()) as connector:
        receipt = await connector.send(delivery(**params))
    assert receipt == Receipt(result=Result.REFUSED, status=200, detail=detail)
    assert server.posts == []


@pytest.mark.parametrize(
    ("status", "headers", "content", "expected"),
    [
        (
            429,
            {"Retry-After": "30"},
            b'{"ok":false,"error":"ratelimited"}',
            Receipt(result=Result.RETRY, status=429, detail='{"ok":false,"error":"ratelimited"}', retry_after_s=30),
        ),
        (
            200,
            {"Retry-After": "5"},
            b'{"ok":false,"error":"ratelimited"}',
            Receipt(result=Result.RETRY, status=200, detail="ratelimited", retry_after_s=5),
        ),
        (
            200,
            {},
            b'{"ok":false,"error":"fatal_error"}',
            Receipt(result=Result.RETRY, status=200, detail="fatal_error"),
        ),
        (200, {}, b'{"ok":false}', Receipt(result=Result.REFUSED, status=200, detail="unknown_error")),
        (503, {}, b"upstream", Receipt(result=Result.RETRY, status=503, detail="upstream")),
        (404, {}, b"nothing here", Receipt(result=Result.REFUSED, status=404, detail="nothing here")),
        (
            200,
            {},
            b"<html>Sign in to the network</html>",
            Receipt(result=Result.UNKNOWN, status=200, detail="the answer is not one of Slack's Web API"),
        ),
    ],
)
async def test_each_answer_has_its_receipt(
    status: int, headers: dict[str, str], content: bytes, expected: Receipt
) -> None:
    async with bot(Scripted(status, headers, content)) as connector:
        assert await connector.send(delivery()) == expected


@pytest.mark.parametrize(
    ("app", "advice"),
    [
        (SlackServer(token=TOKEN).app(), None),
        (
            SlackServer(token="xoxb-another").app(),
            "Slack does not take the token: invalid_auth. Check token_env and the bot's scopes (chat:write).",
        ),
        (
            Scripted(503, {}, b"upstream"),
            "Slack is not in order: upstream. It is reachable; try again later.",
        ),
    ],
)
async def test_the_check_says_what_to_mend(app: Any, advice: str | None) -> None:
    async with bot(app) as connector:
        assert await connector.check() == advice


# ------------------------------------------------------------------------------------------------- webhook


async def test_a_webhook_takes_a_message_without_a_token() -> None:
    server = SlackServer(token=TOKEN)
    async with webhook(server.app()) as connector:
        assert await connector.check() is None
        receipt = await connector.send(delivery())
    assert receipt == Receipt(result=Result.DELIVERED, status=200)
    assert server.posts == [{"text": "A lead waits"}]


async def test_the_url_of_a_webhook_stays_secret(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for path in (WEBHOOK_PATH, "/services/T0001/B0002/webhook-secret-of-another"):
            async with webhook(SlackServer(token=TOKEN).app(), path) as connector:
                seen += [repr(await connector.send(delivery())), str(await connector.check()), repr(connector)]
    said = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]
    assert [text for text in [*seen, *said] if "webhook-secret" in text] == []


async def test_a_webhook_that_was_removed_is_refused() -> None:
    async with webhook(SlackServer(token=TOKEN).app(), "/services/T0001/B0002/gone") as connector:
        assert await connector.send(delivery()) == Receipt(result=Result.REFUSED, status=404, detail="no_service")


async def test_a_webhook_writes_to_its_own_channel_alone() -> None:
    server = SlackServer(token=TOKEN)
    async with webhook(server.app()) as connector:
        receipt = await connector.send(delivery(channel="#sales"))
    assert receipt == Receipt(
        result=Result.REFUSED,
        detail='param "channel" or "thread_ts" is given, but an incoming webhook writes to its own channel alone. '
        "Leave it out, or set token_env instead.",
    )
    assert server.posts == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, 'one of the settings "token_env" and "webhook_url_env" is needed, and only one'),
        (
            {"token_env": "T", "webhook_url_env": "U"},
            'one of the settings "token_env" and "webhook_url_env" is needed, and only one',
        ),
        (
            {"webhook_url_env": "U", "channel": "#sales"},
            'setting "channel" is for a bot: an incoming webhook writes to its own channel',
        ),
        (
            {"webhook_url_env": "U"},
            'setting "webhook_url_env": the environment variable "U" does not hold a URL',
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectorMisconfigured) as caught:
        build(NAME, {"type": "slack", **written}, environ={"T": TOKEN, "U": "hooks.slack.com"})
    assert [problem.message for problem in caught.value.problems] == [message]


async def test_slack_carries_chat_alone() -> None:
    async with bot(Scripted()) as connector:
        call = Delivery(id="a", customer_id="c1", kind="call", params={}, decided_at_ms=1)
        receipt = await connector.send(call)
    assert receipt == Receipt(result=Result.REFUSED, detail='kind "call" is not a chat message')
