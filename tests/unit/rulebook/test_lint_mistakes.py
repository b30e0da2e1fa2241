"""Mistakes that marketing ops make: each is one edit of a good rulebook, and what lint says of it, word for word.

``mistakes/table.txt`` has a row for each: the file, what is replaced and by what (``⏎`` ends a line), and below it
every problem with its place. ``mistakes/valid.txt`` has edits that are right, of which lint says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.rulebook import liquid_dialect
from orchestrator.rulebook.load import folder_files, load_rulebook_files
from orchestrator.rulebook.problem import Problem, Severity

FOLDER = Path(__file__).parent / "mistakes"
BASE = folder_files(FOLDER)
REPOSITORY = Path(__file__).resolve().parents[3]

#: What is long and the same in many messages, by what stands for it in the tables.
SHORT = {
    "<filters>": ", ".join(sorted(liquid_dialect.TEXT.filters)),
    "<tags>": "assign, capture, case, comment, doc, else, elsif, for, if, ifchanged, raw, tablerow, unless, when",
    "<operators>": "eq, ne, lt, lte, gt, gte, in, not_in, contains, starts_with, matches, exists, missing, between",
    "<conditions>": "all, any, not, field, count, sum, since_last, since_first, first, in_segment, in_stage, score",
    "<triggers>": "event, enter, leave, dwell, absence, sequence, schedule, friction",
    "<traits>": "balance, city, email, first_name, interests, joined_on, last_class, last_name, member, phone,"
    " push_token, scores and 2 more",
    "<properties>": "booking_id, class_name, classes, fee, first_time, level, seats, starts_at",
    "<keys of a rule>": "acts, arbitrate, do, exit_when, id, lateness, limits, on, restart, title, when",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit of the base, with the problems that must come of it."""

    group: str
    file: str
    old: str
    new: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.old} → {self.new}".replace("\n", "⏎")

    def files(self) -> dict[str, bytes]:
        text = BASE[self.file].decode()
        assert self.old in text, f"the base has changed: {self}"
        return {**BASE, self.file: text.replace(self.old, self.new, 1).encode()}

    def lines(self) -> range:
        """The lines of the edited file that the edit has touched."""
        text = BASE[self.file].decode()
        start = text.index(self.old)
        first = text.count("\n", 0, start) + 1
        return range(first, first + self.new.count("\n") + 1)


def table(name: str) -> list[Edit]:
    rows: list[Edit] = []
    group = ""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            group = line.removeprefix("== ")
        elif line.startswith("    "):
            last = rows.pop()
            rows.append(Edit(last.group, last.file, last.old, last.new, (*last.problems, written_out(line.strip()))))
        else:
            file, _, edit = line.partition(": ")
            old, _, new = edit.partition(" → ")
            rows.append(Edit(group, file, old.replace("⏎", "\n"), new.replace("⏎", "\n"), ()))
    return rows


def written_out(text: str) -> str:
    for short, long in SHORT.items():
        text = text.replace(short, long)
    return text


def shown(problem: Problem) -> str:
    warning = "warning: " if problem.severity is Severity.WARNING else ""
    return f"{problem.file}:{problem.line} {warning}{problem.message}"


MISTAKES = table("table.txt")
VALID = table("valid.txt")


def test_there_are_many_mistakes_of_every_kind() -> None:
    assert len(MISTAKES) >= 300
    assert len(VALID) >= 100
    sizes = {group: sum(one.group == group for one in MISTAKES) for group in {one.group for one in MISTAKES}}
    assert min(sizes.values()) >= 3, sizes
    assert len({str(one) for one in (*MISTAKES, *VALID)}) == len(MISTAKES) + len(VALID)


def test_the_base_has_no_problem() -> None:
    assert load_rulebook_files(BASE).problems == ()


@pytest.mark.parametrize("edit", MISTAKES, ids=str)
def test_a_mistake_is_told_in_its_line_with_what_to_write(edit: Edit) -> None:
    problems = load_rulebook_files(edit.files()).problems
    assert [shown(one) for one in problems] == list(edit.problems)
    # Of two lines that exclude each other the later is told, and names the other. What is taken away has no line.
    touched = edit.lines()
    told = [one for one in problems if one.line in touched or any(f"(line {line})" in one.message for line in touched)]
    assert told or not edit.new.strip() or edit.old.endswith(edit.new)


@pytest.mark.parametrize("edit", VALID, ids=str)
def test_lint_says_nothing_of_what_is_right(edit: Edit) -> None:
    assert load_rulebook_files(edit.files()).problems == ()


def test_lint_says_nothing_of_the_packs() -> None:
    assert load_rulebook_files(folder_files(REPOSITORY / "rules")).problems == ()
