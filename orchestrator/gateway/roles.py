"""Roles: what a key may do. One table says which role each route under ``/v1`` needs; a route without a row is closed.

Health, metrics and the OpenAPI document need no key: they hold no customer's data, and probes carry none. SECURITY.md
shows the table as people read it: ``python -m orchestrator.gateway.roles SECURITY.md`` writes it there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from starlette.routing import compile_path

from orchestrator.runtime.intake.segment import CALLS


class Role(Enum):
    """What a key may do."""

    WRITE = "write"
    VIEWER = "viewer"
    AUTHOR = "author"
    PUBLISHER = "publisher"
    OPERATOR = "operator"


#: What each role may do, in words.
_MAY: dict[Role, str] = {
    Role.WRITE: "send events, and nothing else: it may stand in the pages whose origins the key names",
    Role.VIEWER: "look customers, timelines, explanations, actions, dead letters, journeys and versions up",
    Role.AUTHOR: "plan a rulebook, publish a draft (`journey publish --no-activate`)",
    Role.PUBLISHER: "publish what comes into force, put a version into force, roll back",
    Role.OPERATOR: (
        "send dead letters again, erase customers; together with `write`, have an `alias` make one of two known people"
    ),
}
_IMPLIED: dict[Role, frozenset[Role]] = {
    Role.WRITE: frozenset(),
    Role.VIEWER: frozenset(),
    Role.AUTHOR: frozenset({Role.VIEWER}),
    Role.PUBLISHER: frozenset({Role.AUTHOR, Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.VIEWER}),
}

EVERYTHING = frozenset(Role)


def with_implied(roles: Iterable[Role]) -> frozenset[Role]:
    """Return the roles with those that they imply."""
    given = frozenset(roles)
    return given.union(*(_IMPLIED[role] for role in given))


@dataclass(frozen=True, slots=True)
class Row:
    """What one route needs. ``role`` None: the route checks a proof of its own, such as a provider's signature.

    A row that ``buffers`` has its body read within the bound of bodies before the route sees it; the others read
    theirs themselves, within bounds of their own.
    """

    method: str
    path: str
    role: Role | None
    buffers: bool = False


#: Publishing needs ``author``; what comes into force by it needs ``publisher`` as well (gateway/rulebooks.py).
TABLE: tuple[Row, ...] = (
    *(Row("POST", f"/v1/{call}", Role.WRITE) for call in sorted(CALLS)),
    Row("POST", "/v1/batch", Role.WRITE),
    Row("POST", "/v1/events", Role.WRITE),
    *(Row(method, "/v1/outcomes/{connector}", None) for method in ("GET", "HEAD", "POST")),
    Row("GET", "/v1/customers/{customer_id}", Role.VIEWER),
    Row("GET", "/v1/customers/{customer_id}/timeline", Role.VIEWER),
    Row("GET", "/v1/customers/{customer_id}/explain", Role.VIEWER),
    Row("GET", "/v1/customers/{customer_id}/export", Role.VIEWER),
    Row("DELETE", "/v1/customers/{customer_id:path}", Role.OPERATOR),
    Row("GET", "/v1/journeys", Role.VIEWER),
    Row("GET", "/v1/journeys/{journey_id}/map", Role.VIEWER),
    Row("GET", "/v1/actions", Role.VIEWER),
    Row("GET", "/v1/dead-letters", Role.VIEWER),
    Row("POST", "/v1/dead-letters/redrive", Role.OPERATOR, buffers=True),
    Row("GET", "/v1/rulebooks", Role.VIEWER),
    Row("GET", "/v1/rulebooks/{version}", Role.VIEWER),
    Row("POST", "/v1/rulebooks", Role.AUTHOR),
    Row("POST", "/v1/rulebooks/plan", Role.AUTHOR),
    Row("POST", "/v1/rulebooks/{version}/activate", Role.PUBLISHER),
)


class Rows:
    """Finds the row of a request: by its path where that is fixed, by pattern otherwise."""

    def __init__(self, table: Iterable[Row] = TABLE) -> None:
        table = tuple(table)
        self._fixed = {(row.method, row.path): row for row in table if "{" not in row.path}
        self._patterns = [(row, compile_path(row.path)[0]) for row in table if "{" in row.path]

    def find(self, method: str, path: str) -> Row | None:
        """Return the row of a request, None when there is no such route."""
        if (row := self._fixed.get((method, path))) is not None:
            return row
        return next((row for row, pattern in self._patterns if row.method == method and pattern.match(path)), None)

    def methods(self, path: str) -> list[str]:
        """Return the methods that the path is answered for."""
        fixed = {row.method for (_, known), row in self._fixed.items() if known == path}
        return sorted(fixed | {row.method for row, pattern in self._patterns if pattern.match(path)})


# ------------------------------------------------------------------------------------------- as people read it

_BEGIN, _END = "<!-- roles: python -m orchestrator.gateway.roles SECURITY.md -->", "<!-- /roles -->"


def roles_in_markdown() -> str:
    """Return what each role may do, what it has as well and which routes it opens, as a table."""
    lines = ["| role | may | has as well | opens, of the gateway |", "|---|---|---|---|"]
    for role in Role:
        also = ", ".join(f"`{one.value}`" for one in Role if one in _IMPLIED[role])
        lines.append(f"| `{role.value}` | {_MAY[role]} | {also or '-'} | {_routes(role)} |")
    lines.append(f"| no key | report what became of actions, signed by the provider | - | {_routes(None)} |")
    return "\n".join(lines)


def _routes(role: Role | None) -> str:
    """Return the routes that a role opens by itself, by method."""
    paths: dict[str, list[str]] = {}
    for row in TABLE:
        if row.role is role:
            paths.setdefault(row.method, []).append(f"`{row.path.replace(':path}', '}')}`")
    methods: dict[tuple[str, ...], list[str]] = {}
    for method, each in paths.items():
        methods.setdefault(tuple(each), []).append(method)
    return "; ".join(f"{', '.join(these)} {', '.join(each)}" for each, these in methods.items())


def with_roles(document: str) -> str:
    """Return a document with the table of roles between its marks; raise ``ValueError`` for one without them."""
    head, tail = document.index(_BEGIN) + len(_BEGIN), document.index(_END)
    return f"{document[:head]}\n{roles_in_markdown()}\n{document[tail:]}"


if __name__ == "__main__":
    _file = Path(sys.argv[1])
    _file.write_text(with_roles(_file.read_text(encoding="utf-8")), encoding="utf-8")
