"""Backtests for people: what a replay came to, and whose outcome a draft changes, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from orchestrator.core.moment import format_moment
from orchestrator.roles.backtest import Armed, Backtest, OutcomeChange, SentAction
from orchestrator.roles.volume import MEASURES, by_source, sent_by_hour

#: Customers that a comparison shows; ``--json`` has them all.
CHANGES_SHOWN = 20


def backtest_tables(done: Backtest) -> list[Table]:
    """Return what became of the actions of each rule, what was sent in each hour, and decisions by reason."""
    replayed, volume = done.replayed, done.volume()
    title = f"{replayed.events} events of {len(replayed.states)} customers, {replayed.duplicates} duplicates"
    fates = _table(
        title,
        ("rule", "arm", "connector", *(name.replace("_", " ") for name in MEASURES)),
        [(*source, *(counts[name] for name in MEASURES)) for source, counts in by_source(volume).items()],
    )
    hours = _table(
        "sent by hour", ("connector", "hour", "sent"), [(*key, n) for key, n in sorted(sent_by_hour(volume).items())]
    )
    decided = _table(
        "decisions",
        ("rule", "outcome", "reason", "number"),
        [(*key, n) for key, n in sorted(done.decisions_by().items())],
    )
    return [fates, hours, decided]


def armed_line(armed: Armed) -> str:
    """Return what is left undone at the end of a replay, and how to see it; '' when nothing is."""
    if armed.last_due_ms is None:
        return ""
    timers = "1 timer is" if armed.number == 1 else f"{armed.number} timers are"
    return (
        f"{timers} still armed, the last until {format_moment(armed.last_due_ms)}. "
        "--until MOMENT, or --until 7d for a span after the last event, fires those that are due by then."
    )


def comparison_table(changes: Sequence[OutcomeChange]) -> Table:
    """Return whose outcome changes and how, the first ones in full."""
    title = f"{len(changes)} customers would have received something else"
    if len(changes) > CHANGES_SHOWN:
        title += f"; the first {CHANGES_SHOWN}"
    rows = [(one.customer_id, _actions(one.before), _actions(one.after)) for one in changes[:CHANGES_SHOWN]]
    return _table(title, ("customer", "before", "after"), rows)


def _actions(sent: Sequence[SentAction]) -> str:
    return "\n".join(f"{format_moment(one.decided_at)} {one.rule}: {one.connector}" for one in sent) or "nothing"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(title=title, min_width=len(title), title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row))
    return table
