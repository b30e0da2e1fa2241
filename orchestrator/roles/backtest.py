"""``journey backtest``: what a rulebook would have done with a log of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from orchestrator.adapters import sqlite_log
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_file import check_file
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.core.event import Event
from orchestrator.core.moment import format_moment, parse_moment
from orchestrator.core.rulebook import Rulebook
from orchestrator.errors import ConfigurationError
from orchestrator.roles.admission import intake_of
from orchestrator.roles.volume import VolumeKey, volume_of
from orchestrator.rulebook.load import Loaded
from orchestrator.rulebook.span import parsed_span_ms
from orchestrator.runtime.deliveries import receipts_in
from orchestrator.runtime.eventfile import RefusedLine, events_of, read_events
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.ports import EVENTS
from orchestrator.runtime.replay import Replayed, replay
from orchestrator.runtime.rulebooks import FolderRulebooks, RulebookInForce, compile_loaded
from orchestrator.settings import Settings


class Options(NamedTuple):
    """How a log is replayed: timers fire up to a moment, or for a span after the last event, whichever is later.

    ``cold``: counts begin with the log, as if the rules had been published then for customers who were known already.
    """

    until_ms: int | None = None
    after_ms: int = 0
    cold: bool = False


_AS_IT_WAS = Options()


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
    """A log that was replayed through a rulebook, its lines that were no events, and how the file is written."""

    rulebook: Rulebook
    replayed: Replayed
    refused: list[RefusedLine]
    notes: list[str] = field(default_factory=list)

    def armed(self) -> Armed:
        """Return the timers that are left: their replay ended before they were due."""
        left = [due_ms for state in self.replayed.states.values() for due_ms in state.timers.values()]
        return Armed(len(left), max(left, default=None))

    def as_json(self) -> dict[str, Any]:
        """Return everything for machines: actions in order, what became of them, counts of decisions, refused lines."""
        done, armed = self.replayed, self.armed()
        return {
            "events": done.events,
            "duplicates": done.duplicates,
            "customers": len(done.states),
            "actions": done.actions,
            "decisions": [
                {"rule": rule, "outcome": outcome, "reason": reason, "number": number}
                for (rule, outcome, reason), number in sorted(self.decisions_by().items())
            ],
            "deliveries": [{"id": one.action.id, "fate": one.fate.value} for one in done.deliveries],
            "volume": [
                {**key.source._asdict(), "hour": key.hour, "measure": key.measure, "number": number}
                for key, number in sorted(self.volume().items())
            ],
            "timers_armed": armed.number,
            "last_timer_due_at": None if armed.last_due_ms is None else format_moment(armed.last_due_ms),
            "failures": [failure.message for failure in done.failures],
            "notes": self.notes,
            "refused": [
                {"line": one.number, "code": one.refused.code, "message": str(one.refused)} for one in self.refused
            ],
        }

    def volume(self) -> Counter[VolumeKey]:
        """Return what became of the actions and what was held back, by rule, arm, connector and hour."""
        return volume_of(self.rulebook, self.replayed)

    def decisions_by(self) -> Counter[tuple[str, str, str]]:
        """Return how many decisions there were by rule, outcome and reason."""
        return Counter((one.rule, one.outcome.value, one.reason.value) for one in self.replayed.records)


class Armed(NamedTuple):
    """The timers that a replay left: how many, and when the last of them is due (None: there is none)."""

    number: int
    last_due_ms: int | None


async def run_backtest(settings: Settings, source: str, *, kafka: bool, options: Options) -> Backtest:
    """Replay a file, or the log of this deployment (``topic``), through the rules of the settings."""
    rulebooks = FolderRulebooks(settings.rules, settings.workspace)
    return await _backtest_of(settings, rulebooks, source, kafka=kafka, options=options)


async def run_comparison(
    settings: Settings, against: Path, source: str, *, kafka: bool, options: Options
) -> list[OutcomeChange]:
    """Replay the same events through the rules of ``against`` and through those of the settings; see the changes."""
    before = FolderRulebooks(against, settings.workspace).loaded
    after = FolderRulebooks(settings.rules, settings.workspace).loaded
    return await compare_backtests(settings, before, after, source, kafka=kafka, options=options)


def options_of(until: str | None, *, cold: bool) -> Options:
    """Return the options of a command; raise ``ConfigurationError`` for an ``until`` that is no moment and no span."""
    if until is None:
        return Options(cold=cold)
    if (after_ms := parsed_span_ms(until)) is not None:
        return Options(after_ms=after_ms, cold=cold)
    if (moment_ms := parse_moment(until)) is not None:
        return Options(moment_ms, cold=cold)
    raise ConfigurationError(
        f'--until "{until}" is no moment and no span. Write RFC 3339 with an offset, 2026-03-02T10:00:00Z, or how long '
        "after the last event timers still fire: 7d."
    )


async def _backtest_of(
    settings: Settings, rulebooks: RulebookInForce, source: str, *, kafka: bool, options: Options
) -> Backtest:
    intake = intake_of(settings, rulebooks)
    notes: list[str] = []
    number_of: Callable[[str], int] = _only_partition
    if kafka:
        from orchestrator.roles.kafka_past import events_of_kafka, numbering  # noqa: PLC0415 - a file needs no Kafka.

        number_of = numbering(settings, intake)
    if source != "topic":
        path, plan = Path(source), rulebooks.loaded.plan
        told = receipts_in(_only_events(read_events(path, intake, plan))) if _names_actions(path) else {}
        done = backtest(rulebooks, read_events(path, intake, plan, notes.append), told, options, number_of)
        return replace(done, notes=notes)
    if kafka:
        logged = await events_of_kafka(settings, intake)
    else:
        logged = await events_of_embedded(settings.data, intake)
    return backtest(rulebooks, logged, receipts_in(_only_events(logged)), options, number_of, emits=False)


def _names_actions(path: Path) -> bool:
    """Return whether a file can hold receipts. They are looked for before the replay, which reads the file again."""
    try:
        with path.open("rb") as file:
            return any(mark in piece for piece in _overlapping(file) for mark in _ACTION_ID)
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error}") from error


#: The property that names an action, in the encodings of event files.
_ACTION_ID = tuple("action_id".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def _overlapping(file: BinaryIO) -> Iterator[bytes]:
    """Yield the pieces of a file, each with the end of the one before."""
    tail = b""
    while piece := file.read(1 << 20):
        yield tail + piece
        tail = piece[-max(map(len, _ACTION_ID)) :]


def _only_events(found: Iterable[Event | RefusedLine]) -> Iterator[Event]:
    return (one for one in found if isinstance(one, Event))


def _only_partition(customer_id: str) -> int:
    return 0


async def compare_backtests(
    settings: Settings, before: Loaded, after: Loaded, source: str, *, kafka: bool, options: Options = _AS_IT_WAS
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
            options=options,
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
    for one in replayed.sent():
        sent = SentAction(one.decided_at, one.rule, one.connector, one.variant, one.params)
        found.setdefault(one.customer_id, []).append(sent)
    return {customer: tuple(sent) for customer, sent in found.items()}


def backtest(
    rulebooks: RulebookInForce,
    found: Iterable[Event | RefusedLine],
    told: Mapping[str, int],
    options: Options,
    partition_of: Callable[[str], int] = _only_partition,
    *,
    emits: bool = True,
) -> Backtest:
    """Replay events through the rulebook, and assume the delivery of what no receipt among them names (``told``).

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

    replayed = replay(
        rulebooks.current,
        events(),
        **options._asdict(),
        partition_of=partition_of,
        emits=emits,
        told=told,
    )
    return Backtest(rulebooks.current, replayed, refused)


async def events_of_embedded(data: Path, intake: Intake) -> list[Event | RefusedLine]:
    """Return what the embedded log holds now."""
    path = data / "journey.sqlite3"
    if not path.exists():
        raise ConfigurationError(f"There is no embedded log at {path}. Name its folder with --data, or an event file.")
    check_file(path)
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
