"""Access: who may use the routes under ``/v1``."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Sequence
from hmac import compare_digest

from pydantic import SecretStr

from orchestrator.gateway.problem import Problem


class WriteKeys:
    """Accepts one of the keys as basic-auth user (as Segment libraries send it) or as bearer token.

    Without keys everyone is accepted. Every key is compared, in constant time, whichever matches.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._keys = tuple(key.get_secret_value().encode() for key in keys)

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise ``Problem`` 401 unless ``headers`` (names in lower case) carry a key."""
        if not self._keys:
            return
        value = next((value for name, value in headers if name == b"authorization"), None)
        if value is None:
            raise _unauthorised("A write key is needed.", "Send the write key as basic-auth user or bearer token.")
        sent = _sent_key(value)
        matches = [compare_digest(sent, key) for key in self._keys]
        if not sent or not any(matches):
            raise _unauthorised("The write key is not known.", "Compare it with JOURNEY_WRITE_KEYS of the gateway.")


def _sent_key(value: bytes) -> bytes:
    scheme, _, credentials = value.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return credentials.strip()
        case b"basic":
            try:
                return b64decode(credentials.strip(), validate=True).partition(b":")[0]
            except binascii.Error:
                return b""
        case _:
            return b""


def _unauthorised(detail: str, remedy: str) -> Problem:
    return Problem(
        401,
        "unauthorised",
        detail,
        remedy=remedy,
        headers={"WWW-Authenticate": 'Basic realm="journey", charset="UTF-8"'},
    )
