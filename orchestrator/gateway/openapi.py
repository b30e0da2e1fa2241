"""The OpenAPI document: FastAPI describes the look-ups, this module the ingest routes, which bypass its models."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from orchestrator.core.event_name import TYPE_PATTERN
from orchestrator.gateway import problem
from orchestrator.gateway.outcomes import PATH as OUTCOMES_PATH
from orchestrator.gateway.problem import RULEBOOK_PROBLEM
from orchestrator.gateway.roles import TABLE
from orchestrator.runtime.intake.cloudevents import BATCHED, STRUCTURED
from orchestrator.runtime.intake.limits import EVENTS_MAX, ID_CHARS_MAX, LENT_BYTES_MAX
from orchestrator.runtime.intake.refusal import RefusalCode

Schema = dict[str, Any]

EVENT: Schema = {
    "id": "0b8f7a3e-5a0b-4a7e-9d55-0a1b2c3d4e5f",
    "type": "lead_submitted",
    "customer_id": "c-1042",
    "occurred_at": "2026-03-02T10:00:00+05:30",
    "properties": {"lead_id": "L-20392", "source": "google_ads", "budget": 4500000},
    "context": {"consent": {"categoryPreferences": {"marketing": True}}},
    "source": "website",
}
CLOUD_EVENT: Schema = {
    "specversion": "1.0",
    "id": EVENT["id"],
    "source": "/website",
    "type": "com.example.lead_submitted",
    "subject": "c-1042",
    "time": "2026-03-02T04:30:00Z",
    "datacontenttype": "application/json",
    "data": EVENT["properties"],
}
CALL_EXAMPLES: dict[str, Schema] = {
    "track": {"userId": "c-1042", "event": "Lead Submitted", "properties": EVENT["properties"]},
    "identify": {"userId": "c-1042", "traits": {"country": "IN", "timezone": "Asia/Kolkata"}},
    "page": {"userId": "c-1042", "name": "Pricing", "properties": {"path": "/pricing"}},
    "screen": {"userId": "c-1042", "name": "Basket", "properties": {}},
    "group": {"userId": "c-1042", "groupId": "acme", "traits": {"plan": "pro"}},
    "alias": {"userId": "c-1042", "previousId": "anonymous-77"},
}


def describe(app: FastAPI, *, event_bytes_max: int, body_bytes_max: int) -> None:
    """Make ``app`` answer ``/openapi.json`` with a document of all its routes; built on the first request."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            built = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_DESCRIPTION)
            built["paths"] = {**_ingest_paths(body_bytes_max), **built.get("paths", {})}
            if any(getattr(route, "path", "") == OUTCOMES_PATH for route in app.routes):
                built["paths"][OUTCOMES_PATH] = {
                    "get": _outcomes("Answer a provider that checks the address, or who wants no more mail"),
                    "post": _outcomes("Take what a provider reports"),
                }
            components = built.setdefault("components", {})
            components["schemas"] = {**components.get("schemas", {}), **_schemas(event_bytes_max)}
            components["securitySchemes"] = _SECURITY
            _complete_lookups(built["paths"])
            _name_roles(built["paths"])
            app.openapi_schema = built
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI documents this way of extending it.


_DESCRIPTION = """Events in, look-ups out.

An event is acknowledged (2xx) only after the log has it durably. Events are idempotent by `id`: send an event again
under the same id whenever no answer came. An event without an id gets a random one, so sending it again makes it
another event. Every refusal is a problem document (RFC 9457) that names the field and the remedy."""

_SECURITY: Schema = {
    "basic": {"type": "http", "scheme": "basic", "description": "Key as user, empty password."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "Key as token."},
}
_KEYS: list[Schema] = [{"basic": []}, {"bearer": []}, {}]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _ingest_paths(body_bytes_max: int) -> Schema:
    paths: Schema = {"/v1/events": {"post": _operation("Take events", _EVENTS_NOTE, _events_body(), "202", "Accepted")}}
    for call, example in CALL_EXAMPLES.items():
        content = _content("SegmentCall", {"messageId": EVENT["id"], "timestamp": EVENT["occurred_at"], **example})
        paths[f"/v1/{call}"] = {
            "post": _operation(f"Take a Segment {call} call", _CALL_NOTE, content, "200", "Accepted")
        }
    batch = {"batch": [{"type": call, **example} for call, example in CALL_EXAMPLES.items()], "sentAt": _SENT_AT}
    paths["/v1/batch"] = {
        "post": _operation("Take a Segment batch", _BATCH_NOTE, _content("SegmentBatch", batch), "200", "BatchAccepted")
    }
    for path in paths.values():
        path["post"]["responses"]["413"]["description"] += f" A body has at most {body_bytes_max} bytes, inflated."
    return paths


