"""Meta's WhatsApp Cloud API as far as messages go: one phone number, its errors in its own words, its signed webhooks.

Checked as the real one checks: the token, the number, the fields of each kind of message, templates with their
languages and the number of their variables. Free text outside the 24 hours is taken and fails later, as it does there.
Sources: Meta's reference of messages, error codes and webhooks.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from load_tests.servers.providers.post import Post

_NUMBER = re.compile(r"\+?[1-9][0-9]{6,14}")
_NOT_IN_A_VALUE = re.compile(r"[\n\r\t]| {5,}")
_FIELDS = frozenset(
    {"messaging_product", "recipient_type", "to", "type", "biz_opaque_callback_data", "context"}
    | {"text", "template", "interactive"}
)

Object = dict[str, Any]


class GraphRefuses(Exception):
    """A request that the Graph API does not take: status, code and words of its error object."""

    def __init__(self, status: int, code: int, message: str, *, kind: str = "OAuthException", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "code": code, **more, "fbtrace_id": "AzLocalTrace01"}
        self.headers: dict[str, str] = {}


class WhatsAppServer:
    """An ASGI app that is one business phone number.

    ``templates`` has the number of body variables by name and language. ``sent`` holds what was taken, by message id.
    ``wrote`` are the numbers whose 24 hours run. The next ``busy_times`` messages are answered with ``busy``.
    """

    def __init__(
        self,
        *,
        phone_number_id: str,
        token: str,
        app_secret: str,
        templates: Mapping[tuple[str, str], int] | None = None,
        now_s: int = 1_772_442_000,
    ) -> None:
        self._id, self._token, self._app_secret = phone_number_id, token, app_secret
        self._templates = dict(templates or {})
        self._now_s = now_s
        self.sent: dict[str, Object] = {}
        self.wrote: set[str] = set()
        self.busy_times = 0
        self.busy = GraphRefuses(429, 130429, "(#130429) Rate limit hit")
        routes = [
            Route("/{version}/{number}", self._number, methods=["GET"]),
            Route("/{version}/{number}/messages", self._send, methods=["POST"]),
        ]
        self._app = Starlette(routes=routes, exception_handlers={GraphRefuses: _refused})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    # -------------------------------------------------------------------------------------- what it is asked

    async def _number(self, request: Request) -> JSONResponse:
        self._authorize(request, "get")
        return JSONResponse({"id": self._id})

    async def _send(self, request: Request) -> JSONResponse:
        self._authorize(request, "post")
        if self.busy_times > 0:
            self.busy_times -= 1
            raise self.busy
        try:
            content = json.loads(await request.body())
        except ValueError:
            content = None
        if not isinstance(content, dict) or "json" not in request.headers.get("content-type", ""):
            raise GraphRefuses(400, 100, "(#100) The parameter messaging_product is required.")
        self._check(content)
        name = f"wamid.{b64encode(f'message {len(self.sent)}'.encode()).decode()}"
        self.sent[name] = content
        digits = content["to"].removeprefix("+")
        answer = {"messaging_product": "whatsapp", "contacts": [{"input": content["to"], "wa_id": digits}]}
        message = {"id": name} | ({"message_status": "accepted"} if content["type"] == "template" else {})
        return JSONResponse(answer | {"messages": [message]})

    def _authorize(self, request: Request, verb: str) -> None:
        if request.headers.get("authorization") != f"Bearer {self._token}":
            message = "Invalid OAuth access token - Cannot parse access token"
            raise GraphRefuses(401, 190, message)
        if request.path_params["number"] != self._id:
            message = (
                f"Unsupported {verb} request. Object with ID '{request.path_params['number']}' does not exist, "
                "cannot be loaded due to missing permissions, or does not support this operation"
            )
            raise GraphRefuses(400, 100, message, kind="GraphMethodException", error_subcode=33)

    # ------------------------------------------------------------------------------------------ what it checks

    def _check(self, content: Object) -> None:
        if content.get("messaging_product") != "whatsapp":
            raise GraphRefuses(400, 100, "(#100) The parameter messaging_product is required.")
        if unknown := sorted(content.keys() - _FIELDS):
            raise _invalid(f'Unexpected key "{unknown[0]}" on param "root".')
        if not _NUMBER.fullmatch(str(content.get("to", ""))):
            raise GraphRefuses(400, 131009, "(#131009) Parameter value is not valid", **_data("to is not a number"))
        if len(content.get("biz_opaque_callback_data", "")) > 512:
            raise _invalid("Param biz_opaque_callback_data must be at most 512 characters long.")
        kind = content.get("type", "text")
        if not isinstance(content.get(kind), dict):
            raise _invalid(f"Param {kind} must be an object.")
        match kind:
            case "text":
                _check_length(content["text"].get("body"), 4096, "text['body']")
            case "interactive":
                _check_interactive(content["interactive"])
            case "template":
                self._check_template(content["template"])
            case _:
                raise _invalid(f"Param type must be one of {{TEXT, TEMPLATE, INTERACTIVE}} - got {kind}.")

    def _check_template(self, template: Object) -> None:
        language = template.get("language")
        code = language.get("code", "") if isinstance(language, dict) else ""
        expected = self._templates.get((template.get("name", ""), code))
        if expected is None:
            details = f"template name ({template.get('name')}) does not exist in {code}"
            message = "(#132001) Template name does not exist in the translation"
            raise GraphRefuses(404, 132001, message, **_data(details))
        bodies = [part for part in template.get("components", []) if part.get("type") == "body"]
        values = [value for part in bodies for value in part.get("parameters", [])]
        if len(values) != expected or not all(value.get("text") for value in values):
            details = f"body: number of localizable_params ({len(values)}) does not match the expected ({expected})"
            message = "(#132000) Number of parameters does not match the expected number of params"
            raise GraphRefuses(400, 132000, message, **_data(details))

        texts = [one.get("text", "") for part in template.get("components", []) for one in part.get("parameters", [])]
        if any(_NOT_IN_A_VALUE.search(str(text)) for text in texts):
            details = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
            message = "(#132018) There is an issue with the parameters in your template"
            raise GraphRefuses(400, 132018, message, **_data(details))

    # ------------------------------------------------------------------------------------ what it says by itself

    def status(self, name: str, word: str, *, error: Object | None = None, at_s: int | None = None) -> Object:
        """Return one status of a message, for ``webhook``."""
        content = self.sent[name]
        told = {"id": name, "status": word, "timestamp": str(at_s or self._now_s)}
        told["recipient_id"] = content["to"].removeprefix("+")
        if opaque := content.get("biz_opaque_callback_data"):
            told["biz_opaque_callback_data"] = opaque
        return told | ({"errors": [error]} if error else {})

    def settled(self, name: str) -> Object:
        """Return the status that becomes of a message: delivered, unless it is free text outside the 24 hours."""
        content = self.sent[name]
        if content["type"] == "template" or content["to"] in self.wrote:
            return self.status(name, "delivered")
        error = {"code": 131047, "title": "Re-engagement message", "message": "Re-engagement message"}
        return self.status(name, "failed", error=error)

    def inbound(self, sender: str, kind: str, part: Object, *, context: str = "") -> Object:
        """Return one message of a customer, for ``webhook``; their 24 hours begin."""
        self.wrote.add(sender)
        told: Object = {"from": sender.removeprefix("+"), "id": f"wamid.in{len(self.wrote)}{kind}"}
        told |= {"timestamp": str(self._now_s), "type": kind, kind: part}
        return told | ({"context": {"from": "15550783881", "id": context}} if context else {})

    def webhook(self, url: str, *values: Object, field: str = "messages") -> Post:
        """Return the request that tells ``values`` (such as ``{"statuses": […]}``), each its own entry."""
        metadata = {"display_phone_number": "15550783881", "phone_number_id": self._id}
        common = {"messaging_product": "whatsapp", "metadata": metadata}
        entries = [{"id": "102290129340398", "changes": [{"value": common | one, "field": field}]} for one in values]
        body = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
        return self.signed(url, body)

    def signed(self, url: str, body: bytes) -> Post:
        """Return ``body`` as a request to ``url``, signed with the app's secret."""
        mark = hmac.new(self._app_secret.encode(), body, "sha256").hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={mark}"}
        return Post(url, headers | {"User-Agent": "facebookexternalua"}, body)


def _check_interactive(interactive: Object) -> None:
    buttons = interactive.get("action", {}).get("buttons", [])
    _check_length(interactive.get("body", {}).get("text"), 1024, "interactive['body']['text']")
    if interactive.get("type") != "button" or not 1 <= len(buttons) <= 3:
        raise _invalid("Invalid buttons count. Min allowed buttons: 1, Max allowed buttons: 3")
    for button in buttons:
        reply = button.get("reply", {})
        _check_length(reply.get("title"), 20, "button['reply']['title']")
        _check_length(reply.get("id"), 256, "button['reply']['id']")


def _check_length(text: Any, most: int, where: str) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= most:
        raise _invalid(f"Param {where} must be between 1 and {most} characters long.")


def _invalid(details: str) -> GraphRefuses:
    return GraphRefuses(400, 100, "(#100) Invalid parameter", **_data(details))


def _data(details: str) -> Object:
    return {"error_data": {"messaging_product": "whatsapp", "details": details}}


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GraphRefuses)
    return JSONResponse({"error": error.error}, error.status, error.headers)
