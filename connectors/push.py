"""The push connector: notifications to phones and browsers through Firebase Cloud Messaging, HTTP v1.

Firebase has no idempotency key. The delivery's id goes into the message as the notification's tag (Android, web) and
its collapse id (Apple), so that a repeat takes the place of the first one on the screen instead of ringing beside it,
and into the data as ``action_id``, for apps that count.

===========================================  ========  ==================================================
what Firebase says                           result    why
===========================================  ========  ==================================================
UNREGISTERED, SENDER_ID_MISMATCH,            REFUSED   this token, message or set-up never works; the detail
INVALID_ARGUMENT, THIRD_PARTY_AUTH_ERROR               begins with the code, so that rules can drop the token
QUOTA_EXCEEDED, UNAVAILABLE, INTERNAL        RETRY     not now; Retry-After is its wish
401 without a code                           renewed   the access token is fetched anew, once in the attempt
anything else                                          the table of connectors/http.py
===========================================  ========  ==================================================
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from connectors import clock
from connectors.callback import OutcomeType
from connectors.connector_type import ActionParams, ConnectorType, Surroundings, checked_params
from connectors.errors import ConnectorMisconfigured, Problem
from connectors.google_account import AccessTokens, ServiceAccount, service_account
from connectors.http import (
    DETAIL_CHARS_MAX,
    HttpAnswer,
    HttpParameters,
    HttpSender,
    HttpUrl,
    answer_receipt,
    json_request,
)
from connectors.protocol import Delivery, Finding, Receipt, Result

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
CODES: Mapping[str, Result] = {
    "UNREGISTERED": Result.REFUSED,
    "SENDER_ID_MISMATCH": Result.REFUSED,
    "INVALID_ARGUMENT": Result.REFUSED,
    "THIRD_PARTY_AUTH_ERROR": Result.REFUSED,
    "QUOTA_EXCEEDED": Result.RETRY,
    "UNAVAILABLE": Result.RETRY,
    "INTERNAL": Result.RETRY,
}
#: Firebase keeps a message for four weeks at most.
LIFE_S_MAX = 2_419_200
COLLAPSE_ID_BYTES_MAX = 64
#: Names in the data that Firebase keeps for itself, and those that are written here.
_TAKEN, _TAKEN_PREFIXES = frozenset({"from", "message_type", "action_id", "link"}), ("google", "gcm")
#: A message that is checked and never sent: topics exist whether anybody listens or not.
_CHECKED = {"validate_only": True, "message": {"topic": "check", "data": {"check": "1"}}}


class PushParameters(HttpParameters):
    """Settings of a Firebase project."""

    credentials_env: str = Field(
        min_length=1, description="Environment variable with the service account's key file: its JSON, or its path."
    )
    project: str = Field("", description="Id of the Firebase project; empty takes the service account's own.")
    base_url: HttpUrl = Field("https://fcm.googleapis.com", description="Address of the API.")


class PushParams(ActionParams):
    """What a notification needs."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("to", "topic"), ("title", "text", "data"))

    to: str = Field("", max_length=4_096, description="Registration token of the device.")
    topic: str = Field("", pattern=r"^([A-Za-z0-9_.~%-]{1,900})?$", description="Topic, instead of a device.")
    title: str = Field("", max_length=1_000, description="Title of the notification.")
    text: str = Field("", max_length=4_000, description="Its text.")
    image: HttpUrl | None = Field(None, description="Address of a picture in it.")
    link: str = Field("", max_length=2_000, description="What tapping it opens; the app finds it in the data as link.")
    data: dict[str, str | bool | int | float] = Field(
        {}, description="Facts for the app, as an object of texts, numbers and booleans; they arrive as text."
    )

    @field_validator("data")
    @classmethod
    def _free_names(cls, data: dict[str, Any]) -> dict[str, Any]:
        for name in data:
            if name in _TAKEN or name.startswith(_TAKEN_PREFIXES):
                raise ValueError(f'the name "{name}" is taken; choose another')
        return data


