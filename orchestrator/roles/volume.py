"""The volume of a backtest: what became of its actions, and what was held back, by rule, arm, connector and hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.core.decision import DecisionRecord
from orchestrator.core.definition import Rule, Send
from orchestrator.core.moment import format_moment
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.rulebook import Rulebook
from orchestrator.runtime.casebook import with_fallbacks
from orchestrator.runtime.deliveries import Fate
from orchestrator.runtime.replay import Replayed

#: A decision that sent nothing, counted beside the fates of actions.
HELD_BACK = "held_back"
#: The columns of a volume, in the order in which they are shown.
MEASURES = (*(fate.value for fate in Fate), HELD_BACK)

_HOUR_MS = 3_600_000


class Source(NamedTuple):
    """Where a count belongs. ``arm`` and ``connector`` are '' where a decision came before them."""

    rule: str
    arm: str
    connector: str


class VolumeKey(NamedTuple):
    """A cell of a volume: ``hour`` is when it was decided (RFC 3339, UTC), ``measure`` one of ``MEASURES``."""

    source: Source
    hour: str
    measure: str


def volume_of(rulebook: Rulebook, replayed: Replayed) -> Counter[VolumeKey]:
    """Return how many actions met which fate, and how many decisions held an action back.

    Held back is what a limit or a condition of the play blocked, what lost to another rule, and who was held out. An
    action that is deferred counts when it is settled.
    """
    connectors = {(rule.id, send.step): send.connector for rule in rulebook.rules.values() for send in _sends_of(rule)}
    counted: Counter[VolumeKey] = Counter()
    for one in replayed.deliveries:
        action = one.action
        source = Source(action.rule, action.variant, action.connector)
        counted[VolumeKey(source, _hour_of(action.decided_at), one.fate.value)] += 1
    for record in replayed.records:
        if record.rule and _is_held_back(record):
            source = Source(record.rule, record.variant, connectors.get((record.rule, record.step), ""))
            counted[VolumeKey(source, _hour_of(record.at), HELD_BACK)] += 1
    return counted


def by_source(volume: Counter[VolumeKey]) -> dict[Source, Counter[str]]:
    """Return the volume of all hours together, by rule, arm and connector, in this order."""
    found: dict[Source, Counter[str]] = {}
    for key in sorted(volume):
        found.setdefault(key.source, Counter())[key.measure] += volume[key]
    return found


def sent_by_hour(volume: Counter[VolumeKey]) -> Counter[tuple[str, str]]:
    """Return how many actions reached customers through each connector in each hour."""
    found: Counter[tuple[str, str]] = Counter()
    for key, number in volume.items():
        if key.measure == Fate.SENT.value:
            found[key.source.connector, key.hour] += number
    return found


def _sends_of(rule: Rule) -> Iterator[Send]:
    for step in rule.program:
        if isinstance(step, Send):
            yield from with_fallbacks(step)


def _is_held_back(record: DecisionRecord) -> bool:
    return record.outcome in {Outcome.BLOCKED, Outcome.LOST} or record.reason is Reason.HOLDOUT


def _hour_of(at_ms: int) -> str:
    return format_moment(at_ms - at_ms % _HOUR_MS)[:16] + "Z"
