"""How actions are delivered over one connector: its limits, its patience, and the spacing of its retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.core.chance import lot
from orchestrator.rulebook.capacity import Capacity
from orchestrator.runtime.ports import Quota


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """The delivery settings of one connector; its limits hold over all dispatcher processes together.

    At most ``rate_max`` sends begin in any ``rate_per_s`` seconds (no limit when ``rate_max`` is None) and at most
    ``concurrency`` are under way, or as many as the lines of its ``capacity`` when it has one. A delivery is given up
    after ``attempts_max`` attempts, or when the next one would come later than ``budget_s`` after the first.
    ``on_unknown`` says what becomes of an attempt of which nobody knows whether it was taken: ``retry`` repeats it
    under the same id, ``drop`` gives it up. After ``breaker_after`` failed attempts in a row nothing is sent for
    ``breaker_open_s``; the breaker is each process's own, since each learns of an outage within a few calls.
    ``lease_s`` bounds one attempt with its bookkeeping, and is how long the actions of a dead dispatcher wait for
    another.
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
    capacity: Capacity | None = None

    @property
    def quota(self) -> Quota:
        """What all dispatchers together may have under way, and how fast they may begin."""
        slots, groups = self.concurrency, {}
        if self.capacity is not None:
            slots = self.capacity.lines
            groups = {name: self.capacity.lines_of(name) for name in self.capacity.groups}
        return Quota(slots=slots, group_slots=groups, rate_max=self.rate_max, rate_per_s=self.rate_per_s)


def backoff_ms(policy: DeliveryPolicy, action_id: str, attempts: int, retry_after_s: float | None = None) -> int:
    """Return how long to wait after attempt number ``attempts``: exponential with full jitter.

    The jitter is a hash of the action's id and the attempt, so every dispatcher computes the same moment. The
    other side's own wish is a floor: it is never asked again sooner than ``retry_after_s``. A wish beyond the budget
    counts as just beyond it, whatever its size: the delivery is given up, and its fallback need not wait.
    """
    doublings = min(attempts - 1, 30)  # 2**30 times any first step is beyond every ceiling.
    ceiling_s = min(policy.backoff_max_s, policy.backoff_first_s * 2.0**doublings)
    jittered_s = ceiling_s * lot("backoff", action_id, str(attempts))
    return round(1000 * max(jittered_s, min(retry_after_s or 0.0, policy.budget_s + 1)))
