"""Attempts: what each send came to, as the history that travels with a queued action."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from connectors.protocol import Finding, Receipt, Result
from orchestrator.runtime.dispatch.queue import GIVEN_UP, LEASE_ENDED, TRIED_BEFORE, WITHDRAWN, concluded
from orchestrator.runtime.ports import Queued

#: Longest detail of an attempt that is kept; the rest of what the other side said is cut off.
DETAIL_CHARS_MAX = 500

#: The dispatcher knew when the action arrived that its deadline cannot be met; why follows after a colon.
UNKEEPABLE = "promise_unkeepable"


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call to a connector and the receipt it returned at ``at_ms``."""

    at_ms: int
    result: Result
    detail: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    reference: str = ""
    finding: Finding | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Attempt)


def with_attempt(queued: Queued, receipt: Receipt, at_ms: int) -> Queued:
    """Return the action with one more attempt in its count and its history."""
    attempt = Attempt(
        at_ms=at_ms,
        result=receipt.result,
        detail=receipt.detail[:DETAIL_CHARS_MAX],
        status=receipt.status,
        retry_after_s=receipt.retry_after_s,
        reference=receipt.reference,
        finding=receipt.finding,
    )
    line = _encoder.encode(attempt).decode()
    return msgspec.structs.replace(queued, attempts=queued.attempts + 1, history=(*queued.history, line))


def attempts_of(history: Iterable[str]) -> list[Attempt]:
    """Return the reported attempts of a history, oldest first; marks are left out."""
    return [_decoder.decode(line) for line in history if not is_mark(line)]


def is_mark(line: str) -> bool:
    """Return whether a line of a history is a mark of the queue or the dispatcher, and not an attempt."""
    return not line.startswith("{")


def why_unkeepable(history: Iterable[str]) -> str | None:
    """Return why the deadline cannot be met, when the dispatcher noted that it cannot."""
    return next((line.partition(": ")[2] for line in history if line.startswith(UNKEEPABLE)), None)


#: After one of these an action is never sent again, so a lease that ends afterwards hides no attempt.
_CONCLUSIVE = frozenset({Result.DELIVERED, Result.REFUSED})


def last_attempt(history: tuple[str, ...]) -> Attempt | None:
    """Return the latest attempt, or None when there is none or when a later one may never have been reported.

    An attempt that was taken or refused is always the latest: its receipt may have had to wait for the log, in the
    hands of dispatchers that died.
    """
    silent = False
    for line in reversed(history):
        if not is_mark(line):
            attempt = _decoder.decode(line)
            return None if silent and attempt.result not in _CONCLUSIVE else attempt
        silent = silent or line == LEASE_ENDED
    return None


def unreported(history: tuple[str, ...]) -> bool:
    """Return whether the latest attempt may have been made without anybody knowing its result."""
    ended = next((line for line in reversed(history) if line != WITHDRAWN), "") == LEASE_ENDED
    return ended and last_attempt(history) is None


#: Marks that may hide an attempt.
_SILENT = frozenset({LEASE_ENDED, TRIED_BEFORE})
#: Marks after which an action is never sent again.
_FINAL = (GIVEN_UP, UNKEEPABLE, WITHDRAWN)


def in_doubt(history: Iterable[str]) -> bool:
    """Return whether any attempt may have arrived without anybody knowing it.

    The whole history decides: what was said of a later attempt says nothing of the one before, and a lease that ended
    in silence may hide an attempt unless nothing was to be sent any more.
    """
    for line in history:
        if line in _SILENT:
            return True
        if line.startswith(_FINAL):
            return False
        if not is_mark(line):
            result = _decoder.decode(line).result
            if result is Result.UNKNOWN or result in _CONCLUSIVE:
                return result is Result.UNKNOWN
    return False


def is_kept(history: Iterable[str]) -> bool:
    """Return whether a withdrawal marks an unclaimed action and leaves it, to be settled by what its history says."""
    lines = tuple(history)
    return concluded(lines) or in_doubt(lines)
