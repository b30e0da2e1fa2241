"""The receiver's HTTP side.

``POST /v1/calls`` · ``POST /hooks/{name}`` · ``GET|DELETE /v1/received`` · ``POST /v1/reports`` ·
``GET|POST|DELETE /control`` · ``GET /``.
Errors are RFC 9457 problem documents. It is a tool for people and tests: bind it to loopback. Pages of other origins
cannot use it: a browser names them in the Host header, or asks before it sends JSON, and is not told yes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors import clock
from connectors.errors import model_problems
from connectors.hosts import Hosts
from connectors.receiver.arrivals import Arrival, Arrivals
from connectors.receiver.faults import Fault, Faults
from connectors.receiver.intake import BodyRefused, call_arrival, hook_arrival
from connectors.receiver.reports import ReportFailed, ReportOrder, Reports
from connectors.signature import SignatureRefused, parse_secrets, verify

BODY_BYTES_MAX = 1_000_000
LIMIT_DEFAULT, KEEP_DEFAULT = 200, 5_000

_log = logging.getLogger("connectors.receiver")


class AsciiJson(JSONResponse):
    """JSON in ASCII alone, so that even half a surrogate pair that a sender escaped can be shown."""

    def render(self, content: Any) -> bytes:
        """Return the encoded body."""
        return json.dumps(content, separators=(",", ":")).encode()


class Refused(Exception):
    """A request that is not taken, with the status that says so."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Receiver:
    """Takes deliveries like a system behind a connector: checks them, counts each id once, answers."""

    def __init__(
        self,
        arrivals: Arrivals,
        reports: Reports,
        *,
        keys: tuple[bytes, ...],
        token: str,
        now_s: Callable[[], float],
    ) -> None:
        self._arrivals = arrivals
        self._reports = reports
        self._faults = Faults()
        self._keys = keys
        self._token = token
        self._now_s = now_s
        # A page left open over a restart must notice that the count began anew.
        self._instance = secrets.token_hex(4)
        self._page = (files("connectors.receiver") / "page.html").read_text("utf-8")

    async def take_call(self, request: Request) -> Response:
        """Answer a voice connector: 202 for a new call, 200 for one that is known, 204 for its check."""
        self._authorize(request)
        if request.method == "HEAD":
            return Response(status_code=204)
        return await self._take(request, await _body(request), call_arrival, first_status=202)

    async def take_hook(self, request: Request) -> Response:
        """Answer a webhook connector: 200, also for a delivery that is known."""
        body = await _body(request)
        if self._keys:
            try:
                verify(self._keys, request.headers, body, self._now_s())
            except SignatureRefused as error:
                raise Refused(401, str(error)) from None
        return await self._take(request, body, hook_arrival, first_status=200)

    async def received(self, request: Request) -> Response:
        """Show the latest arrivals, newest first, and the totals since the start (or the record's start)."""
        if request.method == "DELETE":
            self._arrivals.clear()
            return Response(status_code=204)
        try:
            limit = int(request.query_params.get("limit", LIMIT_DEFAULT))
        except ValueError:
            limit = 0
        if limit < 1:
            raise Refused(400, "limit must be a whole number from 1")
        latest = self._arrivals.latest(limit, request.query_params.get("kind", ""))
        return AsciiJson(
            {
                "version": f"{self._instance}-{self._arrivals.version}",
                "received": self._arrivals.total,
                "repeats": self._arrivals.repeats,
                "faults": self._faults_in_force(),
                "items": [asdict(arrival) | {"sayable": self._reports.offered(arrival.kind)} for arrival in latest],
            }
        )

    async def report(self, request: Request) -> Response:
        """Tell the engine what became of a delivery: 202 once it has taken the report."""
        _must_be_json(request)
        try:
            order = ReportOrder.model_validate_json(await _body(request))
        except ValidationError as error:
            raise Refused(400, " ".join(map(str, model_problems(ReportOrder, error, "field")))) from None
        arrival = self._arrivals.find(order.path, order.id)
        if arrival is None:
            raise Refused(404, "nothing of this path and id is shown here")
        offered = self._reports.offered(arrival.kind)
        if order.outcome not in offered:
            raise Refused(400, f"of this delivery can be said: {', '.join(offered) or 'nothing, no engine listens'}")
        try:
            await self._reports.send(arrival, order.outcome)
        except ReportFailed as error:
            raise Refused(502, str(error)) from None
        self._arrivals.note_told(arrival, order.outcome)
        return AsciiJson({"told": arrival.told}, 202)

    async def control(self, request: Request) -> Response:
        """Order, show or end faults."""
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            _must_be_json(request)
            try:
                self._faults.order(Fault.model_validate_json(await _body(request)))
            except ValidationError as error:
                problems = model_problems(Fault, error, "field")
                raise Refused(400, " ".join(str(problem) for problem in problems)) from None
        return AsciiJson({"faults": self._faults_in_force()})

    async def page(self, _request: Request) -> Response:
        """Show the page. Its only script is its own: the policy refuses any that arrived in a delivery."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return HTMLResponse(self._page.replace("{{nonce}}", nonce), headers=headers)

    async def _take(
        self, request: Request, body: bytes, read: Callable[..., Arrival], *, first_status: int
    ) -> Response:
        path, key = request.url.path, request.headers.get("idempotency-key", "")
        at_ms = int(self._now_s() * 1000)
        fault = self._faults.next(path)
        if fault is not None and fault.status is not None and not fault.accept:
            return await _faulty_answer(fault)
        if not key:
            raise Refused(400, "the Idempotency-Key header is missing")
        try:
            arrival = read(body, key=key, path=path, at_ms=at_ms)
        except BodyRefused as error:
            raise Refused(422, str(error)) from None
        arrival.signed = bool(self._keys) and path.startswith("/hooks/")
        arrival.attempt = arrival.attempt or _whole_number(request.headers.get("delivery-attempt", ""))
        new = self._keep(arrival)
        if fault is not None and fault.status is not None:
            return await _faulty_answer(fault)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
        answer = {"id": key, "reference": f"local-{key}", "duplicate": not new}
        return AsciiJson(answer, first_status if new else 200)

    def _keep(self, arrival: Arrival) -> bool:
        try:
            new = self._arrivals.take(arrival)
        except OSError as error:
            raise Refused(503, f"the record cannot be written: {error}") from None
        _log.info("%s", _line(arrival) if new else f"repeat of {arrival.id} at {arrival.path}".translate(_ONE_LINE))
        return new

    def _authorize(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if self._token and not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise Refused(401, "the bearer token is missing or wrong")

    def _faults_in_force(self) -> list[dict[str, Any]]:
        return [fault.model_dump() for fault in self._faults.in_force()]


class _HostCheck:
    """Middleware: answers nothing that came under a name which somebody may have bent to this machine."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._hosts.include(Request(scope).headers.get("host", "")):
            await self._app(scope, receive, send)
        else:
            refused = _problem(403, "the Host header has another name than an address, localhost or one given", {})
            await refused(scope, receive, send)


