"""Twilio's REST API as ``sms`` and ``twilio_voice`` share it: the account, its requests, its errors, its signature.

What an answer comes to, beyond the table in http.py (sources: Twilio's error dictionary, 20429 and 20500):

=============================  =========  ==============================================================
what happened                  result     why
=============================  =========  ==============================================================
a rate code, whatever status   RETRY      429s are never processed; some limits come with status 400
500, 502, 504                  UNKNOWN    "not idempotent": Twilio itself says it may have been sent
503                            RETRY      nothing was taken
=============================  =========  ==============================================================

There is no idempotency key for messages and calls: ``Idempotency-Key`` is sent, for systems that speak this API and
honour it, and Twilio ignores it. A repeat after UNKNOWN may therefore reach the customer twice.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from pydantic import Field, model_validator

from connectors.callback import Callback, CallbackRefused, Outcome, OutcomeType, Reading
from connectors.connector_type import Surroundings, environment_value
from connectors.http import (
    DETAIL_CHARS_MAX,
    HttpAnswer,
    HttpParameters,
    HttpSender,
    HttpUrl,
    answer_receipt,
    form_request,
    retry_after_s,
)
from connectors.phone import without_numbers
from connectors.protocol import Delivery, Finding, Receipt, Result

API_VERSION = "2010-04-01"
#: The recipient has answered STOP: no message from this sender may reach them until they answer START.
OPTED_OUT = 21610
#: The number takes no messages, or no calls, at all: why, by Twilio's error code.
DEAD_NUMBERS: Mapping[int, str] = {
    21211: "invalid_number",
    21217: "invalid_number",
    21614: "not_a_mobile",
    30005: "unknown_number",
    30006: "landline",
}

#: Limits that pass: calls at once, messages of a number a second or in its queue, requests of the account at once.
_RATE_CODES = frozenset({10004, 14107, 20429, 20503, 21611, 30001, 30022, 63017, 63018})
_PERHAPS_TAKEN = frozenset({500, 502, 504})
#: Twilio gives a callback up after one attempt unless its URL asks for more in a fragment, which is never sent.
_RETRIES = "#rc=5&rp=ct,rt,5xx"
_CALLBACK_FIELDS_MAX = 200


class TwilioParameters(HttpParameters):
    """Settings of an account."""

    base_url: HttpUrl = Field("https://api.twilio.com", description="Address of Twilio's REST API, or of its region.")
    account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$", description="SID of the account, AC and 32 hex digits.")
    auth_token_env: str = Field(
        "", description="Environment variable with the auth token; callbacks cannot be proved without it."
    )
    api_key_sid: str = Field(
        "", pattern=r"^(SK[0-9a-fA-F]{32})?$", description="SID of an API key that requests are made with instead."
    )
    api_key_secret_env: str = Field("", description="Environment variable with the secret of that API key.")
    callback_url: HttpUrl | None = Field(
        None, description="Public address that Twilio reports to, such as https://…/v1/outcomes/<connector>."
    )

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if bool(self.api_key_sid) != bool(self.api_key_secret_env):
            raise ValueError('setting "api_key_sid" and setting "api_key_secret_env" need each other')
        if not self.auth_token_env and not self.api_key_sid:
            raise ValueError('setting "auth_token_env" is missing, and there is no "api_key_sid" in its place')
        if self.callback_url and not self.auth_token_env:
            raise ValueError('setting "callback_url" needs "auth_token_env", which callbacks are signed with')
        return self


@dataclass(frozen=True, slots=True, repr=False)
class TwilioCredentials:
    """What requests are made with."""

    user: str
    password: str

    @classmethod
    def of(cls, name: str, parameters: TwilioParameters, surroundings: Surroundings) -> Self:
        """Read the secrets that the settings name. Raise ``ConnectorMisconfigured`` when one is not set."""
        token, secret = auth_token(name, parameters, surroundings), ""
        if variable := parameters.api_key_secret_env:
            secret = environment_value(name, "api_key_secret_env", variable, surroundings)
        return cls(parameters.api_key_sid or parameters.account_sid, secret or token)


def auth_token(name: str, parameters: TwilioParameters, surroundings: Surroundings) -> str:
    """Return the auth token, which callbacks are signed with; empty when the settings name none."""
    variable = parameters.auth_token_env
    return environment_value(name, "auth_token_env", variable, surroundings) if variable else ""


class TwilioAccount:
    """Creates resources (``Messages``, ``Calls``) under one account."""

    def __init__(
        self, parameters: TwilioParameters, credentials: TwilioCredentials, now_s: Callable[[], float]
    ) -> None:
        self._parameters = parameters
        self._url = f"{parameters.base_url.rstrip('/')}/{API_VERSION}/Accounts/{parameters.account_sid}"
        pair = f"{credentials.user}:{credentials.password}".encode()
        self._authorization = {"Authorization": f"Basic {b64encode(pair).decode()}"}
        self._sender = HttpSender(parameters, now_s)
        self._now_s = now_s

    async def create(self, resource: str, delivery: Delivery, fields: Sequence[tuple[str, str]], to: str) -> Receipt:
        """Create one message or call to the number ``to`` and say what it came to."""
        request = form_request(delivery.id, fields)
        if isinstance(request, Receipt):
            return request
        headers = {**request.headers, **self._authorization}
        answer = await self._sender.ask("POST", f"{self._url}/{resource}.json", body=request.body, headers=headers)
        receipt = answer if isinstance(answer, Receipt) else created_receipt(answer, self._now_s())
        # Who may have been written to is known even when Twilio has not said so.
        return replace(receipt, recipient=to) if receipt.result in {Result.DELIVERED, Result.UNKNOWN} else receipt

    def status_callback(self, delivery: Delivery) -> str | None:
        """Return where Twilio is to report on the delivery, or None when it is not to."""
        if not self._parameters.callback_url:
            return None
        url, named = self._parameters.callback_url, {"action": delivery.id, "customer": delivery.customer_id}
        query = urlencode(named, quote_via=quote, errors="replace")
        return f"{url}{'&' if '?' in url else '?'}{query}{_RETRIES}"

    async def check(self, resource: str) -> str | None:
        """Return None when Twilio answers and takes the credentials, else what to mend. Creates nothing.

        A standard API key may not read the account itself, so with one the latest ``resource`` is read.
        """
        url = f"{self._url}/{resource}.json?PageSize=1" if self._parameters.api_key_sid else f"{self._url}.json"
        remedy = "Check account_sid and base_url."
        return await self._sender.reach(url, self._authorization, method="GET", rejected=remedy)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()


def created_receipt(answer: HttpAnswer, now_s: float) -> Receipt:
    """Return what Twilio's answer to a creation means (the table above)."""
    receipt = answer_receipt(answer.status, answer.headers, answer.body, now_s)
    content = answer.json_object()
    if receipt.result is Result.DELIVERED:
        return replace(receipt, reference=str(content.get("sid") or "")[:DETAIL_CHARS_MAX])
    code = content.get("code")
    if isinstance(code, int):
        receipt = replace(receipt, detail=_detail(code, str(content.get("message") or "no message")))
        if code in _RATE_CODES:
            wait_s = retry_after_s(answer.headers.get("retry-after", ""), now_s)
            return replace(receipt, result=Result.RETRY, retry_after_s=wait_s)
        if receipt.result is Result.REFUSED:
            return replace(receipt, finding=_finding(code))
    if answer.status in _PERHAPS_TAKEN:
        return replace(receipt, result=Result.UNKNOWN)
    return receipt


