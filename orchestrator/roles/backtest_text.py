"""Backtests for people: what a replay came to, and whose outcome a draft changes, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from orchestrator.core.moment import format_moment
from orchestrator.roles.backtest import Backtest, OutcomeChange, SentAction

#: Customers that a comparison shows; ``--json`` has them all.
CHANGES_SHOWN = 20


def backtest_tables(done: Backtest) -> list[Table]:
    """Return actions by rule and connector, volume by connector and hour, decisions by reason."""
    replayed = done.replayed
    title = f"{replayed.events} events of {len(replayed.states)} customers, {replayed.duplicates} duplicates"
    sent = _table(title, ("rule", "connector", "actions"), [(*key, n) for key, n in sorted(done.actions_by().items())])
    volume = _table(
        "volume by hour", ("connector", "hour", "actions"), [(*key, n) for key, n in sorted(done.volume().items())]
    )
    decided = _table(
        "decisions",
        ("rule", "outcome", "reason", "number"),
        [(*key, n) for key, n in sorted(done.decisions_by().items())],
    )
    return [sent, volume, decided]


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
