"""The contract of every connector: one delivery in, one receipt out.

A connector is built from typed parameters, holds no state that matters, and never raises for what the other
side did: that is what a ``Receipt`` says. The caller owns retries, rate limits, queues and the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from connectors.callback import OutcomeType


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One action to carry out.

    ``id`` never changes between attempts and is the idempotency key that the other side sees. ``deadline_at_ms``
    and ``decided_at_ms`` are epoch milliseconds, UTC. ``params`` are rendered; ``attempt`` counts from 1.
    """

    id: str
    customer_id: str
    kind: str
    params: dict[str, Any]
    decided_at_ms: int
    deadline_at_ms: int | None = None
    attempt: int = 1
    facts: dict[str, Any] = field(default_factory=dict)  # rule, version, journey, stage, variant, reason


class Result(Enum):
    """What one attempt came to."""

    DELIVERED = "delivered"  # the other side took it: do not send again
    RETRY = "retry"  # it was not taken, and trying again may succeed
    REFUSED = "refused"  # it was not taken and never will be
    UNKNOWN = "unknown"  # it may or may not have been taken (no answer after the request was written)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a refusal says of the recipient for good, in the words in which it would be reported later.

    ``type`` is ``UNSUBSCRIBED`` or ``MESSAGE_BOUNCED``; ``reason`` a word for rules, ``error_code`` the other side's.
    ``purposes`` are what unsubscribing closes; without any it closes the channel.
    """

    type: OutcomeType
    reason: str = ""
    error_code: int | None = None
    purposes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the other side said. ``retry_after_s`` is its own wish; ``reference`` its name for what it took.

    ``recipient`` is the address that was written to (a number, an e-mail address), where an answer from there may
    come back without our id: it lets an inbound "STOP" be told apart by its sender. ``finding`` goes with REFUSED:
    nothing may be sent there any more.
    """

    result: Result
    detail: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    reference: str = ""
    recipient: str = ""
    finding: Finding | None = None


class Connector(Protocol):
    """Carries deliveries to one system."""

    name: str

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt. Bounded in time by the connector's own timeout; safe to call concurrently."""
        ...

    async def check(self) -> str | None:
        """Return None when the system behind can be reached with these settings, else what to mend."""
        ...

    async def close(self) -> None:
        """Release sockets. No call may follow."""
        ...
