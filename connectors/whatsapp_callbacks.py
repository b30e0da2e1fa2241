"""What Meta reports of WhatsApp: statuses, replies and preferences, several in one body.

An app has one callback address for all numbers of its accounts, so reports on any of them are read. Meta repeats a
callback for days until it is answered 200, and may report out of order.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from connectors.callback import Callback, CallbackRefused, Outcome, OutcomeType, Reading
from connectors.opt_out import OptOutWords, scoped

#: 131026: the number is not on WhatsApp, or its owner has not taken the terms. 131050: they stopped our marketing.
UNDELIVERABLE, STOPPED = 131026, 131050
CLOSING = {UNDELIVERABLE: OutcomeType.MESSAGE_BOUNCED, STOPPED: OutcomeType.UNSUBSCRIBED}
REASONS = {
    UNDELIVERABLE: "undeliverable",
    STOPPED: "opted_out",
    130429: "rate_limit",
    130472: "experiment",
    131047: "outside_24_hours",
    131048: "spam_rate_limit",
    131049: "too_much_marketing",
    131053: "media",
    131056: "pair_rate_limit",
    132001: "no_such_template",
    132015: "template_paused",
    132016: "template_disabled",
}
_PREFERENCES = {"stop": OutcomeType.UNSUBSCRIBED, "resume": OutcomeType.RESUBSCRIBED}

Object = dict[str, Any]


class WhatsAppCallbacks:
    """Proves callbacks with the app's secret and answers Meta's question whether this is the right address."""

    def __init__(
        self,
        *,
        app_secret: str,
        verify_token: str,
        words: OptOutWords,
        purposes: tuple[str, ...] = (),
    ) -> None:
        self._purposes = purposes
        self._app_secret = app_secret.encode()
        self._verify_token = verify_token.encode()
        self._words = words

    def read(self, callback: Callback) -> Reading:
        """Return what is reported, or the answer to the address's verification (a GET).

        Raises ``CallbackRefused``: 401 unsigned, 403 signed otherwise or not provable, 400 not understood.
        """
        if callback.method == "GET":
            return self._verification(callback.query)
        self._prove(callback)
        try:
            content = json.loads(callback.body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise CallbackRefused(400, "the body is not a JSON object")
        return Reading(outcomes=tuple(scoped(one, self._purposes) for one in self._outcomes(content)))

    def _verification(self, query: str) -> Reading:
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        if asked.get("hub.mode") != "subscribe" or "hub.challenge" not in asked:
            raise CallbackRefused(400, "a GET must ask for verification: hub.mode=subscribe with a hub.challenge")
        if not self._verify_token:
            raise CallbackRefused(403, 'this connector has no "verify_token_env"')
        if not hmac.compare_digest(asked.get("hub.verify_token", "").encode(), self._verify_token):
            raise CallbackRefused(403, "hub.verify_token is not the one of this connector")
        return Reading(body=asked["hub.challenge"].encode())

    def _prove(self, callback: Callback) -> None:
        if not self._app_secret:
            raise CallbackRefused(403, 'this connector has no "app_secret_env", which callbacks are signed with')
        given = callback.headers.get("x-hub-signature-256", "")
        if not given:
            raise CallbackRefused(401, "the X-Hub-Signature-256 header is missing")
        right = "sha256=" + hmac.digest(self._app_secret, callback.body, "sha256").hex()
        if not hmac.compare_digest(right.encode(), given.encode()):
            raise CallbackRefused(403, "X-Hub-Signature-256 does not match: check app_secret_env")

    def _outcomes(self, content: Object) -> Iterator[Outcome]:
        for entry in _objects(content.get("entry")):
            for change in _objects(entry.get("changes")):
                value = change.get("value")
                if not isinstance(value, dict):
                    continue
                metadata = value.get("metadata")
                ours = _text(metadata, "display_phone_number")
                yield from _read_each(value.get("statuses"), status_outcome)
                for message in _objects(value.get("messages")):
                    if outcome := self._inbound(message, ours):
                        yield outcome
                yield from _read_each(value.get("user_preferences"), preference_outcome)

    def _inbound(self, message: Object, ours: str) -> Outcome | None:
        name, sender, form = _text(message, "id"), _text(message, "from"), _text(message, "type")
        if not name or not sender or form == "system":
            return None
        text, payload = _said(message, form)
        properties: Object = {"channel": "whatsapp", "reference": name, "message_type": form, "to": _number(ours)}
        optional = {"text": text, "payload": payload, "in_reply_to": _text(message.get("context"), "id")}
        properties |= {key: value for key, value in optional.items() if value}
        return Outcome(
            id=f"{name}:received",
            type=self._words.type_of(text, payload),
            address=_number(sender),
            at_ms=_moment_ms(message),
            properties=properties,
        )


def status_outcome(status: Object) -> Outcome | None:
    """Return what one status says: delivered, read or failed; None for what is not there yet (sent)."""
    name, word = _text(status, "id"), _text(status, "status")
    properties: Object = {"channel": "whatsapp", "reference": name}
    match word:
        case "delivered":
            kind = OutcomeType.MESSAGE_DELIVERED
        case "read":
            kind = OutcomeType.MESSAGE_READ
        case "failed":
            code = next((error.get("code") for error in _objects(status.get("errors"))), None)
            kind = CLOSING.get(code if isinstance(code, int) else 0, OutcomeType.MESSAGE_FAILED)
            known = isinstance(code, int)
            properties |= {"reason": REASONS.get(code, "other") if isinstance(code, int) else "failed"}
            properties |= {"error_code": code} if known else {}
        case _:
            return None
    opaque = {key: values[0] for key, values in parse_qs(_text(status, "biz_opaque_callback_data")).items()}
    return Outcome(
        id=f"{name}:{word}",
        type=kind,
        action_id=opaque.get("action", ""),
        customer_id=opaque.get("customer", ""),
        address=_number(_text(status, "recipient_id")),
        at_ms=_moment_ms(status),
        properties=properties,
    )


def preference_outcome(preference: Object) -> Outcome | None:
    """Return what a choice in WhatsApp's own settings says: marketing stopped, or resumed."""
    word, who = _text(preference, "value"), _text(preference, "wa_id")
    kind = _PREFERENCES.get(word)
    if kind is None or not who:
        return None
    at_ms = _moment_ms(preference)
    properties = {"channel": "whatsapp", "category": _text(preference, "category")}
    name = f"{who}:preference:{word}:{at_ms}"
    return Outcome(id=name, type=kind, address=_number(who), at_ms=at_ms, properties=properties)


