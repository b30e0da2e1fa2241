"""The crm connector: keeps a contact up to date in HubSpot, and leaves a task or a note on it.

One delivery is up to three requests, each safe to repeat: the contact is created or updated by its e-mail address or by
an id of ours (batch upsert); then the task or note is, by the unique property that ``action_id_property`` names; then
the two are associated. Without that property HubSpot has no way to know a task again: it is created with its
association in one request, and a repeat after an UNKNOWN may leave a second one.

=========================================  =========  =======================================================
answer                                     result     why
=========================================  =========  =======================================================
2xx to every request                       DELIVERED  the reference is ``contacts/ID`` or ``tasks/ID``
409 to a contact by its e-mail address     RETRY      another request made the same contact at this moment
423, 477                                   RETRY      locked for two seconds; moving to another data centre
429                                        RETRY      a limit; its policy says how long
207 or 200 with errors and no result       REFUSED    HubSpot's words are the detail
other answers                                         as for every HTTP connector
=========================================  =========  =======================================================
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from connectors import clock
from connectors.connector_type import ActionParams, ConnectorType, Surroundings, checked_params, environment_value
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
from connectors.mail_message import EmailAddress
from connectors.markup import Markup
from connectors.protocol import Delivery, Receipt, Result

#: HubSpot's own numbers of the association of an activity with a contact.
ASSOCIATIONS: Mapping[str, int] = {"tasks": 204, "notes": 202}
#: How long the limits that HubSpot names last; it sends no Retry-After with them. A day's ends at its midnight.
LIMIT_S: Mapping[str, float] = {"SECONDLY": 1, "TEN_SECONDLY_ROLLING": 10, "DAILY": 3_600}
LOCKED_S = 2.0
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
PROPERTY = r"^([a-z][a-z0-9_]*)?$"


class CrmParameters(HttpParameters):
    """Settings of a HubSpot account."""

    token_env: str = Field(description="Environment variable that holds the access token of a private app, pat-...")
    base_url: HttpUrl = Field("https://api.hubapi.com", description="Address of HubSpot's API.")
    external_id_property: str = Field(
        "", pattern=PROPERTY, description="Unique property of contacts that holds an external_id."
    )
    action_id_property: str = Field(
        "",
        pattern=PROPERTY,
        description="Unique property of tasks and notes that holds the action's id: a repeat then makes no second one.",
    )
    owner_id: str = Field("", pattern=r"^[0-9]*$", description="Owner of tasks and notes that name none.")


class CrmParams(ActionParams):
    """What the CRM needs: who it is about, and at most one task or note."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("email", "external_id"),)
    markup: ClassVar[Mapping[str, Markup]] = {"task_body": Markup.HTML, "note": Markup.HTML}

    email: EmailAddress | None = Field(None, description="The contact's e-mail address.")
    external_id: str = Field("", max_length=200, description="The contact's id in external_id_property.")
    properties: dict[str, str | int | float | bool | None] = Field(
        {}, description="Properties of the contact to set, as an object; null empties one."
    )
    task: str = Field("", max_length=500, description="Title of a task to leave on the contact.")
    task_body: str = Field("", max_length=65_000, description="What the task says, as HTML.")
    task_type: Literal["TODO", "CALL", "EMAIL"] = Field("TODO", description="TODO, CALL or EMAIL.")
    task_priority: Literal["LOW", "MEDIUM", "HIGH"] = Field("MEDIUM", description="LOW, MEDIUM or HIGH.")
    task_due_at_ms: int | None = Field(
        None, ge=0, description="When it is due, epoch milliseconds; the action's deadline or decision when left out."
    )
    note: str = Field("", max_length=65_000, description="A note to leave on the contact, as HTML.")
    owner_id: str = Field("", pattern=r"^[0-9]*$", description="Owner of the task or note.")


