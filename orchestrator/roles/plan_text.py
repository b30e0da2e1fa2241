"""The plan of a publication for the terminal, from the gateway's answer and a comparison of backtests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.core.moment import format_moment
from orchestrator.roles.backtest import OutcomeChange, SentAction
from orchestrator.rulebook.span import shown_span

#: Customers whose change is shown one by one; ``--json`` has all.
CUSTOMERS_SHOWN_MAX = 20


def change_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Return what an edit changes, a line a thing."""
    yield f"version {plan['version']} against {plan['against']}, which is in force"
    for change in plan["changes"]:
        yield f"  {change['text']}"
    if not plan["changes"]:
        yield "  nothing changes"


def impact_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Return what is under way and what becomes of it, a line a journey."""
    yield f"under way among {plan['customers']} customers"
    for one in plan["impacts"]:
        runs = _counted(one, "runs", "open run", runs_moved="move to another stage", runs_stranded="in a stage gone")
        plays = _counted(
            one, "plays", "play", plays_pinned="keep their version", plays_following="follow", plays_ending="end"
        )
        timers = _counted(one, "timers", "timer", timers_idle="will do nothing")
        yield f"  {one['journey']} ({one['on_edit']}): {runs}; {plays}; {timers}"
    if not plan["impacts"]:
        yield "  nothing"


def warm_up_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Return which rules stay silent for today's customers because of what they count, and until when."""
    if not plan["warm_ups"] or not plan["customers"]:
        return
    yield (
        f"counting begins with the publication, and is unknown of the {plan['customers']} customers of today: a rule "
        "is silent for them as long as it hangs on it"
    )
    for one in plan["warm_ups"]:
        span_ms = one["known_after_ms"]
        known = "never known of them" if span_ms is None else f"known after {shown_span(span_ms)}"
        yield f"  {one['rule']}: {one['condition']}, {known}"


def _counted(impact: dict[str, Any], total: str, noun: str, **parts: str) -> str:
    number = impact[total]
    said = ", ".join(f"{impact[name]} {words}" for name, words in parts.items() if impact[name])
    return f"{number} {noun}{'' if number == 1 else 's'}{f' ({said})' if said else ''}"


def outcome_lines(changes: Sequence[OutcomeChange]) -> Iterator[str]:
    """Return whose outcome would have been another, and how."""
    yield f"the events replayed: {len(changes)} customers would have received something else"
    for change in changes[:CUSTOMERS_SHOWN_MAX]:
        yield f"  {change.customer_id}"
        yield from (f"    - {_sent(one)}" for one in change.before if one not in change.after)
        yield from (f"    + {_sent(one)}" for one in change.after if one not in change.before)
    if len(changes) > CUSTOMERS_SHOWN_MAX:
        yield f"  and {len(changes) - CUSTOMERS_SHOWN_MAX} more; --json lists all"


def _sent(one: SentAction) -> str:
    variant = f" variant {one.variant}" if one.variant else ""
    return f"{format_moment(one.decided_at)} {one.connector} by {one.rule}{variant} {one.params}"
