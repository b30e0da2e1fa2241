"""Sessions with a mail server: connected within reach, encrypted, and logged in, or the receipt of why not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass

import aiosmtplib

from connectors.protocol import Receipt, Result
from connectors.reach import Reach
from connectors.trust import public_authorities

DETAIL_CHARS_MAX = 500
FAREWELL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where mail is handed in and as whom. ``tls`` is None for a server on loopback that has none."""

    host: str
    port: int
    security: str  # starttls, tls or none
    greeting_name: str  # what EHLO says; ASCII
    username: str
    password: str
    tls: ssl.SSLContext | None
    timeout_s: float
    sessions_max: int
    reach: Reach


class NoSession(Exception):
    """There is no session to hand the message in by; ``receipt`` says why."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.detail)
        self.receipt = receipt


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return what checks a server's certificate: against ``ca_file``, or the authorities that ship with this library.

    Raises ``OSError`` (``ssl.SSLError`` is one) when the file cannot be read as certificates.
    """
    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    return public_authorities()


async def open_session(endpoint: Endpoint) -> aiosmtplib.SMTP:
    """Open a session, encrypted and logged in as the endpoint says; raise ``NoSession``."""
    client = aiosmtplib.SMTP(
        hostname=endpoint.host,
        local_hostname=endpoint.greeting_name,
        use_tls=endpoint.security == "tls",
        start_tls=False,
        tls_context=endpoint.tls,
        timeout=None,
    )
    opened = False
    try:
        await client.connect(sock=await _socket(endpoint))
        if endpoint.security == "starttls":
            await _start_tls(client)
        await client.ehlo()
        if endpoint.username:
            await _log_in(client, endpoint)
        opened = True
        return client
    except (aiosmtplib.SMTPException, OSError) as error:
        status = error.code if isinstance(error, aiosmtplib.SMTPResponseException) else None
        detail = f"no connection to {endpoint.host}: {said(error)}"[:DETAIL_CHARS_MAX]
        raise NoSession(Receipt(result=Result.RETRY, status=status, detail=detail)) from error
    finally:
        if not opened:
            drop(client)


async def _socket(endpoint: Endpoint) -> socket.socket:
    """Connect to the first address of the host that may be reached and answers."""
    loop = asyncio.get_running_loop()
    trouble: OSError | None = None
    for address in await endpoint.reach.addresses(endpoint.host, endpoint.port):
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        opened.setblocking(False)
        try:
            await loop.sock_connect(opened, (address, endpoint.port))
            return opened
        except OSError as error:
            opened.close()
            trouble = error
        except asyncio.CancelledError:
            opened.close()
            raise
    raise trouble or OSError("it has no address")


async def _start_tls(client: aiosmtplib.SMTP) -> None:
    await client.ehlo()
    if not client.supports_extension("starttls"):
        # Going on without would show the password to whoever took the offer out of the server's answer.
        message = "it does not offer STARTTLS. Set security to tls if its port speaks TLS from the start"
        raise aiosmtplib.SMTPException(message)
    await client.starttls()


async def _log_in(client: aiosmtplib.SMTP, endpoint: Endpoint) -> None:
    """Authenticate once, by the first method that both sides know: each failure counts against the account."""
    ways = {"plain": client.auth_plain, "login": client.auth_login}
    way = next((ways[name] for name in ways if name in client.server_auth_methods), None)
    if way is None:
        detail = f"{endpoint.host} offers neither AUTH PLAIN nor LOGIN. Check port and security, or leave username out."
        raise NoSession(Receipt(result=Result.REFUSED, detail=detail))
    try:
        await way(endpoint.username, endpoint.password)
    except aiosmtplib.SMTPAuthenticationError as error:
        if not 500 <= error.code < 600:
            raise
        words = f"{error.code} {error.message}"[: DETAIL_CHARS_MAX - 100]
        detail = f"{endpoint.host} refused the login: {words}. Check username and password_env of this connector."
        raise NoSession(Receipt(result=Result.REFUSED, status=error.code, detail=detail)) from error


def said(error: Exception) -> str:
    """Return an error in words that follow the server's name."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"it answered {error.code} {' '.join(error.message.split())}"
    if isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None:
        # The library's own words name the port, which it does not know of a socket that it was given.
        return str(error.__cause__) or type(error.__cause__).__name__
    return str(error) or type(error).__name__


async def say_farewell(client: aiosmtplib.SMTP) -> None:
    """End a session as politely as there is time for."""
    try:
        async with asyncio.timeout(FAREWELL_S):
            await client.quit()
    except (TimeoutError, aiosmtplib.SMTPException, OSError):
        pass
    finally:
        drop(client)


def drop(client: aiosmtplib.SMTP) -> None:
    """Give the socket back at once: a TLS session that is closed politely waits for the other side's leave."""
    transport = client.transport
    client.close()
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
