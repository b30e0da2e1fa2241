"""Problem documents (RFC 9457): the one form in which the gateway says no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import Refusal, RefusalCode

MEDIA_TYPE = "application/problem+json"
#: A problem document names at most this many refused events; ``detail`` says how many there are.
ERRORS_SHOWN_MAX = 100
#: The code of each error when a rulebook is refused; those of events are ``RefusalCode``.
RULEBOOK_PROBLEM = "rulebook_problem"


class ProblemError(msgspec.Struct, frozen=True):
    """One refused event within a request; ``index`` counts from 0 in the order sent."""

    index: int
    code: str
    field: str
    detail: str
    remedy: str


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    field: str = ""
    remedy: str = ""
    errors: tuple[ProblemError, ...] = ()


class Problem(Exception):
    """An answer other than success. ``code`` is a word for machines, ``remedy`` a sentence for people."""

    def __init__(  # noqa: PLR0913 - they are the members of RFC 9457, told apart by keyword.
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str = "",
        remedy: str = "",
        errors: Sequence[ProblemError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self._headers = dict(headers or {})
        self._document = _Document(
            type=f"urn:journey:problem:{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            field=field,
            remedy=remedy,
            errors=tuple(errors),
        )

    def response(self) -> Response:
        """Return the HTTP answer."""
        return Response(msgspec.json.encode(self._document), self.status, headers=self._headers, media_type=MEDIA_TYPE)


def refused_body(refused: EventRefused) -> Problem:
    """Return the problem of a body that holds no events at all."""
    return Problem(
        413 if refused.code == RefusalCode.TOO_LARGE else 400,
        refused.code,
        str(refused),
        field=refused.field,
        remedy=refused.remedy,
    )


def refused_events(refused: Sequence[Refusal], number: int) -> Problem:
    """Return the problem of a request of ``number`` events, none of which was taken because some are refused."""
    if number == 1:
        return refused_body(refused[0].error)
    return Problem(
        400,
        "events_refused",
        f"{len(refused)} of {number} events are refused; none was taken.",
        remedy="Mend or remove the events named in errors, then send all again.",
        errors=problem_errors(refused[:ERRORS_SHOWN_MAX]),
    )


def problem_errors(refused: Sequence[Refusal]) -> list[ProblemError]:
    """Return what a client is told about refused events."""
    return [
        ProblemError(each.index, each.error.code, each.error.field, str(each.error), each.error.remedy)
        for each in refused
    ]


def unavailable(error: Exception) -> Problem:
    """Return the problem of a dependency that does not answer now."""
    return Problem(
        503,
        "unavailable",
        f"{error}" or "A dependency does not answer.",
        remedy="Nothing was acknowledged: send the same request again.",
        headers={"Retry-After": "1"},
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a problem document."""
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {**text, "examples": ["urn:journey:problem:missing_field"]},
            "title": {**text, "examples": ["Bad Request"]},
            "status": {"type": "integer", "examples": [400]},
            "detail": {**text, "examples": ["customer_id is missing."]},
            "field": {**text, "description": "JSON path of the fault.", "examples": ["customer_id"]},
            "remedy": {**text, "examples": ["Send customer_id as a string of 1 to 200 characters."]},
            "errors": {
                "type": "array",
                "description": f"The refused events, {ERRORS_SHOWN_MAX} at most.",
                "items": {"$ref": "#/components/schemas/RefusedEvent"},
            },
        },
    }
