"""The slack connector: posts one message a delivery to a channel, as a bot or through an incoming webhook.

Slack answers a refusal of its Web API with 200 and ``{"ok": false, "error": "..."}``:

=====================================================  =========
answer                                                 result
=====================================================  =========
``ok: true`` (Web API), 2xx (webhook)                  DELIVERED
``ratelimited``, ``internal_error`` and their like     RETRY
any other ``error``                                    REFUSED
429 (with Retry-After), 5xx, other statuses            as for every HTTP connector
=====================================================  =========

A repeat has the same ``client_msg_id``, by which Slack knows a message that it has; an incoming webhook has no such
thing, and a repeat through it is a second message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self
from uuid import NAMESPACE_OID, uuid5

from pydantic import Field, model_validator

from connectors import clock
from connectors.connector_type import ActionParams, ConnectorType, Surroundings, checked_params, environment_value
from connectors.errors import ConnectorMisconfigured, Problem
from connectors.http import (
    DETAIL_CHARS_MAX,
    HttpAnswer,
    HttpParameters,
    HttpSender,
    HttpUrl,
    answer_receipt,
    json_request,
    retry_after_s,
)
from connectors.markup import Markup
from connectors.protocol import Delivery, Receipt, Result

#: Errors of the Web API that say nothing about the message itself.
PASSING_ERRORS = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
    | {"team_added_to_org"}
)
#: Errors of the Web API that are about the token.
TOKEN_ERRORS = frozenset(
    {"not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired", "no_permission"}
    | {"missing_scope", "org_login_required", "not_allowed_token_type", "access_denied"}
)
MESSAGE_TYPE = "journey_action"
TEXT_CHARS_MAX, BLOCKS_MAX = 40_000, 50


class SlackParameters(HttpParameters):
    """Settings of a Slack workspace: a bot's token, or the URL of an incoming webhook."""

    token_env: str = Field("", description="Environment variable that holds the bot token, xoxb-...")
    webhook_url_env: str = Field(
        "",
        description="Environment variable that holds the URL of an incoming webhook, which writes to one channel.",
    )
    channel: str = Field("", max_length=100, description="Channel that the bot writes to when a delivery names none.")
    base_url: HttpUrl = Field("https://slack.com/api", description="Address of Slack's Web API.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.token_env) == bool(self.webhook_url_env):
            raise ValueError('one of the settings "token_env" and "webhook_url_env" is needed, and only one')
        if self.channel and self.webhook_url_env:
            raise ValueError('setting "channel" is for a bot: an incoming webhook writes to its own channel')
        return self


class SlackParams(ActionParams):
    """What a message needs."""

    markup: ClassVar[Mapping[str, Markup]] = {"text": Markup.MRKDWN, "blocks": Markup.MRKDWN}

    text: str = Field(min_length=1, max_length=TEXT_CHARS_MAX, description="The message, in Slack's mrkdwn.")
    blocks: list[dict[str, Any]] = Field(
        [], max_length=BLOCKS_MAX, description="Blocks to show in its place; text is then what notifications say."
    )
    channel: str = Field("", max_length=100, description="Channel id or name, or a user's id; for a bot.")
    thread_ts: str = Field("", pattern=r"^([0-9]+\.[0-9]+)?$", description="Message that this one answers, by its ts.")


class SlackConnector:
    """Posts one message a delivery."""

    def __init__(
        self,
        name: str,
        parameters: SlackParameters,
        *,
        token: str = "",
        webhook_url: str = "",
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._channel = parameters.channel
        self._base_url = parameters.base_url.rstrip("/")
        self._token = token
        self._webhook_url = webhook_url
        self._now_s = now_s
        self._sender = HttpSender(parameters, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``."""
        if delivery.kind != "chat":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not a chat message')
        params = checked_params(SlackParams, delivery)
        if isinstance(params, Receipt):
            return params
        return await (self._through_webhook(delivery, params) if self._webhook_url else self._as_bot(delivery, params))

    async def check(self) -> str | None:
        """Return None when Slack knows the token (``auth.test``) or the webhook's host answers, else what to mend."""
        if self._webhook_url:
            return await self._sender.reach(self._webhook_url, {})
        url = f"{self._base_url}/auth.test"
        answer = await self._sender.ask("POST", url, body=b"", headers=self._authorization)
        if isinstance(answer, Receipt):
            return f"{answer.detail}. Check base_url, the network and that Slack is in order."
        receipt = web_api_receipt(answer, self._now_s())
        if receipt.result is Result.DELIVERED:
            return None
        if answer.status in {401, 403} or _error(answer) in TOKEN_ERRORS:
            return (
                f"Slack does not take the token: {receipt.detail}. Check token_env and the bot's scopes (chat:write)."
            )
        return f"Slack is not in order: {receipt.detail or answer.status}. It is reachable; try again later."

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    async def _through_webhook(self, delivery: Delivery, params: SlackParams) -> Receipt:
        if params.channel or params.thread_ts:
            detail = 'param "channel" or "thread_ts" is given, but an incoming webhook writes to its own channel alone'
            return Receipt(result=Result.REFUSED, detail=f"{detail}. Leave it out, or set token_env instead.")
        request = json_request(delivery.id, _said(params))
        if isinstance(request, Receipt):
            return request
        return await self._sender.send("POST", self._webhook_url, body=request.body, headers=request.headers)

    async def _as_bot(self, delivery: Delivery, params: SlackParams) -> Receipt:
        channel = params.channel or self._channel
        if not channel:
            detail = 'param "channel" is missing, and the connector has none. Give it, or set channel.'
            return Receipt(result=Result.REFUSED, detail=detail)
        request = json_request(delivery.id, post_content(delivery, params, channel))
        if isinstance(request, Receipt):
            return request
        headers = {**request.headers, "Content-Type": "application/json; charset=utf-8", **self._authorization}
        url = f"{self._base_url}/chat.postMessage"
        answer = await self._sender.ask("POST", url, body=request.body, headers=headers)
        return answer if isinstance(answer, Receipt) else web_api_receipt(answer, self._now_s())


def post_content(delivery: Delivery, params: SlackParams, channel: str) -> dict[str, Any]:
    """Return the body of ``chat.postMessage``; it does not depend on the attempt."""
    content = {
        "channel": channel,
        **_said(params),
        "client_msg_id": str(uuid5(NAMESPACE_OID, delivery.id)),
        "metadata": {
            "event_type": MESSAGE_TYPE,
            "event_payload": {"action_id": delivery.id, "rule": str(delivery.facts.get("rule", ""))},
        },
    }
    return content | ({"thread_ts": params.thread_ts} if params.thread_ts else {})


def web_api_receipt(answer: HttpAnswer, now_s: float) -> Receipt:
    """Return what an answer of the Web API means (the table above)."""
    content = _content(answer)
    if answer.status != 200 or content is None:
        receipt = answer_receipt(answer.status, answer.headers, answer.body, now_s)
        if receipt.result is not Result.DELIVERED:
            return receipt
        # A proxy's page, or an answer cut off: whether Slack has the message cannot be read from it.
        return Receipt(result=Result.UNKNOWN, status=answer.status, detail="the answer is not one of Slack's Web API")
    if content.get("ok") is True:
        reference = f"{content.get('channel', '')}/{content.get('ts', '')}"
        return Receipt(result=Result.DELIVERED, status=answer.status, reference=reference.strip("/"))
    error = _error(answer)
    result = Result.RETRY if error in PASSING_ERRORS else Result.REFUSED
    wait_s = retry_after_s(answer.headers.get("retry-after", ""), now_s) if result is Result.RETRY else None
    return Receipt(result=result, status=answer.status, detail=_detail(content, error), retry_after_s=wait_s)


def _detail(content: dict[str, Any], error: str) -> str:
    """The error, and what Slack adds to it: the scope that is needed, the block that is faulty."""
    said = content.get("response_metadata")
    messages = said.get("messages", []) if isinstance(said, dict) else []
    more = [f"needs {content['needed']}"] if content.get("needed") else []
    more += [str(message) for message in messages] if isinstance(messages, list) else []
    return (error + (f" ({'; '.join(more)})" if more else ""))[:DETAIL_CHARS_MAX]


def _error(answer: HttpAnswer) -> str:
    content = _content(answer)
    return str(content.get("error") or "unknown_error") if content is not None else ""


def _content(answer: HttpAnswer) -> dict[str, Any] | None:
    content = answer.json_object()
    return content if "ok" in content else None


def _said(params: SlackParams) -> dict[str, Any]:
    return {"text": params.text, **({"blocks": params.blocks} if params.blocks else {})}


def _create(name: str, parameters: SlackParameters, surroundings: Surroundings) -> SlackConnector:
    token = url = ""
    if variable := parameters.token_env:
        token = environment_value(name, "token_env", variable, surroundings)
    if variable := parameters.webhook_url_env:
        url = environment_value(name, "webhook_url_env", variable, surroundings)
        if not url.startswith(("https://", "http://")):
            message = f'setting "webhook_url_env": the environment variable "{variable}" does not hold a URL'
            remedy = "Copy the webhook's URL, https://hooks.slack.com/services/..., from the app's settings."
            raise ConnectorMisconfigured(name, [Problem("webhook_url_env", message, remedy)])
    return SlackConnector(name, parameters, token=token, webhook_url=url, now_s=surroundings.now_s)


SLACK = ConnectorType(
    type="slack",
    description="A message in a Slack channel.",
    kinds=("chat",),
    parameters=SlackParameters,
    action_params=SlackParams,
    create=_create,
)
