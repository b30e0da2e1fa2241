"""The address that a provider reports to: hands each request to a connector's reader and keeps what was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from connectors.callback import Callback, CallbackReader, CallbackRefused, Outcome
from connectors.connector_type import ConnectorType, Surroundings


def reader_of(known: ConnectorType, settings: dict[str, Any], environ: dict[str, str]) -> CallbackReader:
    """Build the type's reader as the engine does."""
    assert known.callbacks is not None
    surroundings = Surroundings(environ=environ, now_s=lambda: 1_772_442_000.0)
    return known.callbacks("desk", known.parameters.model_validate(settings), surroundings)


@dataclass
class OutcomeAddress:
    """An ASGI app; ``reader`` may be set once its own address is known."""

    reader: CallbackReader | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
                await receive()
                await send({"type": answer})
            return
        request = Request(scope, receive)
        assert self.reader is not None
        callback = Callback(
            method=request.method,
            path=scope["raw_path"].decode(),
            query=scope["query_string"].decode(),
            headers=dict(request.headers),
            body=await request.body(),
        )
        try:
            reading = self.reader.read(callback)
        except CallbackRefused as error:
            response = Response(str(error), error.status)
        else:
            self.outcomes += reading.outcomes
            response = Response(reading.body, reading.status, media_type=reading.media_type)
        await response(scope, receive, send)
