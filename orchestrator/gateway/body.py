"""Reads request bodies within bounds: what is too large is refused while it arrives, inflated or not."""

from __future__ import annotations

import zlib

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from orchestrator.gateway.in_flight import Held
from orchestrator.gateway.problem import Problem

_GZIP = 31  # zlib's window bits for a gzip stream
#: What a browser sends for a page of another origin only after it has asked.
JSON_TYPES = frozenset({b"application/json", b"application/cloudevents+json", b"application/cloudevents-batch+json"})
#: What producers call JSON as well: curl, libraries that leave the type to their HTTP client, and those that run in a
#: browser and avoid its asking. For which pages a browser may send these is for ``origins`` to say.
READ_TYPES = JSON_TYPES | {b"", b"text/plain", b"application/x-www-form-urlencoded"}


def header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the value of a header, b"" when it is absent. ``name`` is in lower case."""
    return next((value for each, value in headers if each == name), b"")


async def read_as_sent(headers: list[tuple[bytes, bytes]], receive: Receive, bytes_max: int, held: Held) -> bytes:
    """Return the body of any content type, byte for byte: what a signature was made over.

    Raise ``Problem`` 413 (too large) or 415 (encoded), and ``ClientDisconnect`` when the client goes away.
    """
    if header(headers, b"content-encoding").strip().lower() not in {b"", b"identity"}:
        raise Problem(415, "unknown_encoding", "The body is encoded.", remedy="Send the body as it was signed.")
    return await _plain(receive, bytes_max, held)


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive, bytes_max: int, held: Held) -> bytes:
    """Return the body, inflated. Never holds more than ``bytes_max`` of it.

    Raise ``Problem`` 413 (too large), 415 (not JSON, or an unknown encoding) or 400 (broken gzip), and
    ``ClientDisconnect`` when the client goes away.
    """
    media = header(headers, b"content-type").partition(b";")[0].strip().lower()
    if media not in READ_TYPES:
        raise not_json(
            media, "Send application/json, application/cloudevents+json or application/cloudevents-batch+json."
        )
    length = header(headers, b"content-length")
    if length.isdigit() and int(length[:12]) > bytes_max:
        raise too_large(bytes_max)
    encoding = header(headers, b"content-encoding").strip().lower()
    if encoding in {b"", b"identity"}:
        return await _plain(receive, bytes_max, held)
    if encoding in {b"gzip", b"x-gzip"}:
        return await _inflated(receive, bytes_max, held)
    raise Problem(
        415,
        "unknown_encoding",
        f"The content encoding {encoding.decode('latin-1')} is not known.",
        remedy="Send the body as it is, or with gzip.",
        headers={"Accept-Encoding": "gzip, identity"},
    )


async def _plain(receive: Receive, bytes_max: int, held: Held) -> bytes:
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        piece, more = await _next(receive)
        size += len(piece)
        if size > bytes_max:
            raise too_large(bytes_max)
        held.add(len(piece))
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _inflated(receive: Receive, bytes_max: int, held: Held) -> bytes:
    body = bytearray()
    stream = zlib.decompressobj(_GZIP)
    received = 0
    more = True
    while more:
        piece, more = await _next(receive)
        received += len(piece)
        if received > bytes_max:
            raise too_large(bytes_max)
        while piece:
            if stream.eof:  # A gzip body may have several members.
                stream = zlib.decompressobj(_GZIP)
            try:
                inflated = stream.decompress(piece, bytes_max - len(body) + 1)
            except zlib.error:
                raise _broken_gzip() from None
            held.add(len(inflated))
            body += inflated
            if len(body) > bytes_max:
                raise too_large(bytes_max)
            piece = stream.unconsumed_tail or stream.unused_data
    if not stream.eof:
        raise _broken_gzip()
    return bytes(body)


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def not_json(media: bytes, remedy: str) -> Problem:
    """Return the problem of a content type that is not taken."""
    named = f"The content type {media.decode('latin-1')} is not JSON." if media else "There is no content type."
    return Problem(415, "not_json", named, remedy=remedy)


def too_large(bytes_max: int) -> Problem:
    """Return the problem of a body that is larger than allowed."""
    return Problem(
        413,
        "too_large",
        f"The body has more than {bytes_max} bytes.",
        remedy="Send the events in several requests.",
    )


def _broken_gzip() -> Problem:
    return Problem(400, "broken_gzip", "The body is not a whole gzip stream.", remedy="Send it again, or without gzip.")
