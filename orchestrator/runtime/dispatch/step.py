"""The next step of a queued action: send it, wait, or give it its last word. A pure function of recorded facts.

The same table is read before a send and after it, so a dispatcher that died between two durable steps is
succeeded by one that reads the same facts and goes on where it stopped.

fact (first that holds)                                   step
last attempt delivered                                    settle delivered
given up by one that died before it could settle it       settle as it was to be
withdrawn while it was claimed                            settle cancelled
known on arrival to miss its deadline                     settle expired, fallback
last attempt refused                                      settle failed, dead letter, fallback
outcome of the last attempt unknown, policy drop          settle dropped, fallback
deadline has come                                         settle expired, fallback
attempts used up                                          settle failed, dead letter, fallback
zone of the quiet hours unknown                           settle failed, dead letter, fallback
back-off ends beyond the budget                           settle failed, dead letter, fallback
back-off or quiet hours end at or beyond the deadline     settle expired, fallback: no reason to wait for it
nobody is there when back-off and quiet hours end         book a slot of the next opening
back-off or quiet hours still to end                      wait
otherwise                                                 send

Whatever the step, a fallback takes the place of an action only when none of its attempts may have arrived, or when its
author would rather have both than neither: see ``gives_way``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from connectors.protocol import Result
from orchestrator.core.action import Action
from orchestrator.core.localtime import quiet_until, zone_named
from orchestrator.runtime.dispatch.attempt import (
    Attempt,
    attempts_of,
    in_doubt,
    last_attempt,
    unreported,
    why_unkeepable,
)
from orchestrator.runtime.dispatch.policy import DeliveryPolicy, backoff_ms
from orchestrator.runtime.dispatch.queue import GIVEN_UP, WITHDRAWN
from orchestrator.runtime.ports import Queued


class Outcome(Enum):
    """The last word about an action, as the ledger keeps it."""

    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DROPPED = "dropped"


class Cause(Enum):
    """Why an action got its last word: a closed list, shared by receipts, ledger and dead letters."""

    TAKEN = "taken"
    REFUSED = "refused"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    BUDGET_EXHAUSTED = "budget_exhausted"
    DEADLINE_PASSED = "deadline_passed"
    DEADLINE_UNREACHABLE = "deadline_unreachable"
    PROMISE_UNKEEPABLE = "promise_unkeepable"
    ZONE_UNKNOWN = "zone_unknown"
    OUTCOME_UNKNOWN = "outcome_unknown"
    WITHDRAWN = "withdrawn"
    CONNECTOR_UNKNOWN = "connector_unknown"


@dataclass(frozen=True, slots=True)
class Send:
    """Make an attempt now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Give the action back, not before ``at_ms``. It does not count as an attempt."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Book:
    """Give the action a place in a slot, ``due_ms`` at the earliest: nobody is there to take it then."""

    due_ms: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Give the action its last word. ``detail`` is for people, ``reference`` the other side's name for it."""

    outcome: Outcome
    cause: Cause
    detail: str = ""
    reference: str = ""

    @property
    def gives_up(self) -> bool:
        """Whether the action was neither delivered nor withdrawn."""
        return self.outcome is not Outcome.DELIVERED and self.outcome is not Outcome.CANCELLED


Step = Send | Wait | Book | Settle


def gives_way(action: Action, history: Sequence[str], word: Settle) -> bool:
    """Return whether the action's fallback takes its place: it is given up, and is still wanted.

    One that may have arrived gives way only where its author says so (``fallback_on_unknown``).
    """
    return word.gives_up and bool(action.fallback) and (action.fallback_on_unknown or not in_doubt(history))


def given_up(queued: Queued, word: Settle) -> Queued:
    """Return the action with the word in its history, to which every dispatcher comes from then on."""
    line = f"{GIVEN_UP}{word.outcome.value} {word.cause.value} {word.detail}"
    return msgspec.structs.replace(queued, history=(*queued.history, line))


