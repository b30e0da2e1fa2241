"""Problems: what is wrong with a rulebook, as values. All of them are reported at once, none is raised.

A problem is rendered so that a person can go straight to the line::

    rules/winback.yaml:10  journey "winback" > rule "pause"
        unknown key "fro". Allowed: for, id, kind, next. Did you mean "for"?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum

from orchestrator.rulebook.source import Map, Seq

#: Of a rulebook with more problems than this so many are reported, errors first, and how many more there are.
PROBLEMS_MAX = 500
#: So many names one loading compares with misspelt ones, each in some 20 µs; then it says no more what was meant.
COMPARED_MAX = 10_000
#: Longer words are no slip of a finger.
_WORD_CHARS_MAX = 100

_ARROW = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "

#: Names of things, by the key of the list or mapping that holds them.
_NOUNS = {
    "rules": "rule",
    "stages": "stage",
    "segments": "segment",
    "templates": "template",
    "connectors": "connector",
    "limits": "limits",
    "events": "event",
    "traits": "trait",
    "consents": "consent",
    "cases": "case",
    "personas": "persona",
}


class Severity(Enum):
    """An error keeps a rulebook from being published; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault. ``line`` counts from 1; ``trail`` names the things that enclose the fault, outermost first."""

    file: str
    line: int
    trail: tuple[str, ...]
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        head = f"{place}  {_ARROW.join(self.trail)}" if self.trail else place
        prefix = "warning: " if self.severity is Severity.WARNING else ""
        return f"{head}\n    {prefix}{self.message}"


def rendered(problems: Iterable[Problem]) -> str:
    """Return all problems as people read them, one after another."""
    return "\n".join(str(problem) for problem in problems)


_compared_left: ContextVar[int | None] = ContextVar("compared_left", default=None)


@contextmanager
def bounded_comparing() -> Iterator[None]:
    """Let ``did_you_mean`` and ``unknown`` look at no more than ``COMPARED_MAX`` names in here, and then fall silent.

    A rulebook of thousands of names with thousands of slips would be read for minutes otherwise.
    """
    token = _compared_left.set(COMPARED_MAX)
    try:
        yield
    finally:
        _compared_left.reset(token)


def _may_compare() -> bool:
    left = _compared_left.get()
    return left is None or left > 0


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean "…"?`` (with its leading space), or nothing when no known word is close."""
    if len(word) > _WORD_CHARS_MAX or not _may_compare():
        return ""
    names = list(known)
    left = _compared_left.get()
    if left is not None:
        _compared_left.set(left - len(names))
    spelt = letters(word)
    close = [name for name in names if spelt and letters(name) == spelt][:1]
    close = close or get_close_matches(word, names, n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""


def letters(word: str) -> str:
    """Return a word without case and marks: ``firstName`` and ``first_name`` are spelt alike."""
    return "".join(one for one in word.casefold() if one.isalnum())


def listed(words: Iterable[str], *, most: int = 12) -> str:
    """Return the words in order, with commas; of many only the first ``most`` and how many more there are."""
    ordered = sorted(words)
    if len(ordered) <= most:
        return ", ".join(ordered)
    return f"{', '.join(ordered[:most])} and {len(ordered) - most} more"


def unknown(noun: str, word: str, known: Iterable[str]) -> str:
    """Return the message for a name that nothing bears: what is allowed, and which one may have been meant."""
    if not _may_compare():
        return f'unknown {noun} "{word}".'
    names = list(known)
    allowed = f" Known: {listed(names)}." if names else " None is declared."
    return f'unknown {noun} "{word}".{allowed}{did_you_mean(word, names)}'


def trail_of(at: Map | Seq) -> tuple[str, ...]:
    """Return the names of what encloses a place, outermost first: ``journey "winback"``, ``rule "pause"``."""
    names: list[str] = []
    here: Map | Seq | None = at
    while here is not None:
        above = here.parent
        if above is None:
            if isinstance(here, Map) and isinstance(here.get("journey"), str):
                names.append(f'journey "{here["journey"]}"')
        elif above.name in _NOUNS and (noun := _noun(here, above)):
            names.append(noun)
        here = above
    return tuple(reversed(names))


def _noun(here: Map | Seq, above: Map | Seq) -> str:
    noun = _NOUNS[str(above.name)]
    if isinstance(above, Map):
        # Only the mappings at the top of a file name things; a rule's own ``limits`` does not.
        return f'{noun} "{here.name}"' if above.parent is not None and above.parent.parent is None else ""
    if not isinstance(here, Map):
        return ""
    own = here.get("case") if noun == "case" else here.get("id")
    return f'{noun} "{own}"' if isinstance(own, str) else f"{noun} {int(here.name) + 1}"


class Report:
    """Collects the problems of one rulebook."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._failed = False

    def add(self, problem: Problem) -> None:
        """Take a problem that knows its place."""
        self.problems.append(problem)
        self._failed = self._failed or problem.severity is Severity.ERROR

    def error(self, at: Map | Seq, key: str | int | None, message: str, *, offset: int | None = None) -> None:
        """Note an error at a key of a mapping, an item of a list, or (with None) the thing itself.

        ``offset`` is that of a character in a text, which may stand on several lines.
        """
        self.add(Problem(at.file, at.line_of(key, offset), trail_of(at), message))

    def warning(self, at: Map | Seq, key: str | int | None, message: str, *, offset: int | None = None) -> None:
        """Note something that works but is hardly meant."""
        self.add(Problem(at.file, at.line_of(key, offset), trail_of(at), message, Severity.WARNING))

    @property
    def failed(self) -> bool:
        """Whether any problem is an error."""
        return self._failed

    def sorted(self) -> tuple[Problem, ...]:
        """Return the problems by file and line, without repeats.

        Of more than ``PROBLEMS_MAX`` warnings are left out before errors, and a last problem says how many there are.
        """
        unique = dict.fromkeys(self.problems)
        order = sorted(unique, key=lambda one: (one.severity is Severity.WARNING, one.file, one.line))
        kept, left_out = order[:PROBLEMS_MAX], order[PROBLEMS_MAX:]
        kept.sort(key=lambda one: (one.file, one.line, one.severity is Severity.WARNING))
        return (*kept, *_more(left_out))


def _more(left_out: list[Problem]) -> Iterator[Problem]:
    """Yield the problem that stands for those that are not shown, if there are any: as grave as the first of them."""
    if not left_out:
        return
    first = left_out[0]
    errors = sum(1 for one in left_out if one.severity is Severity.ERROR)
    counted = ((errors, "error"), (len(left_out) - errors, "warning"))
    words = [f"{number} more {noun}{'' if number == 1 else 's'}" for number, noun in counted if number]
    yield Problem(first.file, first.line, (), f"… and {' and '.join(words)}: mend these first", first.severity)
