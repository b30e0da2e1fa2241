"""One connection to a server of ours, bounded: in the size of a request's head and trailers, and in the time that a
request may take to arrive and its answer to be read. Without bounds a client that sends or reads a byte now and then
holds a connection for ever (slow loris), and a head without end fills the memory before any route sees it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from orchestrator import metrics
from orchestrator.gateway.observation import UNMATCHED
from orchestrator.gateway.problem import Problem

#: Bytes of a request's target and headers.
HEAD_BYTES_MAX = 64 * 1024
#: Bytes that may arrive within a body and be none of it (trailers, extensions of chunks), at a stretch.
FRAMING_BYTES_MAX = 64 * 1024
#: Bytes of a large answer that a client has to read in the time that a request has.
READ_BYTES_MIN = 64 * 1024


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with those bounds; ``request_timeout_s`` counts from the first byte, or from connecting.

    A request that breaks one is answered 408 or 431, unless its answer has begun, and the connection is closed. It is
    cut where a client does not read within ``request_timeout_s`` what is written, or ``READ_BYTES_MIN`` of it. Trailers
    are dropped: no route asks for them. How long an answer takes to be made is not bounded here, and an idle connection
    is uvicorn's to close.
    """

    def __init__(self, *args: Any, request_timeout_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._request_timeout_s = request_timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._read_deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._framing_bytes = 0
        self._in_head = True
        # The cycle of the request whose body arrives, once its head has; the newest pipelined one.
        self._arriving: RequestResponseCycle | None = None
        self._refused = False

    # --------------------------------------------------------------------------------- what asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        # Whatever the kernel does not take at once counts as unread: closing, too, waits until all of it is taken.
        transport.set_write_buffer_limits(high=1, low=0)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget_deadline()
        self._forget_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is still going on must not have too many, nor what stands around a body."""
        if self._refused:
            return
        if self._in_head:
            self._await_request()
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(_head_too_large())
        elif not self._in_head and self._framing_bytes > FRAMING_BYTES_MAX:
            self._refuse(_trailers_too_large())

    def pause_writing(self) -> None:
        """Wait for the client to read what is written."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Go on: the client has read it all."""
        self._forget_reader()
        super().resume_writing()

    # -------------------------------------------------------------------------------- what the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._arriving = None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body is a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on with the body of a request whose head is within its bound."""
        self._in_head = False
        self._head_bytes = self._framing_bytes = 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES_MAX:
            self._refuse(_head_too_large())
        elif not self._refused:
            super().on_headers_complete()
            self._arriving = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._framing_bytes = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request: what follows is the head of the next."""
        self._forget_deadline()
        self._in_head = True
        if not self._refused:
            super().on_message_complete()

    # ----------------------------------------------------------------------------------------- the bounds

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._request_timeout_s, self._give_up)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._refuse(_too_slow())

    def _await_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._read_deadline = self.loop.call_later(self._request_timeout_s, self._look_at_reader, unread)

    def _look_at_reader(self, unread: int) -> None:
        if unread - self.transport.get_write_buffer_size() < READ_BYTES_MIN:
            self.transport.abort()
        else:
            self._await_reader()

    def _forget_reader(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None

    def _refuse(self, problem: Problem) -> None:
        """Answer in the place of whatever would have, and close."""
        self._forget_deadline()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        answered = self._arriving is not None and self._arriving.response_complete
        silent = self._in_head and self._head_bytes == 0
        if not answering and not answered and not silent:
            response = problem.response()
            metrics.HTTP_RESPONSES.labels(UNMATCHED, str(response.status_code)).inc()
            lines = [b": ".join(header) for header in (*response.raw_headers, (b"connection", b"close"))]
            head = STATUS_LINE[response.status_code] + b"\r\n".join(lines)
            self.transport.write(head + b"\r\n\r\n" + bytes(response.body))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _too_slow() -> Problem:
    return Problem(408, "too_slow", "The request did not arrive in time.", remedy="Send it again, in smaller pieces.")


def _trailers_too_large() -> Problem:
    return Problem(
        431,
        "trailers_too_large",
        f"The body has more than {FRAMING_BYTES_MAX} bytes of trailers or extensions of chunks.",
        remedy="Send what is large in the body.",
    )


def _head_too_large() -> Problem:
    return Problem(
        431,
        "head_too_large",
        f"The request's target and headers have more than {HEAD_BYTES_MAX} bytes.",
        remedy="Send what is large in the body.",
    )