def _said(message: Object, form: str) -> tuple[str, str]:
    """Return the words of an inbound message, and the payload of the button that was pressed."""
    part = message.get(form)
    match form:
        case "text":
            return _text(part, "body"), ""
        case "button":
            return _text(part, "text"), _text(part, "payload")
        case "interactive" if isinstance(part, dict):
            reply = part.get(_text(part, "type"))
            return _text(reply, "title"), _text(reply, "id")
        case "reaction":
            return _text(part, "emoji"), ""
        case _:
            return _text(part, "caption"), ""


def _read_each(parts: Any, read: Callable[[Object], Outcome | None]) -> Iterator[Outcome]:
    for part in _objects(parts):
        if outcome := read(part):
            yield outcome


def _objects(value: Any) -> list[Object]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _text(part: Any, name: str) -> str:
    value = part.get(name) if isinstance(part, dict) else None
    return value if isinstance(value, str) else ""


def _number(digits: str) -> str:
    """Return Meta's digits as E.164; what is no number stays as it is."""
    return f"+{digits}" if digits.isascii() and digits.isdigit() else digits


def _moment_ms(part: Object) -> int | None:
    """Return the moment: Meta writes epoch seconds, as text or as a number."""
    text = str(part.get("timestamp", ""))
    return int(text) * 1000 if text.isascii() and text.isdigit() and len(text) <= 11 else None