def create_app(  # noqa: PLR0913 - they are what differs between receivers, told apart by keyword.
    *,
    record_path: Path | None = None,
    secret: str = "",
    token: str = "",
    keep: int = KEEP_DEFAULT,
    reports: Reports | None = None,
    host_names: Iterable[str] = (),
    now_s: Callable[[], float] = clock.now_s,
) -> Starlette:
    """Return the receiver as an ASGI app, ready to be served or mounted at the root of a server.

    ``secret`` (whsec_...) makes webhooks need a signature, ``token`` makes calls need a bearer token; ``keep`` is how
    many arrivals stay readable; ``reports`` tells an engine what became of them; ``host_names`` are what it is called
    by, besides localhost and addresses. Arrivals are appended to ``record_path`` and read back from it. Raises
    ``ValueError`` for a malformed secret and ``OSError`` when the record cannot be opened.
    """
    keys = parse_secrets(secret)
    arrivals = Arrivals(keep=keep, record_path=record_path)
    receiver = Receiver(arrivals, reports or Reports(now_s), keys=keys, token=token, now_s=now_s)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        arrivals.close()

    routes = [
        Route("/", receiver.page),
        Route("/v1/calls", receiver.take_call, methods=["POST", "HEAD"]),
        Route("/hooks/{name}", receiver.take_hook, methods=["POST", "PUT", "PATCH"]),
        Route("/v1/received", receiver.received, methods=["GET", "DELETE"]),
        Route("/v1/reports", receiver.report, methods=["POST"]),
        Route("/control", receiver.control, methods=["GET", "POST", "DELETE"]),
    ]
    middleware = [Middleware(_HostCheck, Hosts(host_names))]
    handlers = {Refused: _problem_document}
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan, exception_handlers=handlers)


def _must_be_json(request: Request) -> None:
    """Refuse what a page of another origin can send without asking first; nobody who asks is told yes."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "send the order as application/json")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Refused(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
    return bytes(body)


async def _faulty_answer(fault: Fault) -> Response:
    await asyncio.sleep(fault.delay_s)
    status = fault.status or 500
    headers = {} if fault.retry_after is None else {"Retry-After": str(math.ceil(fault.retry_after))}
    return _problem(status, "misbehaving as ordered at /control", headers)


async def _problem_document(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refused) else 500
    return _problem(status, str(error), {})


def _problem(status: int, detail: str, headers: dict[str, str]) -> Response:
    content = {"type": "about:blank", "status": status, "detail": detail}
    return AsciiJson(content, status, headers, media_type="application/problem+json")


#: A log line stays one line, whatever a sender puts into a name.
_ONE_LINE = dict.fromkeys((*range(32), 0x7F, 0x85, 0x2028, 0x2029), "\N{REPLACEMENT CHARACTER}")


def _line(arrival: Arrival) -> str:
    to = f" to {arrival.params['to']}" if "to" in arrival.params else f" at {arrival.path}"
    customer = f" for customer {arrival.customer_id}" if arrival.customer_id else ""
    rule = f" by rule {arrival.rule}" if arrival.rule else ""
    latency = "" if arrival.latency_ms is None else f" ({arrival.latency_ms} ms after the decision)"
    line = f"{arrival.kind}{to}{customer}{rule}{latency}".translate(_ONE_LINE)
    return line.encode("utf-8", "replace").decode()


def _whole_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
