"""Serves an ASGI application on a socket of this process, beside whatever else its event loop does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from orchestrator.errors import ConfigurationError
from orchestrator.gateway.connection import BoundedConnection
from orchestrator.settings import Settings

SHUTDOWN_TIMEOUT_S = 10
#: Connections at once; what comes beyond is answered 503 and not read.
CONNECTIONS_MAX = 4_000
#: What binding says of an address that other machines have, or that this one has no interface for.
_NO_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a server speaks: over TLS or not, how patiently, and whose word about clients it takes.

    Nobody's word is taken unless ``trusted_proxies`` names them: X-Forwarded-* headers of others are only headers.
    """

    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    request_timeout_s: float = 30

    @classmethod
    def of(cls, settings: Settings) -> Terms:
        """Return the terms of the gateway that the settings describe."""
        return cls(
            certificate=settings.tls_certificate,
            key=settings.tls_key,
            trusted_proxies=settings.trusted_proxies,
            request_timeout_s=settings.request_timeout_s,
        )

    def options(self) -> dict[str, Any]:
        """Return them as uvicorn's."""
        options: dict[str, Any] = {
            "http": partial(BoundedConnection, request_timeout_s=self.request_timeout_s),
            "limit_concurrency": CONNECTIONS_MAX,
            "proxy_headers": bool(self.trusted_proxies),
            "forwarded_allow_ips": list(self.trusted_proxies),
        }
        if self.certificate is not None and self.key is not None:
            _check_pair(self.certificate, self.key)
            options |= {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        return options


def _check_pair(certificate: Path, key: Path) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificate {certificate} and the key {key} cannot be used ({error}). Correct "
            "JOURNEY_TLS_CERTIFICATE and JOURNEY_TLS_KEY: two PEM files that belong together, the key without password."
        ) from None


class _Server(uvicorn.Server):
    """uvicorn's server, leaving signals to the process: whoever starts the roles also stops them, in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers of the process in place."""
        yield


class GatewayServer:
    """A running gateway: ``async with GatewayServer(app, host, port) as server: server.url``.

    Port 0 takes a free port. Leaving the context stops taking connections and answers what was begun, for at most
    ``SHUTDOWN_TIMEOUT_S``. Raises ``ConfigurationError`` when the address cannot be bound or a certificate not used.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        terms: Terms | None = None,
        *,
        port_named: str = "--port",
    ) -> None:
        """``port_named`` is what a person sets to choose another port."""
        terms = terms or Terms()
        self._port_named = port_named
        self._scheme = "http" if terms.certificate is None else "https"
        self._host = host
        self._port = port
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            **terms.options(),
        )
        self._server = _Server(config)
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is served; 0 until a free one has been taken."""
        return self._port

    @property
    def url(self) -> str:
        """The address that is served, without a trailing slash."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self.port}"

    async def __aenter__(self) -> GatewayServer:
        """Return once connections are accepted."""
        self._socket = self._bound()
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="gateway")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise ConfigurationError("The gateway ended while it started; its log says why.")
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if self._socket is not None:
            self._socket.close()

    async def wait(self) -> None:
        """Return when the server has ended, by itself or by leaving the context."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Naming the protocol makes asyncio set TCP_NODELAY; without it every answer waits for a delayed ACK.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self._host, self._port))
        except (OSError, UnicodeError) as error:  # The latter for a name that the resolver is not even asked for.
            bound.close()
            if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno in _NO_ADDRESS:
                why = getattr(error, "strerror", error)
                raise ConfigurationError(
                    f'"{self._host}" is no address of this machine ({why}). Correct --host or JOURNEY_HOST.'
                ) from error
            raise ConfigurationError(
                f"Cannot serve on {self._host}:{self._port} ({error.strerror}). Choose another {self._port_named}, or "
                "stop what uses it."
            ) from error
        bound.setblocking(False)
        self._port = int(bound.getsockname()[1])
        return bound
