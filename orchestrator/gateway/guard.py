"""The guard at the gateway's door: every request under ``/v1`` passes it before its route sees anything of it."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.gateway.access import CALLER, Access
from orchestrator.gateway.body import too_large
from orchestrator.gateway.customer_path import CUSTOMERS, encoded_path
from orchestrator.gateway.observation import TEMPLATE
from orchestrator.gateway.origins import Headers, is_preflight, origin_of, other_origin, preflight_answer, telling
from orchestrator.gateway.problem import Problem
from orchestrator.gateway.roles import Role, Row, Rows

GUARDED = "/v1/"
REMEDY = "GET /openapi.json lists what there is."


class Guard:
    """Middleware: finds what a request needs in the table of roles, tells who is calling, and lets in or refuses.

    A path without a row is answered 404 here, whatever routes there are: a route that was forgotten in the table is
    closed, not open. Bodies that frameworks would read without a bound are read here, up to ``body_bytes_max``.
    """

    def __init__(self, app: ASGIApp, access: Access, body_bytes_max: int) -> None:
        self._app = app
        self._access = access
        self._body_bytes_max = body_bytes_max
        self._rows = Rows()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem document."""
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        # The first of several headers of one name counts, as everywhere in the gateway.
        headers = dict(reversed(scope["headers"]))
        try:
            if is_preflight(scope["method"], headers):
                await self._answer_preflight(scope, receive, send, headers)
                return
            row = self._row(scope, scope["method"])
            if row.role is Role.WRITE:
                send = telling(send, headers, self._access.origins())
            self._admit(scope, row, headers)
            if row.buffers:
                receive = await self._buffered(receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        except ClientDisconnect:
            return
        await self._app(scope, receive, send)

    async def _answer_preflight(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Answer for the request that the browser would send: pages of other origins may send events, if anything."""
        asked = headers[b"access-control-request-method"].decode("latin-1")
        row = self._row(scope, asked)
        self._access.refuse_other_names(headers)
        origins = self._access.origins() if row.role is Role.WRITE else frozenset()
        if origin_of(headers) not in origins:
            raise other_origin()
        await preflight_answer()(scope, receive, telling(send, headers, origins))

    def _row(self, scope: Scope, method: str) -> Row:
        path = scope["path"]
        if "\n" in path:
            # No id may have one, and a route that takes the rest of the path would not match it.
            raise Problem(400, "invalid_request", "The path has a line break in it.", remedy=REMEDY)
        if path.startswith(CUSTOMERS):
            path = scope["path"] = encoded_path(scope)
        row = self._rows.find(method, path)
        if row is not None:
            scope[TEMPLATE] = row.path
            return row
        if allowed := self._rows.methods(path):
            raise Problem(
                405,
                "method_not_allowed",
                f"{method} is not answered at {path}.",
                remedy=REMEDY,
                headers={"Allow": ", ".join(allowed)},
            )
        raise Problem(404, "unknown_path", f"There is nothing at {path}.", remedy=REMEDY)

    def _admit(self, scope: Scope, row: Row, headers: Headers) -> None:
        if row.role is None:
            return
        caller = self._access.check(headers, row.role)
        if row.role is Role.WRITE:
            caller.within_rate()
        else:
            caller.take(1)
        scope[CALLER] = caller

    async def _buffered(self, receive: Receive) -> Receive:
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece, more = message.get("body", b""), message.get("more_body", False)
            size += len(piece)
            if size > self._body_bytes_max:
                raise too_large(self._body_bytes_max)
            pieces.append(piece)
        whole: list[Message] = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return again
