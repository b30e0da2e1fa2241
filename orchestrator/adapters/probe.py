"""What stands in the way of a connection: nobody listens, or the two sides do not agree on TLS."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from enum import Enum

_TIMEOUT_S = 3.0


class Way(Enum):
    """How far a connection gets."""

    UNREACHABLE = "unreachable"  # nothing accepts connections there
    UNTRUSTED = "untrusted"  # it speaks TLS, and its certificate is not accepted
    PLAIN = "plain"  # TLS was wanted, and it does not speak it
    TLS_WANTED = "tls_wanted"  # it wants TLS, and none was meant
    OPEN = "open"  # the connection stands: what fails comes later, such as a password


async def probe(host: str, port: int, tls: ssl.SSLContext | None) -> tuple[Way, str]:
    """Connect as a client would and return how far that gets, with the reason in words. Sends no secret."""
    try:
        await _connect(host, port, None)
    except (OSError, TimeoutError) as error:
        return Way.UNREACHABLE, str(error) or "no answer"
    if tls is None:
        return (Way.TLS_WANTED, "") if await _speaks_tls(host, port) else (Way.OPEN, "")
    try:
        await _connect(host, port, tls)
    except ssl.SSLCertVerificationError as error:
        return Way.UNTRUSTED, error.verify_message
    except (OSError, TimeoutError) as error:
        return Way.PLAIN, str(error) or type(error).__name__
    return Way.OPEN, ""


async def _speaks_tls(host: str, port: int) -> bool:
    """Return whether a TLS handshake is answered; whose certificate it is does not matter for that."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, TimeoutError):
        await _connect(host, port, anybody)
        return True
    return False


async def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        _, writer = await asyncio.open_connection(host, port, ssl=tls)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
