"""Counts every answer by its route's template, a closed set whatever paths clients invent."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator import metrics

#: Where a route that is not FastAPI's leaves its template in the scope.
TEMPLATE = "journey.route_template"
UNMATCHED = "unmatched"


class Observation:
    """Middleware: one increment of ``HTTP_RESPONSES`` an answer, an unhandled error counting as 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _count(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            _count(scope, 500)
            raise


def _count(scope: Scope, status: int) -> None:
    template = scope.get(TEMPLATE) or getattr(scope.get("route"), "path", UNMATCHED)
    metrics.HTTP_RESPONSES.labels(template, str(status)).inc()
