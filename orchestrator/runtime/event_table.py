"""Event tables: CSV as people and spreadsheets write it, a row an event.

The columns ``id, type, customer_id, occurred_at, source, received_at`` are the envelope, however their names are
capitalised or spaced; all others are properties. Columns are separated by a comma, a semicolon, a tab or a bar,
whichever makes an envelope of the first line. What a cell is, the tracking plan says: what it declares as text stays
the text that is written. Of properties that it does not declare, and without a plan, a cell that is a plain number,
true, false, a list or an object in JSON is read as such; leading zeros, exponents and more than fifteen digits make
text of a number. An empty cell is left out. A row with more cells than there are columns is refused.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from orchestrator.core.moment import number_or_text
from orchestrator.errors import ConfigurationError, EventRefused
from orchestrator.rulebook.tracking_plan import TrackingPlan
from orchestrator.runtime.intake import RefusalCode

ENVELOPE = ("id", "type", "customer_id", "occurred_at", "source", "received_at")
_NEEDED = ("type", "customer_id", "occurred_at")
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}

_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?")
_DIGITS_MAX = 15
_BOOLEANS = {"true": True, "false": False}


class Row(NamedTuple):
    """A row: its last line, the event that it says or why it says none, and its cells by column."""

    number: int
    event: dict[str, Any] | EventRefused
    cells: dict[str, Any]


class Columns:
    """What each column of a table is called in events; ``notes`` say what is not as it is written."""

    def __init__(self, header: Sequence[str], plan: TrackingPlan | None) -> None:
        self.plan = plan
        self.names = [_named(one.strip(), _declared_names(plan)) for one in header]
        self.notes = _renamings(header, self.names)
        missing = [one for one in _NEEDED if one not in self.names]
        twice = sorted({one for one in self.names if one and self.names.count(one) > 1})
        if missing:
            raise ConfigurationError(f"There is no column {missing[0]}; the columns are: {', '.join(header)}.")
        if twice:
            raise ConfigurationError(f"There are two columns {twice[0]}: rename or remove one of them.")

    def row(self, number: int, cells: Sequence[str]) -> Row:
        """Return what a row says."""
        named = {name: text for name, text in zip(self.names, cells, strict=False) if text and name}
        nameless = (text for name, text in zip(self.names, cells, strict=False) if not name)
        surplus = [text for text in (*nameless, *cells[len(self.names) :]) if text]
        if surplus:
            return Row(number, _ragged(surplus, len(self.names)), {**named, "": surplus})
        event: dict[str, Any] = {name: _moment_or_text(name, named[name]) for name in ENVELOPE if name in named}
        kinds = _kinds(self.plan, named.get("type", ""))
        event["properties"] = {
            name: cell(kinds.get(name, ""), text) for name, text in named.items() if name not in ENVELOPE
        }
        return Row(number, event, named)


def rows_of(lines: Iterable[str], first_line: str, plan: TrackingPlan | None, notes: list[str]) -> Iterator[Row]:
    """Yield the rows below the header; ``notes`` takes what was found out. Raises ``csv.Error`` at broken quotation."""
    separator = _separator(first_line)
    reader = csv.reader(lines, delimiter=separator)
    header = next(reader, [])
    columns = Columns(header, plan)
    if separator != ",":
        notes.append(f"the columns are separated by {_SEPARATORS[separator]}")
    notes += columns.notes
    if plan is None:
        notes.append(
            "no tracking plan is at hand, so that plain numbers, true, false, lists and objects are read as such "
            "and all else is text; name the rules with --rules"
        )
    for cells in reader:
        if cells:
            yield columns.row(reader.line_num, cells)


def _separator(first_line: str) -> str:
    def known(separator: str) -> int:
        header = next(csv.reader([first_line], delimiter=separator), [])
        return sum(_folded(one) in _FOLDED for one in header)

    return max(_SEPARATORS, key=known)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


_FOLDED = {_folded(name): name for name in ENVELOPE}


def _declared_names(plan: TrackingPlan | None) -> frozenset[str]:
    if plan is None:
        return frozenset()
    return frozenset(plan.traits).union(*(one.properties for one in plan.described.values()))


def _named(written: str, declared: frozenset[str]) -> str:
    """Return what a column is called in events; a name that several declared ones could be stays as it is."""
    folded = _folded(written)
    if folded in _FOLDED:
        return _FOLDED[folded]
    if written in declared:
        return written
    close = [one for one in declared if _folded(one) == folded]
    return close[0] if len(close) == 1 else written


def _renamings(header: Sequence[str], names: Sequence[str]) -> list[str]:
    renamed = [f"{written} is {name}" for written, name in zip(header, names, strict=True) if written != name]
    return [f"of the columns, {', '.join(renamed)}"] if renamed else []


def _ragged(surplus: Sequence[str], columns: int) -> EventRefused:
    shown = ", ".join(surplus)[:60]
    return EventRefused(
        RefusalCode.RAGGED,
        "",
        f"The row has more cells than the {columns} columns: {shown}.",
        "Put what has a separator in it into quotation marks, or name its column.",
    )


def _kinds(plan: TrackingPlan | None, event_type: str) -> Mapping[str, str]:
    """Return the declared types of an event's properties by name."""
    if plan is None:
        return {}
    described = plan.described.get(event_type)
    traits = plan.traits if event_type == "identify" else {}
    return {name: one.type for name, one in {**traits, **(described.properties if described else {})}.items()}


def _moment_or_text(name: str, text: str) -> int | str:
    return number_or_text(text) if name.endswith("_at") else text


def cell(kind: str, text: str) -> Any:
    """Return the value of a cell, which the plan declares to be of ``kind`` ("" when it declares nothing).

    A text that is none of its kind stays as it is: the plan refuses it, and says why.
    """
    match kind:
        case "string":
            return text
        case "number" | "integer":
            return _number(text.strip())
        case "boolean":
            return _BOOLEANS.get(text.strip().lower(), text)
        case "object" | "array":
            return _json(text)
        case _:
            return _guessed(text)


def _number(text: str) -> Any:
    if not _NUMBER.fullmatch(text):
        return text
    number = float(text) if re.search(r"[.eE]", text) else int(text)
    return number if math.isfinite(number) else text


def _guessed(text: str) -> Any:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _PLAIN_NUMBER.fullmatch(text) and sum(one.isdigit() for one in text) <= _DIGITS_MAX:
        return msgspec.json.decode(text)
    return _json(text) if text[0] in "[{" else text


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        return msgspec.Raw(text.encode())  # The intake refuses what nests so deeply, under the number of its line.
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return text
