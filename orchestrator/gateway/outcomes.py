"""The outcomes route: a provider's callback in, durable events out.

Nobody calls it with a key of ours: the provider's signature over the raw request is what proves it. 2xx is answered
only after the log has the events, so a provider that repeats until it hears 2xx loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from connectors.callback import Callback, CallbackRefused, Reading
from orchestrator import metrics
from orchestrator.errors import Unavailable
from orchestrator.gateway.body import read_as_sent
from orchestrator.gateway.in_flight import InFlight
from orchestrator.gateway.ingest import Door
from orchestrator.gateway.observation import TEMPLATE
from orchestrator.gateway.problem import Problem, unavailable
from orchestrator.runtime.outcomes import Desk, Desks, OutcomeIntake, Taken

PATH = "/v1/outcomes/{connector}"
METHODS = ("GET", "HEAD", "POST")
REQUESTS_IN_FLIGHT_MAX = 200
BYTES_IN_FLIGHT_MAX = 16_000_000
#: Readers may answer with a page, whose address holds a token.
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What the route needs of its process.

    ``desks`` returns those of the rulebook in force. ``release`` frees the line of a call that has ended.
    ``in_flight`` is this route's alone: whoever calls it shows nothing before the body, so what they hold must not
    take a place from those who came with a key.
    """

    desks: Callable[[], Desks]
    intake: OutcomeIntake
    release: Callable[[str], Awaitable[bool]]
    in_flight: InFlight = field(default_factory=lambda: InFlight(REQUESTS_IN_FLIGHT_MAX, BYTES_IN_FLIGHT_MAX))


class Outcomes:
    """The route, as an ASGI application."""

    def __init__(self, door: Door, reception: Reception) -> None:
        self._door = door
        self._reception = reception

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback as its reader says, or with a problem document."""
        scope[TEMPLATE] = PATH
        try:
            desk = self._desk(scope["path_params"]["connector"])
            with self._reception.in_flight.hold() as held:
                body = await read_as_sent(scope["headers"], receive, self._door.body_bytes_max, held)
                response = await self._take(desk, _callback(scope, body))
        except Problem as problem:
            response = problem.response()
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    def _desk(self, connector: str) -> Desk:
        desk = self._reception.desks().get(connector)
        if desk is None or desk.unconfigured:
            # Which there are is not for everybody to know.
            raise Problem(
                404,
                "no_outcomes",
                "No connector of this name takes reports.",
                remedy="Correct the name, or give the connector what `journey doctor` says it needs for reports.",
            )
        return desk

    async def _take(self, desk: Desk, callback: Callback) -> Response:
        reading = _read(desk, callback)
        if reading.outcomes:
            now_ms = self._door.clock.now_ms()
            try:
                taken = await self._reception.intake.take(desk, reading.outcomes, now_ms)
                await self._door.log.append(taken.records)
            except Unavailable as error:
                raise unavailable(error) from error
            _count(desk.connector, taken)
            await self._release(taken.freed)
        return Response(reading.body, reading.status, headers=_HEADERS, media_type=reading.media_type)

    async def _release(self, action_ids: Sequence[str]) -> None:
        """Free the lines of calls that have ended. One that is not freed here is freed when its hold ends."""
        for action_id in action_ids:
            try:
                await self._reception.release(action_id)
            except Unavailable as error:
                log.warning("the line of the call %s stays taken until its hold ends: %s", action_id, error)


def outcome_routes(door: Door, reception: Reception) -> list[Route]:
    """Return the route."""
    return [Route(PATH, Outcomes(door, reception), methods=list(METHODS), name=PATH)]


def _callback(scope: Scope, body: bytes) -> Callback:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))  # The first counts, as everywhere.
    query = scope["query_string"].decode("latin-1")
    return Callback(method=scope["method"], path=scope["path"], query=query, headers=headers, body=body)


_REASONS = {401: "unsigned", 403: "forged"}


def _read(desk: Desk, callback: Callback) -> Reading:
    if desk.reader is None:
        metrics.CALLBACKS_REFUSED.labels(desk.connector, "unreadable").inc()
        detail = f"Reports of {desk.connector} cannot be read now."
        raise Problem(503, "outcomes_unreadable", detail, remedy="`journey doctor` says what to mend.")
    try:
        return desk.reader.read(callback)
    except CallbackRefused as refused:
        metrics.CALLBACKS_REFUSED.labels(desk.connector, _REASONS.get(refused.status, "not_understood")).inc()
        log.warning("a callback of %s was refused: %s", desk.connector, refused)
        raise Problem(refused.status, "callback_refused", str(refused)) from None
    except Exception:
        # Readers may be foreign code, and whoever calls may have sent anything: the provider is to come again.
        metrics.CALLBACKS_REFUSED.labels(desk.connector, "unreadable").inc()
        log.exception("the reader of %s failed on a callback", desk.connector)
        detail = f"The reader of {desk.connector} failed on this callback; the gateway's log says why."
        raise Problem(500, "internal_error", detail) from None


def _count(connector: str, taken: Taken) -> None:
    metrics.EVENTS_INGESTED.labels("outcome").inc(len(taken.types))
    for event_type in taken.types:
        metrics.OUTCOMES.labels(connector, event_type).inc()
    for refused in taken.refused:
        metrics.EVENTS_REFUSED.labels("gateway", str(refused.code)).inc()
    if taken.refused:
        metrics.DEAD_LETTERS.labels("gateway").inc(len(taken.refused))
