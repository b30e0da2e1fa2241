"""One-click unsubscribing by e-mail (RFC 8058): the link that only we can have made, and what following it means.

The link is ``<callback_url>?u=<token>``. A token is the base64 of customer and action and an HMAC-SHA256 over them; it
holds no address and never expires, because a mail may be opened years later. Opening the link shows a page with a
button and changes nothing: scanners of links open every one. A POST that says ``List-Unsubscribe=One-Click`` (the mail
program's button, or that of the page) unsubscribes, from what the connector's settings say now: a link of before they
were changed as well. The page tells the reader what that is.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from email import message_from_bytes
from hashlib import sha256
from html import escape
from typing import NamedTuple
from urllib.parse import parse_qs, quote

from connectors.callback import Callback, CallbackRefused, Outcome, OutcomeType, Reading
from connectors.opt_out import scoped

QUERY_NAME = "u"
BODY_MAX_BYTES = 10_000
#: Keeps a signature of this kind from meaning anything elsewhere, although the secret be used for more.
_PURPOSE = b"unsubscribe.v1."
_FORM = ("List-Unsubscribe", "One-Click")

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title></head>
<body><main><h1>{title}</h1>{content}</main></body>
</html>
"""
_QUESTION = """<p>{text}</p>
<form method="post" action="?{name}={token}"><input type="hidden" name="List-Unsubscribe" value="One-Click">
<button type="submit">Unsubscribe</button></form>"""


class Unsubscription(NamedTuple):
    """Who wants no more mail, and by which action they were written to."""

    customer_id: str
    action_id: str


class UnsubscribeLinks:
    """Makes and reads the links. Signs with the first of ``keys`` and takes any, so that a key can be replaced."""

    def __init__(self, callback_url: str, keys: Sequence[bytes]) -> None:
        self._url = callback_url + ("&" if "?" in callback_url else "?")
        self._keys = tuple(keys)

    def link(self, customer_id: str, action_id: str) -> str:
        """Return the customer's link for this action; the same whenever it is asked for."""
        payload = _encoded(json.dumps([customer_id, action_id], separators=(",", ":")).encode())
        return f"{self._url}{QUERY_NAME}={payload}.{_signature(self._keys[0], payload)}"

    def parse(self, token: str) -> Unsubscription:
        """Return what the token says; raise ``CallbackRefused`` unless it is ours. Compares in constant time."""
        payload, _, given = token.partition(".")
        right = [_signature(key, payload).encode() for key in self._keys]
        if not any(hmac.compare_digest(one, given.encode("utf-8", "replace")) for one in right):
            raise CallbackRefused(403, "this link is not complete or not ours. Open it again from the e-mail.")
        customer_id, action_id = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return Unsubscription(customer_id, action_id)


class UnsubscribeReader:
    """Reads the requests that come by such links. ``sender`` is named on the page.

    ``purposes`` are those that end, whatever the channel; without any, e-mail ends whatever the purpose.
    """

    def __init__(
        self, links: UnsubscribeLinks, sender: str, now_s: Callable[[], float], purposes: Sequence[str] = ()
    ) -> None:
        self._links = links
        self._purposes = tuple(purposes)
        self._sender = sender
        self._now_s = now_s

    def read(self, callback: Callback) -> Reading:
        """Return the page for GET and HEAD, the outcome for a POST that says so; else raise ``CallbackRefused``."""
        token = token_of(callback)
        wanted = self._links.parse(token)
        if callback.method in {"GET", "HEAD"}:
            return _reading("Unsubscribe?", self._question(token))
        if callback.method != "POST" or not _says_one_click(callback):
            raise CallbackRefused(400, "to unsubscribe, POST the form List-Unsubscribe=One-Click to this address")
        content = f"<p>{escape(self._told())}</p>"
        return _reading("You are unsubscribed", content, self._outcome(wanted))

    def _question(self, token: str) -> str:
        text = escape(f"If you unsubscribe: {self._told()}")
        return _QUESTION.format(text=text, name=QUERY_NAME, token=escape(quote(token)))

    def _told(self) -> str:
        """Return what ends, in words for the reader."""
        if not self._purposes:
            return f"You will get no more e-mail from {self._sender}."
        ended = " or ".join(name.replace("_", " ") for name in self._purposes)
        return (
            f"You will get no more messages from {self._sender} for {ended}, by e-mail or otherwise. "
            "Messages for other purposes still come."
        )

    def _outcome(self, wanted: Unsubscription) -> Outcome:
        """A mail program repeats its request within seconds, but a customer may come back to the link much later,
        having subscribed again in between: so the minute belongs to the id."""
        now_s = self._now_s()
        named = json.dumps([wanted.customer_id, wanted.action_id, int(now_s // 60)])
        outcome = Outcome(
            id="unsubscribe-" + sha256(named.encode()).hexdigest()[:32],
            type=OutcomeType.UNSUBSCRIBED,
            action_id=wanted.action_id,
            customer_id=wanted.customer_id,
            at_ms=int(now_s * 1000),
            properties={"channel": "email", "reason": "one_click"},
        )
        return scoped(outcome, self._purposes)


def token_of(callback: Callback) -> str:
    """Return the token in a callback's query, "" when there is none or the query is nothing that we wrote."""
    try:
        return parse_qs(callback.query, max_num_fields=20).get(QUERY_NAME, [""])[0] if callback.query else ""
    except ValueError:
        return ""


def _reading(title: str, content: str, *outcomes: Outcome) -> Reading:
    body = _PAGE.format(title=title, content=content).encode()
    return Reading(outcomes=outcomes, body=body, media_type="text/html; charset=utf-8")


def _says_one_click(callback: Callback) -> bool:
    """Whether the body is the form of RFC 8058, 3.2: as multipart/form-data or urlencoded."""
    if len(callback.body) > BODY_MAX_BYTES:
        return False
    media_type = callback.headers.get("content-type", "")
    if not media_type.lower().startswith("multipart/form-data"):
        return _FORM in [
            (name, value.strip())
            for name, values in parse_qs(callback.body.decode("utf-8", "replace")).items()
            for value in values
        ]
    head = f"Content-Type: {media_type}\r\n\r\n".encode("latin-1", "replace")
    try:
        return any(
            (part.get_param("name", header="content-disposition"), str(part.get_payload()).strip()) == _FORM
            for part in message_from_bytes(head + callback.body).walk()
        )
    except ValueError:  # A number of thousands of digits among the parameters of a header.
        return False


def _signature(key: bytes, payload: str) -> str:
    return _encoded(hmac.digest(key, _PURPOSE + payload.encode("utf-8", "replace"), sha256))


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
