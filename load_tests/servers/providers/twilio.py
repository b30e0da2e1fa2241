"""Twilio's REST API as far as messages and calls go: one account, its errors in its own words, its signed callbacks.

Checked as the real one checks: credentials (a standard API key may not read the account), required fields, numbers,
senders of the account, lengths. Sources: Twilio's API reference and error dictionary.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha1, sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from load_tests.servers.providers.post import Post

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_ERRORS = "https://www.twilio.com/docs/errors"

Fields = dict[str, str]


class TwilioRefuses(Exception):
    """A request that Twilio does not take: its code, its words, the status, and further headers."""

    def __init__(self, status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def response(self) -> JSONResponse:
        """Return the error as Twilio writes it."""
        content = {"code": self.code, "message": self.message, "more_info": f"{_ERRORS}/{self.code}"}
        return JSONResponse(content | {"status": self.status}, self.status, self.headers)


class TwilioServer:
    """An ASGI app that is one account.

    ``created`` holds what was taken, by SID, with the form it came from under ``"form"``. Who is in ``opted_out`` or
    ``landlines`` is refused as Twilio refuses them; the next ``busy_times`` requests are answered 429.
    """

    def __init__(
        self,
        *,
        account_sid: str,
        auth_token: str,
        senders: Sequence[str],
        messaging_services: Sequence[str] = (),
        api_keys: Mapping[str, str] | None = None,
        now_s: float = 1_772_442_000.0,
    ) -> None:
        self.account_sid, self._auth_token = account_sid, auth_token
        self._senders, self._services = frozenset(senders), frozenset(messaging_services)
        self._users = {account_sid: auth_token, **(api_keys or {})}
        self._date = format_datetime(datetime.fromtimestamp(now_s, UTC))
        self.created: dict[str, dict[str, Any]] = {}
        self.opted_out: set[str] = set()
        self.landlines: set[str] = set()
        self.busy_times, self.retry_after_s = 0, 3
        account = "/2010-04-01/Accounts/{account}"
        routes = [
            Route(f"{account}.json", self._account),
            Route(f"{account}/{{resource}}.json", self._listed, methods=["GET"]),
            Route(f"{account}/{{resource}}.json", self._create, methods=["POST"]),
        ]
        self._app = Starlette(routes=routes, exception_handlers={TwilioRefuses: _refused, 404: _not_found})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    # -------------------------------------------------------------------------------------- what it is asked

    async def _account(self, request: Request) -> JSONResponse:
        if self._user(request) != self.account_sid:
            raise _unauthenticated()
        content = {"sid": self.account_sid, "status": "active", "type": "Full", "friendly_name": "Shop"}
        return JSONResponse(content | {"date_created": self._date})

    async def _listed(self, request: Request) -> JSONResponse:
        self._user(request)
        resource = request.path_params["resource"]
        if resource not in {"Messages", "Calls"}:
            raise _unknown(request)
        kept = [one for one in self.created.values() if one["resource"] == resource]
        return JSONResponse({resource.lower(): [one["answer"] for one in kept[-1:]], "page": 0, "page_size": 1})

    async def _create(self, request: Request) -> JSONResponse:
        self._user(request)
        if self.busy_times > 0:
            self.busy_times -= 1
            raise TwilioRefuses(429, 20429, "Too Many Requests", {"Retry-After": str(self.retry_after_s)})
        pairs: list[tuple[str, str]] = []
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True)
        form, resource = dict(pairs), request.path_params["resource"]
        match resource:
            case "Messages":
                self._check_message(form)
                answer = self._message(form)
            case "Calls":
                self._check_call(form, [value for name, value in pairs if name == "StatusCallbackEvent"])
                answer = self._call(form)
            case _:
                raise _unknown(request)
        self.created[answer["sid"]] = {"resource": resource, "form": form, "pairs": pairs, "answer": answer}
        return JSONResponse(answer, 201)

    def _user(self, request: Request) -> str:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except (NotBase64, ValueError):
            raise _unauthenticated() from None
        if scheme.lower() != "basic" or self._users.get(user) != password:
            raise _unauthenticated()
        if request.path_params["account"] != self.account_sid:
            raise _unknown(request)
        return user

    # ------------------------------------------------------------------------------------------ what it checks

    def _check_message(self, form: Fields) -> None:
        if not form.get("To"):
            raise TwilioRefuses(400, 21604, "A 'To' phone number is required.")
        if not form.get("From") and not form.get("MessagingServiceSid"):
            raise TwilioRefuses(400, 21603, "A 'From' phone number is required.")
        if not form.get("Body") and not form.get("MediaUrl"):
            raise TwilioRefuses(400, 21602, "Message body is required.")
        if len(form.get("Body", "")) > 1600:
            raise TwilioRefuses(400, 21617, "The concatenated message body exceeds the 1600 character limit")
        _check_number(form["To"], f"Invalid 'To' Phone Number: {form['To']}")
        if form["To"] in self.landlines:
            raise TwilioRefuses(400, 21614, f"'To' number is not a valid mobile number: {form['To']}")
        self._check_sender(form)
        if not 1 <= int(form.get("ValidityPeriod", "36000")) <= 36_000:
            raise TwilioRefuses(400, 90007, "Invalid validity period value")
        _check_url(form.get("StatusCallback"), 21609, "The 'StatusCallback' URL is not a valid URL.")
        if form["To"] in self.opted_out:
            raise TwilioRefuses(400, 21610, "Attempt to send to unsubscribed recipient")

    def _check_sender(self, form: Fields) -> None:
        service, sender = form.get("MessagingServiceSid"), form.get("From")
        if service and service not in self._services:
            raise TwilioRefuses(404, 20404, f"The requested resource {service} was not found")
        if sender and sender not in self._senders:
            message = f"'From' {sender} is not a Twilio phone number or Short Code country mismatch"
            raise TwilioRefuses(400, 21606, message)

    def _check_call(self, form: Fields, events: Sequence[str]) -> None:
        if not form.get("To"):
            raise TwilioRefuses(400, 21201, "No 'To' number is specified")
        if not form.get("From"):
            raise TwilioRefuses(400, 21213, "No 'From' number is specified")
        if not form.get("Url") and not form.get("Twiml") and not form.get("ApplicationSid"):
            raise TwilioRefuses(400, 21205, "Url parameter is required.")
        _check_number(form["To"], f"The phone number you are attempting to call, {form['To']}, is not valid.")
        if form["From"] not in self._senders:
            message = f"The source phone number provided, {form['From']}, is not yet verified for your account."
            raise TwilioRefuses(400, 21210, message)
        _check_url(form.get("Url"), 21205, "Url is not a valid URL.")
        _check_url(form.get("StatusCallback"), 21609, "The 'StatusCallback' URL is not a valid URL.")
        if len(form.get("Twiml", "")) > 4000:
            raise TwilioRefuses(400, 21218, "Twiml is longer than 4000 characters")
        if set(events) - {"initiated", "ringing", "answered", "completed"}:
            raise TwilioRefuses(400, 21626, "Invalid StatusCallbackEvent")
        if form.get("MachineDetection", "Enable") not in {"Enable", "DetectMessageEnd"}:
            raise TwilioRefuses(400, 20001, "Invalid MachineDetection")
        if not 1 <= int(form.get("Timeout", "60")) <= 600:
            raise TwilioRefuses(400, 20001, "Invalid Timeout")

    # ----------------------------------------------------------------------------------------- what it answers

    def _message(self, form: Fields) -> dict[str, Any]:
        service = form.get("MessagingServiceSid")
        return self._resource("SM", "Messages") | {
            "body": form.get("Body", ""),
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": form.get("From"),
            "messaging_service_sid": service,
            "num_segments": "1",
            "price": None,
            "status": "accepted" if service else "queued",
            "to": form["To"],
        }

    def _call(self, form: Fields) -> dict[str, Any]:
        return self._resource("CA", "Calls") | {
            "answered_by": None,
            "direction": "outbound-api",
            "duration": None,
            "from": form["From"],
            "price": None,
            "status": "queued",
            "to": form["To"],
        }

    def _resource(self, prefix: str, resource: str) -> dict[str, Any]:
        sid = prefix + sha256(str(len(self.created)).encode()).hexdigest()[:32]
        uri = f"/2010-04-01/Accounts/{self.account_sid}/{resource}/{sid}.json"
        common = {"sid": sid, "account_sid": self.account_sid, "api_version": "2010-04-01", "uri": uri}
        return common | {"date_created": self._date, "date_updated": self._date}

    # ------------------------------------------------------------------------------------ what it says by itself

    def report(self, sid: str, status: str, **fields: str) -> Post:
        """Return the callback that tells ``status`` of what was created, to the address that its form named."""
        created = self.created[sid]
        form, answer = created["form"], created["answer"]
        common = {"AccountSid": self.account_sid, "ApiVersion": "2010-04-01", "To": form["To"]}
        common["From"] = form.get("From", "")
        if created["resource"] == "Messages":
            own = {"MessageSid": sid, "SmsSid": sid, "MessageStatus": status, "SmsStatus": status}
        else:
            own = {"CallSid": sid, "CallStatus": status, "Direction": answer["direction"], "Timestamp": self._date}
            own |= {"CallbackSource": "call-progress-events"}
        return self.signed(form["StatusCallback"], common | own | fields)

    def inbound(self, url: str, *, sender: str, text: str, **fields: str) -> Post:
        """Return the request that tells of a message from a customer, to the address of the number's webhook."""
        sid = "SM" + sha256(f"{sender} {text}".encode()).hexdigest()[:32]
        own = {"MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "SmsStatus": "received", "NumSegments": "1"}
        message = {"From": sender, "To": min(self._senders), "Body": text, "NumMedia": "0"}
        return self.signed(url, {"AccountSid": self.account_sid, "ApiVersion": "2010-04-01"} | own | message | fields)

    def signed(self, url: str, fields: Fields) -> Post:
        """Return ``fields`` as a form for ``url``, signed. The URL's fragment is for Twilio alone."""
        called = url.partition("#")[0]
        written = called
        for name in sorted(fields):
            written += name + fields[name]
        mark = b64encode(hmac.new(self._auth_token.encode(), written.encode(), sha1).digest()).decode()
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "X-Twilio-Signature": mark}
        return Post(called, headers | {"User-Agent": "TwilioProxy/1.1"}, urlencode(fields).encode())


def _check_number(number: str, message: str) -> None:
    if not _E164.fullmatch(number):
        raise TwilioRefuses(400, 21211, message)


def _check_url(url: str | None, code: int, message: str) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "_" in parts.hostname:
        raise TwilioRefuses(400, code, message)


def _unauthenticated() -> TwilioRefuses:
    return TwilioRefuses(401, 20003, "Authenticate", {"WWW-Authenticate": 'Basic realm="Twilio API"'})


def _unknown(request: Request) -> TwilioRefuses:
    return TwilioRefuses(404, 20404, f"The requested resource {request.url.path} was not found")


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TwilioRefuses)
    return error.response()


async def _not_found(request: Request, _error: Exception) -> JSONResponse:
    return _unknown(request).response()