def _finding(code: int) -> Finding | None:
    if code == OPTED_OUT:
        return Finding(type=OutcomeType.UNSUBSCRIBED, reason="opted_out", error_code=code)
    if code in DEAD_NUMBERS:
        return Finding(type=OutcomeType.MESSAGE_BOUNCED, reason=DEAD_NUMBERS[code], error_code=code)
    return None


def signature(token: str, url: str, fields: Sequence[tuple[str, str]]) -> str:
    """Return ``X-Twilio-Signature`` of a form that is posted to ``url``: base64 of HMAC-SHA1.

    Signed is the URL with its query, then each name and value in the order of names; a repeated value counts once.
    """
    written = "".join(name + value for name, value in sorted(set(fields)))
    return b64encode(hmac.digest(token.encode(), (url + written).encode("utf-8", "replace"), "sha1")).decode()


@dataclass(frozen=True, slots=True)
class TwilioReport:
    """A proved callback: its form, and the action and customer that the delivery had put into its address."""

    fields: Mapping[str, str]
    action_id: str
    customer_id: str


class TwilioCallbacks:
    """Proves callbacks of an account and hands them to ``outcomes``, which knows what its resource reports."""

    def __init__(
        self,
        parameters: TwilioParameters,
        token: str,
        outcomes: Callable[[TwilioReport], tuple[Outcome, ...]],
    ) -> None:
        self._callback_url = parameters.callback_url or ""
        self._auth_token = token
        self._outcomes = outcomes

    def read(self, callback: Callback) -> Reading:
        """Return what is reported. The answer is empty TwiML, so that an inbound message gets no reply.

        Raises ``CallbackRefused``: 401 unsigned, 403 signed otherwise or not provable, 400 not a form.
        """
        if not self._callback_url:
            raise CallbackRefused(403, 'this connector has no "callback_url", over which callbacks are signed')
        given = callback.headers.get("x-twilio-signature", "")
        if not given:
            raise CallbackRefused(401, "the X-Twilio-Signature header is missing")
        fields = _form(callback)
        if not self._is_genuine(given, callback.query, fields):
            remedy = f"check auth_token_env, and that Twilio calls {self._callback_url}"
            raise CallbackRefused(403, f"X-Twilio-Signature does not match: {remedy}")
        query = {name: values[0] for name, values in parse_qs(callback.query).items()}
        report = TwilioReport(dict(fields), query.get("action", ""), query.get("customer", ""))
        return Reading(outcomes=self._outcomes(report), body=b"<Response/>", media_type="text/xml")

    def _is_genuine(self, given: str, query: str, fields: Sequence[tuple[str, str]]) -> bool:
        """Twilio has signed with and without the port at different times, and does not say of the fragment."""
        address = self._callback_url.partition("?")[0]
        called = [url + (f"?{query}" if query else "") for url in _with_and_without_port(address)]
        signed = [signature(self._auth_token, url + tail, fields) for url in called for tail in ("", _RETRIES)]
        return any(hmac.compare_digest(one.encode(), given.encode()) for one in signed)


def _detail(code: int, message: str) -> str:
    opening = "the recipient has opted out: " if code == OPTED_OUT else ""
    return f"{opening}Twilio error {code}: {without_numbers(message)}"[:DETAIL_CHARS_MAX]


def _form(callback: Callback) -> list[tuple[str, str]]:
    try:
        text = callback.body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_CALLBACK_FIELDS_MAX)
    except ValueError:
        raise CallbackRefused(400, "the body is not an URL-encoded form") from None


def _with_and_without_port(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.port is None:
        netloc = f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    else:
        netloc = parts.netloc.removesuffix(f":{parts.port}")
    return url, parts._replace(netloc=netloc).geturl()
