"""The report: one row per fault, as Markdown for people and JSON for machines, written from one and the same rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins

from load_tests.faults.run import Row

_HEAD = """\
# What the engine survives

Real processes — gateway, workers, dispatcher, receiver, Kafka and Redis — under a load of {rate} events a second, and a
nemesis that does to them what this table says. After each fault everything comes to rest, and an oracle that shares
no code with the engine works out slowly, from the log of acknowledged events, what had to happen: every effect that
arrived and every customer's stored state is compared with it.

{date} · {machine} · {versions} · commit {commit} · seed {seed}
· {minutes:.0f} minutes

Made by `{command}`; the same command makes it again.

**{summary}**

| # | fault | what was done | invariant | events (duplicates) | effects due | lost | extra | repeats under one id | \
recovery, median / worst | held |
|--:|---|---|---|--:|--:|--:|--:|--:|--:|---|
"""

_FOOT = """
*Lost* are effects that were due and did not arrive, acknowledged events that the log does not hold, actions of which
no last word came back, and states that are not the oracle's. *Extra* are effects that nobody decided, effects that
came about twice, events in the log that are not as they were sent, and last words that contradict each other or what
arrived. A *repeat* is a delivery under an id that the receiver had seen: it answers and does nothing, as
`Idempotency-Key` asks. Repeats, actions published again, given up or dropped may be as many as were under way when
the fault struck, and none where it struck nothing that they come from. Every role's whole log is read: an error, or
an end by itself, that the fault does not explain means that the row does not hold. The load asks for no permission
to go on: what is due is sent while up to 200 requests wait for their answers. *Recovery* is the time
from the strike until every partition (or the dispatcher) had gone beyond what the log held then; it includes the
{session_timeout_s:g} s of silence after which Kafka takes a worker for dead, and the starting of processes.
"""


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Return the report as Markdown; ``about`` has date, machine, versions, commit, seed, command, rate, minutes."""
    versions = ", ".join(f"{name} {one}" for name, one in about["versions"].items())
    text = _HEAD.format(**{**about, "versions": versions}, summary=_summary(rows))
    text += "".join(_row(one) for one in rows)
    text += _FOOT.format(**about)
    notes = [(row, note) for row in rows for note in [*_answers(row), *row.account.notes, *_exits(row)]]
    if notes:
        text += "\n## Notes\n\n" + "".join(f"- {row.fault.number}, {row.fault.name}: {note}\n" for row, note in notes)
    broken = [row for row in rows if not row.holds]
    if broken:
        text += "\n## What did not hold\n\n"
        text += "".join(f"- {row.fault.number}, {row.fault.name}: {row.trouble()}\n" for row in broken)
    return text


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report for machines."""
    return {**about, "rows": [_json_row(row) for row in rows]}


def _summary(rows: Sequence[Row]) -> str:
    carried = [row for row in rows if row.fault.act is not None]
    held = sum(row.holds for row in carried)
    verdicts = [row.verdict for row in carried if row.verdict is not None]
    lost, extra = sum(_lost(row) for row in carried), sum(_extra(row) for row in carried)
    return (
        f"{held} of {len(carried)} faults survived: {lost} lost and {extra} extra among "
        f"{sum(one.due for one in verdicts):,} effects of {sum(one.events for one in verdicts):,} events"
    )


def _row(row: Row) -> str:
    fault, account, verdict = row.fault, row.account, row.verdict
    if fault.act is None:
        return f"| {fault.number} | {fault.title} | {fault.elsewhere} | {fault.invariant} | | | | | | | |\n"
    done = "; ".join(f"{number} x {what}" for what, number in account.done.items())
    times = account.recoveries_s
    recovery = f"{statistics.median(times):.1f} / {max(times):.1f} s" if times else ""
    numbers = "| | | | | "
    if verdict is not None:
        events = f"{verdict.events:,} ({verdict.duplicates:,})"
        numbers = f"| {events} | {verdict.due:,} | {_lost(row)} | {_extra(row)} | {verdict.repeats} "
    held = "yes" if row.holds else "**no**"
    return f"| {fault.number} | {fault.title} | {done} | {fault.invariant} {numbers}| {recovery} | {held} |\n"


def _lost(row: Row) -> int:
    found = row.verdict
    return 0 if found is None else sum(map(len, (found.lost, found.unlogged, found.silent, found.wrong_states)))


def _extra(row: Row) -> int:
    found = row.verdict
    return 0 if found is None else sum(map(len, (found.extra, found.twice, found.altered, found.untrue)))


def _answers(row: Row) -> list[str]:
    answers = row.account.answers
    if not answers:
        return []
    told = ", ".join(f"{number:,} x {status}" for status, number in sorted(answers.items()))
    return [f"while it lasted ingest answered {told}"]


def _exits(row: Row) -> list[str]:
    if not row.exits:
        return []
    words = sorted({f"{role}: {said[-200:]}" for role, said in row.exits})
    return [f"{len(row.exits)} processes ended by themselves and were started again (" + " · ".join(words) + ")"]


def _json_row(row: Row) -> dict[str, Any]:
    return {
        "number": row.fault.number,
        "name": row.fault.name,
        "done": dict(row.account.done),
        "recoveries_s": [round(one, 3) for one in row.account.recoveries_s],
        "notes": row.account.notes,
        "answers": dict(row.account.answers),
        "bounds": to_builtins(row.account.bounds),
        "exits": row.exits,
        "seconds": round(row.seconds, 1),
        "verdict": None if row.verdict is None else to_builtins(row.verdict),
        "elsewhere": row.fault.elsewhere,
        "holds": row.holds,
        "trouble": row.trouble(),
    }
