"""Signatures after the Standard Webhooks specification (standardwebhooks.com, version 1).

A secret is ``whsec_`` and the base64 of 24 to 64 random bytes. The signature is the base64 of HMAC-SHA256 over
``id.timestamp.body``, written as ``v1,SIGNATURE``. Several secrets at once, separated by spaces, give several
signatures in one header: that is how a secret is replaced without a gap.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from hashlib import sha256

SECRET_PREFIX = "whsec_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
TOLERANCE_S = 300.0
#: Seconds since the epoch have ten digits until the year 2286; what is far longer is not worth reading as a number.
TIMESTAMP_DIGITS_MAX = 15


class SignatureRefused(Exception):
    """A message is not signed as it should be; the message says which part is wrong."""


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """Return the keys in ``text``; raise ``ValueError`` when one is not a Standard Webhooks secret."""
    return tuple(_key(secret) for secret in text.split())


def signed_headers(keys: Sequence[bytes], message_id: str, at_s: float, body: bytes) -> dict[str, str]:
    """Return the three headers that prove ``body`` was written by a holder of ``keys`` at ``at_s`` (epoch s)."""
    timestamp = str(int(at_s))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(key, message_id, timestamp, body) for key in keys),
    }


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_s: float) -> None:
    """Raise ``SignatureRefused`` unless one of ``keys`` signed ``body`` within ``TOLERANCE_S`` of ``now_s``.

    ``headers`` are looked up in lower case. Compares in constant time.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not (message_id and timestamp and given):
        raise SignatureRefused("webhook-id, webhook-timestamp and webhook-signature are all needed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= TIMESTAMP_DIGITS_MAX):
        raise SignatureRefused("webhook-timestamp is not a number of seconds")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise SignatureRefused(f"webhook-timestamp is more than {TOLERANCE_S:.0f} s away from now")
    right = [_signature(key, message_id, timestamp, body).encode() for key in keys]
    if not any(hmac.compare_digest(one, other.encode()) for one in right for other in given):
        raise SignatureRefused("webhook-signature matches no secret of this receiver")


def _key(secret: str) -> bytes:
    try:
        if not secret.startswith(SECRET_PREFIX):
            raise NotBase64
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except NotBase64:
        raise ValueError(f"a secret must be {SECRET_PREFIX} followed by base64") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(f"a secret must hold {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, this one has {len(key)}")
    return key


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    message = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + b64encode(hmac.digest(key, message, sha256)).decode()
