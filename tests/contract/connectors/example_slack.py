"""The slack connector as a bot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from connectors.conformance.bench import Example, How
from connectors.conformance.http_bench import Answer, HttpBench
from connectors.markup import Markup
from load_tests.servers.providers.slack import SlackServer

TOKEN = "xoxb-0001-token-of-the-bot"


def is_attempt(request: Mapping[str, Any]) -> bool:
    return request["path"].endswith("/chat.postMessage")


def id_of(request: Mapping[str, Any]) -> str:
    content = request["body"]
    action_id = content["metadata"]["event_payload"]["action_id"]
    assert content["client_msg_id"] == str(uuid5(NAMESPACE_OID, action_id))
    return str(action_id)


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    made = HttpBench(
        SlackServer(token=TOKEN).app(),
        refusal=Answer(200, {"ok": False, "error": "channel_not_found"}),
        refusal_words="channel_not_found",
        instead={
            How.RETRY_LATER: Answer(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "7"}),
            How.BROKEN: Answer(200, {"ok": False, "error": "internal_error"}),
            How.BAD_CREDENTIALS: Answer(200, {"ok": False, "error": "invalid_auth"}),
        },
        is_attempt=is_attempt,
    )
    async with made.served() as served:
        yield served


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {"base_url": f"{bench.base}/api", "token_env": "SLACK_TOKEN", "channel": "#sales"},
    environ=lambda _bench: {"SLACK_TOKEN": TOKEN},
    kind="chat",
    params={
        "text": "A lead of 漢字 waits",
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*A lead* waits"}}],
    },
    id_of=id_of,
    markup={"text": Markup.MRKDWN},
)
