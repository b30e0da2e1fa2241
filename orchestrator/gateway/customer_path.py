"""Ids of customers in paths: percent-encoded, so that a slash in an id is told from those of the path.

Servers hand a path over decoded, and ``/v1/customers/a%2Ftimeline`` is ``/v1/customers/a/timeline`` then. What begins
with ``CUSTOMERS`` is therefore routed as it was sent, and the routes decode the id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import Path, Request
from pydantic import AfterValidator
from starlette.types import Scope

from orchestrator.errors import EventRefused
from orchestrator.gateway.problem import refused_body
from orchestrator.runtime.intake import Intake

CUSTOMERS = "/v1/customers/"


def _decoded(segment: str) -> str:
    return unquote(segment)


CustomerId = Annotated[
    str, Path(description="Id of the customer, percent-encoded: a slash in it is %2F."), AfterValidator(_decoded)
]


def encoded_path(scope: Scope) -> str:
    """Return a request's path with its segments percent-encoded, all in one way however the client does it."""
    sent: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return "/".join(quote(unquote(segment), safe="") for segment in sent.decode("latin-1").split("/"))


def refuses_others(intake: Intake) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency of routes that answers 400 to an id, in path or query, that no customer of ours can have."""

    async def check(request: Request) -> None:
        sent = request.path_params.get("customer_id")
        customer_id = request.query_params.get("customer_id") if sent is None else _decoded(sent)
        if customer_id is None:
            return
        try:
            intake.check_customer("customer_id", customer_id)
        except EventRefused as refused:
            raise refused_body(refused) from None

    return check
