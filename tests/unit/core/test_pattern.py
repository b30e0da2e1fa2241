"""Patterns: searched in time proportional to the text, whatever the pattern; what has no such search is refused."""

from __future__ import annotations

import pytest

from orchestrator.core.pattern import PATTERN_CHARS_MAX, TEXT_CHARS_MAX, Pattern, PatternFault, pattern_of

#: Each of these held a backtracking search up for seconds to minutes with the text beside it.
EXPLOSIVE = {
    "(a|a)*b$": "a",
    "(a|aa)+$": "a",
    "((a+))+$": "a",
    "(a+)+$": "a",
    "(.*a){12}$": "a",
    "a*a*a*a*a*b": "a",
    r"(\w|\d)+!$": "1",
    "(x+x+)+y": "x",
}


@pytest.mark.parametrize("pattern", EXPLOSIVE)
def test_a_pattern_that_explodes_elsewhere_is_only_searched(pattern: str) -> None:
    """There is no clock here: with a backtracking search this test would not end."""
    text = EXPLOSIVE[pattern] * (TEXT_CHARS_MAX - 1) + "!"
    assert pattern_of(pattern).found_in(text) in {True, False}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a valid pattern: missing ): ("),
        (r"(a)\1", r"not a valid pattern: invalid escape sequence: \1"),
        ("(?=a)", "not a valid pattern: invalid perl operator: (?="),
        ("a{2,1001}", "not a valid pattern: invalid repetition size: {2,1001}"),
        (r"((\pL{20}){50})+!", "not a valid pattern: pattern too large - compile failed"),
        ("(.{1,500}a){1,2}$", "the pattern is too large: its repetitions multiply; write it with fewer"),
        ("a" * (PATTERN_CHARS_MAX + 1), "the pattern is longer than 200 characters"),
        ("\ud800", "not a valid pattern: it has half a character in it"),
    ],
)
def test_what_is_no_pattern_or_too_large_a_one_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(PatternFault) as refused:
        Pattern(pattern)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^\+[1-9][0-9]{6,14}$", "+919812345678", True),
        (r"^\+[1-9][0-9]{6,14}$", "919812345678", False),
        ("(?i)refund|money back", "I want my MONEY BACK", True),
        ("ü.$", "grün", True),
        ("^.$", "\N{GRINNING FACE}", True),
        ("", "", True),
        ("a", "a" * (TEXT_CHARS_MAX + 1), None),
        ("a", "a\udc00", None),
    ],
)
def test_a_text_has_the_pattern_or_has_not_or_it_is_unknown(pattern: str, text: str, found: bool | None) -> None:
    assert pattern_of(pattern).found_in(text) is found
