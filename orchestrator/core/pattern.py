"""Patterns: what ``matches`` searches for, in time proportional to the text whatever the pattern is.

The syntax is RE2's (https://github.com/google/re2/wiki/Syntax): no back-references and no look-around, which is what
lets it promise that. A backtracking search would let one pattern and one event hold a worker up for minutes.
"""

from __future__ import annotations

from functools import lru_cache

import re2

#: Text longer than this is not searched: the answer is unknown.
TEXT_CHARS_MAX = 2_000
#: A pattern, as written and as compiled; a text of the greatest length takes a tenth of a second at most.
PATTERN_CHARS_MAX = 200
_PROGRAM_MAX = 1_000
_MEMORY_BYTES_MAX = 1 << 20


class PatternFault(Exception):
    """A text is no pattern; the message says why."""


class Pattern:
    """A compiled pattern. ``text`` is how it was written."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        if len(text) > PATTERN_CHARS_MAX:
            raise PatternFault(f"the pattern is longer than {PATTERN_CHARS_MAX} characters")
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = _MEMORY_BYTES_MAX
        self.text = text
        try:
            self._compiled = re2.compile(text.encode(), options)
        except UnicodeEncodeError:
            raise PatternFault("not a valid pattern: it has half a character in it") from None
        except re2.error as fault:
            raise PatternFault(f"not a valid pattern: {_told(fault)}") from None
        if self._compiled.programsize > _PROGRAM_MAX:
            raise PatternFault("the pattern is too large: its repetitions multiply; write it with fewer")

    def found_in(self, text: str) -> bool | None:
        """Return whether a text has the pattern in it; None, unknown, for one that is too long or not Unicode."""
        if len(text) > TEXT_CHARS_MAX:
            return None
        try:
            return self._compiled.search(text.encode()) is not None
        except UnicodeEncodeError:
            return None


@lru_cache(maxsize=1024)
def pattern_of(text: str) -> Pattern:
    """Return the pattern that a text is. Raises ``PatternFault``."""
    return Pattern(text)


def _told(fault: Exception) -> str:
    words = fault.args[0] if fault.args else ""
    return words.decode(errors="replace") if isinstance(words, bytes) else str(words)
