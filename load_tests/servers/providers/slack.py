"""Slack on loopback: ``auth.test``, ``chat.postMessage`` and incoming webhooks, as strict as the real ones.

A refusal of the Web API is 200 with ``{"ok": false, "error": ...}``; one of a webhook is a status with a plain word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

WEBHOOK_PATH = "/services/T0001/B0001/webhook-secret"
TEXT_CHARS_MAX, BLOCKS_MAX, METADATA_CHARS_MAX = 40_000, 50, 8_000

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BLOCK_TYPES = frozenset(
    {"actions", "context", "divider", "file", "header", "image", "input", "markdown", "rich_text", "section", "video"}
)


@dataclass(slots=True)
class SlackServer:
    """A workspace with its channels, and what was posted there. A channel that is archived takes nothing."""

    token: str
    channels: dict[str, str] = field(default_factory=lambda: {"C0001": "#sales", "C0002": "#support"})
    archived: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset({"chat:write"})
    posts: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> Starlette:
        """Return the ASGI app."""
        return Starlette(
            routes=[
                Route("/api/auth.test", self._auth_test, methods=["POST"]),
                Route("/api/chat.postMessage", self._post_message, methods=["POST"]),
                Route("/services/{path:path}", self._webhook, methods=["POST"]),
            ]
        )

    async def _auth_test(self, request: Request) -> Response:
        if error := self._token_error(request):
            return _no(error)
        return JSONResponse(
            {"ok": True, "url": "https://shop.slack.com/", "team": "Shop", "user": "journey", "bot_id": "B0001"}
        )

    async def _post_message(self, request: Request) -> Response:
        if error := self._token_error(request):
            return _no(error)
        if "chat:write" not in self.scopes:
            return _no("missing_scope", needed="chat:write", provided=",".join(sorted(self.scopes)))
        if not request.headers.get("content-type", "").startswith("application/json"):
            return _no("invalid_form_data")
        try:
            content = await request.json()
        except ValueError:
            return _no("invalid_json")
        if not isinstance(content, dict):
            return _no("json_not_object")
        return self._posted(content)

    def _posted(self, content: dict[str, Any]) -> Response:
        channel = next((known for known in self.channels.items() if content.get("channel") in known), None)
        if channel is None:
            return _no("channel_not_found")
        if channel[0] in self.archived:
            return _no("is_archived")
        if error := content_error(content):
            messages = ["[ERROR] must be one of the known types [json-pointer:/blocks/0/type]"]
            return _no(error, **({"response_metadata": {"messages": messages}} if error == "invalid_blocks" else {}))
        known = [post for post in self.posts if post["client_msg_id"] == content.get("client_msg_id")]
        if not known or not content.get("client_msg_id"):
            ts = f"1772442000.{len(self.posts) + 1:06d}"
            self.posts.append({"client_msg_id": None, **content, "channel": channel[0], "ts": ts})
            known = self.posts[-1:]
        message = {"type": "message", "text": known[0].get("text", ""), "ts": known[0]["ts"]}
        return JSONResponse({"ok": True, "channel": channel[0], "ts": known[0]["ts"], "message": message})

    async def _webhook(self, request: Request) -> Response:
        if request.url.path != WEBHOOK_PATH:
            return PlainTextResponse("no_service", 404)
        try:
            content = await request.json()
        except ValueError:
            return PlainTextResponse("invalid_payload", 400)
        if not isinstance(content, dict):
            return PlainTextResponse("invalid_payload", 400)
        if error := content_error(content):
            return PlainTextResponse(error, 400)
        self.posts.append(content)
        return PlainTextResponse("ok")

    def _token_error(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return "not_authed"
        return "" if token == self.token else "invalid_auth"


def content_error(content: dict[str, Any]) -> str:
    """Return Slack's word for what is wrong with a message, "" when nothing is."""
    text, blocks, metadata = content.get("text"), content.get("blocks", []), content.get("metadata")
    if not text and not blocks:
        return "no_text"
    if not isinstance(blocks, list):
        return "invalid_blocks_format"
    if len(blocks) > BLOCKS_MAX or any(block.get("type") not in _BLOCK_TYPES for block in blocks):
        return "invalid_blocks"
    if text is not None and (not isinstance(text, str) or len(text) > TEXT_CHARS_MAX):
        return "msg_too_long"
    if metadata is not None and not (
        isinstance(metadata, dict)
        and re.fullmatch(r"[A-Za-z0-9_]+", str(metadata.get("event_type", "")))
        and isinstance(metadata.get("event_payload"), dict)
    ):
        return "invalid_metadata_format"
    if len(str(metadata)) > METADATA_CHARS_MAX:
        return "metadata_too_large"
    if "client_msg_id" in content and not _UUID.fullmatch(str(content["client_msg_id"])):
        return "invalid_arguments"
    return ""


def _no(error: str, **more: Any) -> Response:
    return JSONResponse({"ok": False, "error": error, **more})
