"""HubSpot's CRM on loopback: contacts, tasks and notes by batch upsert, create and association, with its own errors.

It is as strict as the real one: unknown properties, values outside an enumeration, a property that is not unique as
``idProperty``, or a token without the scope are refused in HubSpot's words.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CORRELATION_ID = "aeb5f871-7f07-4993-9211-075dc63e7cbf"
MOMENT = "2026-03-02T09:00:00.000Z"
UPSERTS_MAX = 100
PROPERTIES: Mapping[str, frozenset[str]] = {
    "contacts": frozenset({"email", "firstname", "lastname", "phone", "company", "lifecyclestage", "hs_lead_status"}),
    "tasks": frozenset({"hs_timestamp", "hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_priority"})
    | {"hs_task_type", "hubspot_owner_id"},
    "notes": frozenset({"hs_timestamp", "hs_note_body", "hubspot_owner_id"}),
}
CHOICES: Mapping[str, frozenset[str]] = {
    "hs_task_status": frozenset({"NOT_STARTED", "IN_PROGRESS", "WAITING", "COMPLETED", "DEFERRED"}),
    "hs_task_priority": frozenset({"NONE", "LOW", "MEDIUM", "HIGH"}),
    "hs_task_type": frozenset({"TODO", "CALL", "EMAIL"}),
    "lifecyclestage": frozenset({"subscriber", "lead", "opportunity", "customer", "other"}),
}
ASSOCIATION_TYPES = {"tasks": 204, "notes": 202}


class _Refused(Exception):
    def __init__(self, status: int, category: str, message: str) -> None:
        super().__init__(message)
        self.response = error(status, category, message)


@dataclass(slots=True)
class HubSpotServer:
    """An account: its objects by kind and id, who is associated with what, and the unique properties made for us."""

    token: str
    unique: dict[str, frozenset[str]] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset({"crm.objects.contacts.write"})
    objects: dict[str, dict[str, dict[str, str]]] = field(
        default_factory=lambda: {"contacts": {}, "tasks": {}, "notes": {}}
    )
    associations: set[tuple[str, str, str]] = field(default_factory=set)  # kind, id, contact's id
    _last_id: int = 500

    def app(self) -> Starlette:
        """Return the ASGI app."""
        objects = "/crm/v3/objects/{kind}"
        default = "/crm/v4/objects/{kind}/{id}/associations/default/contacts/{contact}"
        return Starlette(
            routes=[
                Route("/account-info/v3/details", self._guarded(self._details), methods=["GET"]),
                Route(f"{objects}/batch/upsert", self._guarded(self._upsert), methods=["POST"]),
                Route(objects, self._guarded(self._create), methods=["POST"]),
                Route(default, self._guarded(self._associate), methods=["PUT"]),
            ]
        )

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                message = "Authentication credentials not found. This API supports OAuth 2.0 authentication"
                return error(401, "INVALID_AUTHENTICATION", message)
            if request.method != "GET" and "crm.objects.contacts.write" not in self.scopes:
                message = "This app hasn't been granted all required scopes to make this call."
                return error(403, "MISSING_SCOPES", message)
            try:
                return await answer(request)
            except _Refused as refused:
                return refused.response

        return guarded

    async def _details(self, _request: Request) -> Response:
        return JSONResponse({"portalId": 1234567, "accountType": "STANDARD", "timeZone": "Asia/Kolkata"})

    async def _upsert(self, request: Request) -> Response:
        kind, content = _kind(request), await _content(request)
        inputs = content.get("inputs")
        if not isinstance(inputs, list) or not 0 < len(inputs) <= UPSERTS_MAX or content.keys() != {"inputs"}:
            raise _Refused(400, "VALIDATION_ERROR", "Invalid input JSON on line 1, column 2: Unable to parse inputs")
        results = [self._upserted(kind, one) for one in inputs]
        return JSONResponse(
            {"status": "COMPLETE", "results": results, "startedAt": MOMENT, "completedAt": MOMENT}, status_code=200
        )

    def _upserted(self, kind: str, one: dict[str, Any]) -> dict[str, Any]:
        name, value = one.get("idProperty"), one.get("id")
        if name not in self._unique(kind):
            raise _Refused(400, "VALIDATION_ERROR", f"Property '{name}' is not a unique identifier property")
        if not isinstance(value, str) or not value:
            raise _Refused(400, "VALIDATION_ERROR", "Some required fields were not set: [id]")
        value = value.lower() if name == "email" else value
        properties = {**self._checked(kind, one.get("properties")), str(name): value}
        found = next((key for key, held in self.objects[kind].items() if held.get(str(name)) == value), None)
        self._no_conflict(kind, properties, found)
        key = found or self._new_id()
        self.objects[kind][key] = {**self.objects[kind].get(key, {}), **properties}
        return {**_shown(key, self.objects[kind][key]), "new": found is None}

    async def _create(self, request: Request) -> Response:
        kind, content = _kind(request), await _content(request)
        properties = self._checked(kind, content.get("properties"))
        self._no_conflict(kind, properties, None)
        contacts = [self._contact_of(kind, association) for association in content.get("associations", [])]
        key = self._new_id()
        self.objects[kind][key] = properties
        self.associations |= {(kind, key, contact) for contact in contacts}
        return JSONResponse(_shown(key, properties), 201)

    async def _associate(self, request: Request) -> Response:
        kind, key, contact = _kind(request), request.path_params["id"], request.path_params["contact"]
        for where, wanted in ((kind, key), ("contacts", contact)):
            if wanted not in self.objects[where]:
                raise _Refused(404, "OBJECT_NOT_FOUND", f"Object not found. objectId are usually numeric. {wanted}")
        self.associations.add((kind, key, contact))
        spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": ASSOCIATION_TYPES[kind]}
        result = {"from": {"id": key}, "to": {"id": contact}, "associationSpec": spec}
        return JSONResponse(
            {"status": "COMPLETE", "results": [result], "startedAt": MOMENT, "completedAt": MOMENT}, status_code=200
        )

    def _checked(self, kind: str, properties: Any) -> dict[str, str]:
        if not isinstance(properties, dict):
            raise _Refused(400, "VALIDATION_ERROR", "Some required fields were not set: [properties]")
        for name, value in properties.items():
            if name not in PROPERTIES[kind] | self._unique(kind):
                raise _Refused(400, "VALIDATION_ERROR", f'Property "{name}" does not exist')
            if not isinstance(value, str):
                raise _Refused(400, "VALIDATION_ERROR", f"Invalid input JSON: Cannot deserialize value of {name}")
            if value and name in CHOICES and value not in CHOICES[name]:
                allowed = ", ".join(sorted(CHOICES[name]))
                raise _Refused(400, "VALIDATION_ERROR", f"{value} was not one of the allowed options: [{allowed}]")
        if kind != "contacts" and not re.fullmatch(r"\d{10,16}", properties.get("hs_timestamp", "")):
            raise _Refused(400, "VALIDATION_ERROR", "hs_timestamp is required")
        if email := properties.get("email"):
            if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", email):
                raise _Refused(400, "VALIDATION_ERROR", f"Email address {email} is invalid")
            properties = {**properties, "email": email.lower()}
        return dict(properties)

    def _no_conflict(self, kind: str, properties: Mapping[str, str], own: str | None) -> None:
        for name in self._unique(kind) & properties.keys():
            for key, held in self.objects[kind].items():
                if key != own and held.get(name) == properties[name]:
                    raise _Refused(409, "CONFLICT", f"Contact already exists. Existing ID: {key}")

    def _contact_of(self, kind: str, association: dict[str, Any]) -> str:
        contact = str(association.get("to", {}).get("id", ""))
        if contact not in self.objects["contacts"]:
            raise _Refused(404, "OBJECT_NOT_FOUND", f"contact {contact} does not exist")
        wanted = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": ASSOCIATION_TYPES[kind]}
        if association.get("types") != [wanted]:
            raise _Refused(400, "VALIDATION_ERROR", f"Invalid association type for {kind}")
        return contact

    def _unique(self, kind: str) -> frozenset[str]:
        return self.unique.get(kind, frozenset()) | ({"email"} if kind == "contacts" else frozenset())

    def _new_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)


def error(status: int, category: str, message: str) -> JSONResponse:
    """Return HubSpot's form of an error."""
    content = {"status": "error", "message": message, "correlationId": CORRELATION_ID, "category": category}
    return JSONResponse(content, status)


def rate_limited(policy: str) -> dict[str, str]:
    """Return the body of HubSpot's 429 under one of its limits: SECONDLY, TEN_SECONDLY_ROLLING or DAILY."""
    return {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": CORRELATION_ID,
        "policyName": policy,
    }


def _kind(request: Request) -> str:
    kind = str(request.path_params["kind"])
    if kind not in PROPERTIES:
        raise _Refused(400, "VALIDATION_ERROR", f"Unable to infer object type from: {kind}")
    return kind


async def _content(request: Request) -> dict[str, Any]:
    try:
        content = await request.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _Refused(400, "VALIDATION_ERROR", "Invalid input JSON on line 1, column 1: Cannot deserialize")
    return content


def _shown(key: str, properties: Mapping[str, str]) -> dict[str, Any]:
    return {"id": key, "properties": dict(properties), "createdAt": MOMENT, "updatedAt": MOMENT, "archived": False}
