"""``journey backtest``: what a rulebook would have done with a log of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.adapters import sqlite_log
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.core.event import Event
from orchestrator.core.moment import format_moment, parse_moment
from orchestrator.errors import ConfigurationError
from orchestrator.roles.admission import intake_of
from orchestrator.rulebook.load import Loaded
from orchestrator.runtime.eventfile import RefusedLine, events_of, read_events
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import EVENTS
from orchestrator.runtime.replay import Replayed, replay
from orchestrator.runtime.rulebooks import FolderRulebooks, RulebookInForce, compile_loaded
from orchestrator.settings import Settings


@dataclass(frozen=True, slots=True)
class SentAction:
    """What of an action a customer notices; the version that decided it is not."""

    decided_at: int
    rule: str
    connector: str
    variant: str
    params: dict[str, Any]


# Without a repr: asyncio.run writes one of what it returns into an error that nobody sees, four times, and this one
# would hold every action.
@dataclass(frozen=True, slots=True, repr=False)
class Backtest:
    """A replayed log, the lines of it that were no events, and what was found out of how it is written."""

    replayed: Replayed
    refused: list[RefusedLine]
    notes: list[str] = field(default_factory=list)

    def actions_by(self) -> Counter[tuple[str, str]]:
        """Return how many actions each (rule, connector) sent; withdrawn ones do not count."""
        return Counter((one.rule, one.connector) for one in self.replayed.in_force())

    def as_json(self) -> dict[str, Any]:
        """Return everything for machines: actions in order, counts of decisions, refused lines."""
        done = self.replayed
        return {
            "events": done.events,
            "duplicates": done.duplicates,
            "customers": len(done.states),
            "actions": done.actions,
            "decisions": [
                {"rule": rule, "outcome": outcome, "reason": reason, "number": number}
                for (rule, outcome, reason), number in sorted(self.decisions_by().items())
            ],
            "volume": [
                {"connector": connector, "hour": hour, "number": number}
                for (connector, hour), number in sorted(self.volume().items())
            ],
            "failures": [failure.message for failure in done.failures],
            "notes": self.notes,
            "refused": [
                {"line": one.number, "code": one.refused.code, "message": str(one.refused)} for one in self.refused
            ],
        }

    def volume(self) -> Counter[tuple[str, str]]:
        """Return how many actions each connector would have got in each hour; hours are RFC 3339, UTC."""
        return Counter((one.connector, _hour_of(one.decided_at)) for one in self.replayed.in_force())

    def decisions_by(self) -> Counter[tuple[str, str, str]]:
        """Return how many decisions there were by rule, outcome and reason."""
        return Counter((one.rule, one.outcome.value, one.reason.value) for one in self.replayed.records)


def _hour_of(at_ms: int) -> str:
    return format_moment(at_ms - at_ms % 3_600_000)[:16] + "Z"


async def run_backtest(settings: Settings, source: str, *, kafka: bool, until: str | None) -> Backtest:
    """Replay a file, or the log of this deployment (``topic``), through the rules of the settings."""
    rulebooks = FolderRulebooks(settings.rules, settings.workspace)
    return await _backtest_of(settings, rulebooks, source, kafka=kafka, until_ms=_moment_of(until))


async def run_comparison(
    settings: Settings, against: Path, source: str, *, kafka: bool, until: str | None
) -> list[OutcomeChange]:
    """Replay the same events through the rules of ``against`` and through those of the settings; see the changes."""
    before = FolderRulebooks(against, settings.workspace).loaded
    after = FolderRulebooks(settings.rules, settings.workspace).loaded
    return await compare_backtests(settings, before, after, source, kafka=kafka, until_ms=_moment_of(until))


def _moment_of(until: str | None) -> int | None:
    moment_ms = None if until is None else parse_moment(until)
    if until is not None and moment_ms is None:
        raise ConfigurationError(
            f'--until "{until}" is no moment. Write RFC 3339 with an offset: 2026-03-02T10:00:00Z.'
        )
    return moment_ms


async def _backtest_of(
    settings: Settings, rulebooks: RulebookInForce, source: str, *, kafka: bool, until_ms: int | None
) -> Backtest:
    intake = intake_of(settings, rulebooks)
    notes: list[str] = []
    found: Iterable[Event | RefusedLine]
    number_of: Callable[[str], int] = _only_partition
    if kafka:
        from orchestrator.roles.kafka_past import events_of_kafka, numbering  # noqa: PLC0415 - a file needs no Kafka.

        number_of = numbering(settings, intake)
    if source != "topic":
        found = read_events(Path(source), intake, rulebooks.loaded.plan, notes.append)
    elif kafka:
        found = await events_of_kafka(settings, intake)
    else:
        found = await events_of_embedded(settings.data, intake)
    done = backtest(rulebooks, found, until_ms, number_of, emits=source != "topic")
    return replace(done, notes=notes)


def _only_partition(customer_id: str) -> int:
    return 0


async def compare_backtests(
    settings: Settings, before: Loaded, after: Loaded, source: str, *, kafka: bool, until_ms: int | None = None
) -> list[OutcomeChange]:
    """Replay the same events through two checked rulebooks; return the customers whose outcome differs, by id.

    Each version refuses what its own tracking plan refuses, as it would have when the events came.
    """
    done = [
        await _backtest_of(
            settings,
            RulebookInForce(loaded, compile_loaded(loaded, settings.workspace)),
            source,
            kafka=kafka,
            until_ms=until_ms,
        )
        for loaded in (before, after)
    ]
    old, new = (_outcomes(one.replayed) for one in done)
    return [
        OutcomeChange(customer, old.get(customer, ()), new.get(customer, ()))
        for customer in sorted(old.keys() | new.keys())
        if old.get(customer) != new.get(customer)
    ]


@dataclass(frozen=True, slots=True)
class OutcomeChange:
    """A customer who would have received something else: ``before`` and ``after`` are their actions in order."""

    customer_id: str
    before: tuple[SentAction, ...]
    after: tuple[SentAction, ...]


def _outcomes(replayed: Replayed) -> dict[str, tuple[SentAction, ...]]:
    found: dict[str, list[SentAction]] = {}
    for one in replayed.in_force():
        sent = SentAction(one.decided_at, one.rule, one.connector, one.variant, one.params)
        found.setdefault(one.customer_id, []).append(sent)
    return {customer: tuple(sent) for customer, sent in found.items()}


def backtest(
    rulebooks: RulebookInForce,
    found: Iterable[Event | RefusedLine],
    until_ms: int | None,
    partition_of: Callable[[str], int] = _only_partition,
    *,
    emits: bool = True,
) -> Backtest:
    """Replay events through the rulebook, timers up to ``until_ms`` or the last event.

    ``partition_of`` tells each customer's partition in the log that is replayed, ``emits`` whether events that
    decisions emit are still to be added to it.
    """
    refused: list[RefusedLine] = []

    def events() -> Iterator[Event]:
        for one in found:
            if isinstance(one, RefusedLine):
                refused.append(one)
            else:
                yield one

    return Backtest(
        replay(rulebooks.current, events(), until_ms=until_ms, partition_of=partition_of, emits=emits), refused
    )


async def events_of_embedded(data: Path, intake: Intake) -> list[Event | RefusedLine]:
    """Return what the embedded log holds now."""
    path = data / "journey.sqlite3"
    if not path.exists():
        raise ConfigurationError(f"There is no embedded log at {path}. Name its folder with --data, or an event file.")
    database = SqliteDatabase(path, sqlite_log.SCHEMA)
    await database.open()
    try:
        log = SqliteEventLog(database, SystemClock())
        offset, found = await log.start_offset(EVENTS, 0), []
        while records := await log.read_range(EVENTS, 0, offset, 5_000):
            found += [one for record in records for one in events_of(record, intake)]
            offset = records[-1].offset + 1
        return found
    finally:
        await database.close()
