"""The verdict after a fault: what arrived against what had to, and what is stored against what had to be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load_tests.faults.expectation import Expectation, Standing
from orchestrator.core.state import CustomerState

#: Examples of a difference that are kept.
_SHOWN = 5


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was compared and what differed. All lists are empty when the invariant held.

    ``repeats`` are deliveries under an id that the receiver had seen, ``republished`` actions that were on the topic.
    """

    events: int = 0
    duplicates: int = 0
    customers: int = 0
    due: int = 0
    arrived: int = 0
    repeats: int = 0
    republished: int = 0
    dropped: int = 0
    failed: int = 0
    unlogged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    wrong_states: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing was extra, and every state is the oracle's."""
        return not any(self.differences().values())

    def differences(self) -> dict[str, list[str]]:
        """Return what differed, by kind: events, effects, words, states, and what a fault's own row promises."""
        return {
            "acknowledged events that the log does not hold": self.unlogged,
            "effects lost": self.lost,
            "effects that nobody decided": self.extra,
            "effects twice": self.twice,
            "actions without a last word": self.silent,
            "states that are not the oracle's": self.wrong_states,
            "promises of the row": self.broken,
        }

    def text(self) -> str:
        """Return the differences for people, with examples."""
        return "; ".join(
            f"{len(found)} {kind} ({', '.join(found[:_SHOWN])})" for kind, found in self.differences().items() if found
        )


class Record:
    """The receiver's file of first arrivals, read on from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def fresh(self) -> list[dict[str, Any]]:
        """Return the arrivals since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def compare(
    expected: Expectation,
    *,
    acknowledged: Iterable[str],
    arrivals: Iterable[Mapping[str, Any]],
    states: Mapping[str, CustomerState],
    repeats: int,
    published: Iterable[str] = (),
) -> Verdict:
    """Return the verdict. An action whose receipt says that it failed or was dropped is not lost: it was told."""
    numbers, copies = Counter(one["id"] for one in arrivals), Counter(published)
    told_failed = {one for one, (word, _) in expected.receipts.items() if word == "action_failed"}
    dropped = {one for one in told_failed if "outcome_unknown" in expected.receipts[one][1]}
    missing = expected.due.keys() - expected.withdrawn - numbers.keys()
    return Verdict(
        events=len(expected.event_ids),
        duplicates=expected.duplicates,
        customers=len(expected.standings),
        due=len(expected.due),
        arrived=len(numbers),
        repeats=repeats,
        republished=copies.total() - len(copies),
        dropped=len(dropped),
        failed=len(told_failed - dropped),
        unlogged=sorted(set(acknowledged) - expected.event_ids),
        lost=_named(expected, missing - told_failed),
        extra=sorted(numbers.keys() - expected.due.keys()),
        twice=sorted(one for one, number in numbers.items() if number > 1),
        silent=_named(expected, expected.due.keys() - expected.receipts.keys()),
        wrong_states=_wrong(expected.standings, states),
    )


def _named(expected: Expectation, ids: Iterable[str]) -> list[str]:
    return sorted(f"{expected.due[one]} {one}" for one in ids)


def _wrong(standings: Mapping[str, Standing], states: Mapping[str, CustomerState]) -> list[str]:
    found = []
    for customer, wanted in standings.items():
        have = standing_of(states[customer]) if customer in states else None
        if have != wanted:
            found.append(f"{customer}: {have} instead of {wanted}")
    return found


def standing_of(state: CustomerState) -> Standing:
    """Return what the engine stored of a customer, in the oracle's words."""
    run = state.runs.get("purchase/")
    stood = None if run is None else (run.stage, run.started_at, run.entered_at, bool(run.ended_at))
    number = state.traits.get("number", (None, 0))[0]
    pages = next((kept[2] for kept in state.aggregates.values() if len(kept) == 3), 0)
    return Standing(stood, number, pages)
