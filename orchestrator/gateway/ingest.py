"""The ingest routes: a raw body in, durable events out. Nothing here is parsed twice or waits for pydantic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from orchestrator import metrics
from orchestrator.errors import EventRefused, LogUnavailable
from orchestrator.gateway.access import CALLER, Caller
from orchestrator.gateway.body import read_body
from orchestrator.gateway.in_flight import InFlight
from orchestrator.gateway.observation import TEMPLATE
from orchestrator.gateway.problem import (
    ERRORS_SHOWN_MAX,
    Problem,
    ProblemError,
    problem_errors,
    refused_body,
    refused_events,
    unavailable,
)
from orchestrator.runtime.intake import Admission, HttpIntake
from orchestrator.runtime.intake.intake import Headers
from orchestrator.runtime.intake.segment import CALLS
from orchestrator.runtime.ports import Clock, EventLog

#: Turns a body, its headers, the moment and who vouches for an ``alias`` into an admission.
Take = Callable[[bytes, Headers, int, str], Admission]


log = logging.getLogger(__name__)


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request whose events are durable; ``ids`` in the order sent."""

    accepted: int
    ids: list[str] = []
    success: bool = False
    refused: list[ProblemError] = []


@dataclass(frozen=True, slots=True)
class Door:
    """What all ingest routes share."""

    log: EventLog
    clock: Clock
    in_flight: InFlight
    body_bytes_max: int


class Ingest:
    """One ingest route, as an ASGI application.

    ``take`` turns a body into an admission. A request with a bad event is refused as a whole, unless
    ``keeps_refused``: then the good events are taken and the bad ones go to the dead letters.
    """

    def __init__(self, door: Door, route: str, take: Take, *, status: int, keeps_refused: bool = False) -> None:
        self._door = door
        self._route = route
        self._take = take
        self._status = status
        self._keeps_refused = keeps_refused
        self._seconds = metrics.INGEST_SECONDS.labels(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 2xx after the log has acknowledged, a problem document otherwise."""
        started = perf_counter()
        scope[TEMPLATE] = self._route
        try:
            with self._door.in_flight.hold() as held:
                body = await read_body(scope["headers"], receive, self._door.body_bytes_max, held)
                response = await self._ingest(body, scope["headers"], scope[CALLER])
            self._seconds.observe(perf_counter() - started)
        except Problem as problem:
            response = problem.response()
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _ingest(self, body: bytes, raw_headers: list[tuple[bytes, bytes]], caller: Caller) -> Response:
        now_ms = self._door.clock.now_ms()
        try:
            headers = [(name.decode("latin-1"), value) for name, value in raw_headers]
            admission = self._take(body, headers, now_ms, caller.vouches_as)
        except EventRefused as refused:
            metrics.EVENTS_REFUSED.labels("gateway", str(refused.code)).inc()
            caller.take(1)
            raise refused_body(refused) from None
        for each in admission.refused:
            metrics.EVENTS_REFUSED.labels("gateway", str(each.error.code)).inc()
        # What is refused has cost as much as what is taken.
        caller.take(len(admission.records) + len(admission.refused))
        if admission.refused and not self._keeps_refused:
            raise refused_events(admission.refused, len(admission.refused) + len(admission.ids))
        await self._append(admission, now_ms)
        for known, previous_id in admission.vouched:
            log.info("%s vouched that %r and %r are one customer", caller.vouches_as, known, previous_id)
        return Response(msgspec.json.encode(self._accepted(admission)), self._status, media_type="application/json")

    async def _append(self, admission: Admission, now_ms: int) -> None:
        try:
            await self._door.log.append([*admission.records, *admission.dead_letters(now_ms)])
        except LogUnavailable as error:
            raise unavailable(error) from error
        metrics.EVENTS_INGESTED.labels(admission.form).inc(len(admission.records))
        if admission.refused:
            metrics.DEAD_LETTERS.labels("gateway").inc(len(admission.refused))

    def _accepted(self, admission: Admission) -> Accepted:
        number = len(admission.records)
        if not self._keeps_refused:
            return Accepted(number, admission.ids, success=True)
        return Accepted(number, success=True, refused=problem_errors(admission.refused[:ERRORS_SHOWN_MAX]))


def ingest_routes(door: Door, intake: HttpIntake) -> list[Route]:
    """Return the ingest routes, all of them POST."""
    takes: Mapping[str, Take] = {f"/v1/{call}": partial(_take_call, intake, call) for call in sorted(CALLS)}
    doors = {path: Ingest(door, path, take, status=200) for path, take in takes.items()}
    doors["/v1/batch"] = Ingest(door, "/v1/batch", partial(_take_batch, intake), status=200, keeps_refused=True)
    doors["/v1/events"] = Ingest(door, "/v1/events", intake.events, status=202)
    return [Route(path, ingest, methods=["POST"], name=path) for path, ingest in doors.items()]


def _take_call(
    intake: HttpIntake, call: str, body: bytes, _headers: Headers, received_at_ms: int, granted: str
) -> Admission:
    return intake.call(call, body, received_at_ms, granted)


def _take_batch(intake: HttpIntake, body: bytes, _headers: Headers, received_at_ms: int, granted: str) -> Admission:
    return intake.batch(body, received_at_ms, granted)
