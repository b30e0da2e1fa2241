"""Answers that may be large: they are made in a thread, so that events do not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pydantic import BaseModel
from starlette.responses import Response


async def answered(view: Callable[[], BaseModel], headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that holds a view; ``view`` is called in a thread."""
    content = await asyncio.to_thread(lambda: view().model_dump_json().encode())
    return Response(content, media_type="application/json", headers=headers)
