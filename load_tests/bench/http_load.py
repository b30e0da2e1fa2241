"""A client that costs little, so that a server is measured and not the client: raw HTTP/1.1 over kept connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence


class RequestFailed(Exception):
    """A server answered something else than a 2xx; the message holds the answer."""


async def post_all(host: str, port: int, path: str, bodies: Sequence[bytes], *, connections: int) -> float:
    """Post every body over ``connections`` connections, each waiting for an answer before its next; return seconds.

    Raises ``RequestFailed`` for the first answer that is no 2xx.
    """
    ahead = iter(bodies)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_post(host, port, path, ahead))
    return time.perf_counter() - began


async def _post(host: str, port: int, path: str, bodies: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    try:
        for body in bodies:
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            rest = await reader.readexactly(_content_length(answer))
            if not answer.startswith(b"HTTP/1.1 2"):
                raise RequestFailed((answer + rest).decode(errors="replace"))
    finally:
        writer.close()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RequestFailed(f"no Content-Length in {head.decode(errors='replace')}")