def word_given(history: Sequence[str]) -> Settle | None:
    """Return the word that an action was given up with, or None."""
    line = next((line for line in history if line.startswith(GIVEN_UP)), None)
    if line is None:
        return None
    outcome, cause, detail = line.removeprefix(GIVEN_UP).split(" ", 2)
    return Settle(Outcome(outcome), Cause(cause), detail)


def word_of_withdrawal(history: tuple[str, ...]) -> Settle:
    """Return the last word of an action that was withdrawn while it was claimed, and not taken."""
    detail = "An attempt whose result nobody knows came first." if in_doubt(history) else ""
    return Settle(Outcome.CANCELLED, Cause.WITHDRAWN, detail)


_SEND = Send()


def next_step(queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
    """Return what to do with a claimed action at the real moment ``now_ms``."""
    last = None
    if queued.history:
        last = last_attempt(queued.history)
        settled = _word_of_the_past(queued, last, policy)
        if settled is not None:
            return settled
    said = f"{last.result.value}: {last.detail}" if last else ""
    if queued.deadline_at is not None and now_ms >= queued.deadline_at:
        return Settle(Outcome.EXPIRED, Cause.DEADLINE_PASSED, said)
    if queued.attempts >= policy.attempts_max:
        return Settle(Outcome.FAILED, Cause.ATTEMPTS_EXHAUSTED, said)
    due_ms = now_ms
    if last is not None:
        due_ms = max(now_ms, last.at_ms + backoff_ms(policy, queued.id, queued.attempts, last.retry_after_s))
        if due_ms > attempts_of(queued.history)[0].at_ms + policy.budget_s * 1000:
            return Settle(Outcome.FAILED, Cause.BUDGET_EXHAUSTED, said)
    return _when_allowed(queued, action, policy, due_ms, now_ms, said)


def _word_of_the_past(queued: Queued, last: Attempt | None, policy: DeliveryPolicy) -> Settle | None:
    """Return the settlement that no passing of time can change, or None."""
    if last is not None and last.result is Result.DELIVERED:
        return Settle(Outcome.DELIVERED, Cause.TAKEN, last.detail, last.reference)
    given = word_given(queued.history)
    if given is not None:
        return given
    if WITHDRAWN in queued.history:
        return word_of_withdrawal(queued.history)
    why = why_unkeepable(queued.history)
    if why is not None:
        return Settle(Outcome.EXPIRED, Cause.PROMISE_UNKEEPABLE, why)
    if last is not None and last.result is Result.REFUSED:
        return Settle(Outcome.FAILED, Cause.REFUSED, last.detail)
    if policy.on_unknown == "drop" and _unknown(queued.history, last):
        detail = last.detail if last else "The dispatcher stopped while the attempt was under way."
        return Settle(Outcome.DROPPED, Cause.OUTCOME_UNKNOWN, detail)
    return None


def _unknown(history: tuple[str, ...], last: Attempt | None) -> bool:
    """Return whether nobody knows what the latest attempt came to."""
    return unreported(history) or (last is not None and last.result is Result.UNKNOWN)


def _when_allowed(queued: Queued, action: Action, policy: DeliveryPolicy, due_ms: int, now_ms: int, said: str) -> Step:
    """Move ``due_ms`` out of the quiet hours, and see whether the deadline can still be met."""
    window = action.quiet_hours
    if window is not None:
        zone = zone_named(window.zone)
        if zone is None:
            detail = f"The quiet hours name the zone {window.zone!r}, which is not an IANA zone."
            return Settle(Outcome.FAILED, Cause.ZONE_UNKNOWN, detail)
        due_ms = quiet_until(due_ms, window.start_min, window.end_min, [zone]) or due_ms
    if due_ms > now_ms and queued.deadline_at is not None and due_ms >= queued.deadline_at:
        return Settle(Outcome.EXPIRED, Cause.DEADLINE_UNREACHABLE, said)
    if policy.capacity is not None and policy.capacity.closed_at(queued.group, due_ms):
        return Book(due_ms)
    return _SEND if due_ms <= now_ms else Wait(due_ms)
