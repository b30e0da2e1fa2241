"""The ingest routes: a raw body in, durable events out. Nothing here is parsed twice or waits for pydantic."""

from __future__ import annotations

import asyncio
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
from orchestrator.gateway.in_flight import Held, InFlight
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
from orchestrator.runtime.intake import Admission, HttpIntake, Parcel
from orchestrator.runtime.intake.intake import Headers
from orchestrator.runtime.intake.segment import CALLS
from orchestrator.runtime.ports import Clock, EventLog

#: Opens a body, with its headers, the moment and who vouches for an ``alias``.
Open = Callable[[bytes, Headers, int, str], Parcel]

log = logging.getLogger(__name__)


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request whose events are durable; ``ids`` in the order sent.

    ``success`` says that nothing of the request was refused.
    """

    accepted: int
    success: bool
    ids: list[str] = []
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

    ``opens`` turns a body into a parcel of events. A request with a bad event is refused as a whole, unless
    ``keeps_refused``: then the good events are taken and the bad ones go to the dead letters.
    """

    def __init__(self, door: Door, route: str, opens: Open, *, status: int, keeps_refused: bool = False) -> None:
        self._door = door
        self._route = route
        self._open = opens
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
                response = await self._ingest(body, scope["headers"], scope[CALLER], held)
            self._seconds.observe(perf_counter() - started)
        except Problem as problem:
            response = problem.response()
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _ingest(
        self, body: bytes, raw_headers: list[tuple[bytes, bytes]], caller: Caller, held: Held
    ) -> Response:
        now_ms = self._door.clock.now_ms()
        try:
            headers = [(name.decode("latin-1"), value) for name, value in raw_headers]
            parcel = self._open(body, headers, now_ms, caller.vouches_as)
        except EventRefused as refused:
            metrics.EVENTS_REFUSED.labels("gateway", str(refused.code)).inc()
            caller.take(1)
            raise refused_body(refused) from None
        # What is refused will have cost as much as what is taken.
        caller.take(parcel.number)
        held.add(parcel.size_bytes)
        admission = await _admitted(parcel)
        for each in admission.refused:
            metrics.EVENTS_REFUSED.labels("gateway", str(each.error.code)).inc()
        if admission.refused and not self._keeps_refused:
            raise refused_events(admission.refused, parcel.number)
        await self._append(admission, now_ms, caller.producer)
        for known, previous_id in admission.vouched:
            log.info("%s vouched that %r and %r are one customer", caller.vouches_as, known, previous_id)
        return Response(msgspec.json.encode(self._accepted(admission)), self._status, media_type="application/json")

    async def _append(self, admission: Admission, now_ms: int, producer: str) -> None:
        try:
            await self._door.log.append([*admission.sent_by(producer), *admission.dead_letters(now_ms, producer)])
        except LogUnavailable as error:
            raise unavailable(error) from error
        metrics.EVENTS_INGESTED.labels(admission.form).inc(len(admission.records))
        if admission.refused:
            metrics.DEAD_LETTERS.labels("gateway").inc(len(admission.refused))

    def _accepted(self, admission: Admission) -> Accepted:
        number = len(admission.records)
        if not self._keeps_refused:
            return Accepted(number, success=True, ids=admission.ids)
        shown = problem_errors(admission.refused[:ERRORS_SHOWN_MAX])
        return Accepted(number, success=not admission.refused, refused=shown)


async def _admitted(parcel: Parcel) -> Admission:
    """Return what becomes of a parcel; between its steps other requests have their turn."""
    steps = parcel.steps()
    admission = next(steps)
    for _ in steps:
        await asyncio.sleep(0)
    return admission


def ingest_routes(door: Door, intake: HttpIntake) -> list[Route]:
    """Return the ingest routes, all of them POST."""
    opens: Mapping[str, Open] = {f"/v1/{call}": partial(_open_call, intake, call) for call in sorted(CALLS)}
    doors = {path: Ingest(door, path, each, status=200) for path, each in opens.items()}
    doors["/v1/batch"] = Ingest(door, "/v1/batch", partial(_open_batch, intake), status=200, keeps_refused=True)
    doors["/v1/events"] = Ingest(door, "/v1/events", intake.events, status=202)
    return [Route(path, ingest, methods=["POST"], name=path) for path, ingest in doors.items()]


def _open_call(
    intake: HttpIntake, call: str, body: bytes, _headers: Headers, received_at_ms: int, granted: str
) -> Parcel:
    return intake.call(call, body, received_at_ms, granted)


def _open_batch(intake: HttpIntake, body: bytes, _headers: Headers, received_at_ms: int, granted: str) -> Parcel:
    return intake.batch(body, received_at_ms, granted)
