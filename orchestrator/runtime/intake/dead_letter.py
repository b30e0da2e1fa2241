"""The dead letter: what ``journey.dead-letters`` keeps of an event that was refused."""

from __future__ import annotations

import msgspec

from orchestrator.errors import EventRefused


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refused event with the reason, and all that is needed to send it again once the reason is gone.

    ``origin`` is "gateway" or "worker"; ``key`` and ``value`` are the record's bytes (Base64 in JSON); ``topic``,
    ``partition`` and ``offset`` say where a worker read it; ``refused_at_ms`` is epoch milliseconds. ``producer`` is
    whom it is from, as ``ports.Outgoing`` says it.
    """

    origin: str
    code: str
    field: str
    message: str
    remedy: str
    refused_at_ms: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    producer: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(DeadLetter)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Return the stored form of a dead letter."""
    return _encoder.encode(letter)


def decode_dead_letter(stored: bytes) -> DeadLetter:
    """Return the dead letter in ``stored``; raise ``msgspec.DecodeError`` when it is none."""
    return _decoder.decode(stored)


def gateway_letter(
    refused: EventRefused, key: bytes, value: bytes, refused_at_ms: int, producer: str = ""
) -> DeadLetter:
    """Return the dead letter of an event that the gateway refused within an accepted batch."""
    return DeadLetter(
        origin="gateway",
        code=refused.code,
        field=refused.field,
        message=str(refused),
        remedy=refused.remedy,
        refused_at_ms=refused_at_ms,
        key=key,
        value=value,
        producer=producer,
    )
