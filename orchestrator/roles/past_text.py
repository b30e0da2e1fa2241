"""A customer's past for the terminal: the timeline and explanations, from the gateway's answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

Answer = dict[str, Any]

_MARKS = {"true": ("✓", "green"), "false": ("✗", "red"), "unknown": ("?", "yellow")}
#: Standings of rules that acted, or may yet.
_GOOD = frozenset({"fired", "waiting", "deferred", "armed", "conditions_hold"})
#: Explanations that are shown in full; of more, only the sentences.
FULL_MAX = 3


def timeline_table(answer: Answer) -> Table:
    """Return a timeline as a table, newest first."""
    title = (
        f"{answer['customer_id']}{'' if answer['whole'] else ' (recent; earlier history is summed up in the state)'}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("at", no_wrap=True)
    table.add_column("what", overflow="fold")
    for entry in answer["entries"]:
        style = "" if entry["event"] is not None else "cyan"
        table.add_row(_moment(entry["at"]), Text(entry["text"], style=style))
    return table


def explained_lines(answer: Answer) -> Iterator[Text]:
    """Return explanations as lines: a few in full, many by their sentence."""
    found = answer["explanations"]
    for one in found:
        yield Text(one["sentence"], style="green" if one["standing"] in _GOOD else "red")
        if len(found) <= FULL_MAX:
            yield from _details(one)
    for note in answer["notes"]:
        yield Text(note, style="yellow")


def _details(one: Answer) -> Iterator[Text]:
    yield Text(f"  trigger     {one['trigger']['text']}: {one['trigger']['state']}")
    if one["conditions"] is not None:
        yield Text("  conditions")
        yield from _conditions(one["conditions"], 4)
    if one["limits"]:
        yield Text("  limits")
    for limit in one["limits"]:
        mark, style = _MARKS["false" if limit["blocks"] else "true"]
        yield Text.assemble("    ", (mark, style), f" {limit['text']}")
    if one["arbitration"] is not None:
        yield from _arbitration(one["arbitration"])
    if one["ledger"]:
        yield Text("  ledger")
    for line in one["ledger"]:
        yield Text(f"    {_moment(line['at'])}  {line['outcome']}: {line['text']}  {line['action_id']}".rstrip())
    yield Text(f"  version     {one['rulebook_version']}")
    for note in one["notes"]:
        yield Text(f"  {note}", style="yellow")


def _conditions(node: Answer, indent: int) -> Iterator[Text]:
    mark, style = _MARKS[node["truth"]]
    because = node["because"] or node["reading"]
    yield Text.assemble(" " * indent, (mark, style), f" {node['text']}{f'   ({because})' if because else ''}")
    for part in node["parts"]:
        yield from _conditions(part, indent + 2)


def _arbitration(settled: Answer) -> Iterator[Text]:
    yield Text(f"  slot {settled['slot']}: scored {settled['score']:g}{_factors(settled['factors'])}")
    for rival in settled["rivals"]:
        score = "" if rival["score"] is None else f" {rival['score']:g}"
        yield Text(f"    {'won by' if rival['won'] else 'against'} {rival['rule']}{score}{_factors(rival['factors'])}")


def _factors(factors: Answer) -> str:
    return f" = {' x '.join(f'{name} {value:g}' for name, value in factors.items())}" if factors else ""


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
