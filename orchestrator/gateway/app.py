"""The gateway application: ingest, look-ups, health and metrics behind one address."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from orchestrator import __version__
from orchestrator.errors import Unavailable
from orchestrator.gateway.access import Access
from orchestrator.gateway.backend import Backend
from orchestrator.gateway.customer_path import refuses_others
from orchestrator.gateway.customers import customer_router
from orchestrator.gateway.guard import REMEDY, Guard
from orchestrator.gateway.in_flight import InFlight
from orchestrator.gateway.ingest import Door, ingest_routes
from orchestrator.gateway.lookups import lookup_router
from orchestrator.gateway.observation import Observation
from orchestrator.gateway.openapi import describe
from orchestrator.gateway.outcomes import Reception, outcome_routes
from orchestrator.gateway.problem import Problem, unavailable
from orchestrator.runtime.intake import HttpIntake, Intake
from orchestrator.runtime.ports import Clock
from orchestrator.settings import Settings

REQUESTS_IN_FLIGHT_MAX = 1_000
BYTES_IN_FLIGHT_MAX = 64_000_000


def create_app(  # noqa: PLR0913 - they are the gateway's surroundings, told apart by keyword.
    backend: Backend,
    intake: Intake,
    settings: Settings,
    clock: Clock,
    *,
    in_flight: InFlight | None = None,
    outcomes: Reception | None = None,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """Return the gateway over ``backend``.

    Ingest routes bypass FastAPI's parsing, and so does that of ``outcomes``, if providers report here. ``routers`` are
    further routes, each with its whole path as prefix; what is under ``/v1`` needs a row in ``gateway.roles``. ``/`` is
    left to whoever mounts a console there.
    """
    access = Access.of(settings, clock)
    door = Door(
        log=backend.log,
        clock=clock,
        in_flight=in_flight or InFlight(REQUESTS_IN_FLIGHT_MAX, BYTES_IN_FLIGHT_MAX),
        body_bytes_max=settings.body_bytes_max,
    )
    app = FastAPI(
        title="Journey gateway",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        routes=[
            *ingest_routes(door, HttpIntake(intake)),
            *(outcome_routes(door, outcomes) if outcomes is not None else ()),
        ],
    )

    for router in (lookup_router(backend), customer_router(backend.log, intake, clock), *routers):
        app.include_router(router, dependencies=[Depends(refuses_others(intake))])
    app.include_router(_health_router(backend))
    app.add_middleware(Guard, access=access, body_bytes_max=settings.body_bytes_max)
    app.add_middleware(Observation)
    _answer_with_problems(app)
    describe(app, event_bytes_max=settings.event_bytes_max, body_bytes_max=settings.body_bytes_max)
    return app


def _health_router(backend: Backend) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Whether the process can take events")
    async def readyz() -> dict[str, str]:
        obstacle = await backend.readiness.obstacle()
        if obstacle is not None:
            raise Problem(503, "not_ready", obstacle, headers={"Retry-After": "1"})
        return {"status": "ready"}

    @router.get("/metrics", summary="Metrics in Prometheus' text format", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _answer_with_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code, detail = {
            404: ("unknown_path", f"There is nothing at {request.url.path}."),
            405: ("method_not_allowed", f"{request.method} is not answered at {request.url.path}."),
        }.get(error.status_code, ("http_error", str(error.detail)))
        return Problem(error.status_code, code, detail, remedy=REMEDY, headers=error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return Problem(400, "invalid_request", f"{field}: {first['msg']}.", field=field).response()

    @app.exception_handler(Unavailable)
    async def dependency_down(_request: Request, error: Unavailable) -> Response:
        return unavailable(error).response()

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, _error: Exception) -> Response:
        # Details of an unexpected error belong into the log, never into an answer.
        return Problem(500, "internal_error", "The gateway failed on this request; its log says why.").response()
