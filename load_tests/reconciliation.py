"""Reconciling what a receiver got with what the log says should have been sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Ids of actions decided up to a moment, by what became of them.

    ``due`` must have arrived. ``withdrawn`` may have, when the withdrawal came too late. ``missing`` are due and
    did not arrive, ``unknown`` arrived though nobody decided them, ``twice`` arrived more than once.
    """

    due: frozenset[str]
    withdrawn: frozenset[str]
    arrived: frozenset[str]
    twice: frozenset[str]

    @property
    def missing(self) -> frozenset[str]:
        """The due actions that did not arrive."""
        return self.due - self.arrived

    @property
    def unknown(self) -> frozenset[str]:
        """The arrivals that nobody decided."""
        return self.arrived - self.due - self.withdrawn

    @property
    def agrees(self) -> bool:
        """Whether everything due arrived once and nothing else did."""
        return not (self.missing or self.unknown or self.twice)


def reconciled(
    backtest: Mapping[str, Any], arrivals: Iterable[Mapping[str, Any]], until_ms: int | None = None
) -> Reconciliation:
    """Compare ``journey backtest --json`` with a receiver's record, for decisions up to ``until_ms`` (None: all)."""

    def counts(decided_at_ms: int) -> bool:
        return until_ms is None or decided_at_ms <= until_ms

    decided = {one["id"] for one in backtest["actions"] if not one.get("cancel") and counts(one["decided_at"])}
    withdrawn = {one["id"] for one in backtest["actions"] if one.get("cancel")}
    numbers = Counter(one["id"] for one in arrivals if counts(one["decided_at"]))
    return Reconciliation(
        due=frozenset(decided - withdrawn),
        withdrawn=frozenset(withdrawn & decided),
        arrived=frozenset(numbers),
        twice=frozenset(one for one, number in numbers.items() if number > 1),
    )