_SENT_AT = "2026-03-02T04:30:01Z"
_EVENTS_NOTE = """One event or a list, in normal form, as CloudEvents 1.0 (structured, batched, or binary with `ce-`
headers) or as Segment calls. When any event is refused, none is taken: the answer is 400 and `errors` names every
refused event by its index. Bodies may be gzipped."""
_CALL_NOTE = """`messageId` is the event id and `userId`, else `anonymousId`, the customer. An `identify` with both, and
an `alias`, make the two ids one customer; an id that is known by itself joins another only by an `alias` of a key that
also has the role operator, and the ledger says so where it is refused. The moment is corrected by the client's clock
skew when `sentAt` is given. Bodies may be gzipped."""
_BATCH_NOTE = """Good calls are taken. Refused ones go to the dead letters and stand in `refused`, and `success` is
false: the answer is 200 all the same, because Segment's libraries would otherwise drop or repeat the whole batch.
Bodies may be gzipped."""


def _outcomes(summary: str) -> Schema:
    named = {"name": "connector", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "summary": summary,
        "description": _OUTCOMES_NOTE.replace("\n", " "),
        "tags": ["outcomes"],
        "security": [{}],
        "parameters": [{**named, "description": "Name of the connector in connectors.yaml."}],
        "responses": {
            "200": {"description": "The reports are durable; the body is what the provider expects."},
            **{str(code): _problem_answer(text) for code, text in _OUTCOME_PROBLEMS.items()},
        },
    }


_OUTCOMES_NOTE = """The body and its signature are the provider's own. Every report becomes an event of its customer,
such as `message_bounced` or `call_answered`; its id is the connector's name, a colon and the report's id. A report that
concerns nobody we know goes to the dead letters."""
_OUTCOME_PROBLEMS = {
    400: "The callback is not understood.",
    401: "The callback is not signed.",
    403: "The signature is not the provider's.",
    404: "No connector of this name takes reports.",
    413: "The body is too large.",
    415: "The body is encoded.",
    429: "Too many requests are in flight; Retry-After says when to come back.",
    503: "The reports cannot be read or kept now; nothing was acknowledged.",
}


def _operation(summary: str, note: str, content: Schema, status: str, answer: str) -> Schema:
    responses: Schema = {
        status: {
            "description": "The events are durable.",
            "content": {"application/json": {"schema": _ref(answer)}},
        }
    }
    return {
        "summary": summary,
        "description": note.replace("\n", " "),
        "tags": ["ingest"],
        "security": _KEYS,
        "requestBody": {"required": True, "content": content},
        "responses": {**responses, **{str(code): _problem_answer(text) for code, text in _PROBLEMS.items()}},
    }


_PROBLEMS = {
    400: "The body is not JSON, or an event is refused.",
    401: "A key is needed, or the one sent is not known.",
    408: "The request did not arrive in time.",
    413: "The body or an event is too large, or what a batch lends to all of its calls.",
    415: "The content type is not JSON, or a browser sends another for a page of an origin that is not named; or the "
    "encoding is not gzip.",
    429: "The key's rate is used up or too many requests are in flight; Retry-After says when to come back.",
    503: "The log cannot take events now; nothing was acknowledged.",
}


def _problem_answer(description: str) -> Schema:
    return {"description": description, "content": {problem.MEDIA_TYPE: {"schema": _ref("Problem")}}}


def _content(name: str, example: Any, media: str = "application/json") -> Schema:
    return {media: {"schema": _ref(name), "example": example}}


def _events_body() -> Schema:
    one = {"anyOf": [_ref("Event"), _ref("CloudEvent"), _ref("SegmentCall")]}
    several = {"type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": one}
    return {
        "application/json": {
            "schema": {"anyOf": [*one["anyOf"], several]},
            "examples": {"one": {"value": EVENT}, "several": {"value": [EVENT]}},
        },
        **_content("CloudEvent", CLOUD_EVENT, STRUCTURED),
        BATCHED: {
            "schema": {"type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": _ref("CloudEvent")},
            "example": [CLOUD_EVENT],
        },
    }


def _complete_lookups(paths: Schema) -> None:
    """Replace FastAPI's own error of 422, which the gateway never answers, by what it does answer."""
    for path, operations in paths.items():
        for operation in operations.values():
            if operation["responses"].pop("422", None) is not None:
                operation["responses"]["400"] = _problem_answer("A parameter is not as described.")
            if path.startswith("/v1/") and not {"ingest", "outcomes"} & set(operation.get("tags", ())):
                operation["security"] = _KEYS
                operation["responses"]["401"] = _problem_answer(_PROBLEMS[401])
                operation["responses"]["503"] = _problem_answer("A dependency does not answer now.")
                if "{" in path:
                    operation["responses"]["404"] = _problem_answer("There is no such thing.")
                if "requestBody" in operation:
                    operation["responses"]["400"] = _problem_answer("The body is not as described.")
                    operation["responses"] |= {str(status): _problem_answer(_PROBLEMS[status]) for status in (408, 413)}
    paths["/readyz"]["get"]["responses"]["503"] = _problem_answer("The process cannot take events now.")