class PushConnector:
    """Sends each delivery as one message. That it was taken does not mean that the device showed it."""

    def __init__(
        self,
        name: str,
        parameters: PushParameters,
        *,
        account: ServiceAccount,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._timeout_s = parameters.timeout_s
        project = parameters.project or account.project
        self._url = f"{parameters.base_url.rstrip('/')}/v1/projects/{project}/messages:send"
        self._now_s = now_s
        self._sender = HttpSender(parameters, now_s)
        self._tokens = AccessTokens(account, SCOPE, self._sender, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``; fetching an access token is part of it."""
        params = checked_params(PushParams, delivery)
        if isinstance(params, Receipt):
            return params
        if params.to and params.topic:
            return Receipt(result=Result.REFUSED, detail='params "to" and "topic" are both there. Give one of them.')
        request = json_request(delivery.id, {"message": message_content(delivery, params, self._now_s())})
        if isinstance(request, Receipt):
            return request
        answer = await self._asked(request.body)
        return answer if isinstance(answer, Receipt) else push_receipt(answer, self._now_s(), params.to)

    async def check(self) -> str | None:
        """Return None when the service account gets a token and Firebase would take a message, else what to mend."""
        answer = await self._asked(json.dumps(_CHECKED).encode())
        receipt = answer if isinstance(answer, Receipt) else push_receipt(answer, self._now_s(), "")
        match receipt.result:
            case Result.DELIVERED:
                return None
            case Result.REFUSED if receipt.status is not None:
                return f"{receipt.detail} Check credentials_env, project and that the account may send messages."
            case Result.REFUSED:
                return f"{receipt.detail}."
            case _ if receipt.status is not None:
                return f"Firebase answered {receipt.status}. It is reachable but not in order."
            case _:
                return f"{receipt.detail}. Check base_url and the network."

    async def close(self) -> None:
        """Close the connections."""
        await self._tokens.close()
        await self._sender.close()

    async def _asked(self, body: bytes) -> HttpAnswer | Receipt:
        """Post ``body`` with an access token, once more with a new one when the first is refused."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._timeout_s
        answer: HttpAnswer | Receipt
        refused = ""
        while True:
            try:
                async with asyncio.timeout_at(ends_at):
                    token = await self._tokens.current(refused)
            except TimeoutError:
                return Receipt(result=Result.RETRY, detail=f"no access token within {self._timeout_s:g} s")
            if isinstance(token, Receipt):
                return token
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            answer = await self._sender.ask(
                "POST", self._url, body=body, headers=headers, within_s=ends_at - loop.time()
            )
            if isinstance(answer, Receipt) or answer.status != 401 or refused or _code(_error(answer)):
                return answer
            refused = token


def message_content(delivery: Delivery, params: PushParams, now_s: float) -> dict[str, Any]:
    """Return the message. Its life ends with the delivery's deadline, so it may shrink from attempt to attempt."""
    shown = {"title": params.title, "body": params.text, "image": params.image}
    notification = {name: value for name, value in shown.items() if value}
    data = {name: _text(value) for name, value in params.data.items()} | {"action_id": delivery.id}
    android: dict[str, Any] = {"priority": "HIGH"}
    collapse_id = delivery.id.encode("utf-8", "replace")[:COLLAPSE_ID_BYTES_MAX].decode("utf-8", "ignore")
    apple_headers = {"apns-collapse-id": collapse_id}
    web: dict[str, Any] = {}
    if notification:
        android["notification"] = {"tag": delivery.id}
        web["notification"] = {"tag": delivery.id}
    if params.link:
        data["link"] = params.link
    if params.link.startswith("https://"):  # Browsers are sent nowhere else.
        web["fcm_options"] = {"link": params.link}
    if delivery.deadline_at_ms is not None:
        life_s = min(LIFE_S_MAX, max(0, delivery.deadline_at_ms // 1000 - int(now_s)))
        android["ttl"] = f"{life_s}s"
        apple_headers["apns-expiration"] = str(delivery.deadline_at_ms // 1000)
        web["headers"] = {"TTL": str(life_s)}
    message: dict[str, Any] = {"token": params.to} if params.to else {"topic": params.topic}
    parts = {"notification": notification, "data": data, "android": android, "webpush": web}
    message |= {name: part for name, part in parts.items() if part}
    return message | {"apns": {"headers": apple_headers}}


def push_receipt(answer: HttpAnswer, now_s: float, to: str) -> Receipt:
    """Return what Firebase's answer means. The detail of an error begins with its code; a dead token is recipient."""
    receipt = answer_receipt(answer.status, answer.headers, answer.body, now_s)
    if receipt.result is Result.DELIVERED:
        return replace(receipt, reference=str(answer.json_object().get("name", ""))[:DETAIL_CHARS_MAX])
    error = _error(answer)
    if not error:
        return receipt
    code = _code(error)
    dead = to if code == "UNREGISTERED" else ""
    return replace(
        receipt,
        result=CODES.get(code, receipt.result),
        detail=f"{code or error.get('status', '')}: {_said(error)}"[:DETAIL_CHARS_MAX],
        recipient=dead,
        finding=Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unregistered") if dead else None,
    )


def _error(answer: HttpAnswer) -> dict[str, Any]:
    error = answer.json_object().get("error")
    return error if isinstance(error, dict) else {}


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def _code(error: Mapping[str, Any]) -> str:
    """Return Firebase's own code: it stands in the details, while ``status`` only has the general one."""
    return next((str(one["errorCode"]) for one in _details(error) if "errorCode" in one), "")


def _said(error: Mapping[str, Any]) -> str:
    violations = [one for detail in _details(error) for one in detail.get("fieldViolations") or []]
    fields = [f"{one.get('field')}: {one.get('description')}" for one in violations if isinstance(one, dict)]
    return " ".join([str(error.get("message", "")), *fields])


def _text(value: str | bool | int | float) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _create(name: str, parameters: PushParameters, surroundings: Surroundings) -> PushConnector:
    account = service_account(name, "credentials_env", parameters.credentials_env, surroundings)
    if not (parameters.project or account.project):
        message = 'setting "project" is missing, and the service account names none'
        raise ConnectorMisconfigured(name, [Problem("project", message, "Give the id of the Firebase project.")])
    return PushConnector(name, parameters, account=account, now_s=surroundings.now_s)


PUSH = ConnectorType(
    type="push",
    description="A notification through Firebase Cloud Messaging.",
    kinds=("push",),
    parameters=PushParameters,
    action_params=PushParams,
    create=_create,
)
