"""The verdict after a fault: what arrived against what had to, and what is stored against what had to be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load_tests.faults.expectation import CONNECTORS, Expectation, Standing
from orchestrator.core.state import CustomerState

#: Examples of a difference that are kept.
_SHOWN = 5
#: What an event in the log must have in common with the one that was sent.
_KEPT = ("customer_id", "type", "occurred_at")
_DELIVERED, _FAILED, _CANCELLED = "action_delivered", "action_failed", "action_cancelled"
#: The rule whose connector drops what may have been sent.
_DROPPING = "letter"
#: The rule whose receiver is made to say that it has not taken what it has: nobody can tell that from the truth.
_DECEIVED = "callback"


#: A bound where nobody can tell.
ANY_NUMBER = 1_000_000_000


@dataclass(slots=True)
class Bounds:
    """What a fault may cost; it may cost nothing of what is not raised here while it strikes.

    ``repeats`` are deliveries under an id that had arrived, ``failed`` actions that are given up, both by connector;
    ``dropped`` are letters that may have been sent and are not sent again; ``republished`` actions that come to the
    topic again. Each is raised by what was under way when the fault struck: a fault that strikes nothing costs nothing.
    """

    repeats: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    republished: int = 0


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was compared and what differed. All lists are empty when the invariant held.

    ``retracted`` are actions said to be delivered and then, since their dispatcher had died, dropped or cancelled.

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
    retracted: int = 0
    unlogged: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
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
            "logged events that nobody sent so": self.altered,
            "effects lost": self.lost,
            "effects that nobody decided": self.extra,
            "effects twice": self.twice,
            "actions without a last word": self.silent,
            "last words that contradict each other or what arrived": self.untrue,
            "more than the fault may cost": self.beyond,
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


def compare(  # noqa: PLR0913 - what had to be, and each thing that was found.
    expected: Expectation,
    *,
    sent: Mapping[str, Mapping[str, Any]],
    acknowledged: Iterable[str],
    arrivals: Iterable[Mapping[str, Any]],
    states: Mapping[str, CustomerState],
    repeats: Mapping[str, int],
    published: Iterable[str],
    bounds: Bounds,
) -> Verdict:
    """Return the verdict. What was given up or dropped was told of and so is not lost, but counts against ``bounds``.

    ``sent`` are the events by id, ``repeats`` how often an action's id came again, ``published`` ids of the topic.
    """
    numbers, copies = Counter(one["id"] for one in arrivals), Counter(published)
    again = {one: number for one, number in repeats.items() if one in expected.due}
    repeated: Counter[str] = Counter()
    for one, number in again.items():
        repeated[CONNECTORS[expected.due[one]]] += number
    failed, dropped = _given_up(expected)
    recalled = {one for one in expected.withdrawn & expected.doubtful if _CANCELLED in expected.receipts.get(one, {})}
    doubtful = dropped | recalled
    missing = expected.due.keys() - expected.withdrawn - numbers.keys()
    verdict = Verdict(
        events=len(expected.event_ids),
        duplicates=expected.duplicates,
        customers=len(expected.standings),
        due=len(expected.due),
        arrived=len(numbers),
        repeats=repeated.total(),
        republished=copies.total() - len(copies),
        dropped=len(dropped),
        failed=len(failed),
        retracted=sum(_DELIVERED in expected.receipts[one] for one in doubtful),
        unlogged=sorted(set(acknowledged) - expected.event_ids),
        altered=sorted({one["id"] for one in expected.logged if not _same(one, sent.get(one["id"]))}),
        lost=_named(expected, missing - failed - dropped),
        extra=sorted(numbers.keys() - expected.due.keys()),
        twice=sorted(one for one, number in numbers.items() if number > 1),
        silent=_named(expected, (one for one in expected.due if not expected.receipts.get(one))),
        untrue=_untrue(expected, numbers.keys(), doubtful),
        wrong_states=_wrong(expected.standings, states),
    )
    failures = Counter(CONNECTORS.get(expected.due.get(one, ""), "unknown") for one in failed)
    verdict.beyond = [
        f"{number} {what} where at most {most} may be"
        for what, number, most in (
            *((f"repeats by {one}", number, bounds.repeats[one]) for one, number in sorted(repeated.items())),
            *((f"actions of {one} given up", number, bounds.failed[one]) for one, number in sorted(failures.items())),
            ("letters dropped", len(dropped), bounds.dropped),
            ("cancelled that may have been sent", len(recalled), bounds.repeats["sms"]),
            ("actions published again", verdict.republished, bounds.republished),
        )
        if number > most
    ]
    return verdict


def _given_up(expected: Expectation) -> tuple[set[str], set[str]]:
    """Return the ids of actions that are said to have failed, and of letters that are said to be dropped."""
    told = {one: words[_FAILED] for one, words in expected.receipts.items() if _FAILED in words}
    dropped = {one for one, why in told.items() if "outcome_unknown" in why and expected.due.get(one) == _DROPPING}
    return set(told) - dropped, dropped


def _same(logged: Mapping[str, Any], sent: Mapping[str, Any] | None) -> bool:
    """Return whether the log holds an event as it was sent; the gateway leaves out properties that are empty."""
    if sent is None or any(logged.get(one) != sent[one] for one in _KEPT):
        return False
    return bool(logged.get("properties", {}) == sent["properties"])


def _untrue(expected: Expectation, arrived: Collection[str], doubtful: Collection[str]) -> list[str]:
    """Return the actions of which not exactly one last word came, or one that what arrived does not bear out.

    Of an action that was given up, or taken back while its sender is dead, nobody may know whether it arrived; then its
    word says so. What is ``doubtful`` in this way may have been said to be delivered before: its sender died between
    the log and the ledger.
    """
    found = []
    for one, words in expected.receipts.items():
        unsure = one in expected.doubtful or expected.due.get(one) == _DECEIVED
        fitting = ({_DELIVERED, _FAILED} if unsure else {_DELIVERED}) if one in arrived else {_FAILED}
        if one in expected.withdrawn and (one not in arrived or one in doubtful):
            fitting.add(_CANCELLED)
        most = 2 if one in doubtful else 1
        if len(words) > most or not words.keys() <= fitting:
            came = "arrived" if one in arrived else "did not arrive"
            found.append(f"{expected.due.get(one, 'nobody')} {one} {came}: {', '.join(sorted(words))}")
    return sorted(found)


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