def _name_roles(paths: Schema) -> None:
    """Say which role each operation needs, from the table that decides it."""
    for row in TABLE:
        operation = paths.get(row.path.replace(":path}", "}"), {}).get(row.method.lower())
        if operation is not None and row.role is not None:
            operation["x-journey-role"] = row.role.value
            operation["responses"]["403"] = _problem_answer(
                f"The key lacks the role {row.role.value}, or a browser sends this for a page that may not."
            )
            operation["responses"]["429"] = _problem_answer(_PROBLEMS[429])


def _object(required: list[str], properties: Schema, description: str) -> Schema:
    return {"type": "object", "description": description, "required": required, "properties": properties}


def _schemas(event_bytes_max: int) -> Schema:
    name: Schema = {"type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX}
    facts: Schema = {"type": "object", "additionalProperties": True}
    moment: Schema = {
        "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "minimum": 0}],
        "description": "RFC 3339 with an offset, or epoch milliseconds.",
    }
    event_type = {"type": "string", "pattern": TYPE_PATTERN}
    return {
        "Event": _object(
            ["type", "customer_id", "occurred_at"],
            {
                "id": {**name, "description": "Unique; the same again when the event is sent again."},
                "type": {**event_type, "description": "snake_case, declared in the tracking plan."},
                "customer_id": name,
                "occurred_at": moment,
                "properties": facts,
                "context": facts,
                "source": {"type": "string"},
            },
            f"An event in normal form, {event_bytes_max} bytes at most.",
        ),
        "CloudEvent": _object(
            ["specversion", "id", "source", "type", "subject"],
            {
                "specversion": {"type": "string", "const": "1.0"},
                "id": name,
                "source": {"type": "string"},
                "type": {"type": "string", "description": "Its last dotted part, in snake_case, is the event type."},
                "subject": {**name, "description": "Id of the customer."},
                "time": moment,
                "datacontenttype": {"type": "string", "const": "application/json"},
                "data": facts,
            },
            "A CloudEvent 1.0. Extension attributes become the event's context.",
        ),
        "SegmentCall": _segment_call(name, facts, moment),
        "SegmentBatch": _object(
            ["batch"],
            {
                "batch": {"type": "array", "minItems": 1, "items": _ref("SegmentCall")},
                "sentAt": moment,
                "context": {
                    **facts,
                    "description": "Holds for every call that does not say otherwise. Its bytes times the number of "
                    f"calls are {LENT_BYTES_MAX} at most.",
                },
            },
            "Calls in one request.",
        ),
        **_answer_schemas(),
        "Problem": problem.schema(),
    }


def _segment_call(name: Schema, facts: Schema, moment: Schema) -> Schema:
    return _object(
        [],
        {
            "type": {"enum": list(CALL_EXAMPLES), "description": "Needed in a batch; given by the route otherwise."},
            "messageId": name,
            "userId": name,
            "anonymousId": name,
            "event": {"type": "string", "description": "track: what happened; its snake_case is the event type."},
            "properties": facts,
            "traits": facts,
            "name": {"type": "string"},
            "groupId": name,
            "previousId": name,
            "timestamp": moment,
            "sentAt": moment,
            "context": facts,
        },
        "A call of the Segment spec.",
    )


def _answer_schemas() -> Schema:
    number: Schema = {"type": "integer", "minimum": 0}
    text: Schema = {"type": "string"}
    # A refused rulebook lists its problems in the same way.
    codes = [*RefusalCode, RULEBOOK_PROBLEM]
    refused = {"index": number, "code": {"enum": codes}, "field": text, "detail": text, "remedy": text}
    return {
        "Accepted": _object(
            ["accepted", "ids", "success"],
            {"accepted": number, "ids": {"type": "array", "items": text}, "success": {"const": True}},
            "The events are durable; ids in the order sent.",
        ),
        "BatchAccepted": _object(
            ["accepted", "success"],
            {
                "accepted": number,
                "success": {"type": "boolean", "description": "Whether all calls were taken."},
                "refused": {
                    "type": "array",
                    "items": _ref("RefusedEvent"),
                    "description": "Absent when all are taken.",
                },
            },
            "The calls that are not in refused are durable.",
        ),
        "RefusedEvent": _object(list(refused), refused, "A refused event or a rulebook's problem; index is from 0."),
    }
