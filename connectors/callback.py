"""Callbacks: what the other side reports on its own, read and proved before anybody believes it.

A provider calls ``POST /v1/outcomes/{connector}`` (or wherever the caller of this library listens) with receipts, call
results, bounces and replies, each in its own form and with its own signature. A ``CallbackReader`` proves the
signature over the raw request and returns ``Outcome`` values in one vocabulary; it does no I/O and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol


class OutcomeType(Enum):
    """What became of a delivery after it was taken: the event types that rules can use."""

    MESSAGE_DELIVERED = "message_delivered"  # it reached the device or mailbox
    MESSAGE_READ = "message_read"  # it was read
    EMAIL_OPENED = "email_opened"  # its pictures were loaded, which mail programs also do unasked
    MESSAGE_BOUNCED = "message_bounced"  # the address does not take messages: consent for the channel ends
    MESSAGE_FAILED = "message_failed"  # it did not arrive, for a reason that may pass
    LINK_CLICKED = "link_clicked"  # a link of it was followed
    MESSAGE_RECEIVED = "message_received"  # the customer wrote back
    UNSUBSCRIBED = "unsubscribed"  # STOP, list-unsubscribe, complaint: consent for the channel, or ``purposes``, ends
    RESUBSCRIBED = "resubscribed"  # START: it stands again
    CALL_ANSWERED = "call_answered"  # somebody picked up
    CALL_MISSED = "call_missed"  # nobody did; ``reason`` is no_answer, busy, failed or canceled
    CALL_ENDED = "call_ended"  # the line is free; ``result`` may be qualified, booked, not_interested …


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One report. ``id`` is the same whenever the provider repeats it.

    ``action_id`` and ``customer_id`` are as the delivery had them, where the provider hands them back; otherwise
    ``address`` (a number, an e-mail address) says whom it concerns. ``at_ms`` is the provider's moment, epoch
    milliseconds, None when it names none. ``properties`` become those of the event.
    """

    id: str
    type: OutcomeType
    action_id: str = ""
    customer_id: str = ""
    address: str = ""
    at_ms: int | None = None
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A request as it came in: ``path`` without the query, ``query`` as written, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A callback that was proved and understood, and what its sender wants to hear (an empty 200 by default).

    A request that is valid and reports nothing that this vocabulary knows has no outcomes.
    """

    outcomes: tuple[Outcome, ...] = ()
    status: int = 200
    body: bytes = b""
    media_type: str = "text/plain"


class CallbackRefused(Exception):
    """The callback is not believed (``status`` 401 or 403) or not understood (400); the message says what to mend."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class CallbackReader(Protocol):
    """Understands the callbacks of one connector."""

    def read(self, callback: Callback) -> Reading:
        """Return what the callback reports, in its order. Raise ``CallbackRefused``; pure, and safe to repeat."""
        ...
