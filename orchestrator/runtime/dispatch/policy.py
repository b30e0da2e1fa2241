"""How actions are delivered over one connector: its limits, its patience, and the spacing of its retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.core.chance import lot


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """The delivery settings of one connector; limits hold per dispatcher process.

    At most ``rate_max`` sends begin in any ``rate_per_s`` seconds (no limit when ``rate_max`` is None) and at most
    ``concurrency`` are under way. A delivery is given up after ``attempts_max`` attempts, or when the next one would
    come later than ``budget_s`` after the first. ``on_unknown`` says what becomes of an attempt of which nobody
    knows whether it was taken: ``retry`` repeats it under the same id, ``drop`` gives it up. After ``breaker_after``
    failed attempts in a row nothing is sent for ``breaker_open_s``. ``lease_s`` bounds one attempt with its
    bookkeeping, and is how long the actions of a dead dispatcher wait for another.
    """

    concurrency: int = 8
    rate_max: int | None = None
    rate_per_s: float = 1.0
    attempts_max: int = 8
    budget_s: float = 3600.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 60.0
    on_unknown: Literal["retry", "drop"] = "retry"
    breaker_after: int = 10
    breaker_open_s: float = 15.0
    lease_s: float = 60.0


def backoff_ms(policy: DeliveryPolicy, action_id: str, attempts: int, retry_after_s: float | None = None) -> int:
    """Return how long to wait after attempt number ``attempts``: exponential with full jitter.

    The jitter is a hash of the action's id and the attempt, so every dispatcher computes the same moment. The
    other side's own wish is a floor: it is never asked again sooner than ``retry_after_s``.
    """
    doublings = min(attempts - 1, 30)  # 2**30 times any first step is beyond every ceiling.
    ceiling_s = min(policy.backoff_max_s, policy.backoff_first_s * 2.0**doublings)
    jittered_s = ceiling_s * lot("backoff", action_id, str(attempts))
    return round(1000 * max(jittered_s, retry_after_s or 0.0))
