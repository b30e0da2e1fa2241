"""The oracle: what the language promises, worked out slowly from a customer's whole history.

It keeps every arrival and nothing else, and answers each question by going through all of them again. It shares no
code with the engine but the names of things and the hash behind an action's id.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
#: A sum's window is this many buckets, the newest of them begun.
BUCKETS = 60


@dataclass(frozen=True)
class Arrival:
    """An event as the log took it."""

    id: str
    type: str
    stamp_ms: int
    occurred_at_ms: int
    amount: float = 0

    @property
    def at_ms(self) -> int:
        """Event time; it never exceeds log time."""
        return min(self.occurred_at_ms, self.stamp_ms)

    @property
    def late_ms(self) -> int:
        """How long the log got it after it happened."""
        return self.stamp_ms - self.at_ms


def distinct(log: Sequence[Arrival]) -> list[Arrival]:
    """The log without the second and later arrivals of an id."""
    first: dict[str, Arrival] = {}
    for one in log:
        first.setdefault(one.id, one)
    return list(first.values())


# -------------------------------------------------------------------------------------------- conditions


class History:
    """All that has arrived so far; read as of the newest event time among it."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self.arrivals = arrivals
        self.frontier_ms = max(one.at_ms for one in arrivals)

    def times(self, event: str) -> list[int]:
        """When events of a type happened."""
        return sorted(one.at_ms for one in self.arrivals if one.type == event)

    def count(self, event: str, within_ms: int) -> int:
        """How many happened within a span."""
        return sum(self.frontier_ms - within_ms < at_ms for at_ms in self.times(event))

    def sum(self, event: str, within_ms: int) -> float:
        """The sum of their amounts within a span, by buckets."""
        width = max(1, within_ms // BUCKETS)
        oldest = self.frontier_ms // width - BUCKETS + 1
        return sum(one.amount for one in self.arrivals if one.type == event and one.at_ms // width >= oldest)

    def since_last(self, event: str) -> int | None:
        """How long ago the last one was, None when there is none."""
        times = self.times(event)
        return self.frontier_ms - times[-1] if times else None

    def since_first(self, event: str) -> int | None:
        """How long ago the first one was, None when there is none."""
        times = self.times(event)
        return self.frontier_ms - times[0] if times else None

    def first(self, event: str) -> bool:
        """Whether there is exactly one."""
        return len(self.times(event)) == 1


# --------------------------------------------------------------------------------------------- absences


@dataclass(frozen=True)
class Effect:
    """Something that was done: when, what, and because of which arrival; a withdrawal has that of its firing."""

    at_ms: int
    what: str
    cause: str = ""


def absences_latest(
    log: Sequence[Arrival], after: str, of: str, for_ms: int, lateness_ms: int, until_ms: int
) -> list[Effect]:
    """Firings and withdrawals of "the latest A, and then no B for a span", by looking at every moment.

    The latest A counts as waiting unless a B at or after it is known. It fires once, when its span is over and not
    before it is known. A B within the span of a firing that comes to be known later takes that firing back.
    """
    effects: list[Effect] = []
    fired: dict[int, str] = {}
    taken_back: set[int] = set()
    moments = sorted({one.stamp_ms for one in log} | set(_dues(log, after, for_ms)))
    for moment in [one for one in moments if one <= until_ms]:
        for known, arrived in _prefixes(log, moment):
            starts = [one for one in known if one.type == after and one.late_ms <= lateness_ms]
            ends = [one.at_ms for one in known if one.type == of]
            if not starts:
                continue
            latest = max(starts, key=lambda one: one.at_ms)
            prevented = [at_ms for at_ms in ends if at_ms >= latest.at_ms]
            due_ms = max(latest.at_ms + for_ms, latest.stamp_ms)
            if not prevented and due_ms <= moment and latest.at_ms not in fired:
                fired[latest.at_ms] = latest.id
                effects.append(Effect(due_ms, "fire", latest.id))
            for armed_ms in sorted(fired.keys() - taken_back):
                late = arrived is not None and arrived.type == of and armed_ms <= arrived.at_ms < armed_ms + for_ms
                if late:
                    taken_back.add(armed_ms)
                    effects.append(Effect(moment, "withdraw", fired[armed_ms]))
    return effects


def _dues(log: Sequence[Arrival], after: str, for_ms: int) -> Iterator[int]:
    for one in log:
        if one.type == after:
            yield max(one.at_ms + for_ms, one.stamp_ms)


def _prefixes(log: Sequence[Arrival], moment: int) -> Iterator[tuple[list[Arrival], Arrival | None]]:
    """What is known at a moment: first before its arrivals, when timers are due, and then after each of them."""
    before = [one for one in log if one.stamp_ms < moment]
    yield before, None
    for arrived in (one for one in log if one.stamp_ms == moment):
        before = [*before, arrived]
        yield before, arrived
        yield before, None


def absences_first(log: Sequence[Arrival], after: str, of: str, for_ms: int, until_ms: int) -> list[Effect]:
    """Firings of "the first A, and then no B for a span" of a log that arrived in order, without delay."""
    effects: list[Effect] = []
    index = 0
    while index < len(log):
        start = log[index]
        index += 1
        if start.type != after:
            continue
        due_ms = start.at_ms + for_ms
        end = next((n for n, one in enumerate(log) if one.type == of and start.at_ms <= one.at_ms < due_ms), None)
        if end is not None:
            index = max(index, end + 1)
            continue
        if due_ms <= until_ms:
            effects.append(Effect(due_ms, "fire", start.id))
        index = next((n for n in range(index, len(log)) if log[n].at_ms >= due_ms), len(log))
    return effects


# ----------------------------------------------------------------------------------------------- stages


@dataclass(frozen=True)
class OracleStage:
    """A stage by its place: entered by an event, or by a run that has stood still for ``dwell_ms``."""

    name: str
    event: str = ""
    dwell_ms: int = 0
    final: bool = False


@dataclass
class OracleRun:
    """Where a run stands, and since when."""

    place: int
    started_ms: int
    entered_ms: int
    known_ms: int  # log time at which that came to be known
    ended: bool = False
    since_ms: int = 0  # what happened before belongs to the run before it
    by_clock: bool = False


def stages_walked(
    log: Sequence[Arrival], stages: Sequence[OracleStage], reentry_ms: int | None, until_ms: int
) -> tuple[OracleRun | None, list[Effect]]:
    """The run after all arrivals, and every entry of a stage.

    An event that comes late tells since when an open run has been under way, or has stood where it stands.
    """
    run: OracleRun | None = None
    entries: list[Effect] = []

    def enter(place: int, at_ms: int, now_ms: int, cause: str) -> OracleRun:
        entries.append(Effect(now_ms, stages[place].name, cause))
        begins = run is None or run.ended
        started_ms = at_ms if run is None or run.ended else min(run.started_ms, at_ms)
        since_ms = 0 if run is None else run.entered_ms + (reentry_ms or 0) if begins else run.since_ms
        return OracleRun(place, started_ms, at_ms, now_ms, stages[place].final, since_ms, not cause)

    for arrival in [*log, None]:
        limit_ms = until_ms if arrival is None else arrival.stamp_ms
        while (due := _next_standstill(run, stages)) is not None and due[0] <= limit_ms:
            run = enter(due[1], due[0], due[0], "")
        if arrival is None:
            break
        if run is not None and run.ended and (reentry_ms is None or arrival.at_ms < run.entered_ms + reentry_ms):
            continue
        reached = -1 if run is None or run.ended else run.place
        matching = [place for place, stage in enumerate(stages) if stage.event == arrival.type]
        if not matching or (run is not None and not run.ended and arrival.at_ms < run.since_ms):
            continue
        if matching[-1] > reached:
            run = enter(matching[-1], arrival.at_ms, arrival.stamp_ms, arrival.id)
        elif run is not None and arrival.at_ms < run.entered_ms:
            run.started_ms = min(run.started_ms, arrival.at_ms)
            if matching[-1] == run.place and not run.by_clock:
                run.entered_ms, run.known_ms = arrival.at_ms, arrival.stamp_ms
    return run, entries


def _next_standstill(run: OracleRun | None, stages: Sequence[OracleStage]) -> tuple[int, int] | None:
    if run is None or run.ended:
        return None
    dues = [
        (max(run.entered_ms + stage.dwell_ms, run.known_ms), stage.name, place)
        for place, stage in enumerate(stages)
        if stage.dwell_ms and place > run.place
    ]
    return (min(dues)[0], min(dues)[2]) if dues else None


@dataclass(frozen=True)
class OraclePlay:
    """A rule that waits after each entry of a stage and then sends; an event of type ``exit_when`` ends it."""

    enters: str
    wait_ms: int
    lateness_ms: int
    exit_when: str


def plays(
    log: Sequence[Arrival], stages: Sequence[OracleStage], walk: Sequence[Effect], rule: OraclePlay
) -> list[Effect]:
    """What a play sends and takes back; ``walk`` are the entries of all stages.

    The exit, however late it happened, ends the play and takes back what it sent, and so does the end of the run. What
    is due when an event arrives has happened before it.
    """
    effects: list[Effect] = []
    known = {one.id: (place, one) for place, one in enumerate(log)}
    finals = {one.name for one in stages if one.final}
    for number, entry in enumerate(walk):
        if entry.what != rule.enters or known[entry.cause][1].late_ms > rule.lateness_ms:
            continue
        place, began = known[entry.cause]
        due_ms = began.stamp_ms + rule.wait_ms
        ends = [one.stamp_ms for one in log[place + 1 :] if one.type == rule.exit_when]
        ends += [one.at_ms for one in walk[number + 1 :] if one.what in finals]
        end_ms = min(ends, default=None)
        if end_ms is None or end_ms >= due_ms:
            effects.append(Effect(due_ms, "fire", entry.cause))
            if end_ms is not None:
                effects.append(Effect(end_ms, "withdraw", entry.cause))
    return effects


def sends_in_run(
    log: Sequence[Arrival],
    stages: Sequence[OracleStage],
    reentry_ms: int | None,
    trigger: str,
    lateness_ms: int,
    until_ms: int,
) -> list[Effect]:
    """What a rule sends on every event of a type that finds the run open; the next end of a run takes it back.

    The event may be the one that opens the run, or the one that ends it: that end does not take it back.
    """
    effects: list[Effect] = []
    place_of = {one.id: place for place, one in enumerate(log)}
    _, walk = stages_walked(log, stages, reentry_ms, until_ms)
    finals = {one.name for one in stages if one.final}
    for place, one in enumerate(log):
        if one.type != trigger or one.late_ms > lateness_ms:
            continue
        run, entries = stages_walked(log[: place + 1], stages, reentry_ms, one.stamp_ms)
        closes = any(entry.cause == one.id and entry.what in finals for entry in entries)
        if run is None or (run.ended and not closes):
            continue
        effects.append(Effect(one.stamp_ms, "fire", one.id))
        for entry in walk:
            later = place_of[entry.cause] > place if entry.cause else entry.at_ms > one.stamp_ms
            if entry.what in finals and later:
                effects.append(Effect(entry.at_ms, "withdraw", one.id))
                break
    return effects


# ----------------------------------------------------------------------------------------------- limits


@dataclass(frozen=True)
class OracleRule:
    """A rule that sends on every event of a type, within its limits."""

    id: str
    kind: str
    lateness_ms: int
    cooldown_ms: int = 0
    caps: tuple[tuple[str, int, int], ...] = ()  # (of, max, per_ms)


@dataclass
class Sent:
    """An action that was sent, and whether it failed."""

    rule: OracleRule
    at_ms: int
    cause: str
    failed: bool = False


def sends(log: Sequence[Arrival], trigger: str, rules: Sequence[OracleRule]) -> list[Sent]:
    """What is sent. An arrival of type ``failed:N`` says that the N-th action sent so far never got there."""
    done: list[Sent] = []
    for arrival in log:
        if arrival.type.startswith("failed:"):
            number = int(arrival.type.partition(":")[2])
            if number < len(done):
                done[number].failed = True
        if arrival.type != trigger:
            continue
        for rule in rules:
            counting = [one for one in done if not one.failed]
            rests = any(one.rule is rule and one.at_ms + rule.cooldown_ms > arrival.stamp_ms for one in counting)
            if arrival.late_ms <= rule.lateness_ms and not rests and not _capped(rule, counting, arrival.stamp_ms):
                done.append(Sent(rule, arrival.stamp_ms, arrival.id))
    return done


def _capped(rule: OracleRule, counting: Sequence[Sent], now_ms: int) -> bool:
    for of, most, per_ms in rule.caps:
        if of not in {"rule", rule.kind}:
            continue  # A cap of texts holds texts back and nothing else.
        covered = [one for one in counting if (one.rule is rule if of == "rule" else one.rule.kind == of)]
        if sum(one.at_ms > now_ms - per_ms for one in covered) >= most:
            return True
    return False
