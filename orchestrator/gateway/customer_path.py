"""Ids of customers in paths: percent-encoded, so that a slash in an id is told from those of the path.

Servers hand a path over decoded, and ``/v1/customers/a%2Ftimeline`` is ``/v1/customers/a/timeline`` then. What begins
with ``CUSTOMERS`` is therefore routed as it was sent, and the routes decode the id.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import Path
from pydantic import AfterValidator
from starlette.types import Scope

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
