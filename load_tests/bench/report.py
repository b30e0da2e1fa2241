"""The table: on a terminal, and as Markdown between two markers of a document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.bench.figures import Figures
from load_tests.bench.targets import ROWS, Row

_MET = {True: "met", False: "NOT MET", None: ""}


def print_table(figures: Figures, console: Console) -> None:
    """Print what it was measured on, and every row that was measured or promised."""
    for line in about(figures):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table("", "target", "measured", "", title_justify="left", header_style="")
    group = ""
    for row in measured_rows(figures):
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        met = row.met(figures)
        style = "red" if met is False else ""
        table.add_row(f"  {row.name}", row.target, row.measured(figures), _MET[met], style=style)
    console.print(table)
    missed = [row for row in ROWS if row.met(figures) is False]
    console.print(f"{len(missed)} targets not met." if missed else "Every measured target is met.")


def measured_rows(figures: Figures) -> Iterator[Row]:
    """Yield the rows that have a value, and those that have a target but were left out of this run."""
    for row in ROWS:
        if row.value(figures) is not None or row.target:
            yield row


def about(figures: Figures) -> list[str]:
    """Return the machine, the versions and the run in words."""
    told: dict[str, Any] = figures.about
    machine = told["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    found = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}",
        f"Python {machine['python']}, Kafka {told['kafka']}, Redis {told['redis']}, {versions}",
        f"{told['day']}, {told['rounds']} rounds, medians; everything on this one machine, over loopback",
    ]
    if told["load_before"] > 1:
        found.append(
            f"The machine was busy before the run began (load {told['load_before']:.1f}): do not trust figures, "
            "only ratios."
        )
    return found


def markdown(figures: Figures) -> str:
    """Return the table as Markdown."""
    lines = [*(f"{line}  " for line in about(figures)), "", "| | target | measured | |", "|---|---|---|---|"]
    group = ""
    for row in measured_rows(figures):
        if row.group != group:
            group = row.group
            lines.append(f"| **{group}** | | | |")
        lines.append(f"| {row.name} | {row.target} | {row.measured(figures)} | {_MET[row.met(figures)].lower()} |")
    return "\n".join(lines)


def replace_between(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the markers ``<!-- name -->`` and ``<!-- /name -->`` of a document.

    Raises ``ValueError`` naming the document when it does not have them.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = path.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(content):
        raise ValueError(f"{path} has no markers {begin} and {end}")
    path.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", content), encoding="utf-8")
