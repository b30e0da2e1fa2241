"""Health and metrics of roles without an HTTP interface of their own: ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

#: What chooses the port of such a role.
METRICS_PORT = "JOURNEY_METRICS_PORT"


def health_app(obstacle: Callable[[], Awaitable[str | None]], notice: Callable[[], str] = str) -> Starlette:
    """Return the application; alive means that it answers, ready that there is no ``obstacle``.

    ``notice`` is told beside readiness: what works, but will not for ever.
    """

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(request: Request) -> Response:
        found = await obstacle()
        if found is not None:
            return PlainTextResponse(found, status_code=503)
        return PlainTextResponse("\n".join(["ready", notice()]).rstrip())

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
