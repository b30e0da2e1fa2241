"""From a request's body to an arrival: the two forms that the receiver understands."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.errors import model_problems
from connectors.phone import E164
from connectors.receiver.arrivals import Arrival

Model = TypeVar("Model", bound=BaseModel)


class BodyRefused(Exception):
    """A body is not what its path takes; the message says which field and why."""


class CallRequest(BaseModel):
    """Body of ``POST /v1/calls`` (connectors/README.md documents it)."""

    model_config = ConfigDict(extra="forbid")

    call_id: str = Field(min_length=1, description="Id of the call, the same on every attempt.")
    customer_id: str = Field(description="Customer to call.")
    to: str = Field(pattern=E164, description="Number to call, in E.164 form.")
    agent: str = Field("", description="Agent or queue that takes the call.")
    script: str = Field("", description="What to say.")
    context: dict[str, Any] = Field({}, description="Facts for the conversation.")
    decided_at: int | None = Field(None, description="Moment of the decision, epoch milliseconds.")
    deadline_at: int | None = Field(None, description="Moment after which the call is unwanted, epoch milliseconds.")
    metadata: dict[str, Any] = Field({}, description="Rule, version, journey, stage and labels of the sender.")


class HookRequest(BaseModel):
    """Body of ``POST /hooks/{name}``; what it has beyond these fields are facts."""

    model_config = ConfigDict(extra="allow")

    customer_id: str = Field("", description="Customer that it is about.")
    kind: str = Field("webhook", description="What the action is.")
    params: dict[str, Any] = Field({}, description="Rendered params.")
    rule: str = Field("", description="Rule that decided it.")
    decided_at: int | None = Field(None, description="Moment of the decision, epoch milliseconds.")
    deadline_at: int | None = Field(None, description="Moment after which it is unwanted, epoch milliseconds.")
    attempt: int | None = Field(None, description="Number of the attempt, from 1.")


def call_arrival(body: bytes, *, key: str, path: str, at_ms: int) -> Arrival:
    """Return the arrival of a call under idempotency key ``key``; raise ``BodyRefused``."""
    call = _parsed(CallRequest, body)
    said = {"to": call.to, "agent": call.agent, "script": call.script, **call.context}
    return Arrival(
        at_ms=at_ms,
        path=path,
        id=key,
        kind="call",
        customer_id=call.customer_id,
        rule=str(call.metadata.get("rule", "")),
        params={name: value for name, value in said.items() if value != ""},
        facts={name: value for name, value in call.metadata.items() if name != "rule"},
        decided_at=call.decided_at,
        deadline_at=call.deadline_at,
        latency_ms=_latency_ms(call.decided_at, at_ms),
    )


def hook_arrival(body: bytes, *, key: str, path: str, at_ms: int) -> Arrival:
    """Return the arrival of a webhook under idempotency key ``key``; raise ``BodyRefused``."""
    hook = _parsed(HookRequest, body)
    return Arrival(
        at_ms=at_ms,
        path=path,
        id=key,
        kind=hook.kind,
        customer_id=hook.customer_id,
        rule=hook.rule,
        params=hook.params,
        facts={name: value for name, value in (hook.model_extra or {}).items() if name != "id"},
        decided_at=hook.decided_at,
        deadline_at=hook.deadline_at,
        latency_ms=_latency_ms(hook.decided_at, at_ms),
        attempt=hook.attempt,
    )


def _latency_ms(decided_at: int | None, at_ms: int) -> int | None:
    return None if decided_at is None else at_ms - decided_at


def _parsed(model: type[Model], body: bytes) -> Model:
    try:
        content = json.loads(body)
        # What came in must be able to go out again: JSON has no NaN, but Python's reader takes 1e999.
        json.dumps(content, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise BodyRefused(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise BodyRefused("the body is not a JSON object")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise BodyRefused(" ".join(str(problem) for problem in model_problems(model, error, "field"))) from None
