"""The backend: what the gateway needs from the rest of the system. Composition roots supply it.

All methods may raise ``Unavailable``, which the gateway answers with 503.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.definition import Journey
from orchestrator.core.state import CustomerState
from orchestrator.gateway.page import Page
from orchestrator.gateway.views import ActionView, DeadLetterView, RulebookVersion
from orchestrator.runtime.ports import EventLog


class Customers(Protocol):
    """Looks customers up."""

    async def state(self, customer_id: str) -> CustomerState | None:
        """Return the state of a customer, None when nothing is known."""
        ...


class Journeys(Protocol):
    """Looks journeys up."""

    async def active(self) -> Sequence[Journey]:
        """Return the journeys of the rulebook in force."""
        ...


class Actions(Protocol):
    """Looks actions up."""

    async def recent(self, limit: int, customer_id: str | None, before: str | None = None) -> Page[ActionView]:
        """Return a page of the latest actions, newest first; of one customer when given."""
        ...


class DeadLetters(Protocol):
    """Keeps what was refused."""

    async def recent(self, limit: int, before: str | None = None) -> Page[DeadLetterView]:
        """Return a page of the latest dead letters, newest first."""
        ...

    async def redrive(self, ids: Sequence[str] | None) -> int:
        """Send dead letters again (None: all) and return how many; ids that are not known are left out."""
        ...


class Rulebooks(Protocol):
    """Looks versions of the rulebook up."""

    async def versions(self) -> Sequence[RulebookVersion]:
        """Return the published versions, newest first."""
        ...


class Readiness(Protocol):
    """Says whether this process can take events."""

    async def obstacle(self) -> str | None:
        """Return what stands in the way, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Everything behind the gateway."""

    log: EventLog
    customers: Customers
    journeys: Journeys
    actions: Actions
    dead_letters: DeadLetters
    rulebooks: Rulebooks
    readiness: Readiness