class CrmConnector:
    """Carries what a delivery knows of a customer into HubSpot."""

    def __init__(
        self, name: str, parameters: CrmParameters, token: str, *, now_s: Callable[[], float] = clock.now_s
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._base_url = parameters.base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._now_s = now_s
        self._sender = HttpSender(parameters, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``. A part that was done is done again by a repeat."""
        params = self._checked(delivery)
        if isinstance(params, Receipt):
            return params
        attempt = _Attempt(delivery, asyncio.get_running_loop().time() + self._parameters.timeout_s)
        contact = await self._upsert(attempt, "contacts", *self._contact(params))
        if contact.result is not Result.DELIVERED or not (params.task or params.note):
            return contact
        activity = await self._activity(attempt, params, contact.reference.rpartition("/")[2])
        if activity.result is Result.DELIVERED:
            return activity
        return replace(activity, detail=f"the contact was saved, its task or note was not: {activity.detail}")

    async def check(self) -> str | None:
        """Return None when HubSpot knows the token, else what to mend. Reads the account's details alone."""
        url = f"{self._base_url}/account-info/v3/details"
        answer = await self._sender.ask("GET", url, body=b"", headers=self._headers)
        if isinstance(answer, Receipt):
            return f"{answer.detail}. Check base_url, the network and that HubSpot is in order."
        match answer.status:
            case 401 | 403:
                return f"HubSpot does not take the token ({_message(answer)}). Check token_env and the app's scopes."
            case status if status >= 300:
                return (
                    f"HubSpot answered {status}: it is reachable but not in order. Check base_url, or try again later."
                )
            case _:
                return None

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()

    def _checked(self, delivery: Delivery) -> CrmParams | Receipt:
        if delivery.kind != "crm":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not for a CRM')
        params = checked_params(CrmParams, delivery)
        if isinstance(params, Receipt):
            return params
        if params.external_id and not self._parameters.external_id_property:
            detail = 'param "external_id" needs the setting external_id_property, which says where HubSpot keeps it.'
            return Receipt(result=Result.REFUSED, detail=detail)
        if params.task and params.note:
            return Receipt(result=Result.REFUSED, detail='params "task" and "note" are both given. Use two actions.')
        return params

    def _contact(self, params: CrmParams) -> tuple[str, str, dict[str, Any]]:
        """Return the property that names the contact, its value, and the properties to set."""
        properties = {name: _text(value) for name, value in params.properties.items()}
        if params.email:
            properties["email"] = params.email
        if params.external_id:
            name = self._parameters.external_id_property
            return name, params.external_id, properties | {name: params.external_id}
        return "email", params.email or "", properties

    async def _activity(self, attempt: _Attempt, params: CrmParams, contact_id: str) -> Receipt:
        kind, properties = _activity_content(attempt.delivery, params, params.owner_id or self._parameters.owner_id)
        unique, action_id = self._parameters.action_id_property, attempt.delivery.id
        if not unique:
            association = {
                "to": {"id": contact_id},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": ASSOCIATIONS[kind]}],
            }
            content = {"properties": properties, "associations": [association]}
            return await self._ask(attempt, "POST", f"crm/v3/objects/{kind}", content)
        saved = await self._upsert(attempt, kind, unique, action_id, properties | {unique: action_id})
        if saved.result is not Result.DELIVERED:
            return saved
        path = f"crm/v4/objects/{saved.reference}/associations/default/contacts/{contact_id}"
        linked = await self._ask(attempt, "PUT", path, {})
        return saved if linked.result is Result.DELIVERED else linked

    async def _upsert(
        self, attempt: _Attempt, kind: str, unique: str, value: str, properties: Mapping[str, Any]
    ) -> Receipt:
        one = {"idProperty": unique, "id": value, "properties": properties}
        receipt = await self._ask(attempt, "POST", f"crm/v3/objects/{kind}/batch/upsert", {"inputs": [one]})
        if receipt.status == 409 and unique != self._parameters.external_id_property:
            return replace(receipt, result=Result.RETRY)
        if receipt.result is Result.DELIVERED and not receipt.reference:
            detail = "HubSpot's answer names no object, so what became of it cannot be told"
            return replace(receipt, result=Result.UNKNOWN, detail=detail)
        return receipt

    async def _ask(self, attempt: _Attempt, method: str, path: str, content: Mapping[str, Any]) -> Receipt:
        request = json_request(attempt.delivery.id, content)
        if isinstance(request, Receipt):
            return request
        answer = await self._sender.ask(
            method,
            f"{self._base_url}/{path}",
            body=request.body,
            headers={**request.headers, **self._headers},
            within_s=attempt.until_s - asyncio.get_running_loop().time(),
        )
        return answer if isinstance(answer, Receipt) else hubspot_receipt(answer, path.split("/")[3], self._now_s())


class _Attempt(NamedTuple):
    """A delivery, and the moment of the loop's clock at which its attempt is over."""

    delivery: Delivery
    until_s: float


def hubspot_receipt(answer: HttpAnswer, kind: str, now_s: float) -> Receipt:
    """Return what an answer about an object of ``kind`` means (the table above)."""
    receipt = answer_receipt(answer.status, answer.headers, answer.body, now_s)
    content = answer.json_object()
    if receipt.result is Result.DELIVERED:
        found = content.get("results", [content])
        if content.get("errors") and not found:
            return replace(receipt, result=Result.REFUSED, detail=_message(answer))
        identity = next((str(one["id"]) for one in found if isinstance(one, dict) and one.get("id")), "")
        # It becomes part of the next request's path.
        return replace(receipt, reference=f"{kind}/{identity}" if _ID.fullmatch(identity) else "")
    wait_s = receipt.retry_after_s
    if answer.status == 429 and wait_s is None:
        wait_s = LIMIT_S.get(str(content.get("policyName", "")))
    if answer.status in {423, 477}:
        asked_s = retry_after_s(answer.headers.get("retry-after", ""), now_s)
        wait_s = asked_s if asked_s is not None else (LOCKED_S if answer.status == 423 else None)
        receipt = replace(receipt, result=Result.RETRY)
    return replace(receipt, detail=_message(answer), retry_after_s=wait_s)


def _activity_content(delivery: Delivery, params: CrmParams, owner_id: str) -> tuple[str, dict[str, str]]:
    owner = {"hubspot_owner_id": owner_id} if owner_id else {}
    if params.note:
        return "notes", {"hs_timestamp": str(delivery.decided_at_ms), "hs_note_body": params.note, **owner}
    due_at_ms = next(
        moment
        for moment in (params.task_due_at_ms, delivery.deadline_at_ms, delivery.decided_at_ms)
        if moment is not None
    )
    return "tasks", {
        "hs_timestamp": str(due_at_ms),
        "hs_task_subject": params.task,
        "hs_task_body": params.task_body,
        "hs_task_status": "NOT_STARTED",
        "hs_task_priority": params.task_priority,
        "hs_task_type": params.task_type,
        **owner,
    }


def _text(value: str | float | bool | None) -> str:
    """HubSpot's properties are all text; the empty text empties one."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _message(answer: HttpAnswer) -> str:
    """HubSpot's own words: the error's category and message, or those of the first error of a batch."""
    content = answer.json_object()
    errors = content.get("errors")
    said = errors[0] if not content.get("message") and isinstance(errors, list) and errors else content
    if not isinstance(said, dict) or not said.get("message"):
        return answer.body.decode("utf-8", "replace")[:DETAIL_CHARS_MAX]
    category = said.get("category") or said.get("errorType") or ""
    return (f"{category}: " * bool(category) + str(said["message"]))[:DETAIL_CHARS_MAX]


def _create(name: str, parameters: CrmParameters, surroundings: Surroundings) -> CrmConnector:
    token = environment_value(name, "token_env", parameters.token_env, surroundings)
    return CrmConnector(name, parameters, token, now_s=surroundings.now_s)


CRM = ConnectorType(
    type="crm",
    description="A contact in HubSpot, with a task or a note.",
    kinds=("crm",),
    parameters=CrmParameters,
    action_params=CrmParams,
    create=_create,
)
