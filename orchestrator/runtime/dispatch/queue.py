"""What the dispatcher asks of its queue beyond the port, and the marks that the queue leaves in a history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from orchestrator.runtime.ports import DispatchQueue, Queued

#: The action was withdrawn while it was claimed: whoever claims it next must settle it, not send it.
WITHDRAWN = "withdrawn"

#: The other side has taken the action and only its receipt is still to be written: a withdrawal comes too late.
TAKEN = "taken"

#: A dispatcher gives the action up; the word that it has come to follows.
GIVEN_UP = "given_up: "

#: A lease ran out without a word: an attempt may have been made that nobody reported.
LEASE_ENDED = "lease_ended"

#: An operator sends the action again, and one of the attempts before may have arrived.
TRIED_BEFORE = "tried_before"

#: Outcomes after which an action may be sent again.
REDRIVABLE = frozenset({"failed", "dropped"})

#: How long a booking is remembered after its start, so that a repeated one gets the same answer.
BOOKING_KEPT_MS = 86_400_000


def concluded(history: Iterable[str]) -> bool:
    """Return whether only the receipt of an action is still to be written: a withdrawal marks it and leaves it."""
    return any(line == TAKEN or line.startswith(GIVEN_UP) for line in history)


class DeliveryQueue(DispatchQueue, Protocol):
    """A dispatch queue that tells of missed deadlines and of leases that ran out.

    ``claim`` and ``overdue`` give an action whose lease ran out with ``attempts`` one higher and ``LEASE_ENDED``
    appended to its history, once for each lease under which it may have been sent: an action whose deadline had come
    when it was leased is leased to be settled, takes neither slot nor token, and nothing is said of such a lease. One
    that was withdrawn while it was claimed comes with ``WITHDRAWN`` appended. Settling twice keeps the later word,
    except that ``delivered`` is never replaced.
    """

    async def overdue(self, connector: str, limit: int, now_ms: int, lease_ms: int) -> list[Queued]:
        """Lease up to ``limit`` unclaimed actions whose deadline has come, earliest first, ready or not.

        They are leased to be settled, not to be sent: they take no slot and no token of the rate.
        An action far down a queue whose connector is slow, limited or broken learns here that it is too late,
        while its fallback can still be of use.
        """
        ...
