"""Origins: which web pages may send events, and how a browser is told.

Whoever has a page open could otherwise be made to send events to a gateway that only they reach: a page of any origin
may post plain text without asking. A browser says for which page it sends (``Origin``, ``Sec-Fetch-*``), and no page
can make it say otherwise; what is no browser says neither and is judged by its key alone.

Sources: the Fetch standard (CORS protocol, the Origin header), W3C Fetch Metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Send

from orchestrator.gateway.body import JSON_TYPES, not_json
from orchestrator.gateway.problem import Problem

Headers = Mapping[bytes, bytes]

#: How long a browser may go by the answer to a preflight: an origin that is taken out is refused after that.
PREFLIGHT_AGE_S = 600
_METHODS = "POST"
_HEADERS = "authorization, content-encoding, content-type"


def _from_browser(headers: Headers) -> bool:
    """Return whether a browser sends this. Node's own ``fetch`` says ``Sec-Fetch-Mode: cors`` as well, and no more."""
    marks = (b"origin", b"sec-fetch-site", b"sec-fetch-dest")
    return any(name in headers for name in marks) or headers.get(b"sec-fetch-mode", b"cors") != b"cors"


def of_another_origin(headers: Headers) -> bool:
    """Return whether a browser says that it sends for a page of another origin than the one it sends to."""
    site, origin, host = (headers.get(name, b"") for name in (b"sec-fetch-site", b"origin", b"host"))
    return site in {b"cross-site", b"same-site"} or bool(origin and _authority(origin) != host.lower())


def refuse_foreign_page(headers: Headers, allowed: Collection[str]) -> None:
    """Raise ``Problem`` when a browser sends events for a page whose origin is not ``allowed``.

    403 for a page of another origin; 415 for what is not JSON, since that is what a browser sends without asking.
    """
    if origin_of(headers) in allowed or not _from_browser(headers):
        return
    media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media not in JSON_TYPES:
        raise not_json(media, _REMEDY)
    if of_another_origin(headers):
        raise other_origin()


def other_origin() -> Problem:
    """Return the problem of a page that may not send events."""
    return Problem(403, "other_origin", "A page of this origin may not send events here.", remedy=_REMEDY)


_REMEDY = (
    "Name the page's origin where the key is made (`journey keys create --origin https://shop.example`), or in "
    "JOURNEY_ALLOWED_ORIGINS; or send application/json from your own server."
)


def is_preflight(method: str, headers: Headers) -> bool:
    """Return whether a browser asks what a page of another origin may send."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def preflight_answer() -> Response:
    """Return the answer to a preflight of a known origin; ``telling`` adds which."""
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
        },
    )


def telling(send: Send, headers: Headers, known: Collection[str]) -> Send:
    """Return ``send`` so that a page of a ``known`` origin may read the answer, refusals as well."""
    origin = origin_of(headers)

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            answered = MutableHeaders(scope=message)
            answered.add_vary_header("Origin")
            if origin in known:
                answered["Access-Control-Allow-Origin"] = origin
                answered["Access-Control-Expose-Headers"] = "Retry-After"
        await send(message)

    return told if b"origin" in headers else send


def origin_of(headers: Headers) -> str:
    """Return the origin that a browser names, '' without one."""
    return headers.get(b"origin", b"").decode("latin-1")


def _authority(origin: bytes) -> bytes:
    return origin.partition(b"://")[2].lower()
